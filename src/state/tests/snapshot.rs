//! Reads a snapshot after every kind of damage.

use proptest::prelude::*;

use super::*;

#[test]
fn a_memory_survives_its_file() {
    let recalled = decode(&encoded("a"), at(70)).unwrap();
    assert_eq!(recalled.memory, memory("a"));
    assert_eq!((recalled.age, recalled.too_old), (Duration::from_secs(60), false));
    let nothing = file::encode(Memory::default(), Some(1), at(0)).unwrap();
    assert_eq!(decode(nothing.as_bytes(), at(0)).unwrap().memory, Memory::default());
    let text = String::from_utf8(encoded("a")).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON, so that jq can read it");
    assert_eq!(shown["memory"]["overrides"][0]["state"], "drain");
}

/// An earlier version of steerd reads this file without the weights.
#[test]
fn overrides_of_weights_survive_in_a_list_of_their_own() {
    let kept = with_weights(memory("a"));
    let text = file::encode(kept.clone(), Some(7), at(10)).unwrap();
    let mut recalled = decode(text.as_bytes(), at(70)).unwrap().memory;
    recalled.overrides.sort_by_key(|kept| kept.value.kind());
    assert_eq!(recalled, kept);
    let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
    let counts = ["overrides", "weights"].map(|list| shown["memory"][list].as_array().unwrap().len());
    assert_eq!((counts, &shown["memory"]["weights"][1]["percent"]), ([4, 3], &30.into()));
    assert_eq!(
        decode(text.as_bytes(), at(3600)).unwrap().memory.overrides.len(),
        2 + 1,
        "those without an end"
    );
}

#[test]
fn states_become_useless_with_age_and_overrides_do_not() {
    for (age, states) in [(DAY, 3), (DAY + Duration::from_secs(1), 0)] {
        let recalled = decode(&encoded("a"), at(10) + age).unwrap();
        assert_eq!((recalled.memory.states.len(), recalled.too_old), (states, states == 0), "{age:?}");
        assert_eq!(recalled.memory.overrides.len(), 2, "only those without an end");
    }
}

#[test]
fn overrides_end_though_nobody_was_there() {
    let remembered = |now| decode(&encoded("a"), now).unwrap().memory.overrides.len();
    assert_eq!([remembered(at(3599)), remembered(at(3600)), remembered(at(9999))], [4, 2, 2]);
}

/// The clock was set back by a day: no time is in the future, and an override for an hour lasts at
/// most an hour.
#[test]
fn a_clock_that_went_backwards_is_survived() {
    let now = at(0) - DAY;
    let recalled = decode(&encoded("a"), now).unwrap();
    assert_eq!((recalled.age, recalled.memory.states.len()), (Duration::ZERO, 3));
    assert!(recalled.memory.states.iter().all(|state| state.since == now));
    for kept in &recalled.memory.overrides {
        assert_eq!(kept.since, now);
        assert!(kept.until.is_none_or(|until| until == now + Duration::from_secs(3599)), "{kept:?}");
    }
}

#[test]
fn times_that_no_calendar_has_are_written_all_the_same() {
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60);
    let mut odd = memory("a");
    odd.states[0].since = far;
    odd.overrides[0].until = Some(far);
    let text = file::encode(odd, Some(1), far).unwrap();
    let recalled = decode(text.as_bytes(), at(0)).unwrap().memory;
    assert_eq!((recalled.states.len(), recalled.overrides.len()), (3, 4));
}

#[test]
fn every_file_that_is_no_good_says_why() {
    let good = String::from_utf8(encoded("a")).unwrap();
    for (text, expected) in [
        (String::new(), "damaged or cut off"),
        ("hello".into(), "damaged or cut off"),
        ("{}".into(), "steerd did not write it"),
        ("{\"format\":\"something else\",\"version\":1}".into(), "steerd did not write it"),
        (good.replace("\"version\":2", "\"version\":3"), "version 3 of its format"),
        (good.replace("\"version\":2", "\"version\":0"), "version 0 of its format"),
        (good.replace("\"version\":2", "\"version\":1"), "checksum"),
        (good.replace("\"journal\":7", "\"journal\":8"), "checksum"),
        (good.replace("healthy", "Healthy"), "checksum"),
        (good.replace("\"written\":\"20", "\"written\":\"19"), "checksum"),
        (good.replace("\"sha256\"", "\"sha1\""), "damaged or cut off"),
        ("[".repeat(100_000), "damaged or cut off"),
    ] {
        let refused = decode(text.as_bytes(), at(0)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    assert!(decode(b"\xff\xfe", at(0)).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let good = encoded("a");
    for length in 0..good.len() - 1 {
        assert!(decode(&good[..length], at(10)).is_err(), "{length} of {} bytes", good.len());
    }
}

/// Flips every bit of the file: it is rejected, or read as it was written.
#[test]
fn a_file_with_a_flipped_bit_is_refused_or_read_right() {
    let good = encoded("a");
    let mut read = 0;
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(recalled) = decode(&bytes, at(10)) {
            assert_eq!(recalled.memory, memory("a"), "bit {bit}");
            read += 1;
        }
    }
    assert!(read < 50, "{read} flips were not noticed; only a few, as in the final line break, may be");
}

proptest! {
    /// Any damage: bytes replaced, duplicated or removed; arbitrary files.
    #[test]
    fn no_damage_is_taken_for_a_memory(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, prop::collection::vec(any::<u8>(), 0..40)), 1..5),
        anything in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = encoded("a");
        for (place, length, inserted) in edits {
            let place = place.index(bytes.len());
            let end = (place + length).min(bytes.len());
            bytes.splice(place..end, inserted);
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(recalled) = decode(&bytes, at(10)) {
            prop_assert_eq!(recalled.memory, memory("a"));
        }
        prop_assert!(decode(&anything, at(10)).is_err());
    }
}
