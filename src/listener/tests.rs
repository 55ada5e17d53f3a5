//! Uses real sockets on loopback. The table is empty unless a test needs a service, so every query
//! is refused: these tests check that replies arrive, not what they contain.

mod workers;

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream as StdStream};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::rate_limit::RateLimit;
use super::*;
use crate::name::Name;
use crate::pool::{Backend, Pool, PoolId};
use crate::service::{Service, ServiceId};
use crate::sys;
use crate::table::{PoolView, Services, Standing};
use crate::zone::{Catalog, ZoneBuilder, rtype};

const PATIENCE: Duration = Duration::from_secs(20);

/// First label of a question that makes answering panic.
const PLANTED: &[u8] = b"\x05panic";

pub(super) fn panic_if_planted(query: &[u8]) {
    assert!(!query.windows(PLANTED.len()).any(|part| part == PLANTED), "planted by a test");
}

struct Fixture {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    listeners: Listeners,
}

fn start(limits: TcpLimits) -> Fixture {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 2).unwrap();
    let address = bound.local_addresses()[0];
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let listeners = bound
        .serve(
            &Published::new(table()),
            &metrics,
            &InForce::new(Limits { tcp: limits, ..Limits::default() }, usize::MAX),
        )
        .unwrap();
    Fixture { address, metrics, listeners }
}

fn table() -> Table {
    Table::new(
        1,
        Arc::default(),
        Arc::new(Catalog::new(Vec::new())),
        Arc::default(),
        [],
        SmallRng::seed_from_u64(1),
    )
}

impl Fixture {
    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.render(&Arc::new(table()));
        let line = text.lines().find(|line| line.starts_with(series)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn wait_for_count(&self, series: &str, at_least: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(series) < at_least {
            assert!(Instant::now() < deadline, "{series} stays at {}", self.count(series));
            tokio::task::yield_now().await;
        }
    }
}

fn query(id: u8) -> Vec<u8> {
    let mut query = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x03www\x07example\x00\x00\x01\x00\x01");
    query
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&u16::try_from(query.len()).unwrap().to_be_bytes()[..], query].concat()
}

/// Reads one reply and returns its id and response code.
async fn read_reply(stream: &mut TcpStream) -> (u8, u8) {
    let read = async {
        let length = stream.read_u16().await.unwrap();
        let mut reply = vec![0; length.into()];
        stream.read_exact(&mut reply).await.unwrap();
        (reply[1], reply[3] & 0xf)
    };
    timeout(PATIENCE, read).await.unwrap()
}

/// Waits until the server closes, and returns how long that took.
async fn until_closed(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    match timeout(PATIENCE, stream.read(&mut [0; 16])).await.unwrap() {
        Ok(0) => {}
        Ok(_) => panic!("a reply although none was due"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_is_answered_and_counted() {
    let fixture = start(TcpLimits::default());
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(fixture.address).await.unwrap();
    let mut response = query(9);
    response[2] |= 0x80;
    for message in [&query(1)[..], &[1, 2, 3], &response, &vec![0; 5000], &query(2)] {
        client.send(message).await.unwrap();
    }
    let mut buffer = [0; 512];
    for expected in [1, 2] {
        timeout(PATIENCE, client.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!((buffer[1], buffer[3] & 0xf), (expected, 5));
    }
    assert_eq!(fixture.count("steerd_queries_total{transport=\"udp\",family=\"ipv4\"}"), 5);
    assert_eq!(fixture.count("steerd_responses_total{rcode=\"REFUSED\"}"), 2);
    for reason in ["short", "response", "long"] {
        assert_eq!(fixture.count(&format!("steerd_dropped_total{{reason=\"{reason}\"}}")), 1, "{reason}");
    }
    fixture.listeners.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_queries_are_answered_in_order_wherever_segments_end() {
    let fixture = start(TcpLimits::default());
    let stream: Vec<u8> = (1..=3).flat_map(|id| framed(&query(id))).collect();
    for cut in 1..stream.len() {
        let mut client = fixture.connect().await;
        client.set_nodelay(true).unwrap();
        client.write_all(&stream[..cut]).await.unwrap();
        // The first part is sent separately: the complete queries in it are answered before the
        // rest follows.
        let whole = cut / framed(&query(1)).len();
        for id in 1..=whole {
            assert_eq!(read_reply(&mut client).await, (u8::try_from(id).unwrap(), 5));
        }
        client.write_all(&stream[cut..]).await.unwrap();
        for id in whole + 1..=3 {
            assert_eq!(read_reply(&mut client).await, (u8::try_from(id).unwrap(), 5), "cut at {cut}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pipelined_queries_with_a_half_closed_stream() {
    let fixture = start(TcpLimits::default());
    let mut client = fixture.connect().await;
    let many: Vec<u8> = (0..2000).flat_map(|id: u16| framed(&query(id.to_be_bytes()[1]))).collect();
    let (mut reader, mut writer) = client.split();
    let write = async {
        writer.write_all(&many).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut replies = Vec::new();
    let read = reader.read_to_end(&mut replies);
    let ((), read) = timeout(PATIENCE, async { tokio::join!(write, read) }).await.unwrap();
    read.unwrap();
    let one = replies.len() / 2000;
    assert_eq!(replies.len(), one * 2000);
    for (id, reply) in replies.chunks(one).enumerate() {
        assert_eq!(usize::from(reply[3]), id % 256);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_query_can_be_ends_the_connection_at_once() {
    let fixture = start(TcpLimits::default());
    let mut response = query(1);
    response[2] |= 0x80;
    for bytes in [vec![0xff, 0xff], vec![0x10, 0x01], framed(&[]), framed(&[1, 2, 3]), framed(&response)] {
        let mut client = fixture.connect().await;
        client.write_all(&bytes).await.unwrap();
        assert!(until_closed(&mut client).await < Duration::from_secs(5), "{bytes:02x?}");
    }
    assert_eq!(fixture.count("steerd_dropped_total{reason=\"long\"}"), 2);
    assert_eq!(fixture.count("steerd_queries_total{transport=\"tcp\",family=\"ipv4\"}"), 5);
    // Queries before the invalid length are still answered.
    let mut client = fixture.connect().await;
    client.write_all(&[framed(&query(3)), vec![0xff, 0xff]].concat()).await.unwrap();
    assert_eq!(read_reply(&mut client).await, (3, 5));
    until_closed(&mut client).await;
    // A query of maximum length is accepted, and answered as malformed.
    let mut client = fixture.connect().await;
    let mut longest = query(7);
    longest.resize(sys::batch::MAX_QUERY, 0);
    client.write_all(&framed(&longest)).await.unwrap();
    assert_eq!(read_reply(&mut client).await, (7, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_slow_clients_are_closed_and_steady_ones_are_not() {
    let idle = Duration::from_millis(400);
    let fixture = start(TcpLimits { idle, ..TcpLimits::default() });
    let mut silent = fixture.connect().await;
    let slow = async {
        let mut client = fixture.connect().await;
        // One byte at a time: each byte arrives in time, but the query does not.
        for byte in framed(&query(1)) {
            if client.write_all(&[byte]).await.is_err() {
                return;
            }
            let mut buffer = [0; 16];
            match timeout(idle / 8, client.read(&mut buffer)).await {
                Err(_) => {}
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => panic!("the query took longer than the limit and was answered"),
            }
        }
        panic!("a slow client was not closed");
    };
    let steady = async {
        let mut client = fixture.connect().await;
        for id in 0..12 {
            client.write_all(&framed(&query(id))).await.unwrap();
            assert_eq!(read_reply(&mut client).await, (id, 5));
            let pause = timeout(idle / 6, client.read(&mut [0; 1])).await;
            assert!(pause.is_err(), "a steady client was closed");
        }
    };
    let ((), ()) = tokio::join!(slow, steady);
    until_closed(&mut silent).await;
    assert!(fixture.count("steerd_tcp_timeouts_total") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idlest_connection_makes_room_and_new_clients_are_served() {
    let fixture = start(TcpLimits { connections: 50, ..TcpLimits::default() });
    // One prefix may hold five.
    let mut clients = Vec::new();
    for id in 0..5 {
        let mut client = fixture.connect().await;
        client.write_all(&framed(&query(id))).await.unwrap();
        assert_eq!(read_reply(&mut client).await, (id, 5));
        clients.push(client);
    }
    let mut late = fixture.connect().await;
    late.write_all(&framed(&query(77))).await.unwrap();
    assert_eq!(read_reply(&mut late).await, (77, 5));
    until_closed(&mut clients[0]).await;
    clients[4].write_all(&framed(&query(5))).await.unwrap();
    assert_eq!(read_reply(&mut clients[4]).await, (5, 5));
    assert_eq!(fixture.count("steerd_tcp_evicted_total"), 1);
    drop(clients);
    drop(late);
    let deadline = Instant::now() + PATIENCE;
    while fixture.count("steerd_tcp_connections") > 0 {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_costs_bounded_memory_and_is_closed() {
    let idle = Duration::from_millis(500);
    let fixture = start(TcpLimits { idle, ..TcpLimits::default() });
    let mut greedy = fixture.connect().await;
    let chunk: Vec<u8> = (0..100).flat_map(|id| framed(&query(id))).collect();
    let flood = async {
        // This ends when the server closes the connection because it cannot write more replies.
        while greedy.write_all(&chunk).await.is_ok() {}
    };
    timeout(PATIENCE, flood).await.unwrap();
    fixture.wait_for_count("steerd_tcp_timeouts_total", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_in_use_are_an_error_that_says_so() {
    let fixture = start(TcpLimits::default());
    let error = bind(&[fixture.address], 1).unwrap_err();
    assert_eq!(error.protocol, "UDP");
    assert!(error.to_string().contains("another process has this port"), "{error}");
    let tcp_only = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = bind(&[tcp_only.local_addr().unwrap()], 1).unwrap_err();
    assert_eq!(error.protocol, "TCP");
    let error = bind(&["192.0.2.1:5353".parse().unwrap()], 1).unwrap_err();
    assert!(error.to_string().contains("no such address"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_frees_the_port_and_ends_connections() {
    let fixture = start(TcpLimits::default());
    let mut client = fixture.connect().await;
    client.write_all(&framed(&query(1))).await.unwrap();
    assert_eq!(read_reply(&mut client).await, (1, 5));
    let address = fixture.address;
    fixture.listeners.stop().await;
    until_closed(&mut client).await;
    assert!(StdStream::connect(address).and_then(|stream| stream.shutdown(Shutdown::Both)).is_err());
    bind(&[address], 1).unwrap();
}

/// The port of an address is free for whoever shares it only as long as several workers share it.
#[test]
fn one_worker_shares_its_port_with_nobody() {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap();
    let error = sys::udp::bind_udp(bound.local_addresses()[0], true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
}

/// A table with the service `www.example`: two backends, both in every answer.
fn table_with_service(threads: usize) -> Table {
    let wire = |text: &str| Name::parse(text).unwrap().wire().to_vec();
    let mut zone = ZoneBuilder::new(&wire("example"));
    let soa = [wire("ns.elsewhere"), wire("admin.elsewhere"), vec![0; 20]].concat();
    zone.add(&wire("example"), rtype::SOA, 60, &soa, 0).unwrap();
    zone.add(&wire("example"), rtype::NS, 60, &wire("ns.elsewhere"), 1).unwrap();
    zone.bind_service(&wire("www.example"), ServiceId(0)).unwrap();
    let backend = |host: u8| Backend::new(format!("b{host}"), vec![[192, 0, 2, host].into()]);
    let pool = Pool::new("web", vec![backend(1), backend(2)]);
    let service = Service::new(Name::parse("www.example").unwrap(), vec![PoolId(0)]);
    let catalog = Catalog::new(vec![zone.finish().unwrap()]);
    let services = Services::new([service]);
    let view = PoolView::build(&pool, None, |_, _| Standing::Healthy.into());
    Table::new(
        1,
        Arc::default(),
        Arc::new(catalog),
        Arc::new(services),
        [Arc::new(view)],
        SmallRng::seed_from_u64(1),
    )
    .counted_by(threads)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_services_are_counted_over_both_transports_and_families() {
    let bound = bind(&["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()], 2).unwrap();
    let addresses = bound.local_addresses();
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let published = Published::new(table_with_service(bound.workers()));
    let listeners = bound.serve(&published, &metrics, &InForce::new(Limits::default(), usize::MAX)).unwrap();
    for address in addresses {
        let client = tokio::net::UdpSocket::bind((address.ip(), 0)).await.unwrap();
        client.send_to(&query(1), address).await.unwrap();
        let mut buffer = [0; 512];
        let (_, from) = timeout(PATIENCE, client.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!((from, buffer[3] & 0xf, buffer[7]), (address, 0, 2));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[framed(&query(2)), framed(&query(3))].concat()).await.unwrap();
        assert_eq!(read_reply(&mut client).await, (2, 0));
        assert_eq!(read_reply(&mut client).await, (3, 0));
    }
    listeners.stop().await;
    let text = metrics.render(&published.load());
    for line in [
        "steerd_service_answers_total{service=\"www.example\",pool=\"web\"} 6",
        "steerd_service_answers_total{service=\"www.example\",pool=\"\"} 0",
        "steerd_backend_answers_total{pool=\"web\",backend=\"b1\"} 6",
        "steerd_backend_answers_total{pool=\"web\",backend=\"b2\"} 6",
        "steerd_queries_total{transport=\"udp\",family=\"ipv6\"} 1",
        "steerd_queries_total{transport=\"tcp\",family=\"ipv6\"} 2",
        "steerd_responses_total{rcode=\"NOERROR\"} 6",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_do_not_keep_others_from_being_served() {
    let fixture = start(TcpLimits::default());
    let address = fixture.address;
    // One client opens a connection per byte, another queries without pause.
    let dribble = tokio::spawn(async move {
        loop {
            let mut client = TcpStream::connect(address).await.unwrap();
            let _ = client.write_all(&[0]).await;
        }
    });
    let torrent = tokio::spawn(async move {
        let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        let many: Vec<u8> = (0..200).flat_map(|id| framed(&query(id))).collect();
        let write = async { while writer.write_all(&many).await.is_ok() {} };
        let mut sink = tokio::io::sink();
        let _ = tokio::join!(write, tokio::io::copy(&mut reader, &mut sink));
    });
    fixture.wait_for_count("steerd_tcp_accepted_total", 200).await;
    for id in 0..50 {
        let mut client = fixture.connect().await;
        client.write_all(&framed(&query(id))).await.unwrap();
        assert_eq!(read_reply(&mut client).await, (id, 5));
    }
    assert!(!dribble.is_finished() && !torrent.is_finished());
    dribble.abort();
    torrent.abort();
    fixture.listeners.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_waits_for_no_client_that_does_not_read() {
    let fixture = start(TcpLimits { idle: PATIENCE, ..TcpLimits::default() });
    let mut greedy = fixture.connect().await;
    let chunk: Vec<u8> = (0..100).flat_map(|id| framed(&query(id))).collect();
    // Until the server cannot write more, and so stops reading.
    while timeout(Duration::from_millis(300), greedy.write_all(&chunk)).await.is_ok() {}
    let start = Instant::now();
    fixture.listeners.stop().await;
    assert!(start.elapsed() < STOP_PATIENCE * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_that_are_dropped_stop_too() {
    let fixture = start(TcpLimits::default());
    drop(fixture.listeners);
    let deadline = Instant::now() + PATIENCE;
    while bind(&[fixture.address], 1).is_err() {
        assert!(Instant::now() < deadline, "the port is still held");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_any_listener_is_noticed() {
    let fixture = start(TcpLimits::default());
    let early = timeout(Duration::from_millis(200), fixture.listeners.ended()).await;
    assert!(early.is_err(), "all are running");
    fixture.listeners.stop.store(true, Ordering::Relaxed);
    timeout(PATIENCE, fixture.listeners.ended()).await.expect("the UDP workers have ended");

    let fixture = start(TcpLimits::default());
    fixture.listeners.course.send_replace(Course::Stop);
    timeout(PATIENCE, fixture.listeners.ended()).await.expect("the accepting task has ended");

    let ended = Arc::new(Notify::new());
    let notice = EndNotice(Arc::clone(&ended));
    let broken = std::thread::spawn(move || {
        let _notice = notice;
        panic!("on purpose");
    });
    timeout(PATIENCE, ended.notified()).await.expect("a panic notifies too");
    assert!(broken.join().is_err());
}

#[test]
fn each_reason_not_to_bind_is_explained() {
    for (code, expected) in [
        (libc::EACCES, "CAP_NET_BIND_SERVICE"),
        (libc::EADDRINUSE, "systemd-resolved"),
        (libc::EADDRNOTAVAIL, "no such address"),
        (libc::EAFNOSUPPORT, "IPv6 may be switched off"),
        (libc::ENOBUFS, "No buffer space"),
    ] {
        let error = io::Error::from_raw_os_error(code);
        let error = ListenError { address: "[::]:53".parse().unwrap(), protocol: "TCP", error };
        let text = error.to_string();
        assert!(text.starts_with("cannot listen on [::]:53 over TCP: "), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_replies_are_limited_and_slip_to_tcp() {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap();
    let address = bound.local_addresses()[0];
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let rate = RateLimit {
        responses_per_second: 5,
        all_responses_per_second: None,
        slip: 2,
        networks_exempt: crate::network::Networks::default(),
    };
    let limits = InForce::new(Limits { rate: Some(rate), ..Limits::default() }, usize::MAX);
    let listeners = bound.serve(&Published::new(table()), &metrics, &limits).unwrap();
    let fixture = Fixture { address, metrics, listeners };
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    for id in 0..45 {
        client.send(&query(id)).await.unwrap();
    }
    fixture.wait_for_count("steerd_queries_total{transport=\"udp\",family=\"ipv4\"}", 45).await;
    let limited = fixture.count("steerd_dropped_total{reason=\"limited\"}");
    let slipped = fixture.count("steerd_slipped_total");
    // Five at once, and one more per fifth of a second that the test took.
    let sent = fixture.count("steerd_responses_total{rcode=\"REFUSED\"}");
    assert_eq!(sent + slipped + limited, 45);
    assert!((5..15).contains(&sent) && slipped.abs_diff(limited) <= 1, "{sent} {slipped} {limited}");
    let mut truncated = 0;
    let mut buffer = [0; 512];
    for _ in 0..sent + slipped {
        let length = timeout(PATIENCE, client.recv(&mut buffer)).await.unwrap().unwrap();
        if buffer[2] & 2 != 0 {
            truncated += 1;
            assert_eq!(length, query(0).len(), "a slipped reply is no longer than its query");
            assert_eq!(buffer[6..12], [0; 6]);
        }
    }
    assert_eq!(truncated, slipped);
    let mut stream = fixture.connect().await;
    for id in 0..20 {
        stream.write_all(&framed(&query(id))).await.unwrap();
        assert_eq!(read_reply(&mut stream).await, (id, 5), "TCP is not limited");
    }
}

/// A query that makes answering panic.
fn planted(id: u8) -> Vec<u8> {
    let mut query = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend([PLANTED, b"\x00\x00\x01\x00\x01"].concat());
    query
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_datagram_alone() {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap();
    let address = bound.local_addresses()[0];
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(address).await.unwrap();
    // The whole batch arrives before the worker reads.
    for id in 0..64 {
        client.send(&if id == 20 { planted(id) } else { query(id) }).await.unwrap();
    }
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let listeners = bound
        .serve(&Published::new(table()), &metrics, &InForce::new(Limits::default(), usize::MAX))
        .unwrap();
    let fixture = Fixture { address, metrics, listeners };
    let mut buffer = [0; 512];
    for id in (0..64).filter(|id| *id != 20) {
        timeout(PATIENCE, client.recv(&mut buffer)).await.expect("a reply for each of the others").unwrap();
        assert_eq!((buffer[1], buffer[3] & 0xf), (id, 5));
    }
    assert_eq!(fixture.count("steerd_queries_total{transport=\"udp\",family=\"ipv4\"}"), 64);
    assert_eq!(fixture.count("steerd_responses_total{rcode=\"REFUSED\"}"), 63);
    assert_eq!(fixture.count("steerd_panics_total"), 1);
    fixture.listeners.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_connection_alone() {
    let fixture = start(TcpLimits::default());
    let mut other = fixture.connect().await;
    let mut stream = fixture.connect().await;
    stream.write_all(&[framed(&query(1)), framed(&planted(2)), framed(&query(3))].concat()).await.unwrap();
    assert_eq!(read_reply(&mut stream).await, (1, 5), "earlier answers are sent");
    until_closed(&mut stream).await;
    fixture.wait_for_count("steerd_tcp_closed_total", 1).await;
    assert_eq!(fixture.count("steerd_panics_total"), 1);
    other.write_all(&framed(&query(4))).await.unwrap();
    assert_eq!(read_reply(&mut other).await, (4, 5));
}
