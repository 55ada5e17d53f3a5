//! NOTIFY (RFC 1996): tells the secondaries of a zone that its serial has increased.
//!
//! ```text
//! at start and after a reload: compare serials -> a serial has increased, or a secondary is new
//!                                              -> one task per secondary:
//!   send -> wait for the reply --- received ---> acknowledged | refused
//!     ^          | timeout                      (the task of an earlier serial is aborted)
//!     '--- pause, doubled each time --- after 6 attempts ---> unanswered
//! ```
//!
//! The table has the zones and their secondaries. The listeners and `answer::transfer` serve the
//! transfers that follow. A secondary that cannot be notified finds the new serial after the
//! refresh interval of the SOA record.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use crate::keys::Key;
use crate::metrics::{Metrics, Notified};
use crate::name::Name;
use crate::settings::Secondary;
use crate::sys::clock::unix_time;
use crate::table::Published;
use crate::wire::query::Header;
use crate::wire::tsig::{self, SignedRequest};
use crate::wire::{class, flag, opcode, rcode};
use crate::zone::{Zone, rtype};

/// Timeout for the reply to one attempt.
pub const REPLY_TIME: Duration = Duration::from_secs(2);
/// Pause after the first attempt; each further attempt doubles it.
pub const FIRST_REST: Duration = Duration::from_secs(2);
/// Number of attempts before steerd gives up on a secondary.
pub const ATTEMPTS: u32 = 6;
/// Maximum number of attempts in flight.
pub const AT_ONCE: usize = 64;
/// Maximum length of a message, bytes: a question and a signature, with names of up to 255 bytes.
const MESSAGE: usize = 1024;

/// Requests comparisons of serials. When the last clone is dropped, all notifications stop.
#[derive(Clone, Debug)]
pub struct NotifyHandle(mpsc::Sender<()>);

impl NotifyHandle {
    /// Requests a comparison of serials. Does not wait.
    pub fn look(&self) {
        // A comparison that was already requested will use the same table.
        let _ = self.0.try_send(());
    }
}

/// Starts the task that notifies secondaries. The source address is the first one in `listen` that
/// has the family of the secondary. Must be called within a tokio runtime.
#[must_use = "notifications stop when the handle is dropped"]
pub fn start(published: Published, listen: Vec<SocketAddr>, metrics: Arc<Metrics>) -> NotifyHandle {
    let (looks, mut due) = mpsc::channel(1);
    let context = Arc::new(NotifyContext { listen, metrics, at_once: Semaphore::new(AT_ONCE) });
    tokio::spawn(async move {
        let mut notifications = Notifications { context, known: HashMap::new(), tasks: JoinSet::new() };
        loop {
            tokio::select! {
                look = due.recv() => match look {
                    Some(()) => notifications.look(&published),
                    None => return,
                },
                Some(_) = notifications.tasks.join_next() => {}
            }
        }
    });
    NotifyHandle(looks)
}

/// State that all tasks share.
struct NotifyContext {
    listen: Vec<SocketAddr>,
    metrics: Arc<Metrics>,
    at_once: Semaphore,
}

/// The notifications started so far.
struct Notifications {
    context: Arc<NotifyContext>,
    /// For each zone and secondary: the last serial, and the task that sends it.
    known: HashMap<(Name, Secondary), (u32, Option<AbortHandle>)>,
    tasks: JoinSet<()>,
}

impl Notifications {
    fn look(&mut self, published: &Published) {
        let table = published.load();
        let transfers = &table.settings.transfers;
        let mut earlier = std::mem::take(&mut self.known);
        for (zone, secondaries) in &transfers.secondaries {
            let Some(serial) = table.catalog.find(zone.wire(), false).and_then(Zone::serial) else {
                continue;
            };
            for secondary in secondaries {
                let known = earlier.remove(&(zone.clone(), secondary.clone()));
                let task = match known {
                    Some((known, task)) if !is_newer(serial, known) => task,
                    earlier => {
                        if let Some((_, Some(task))) = earlier {
                            task.abort();
                        }
                        let key = secondary.key.as_ref().and_then(|key| transfers.keys.get(key)).cloned();
                        let telling = Telling { zone: zone.clone(), serial, address: secondary.address, key };
                        Some(self.tasks.spawn(telling.run(Arc::clone(&self.context))))
                    }
                };
                self.known.insert((zone.clone(), secondary.clone()), (serial, task));
            }
        }
        for (_, (_, task)) in earlier {
            if let Some(task) = task {
                task.abort();
            }
        }
    }
}

/// Whether `serial` is newer than `known` (RFC 1982, section 3.2).
fn is_newer(serial: u32, known: u32) -> bool {
    serial != known && serial.wrapping_sub(known) < 1 << 31
}

/// One notification: a secondary and a serial.
struct Telling {
    zone: Name,
    serial: u32,
    address: SocketAddr,
    key: Option<Arc<Key>>,
}

/// The result of an attempt.
enum AttemptResult {
    /// The code of the reply.
    Code(u16),
    /// No reply, with the reason if it is known.
    None(String),
}

impl Telling {
    async fn run(self, context: Arc<NotifyContext>) {
        let Self { zone, serial, address, .. } = &self;
        let zone = zone.to_plain();
        let mut rest = FIRST_REST;
        let mut reason = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(rest).await;
                rest *= 2;
            }
            // The semaphore is never closed.
            let Ok(_permit) = context.at_once.acquire().await else { return };
            context.metrics.operation.notified(Notified::Sent);
            match self.ask(&context.listen).await {
                Ok(AttemptResult::Code(rcode::NOERROR)) => {
                    context.metrics.operation.notified(Notified::Acknowledged);
                    info!(zone, serial, secondary = %address, "a secondary has acknowledged the new serial");
                    return;
                }
                Ok(AttemptResult::Code(code)) => {
                    context.metrics.operation.notified(Notified::Refused);
                    warn!(
                        zone, serial, secondary = %address,
                        "a secondary refuses NOTIFY with {}; check that it has this zone and accepts \
                         notifications from this server",
                        word(code)
                    );
                    return;
                }
                Ok(AttemptResult::None(why)) => reason = why,
                Err(error) => reason = error.to_string(),
            }
        }
        context.metrics.operation.notified(Notified::Unanswered);
        warn!(
            zone, serial, secondary = %address, reason,
            "a secondary has not answered NOTIFY in {ATTEMPTS} attempts; it will see the new serial after its \
             refresh interval"
        );
    }

    /// Makes one attempt.
    async fn ask(&self, listen: &[SocketAddr]) -> io::Result<AttemptResult> {
        let socket = UdpSocket::bind(SocketAddr::new(source(listen, self.address), 0)).await?;
        socket.connect(self.address).await?;
        let (query, asked) = self.query(rand::random())?;
        let mut heard = "no reply".to_owned();
        let replied = async {
            socket.send(&query).await?;
            let mut buffer = [0; MESSAGE];
            loop {
                let length = socket.recv(&mut buffer).await?;
                let reply = buffer.get(..length).unwrap_or(&[]);
                match code_of(reply, &query) {
                    Some(code)
                        if asked.as_ref().is_none_or(|asked| asked.is_answered_by(reply, unix_time())) =>
                    {
                        return io::Result::Ok(code);
                    }
                    // Without a valid signature, the reply may come from anyone.
                    Some(code) => heard = format!("a reply ({}) without a valid signature", word(code)),
                    None => {}
                }
            }
        };
        match tokio::time::timeout(REPLY_TIME, replied).await {
            Ok(code) => code.map(AttemptResult::Code),
            Err(_) => Ok(AttemptResult::None(heard)),
        }
    }

    /// Builds the message, signed if there is a key.
    fn query(&self, id: u16) -> io::Result<(Vec<u8>, Option<SignedRequest>)> {
        let flags = u16::from(opcode::NOTIFY) << 11 | flag::AA;
        let mut message = vec![0; MESSAGE];
        let numbers = [id, flags, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
        let question = [rtype::SOA, class::IN].map(u16::to_be_bytes).concat();
        let parts = [&numbers[..], self.zone.wire(), &question].concat();
        message.iter_mut().zip(&parts).for_each(|(slot, byte)| *slot = *byte);
        let mut length = parts.len();
        let mut asked = None;
        if let Some(key) = &self.key {
            let signed = tsig::sign_request(key, &mut message, length, unix_time());
            let (signed, waiting) = signed.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            length = signed;
            asked = Some(waiting);
        }
        message.truncate(length);
        Ok((message, asked))
    }
}

/// The response code, if `reply` is the reply to this notification.
fn code_of(reply: &[u8], query: &[u8]) -> Option<u16> {
    let (header, asked) = (Header::read(reply)?, Header::read(query)?);
    let is_reply = header.is_response() && header.id == asked.id && header.opcode() == opcode::NOTIFY;
    is_reply.then_some(header.flags & 0xf)
}

/// The standard name of a response code.
fn word(code: u16) -> String {
    match code {
        rcode::NOERROR => "NOERROR".into(),
        rcode::FORMERR => "FORMERR".into(),
        rcode::SERVFAIL => "SERVFAIL".into(),
        rcode::NOTIMP => "NOTIMP".into(),
        rcode::REFUSED => "REFUSED".into(),
        rcode::NOTAUTH => "NOTAUTH".into(),
        code => format!("code {code}"),
    }
}

/// The source address, by which the secondary recognizes this server: the first listen address of
/// its family.
fn source(listen: &[SocketAddr], to: SocketAddr) -> IpAddr {
    let of_family = listen.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == to.is_ipv4());
    of_family.unwrap_or(match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    })
}

#[cfg(test)]
mod tests;
