//! Runs probes: a probe is one run of a check against one backend address, from connect to outcome.
//!
//! A probe reports, and `health` decides. Its settings are in `check`; resources for them, such as certificate
//! authorities, are prepared here and kept for all probes with equal settings.
//!
//! Each run opens a new connection to the address, and no name is resolved: an old connection may still work after the
//! server has stopped listening, and a name may lead to another backend.
//!
//! A run ends within its time limit, and reads and keeps a limited number of bytes, whatever a backend sends.
//! Nothing outlives it: dropping a run closes its connection and kills its program.
//!
//! ```text
//! run -+- tcp ------ connect ------------- talk (send, expect) -+-> Finding: passed, draining
//!      +- tls ------ connect -- tls ------ talk ----------------+      or
//!      +- http ----- connect -(- tls -)-+- http1 ---------------+   Failure: its cause, and
//!      |                                +- http2 ---------------+      a sentence
//!      +- grpc ----- connect -(- tls -)--- http2 ---------------+
//!      +- exec ----- a program ---------------------------------+
//! ```
//!
//! Each kind has a file with the same parts in this order: its limits, `attempt`, what it sends, how it evaluates the
//! response.

mod certificate;
mod connect;
mod exec;
mod failure;
mod grpc;
mod handshake;
mod hearing;
pub mod http;
mod http1;
mod http2;
mod limited;
pub mod program;
mod protocols;
mod unexpected_status;
mod request;
mod search;
mod sessions;
pub mod supervised;
mod talk;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod tls_error;
mod trust;
mod verifier;
mod words;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::ClientConfig;
use tokio::task::JoinError;
use tokio::time::Instant;
use tracing::error;

use crate::check::{GrpcProbe, HttpProbe, Probe, TlsProbe, TlsSettings};
use crate::duration::Shown;
use crate::health::Outcome;
use crate::printable::{EXCERPT_LIMIT, excerpt};

use failure::ProbeFailure;
use handshake::Handshake;
use limited::FirstBytes;
use protocols::Offered;
use search::UnderWay;

use tls_error::ClientCertificate;
use words::first_line;

/// Why a probe did not pass, as one word for metrics and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nothing listens on the port.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection was closed too early.
    Closed,
    /// No answer in time.
    Timeout,
    /// The network reports that the address cannot be reached.
    Unreachable,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// The response does not conform to the protocol of the check.
    Protocol,
    /// A status that is not accepted: from HTTP or gRPC, or the exit code of a program.
    Status,
    /// The expected content was not found in the body, or in the exchange on a connection.
    Body,
    /// This machine: no descriptor, no route, no time. Never a fault of the backend.
    Local,
}

impl Cause {
    /// The word for it in metrics and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Status => "status",
            Self::Body => "body",
            Self::Local => "local",
        }
    }
}

/// TLS for another client of this process, which verifies servers as probes do: by these authorities, or those of the
/// system. Waits until their file is read.
///
/// # Errors
/// Why there are no authorities.
pub async fn client_tls(ca_file: Option<&Path>) -> Result<ClientConfig, Arc<str>> {
    let settings = TlsSettings { ca_file: ca_file.map(Path::to_owned), ..TlsSettings::default() };
    trust::of(&settings).await.map(|trusting| trusting.config.clone())
}

/// TLS for another client of this process, which takes any certificate: it must not send a secret before the server has
/// proved itself in another way.
///
/// # Errors
/// Why TLS cannot be set up.
pub async fn unverified_tls() -> Result<ClientConfig, Arc<str>> {
    let settings = TlsSettings { insecure: true, ..TlsSettings::default() };
    trust::of(&settings).await.map(|trusting| trusting.config.clone())
}

/// The result of a run of a probe.
#[derive(Clone, Debug)]
pub struct Report {
    /// The result for `health`.
    pub outcome: Outcome,
    /// Why the probe failed or is void; none otherwise.
    pub cause: Option<Cause>,
    /// The result in words: `connection refused`, `status 503 Service Unavailable, expected 200-299`, `200 OK`. It
    /// contains no times or counts that differ between probes, so that equal details can be stored once. Text from a
    /// backend is quoted, escaped and cut to [`EXCERPT_LIMIT`] characters.
    pub detail: Arc<str>,
    /// The load that the backend reports: percent of its weight, 0 to 100.
    pub load: Option<u8>,
    /// When the certificate of the backend expires, if it was seen.
    pub certificate_expires: Option<SystemTime>,
    /// The time from the first system call to the outcome.
    pub duration: Duration,
    /// The steps in order, with the time of each: connect, tls, response or talk, body; or start, program. A failed
    /// probe failed in the last one; that is `request` if the request could not be sent.
    pub phases: Vec<(&'static str, Duration)>,
    /// The rest of the charge for searches, to pass to [`run_after`].
    pub search_charge: Duration,
}

impl Report {
    /// A probe that could not complete because of this machine: no verdict on the backend.
    #[must_use]
    pub fn void(detail: impl Into<Arc<str>>) -> Self {
        Self {
            outcome: Outcome::Void,
            cause: Some(Cause::Local),
            detail: detail.into(),
            load: None,
            certificate_expires: None,
            duration: Duration::ZERO,
            phases: Vec::new(),
            search_charge: Duration::ZERO,
        }
    }

    /// A probe whose task panicked. It says nothing about the backend.
    #[must_use]
    pub fn of_broken(broken: &JoinError) -> Self {
        if !broken.is_cancelled() {
            error!(%broken, "a probe panicked; this is a bug in steerd, please report it");
        }
        Self::void(format!("no verdict: the probe panicked: {broken}"))
    }
}

/// Runs a probe once. The backend's part, including TLS handshake and body, must complete within `timeout`. Must be
/// called within a tokio runtime that has its network and time drivers enabled.
pub fn run(probe: &Probe, address: IpAddr, timeout: Duration) -> impl Future<Output = Report> {
    run_after(probe, address, timeout, Duration::ZERO)
}

/// Runs a probe after an earlier one for the same address, which left this [`Report::search_charge`].
pub async fn run_after(probe: &Probe, address: IpAddr, timeout: Duration, search_charge: Duration) -> Report {
    // Preparation does not count against the backend: it uses none of its time, and if it takes too long, the backend
    // is not at fault.
    let mut trace = Trace::start(search_charge);
    let handshake = match tokio::time::timeout(timeout, prepare(probe, address)).await {
        Ok(Ok(handshake)) => handshake,
        Ok(Err(fault)) => return trace.report(Err(fault)),
        Err(_) => {
            let late = format!("the certificate authorities were not read within {}", Shown(timeout));
            return trace.report(Err(ProbeFailure::local(late)));
        }
    };
    trace = Trace::start(search_charge);
    let attempt = attempt(probe, address, timeout, handshake, &mut trace);
    let finding = tokio::time::timeout(timeout, attempt).await;
    let finding = finding.unwrap_or_else(|_| Err(trace.out_of_time(timeout)));
    trace.report(finding)
}

/// Prepares the TLS handshake of a probe that needs one.
async fn prepare(probe: &Probe, address: IpAddr) -> Result<Option<Handshake>, ProbeFailure> {
    let (settings, port, offered) = match probe {
        Probe::Tls(TlsProbe { tls: settings, port, .. }) => (settings, *port, Offered::Any),
        Probe::Http(HttpProbe { tls: Some(settings), port, version, .. }) => {
            (settings, *port, Offered::by(*version))
        }
        Probe::Grpc(GrpcProbe { tls: Some(settings), port, .. }) => (settings, *port, Offered::Http2),
        _ => return Ok(None),
    };
    Handshake::prepare(settings, SocketAddr::new(address, port), offered).await.map(Some)
}

/// Rare and large kinds are boxed, so that the futures of plain kinds stay small.
async fn attempt(
    probe: &Probe,
    address: IpAddr,
    timeout: Duration,
    handshake: Option<Handshake>,
    trace: &mut Trace,
) -> Result<Finding, ProbeFailure> {
    match probe {
        Probe::Tcp(probe) => tcp::attempt(probe, address, trace).await,
        Probe::Tls(probe) => Box::pin(tls::attempt(probe, address, handshake, trace)).await,
        Probe::Http(probe) => http::attempt(probe, address, handshake, trace).await,
        Probe::Grpc(probe) => Box::pin(grpc::attempt(probe, address, handshake, trace)).await,
        Probe::Exec(probe) => Box::pin(exec::attempt(probe, address, timeout, trace)).await,
    }
}

/// The result of a probe without a failure.
#[derive(Debug)]
struct Finding {
    /// Alive, but wants no new clients.
    draining: bool,
    detail: Cow<'static, str>,
    load: Option<u8>,
}

impl Finding {
    fn passed(detail: impl Into<Cow<'static, str>>) -> Self {
        Self { draining: false, detail: detail.into(), load: None }
    }
}

/// The current step of a probe.
#[derive(Clone, Copy, Debug)]
enum ProbeStep {
    Connect,
    Tls,
    Request,
    Response,
    Body,
    Talk,
    /// Starting a program; the backend is not involved.
    Start,
    Program,
}

impl ProbeStep {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Response => "response",
            Self::Body => "body",
            Self::Talk => "talk",
            Self::Start => "start",
            Self::Program => "program",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Connect => "while connecting",
            Self::Tls => "during the TLS handshake",
            Self::Request => "sending the request",
            Self::Response => "waiting for the response",
            Self::Body => "reading the body",
            Self::Talk => "waiting for what is expected",
            Self::Start => "starting the program",
            Self::Program => "waiting for the program to end",
        }
    }
}

/// The steps of a probe and their times. It outlives the timed part of the probe, so that the report of a timeout can
/// tell where it happened.
#[derive(Debug)]
struct Trace {
    started: Instant,
    entered: Instant,
    step: ProbeStep,
    phases: Vec<(&'static str, Duration)>,
    /// The first bytes received in this step, if they help the reader of a report.
    heard: Vec<u8>,
    /// The verdict, if it is final although the probe still reads.
    verdict: Option<Box<ProbeFailure>>,
    /// Whether the backend asked for a client certificate.
    client: ClientCertificate,
    /// When the certificate of the backend expires.
    certificate_expires: Option<SystemTime>,
    /// The first bytes received since the start of the TLS handshake.
    of_handshake: Option<FirstBytes>,
    /// The search for the expected content, while another thread runs it.
    search: Option<UnderWay>,
    /// The rest of the charge for searches that have ended, including those of earlier probes.
    search_charge: Duration,
}

/// The most bytes of [`Trace::heard`]: an excerpt shows no more.
const HEARD_LIMIT: usize = 4 * (EXCERPT_LIMIT + 1);

impl Trace {
    fn start(search_charge: Duration) -> Self {
        let now = Instant::now();
        Self {
            started: now,
            entered: now,
            step: ProbeStep::Connect,
            phases: Vec::with_capacity(4),
            heard: Vec::new(),
            verdict: None,
            client: ClientCertificate::NotAsked,
            certificate_expires: None,
            of_handshake: None,
            search: None,
            search_charge,
        }
    }

    fn enter(&mut self, step: ProbeStep) {
        let now = Instant::now();
        self.phases.push((self.step.name(), now - self.entered));
        self.entered = now;
        self.step = step;
        self.heard.clear();
    }

    /// Renames the current step, without starting a new time.
    fn rename(&mut self, step: ProbeStep) {
        self.step = step;
    }

    fn hear(&mut self, bytes: &[u8]) {
        let room = HEARD_LIMIT - self.heard.len();
        self.heard.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn out_of_time(&mut self, timeout: Duration) -> ProbeFailure {
        if let Some(verdict) = self.verdict.take() {
            return *verdict;
        }
        if matches!(self.step, ProbeStep::Start) {
            return ProbeFailure::local(format_args!(
                "the program was not started within {}",
                Shown(timeout)
            ));
        }
        let doing = match &self.search {
            None => self.step.doing(),
            // The bytes have arrived, but this machine had no time to search them.
            Some(search) if search.is_delayed_here(timeout) => {
                return ProbeFailure::local(format_args!(
                    "what the backend sent could not be searched within {}",
                    Shown(timeout)
                ));
            }
            Some(_) => "looking for what is expected",
        };
        let heard = match self.step {
            // The same part as for a program that ends in time.
            ProbeStep::Program => first_line(&self.heard),
            _ => &self.heard,
        };
        let heard = if heard.is_empty() { String::new() } else { format!("; heard {}", excerpt(heard)) };
        let is_silent = matches!(&self.of_handshake, Some(beginning) if beginning.bytes().is_empty())
            && matches!(self.step, ProbeStep::Tls);
        let hint = if is_silent { format!("; {}", protocols::MAY_SPEAK_PLAIN) } else { String::new() };
        ProbeFailure::new(
            Cause::Timeout,
            format!("no answer within {} ({doing}{heard}){hint}", Shown(timeout)),
        )
    }

    fn report(mut self, finding: Result<Finding, ProbeFailure>) -> Report {
        let now = Instant::now();
        self.phases.push((self.step.name(), now - self.entered));
        let (outcome, cause, detail, load) = match finding {
            Ok(Finding { draining: true, detail, load }) => (Outcome::Draining, None, detail, load),
            Ok(Finding { draining: false, detail, load }) => (Outcome::Passed, None, detail, load),
            Err(ProbeFailure { cause: Cause::Local, detail, .. }) => {
                (Outcome::Void, Some(Cause::Local), detail, None)
            }
            Err(ProbeFailure { cause: cause @ (Cause::Closed | Cause::Reset), detail, .. })
                if self.client == ClientCertificate::Missing =>
            {
                (Outcome::Failed, Some(cause), format!("{detail}; {}", tls_error::MISSING).into(), None)
            }
            Err(ProbeFailure { cause, detail, unanswered: true }) if self.of_handshake.is_none() => {
                (Outcome::Failed, Some(cause), format!("{detail}; {}", protocols::MAY_SPEAK_TLS).into(), None)
            }
            Err(ProbeFailure { cause, detail, .. }) => (Outcome::Failed, Some(cause), detail, None),
        };
        // A search that has not ended leaves its charge.
        let search_charge = self.search.map_or(self.search_charge, |search| search.charge());
        Report {
            outcome,
            cause,
            detail: Arc::from(detail),
            load,
            certificate_expires: self.certificate_expires,
            duration: now - self.started,
            phases: self.phases,
            search_charge,
        }
    }
}
