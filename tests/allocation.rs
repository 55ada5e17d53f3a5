//! Answering allocates no memory, whatever the answer; reading a zone uses little.

#[path = "../fuzz/checks/mod.rs"]
mod checks;

use std::path::Path;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::answer::{Disposition, Responder};
use steerd::name::Name;
use steerd::wire::MAX_MESSAGE;
use steerd::zone::reader;

use crate::checks::respond::Setting;
use crate::checks::world::World;
use crate::checks::{allocation, kinds};

#[test]
fn no_kind_of_answer_takes_memory() {
    let world = World::new();
    let mut responder = Responder::new(SmallRng::seed_from_u64(1));
    let mut buffer = vec![0; MAX_MESSAGE];
    for kind in kinds::all() {
        let setting = Setting::new(kind.transport);
        let table = kind.table(&world);
        for round in 0..3 {
            let (verdict, calls) = allocation::calls_during(|| {
                responder.respond(&kind.query, &setting.client, table, &mut buffer)
            });
            assert!(matches!(verdict, Disposition::Reply(_)), "{}: {verdict:?}", kind.name);
            assert_eq!(calls, 0, "{}, round {round}", kind.name);
        }
        kind.check(table);
    }
}

/// A word may be as long as its file, and suggesting a correction for it must not cost more than
/// reading it.
#[test]
fn a_long_word_in_a_zone_takes_little_memory() {
    let word = "w".repeat(1 << 20);
    for text in [format!("a {word} b\n"), format!("${word}\n"), format!("a 1 SVCB 1 . {word}=1\n")] {
        let read = || reader::read(Path::new("zone"), &Name::root(), &mut |_| Ok(text.clone().into_bytes()));
        let (read, peak) = allocation::peak_during(read);
        assert_eq!(read.map(drop).unwrap_err().len(), 1);
        assert!(peak < 16 * text.len(), "{peak} bytes for {}", text.len());
    }
}

#[test]
fn what_takes_memory_is_counted() {
    let (_kept, calls) = allocation::calls_during(|| vec![0_u8; 100]);
    assert_eq!(calls, 1);
    let ((), peak) = allocation::peak_during(|| drop(vec![0_u8; 1000]));
    assert!((1000..2000).contains(&peak), "{peak}");
}
