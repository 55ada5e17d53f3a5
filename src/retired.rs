//! Keeps replaced tables and zones until their last readers release them.
//!
//! Freeing a zone of a million records takes long, so threads that answer queries or probe backends must not do
//! it. A separate thread holds each replaced table until its last reader has released it.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::table::Table;

/// The time between two checks whether readers have released a table.
const LOOK: Duration = Duration::from_millis(100);

/// A table, or its zones, which a transfer may hold longer.
type RetiredPart = Arc<dyn Any + Send + Sync>;

/// Takes replaced tables.
#[derive(Clone, Debug)]
pub struct Retired(Sender<RetiredPart>);

impl Retired {
    /// Starts the thread that frees. It ends when this handle is dropped and everything is freed.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let (sender, parts) = mpsc::channel();
        thread::Builder::new().name("retired-tables".into()).spawn(move || free(&parts))?;
        Ok(Self(sender))
    }

    /// Takes a table that was replaced with `now`.
    pub fn take(&self, table: Arc<Table>, now: &Table) {
        let zones = (!Arc::ptr_eq(&table.catalog, &now.catalog)).then(|| Arc::clone(&table.catalog));
        self.take_part(table);
        if let Some(zones) = zones {
            self.take_part(zones);
        }
    }

    fn take_part(&self, part: RetiredPart) {
        // The thread runs as long as this handle exists.
        let _ = self.0.send(part);
    }
}

/// Frees each part once it has no other holder. Then no new holder can appear.
fn free(parts: &Receiver<RetiredPart>) {
    let mut held: Vec<RetiredPart> = Vec::new();
    loop {
        let next = if held.is_empty() {
            parts.recv().map_err(RecvTimeoutError::from)
        } else {
            parts.recv_timeout(LOOK)
        };
        match next {
            Ok(part) => held.push(part),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if held.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
        }
        held.retain(|part| Arc::strong_count(part) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Reports which thread freed it.
    struct Planted(Sender<Option<String>>);

    impl Drop for Planted {
        fn drop(&mut self) {
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }

    #[test]
    fn a_part_is_freed_by_the_thread_once_its_last_reader_is_gone() {
        let retired = Retired::start().unwrap();
        let (sender, freed) = mpsc::channel();
        let part = Arc::new(Planted(sender));
        let readers: Vec<_> = (0..4).map(|_| Arc::clone(&part)).collect();
        let weak = Arc::downgrade(&part);
        retired.take_part(part);
        for reader in readers {
            assert!(freed.try_recv().is_err(), "it is read");
            drop(reader);
        }
        let began = Instant::now();
        let by = freed.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(by.as_deref(), Some("retired-tables"));
        assert!(weak.upgrade().is_none() && began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn what_is_held_at_the_end_is_still_freed_by_the_thread() {
        let retired = Retired::start().unwrap();
        let (sender, freed) = mpsc::channel();
        let part = Arc::new(Planted(sender));
        let reader = Arc::clone(&part);
        retired.take_part(part);
        drop(retired);
        drop(reader);
        let by = freed.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(by.as_deref(), Some("retired-tables"));
    }
}
