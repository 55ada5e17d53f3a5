//! A storm: 5,000 backends flip within a second, again and again, while the receiver is dead.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::receiver::Receiver;
use crate::support::{Steerd, free_port, wait_for};

const POOLS: usize = 50;
const BACKENDS: usize = 100;
/// An odd number: in the end all are dead.
const FLIPS: usize = 21;
const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";

/// Backends that are all checked at one address, so that they flip in the same moment.
fn config(port: u16, receiver: SocketAddr) -> String {
    let mut text = String::from("[zones.\"lb.example.test\"]\nfile = \"zone\"\n");
    for pool in 0..POOLS {
        let backends: Vec<String> = (0..BACKENDS)
            .map(|host| {
                format!("{{ address = \"192.0.{pool}.{}\", check_address = \"127.0.0.1\" }}", host + 1)
            })
            .collect();
        write!(
            text,
            "[pools.p{pool}]\nsuspect_self = \"off\"\nbackends = [{}]\n\
             check = {{ type = \"tcp\", port = {port}, interval = \"100ms\", timeout = \"90ms\", recheck = \"100ms\", \
             rise = 1, fall = 1, damping = false }}\n\
             [services.\"s{pool}.lb.example.test\"]\npools = [\"p{pool}\"]\n",
            backends.join(", ")
        )
        .unwrap();
    }
    writeln!(
        text,
        "[[alerts]]\nname = \"own\"\nurl = \"http://{receiver}/in\"\ndelay = \"0s\"\ngroup = \"2s\"\nevents = [\"pool\", \"service\"]"
    )
    .unwrap();
    text
}

/// Asks continually; returns the times of all answers, sorted, and how many queries had none.
fn ask(
    server: SocketAddr,
    sent: &crate::support::traffic::Sent,
    stop: &AtomicBool,
) -> (Vec<Duration>, usize) {
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (mut times, mut lost) = (Vec::new(), 0);
    let mut id: u16 = 0;
    while !stop.load(Ordering::Relaxed) {
        id = id.wrapping_add(1);
        let mut query = id.to_be_bytes().to_vec();
        query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in [&b"s1"[..], b"lb", b"example", b"test"] {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend(label);
        }
        query.extend([0, 0, 1, 0, 1]);
        sent.datagram();
        let began = Instant::now();
        socket.send(&query).unwrap();
        let mut reply = [0; 1232];
        match socket.recv(&mut reply) {
            Ok(length) if length > 12 && reply[..2] == id.to_be_bytes() && reply[3] % 16 == 0 => {
                times.push(began.elapsed());
            }
            _ => lost += 1,
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    times.sort();
    (times, lost)
}

fn memory(server: &Steerd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// How many services fail open.
fn failing(server: &Steerd) -> usize {
    let (_, services) = server.request("GET", "/api/v1/services", "");
    let services = services["services"].as_array().expect("a list");
    services.iter().filter(|service| service["fail_open"] == true).count()
}

/// All backends flip. Waits until every pool has.
fn flip(server: &Steerd, alive: &mut Option<TcpListener>, port: u16) {
    let wanted = match alive.take() {
        None => {
            // Nobody accepts: a probe resets its connection, which then leaves the queue of the listener.
            *alive = Some(wait_for("the backends listen", || TcpListener::bind(("127.0.0.1", port)).ok()));
            0
        }
        Some(_) => POOLS,
    };
    wait_for("all services have flipped", || (failing(server) == wanted).then_some(()));
}

#[test]
fn a_storm_with_a_dead_receiver_is_one_message_afterwards() {
    let port = free_port("127.0.0.1");
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")));
    let mut alive = None;
    let server = Steerd::start(&config(port, dead), &[("zone", ZONE)]);
    flip(&server, &mut alive, port);
    let measured = |work: &mut dyn FnMut()| {
        let stop = Arc::new(AtomicBool::new(false));
        let (own, dns, sent) = (Arc::clone(&stop), server.dns, server.ledger.sent.clone());
        let asking = thread::spawn(move || ask(dns, &sent, &own));
        work();
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    };
    let calm = measured(&mut || thread::sleep(Duration::from_secs(3)));
    // Two flips first, so that what is allocated once is there.
    flip(&server, &mut alive, port);
    flip(&server, &mut alive, port);
    let before = memory(&server);
    let (mut memories, mut took) = (Vec::new(), Duration::ZERO);
    let storm = measured(&mut || {
        let began = Instant::now();
        for _ in 0..FLIPS {
            flip(&server, &mut alive, port);
            memories.push(memory(&server));
        }
        took = began.elapsed();
    });
    let median = |times: &[Duration]| times[times.len() / 2];
    let late = |times: &[Duration]| times[times.len() * 99 / 100];
    let most = *memories.iter().max().unwrap();
    println!(
        "storm: {FLIPS} times {} backends in {took:?}; {} -> {} KiB; DNS: median {:?}, 99 % {:?} of {}, before {:?}, {:?} of {}; lost {} and {}",
        POOLS * BACKENDS,
        before / 1024,
        most / 1024,
        median(&storm.0),
        late(&storm.0),
        storm.0.len(),
        median(&calm.0),
        late(&calm.0),
        calm.0.len(),
        storm.1,
        calm.1
    );
    assert_eq!((storm.1, calm.1), (0, 0), "no query is lost");
    assert!(late(&storm.0) < Duration::from_millis(100), "{:?}", late(&storm.0));
    assert!(most < before + (8 << 20), "{before} -> {most} bytes");
    let (first, second) = memories.split_at(FLIPS / 2);
    let [first, second] = [first, second].map(|part| *part.iter().max().unwrap());
    assert!(second < first + (3 << 20), "it grows: {memories:?}");
    let failed = "steerd_alerts_sent_total{alert=\"own\",outcome=\"failure\"}";
    assert!(server.metric(failed).unwrap() >= 1.0, "the receiver was dead");

    // All pools are down now. The receiver returns.
    let receiver = Receiver::start_at(dead);
    let message = receiver.nth(0).body;
    assert_eq!((&message["status"], &message["firing"]), (&"firing".into(), &100.into()), "{message}");
    wait_for("all is told", || {
        (server.metric("steerd_alerts_pending{alert=\"own\"}") == Some(0.0)).then_some(())
    });
    assert_eq!(receiver.got().len(), 1, "one message");
}
