//! Tests the server as users see it: the real program, real sockets, and real programs around it
//! (nginx as backends, Unbound as the resolver, dig as the client).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]
#![allow(clippy::float_cmp, reason = "metrics are counts here, whole numbers that floats hold exactly")]

mod access;
mod access_tls;
mod access_unix;
mod api;
mod audit;
mod checks;
mod cli;
mod client;
mod dnstap;
mod events;
mod explain;
mod failover;
mod harness;
mod healthcheck;
mod hostile;
mod import;
mod init;
mod limits;
mod memory;
mod names;
mod overrides;
mod persistent;
mod query_log;
mod reload;
mod rollback;
mod rules;
mod servers;
mod shares;
mod shell;
mod status;
mod steering;
mod stop;
mod suspicion;
mod tiers;
mod transfer;
mod upgrade;
mod watch;
mod weights;
#[path = "../support/mod.rs"]
mod support;
