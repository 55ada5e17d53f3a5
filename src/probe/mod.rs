//! Probes: one run of a check against one backend address, from connect to outcome.
//!
//! A probe reports; what follows from a report is `health`'s. Each run takes a fresh connection to
//! the address it is given and resolves no name: an old connection still answers when nobody
//! listens any more, and a name may lead to another backend.

mod connect;
pub mod exec;
pub mod expected;
pub mod grpc;
pub mod http;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod tls;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::Outcome;

/// What to do to a backend address. Two equal probes to one address are one probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A connection, perhaps with a few words.
    Tcp(tcp::TcpProbe),
    /// A TLS handshake, perhaps with a few words.
    Tls(tls::TlsProbe),
    /// An HTTP request, with or without TLS.
    Http(http::HttpProbe),
    /// A call of `grpc.health.v1`.
    Grpc(grpc::GrpcProbe),
    /// A program.
    Exec(exec::ExecProbe),
}

/// Why a probe did not pass: one word for metrics and programs; the detail has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Nobody listens on the port.
    Refused,
    /// The connection was broken off.
    Reset,
    /// The connection was closed too early, in the ordinary way.
    Closed,
    /// No answer in time.
    Timeout,
    /// The network says that the address cannot be reached.
    Unreachable,
    /// The handshake, or the certificate.
    Tls,
    /// What came was not the protocol that the check speaks.
    Protocol,
    /// A status that is not accepted: of HTTP, of gRPC, or the exit code of a program.
    Status,
    /// What was expected was not found in the body, or in what a connection said.
    Body,
    /// This machine: no descriptor, no route, no time. Never the backend's fault.
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

/// What a run of a probe brought.
#[derive(Clone, Debug)]
pub struct Report {
    /// The word for `health`.
    pub outcome: Outcome,
    /// Why it is failed or void; none otherwise.
    pub cause: Option<Cause>,
    /// What happened, for a person: `connection refused`, `status 503 Service Unavailable,
    /// expected 200-299`, `200 OK`. It holds no times and no counts that differ from one probe to
    /// the next, so that equal ones can be kept once.
    pub detail: Arc<str>,
    /// What the backend says of its load: percent of its weight, 0 to 100.
    pub load: Option<u8>,
    /// From the first system call to the outcome.
    pub duration: Duration,
    /// The steps in order with the time each took: connect, tls, response, body. When a probe
    /// fails, the last one is where.
    pub phases: Vec<(&'static str, Duration)>,
}

impl Probe {
    /// The word for its kind: `http`, `https`, `tcp`, `tls`, `grpc` or `exec`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Tls(_) => "tls",
            Self::Grpc(_) => "grpc",
            Self::Exec(_) => "exec",
            Self::Http(probe) if probe.tls.is_some() => "https",
            Self::Http(_) => "http",
        }
    }

    /// The same probe of another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        match self.clone() {
            Self::Tcp(probe) => Self::Tcp(tcp::TcpProbe { port, ..probe }),
            Self::Tls(probe) => Self::Tls(tls::TlsProbe { port, ..probe }),
            Self::Http(probe) => Self::Http(http::HttpProbe { port, ..probe }),
            Self::Grpc(probe) => Self::Grpc(grpc::GrpcProbe { port, ..probe }),
            Self::Exec(probe) => Self::Exec(exec::ExecProbe { port: Some(port), ..probe }),
        }
    }

    /// Runs the probe once. All that the backend has a part in, TLS handshake and body included,
    /// must be done within `timeout`.
    pub async fn run(&self, address: IpAddr, timeout: Duration) -> Report {
        // What this machine does before it turns to the backend takes no time of the backend's, and
        // when it takes too long that says nothing about the backend.
        let mut trace = Trace::start();
        let session = match tokio::time::timeout(timeout, self.prepare(address)).await {
            Ok(Ok(session)) => session,
            Ok(Err(reason)) => return trace.report(Outcome::Void, format!("no verdict: {reason}")),
            Err(_) => {
                let detail =
                    format!("no verdict: the certificate authorities were not read within {timeout:?}");
                return trace.report(Outcome::Void, detail);
            }
        };
        trace = Trace::start();
        let finding = tokio::time::timeout(timeout, self.attempt(address, session, &mut trace)).await;
        let (outcome, detail) = match finding {
            Ok(Ok(detail)) => (Outcome::Passed, detail),
            Ok(Err(Fault::Backend(detail))) => (Outcome::Failed, detail),
            Ok(Err(Fault::Local(detail))) => (Outcome::Void, detail),
            Err(_) => (Outcome::Failed, format!("no answer within {timeout:?} ({})", trace.step.doing())),
        };
        trace.report(outcome, detail)
    }

    /// What a probe needs that does not come from the backend: for https, whom to trust.
    async fn prepare(&self, address: IpAddr) -> Result<Option<tls::Session>, String> {
        match self {
            Self::Http(http::HttpProbe { tls: Some(settings), .. }) => {
                tls::Session::new(settings, address).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn attempt(
        &self,
        address: IpAddr,
        session: Option<tls::Session>,
        trace: &mut Trace,
    ) -> Result<String, Fault> {
        match self {
            Self::Tcp(probe) => probe.attempt(address).await,
            Self::Http(probe) => probe.attempt(address, session, trace).await,
            _ => Err(Fault::Local("no verdict: not implemented".into())),
        }
    }
}

/// Why a probe did not pass, for a person.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The backend, or the way to it: a failed outcome.
    Backend(String),
    /// This machine or its configuration: no verdict on the backend.
    Local(String),
}

/// Where a probe is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Connect,
    Tls,
    Response,
    Body,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Response => "response",
            Self::Body => "body",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Connect => "while connecting",
            Self::Tls => "during the TLS handshake",
            Self::Response => "waiting for the response",
            Self::Body => "reading the body",
        }
    }
}

/// The steps of a probe and their times. It stands outside the timed part, so that a probe that
/// runs out of time can still say where.
#[derive(Debug)]
struct Trace {
    started: Instant,
    entered: Instant,
    step: Step,
    phases: Vec<(&'static str, Duration)>,
}

impl Trace {
    fn start() -> Self {
        let now = Instant::now();
        Self { started: now, entered: now, step: Step::Connect, phases: Vec::with_capacity(4) }
    }

    fn enter(&mut self, step: Step) {
        let now = Instant::now();
        self.phases.push((self.step.name(), now - self.entered));
        self.entered = now;
        self.step = step;
    }

    fn report(mut self, outcome: Outcome, detail: String) -> Report {
        let now = Instant::now();
        self.phases.push((self.step.name(), now - self.entered));
        let cause = match outcome {
            Outcome::Passed | Outcome::Draining => None,
            Outcome::Failed => Some(Cause::Protocol),
            Outcome::Void => Some(Cause::Local),
        };
        let duration = now - self.started;
        Report { outcome, cause, detail: detail.into(), load: None, duration, phases: self.phases }
    }
}
