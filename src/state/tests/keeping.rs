//! The task that keeps the files, with a checker that says what the test wants.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::*;
use crate::checker::{Command, Handle};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::table::{Published, Table};
use crate::zone::Catalog;

const SECOND: Duration = Duration::from_secs(1);

/// A checker that knows what it is told to, and counts how often it is asked for everything.
#[derive(Clone)]
struct Script {
    handle: Handle,
    known: Arc<Mutex<Memory>>,
    untold: Arc<Mutex<MemoryChanges>>,
    asked: Arc<AtomicU32>,
}

impl Script {
    fn start() -> Self {
        let (commands, mut received) = mpsc::channel(1);
        let handle = Handle { published: Published::new(table()), ready: watch::channel(true).1, commands };
        let script = Self {
            handle,
            known: Arc::new(Mutex::new(memory("a"))),
            untold: Arc::default(),
            asked: Arc::default(),
        };
        script.untold.lock().unwrap().everything = true;
        let Self { known, untold, asked, .. } = script.clone();
        tokio::spawn(async move {
            while let Some(command) = received.recv().await {
                match command {
                    Command::Memory(reply) => {
                        asked.fetch_add(1, Ordering::Relaxed);
                        untold.lock().unwrap().everything = false;
                        let _ = reply.send(known.lock().unwrap().clone());
                    }
                    Command::MemoryChanges(reply) => {
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

    /// From now on the memory is another.
    fn learn(&self, tag: &str) {
        *self.known.lock().unwrap() = memory(tag);
        self.untold.lock().unwrap().states.extend(memory(tag).states);
    }

    /// One backend has flipped.
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
        let place = directory.map(|directory| Place::unlocked(directory.into()));
        (Keeper::start(place, self.handle.clone(), Arc::clone(&metrics)), metrics)
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn table() -> Table {
    Table {
        generation: 1,
        settings: Arc::new(Settings::default()),
        catalog: Arc::new(Catalog::new(Vec::new())),
        services: Arc::new([]),
        pools: Box::new([]),
    }
}

/// Waits on the paused clock, which goes on while threads work.
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

/// The numbers of the journals, and the bytes of the last one.
fn journals_of(directory: &Path) -> (Vec<u64>, u64) {
    let found = journals(directory);
    let bytes =
        found.last().and_then(|(_, path)| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len());
    (found.into_iter().map(|(number, _)| number).collect(), bytes)
}

fn failures(metrics: &Metrics) -> String {
    let text = metrics.render(&table());
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
    // At the end without delay.
    script.learn("c");
    keeper.stop().await;
    assert!(holds(directory.path(), "c") && holds(directory.path(), "b"));
    assert_eq!(script.asked(), 1);
}

/// The whole is written once; from then on as many bytes as there are flips, whatever the fleet has.
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
    until("those before are deleted", || journals_of(directory.path()).0 == [3]).await;
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
        until("the journal before is gone", || journals_of(directory.path()).0 == [u64::from(number)]).await;
        assert!(!holds(directory.path(), "a"), "what is no more is not remembered");
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
        keeper.place().send_replace(Some(Place::take(directory.path().into()).unwrap()));
        until_written(directory.path(), "a").await;
    }
    Place::take(one.path().into()).expect("the one before is free");
    assert!(Place::take(two.path().into()).is_err(), "the present one is not");
    keeper.place().send_replace(None);
    script.learn("b");
    keeper.stop().await;
    assert!(holds(two.path(), "a") && !holds(two.path(), "b"));
    Place::take(two.path().into()).expect("it is free after the end");
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
    // It is taken away while it is in use.
    fs::remove_dir_all(&gone).unwrap();
    script.learn("b");
    until("a third failure", || failures(&metrics) == "steerd_state_write_failures_total 3").await;
    fs::create_dir(&gone).unwrap();
    *script.known.lock().unwrap() = memory("c");
    until_written(&gone, "c").await;
    keeper.stop().await;
    assert!(holds(&gone, "c"));
}

/// A full disk: the snapshot fails, and the journal that was begun for it goes on meanwhile.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_fails_is_made_later_and_the_journal_goes_on() {
    let directory = TempDir::new().unwrap();
    let script = Script::start();
    let (keeper, metrics) = script.keeper(Some(directory.path()));
    until_written(directory.path(), "a").await;
    // What is in the way of a new snapshot, and cannot be deleted as a file.
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
