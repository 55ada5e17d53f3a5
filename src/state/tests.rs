//! A file that is cut, flipped, foreign or half-written; a disk that fails or loses its power at
//! any step; and the task that keeps the file.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::disk::Disk;
use super::*;
use crate::checker::{RememberedOverride, RememberedState};
use crate::health::Verdict;
use crate::pool::Override;
use crate::settings::Settings;
use crate::table::{Published, Table};
use crate::zone::Catalog;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000 + seconds, 123_456_789)
}

/// A memory of every verdict and every override; `tag` tells one from another.
fn memory(tag: &str) -> Memory {
    let state = |(index, verdict)| RememberedState {
        pool: "web".into(),
        backend: format!("gw{index}-{tag}"),
        address: if index == 0 { "192.0.2.1".parse().unwrap() } else { "2001:db8::1".parse().unwrap() },
        check: "http-2".into(),
        verdict,
        since: at(0),
    };
    let kept = |(index, state)| RememberedOverride {
        pool: "\"odd\\\u{1f600}".into(),
        backend: format!("gw{index}"),
        state,
        since: at(1),
        until: (index % 2 == 0).then(|| at(3600)),
        reason: (index > 1).then(|| "kernel\nupdate".into()),
    };
    let verdicts = [Verdict::Healthy, Verdict::Draining, Verdict::Unhealthy];
    Memory {
        states: verdicts.into_iter().enumerate().map(state).collect(),
        overrides: Override::ALL.into_iter().enumerate().map(kept).collect(),
    }
}

fn encoded(tag: &str) -> Vec<u8> {
    file::Body::new(memory(tag)).unwrap().encode(at(10)).unwrap().into_bytes()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_memory_survives_its_file() {
    let recalled = file::decode(&encoded("a"), at(70)).unwrap();
    assert_eq!(recalled.memory, memory("a"));
    assert_eq!((recalled.age, recalled.too_old), (Duration::from_secs(60), false));
    let nothing = file::Body::new(Memory::default()).unwrap().encode(at(0)).unwrap();
    assert_eq!(file::decode(nothing.as_bytes(), at(0)).unwrap().memory, Memory::default());
    let text = String::from_utf8(encoded("a")).unwrap();
    let shown: serde_json::Value = serde_json::from_str(&text).expect("JSON, for a person with jq");
    assert_eq!(shown["memory"]["overrides"][0]["state"], "drain");
}

#[test]
fn states_become_useless_with_age_and_overrides_do_not() {
    for (age, states) in [(DAY, 3), (DAY + Duration::from_secs(1), 0)] {
        let recalled = file::decode(&encoded("a"), at(10) + age).unwrap();
        assert_eq!((recalled.memory.states.len(), recalled.too_old), (states, states == 0), "{age:?}");
        assert_eq!(recalled.memory.overrides.len(), 2, "those without an end");
    }
}

#[test]
fn overrides_end_though_nobody_was_there() {
    let remembered = |now| file::decode(&encoded("a"), now).unwrap().memory.overrides.len();
    assert_eq!([remembered(at(3599)), remembered(at(3600)), remembered(at(9999))], [4, 2, 2]);
}

/// A clock that was put back by a day: nothing began in the future, and an override of an hour
/// lasts no more than an hour.
#[test]
fn a_clock_that_went_backwards_is_survived() {
    let now = at(0) - DAY;
    let recalled = file::decode(&encoded("a"), now).unwrap();
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
    let text = file::Body::new(odd).unwrap().encode(far).unwrap();
    let recalled = file::decode(text.as_bytes(), at(0)).unwrap().memory;
    assert_eq!((recalled.states.len(), recalled.overrides.len()), (3, 4));
}

#[test]
fn every_file_that_is_no_good_says_why() {
    let good = String::from_utf8(encoded("a")).unwrap();
    for (text, expected) in [
        (String::new(), "damaged or cut off"),
        ("hello".into(), "damaged or cut off"),
        ("{}".into(), "foreign"),
        ("{\"format\":\"something else\",\"version\":1}".into(), "foreign"),
        (good.replace("\"version\":1", "\"version\":2"), "version 2 of its format"),
        (good.replace("\"version\":1", "\"version\":0"), "version 0 of its format"),
        (good.replace("healthy", "Healthy"), "checksum"),
        (good.replace("\"written\":\"20", "\"written\":\"19"), "checksum"),
        (good.replace("\"sha256\"", "\"sha1\""), "damaged or cut off"),
        ("[".repeat(100_000), "damaged or cut off"),
    ] {
        let refused = file::decode(text.as_bytes(), at(0)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
    assert!(file::decode(b"\xff\xfe", at(0)).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let good = encoded("a");
    for length in 0..good.len() - 1 {
        assert!(file::decode(&good[..length], at(10)).is_err(), "{length} of {} bytes", good.len());
    }
}

/// Every single bit of the file: flipped, it is refused, or read as it was written.
#[test]
fn a_file_with_a_flipped_bit_is_refused_or_read_right() {
    let good = encoded("a");
    let mut read = 0;
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(recalled) = file::decode(&bytes, at(10)) {
            assert_eq!(recalled.memory, memory("a"), "bit {bit}");
            read += 1;
        }
    }
    assert!(read < 50, "{read} flips were not noticed: the final line break, and the like");
}

proptest! {
    /// Any damage: bytes replaced, doubled, cut out; files of anything at all.
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
        if let Ok(recalled) = file::decode(&bytes, at(10)) {
            prop_assert_eq!(recalled.memory, memory("a"));
        }
        prop_assert!(file::decode(&anything, at(10)).is_err());
    }
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
    assert!(read(&path).unwrap_err().to_string().contains("larger than 256 MiB"));
    assert_eq!(recall(directory.path(), at(1)), Memory::default());
    assert_eq!(names(directory.path()).len(), 2);
    assert_eq!(recall(&directory.path().join("gone"), at(0)), Memory::default());
}

#[test]
fn the_file_is_for_its_owner_alone_and_leaves_nothing_beside_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    for text in ["first", "second"] {
        // What a crash has left behind is no obstacle.
        fs::write(directory.path().join("health.json.new"), "left behind").unwrap();
        disk::replace(&mut System, &path, text.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(directory.path()), [FILE]);
    }
}

/// A disk that keeps what was synchronized, and of the rest what it likes. It stops at a step.
#[derive(Clone, Default)]
struct ModelDisk {
    files: Vec<ModelFile>,
    /// As programs see them.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that a loss of power may undo, in their order.
    pending: Vec<(PathBuf, Option<usize>)>,
    steps_left: usize,
    /// What an implementation that forgets it would do.
    forgets_sync: bool,
}

#[derive(Clone, Default)]
struct ModelFile {
    content: Vec<u8>,
    durable: Vec<u8>,
}

impl ModelDisk {
    fn step(&mut self) -> io::Result<()> {
        self.steps_left = self.steps_left.checked_sub(1).ok_or_else(|| io::Error::other("stopped"))?;
        Ok(())
    }

    fn set(&mut self, path: &Path, file: Option<usize>) {
        match file {
            Some(file) => self.names.insert(path.into(), file),
            None => self.names.remove(path),
        };
        self.pending.push((path.into(), file));
    }

    /// What the file may hold after a loss of power now; `None` where it is gone.
    fn after_crash(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let mut outcomes = Vec::new();
        for kept in 0..=self.pending.len() {
            let mut names = self.durable_names.clone();
            for (path, file) in &self.pending[..kept] {
                match file {
                    Some(file) => names.insert(path.clone(), *file),
                    None => names.remove(path),
                };
            }
            let Some(file) = names.get(path).map(|&file| &self.files[file]) else {
                outcomes.push(None);
                continue;
            };
            outcomes.push(Some(file.durable.clone()));
            if file.content != file.durable {
                outcomes.extend((0..=file.content.len()).map(|end| Some(file.content[..end].to_vec())));
            }
        }
        outcomes
    }
}

/// A file of the model: each byte written is a step.
struct Writing(Arc<Mutex<ModelDisk>>, usize);

impl io::Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        disk.files[self.1].content.push(bytes[0]);
        Ok(1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk for Arc<Mutex<ModelDisk>> {
    type File = Writing;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        disk.set(path, None);
        Ok(())
    }

    fn create(&mut self, path: &Path) -> io::Result<Writing> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        assert!(!disk.names.contains_key(path), "a file is in the way");
        disk.files.push(ModelFile::default());
        let file = disk.files.len() - 1;
        disk.set(path, Some(file));
        Ok(Writing(Arc::clone(self), file))
    }

    fn sync(&mut self, file: &mut Writing) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        if !disk.forgets_sync {
            disk.files[file.1].durable = disk.files[file.1].content.clone();
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        let file = disk.names.get(from).copied();
        // Both names change at once: a loss of power undoes both or none.
        disk.names.remove(from);
        disk.set(to, file);
        Ok(())
    }

    fn sync_directory(&mut self, _: &Path) -> io::Result<()> {
        let mut disk = self.lock().unwrap();
        disk.step()?;
        disk.durable_names = disk.names.clone();
        disk.pending.clear();
        Ok(())
    }
}

/// Replaces `old` by `new` on a disk that stops after each number of steps. What may be found then
/// that is neither.
fn neither_old_nor_new(forgets_sync: bool) -> Vec<String> {
    let path = Path::new("/state/health.json");
    let (old, new) = (b"old".to_vec(), b"new text".to_vec());
    let mut found = Vec::new();
    for steps in 0.. {
        let disk = ModelDisk {
            files: vec![ModelFile { content: old.clone(), durable: old.clone() }],
            names: BTreeMap::from([(path.into(), 0)]),
            durable_names: BTreeMap::from([(path.into(), 0)]),
            pending: Vec::new(),
            steps_left: steps,
            forgets_sync,
        };
        let mut disk = Arc::new(Mutex::new(disk));
        let done = disk::replace(&mut disk, path, &new);
        let disk = disk.lock().unwrap();
        let seen = disk.names.get(path).map(|&file| disk.files[file].content.clone());
        let outcomes = disk.after_crash(path);
        if done.is_ok() && !outcomes.iter().all(|outcome| outcome.as_deref() == Some(&new)) {
            found.push("done, and yet it can be lost".to_owned());
        }
        for outcome in outcomes.into_iter().chain([seen]) {
            if outcome.as_deref().is_none_or(|text| text != old && text != new) {
                found.push(format!("after {steps} steps: {:?}", outcome.map(String::from_utf8)));
            }
        }
        if done.is_ok() {
            assert!(steps > new.len() + 3, "{steps} steps");
            return found;
        }
    }
    unreachable!()
}

#[test]
fn a_stop_or_a_loss_of_power_at_any_step_leaves_the_old_file_or_the_new_one() {
    assert_eq!(neither_old_nor_new(false), Vec::<String>::new());
    assert_ne!(neither_old_nor_new(true), Vec::<String>::new(), "the model finds a forgotten fsync");
}

/// A checker that knows what it is told to, and counts how often it is asked.
struct Script {
    handle: Handle,
    known: Arc<Mutex<Memory>>,
    asked: Arc<Mutex<u32>>,
}

impl Script {
    fn start() -> Self {
        let (commands, mut received) = mpsc::channel(1);
        let known = Arc::new(Mutex::new(memory("a")));
        let asked = Arc::new(Mutex::new(0));
        let (knows, counts) = (Arc::clone(&known), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Some(Command::Memory(reply)) = received.recv().await {
                *counts.lock().unwrap() += 1;
                let _ = reply.send(knows.lock().unwrap().clone());
            }
        });
        let handle = Handle { published: Published::new(table(1)), ready: watch::channel(true).1, commands };
        Self { handle, known, asked }
    }

    fn learn(&self, tag: &str, generation: u64) {
        *self.known.lock().unwrap() = memory(tag);
        drop(self.handle.published.replace(table(generation)));
    }
}

fn table(generation: u64) -> Table {
    Table {
        generation,
        settings: Arc::new(Settings::default()),
        catalog: Arc::new(Catalog::new(Vec::new())),
        services: Arc::new([]),
        pools: Box::new([]),
    }
}

/// Waits, on the paused clock, until the file holds the memory of this tag.
async fn until_written(directory: &Path, tag: &str) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let read = fs::read(directory.join(FILE)).unwrap_or_default();
        if file::decode(&read, at(10)).is_ok_and(|recalled| recalled.memory.states == memory(tag).states) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{tag} is not written");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn failures(metrics: &Metrics) -> String {
    let text = metrics.render(&table(1));
    text.lines().find(|line| line.starts_with("steerd_state_write_failures_total")).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_written_and_what_does_not_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let keeper =
        Keeper::start(Some(directory.path().into()), script.handle.clone(), Arc::new(Metrics::new(1)));
    until_written(directory.path(), "a").await;
    let first = fs::metadata(directory.path().join(FILE)).unwrap().modified().unwrap();
    let asked = *script.asked.lock().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*script.asked.lock().unwrap(), asked, "nobody is asked while no table is published");
    drop(script.handle.published.replace(table(2)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(*script.asked.lock().unwrap() > asked);
    let second = fs::metadata(directory.path().join(FILE)).unwrap().modified().unwrap();
    assert_eq!(first, second, "a table that is new in nothing to remember");
    script.learn("b", 3);
    until_written(directory.path(), "b").await;
    // At the end without delay, and without a new table.
    *script.known.lock().unwrap() = memory("c");
    keeper.stop().await;
    until_written(directory.path(), "c").await;
}

#[tokio::test(start_paused = true)]
async fn the_file_stays_young() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let _keeper =
        Keeper::start(Some(directory.path().into()), script.handle.clone(), Arc::new(Metrics::new(1)));
    until_written(directory.path(), "a").await;
    let path = directory.path().join(FILE);
    let first = fs::read(&path).unwrap();
    tokio::time::sleep(REFRESH + PERIOD * 2).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while fs::read(&path).unwrap() == first {
        assert!(std::time::Instant::now() < deadline, "it is not written again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_directory_has_all_that_is_known_at_once() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let script = Script::start();
    let keeper = Keeper::start(None, script.handle.clone(), Arc::new(Metrics::new(1)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(*script.asked.lock().unwrap(), 0, "without a directory nobody is asked");
    for directory in [&one, &two] {
        keeper.directory().send_replace(Some(directory.path().into()));
        until_written(directory.path(), "a").await;
    }
    keeper.directory().send_replace(None);
    script.learn("b", 2);
    keeper.stop().await;
    until_written(two.path(), "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_written_is_tried_again_and_costs_nothing_else() {
    let directory = TempDir::new().unwrap();
    let gone = directory.path().join("gone");
    let (script, metrics) = (Script::start(), Arc::new(Metrics::new(1)));
    let keeper = Keeper::start(Some(gone.clone()), script.handle.clone(), Arc::clone(&metrics));
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while failures(&metrics) != "steerd_state_write_failures_total 2" {
        assert!(std::time::Instant::now() < deadline, "{}", failures(&metrics));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    fs::create_dir(&gone).unwrap();
    until_written(&gone, "a").await;
    keeper.stop().await;
}
