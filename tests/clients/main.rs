//! Runs the clients in `examples/clients` unchanged: does each get every reply while one backend
//! refuses and another is silent, and does it switch when a backend leaves the answers?
//!
//! Each test runs in its own network and mount namespaces, in which steerd is the resolver of the
//! machine, on port 53 of loopback. So the clients are ordinary ones that use the system's resolver.
//! The first steps in the README run here too, on the ports that it names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod first_page;
mod gateways;
mod namespace;
mod scene;
mod walk;
#[path = "../support/mod.rs"]
mod support;
