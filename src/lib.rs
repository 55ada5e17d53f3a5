//! steerd: an authoritative DNS server. It answers with a weighted subset, with a short TTL, of the
//! backends that its own health checker finds healthy.
//!
//! The modules are listed in floor order: a module names only modules above it in this list.
//! `docs/ARCHITECTURE.md` has the map, and a test reads the list.

// Floor 0: plain data and selection. No I/O, clock, log, or random numbers of its own.
#[cfg(test)]
pub mod captured_log;
pub mod cookie;
pub mod counters;
pub mod duration;
pub mod name;
pub mod keys;
pub mod pem;
pub mod pool;
pub mod network;
pub mod rules;
pub mod printable;
pub mod spelling;
pub mod pattern;
pub mod check;
pub mod selection;
pub mod plan;
pub mod service;
pub mod settings;
pub mod zone;
pub mod served;
// Floor 1: health without I/O, and the table that queries read.
pub mod health;
pub mod table;
// Floor 2: DNS answering, pure.
pub mod wire;
pub mod answer;
// Floor 3: system calls, probes, and the task that owns health.
pub mod sys;
pub mod file;
pub mod interpreter;
pub mod probe;
pub mod metrics;
pub mod events;
pub mod watchdog;
pub mod systemd;
pub mod retired;
pub mod fleet;
pub mod checker;
// Floor 4: sockets for DNS.
pub mod tap;
pub mod listener;
pub mod notify;
// Floor 5: files, operators, composition.
pub mod geo;
pub mod alerts;
pub mod visibility;
pub mod config;
pub mod state;
pub mod sets;
pub mod audit;
pub mod reload;
pub mod upgrade;
pub mod admin;
pub mod server;
// Floor 6: the command line.
pub mod cli;
