//! Tests of kept sets with real files.

use std::sync::Arc;

use ring::digest::{SHA256, digest};
use tempfile::TempDir;

use super::*;
use crate::file::Reading;

fn file(path: &str, kind: FileKind, text: &[u8]) -> ReadFile {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    let is_secret = kind == FileKind::Secret;
    ReadFile {
        path: path.into(),
        kind,
        size: text.len() as u64,
        modified: None,
        stamp: None,
        hash: (!is_secret).then_some(hash),
        text: kind.is_kept().then(|| Arc::from(text)),
    }
}

fn files(text: &[u8]) -> Vec<ReadFile> {
    vec![
        file("/etc/steerd/steerd.toml", FileKind::Configuration, text),
        file("/etc/steerd/more.toml", FileKind::Configuration, b"# more"),
        file("/etc/steerd/token", FileKind::Secret, b"not to be kept"),
        file("/etc/steerd/zone", FileKind::Zone, b"\xff not UTF-8"),
    ]
}

fn occasion(changes: &str) -> SetOccasion {
    let (main, at) = ("/etc/steerd/steerd.toml".into(), Timestamp::UNIX_EPOCH);
    SetOccasion { main, at, by: "a test".into(), changes: changes.into() }
}

fn numbers_of(directory: &TempDir) -> Vec<u64> {
    list(directory.path()).unwrap().into_iter().map(|head| head.unwrap().number).collect()
}

#[test]
fn a_set_is_read_as_it_was_kept_without_secrets() {
    let directory = TempDir::new().unwrap();
    assert_eq!(list(directory.path()).unwrap(), []);
    assert_eq!(keep(directory.path(), &files(b"one"), occasion("the start")).unwrap(), 1);
    assert_eq!(keep(directory.path(), &files(b"one"), occasion("nothing")).unwrap(), 1, "the same texts");
    assert_eq!(keep(directory.path(), &files(b"two"), occasion("pool web added")).unwrap(), 2);
    assert_eq!(keep(directory.path(), &files(b"one"), occasion("pool web removed")).unwrap(), 3);
    let heads = list(directory.path()).unwrap();
    let [third, second, first] = &heads[..] else { panic!("{heads:?}") };
    let [third, second, first] = [third, second, first].map(|head| head.as_ref().unwrap());
    assert_eq!((third.sha256 == first.sha256, second.sha256 == first.sha256), (true, false));
    assert_eq!((second.changes.as_str(), second.by.as_str()), ("pool web added", "a test"));
    let stored = fs::read(directory.path().join("configurations/2.jsonl")).unwrap();
    assert!(!String::from_utf8_lossy(&stored).contains("not to be kept"));
    let set = open(directory.path(), 2).unwrap();
    assert_eq!(set.texts.included(), [PathBuf::from("/etc/steerd/more.toml")]);
    let reading = Reading::of_kept(set.texts);
    let read = |path: &str, kind| reading.read(Path::new(path), kind, 99).unwrap().bytes;
    assert_eq!(read("/etc/steerd/steerd.toml", FileKind::Configuration), b"two");
    assert_eq!(read("/etc/steerd/zone", FileKind::Zone), b"\xff not UTF-8");
    assert!(open(directory.path(), 9).unwrap_err().contains("9.jsonl: No such file"));
}

#[test]
fn a_set_that_is_cut_or_changed_is_damaged() {
    let directory = TempDir::new().unwrap();
    keep(directory.path(), &files(b"one"), occasion("")).unwrap();
    let path = directory.path().join("configurations/1.jsonl");
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() - 1 {
        fs::write(&path, &whole[..cut]).unwrap();
        let refused = open(directory.path(), 1).map(|set| set.head).unwrap_err();
        assert!(refused.contains("is damaged"), "{cut}: {refused}");
    }
    let changed = String::from_utf8(whole).unwrap().replace("\"text\":\"one\"", "\"text\":\"two\"");
    fs::write(&path, changed).unwrap();
    assert!(open(directory.path(), 1).unwrap_err().contains("steerd.toml is not that of its head"));
    fs::write(&path, "{}").unwrap();
    let listed = list(directory.path()).unwrap();
    assert!(matches!(&listed[..], [Err((1, _))]), "{listed:?}");
    assert_eq!(
        keep(directory.path(), &files(b"one"), occasion("")).unwrap(),
        2,
        "the damaged one is not the same"
    );
}

#[test]
fn the_oldest_sets_go() {
    let directory = TempDir::new().unwrap();
    for number in 0..MOST_SETS + 3 {
        keep(directory.path(), &files(number.to_string().as_bytes()), occasion("")).unwrap();
    }
    let last = MOST_SETS as u64 + 3;
    assert_eq!(numbers_of(&directory), (4..=last).rev().collect::<Vec<_>>());
    // The size decides, too: a sparse file is as good as a full one.
    let large = fs::File::options().write(true).open(directory.path().join("configurations/10.jsonl"));
    large.unwrap().set_len(MAX_SETS).unwrap();
    keep(directory.path(), &files(b"another"), occasion("")).unwrap();
    assert_eq!(numbers_of(&directory), [last + 1, last, last - 1, last - 2]);
}
