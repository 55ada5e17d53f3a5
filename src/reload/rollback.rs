//! The way back: keeps the sets of files that were loaded, and finds the one to go back to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;

use crate::events::tell;
use crate::file::Reading;
use crate::reload::running::RunningSet;
use crate::reload::{Reach, ReloadRefusal};
use crate::sets::{self, KeptSet, SetHead, SetOccasion};

/// Time limit for reading or writing a set. Later reloads wait meanwhile.
const SET_TIME: Duration = Duration::from_secs(5);

/// The last attempt to write a set.
#[derive(Debug, Default)]
pub(super) struct SetKeeping(Option<AbortHandle>);

impl SetKeeping {
    /// Keeps the running set in the present `state_dir`, if there is one; of a set that is kept already, that it runs.
    /// Returns its number.
    pub(super) async fn keep(&mut self, reach: &Reach, set: &RunningSet, changes: String) -> Option<u64> {
        let Some(place) = reach.state_dir.borrow().clone() else { return set.number };
        let main = set.main.clone()?;
        let main = std::path::absolute(&main).unwrap_or(main);
        let at = Timestamp::try_from(set.loaded).unwrap_or(Timestamp::UNIX_EPOCH);
        let occasion = SetOccasion { main, at, by: set.by.clone(), changes };
        let record = Arc::clone(&set.record);
        // An attempt in a directory that does not respond blocks its thread, so there is only one at a time.
        let kept = if self.0.as_ref().is_some_and(|earlier| !earlier.is_finished()) {
            Err("an earlier attempt still waits for the file system".to_owned())
        } else {
            let number = set.number;
            let work = spawn_blocking(move || match number {
                None => sets::keep(place.directory(), &record.files, occasion),
                Some(number) => sets::set_running(place.directory(), number).map(|()| number),
            });
            self.0 = Some(work.abort_handle());
            match timeout(SET_TIME, work).await {
                Ok(Ok(kept)) => kept.map_err(|error| error.to_string()),
                Ok(Err(_)) => Err("keeping it panicked; this is a bug in steerd".into()),
                Err(_) => Err(format!("the file system takes longer than {SET_TIME:?}")),
            }
        };
        let refused = match kept {
            Ok(number) => return Some(number),
            Err(reason) => reason,
        };
        let consequence = match set.number {
            None => "no rollback leads to it",
            Some(_) => "a start with the last good configuration may run another one",
        };
        tell!(
            reach.events.now(),
            warn,
            Reload,
            reason = refused,
            "the configuration is in force, but could not be kept in state_dir: {consequence}"
        );
        set.number
    }
}

/// The set with this number; without one, the one before the running set.
pub(super) async fn find(
    reach: &Reach,
    running: &RunningSet,
    number: Option<u64>,
) -> Result<KeptSet, ReloadRefusal> {
    let refuse = |reason: &str| ReloadRefusal::NoSet(reason.into());
    let Some(place) = reach.state_dir.borrow().clone() else {
        return Err(refuse("no configurations are kept, because no state_dir is set under [server]"));
    };
    let Some(main) = running.main.as_ref().and_then(|main| std::path::absolute(main).ok()) else {
        return Err(ReloadRefusal::NoFile);
    };
    let (own, sha256) = (running.number, running.sha256.clone());
    let work = move || {
        let heads = sets::list(place.directory()).map_err(|error| error.to_string())?;
        let number = match number {
            Some(number) if heads.iter().any(|head| number_of(head) == number) => number,
            Some(number) => return Err(unknown(number, &heads)),
            None => before(&heads, own, &sha256).ok_or("no earlier configuration is kept")?,
        };
        let set = sets::open(place.directory(), number)?;
        if Path::new(&set.head.main) != main {
            return Err(format!(
                "the configuration {number} is that of {}, and this server runs {}",
                set.head.main,
                main.display()
            ));
        }
        Ok(set)
    };
    match timeout(SET_TIME, spawn_blocking(work)).await {
        Ok(Ok(found)) => found.map_err(|reason| refuse(&reason)),
        Ok(Err(_)) => Err(ReloadRefusal::BrokeOff),
        Err(_) => Err(refuse(&format!("the file system of state_dir takes longer than {SET_TIME:?}"))),
    }
}

/// A reading of the texts of a set.
pub(super) fn reading_of(set: &KeptSet) -> Reading {
    Reading::of_kept(set.texts.clone())
}

fn number_of(head: &Result<SetHead, (u64, String)>) -> u64 {
    head.as_ref().map_or_else(|(number, _)| *number, |head| head.number)
}

fn unknown(number: u64, heads: &[Result<SetHead, (u64, String)>]) -> String {
    let kept: Vec<String> = heads.iter().map(|head| number_of(head).to_string()).collect();
    if kept.is_empty() {
        return format!("there is no configuration {number}: none is kept");
    }
    format!("there is no configuration {number}; kept are {}", kept.join(", "))
}

/// The newest set that is older than the running one. If that is not kept, the newest that differs from it.
fn before(heads: &[Result<SetHead, (u64, String)>], own: Option<u64>, sha256: &str) -> Option<u64> {
    let mut sound = heads.iter().flatten();
    let found = match own {
        Some(own) => sound.find(|head| head.number < own),
        None => sound.find(|head| head.sha256 != sha256),
    };
    found.map(|head| head.number)
}
