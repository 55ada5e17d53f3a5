//! The start with the last good configuration: which kept one can be loaded, and why others cannot.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::fault::ConfigFaults;
use crate::config::{self, SetOrigin, Setup};
use crate::file::Reading;
use crate::sets::{self, SetHead};

/// Time limit for finding a configuration that can be loaded. A supervisor waits for the start.
const FIND_TIME: Duration = Duration::from_secs(60);

/// The outcome of a start with the last good configuration.
#[derive(Debug, Default)]
pub(super) struct LastGood {
    /// The configuration that can be loaded.
    pub(super) setup: Option<Box<Setup>>,
    /// Why earlier attempts have failed, as sentences.
    pub(super) failed: Vec<String>,
}

/// An attempt with one configuration.
type LoadAttempt = Result<Box<Setup>, String>;

/// The last good configuration for the main file, if its files have these faults and it allows such a start.
pub(super) fn find(main: &Path, faults: &ConfigFaults) -> LastGood {
    let Some(state_dir) = config::state_dir_for_last_good(main) else { return LastGood::default() };
    let first = faults.errors().next();
    let reason = first.map_or_else(String::new, |fault| format!("{}: {}", fault.location, fault.message));
    let (told, attempts) = channel();
    let main = main.to_owned();
    // A file system may hang, and then this thread stays behind.
    let started = thread::Builder::new()
        .name("last-good".into())
        .spawn(move || try_all(&main, &state_dir, &reason, &told));
    match started {
        Ok(_) => first_that_loads(&attempts, FIND_TIME),
        Err(error) => {
            LastGood { setup: None, failed: vec![format!("cannot start a thread to look for it: {error}")] }
        }
    }
}

fn first_that_loads(attempts: &Receiver<LoadAttempt>, time: Duration) -> LastGood {
    let deadline = Instant::now() + time;
    let mut found = LastGood::default();
    loop {
        match attempts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(setup)) => {
                found.setup = Some(setup);
                return found;
            }
            Ok(Err(reason)) => found.failed.push(reason),
            Err(error) => {
                if error == RecvTimeoutError::Timeout {
                    found
                        .failed
                        .push(format!("none was loaded within {time:?}, so the others were not tried"));
                }
                return found;
            }
        }
    }
}

/// Tries one after the other until one can be loaded.
fn try_all(main: &Path, state_dir: &Path, reason: &str, told: &Sender<LoadAttempt>) {
    let own = std::path::absolute(main).unwrap_or_else(|_| main.to_owned());
    let heads = match candidates(state_dir, &own) {
        Ok(heads) => heads,
        Err(reason) => return drop(told.send(Err(reason))),
    };
    for head in heads {
        let number = head.number;
        let attempt = load(main, state_dir, &head, reason);
        let is_found = attempt.is_ok();
        let attempt = attempt.map_err(|why| format!("the configuration {number} cannot be loaded: {why}"));
        if told.send(attempt).is_err() || is_found {
            return;
        }
    }
}

/// The configurations of the main file: the one that ran last, then those before it, then those that it had replaced.
fn candidates(state_dir: &Path, main: &PathBuf) -> Result<Vec<SetHead>, String> {
    let unreadable = |error| format!("the configurations in {} cannot be read: {error}", state_dir.display());
    let heads = sets::list(state_dir).map_err(unreadable)?;
    let mut heads: Vec<SetHead> =
        heads.into_iter().flatten().filter(|head| Path::new(&head.main) == main).collect();
    if heads.is_empty() {
        return Err(format!("{} has no configuration of {}", state_dir.display(), main.display()));
    }
    if let Some(running) = sets::running(state_dir) {
        // Newer ones than that were given up by a rollback. The order of the others stays.
        heads.sort_by_key(|head| head.number > running);
    }
    Ok(heads)
}

fn load(main: &Path, state_dir: &Path, head: &SetHead, reason: &str) -> Result<Box<Setup>, String> {
    let set = sets::open(state_dir, head.number)?;
    let reading = Arc::new(Reading::of_kept(set.texts));
    let setup = config::load_by(&reading, main).map_err(|faults| {
        let first = faults.errors().next();
        first.map_or_else(String::new, |fault| format!("{}: {}", fault.location, fault.message))
    })?;
    let origin = SetOrigin::LastGood { number: head.number, at: head.at, reason: reason.into() };
    Ok(Box::new(Setup { origin, ..setup }))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;
    use crate::file::FileKind;
    use crate::sets::SetOccasion;

    #[test]
    fn the_set_that_ran_last_is_the_first_one_to_be_tried() {
        let directory = TempDir::new().unwrap();
        let main = directory.path().join("steerd.toml");
        let keep = |text: &str| {
            std::fs::write(&main, text).unwrap();
            let reading = Reading::recorded();
            reading.read(&main, FileKind::Configuration, 99).unwrap();
            let occasion = SetOccasion {
                main: main.clone(),
                at: Timestamp::UNIX_EPOCH,
                by: String::new(),
                changes: String::new(),
            };
            sets::keep(directory.path(), &reading.record().files, occasion).unwrap()
        };
        let order = || {
            let heads = candidates(directory.path(), &main).unwrap();
            heads.iter().map(|head| head.number).collect::<Vec<_>>()
        };
        assert!(candidates(directory.path(), &main).unwrap_err().contains("has no configuration of"));
        assert_eq!(["a", "b", "c"].map(keep), [1, 2, 3]);
        assert_eq!(order(), [3, 2, 1]);
        sets::set_running(directory.path(), 2).unwrap();
        assert_eq!(order(), [2, 1, 3]);
        assert_eq!(keep("c"), 3, "the files of the set that was given up are loaded again");
        assert_eq!(order(), [3, 2, 1]);
    }

    #[test]
    fn a_search_that_hangs_ends_and_says_so() {
        let (told, attempts) = channel();
        told.send(Err("the configuration 3 cannot be loaded: a: b".into())).unwrap();
        let found = first_that_loads(&attempts, Duration::from_millis(20));
        assert!(found.setup.is_none());
        assert_eq!(found.failed.len(), 2);
        assert!(found.failed[1].contains("within 20ms"), "{:?}", found.failed);
        drop(told);
        assert!(first_that_loads(&attempts, FIND_TIME).failed.is_empty());
    }
}
