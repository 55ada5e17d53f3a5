//! Servers for the page, and the backends behind them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::browser::Browser;
use crate::support::{Steerd, free_port};
use crate::tab::Tab;

pub(crate) const ZONE: &str =
    "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 127.0.0.1\n";

/// Checks that find a failure within half a second.
pub(crate) const QUICK: &str =
    "[defaults.check]\ninterval = \"200ms\"\ntimeout = \"150ms\"\nrecheck = \"100ms\"\n";

/// A backend that answers each HTTP request alike, until it is dropped.
pub(crate) struct Backend {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn start(address: &str, port: u16) -> Self {
        Self::answering(address, port, "200 OK", "fine")
    }

    pub(crate) fn answering(address: &str, port: u16, status: &str, body: &str) -> Self {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        let listener = TcpListener::bind(address).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let length = body.len();
        let reply =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        let ended = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 2048]);
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Two pools `web` and `standby` with a service that has both as tiers, and their backends by number.
pub(crate) struct Site {
    pub(crate) server: Steerd,
    pub(crate) port: u16,
    pub(crate) web: Vec<Option<Backend>>,
    pub(crate) standby: Vec<Backend>,
}

impl Site {
    /// `admin` are additional keys of `[admin]`.
    pub(crate) fn start(admin: &str) -> Self {
        let port = free_port("127.0.0.31");
        let web = (1..=3).map(|host| Some(Backend::start(&format!("127.0.0.3{host}"), port))).collect();
        let standby = vec![Backend::start("127.0.0.36", port)];
        let config = format!(
            "[zones.\"page.test\"]\nfile = \"zone\"\n{QUICK}\
             [pools.web]\ncheck = \"http://:{port}/\"\nbackends = [\n\
             {{ name = \"gw1\", address = \"127.0.0.31\", weight = 2, site = \"a\" }},\n\
             {{ name = \"gw2\", address = \"127.0.0.32\", site = \"a\" }},\n\
             {{ name = \"gw3\", address = \"127.0.0.33\", site = \"b\" }},\n]\n\
             [pools.standby]\ncheck = \"http://:{port}/\"\nbackends = [{{ name = \"st1\", address = \"127.0.0.36\" }}]\n\
             [services.\"www.page.test\"]\npools = [\"web\", \"standby\"]\nanswers = 1\nttl = \"20s\"\n"
        );
        let server = Steerd::start(&config, &[("zone", ZONE), ("token", crate::support::TOKEN)]);
        if !admin.is_empty() {
            server.configure(&config, admin);
            assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
        }
        Self { server, port, web, standby }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.server.admin)
    }

    /// Opens the page, and waits until it shows the state.
    pub(crate) fn open<'b>(&self, browser: &'b Browser) -> Tab<'b> {
        let tab = Tab::new(browser);
        tab.go(&self.url());
        tab.wait(
            "the page shows backends",
            "return document.querySelectorAll('tr[data-backend]').length >= 4",
        );
        tab
    }

    /// Ends the backend `gw` with this number, from 1.
    pub(crate) fn kill(&mut self, number: usize) {
        drop(self.web[number - 1].take());
    }

    /// The backend of a pool, as the API shows it.
    pub(crate) fn backend(&self, pool: &str, name: &str) -> serde_json::Value {
        let (_, told) = self.server.request("GET", &format!("/api/v1/pools/{pool}"), "");
        let backends = told["backends"].as_array().unwrap();
        backends.iter().find(|backend| backend["name"] == name).unwrap().clone()
    }
}

/// The row of a backend.
pub(crate) fn row(name: &str) -> String {
    format!("tr[data-backend='{name}']")
}
