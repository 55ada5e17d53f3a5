//! Reads a journal after every kind of damage.

use std::io::Write;

use super::*;
use crate::state::disk::Disk;
use crate::state::journal::{Journal, Replayed, replay};

/// A file in memory.
#[derive(Clone, Default)]
struct Paper(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Paper {
    type File = Self;

    fn remove(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&mut self, _: &Path) -> io::Result<Self> {
        Ok(self.clone())
    }

    fn sync(&mut self, _: &mut Self) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// The number of states in the journal below, one per record.
const STATES: u64 = 5;

fn state(number: u64) -> RememberedState {
    RememberedState {
        backend: format!("gw{number}").into(),
        since: at(number),
        ..memory("a").states.remove(0)
    }
}

/// A journal of two batches: states 0 and 1, an override and its end; states 2, 3 and 4.
fn written() -> Vec<u8> {
    let mut paper = Paper::default();
    let mut journal = Journal::begin(&mut paper, Path::new("/"), 7).unwrap();
    let kept = memory("a").overrides.remove(1);
    let ended = vec![("other".into(), kept.backend.clone(), OverrideKind::State)];
    let first = MemoryChanges {
        states: vec![state(0), state(1)],
        overrides: vec![kept],
        ended,
        ..MemoryChanges::default()
    };
    let second = MemoryChanges { states: (2..STATES).map(state).collect(), ..MemoryChanges::default() };
    journal.append(&mut paper, vec![first], at(20)).unwrap();
    journal.append(&mut paper, vec![second], at(30)).unwrap();
    let bytes = paper.0.lock().unwrap().clone();
    assert_eq!(journal.length, bytes.len() as u64);
    bytes
}

fn empty() -> Recollection {
    Recollection::new(file::Snapshot { memory: Memory::default(), written: at(0), journal: Some(7) })
}

fn read(bytes: &[u8]) -> (Vec<RememberedState>, Recalled, Replayed) {
    let mut recollection = empty();
    let replayed = replay(bytes, 7, &mut recollection);
    let recalled = recollection.until_now(at(90));
    (recalled.memory.states.clone(), recalled, replayed)
}

#[test]
fn what_was_appended_is_read() {
    let (states, recalled, replayed) = read(&written());
    assert_eq!(states, (0..STATES).map(state).collect::<Vec<_>>());
    assert_eq!(recalled.memory.overrides, [memory("a").overrides.remove(1)]);
    assert_eq!(recalled.age, Duration::from_secs(60), "as old as its last record");
    assert_eq!(replayed, Replayed { records: 9, fault: None });
    let text = String::from_utf8(written()).unwrap();
    for line in text.lines() {
        let (_, json) = line.split_once(' ').unwrap();
        serde_json::from_str::<serde_json::Value>(json)
            .expect("JSON after the checksum, so that jq can read it");
    }
}

#[test]
fn the_two_overrides_of_a_backend_are_apart_in_the_journal() {
    let mut paper = Paper::default();
    let mut journal = Journal::begin(&mut paper, Path::new("/"), 7).unwrap();
    let overrides = with_weights(memory("a")).overrides;
    let ended = |index: usize, kind| (overrides[index].pool.clone(), overrides[index].backend.clone(), kind);
    let ended = vec![ended(1, OverrideKind::State), ended(2, OverrideKind::Weight)];
    let set = MemoryChanges { overrides: overrides.clone(), ..MemoryChanges::default() };
    let end = MemoryChanges { ended, ..MemoryChanges::default() };
    journal.append(&mut paper, vec![set, end], at(20)).unwrap();
    let bytes = paper.0.lock().unwrap().clone();
    let (_, recalled, replayed) = read(&bytes);
    assert_eq!(replayed, Replayed { records: 10, fault: None });
    let left: Vec<_> = recalled.memory.overrides.iter().map(|kept| (&*kept.backend, kept.value)).collect();
    let [drain, up, down] = [Override::Drain, Override::Up, Override::Down].map(OverrideValue::State);
    let [none, some] = [0, 30].map(OverrideValue::Weight);
    assert_eq!(left, [("gw0", drain), ("gw0", none), ("gw1", some), ("gw2", up), ("gw3", down)]);
}

/// A crash leaves an incomplete record. It is ignored without a fault, and all records before it
/// are read.
#[test]
fn a_journal_that_is_cut_anywhere_is_read_up_to_there() {
    let whole = written();
    for length in 0..=whole.len() {
        let (states, _, replayed) = read(&whole[..length]);
        let finished = |number: &u64| {
            let backend = format!("\"backend\":\"gw{number}\",\"address\"");
            whole[..length]
                .split_inclusive(|byte| *byte == b'\n')
                .any(|line| line.ends_with(b"\n") && String::from_utf8_lossy(line).contains(&backend))
        };
        let expected: Vec<RememberedState> = (0..STATES).filter(finished).map(state).collect();
        assert_eq!(states, expected, "{length} of {} bytes", whole.len());
        assert_eq!(replayed.fault, None, "{length} of {} bytes", whole.len());
    }
    // A file system may have allocated space that was never written.
    let mut zeros = whole.clone();
    zeros.resize(whole.len() + 4096, 0);
    assert_eq!(read(&zeros).2, Replayed { records: 9, fault: None });
}

/// Flips every bit: a record is read as it was written or not at all, the others are read, and
/// damage is reported unless it is at the end.
#[test]
fn a_flipped_bit_costs_a_record_and_no_more() {
    let whole = written();
    let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (states, _, replayed) = read(&bytes);
        assert!(states.iter().all(|found| (0..STATES).any(|number| *found == state(number))), "bit {bit}");
        if bit / 8 < head {
            assert_eq!(replayed.records, 0, "bit {bit}: nothing after a damaged head is read");
        } else {
            // A lost line break also costs the following record.
            let lost = if whole[bit / 8] == b'\n' { 2 } else { 1 };
            assert!(replayed.records + lost >= 9, "bit {bit}: {} records", replayed.records);
        }
        assert!(replayed.fault.is_some() || bit / 8 == whole.len() - 1, "bit {bit}: not reported");
    }
}

#[test]
fn records_that_were_moved_or_are_of_another_journal_are_not_read() {
    let whole = String::from_utf8(written()).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    let (states, _, replayed) = read(swapped.concat().as_bytes());
    assert!(states.len() < 5 && replayed.fault.is_some_and(|fault| fault.contains("damaged at byte")));
    let mut doubled = lines.clone();
    doubled.insert(2, lines[2]);
    assert!(read(doubled.concat().as_bytes()).2.fault.is_some());
    let mut recollection = empty();
    assert_eq!(replay(whole.as_bytes(), 8, &mut recollection).records, 0, "another number");
    for (text, expected) in [("hello\nworld\n", "first line"), ("\n", "first line")] {
        let fault = read(text.as_bytes()).2.fault.unwrap();
        assert!(fault.contains(expected), "{fault}");
    }
    let mut anything = 0_u32;
    for length in 0..2_000 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                anything = anything.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (anything >> 24) as u8
            })
            .collect();
        assert_eq!(read(&bytes).2.records, 0);
    }
}

/// A full disk: files can be created, but not written to.
#[derive(Clone, Default)]
struct Full(std::sync::Arc<std::sync::Mutex<Vec<PathBuf>>>);

#[derive(Debug)]
struct NoRoom;

impl Write for NoRoom {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Full {
    type File = NoRoom;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap().retain(|known| known != path);
        Ok(())
    }

    fn create(&mut self, path: &Path) -> io::Result<NoRoom> {
        self.0.lock().unwrap().push(path.into());
        Ok(NoRoom)
    }

    fn sync(&mut self, _: &mut NoRoom) -> io::Result<()> {
        Ok(())
    }

    fn rename(&mut self, _: &Path, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_journal_that_cannot_be_begun_leaves_no_file() {
    let mut disk = Full::default();
    let error = Journal::begin(&mut disk, Path::new("/"), 7).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(*disk.0.lock().unwrap(), Vec::<PathBuf>::new());
}
