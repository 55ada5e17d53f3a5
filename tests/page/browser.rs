//! Chromium behind its own driver, by `WebDriver` (W3C): one browser for all tests, a new tab for each.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::{Value, json};

use crate::support::{PATIENCE, Process, free_port, program, wait_for};

/// The browser while a test uses it.
static SHARED: Mutex<Weak<Browser>> = Mutex::new(Weak::new());

/// A browser, which ends with the last test that uses it.
pub(crate) struct Browser {
    _driver: Process,
    address: SocketAddr,
    session: String,
    /// Tests take turns: their figures would be those of each other.
    turn: Mutex<()>,
}

impl Browser {
    /// The browser of all tests.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *shared = Arc::downgrade(&started);
            started
        })
    }

    fn start() -> Self {
        let port = free_port("127.0.0.1");
        let driver = Process::start(
            Command::new(program("chromedriver")).arg(format!("--port={port}")).arg("--log-level=SEVERE"),
        );
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("chromedriver answers", || {
            TcpStream::connect(address).ok()?;
            exchange(address, "GET", "/status", None).ok()?["ready"].as_bool().filter(|ready| *ready)
        });
        let options = json!({
            "binary": program("chromium"),
            // As root there is no sandbox, and containers have little shared memory.
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                "--no-first-run", "--disable-background-networking", "--disable-component-update"],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": PATIENCE.as_millis(), "pageLoad": PATIENCE.as_millis()},
        }}});
        let told = exchange(address, "POST", "/session", Some(&wanted)).unwrap();
        let session = told["sessionId"].as_str().unwrap().to_owned();
        Self { _driver: driver, address, session, turn: Mutex::default() }
    }

    /// Waits for the turn of a test. It lasts until the guard is dropped.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a command of the session; an error is the driver's message.
    pub(crate) fn try_command(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        exchange(self.address, method, &format!("/session/{}/{path}", self.session), body)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser with the session.
        let _ = exchange(self.address, "DELETE", &format!("/session/{}", self.session), None);
    }
}

/// One request to the driver: the `value` of its reply.
fn exchange(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let failed = |error: std::io::Error| format!("{method} {path}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE * 2)).map_err(failed)?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}")
        .map_err(failed)?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(failed)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            _ if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut reply = vec![0; length];
    reader.read_exact(&mut reply).map_err(failed)?;
    let mut reply: Value =
        serde_json::from_slice(&reply).map_err(|error| format!("{method} {path}: {error}"))?;
    let value = reply["value"].take();
    match value["error"].as_str() {
        Some(error) => {
            Err(format!("{method} {path}: {error}: {}", value["message"].as_str().unwrap_or_default()))
        }
        None => Ok(value),
    }
}
