//! `/api/v1/events`: the last events as JSON, or all further ones as a stream of server-sent events (HTML Standard,
//! section 9.2).
//!
//! ```text
//! request --Accept: application/json--> the events after the given one
//!        `--otherwise, a free stream--> the events after the given one --> each further one, as it happens
//!                                       a comment after 15 s without one; ends if the client leaves, the server
//!                                       stops, or access rights change
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::admin::gate::{Admission, ClientStanding, refuse_foreign_pages};
use crate::admin::problem::Problem;
use crate::admin::{AdminState, Sources, json, no_such};
use crate::config::Access;
use crate::events::{Event, EventKind, Events, FieldValue, Following, KEPT};
use crate::spelling::closest;

/// Maximum number of streams.
const MOST_STREAMS: usize = 16;
/// Of these, streams without the token; so clients without it cannot keep others out.
const MOST_OPEN_STREAMS: usize = 8;
/// A stream without events sends a comment this often, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a browser waits before it connects again, milliseconds.
const RETRY: u32 = 2_000;
/// Maximum number of events in one write of a stream.
const AT_ONCE: usize = 50;

/// The id of the last event that the client has seen (HTML Standard, section 9.2.4).
const LAST_EVENT_ID: &str = "last-event-id";

/// The parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventParameters {
    /// Only events after the one with this id.
    after: Option<u64>,
    /// Of the earlier events, only the last few.
    last: Option<usize>,
    /// Only these kinds, separated by commas.
    kind: Option<String>,
    /// Only events of this pool or service.
    about: Option<String>,
}

/// The streams of the admin server.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    free: Arc<Semaphore>,
    free_for_open: Arc<Semaphore>,
    /// True when the server stops.
    stopped: watch::Receiver<bool>,
}

impl Streams {
    pub(super) fn new(stopped: watch::Receiver<bool>) -> Self {
        let [free, free_for_open] =
            [MOST_STREAMS, MOST_OPEN_STREAMS].map(|most| Arc::new(Semaphore::new(most)));
        Self { free, free_for_open, stopped }
    }

    /// A place for a stream.
    ///
    /// # Errors
    /// If there are too many already.
    fn take(&self, standing: ClientStanding) -> Result<StreamPlace, Problem> {
        let full = |most, of| {
            let detail = format!(
                "there are {most} streams of events{of} already; close one, or ask for the events now and then with \
                 `Accept: application/json`"
            );
            Problem::busy(detail)
        };
        let take = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned();
        let open = match standing {
            ClientStanding::Known => None,
            _ => Some(take(&self.free_for_open).map_err(|_| full(MOST_OPEN_STREAMS, " without the token"))?),
        };
        let place = take(&self.free).map_err(|_| full(MOST_STREAMS, ""))?;
        Ok(StreamPlace { _place: place, _open: open })
    }
}

/// A place for a stream, free again on drop.
struct StreamPlace {
    _place: OwnedSemaphorePermit,
    _open: Option<OwnedSemaphorePermit>,
}

/// Whether a connection carries a stream, which may last longer than other connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Streaming(Arc<AtomicBool>);

impl Streaming {
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }
}

/// The selected events.
struct Selection {
    kinds: Vec<EventKind>,
    about: Option<String>,
}

impl Selection {
    /// # Errors
    /// If there is no such kind.
    fn new(kind: Option<&str>, about: Option<String>) -> Result<Self, Problem> {
        let find = |name: &str| {
            let found = EventKind::ALL.into_iter().find(|kind| kind.as_str() == name);
            found.ok_or_else(|| no_such_kind(name))
        };
        let kinds = kind.map(|kinds| kinds.split(',').map(|name| find(name.trim())).collect());
        // Service names in events end with a dot or not, as they are logged.
        let about = about.map(|about| about.trim_end_matches('.').to_ascii_lowercase());
        Ok(Self { kinds: kinds.transpose()?.unwrap_or_default(), about })
    }

    fn has(&self, event: &Event) -> bool {
        let is_about = |about: &str| {
            let named = ["pool", "service"].into_iter().filter_map(|field| event.text(field));
            named.into_iter().any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(about))
        };
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.about.as_deref().is_none_or(is_about)
    }
}

fn no_such_kind(name: &str) -> Problem {
    let known = || EventKind::ALL.into_iter().map(EventKind::as_str);
    let near = closest(name, known()).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
    let known = known().collect::<Vec<_>>().join(", ");
    Problem::new(StatusCode::BAD_REQUEST, format!("there is no such kind of event{near}; there are {known}"))
}

/// An event in the API.
#[derive(Serialize)]
struct EventDocument<'a> {
    id: u64,
    at: Timestamp,
    kind: &'static str,
    severity: &'static str,
    message: &'a str,
    #[serde(flatten)]
    fields: BTreeMap<&'static str, ShownField<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ShownField<'a> {
    Text(&'a str),
    Number(i64),
}

impl<'a> EventDocument<'a> {
    fn new(event: &'a Event) -> Self {
        let shown = |value: &'a FieldValue| match value {
            FieldValue::Text(text) => ShownField::Text(text),
            FieldValue::Number(number) => ShownField::Number(*number),
        };
        Self {
            id: event.id,
            at: Timestamp::try_from(event.at).unwrap_or_default(),
            kind: event.kind.as_str(),
            severity: event.severity.as_str(),
            message: &event.message,
            fields: event.fields.iter().map(|(name, value)| (*name, shown(value))).collect(),
        }
    }
}

#[derive(Serialize)]
struct EventsDocument<'a> {
    /// Whether events after the given one are no longer kept.
    missed: bool,
    /// The id to ask after next; it may belong to an event that was not selected.
    last: u64,
    events: Vec<EventDocument<'a>>,
}

pub(super) async fn events(
    State(AdminState { sources, streams, .. }): State<AdminState>,
    streaming: Option<Extension<Streaming>>,
    admission: Option<Extension<Admission>>,
    headers: HeaderMap,
    parameters: Result<Query<EventParameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(EventParameters { after, last, kind, about }) =
        parameters.map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let selection = Selection::new(kind.as_deref(), about)?;
    // A browser that connects again repeats its first request, with this header. It wants all since then.
    let resumed = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    let last = if resumed.is_some() { KEPT } else { last.unwrap_or(KEPT) };
    let mut reader = Reader { events: sources.events.clone(), selection, seen: resumed.or(after), last };
    reader.check_subject(&sources)?;
    if wants_json(&headers) {
        let (events, missed) = reader.read();
        let events = events.iter().map(|event| EventDocument::new(event)).collect();
        return Ok(json(&EventsDocument { missed, last: reader.seen.unwrap_or_default(), events }));
    }
    refuse_foreign_pages(&headers)?;
    // Without a gate, as in tests of the router, there is no admission.
    let unjudged = || Admission { standing: ClientStanding::Other, access: sources.access };
    let Admission { standing, access } = admission.map_or_else(unjudged, |Extension(admission)| admission);
    let place = streams.take(standing)?;
    let streaming = streaming.map(|Extension(streaming)| streaming).unwrap_or_default();
    streaming.set(true);
    let (frames, received) = mpsc::channel(1);
    tokio::spawn(reader.stream(frames, streams.stopped, access));
    let body = Body::new(EventBody { frames: received, streaming, _place: place });
    Ok(([(CONTENT_TYPE, "text/event-stream")], body).into_response())
}

/// Whether the client asks for JSON, and not for a stream.
fn wants_json(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.any(|accept| accept.contains("application/json") && !accept.contains("text/event-stream"))
}

/// A reader of the events.
struct Reader {
    events: Events,
    selection: Selection,
    /// The last event that it has seen.
    seen: Option<u64>,
    /// How many earlier events it wants at most.
    last: usize,
}

impl Reader {
    /// The selected events since the last call, and whether some were missed.
    fn read(&mut self) -> (Vec<Arc<Event>>, bool) {
        let Following { mut events, missed, newest } = self.events.after(self.seen);
        self.seen = Some(newest);
        events.retain(|event| self.selection.has(event));
        let unwanted = events.len().saturating_sub(self.last);
        events.drain(..unwanted);
        self.last = KEPT;
        (events, missed)
    }

    /// # Errors
    /// If there is no such pool or service, and no event is about one that existed.
    fn check_subject(&self, sources: &Sources) -> Result<(), Problem> {
        let Some(about) = &self.selection.about else { return Ok(()) };
        let table = sources.checker.published.load();
        let pools = table.pools().iter().map(|view| view.name.to_string());
        let services = table.services().iter().map(|view| view.service.name.to_plain());
        let names: Vec<String> =
            pools.chain(services.map(|name| name.trim_end_matches('.').to_owned())).collect();
        let is_known = names.iter().any(|name| name.eq_ignore_ascii_case(about));
        let any_kind = Selection { kinds: Vec::new(), about: Some(about.clone()) };
        if is_known || self.events.after(None).events.iter().any(|event| any_kind.has(event)) {
            return Ok(());
        }
        Err(no_such(&format!("pool or service `{about}`"), about, names.iter().map(String::as_str)))
    }

    /// Sends the events until the client leaves, the server stops, or the access rights change: they may no longer
    /// allow this stream.
    async fn stream(
        mut self,
        frames: mpsc::Sender<Bytes>,
        mut stopped: watch::Receiver<bool>,
        mut access: watch::Receiver<Access>,
    ) {
        let mut latest = self.events.latest();
        let mut text = format!("retry: {RETRY}\n\n");
        loop {
            latest.mark_unchanged();
            let (events, missed) = self.read();
            if missed {
                text.push_str("event: missed\ndata: {}\n\n");
            }
            for some in events.chunks(AT_ONCE) {
                for event in some {
                    append(event, &mut text);
                }
                if frames.send(std::mem::take(&mut text).into()).await.is_err() {
                    return;
                }
            }
            if !text.is_empty() && frames.send(std::mem::take(&mut text).into()).await.is_err() {
                return;
            }
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => return,
                _ = access.changed() => return,
                () = frames.closed() => return,
                changed = timeout(KEEP_ALIVE, latest.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => text.push_str(": nothing has happened\n\n"),
                }
            }
        }
    }
}

/// An event in a stream. JSON has no line breaks, so it is one line of data.
fn append(event: &Event, text: &mut String) {
    let data = serde_json::to_string(&EventDocument::new(event)).unwrap_or_default();
    let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.as_str());
}

/// The body of a stream.
struct EventBody {
    frames: mpsc::Receiver<Bytes>,
    streaming: Streaming,
    _place: StreamPlace,
}

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.streaming.set(false);
    }
}
