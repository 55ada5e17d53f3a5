//! The files of a directory: files of earlier versions, and damaged files.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::state::disk::{self, System};
use crate::state::journal::VERSION as JOURNAL_VERSION;

/// Copies the sample of a version into a directory.
fn sample(version: u32) -> TempDir {
    let directory = TempDir::new().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/state/{version}"));
    for entry in fs::read_dir(samples).expect("each version has a sample") {
        let entry = entry.unwrap();
        fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    directory
}

/// A commit that increases the version adds a sample of the previous version, written by its code.
/// Samples are never removed.
#[test]
fn every_earlier_version_of_the_files_is_read() {
    assert_eq!((file::VERSION, JOURNAL_VERSION), (2, 1), "a new version needs a sample");
    for version in 1..=file::VERSION {
        let directory = sample(version);
        let before = names(directory.path());
        let mut expected = memory("a");
        if version > 1 {
            // The journal of the sample changes these after the snapshot.
            expected.states[1].verdict = Verdict::Unhealthy;
            expected.states[1].since = at(40);
            expected.overrides.remove(0);
            expected.overrides[0].reason = Some("moved".into());
        }
        assert_eq!(recall(directory.path(), at(70)), expected, "version {version}");
        assert_eq!(names(directory.path()), before, "version {version}: nothing is set aside");
    }
}

/// Prints the sample of the current version: `cargo test -- --ignored sample_of_this_version`.
#[test]
#[ignore = "writes a sample for the test above"]
fn sample_of_this_version() {
    let Some(directory) = std::env::var_os("STEERD_SAMPLE") else { return };
    let directory = Path::new(&directory);
    fs::write(directory.join(FILE), encoded("a")).unwrap();
    let mut journal = crate::state::journal::Journal::begin(&mut System, directory, 7).unwrap();
    let Memory { mut states, mut overrides, .. } = memory("a");
    let (mut state, mut kept) = (states.remove(1), overrides.remove(1));
    (state.verdict, state.since, kept.reason) = (Verdict::Unhealthy, at(40), Some("moved".into()));
    let ended = vec![(overrides[0].pool.clone(), overrides[0].backend.clone(), OverrideKind::State)];
    let changes =
        MemoryChanges { states: vec![state], overrides: vec![kept], ended, ..MemoryChanges::default() };
    journal.append(&mut System, vec![changes], at(41)).unwrap();
}

/// The first snapshot takes seconds, and its journal is on disk before it.
#[test]
fn journals_without_a_snapshot_are_read() {
    let directory = sample(2);
    fs::remove_file(directory.path().join(FILE)).unwrap();
    let recalled = recall(directory.path(), at(70));
    let (state, kept) = (&recalled.states[..], &recalled.overrides[..]);
    assert_eq!((state.len(), state[0].verdict, state[0].since), (1, Verdict::Unhealthy, at(40)));
    assert_eq!((kept.len(), kept[0].reason.as_deref()), (1, Some("moved")));
    assert_eq!(names(directory.path()), ["health.7.journal"], "nothing is set aside");
}

/// Any kind of file may have the name of a journal. Reading it must not wait for another program,
/// and copying it must end.
#[test]
fn a_journal_that_is_no_file_or_too_large_is_named_and_left_out() {
    let directory = sample(2);
    let pipe = directory.path().join("health.8.journal");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    fs::File::create(directory.path().join("health.9.journal")).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert_eq!(recall(directory.path(), at(70)).overrides.len(), 3, "the others are read");
    let sizes = names(directory.path())
        .into_iter()
        .filter(|name| name.contains(DAMAGED))
        .map(|name| fs::metadata(directory.path().join(name)).unwrap().len());
    assert_eq!(sizes.sum::<u64>(), 0);
}

/// A downgrade: the server starts without a memory and keeps the files for the newer version.
#[test]
fn files_of_a_later_version_are_set_aside() {
    let directory = sample(2);
    let path = directory.path().join(FILE);
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("\"version\":2", "\"version\":3")).unwrap();
    assert_eq!(recall(directory.path(), at(70)), Memory::default());
    let kept = names(directory.path());
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(
        kept[0].starts_with("health.7.journal.damaged-") && kept[1].starts_with("health.json.damaged-"),
        "{kept:?}"
    );
}

/// An earlier version of steerd did not know journals, and left those of a newer one in place.
#[test]
fn a_snapshot_of_the_first_version_is_newer_than_any_journal() {
    let directory = sample(2);
    fs::copy(sample(1).path().join(FILE), directory.path().join(FILE)).unwrap();
    assert_eq!(recall(directory.path(), at(70)), memory("a"));
}

#[test]
fn a_damaged_journal_is_copied_and_read_as_far_as_it_goes() {
    let directory = sample(2);
    let path = directory.path().join("health.7.journal");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"moved\"", "\"Moved\"")).unwrap();
    let recalled = recall(directory.path(), at(70));
    assert_eq!(recalled.states[1].verdict, Verdict::Unhealthy, "the record before it");
    assert_eq!(
        (recalled.overrides.len(), recalled.overrides[0].reason.as_deref()),
        (3, None),
        "and the one after it"
    );
    let kept = names(directory.path());
    assert!(kept.contains(&"health.7.journal".to_owned()) && kept.len() == 3, "{kept:?}");
    for round in 0..8 {
        recall(directory.path(), at(71 + round));
    }
    assert_eq!(names(directory.path()).len(), 2 + MAX_DAMAGED);
}

#[test]
fn what_is_no_good_is_set_aside_and_five_of_those_are_kept() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    assert_eq!(recall(directory.path(), at(0)), Memory::default());
    assert_eq!(names(directory.path()), Vec::<String>::new(), "a missing file is no fault");
    for round in 0..8 {
        fs::write(&path, format!("round {round}")).unwrap();
        assert_eq!(recall(directory.path(), at(round)), Memory::default());
        assert!(!path.exists());
    }
    let kept = names(directory.path());
    assert_eq!(kept.len(), MAX_DAMAGED, "{kept:?}");
    assert!(kept.iter().all(|name| name.starts_with("health.json.damaged-2023-11-14T")), "{kept:?}");
    let contents: Vec<String> =
        kept.iter().map(|name| fs::read_to_string(directory.path().join(name)).unwrap()).collect();
    assert_eq!(contents, ["round 3", "round 4", "round 5", "round 6", "round 7"]);
}

#[test]
fn what_is_no_file_or_too_large_does_not_stop_the_start() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    fs::create_dir(&path).unwrap();
    assert_eq!(recall(directory.path(), at(0)), Memory::default());
    fs::File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("at most 256 MiB"));
    assert_eq!(recall(directory.path(), at(1)), Memory::default());
    assert_eq!(names(directory.path()).len(), 2);
    assert_eq!(recall(&directory.path().join("gone"), at(0)), Memory::default());
}

#[test]
fn the_file_is_for_its_owner_alone_and_leaves_nothing_beside_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    for text in ["first", "second"] {
        // A file left by a crash does not prevent a replacement.
        fs::write(directory.path().join("health.json.new"), "left behind").unwrap();
        disk::replace(&mut System, &path, text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), [FILE]);
    }
}
