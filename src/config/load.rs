//! Loads a configuration on a separate thread, and abandons the load after a time limit.
//!
//! A network file system may hang for hours without returning an error. The thread that waits for it is abandoned, and
//! ends when the file system answers. Later loads do not access the path for which it waits.
//!
//! ```text
//! loading --done--> its result
//!    `--LOAD_TIME is over, or its reading is given up--> a fault --the file system answers--> ended
//! ```

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::config::fault::{ConfigFault, ConfigFaults, Location, Severity};
use crate::duration::Shown;
use crate::file::{Reading, ReadingPhase};

/// The time limit for loading a configuration with all files that it names.
pub(super) const LOAD_TIME: Duration = Duration::from_secs(30);
/// The most abandoned loads that may still wait, each for a different path. If there are more, no load starts.
const MAX_GIVEN_UP: usize = 8;
/// An abandoned load ends within this time unless it hangs.
const END_TIME: Duration = Duration::from_secs(1);

/// Reports the end of a load when it is dropped, even by a panic.
struct Ending(Arc<Reading>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Runs `work`, which reads `path` and the files that it names with `reading`.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    path: &Path,
    reading: &Arc<Reading>,
    work: impl FnOnce(&Arc<Reading>) -> Result<T, ConfigFaults> + Send + 'static,
) -> Result<T, ConfigFaults> {
    let hanging = Reading::count_hanging();
    if hanging >= MAX_GIVEN_UP {
        let message = format!("{hanging} attempts to load a configuration still wait for a file system");
        return Err(fault(path, message, "make sure that it responds again, or restart steerd"));
    }
    let ending = Ending(Arc::clone(reading));
    let started = thread::Builder::new().name("load".into()).spawn(move || work(&ending.0));
    let thread = started.map_err(|error| {
        fault(path, format!("cannot start a thread to read it: {error}"), "see its limits")
    })?;
    match reading.wait_while(ReadingPhase::GoingOn, time) {
        ReadingPhase::Ended => {
            let result = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            match reading.hangs_at() {
                Some(at) => {
                    let message = "an earlier attempt to load the configuration still waits for this file";
                    Err(fault(&at, message.into(), ANSWERS))
                }
                None => result,
            }
        }
        phase => {
            let at = reading.give_up();
            // A load that does not hang ends within this time.
            let _ = reading.wait_while(ReadingPhase::GivenUp, END_TIME);
            let message = if phase == ReadingPhase::GoingOn {
                format!("the configuration could not be read within {}; it waited here", Shown(time))
            } else {
                "loading the configuration was given up; it waited here".to_owned()
            };
            Err(fault(&at, message, ANSWERS))
        }
    }
}

const ANSWERS: &str = "make sure that the file system responds, then load it again";

fn fault(path: &Path, message: String, hint: &str) -> ConfigFaults {
    let location = Location::whole(path.into());
    ConfigFaults::new(vec![ConfigFault {
        severity: Severity::Error,
        message,
        location,
        hint: Some(hint.into()),
        related: None,
    }])
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Instant;

    use super::*;

    /// A load that hangs at `at` until the sender is dropped.
    fn hang(at: &'static str, released: Receiver<()>) -> Result<(), ConfigFaults> {
        within(Duration::from_millis(50), Path::new("main"), &Arc::default(), move |reading| {
            reading.look_at(Path::new(at)).unwrap();
            let _ = released.recv();
            assert!(reading.look_at(Path::new("next")).is_err(), "it reads no further file");
            Ok(())
        })
    }

    #[test]
    fn a_load_that_hangs_is_given_up_on_and_retries_leave_no_thread() {
        let (release, released) = channel::<()>();
        let told = hang("slow", released).unwrap_err().render(false);
        assert!(told.contains("could not be read within 50ms") && told.contains("--> slow"), "{told}");
        for _ in 0..3 * MAX_GIVEN_UP {
            let began = Instant::now();
            let refused = within(LOAD_TIME, Path::new("main"), &Arc::default(), |reading| {
                let _ = reading.look_at(Path::new("slow"));
                Ok(())
            });
            let told = refused.unwrap_err().render(false);
            assert!(told.contains("still waits for this file") && told.contains("--> slow"), "{told}");
            assert!(began.elapsed() < LOAD_TIME);
        }
        let mended = within(LOAD_TIME, Path::new("main"), &Arc::default(), |reading| {
            reading.look_at(Path::new("quick")).map_err(|_| ConfigFaults::default())
        });
        assert_eq!(mended, Ok(()));
        drop(release);
        let deadline = Instant::now() + LOAD_TIME;
        while Reading::default().look_at(Path::new("slow")).is_err() {
            assert!(Instant::now() < deadline, "it has not ended");
            thread::yield_now();
        }
    }

    #[test]
    fn a_load_that_nobody_wants_is_given_up_on() {
        let reading = Arc::new(Reading::default());
        let unwanted = Arc::clone(&reading);
        let result = within(LOAD_TIME, Path::new("main"), &reading, move |reading| {
            reading.look_at(Path::new("long")).unwrap();
            unwanted.give_up();
            while reading.goes_on() {}
            Ok(())
        });
        let told = result.unwrap_err().render(false);
        assert!(told.contains("was given up;") && told.contains("--> long"), "{told}");
    }

    #[test]
    fn a_load_that_breaks_off_is_no_hang() {
        let broken = std::panic::catch_unwind(|| {
            within(LOAD_TIME, Path::new("main"), &Arc::default(), |_| -> Result<(), ConfigFaults> {
                panic!("broken")
            })
        });
        assert!(broken.is_err());
    }
}
