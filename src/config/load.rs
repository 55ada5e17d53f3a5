//! Loading as others wait for it: in a thread of its own, and for a time only.
//!
//! A file system of the network may not answer for hours, and no call says so. The thread that
//! waits for it is left behind then, and ends when it is answered; a later load does not wait for it.
//!
//! ```text
//! loading --done--> its result
//!    `--LOAD_TIME is over--> given up: a fault that names the file --the file system answers--> ended
//! ```

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::config::fault::{Fault, Faults, Place, Severity};
use crate::config::value::Shown;
use crate::file::Reading;

/// The longest a configuration may take, with all files that it names.
pub(super) const LOAD_TIME: Duration = Duration::from_secs(30);
/// So many loads that were given up on may still wait for a file system; with more, none begins.
const MAX_GIVEN_UP: usize = 8;

/// The loads that were given up on and have not ended.
static GIVEN_UP: Mutex<Vec<Weak<Reading>>> = Mutex::new(Vec::new());

/// Runs `work`, which reads `path` and what it names by the reading that it is given.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    path: &Path,
    work: impl FnOnce(&Arc<Reading>) -> Result<T, Faults> + Send + 'static,
) -> Result<T, Faults> {
    let hung = {
        let mut given_up = GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
        given_up.retain(|reading| reading.strong_count() > 0);
        given_up.len()
    };
    if hung >= MAX_GIVEN_UP {
        let message = format!("{hung} attempts to load a configuration still wait for a file system");
        return Err(fault(path, message, "see that it answers again, or restart steerd"));
    }
    let reading = Arc::new(Reading::default());
    let (reply, outcome) = sync_channel(1);
    let own = Arc::clone(&reading);
    let started = thread::Builder::new().name("load".into()).spawn(move || {
        let result = work(&own);
        // The others count this load as ended from here on.
        drop(own);
        // Nobody may be waiting any more.
        let _ = reply.send(result);
    });
    let thread = started.map_err(|error| {
        fault(path, format!("the system gives no thread to read it: {error}"), "see its limits")
    })?;
    match outcome.recv_timeout(time) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => {
            let at = reading.give_up();
            let mut given_up = GIVEN_UP.lock().unwrap_or_else(PoisonError::into_inner);
            given_up.push(Arc::downgrade(&reading));
            let message =
                format!("the configuration could not be read within {}; it waited here", Shown(time));
            Err(fault(&at, message, "see that the file system answers, then load it again"))
        }
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(panic) => resume_unwind(panic),
            Ok(()) => Err(fault(path, "reading it broke off".into(), "please report this")),
        },
    }
}

fn fault(path: &Path, message: String, hint: &str) -> Faults {
    let place = Place::whole(path.into());
    Faults::new(vec![Fault {
        severity: Severity::Error,
        message,
        place,
        hint: Some(hint.into()),
        related: None,
    }])
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_load_that_hangs_is_given_up_on_and_the_next_one_runs() {
        let (release, released) = channel::<()>();
        let (ended, end) = channel();
        let hung = within(Duration::from_millis(50), Path::new("main"), move |reading| {
            reading.look_at(Path::new("slow")).unwrap();
            // Until the file system answers, which is when the sender goes.
            let _ = released.recv();
            ended.send(reading.look_at(Path::new("next")).is_err()).unwrap();
            Ok(())
        });
        let faults = hung.unwrap_err();
        let told = faults.render(false);
        assert!(told.contains("could not be read within 50ms") && told.contains("--> slow"), "{told}");
        assert_eq!(within(LOAD_TIME, Path::new("main"), |_| Ok(1)), Ok(1));
        drop(release);
        assert!(end.recv().unwrap(), "it reads no further file");
    }

    #[test]
    fn a_load_that_breaks_off_is_no_hang() {
        let broken = std::panic::catch_unwind(|| {
            within(LOAD_TIME, Path::new("main"), |_| -> Result<(), Faults> { panic!("broken") })
        });
        assert!(broken.is_err());
    }
}
