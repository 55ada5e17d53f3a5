//! The clients of `examples/clients`, run as they stand: does each get every reply while one backend
//! refuses and another is silent, and does it follow when a backend leaves the answers?
//!
//! Each test runs in network and mount namespaces of its own, where steerd is the resolver of the
//! machine, on port 53 of loopback. So the clients are ordinary ones that ask the system's resolver.
//! The first steps of the README run here too, on the ports that it names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod first_page;
mod gateways;
mod namespace;
mod scene;
mod walk;
#[path = "../support/mod.rs"]
mod support;
