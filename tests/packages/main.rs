//! Installs steerd as operators do, and runs it there: the Debian package in a small Debian system, the root file system
//! of the container image, the unit for systemd, the manifests for Kubernetes.
//!
//! Each test that runs a program has its own network, mount and process namespaces. The systems have only files of
//! packages that this machine has, so nothing is downloaded, and nothing of the source tree is in them: the program
//! needs no other file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod debian;
mod guide;
mod image;
mod kubernetes;
#[path = "../clients/namespace.rs"]
mod namespace;
mod root;
mod supervisor;
mod systemd;
mod unit;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A path in the source tree.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The output of a command that must succeed.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {}{}", text(&stdout), text(&stderr));
    text(&stdout)
}
