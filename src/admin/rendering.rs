//! Renders replies one at a time on a separate thread, and shares each with all clients that wait
//! for it.
//!
//! ```text
//! requested --> waits for its turn --> rendered --> goes to all clients that asked before it began
//!                    |                    |
//!                    +--------------------+--> ends when all these clients have left
//! ```
//!
//! Later requests do not get a rendering that has begun. So a reply is never older than its
//! request, and for any number of requests at most one rendering runs while another waits. The
//! content of renderings does not matter here.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::admin::problem::Problem;
use crate::admin::text::Held;
use crate::sys::process::give_way;

/// Time limit for a rendering, including the wait for its turn.
const RENDERING_TIME: Duration = Duration::from_secs(30);
/// The pause between two checks of the memory that texts use.
const HELD_PAUSE: Duration = Duration::from_millis(50);

/// Renderings of one kind, by key.
#[derive(Debug)]
pub(super) struct Renderings<K, V>(Arc<RenderingQueue<K, V>>);

#[derive(Debug)]
struct RenderingQueue<K, V> {
    turn: Arc<Semaphore>,
    held: Held,
    /// No rendering starts while texts use more memory than this, bytes.
    most_held: usize,
    /// Renderings that have not started, with the channel to the waiting requests.
    next: Mutex<HashMap<K, Sender<V>>>,
}

type Sender<V> = Arc<watch::Sender<Option<Result<V, Problem>>>>;

impl<K, V> Clone for Renderings<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Renderings<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Renderings with the same `turn` run one at a time.
    pub(super) fn new(turn: &Arc<Semaphore>, held: &Held, most_held: usize) -> Self {
        let (turn, held) = (Arc::clone(turn), held.clone());
        Self(Arc::new(RenderingQueue { turn, held, most_held, next: Mutex::default() }))
    }

    /// Returns the result of a rendering that begins after this call: an identical one that still
    /// waits, otherwise `render`. `render` may block, and gets a function that returns whether the
    /// result is still wanted.
    pub(super) async fn get<R>(&self, key: K, render: R) -> Result<V, Problem>
    where
        R: FnOnce(&dyn Fn() -> bool) -> Result<V, Problem> + Send + 'static,
    {
        let mut seen = {
            let mut next = self.next();
            if let Some(sender) = next.get(&key) {
                sender.subscribe()
            } else {
                let (sender, seen) = watch::channel(None);
                let sender = Arc::new(sender);
                next.insert(key.clone(), Arc::clone(&sender));
                tokio::spawn(self.clone().take_turn(key, sender, render));
                seen
            }
        };
        let made = timeout(RENDERING_TIME, seen.wait_for(Option::is_some)).await;
        match made.map(|made| made.ok().and_then(|made| made.clone())) {
            Ok(Some(made)) => made,
            Ok(None) => {
                let detail = "the reply could not be written; this is a bug in steerd, please report it";
                Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
            }
            Err(_) => {
                let detail = format!(
                    "the reply could not be written within {RENDERING_TIME:?}: this machine or the checker is \
                     too busy, or many clients read too slowly; try again"
                );
                Err(Problem::busy(detail))
            }
        }
    }

    async fn take_turn<R>(self, key: K, sender: Sender<V>, render: R)
    where
        R: FnOnce(&dyn Fn() -> bool) -> Result<V, Problem> + Send + 'static,
    {
        let mut turn = pin!(self.turn());
        let turn = loop {
            tokio::select! {
                biased;
                turn = turn.as_mut() => break turn,
                () = sender.closed() => {}
            }
            // Other requests may have joined since.
            if self.is_abandoned(&key, &sender) {
                return;
            }
        };
        // Later requests wait for the next rendering.
        self.next().remove(&key);
        if turn.is_none() || sender.is_closed() {
            return;
        }
        let work = move || {
            give_way();
            let made = render(&|| !sender.is_closed());
            sender.send_replace(Some(made));
            drop(turn);
        };
        // If no thread can be started, dropping the sender notifies the waiting requests.
        let _ = thread::Builder::new().name("rendering".into()).spawn(work);
    }

    /// Waits until no other rendering runs and texts use no more memory than allowed.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        let turn = Arc::clone(&self.0.turn).acquire_owned().await.ok()?;
        while self.0.held.is_above(self.0.most_held) {
            sleep(HELD_PAUSE).await;
        }
        Some(turn)
    }

    /// Whether all requests have been dropped. Then none can join any more.
    fn is_abandoned(&self, key: &K, sender: &Sender<V>) -> bool {
        let mut next = self.next();
        let is_abandoned = sender.is_closed();
        if is_abandoned {
            next.remove(key);
        }
        is_abandoned
    }

    fn next(&self) -> MutexGuard<'_, HashMap<K, Sender<V>>> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::admin::text::MOST_HELD;

    fn renderings() -> Renderings<u32, usize> {
        Renderings::new(&Arc::new(Semaphore::new(1)), &Held::default(), MOST_HELD)
    }

    /// Waits for a condition that another thread or task fulfils.
    async fn until(mut holds: impl FnMut() -> bool) {
        let wait = async {
            while !holds() {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect("it becomes true");
    }

    #[tokio::test]
    async fn all_who_wait_share_one_and_none_is_older_than_the_request() {
        let renderings = renderings();
        let count = Arc::new(AtomicUsize::new(0));
        let (go, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let ask = || {
            let (renderings, count, gate) = (renderings.clone(), Arc::clone(&count), Arc::clone(&gate));
            tokio::spawn(async move {
                let render = move |_: &dyn Fn() -> bool| {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    gate.lock().unwrap().recv().unwrap();
                    Ok(number)
                };
                renderings.get(0, render).await
            })
        };
        let first = ask();
        until(|| count.load(Ordering::SeqCst) == 1).await;
        let others: Vec<_> = (0..64).map(|_| ask()).collect();
        until(|| renderings.next().get(&0).is_some_and(|sender| sender.receiver_count() == 64)).await;
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(0));
        go.send(()).unwrap();
        for other in others {
            assert_eq!(other.await.unwrap(), Ok(1), "begun after the requests, and once for all of them");
        }
        assert!(renderings.next().is_empty());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_made_and_one_in_the_making_ends() {
        let renderings = renderings();
        let (made, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = |key: u32| {
            let (renderings, made, ended) = (renderings.clone(), Arc::clone(&made), Arc::clone(&ended));
            tokio::spawn(async move {
                let render = move |is_wanted: &dyn Fn() -> bool| {
                    made.fetch_add(1, Ordering::SeqCst);
                    while is_wanted() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    Ok(ended.fetch_add(1, Ordering::SeqCst))
                };
                renderings.get(key, render).await
            })
        };
        let first = ask(0);
        until(|| made.load(Ordering::SeqCst) == 1).await;
        let others: Vec<_> = (1..1000).map(ask).collect();
        until(|| renderings.next().len() == 999).await;
        others.iter().for_each(tokio::task::JoinHandle::abort);
        until(|| renderings.next().is_empty()).await;
        first.abort();
        until(|| ended.load(Ordering::SeqCst) == 1).await;
        until(|| renderings.0.turn.available_permits() == 1).await;
        assert_eq!(made.load(Ordering::SeqCst), 1, "abandoned renderings are not made");
    }

    #[tokio::test]
    async fn a_fault_is_told_to_all_and_the_next_is_made() {
        let renderings = renderings();
        let failed = renderings.get(0, |_| panic!("a planted fault")).await.unwrap_err();
        assert!(format!("{failed:?}").contains("please report it"), "{failed:?}");
        assert_eq!(renderings.get(0, |_| Ok(7)).await, Ok(7));
    }
}
