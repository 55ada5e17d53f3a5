//! The task that writes the files, with a scripted checker.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::checker::{CheckerCommand, CheckerHandle};
use crate::metrics::Metrics;
use crate::state::disk::{Disk, System};
use crate::table::{Published, Table};
use crate::zone::Catalog;

const SECOND: Duration = Duration::from_secs(1);

/// A checker that has the state that the test sets, and counts requests for the whole memory. Like
/// the real one, it reports each change once, in addition to the whole.
#[derive(Clone)]
struct Script {
    handle: CheckerHandle,
    known: Arc<Mutex<Memory>>,
    untold: Arc<Mutex<MemoryChanges>>,
    asked: Arc<AtomicU32>,
    /// While set, requests for the whole memory are not answered.
    is_busy: Arc<AtomicBool>,
}

impl Script {
    fn start() -> Self {
        let (commands, mut received) = mpsc::channel(1);
        let handle =
            CheckerHandle { published: Published::new(table()), ready: watch::channel(true).1, commands };
        let script = Self {
            handle,
            known: Arc::new(Mutex::new(memory("a"))),
            untold: Arc::default(),
            asked: Arc::default(),
            is_busy: Arc::default(),
        };
        script.untold.lock().unwrap().everything = true;
        let Self { known, untold, asked, is_busy, .. } = script.clone();
        tokio::spawn(async move {
            while let Some(command) = received.recv().await {
                match command {
                    CheckerCommand::Memory(_, reply) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        untold.lock().unwrap().everything = false;
                        let (known, is_busy) = (Arc::clone(&known), Arc::clone(&is_busy));
                        tokio::spawn(async move {
                            while is_busy.load(Ordering::Relaxed) {
                                tokio::time::sleep(Duration::from_millis(10)).await;
                            }
                            let _ = reply.send(known.lock().unwrap().clone());
                        });
                    }
                    CheckerCommand::MemoryChanges(reply) => {
                        let mut untold = untold.lock().unwrap();
                        let everything = untold.everything;
                        let _ = reply.send(std::mem::take(&mut *untold));
                        untold.everything = everything;
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        script
    }

    /// Replaces the memory.
    fn learn(&self, tag: &str) {
        *self.known.lock().unwrap() = memory(tag);
        self.untold.lock().unwrap().states.extend(memory(tag).states);
    }

    /// Flips one backend.
    fn flip(&self, backend: u32) {
        let name = format!("gateway-{backend:06}.site-3.example.com").into();
        self.untold
            .lock()
            .unwrap()
            .states
            .push(RememberedState { backend: name, ..memory("a").states.remove(0) });
    }

    fn keeper(&self, directory: Option<&Path>) -> (Keeper, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new(1));
        let place = directory.map(|directory| StateDirectory::unlocked(directory.into()));
        (Keeper::start(place, self.handle.clone(), Arc::clone(&metrics)), metrics)
    }

    /// Sets an operator's override for a backend.
    fn drain(&self, backend: &str) {
        let kept = RememberedOverride { backend: backend.into(), ..memory("a").overrides.remove(1) };
        self.known.lock().unwrap().overrides.push(kept.clone());
        self.untold.lock().unwrap().overrides.push(kept);
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn table() -> Table {
    Table::new(
        1,
        Arc::default(),
        Arc::new(Catalog::new(Vec::new())),
        Arc::default(),
        [],
        SmallRng::seed_from_u64(1),
    )
}

/// Waits on the paused clock; it advances while threads work.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + SECOND * 20;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn holds(directory: &Path, tag: &str) -> bool {
    let states = recall(directory, at(10)).states;
    memory(tag).states.iter().all(|state| states.contains(state))
}

async fn until_written(directory: &Path, tag: &str) {
    until(&format!("{tag} is written"), || holds(directory, tag)).await;
}

/// The numbers of the journals, and the size of the last one in bytes.
fn journals_of(directory: &Path) -> (Vec<u64>, u64) {
    let found = journals(directory);
    let bytes =
        found.last().and_then(|(_, path)| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len());
    (found.into_iter().map(|(number, _)| number).collect(), bytes)
}

fn is_drained(directory: &Path, backend: &str) -> bool {
    recall(directory, at(10)).overrides.iter().any(|kept| &*kept.backend == backend)
}

fn failures(metrics: &Arc<Metrics>) -> String {
    let text = metrics.render(&Arc::new(table()));
    text.lines().find(|line| line.starts_with("steerd_state_write_failures_total")).unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn what_changes_is_appended_and_what_does_not_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (keeper, _) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    let files = || {
        let bytes = |name: &str| fs::read(directory.path().join(name)).unwrap();
        (bytes(FILE), bytes("health.1.journal"))
    };
    let before = files();
    tokio::time::sleep(SECOND * 60).await;
    assert_eq!(files(), before, "nothing has changed");
    script.learn("b");
    until_written(directory.path(), "b").await;
    assert_eq!(files().0, before.0, "the snapshot stays");
    assert_eq!((script.asked(), journals_of(directory.path()).0), (1, vec![1]));
    // The stop writes immediately.
    script.learn("c");
    keeper.stop().await;
    assert!(holds(directory.path(), "c") && holds(directory.path(), "b"));
    assert_eq!(script.asked(), 1);
}

/// The whole memory is written once. After that, the bytes written depend on the number of flips,
/// not on the size of the fleet.
#[tokio::test(start_paused = true)]
async fn bytes_are_proportional_to_flips() {
    const FLIPS: u32 = 50;
    const SECONDS: u32 = 40;
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    {
        let mut known = script.known.lock().unwrap();
        let one = known.states[0].clone();
        known.states = (0..20_000)
            .map(|number| RememberedState { backend: format!("{number}").into(), ..one.clone() })
            .collect();
    }
    let (keeper, _) = script.keeper(Some(directory.path()));
    until("the snapshot is there", || directory.path().join(FILE).exists()).await;
    let snapshot = fs::metadata(directory.path().join(FILE)).unwrap();
    for second in 0..SECONDS {
        (0..FLIPS).for_each(|flip| script.flip(second * FLIPS + flip));
        tokio::time::sleep(SECOND).await;
    }
    keeper.stop().await;
    let (numbers, bytes) = journals_of(directory.path());
    assert_eq!((script.asked(), numbers), (1, vec![1]), "no second snapshot");
    assert_eq!(
        fs::metadata(directory.path().join(FILE)).unwrap().modified().unwrap(),
        snapshot.modified().unwrap()
    );
    assert!(snapshot.len() > 2_000_000, "{}", snapshot.len());
    let flips = u64::from(FLIPS * SECONDS);
    assert!(bytes > flips * 100 && bytes < flips * 300, "{bytes} bytes for {flips} flips");
}

#[tokio::test(start_paused = true)]
async fn a_large_journal_becomes_a_snapshot_and_nothing_is_lost() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (keeper, _) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    let mut flips = 0;
    while script.asked() < 3 {
        (0..1_000).for_each(|flip| script.flip(flips + flip));
        flips += 1_000;
        tokio::time::sleep(SECOND).await;
        assert!(flips < 100_000, "no snapshot is made");
    }
    script.learn("b");
    until("earlier journals are deleted", || journals_of(directory.path()).0 == [3]).await;
    until_written(directory.path(), "b").await;
    keeper.stop().await;
    assert_eq!(names(directory.path()), ["health.3.journal", FILE, LOCK]);
}

#[tokio::test(start_paused = true)]
async fn when_everything_is_new_it_is_written_as_a_whole() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (_keeper, _) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    for (tag, number) in [("b", 2), ("c", 3)] {
        *script.known.lock().unwrap() = memory(tag);
        script.untold.lock().unwrap().everything = true;
        until("it is asked for everything", || script.asked() == number).await;
        until_written(directory.path(), tag).await;
        until("the journal before is gone", || journals_of(directory.path()).0.len() == 1).await;
        assert!(!holds(directory.path(), "a"), "old states are gone");
    }
}

#[tokio::test(start_paused = true)]
async fn the_age_of_what_is_written_is_known() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (_keeper, _) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    let before = journals_of(directory.path()).1;
    tokio::time::sleep(SECOND * 550).await;
    assert_eq!(journals_of(directory.path()).1, before);
    tokio::time::sleep(SECOND * 60).await;
    until("it is told that nothing has changed", || journals_of(directory.path()).1 > before).await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_directory_has_all_that_is_known_at_once() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let script = Script::start();
    let (keeper, _) = script.keeper(None);
    tokio::time::sleep(SECOND * 5).await;
    assert_eq!(script.asked(), 0, "without a directory nobody is asked");
    for directory in [&one, &two] {
        keeper.place().send_replace(Some(StateDirectory::take(directory.path().into()).unwrap()));
        until_written(directory.path(), "a").await;
    }
    StateDirectory::take(one.path().into()).expect("the previous directory is free");
    assert!(StateDirectory::take(two.path().into()).is_err(), "the present directory is locked");
    keeper.place().send_replace(None);
    script.learn("b");
    keeper.stop().await;
    assert!(holds(two.path(), "a") && !holds(two.path(), "b"));
    StateDirectory::take(two.path().into()).expect("it is free after the end");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_written_is_tried_again_and_costs_nothing_else() {
    let directory = TempDir::new().unwrap();
    let gone = directory.path().join("gone");
    let script = Script::start();
    let (keeper, metrics) = script.keeper(Some(&gone));
    until("two failures", || failures(&metrics) == "steerd_state_write_failures_total 2").await;
    fs::create_dir(&gone).unwrap();
    until_written(&gone, "a").await;
    // The directory is removed while in use.
    fs::remove_dir_all(&gone).unwrap();
    script.learn("b");
    until("a third failure", || failures(&metrics) == "steerd_state_write_failures_total 3").await;
    fs::create_dir(&gone).unwrap();
    *script.known.lock().unwrap() = memory("c");
    until_written(&gone, "c").await;
    keeper.stop().await;
    assert!(holds(&gone, "c"));
}

/// A full disk: the snapshot fails, and the journal begun for it stays in use.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_fails_is_made_later_and_the_journal_goes_on() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (keeper, metrics) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    // A directory blocks the new snapshot, because it cannot be deleted like a file.
    let obstacle = directory.path().join("health.json.new");
    fs::create_dir(&obstacle).unwrap();
    while journals_of(directory.path()).0.len() < 2 {
        (0..4_000).for_each(|flip| script.flip(flip));
        tokio::time::sleep(SECOND).await;
    }
    until("it fails again and again", || failures(&metrics) == "steerd_state_write_failures_total 3").await;
    assert_eq!(journals_of(directory.path()).0, [1, 2], "no journal for each attempt");
    script.learn("b");
    until_written(directory.path(), "b").await;
    fs::remove_dir(&obstacle).unwrap();
    until("the snapshot is made", || journals_of(directory.path()).0 == [2]).await;
    keeper.stop().await;
    assert!(holds(directory.path(), "b"));
}

/// During a snapshot, and if another becomes necessary meanwhile: a kill at any moment loses no
/// change older than a second.
#[tokio::test(start_paused = true)]
async fn what_changes_while_snapshots_are_made_is_in_a_journal() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    script.is_busy.store(true, Ordering::Relaxed);
    let (_keeper, _) = script.keeper(Some(directory.path()));
    until("the first is begun", || script.asked() == 1).await;
    script.drain("before any snapshot");
    tokio::time::sleep(SECOND).await;
    until("it is in the journal", || is_drained(directory.path(), "before any snapshot")).await;
    assert!(!directory.path().join(FILE).exists());
    // Names, order or times change before that snapshot is written.
    script.untold.lock().unwrap().everything = true;
    script.drain("beside everything");
    until("it is in the journal", || is_drained(directory.path(), "beside everything")).await;
    assert_eq!((script.asked(), directory.path().join(FILE).exists()), (1, false));
    script.is_busy.store(false, Ordering::Relaxed);
    until("the second is asked for", || script.asked() == 2).await;
}

/// A disk whose syncs block while it is stuck.
#[derive(Clone, Default)]
struct Slow(Arc<(Mutex<bool>, Condvar)>);

impl Slow {
    fn set(&self, is_stuck: bool) {
        *self.0.0.lock().unwrap() = is_stuck;
        self.0.1.notify_all();
    }
}

impl Disk for Slow {
    type File = fs::File;

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        System.remove(path)
    }

    fn create(&mut self, path: &Path) -> io::Result<fs::File> {
        System.create(path)
    }

    fn sync(&mut self, file: &mut fs::File) -> io::Result<()> {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(guard, |is_stuck| *is_stuck).unwrap());
        System.sync(file)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        System.sync_directory(directory)
    }
}

/// Uses the real clock, because a blocked thread stops the paused one.
#[tokio::test]
async fn a_file_system_that_does_not_answer_holds_up_neither_another_directory_nor_the_end() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let script = Script::start();
    let disk = Slow::default();
    let place = StateDirectory::take(one.path().into()).unwrap();
    let keeper =
        Keeper::start_on(disk.clone(), Some(place), script.handle.clone(), Arc::new(Metrics::new(1)));
    until_written(one.path(), "a").await;
    disk.set(true);
    script.drain("stuck");
    until("it is written", || is_drained(one.path(), "stuck")).await;
    keeper.place().send_replace(Some(StateDirectory::take(two.path().into()).unwrap()));
    until("another journal is begun", || !journals_of(two.path()).0.is_empty()).await;
    let began = std::time::Instant::now();
    keeper.stop().await;
    assert!(began.elapsed() < SECOND * 4, "{:?}", began.elapsed());
    disk.set(false);
}

/// Also uses the real clock.
#[tokio::test]
async fn what_a_file_system_has_not_confirmed_is_written_to_the_next_directory() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (script, disk) = (Script::start(), Slow::default());
    let place = StateDirectory::take(one.path().into()).unwrap();
    let keeper =
        Keeper::start_on(disk.clone(), Some(place), script.handle.clone(), Arc::new(Metrics::new(1)));
    until_written(one.path(), "a").await;
    disk.set(true);
    script.drain("unconfirmed");
    until("it is written", || is_drained(one.path(), "unconfirmed")).await;
    keeper.place().send_replace(Some(StateDirectory::take(two.path().into()).unwrap()));
    until("another journal is begun", || !journals_of(two.path()).0.is_empty()).await;
    disk.set(false);
    until("it is there as well", || is_drained(two.path(), "unconfirmed")).await;
    keeper.stop().await;
}

/// Snapshots fail, and the journals reach their limits: first another journal, then no more.
#[tokio::test(start_paused = true)]
async fn journals_have_a_bound_while_no_snapshot_can_be_written() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (keeper, _) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    let obstacle = directory.path().join("health.json.new");
    fs::create_dir(&obstacle).unwrap();
    let lengths = || -> Vec<u64> {
        let length = |(_, path): (u64, PathBuf)| fs::metadata(path).unwrap().len();
        journals(directory.path()).into_iter().map(length).collect()
    };
    // Long reasons make large journals from few changes.
    let reason = "x".repeat(8 << 20);
    let kept = || RememberedOverride { reason: Some(reason.clone()), ..memory("a").overrides.remove(1) };
    for _ in 0..40 {
        let before = lengths();
        script.untold.lock().unwrap().overrides.push(kept());
        until("it is written, or writing has stopped", || {
            lengths() != before || lengths().iter().sum::<u64>() >= MAX_JOURNALS
        })
        .await;
        if lengths().iter().sum::<u64>() >= MAX_JOURNALS {
            break;
        }
    }
    let full = lengths();
    assert!(full.len() > 2, "{full:?}");
    assert!(full.iter().all(|length| *length < MAX_FILE), "each of them is read: {full:?}");
    script.drain("noted");
    tokio::time::sleep(SECOND * 25).await;
    assert_eq!(lengths(), full, "writing has stopped");
    fs::remove_dir(&obstacle).unwrap();
    until("a snapshot takes their place", || lengths().iter().sum::<u64>() < 1 << 20).await;
    until("the pending changes are written", || is_drained(directory.path(), "noted")).await;
    keeper.stop().await;
}
