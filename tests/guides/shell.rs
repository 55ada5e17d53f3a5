//! One bash for all commands of a guide.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::STEERD;

/// Time limit for the commands of a block.
const BLOCK_TIME: Duration = Duration::from_secs(180);
/// Printed after each block.
const END: &str = "::the block has ended::";

/// A shell that ends with the first command that fails.
pub(crate) struct Shell {
    process: Child,
    input: ChildStdin,
    printed: Receiver<String>,
}

impl Shell {
    /// Starts a shell that finds this build of `steerd`.
    pub(crate) fn start(directory: &Path) -> Self {
        let programs = Path::new(STEERD).parent().unwrap();
        let path = format!("{}:{}:/usr/sbin:/sbin", programs.display(), std::env::var("PATH").unwrap());
        let mut process = Command::new("bash")
            .args(["-e", "-o", "pipefail"])
            .current_dir(directory)
            .env("PATH", path)
            .env("HOME", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        writeln!(input, "exec 2>&1").unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, printed) = mpsc::channel();
        // Programs in the background keep the output open, so this thread may outlive the shell.
        thread::spawn(move || {
            for line in output.split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        Self { process, input, printed }
    }

    /// Runs commands and returns what they print.
    ///
    /// # Panics
    /// If one of them fails, or they take too long.
    pub(crate) fn run(&mut self, commands: &str) -> String {
        writeln!(self.input, "{commands}\nprintf '\\n{END}\\n'").unwrap();
        let mut said = String::new();
        let end = Instant::now() + BLOCK_TIME;
        loop {
            let wait = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(200));
            match self.printed.recv_timeout(wait) {
                Ok(line) if line == END => return said,
                Ok(line) => said += &(line + "\n"),
                Err(RecvTimeoutError::Disconnected) => panic!("a command failed:\n{commands}\n{said}"),
                Err(RecvTimeoutError::Timeout) => {
                    if self.process.try_wait().unwrap().is_some() {
                        // Its last lines may still be on their way.
                        said.extend(self.printed.try_iter().map(|line| line + "\n"));
                        panic!("a command failed:\n{commands}\n{said}");
                    }
                    assert!(Instant::now() < end, "not done within {BLOCK_TIME:?}:\n{commands}\n{said}");
                }
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Programs in the background end with the namespace.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
