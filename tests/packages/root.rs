//! A small system in a directory, and programs that run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::program;
use crate::{output, source};

/// A directory that is the root of what runs in it.
pub(crate) struct Root {
    directory: TempDir,
}

impl Root {
    /// An empty directory on a file system of its own, which ends with the mount namespace of the test.
    pub(crate) fn empty() -> Self {
        let directory = TempDir::new().unwrap();
        output(Command::new(program("mount")).args(["-t", "tmpfs", "tmpfs"]).arg(directory.path()));
        Self { directory }
    }

    /// A Debian with the essential packages and those that the package of steerd needs.
    pub(crate) fn debian() -> Self {
        Self::debian_with(&[])
    }

    /// The same with these packages too.
    pub(crate) fn debian_with(packages: &[&str]) -> Self {
        let root = Self::empty();
        let mut assemble = Command::new(program("bash"));
        assemble.arg(source("tests/packages/debian-root")).arg(root.path("")).arg("systemd").args(packages);
        output(&mut assemble);
        root.mount_system();
        root
    }

    /// Mounts devices and processes, which every system has.
    pub(crate) fn mount_system(&self) {
        output(Command::new(program("mount")).args(["--rbind", "/dev"]).arg(self.path("dev")));
        output(Command::new(program("mount")).args(["-t", "proc", "proc"]).arg(self.path("proc")));
    }

    /// A path within it, as this process sees it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(crate) fn copy(&self, from: &Path, to: &str) {
        std::fs::copy(from, self.path(to)).unwrap();
    }

    /// A command that runs within it, by root, with the usual environment of a service.
    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(program("chroot"));
        command.arg(self.path("")).args(line).current_dir("/").env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// The output of a command that must succeed.
    pub(crate) fn run(&self, line: &[&str]) -> String {
        output(&mut self.command(line))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Everything in it is ended by now, or will be with the namespace.
        let _ = Command::new(program("umount")).args(["--recursive", "--lazy"]).arg(self.path("")).status();
    }
}
