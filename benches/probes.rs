//! The full CPU cost of one probe in this process: all threads, including kernel time.
//!
//! ```text
//! cargo bench --bench probes                          every kind, at 5,000 probes a second (TLS: 500)
//! cargo bench --bench probes -- http https            some kinds
//! cargo bench --bench probes -- --threads 1 --rate 0  one thread at full speed, 64 probes at a time
//! cargo bench --bench probes -- --port 8080 http      your own server on all addresses, such as nginx
//! ```
//!
//! The backend is a separate process, so its CPU time is not counted. On loopback, some of the work
//! for its end of a connection happens in the prober's system calls, and is counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot continue ends"
)]

use std::fs;
use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use steerd::check::{HttpProbe, Probe, TcpProbe, TlsSettings};
use steerd::health::Outcome;
use steerd::probe;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const NAME: &str = "backend.example";
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
/// Floors are the cost of the system calls alone, with blocking probes one after the other.
const KINDS: [&str; 6] = ["tcp-floor", "tcp", "http-floor", "http", "https", "https-full"];
/// Number of addresses at which the backend is probed.
const PLACES: u32 = 1000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Number of probes in flight without a rate.
const AT_A_TIME: usize = 64;

struct Options {
    threads: usize,
    /// Probes per second; 0 for as many as possible.
    rate: u32,
    seconds: u32,
    rounds: u32,
    port: Option<u16>,
    kinds: Vec<String>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [serve, directory] = arguments.as_slice()
        && serve == "--serve"
    {
        return runtime(1)?.block_on(serve_all(Path::new(directory)));
    }
    let options = options(&arguments)?;
    let directory = std::env::temp_dir().join(format!("probes.{}", std::process::id()));
    fs::create_dir(&directory)?;
    let (mut backend, ports) = start_backend(&directory)?;
    let result = runtime(options.threads)?.block_on(measure_all(&options, ports, &directory));
    backend.kill()?;
    backend.wait()?;
    fs::remove_dir_all(directory)?;
    result
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options =
        Options { threads: 2, rate: 5000, seconds: 3, rounds: 3, port: None, kinds: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut number = || {
            let value = rest.next().and_then(|value| value.parse::<u32>().ok());
            value.ok_or_else(|| Error::other(format!("{argument} needs a number")))
        };
        match argument.as_str() {
            "--threads" => options.threads = number()? as usize,
            "--rate" => options.rate = number()?,
            "--seconds" => options.seconds = number()?,
            "--rounds" => options.rounds = number()?,
            "--port" => options.port = Some(u16::try_from(number()?).map_err(Error::other)?),
            kind => options.kinds.push(kind.into()),
        }
    }
    if options.kinds.is_empty() {
        options.kinds = KINDS.map(Into::into).to_vec();
    }
    Ok(options)
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    if threads == 1 {
        return tokio::runtime::Builder::new_current_thread().enable_all().build();
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

/// The backend's ports without and with TLS.
struct Ports {
    clear: u16,
    tls: u16,
}

fn start_backend(directory: &Path) -> Result<(Child, Ports)> {
    let mut backend = Command::new(std::env::current_exe()?)
        .arg("--serve")
        .arg(directory)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = backend.stdout.take().ok_or_else(|| Error::other("no output of the backend"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let mut ports = line.split_whitespace().filter_map(|port| port.parse().ok());
    match (ports.next(), ports.next()) {
        (Some(clear), Some(tls)) => Ok((backend, Ports { clear, tls })),
        _ => Err(Error::other("the backend did not start")),
    }
}

/// The backend: prints its ports, then answers until it is killed.
async fn serve_all(directory: &Path) -> Result<()> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec![NAME.to_owned()]).map_err(Error::other)?;
    fs::write(authority(directory), cert.pem())?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(Error::other)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key))
        .map_err(Error::other)?;
    config.ticketer = ring::Ticketer::new().map_err(Error::other)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (clear, tls) = (listen()?, listen()?);
    println!("{} {}", clear.local_addr()?.port(), tls.local_addr()?.port());
    loop {
        tokio::select! {
            accepted = clear.accept() => {
                let stream = accepted?.0;
                tokio::spawn(answer(stream));
            }
            accepted = tls.accept() => {
                let (stream, acceptor) = (accepted?.0, acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream).await;
                    }
                });
            }
        }
    }
}

/// A long accept queue, because many connections may wait on a busy machine.
fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    socket.listen(16 * 1024)
}

fn authority(directory: &Path) -> PathBuf {
    directory.join("authority.pem")
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = [0; 1024];
    if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
        // The prober may close early; errors are ignored.
        let _ = stream.write_all(RESPONSE).await;
        let _ = stream.shutdown().await;
    }
}

async fn measure_all(options: &Options, ports: Ports, directory: &Path) -> Result<()> {
    let clear = options.port.unwrap_or(ports.clear);
    let https = |name: &str| HttpProbe {
        tls: Some(TlsSettings {
            name: Some(name.to_owned()),
            ca_file: Some(authority(directory)),
            ..TlsSettings::default()
        }),
        ..HttpProbe::get(ports.tls, "/health")
    };
    println!("kind          probes    CPU per probe, microseconds: best, all rounds");
    let mut fresh = 0x80_0000;
    for kind in &options.kinds {
        let probe = match kind.as_str() {
            "tcp" => Probe::Tcp(TcpProbe::connect(clear)),
            "http" => Probe::Http(HttpProbe::get(clear, "/health")),
            "https" | "https-full" => Probe::Http(https(NAME)),
            "tcp-floor" | "http-floor" => {
                let costs = (0..options.rounds).map(|_| floor(clear, kind == "http-floor"));
                show(kind, FLOOR, &costs.collect::<Result<Vec<f64>>>()?);
                continue;
            }
            other => return Err(Error::other(format!("{other} is none of {}", KINDS.join(", ")))),
        };
        let probe = Arc::new(probe);
        // TLS is probed at a tenth of the rate, because the backend could not keep up.
        let rate = if kind.starts_with("https") { options.rate / 10 } else { options.rate };
        // A new address each time, so that there is no session to resume.
        let mut fresh = (kind == "https-full").then_some(&mut fresh);
        let mut costs = Vec::new();
        let mut made = 0;
        for _ in 0..=options.rounds {
            let before = cpu_time()?;
            made = round(&probe, options, rate, fresh.as_deref_mut()).await?;
            costs.push(micros((cpu_time()?.saturating_sub(before)) / made.max(1)));
        }
        // The first round only fills caches.
        costs.remove(0);
        show(kind, made, &costs);
    }
    Ok(())
}

fn show(kind: &str, probes: u32, costs: &[f64]) {
    let best = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let all: Vec<String> = costs.iter().map(|cost| format!("{cost:.1}")).collect();
    println!("{kind:12} {probes:7}    {best:7.1}   ({})", all.join(", "));
}

/// Number of connections for measuring a floor.
const FLOOR: u32 = 10_000;

/// Makes connections with blocking calls, and does nothing else.
fn floor(port: u16, ask: bool) -> Result<f64> {
    let before = cpu_time()?;
    for number in 0..FLOOR {
        let mut stream = std::net::TcpStream::connect((place(number % PLACES), port))?;
        if ask {
            let request =
                b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: floor\r\nConnection: close\r\n\r\n";
            stream.write_all(request)?;
            stream.read_exact(&mut [0; RESPONSE.len()])?;
        }
    }
    Ok(micros(cpu_time()?.saturating_sub(before) / FLOOR))
}

/// A loopback address; all of 127.0.0.0/8 is this machine.
fn place(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x7f01_0000 + number)
}

/// Probes for some seconds. Returns the number of probes.
async fn round(probe: &Arc<Probe>, options: &Options, rate: u32, mut fresh: Option<&mut u32>) -> Result<u32> {
    const TICK: Duration = Duration::from_millis(2);
    let mut probes = JoinSet::new();
    let mut made: u32 = 0;
    let mut start = |probes: &mut JoinSet<_>| {
        made += 1;
        let probe = Arc::clone(probe);
        let number = match &mut fresh {
            None => made % PLACES,
            Some(next) => {
                **next += 1;
                **next
            }
        };
        let address = IpAddr::V4(place(number));
        probes.spawn(async move { probe::run(&probe, address, TIMEOUT).await });
        made
    };
    let begin = Instant::now();
    let length = Duration::from_secs(options.seconds.into());
    if rate == 0 {
        for _ in 0..AT_A_TIME {
            start(&mut probes);
        }
        while let Some(report) = probes.join_next().await {
            passed(&report)?;
            if begin.elapsed() < length {
                start(&mut probes);
            }
        }
        return Ok(made);
    }
    let mut ticks = tokio::time::interval(TICK);
    while begin.elapsed() < length {
        ticks.tick().await;
        let due = (begin.elapsed().as_secs_f64() * f64::from(rate)).ceil();
        while f64::from(start(&mut probes)) < due {}
        while let Some(report) = probes.try_join_next() {
            passed(&report)?;
        }
    }
    while let Some(report) = probes.join_next().await {
        passed(&report)?;
    }
    Ok(made)
}

fn passed(report: &std::result::Result<probe::Report, tokio::task::JoinError>) -> Result<()> {
    match report {
        Ok(report) if report.outcome == Outcome::Passed => Ok(()),
        other => Err(Error::other(format!("a probe did not pass: {other:?}"))),
    }
}

/// CPU time of all current threads of this process.
fn cpu_time() -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().and_then(|run| run.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
