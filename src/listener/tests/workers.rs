//! UDP workers with several sockets, and their counts.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::captured_log::CapturedLog;

/// A client of one address that waits for each reply.
fn asker(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind((address.ip(), 0)).unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ask(client: &UdpSocket, id: u8) {
    client.send(&query(id)).unwrap();
    let mut buffer = [0; 512];
    client.recv(&mut buffer).expect("a reply");
    assert_eq!(buffer[1], id);
}

fn both_families() -> [SocketAddr; 2] {
    ["127.0.0.1:0", "[::1]:0"].map(|address| address.parse().unwrap())
}

/// The same service and backends, in another order.
fn turned(table: &Table, generation: u64) -> Table {
    let names = if generation.is_multiple_of(2) { ["b1", "b2"] } else { ["b2", "b1"] };
    let backend = |name: &str| {
        let host = if name == "b1" { 1 } else { 2 };
        Backend::new(name, vec![[192, 0, 2, host].into()])
    };
    let pool = Pool::new("web", names.map(backend).into());
    let view = PoolView::build(&pool, None, |_, _| Standing::Healthy.into());
    let (settings, catalog) = (Arc::clone(&table.settings), Arc::clone(&table.catalog));
    let services = Arc::clone(table.services());
    let rng = SmallRng::seed_from_u64(generation);
    Table::new(generation, settings, catalog, services, [Arc::new(view)], rng).counting_on(table)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_lost_while_tables_are_replaced() {
    const ASKED: u64 = 2000;
    let bound = bind(&both_families(), 2).unwrap();
    let addresses = bound.local_addresses();
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let published = Published::new(table_with_service(bound.workers()));
    let listeners = bound.serve(&published, &metrics, &InForce::new(Limits::default(), usize::MAX)).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = addresses
            .iter()
            .chain(&addresses)
            .map(|address| {
                let client = asker(*address);
                scope.spawn(move || (0..ASKED).for_each(|number| ask(&client, number.to_le_bytes()[0])))
            })
            .collect();
        scope.spawn(|| {
            let mut generation = 1;
            let mut shown = 0;
            while !over.load(Ordering::Relaxed) {
                generation += 1;
                let table = published.load();
                drop(published.replace(turned(&table, generation)));
                let count = published.load().answers().of_service(ServiceId(0), 0);
                assert!(count >= shown, "{count} after {shown}");
                shown = count;
            }
            assert!(generation > 10);
        });
        let ends: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok));
    });
    let text = metrics.render(&published.load());
    for line in [
        "steerd_service_answers_total{service=\"www.example\",pool=\"web\"} 8000",
        "steerd_backend_answers_total{pool=\"web\",backend=\"b1\"} 8000",
        "steerd_backend_answers_total{pool=\"web\",backend=\"b2\"} 8000",
        "steerd_queries_total{transport=\"udp\",family=\"ipv4\"} 4000",
        "steerd_queries_total{transport=\"udp\",family=\"ipv6\"} 4000",
        "steerd_responses_total{rcode=\"NOERROR\"} 8000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    listeners.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_address_leaves_the_other_its_share() {
    let bound = bind(&both_families(), 1).unwrap();
    let [flooded, other] = bound.local_addresses()[..] else { panic!("two addresses") };
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let listeners = bound
        .serve(&Published::new(table()), &metrics, &InForce::new(Limits::default(), usize::MAX))
        .unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let client = asker(flooded);
            let mut sent = 0_u64;
            while !over.load(Ordering::Relaxed) {
                // Its own buffer may be full.
                sent += u64::from(client.send(&query(1)).is_ok());
            }
            sent
        });
        let client = asker(other);
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        (0..200).for_each(|id| ask(&client, id));
        over.store(true, Ordering::Relaxed);
        assert!(flood.join().unwrap() > 200);
    });
    listeners.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_cannot_be_read_does_not_hold_up_the_others() {
    const ASKED: u32 = 1000;
    const ERRORS: &str = "steerd_receive_errors_total";
    let mut bound = bind(&both_families(), 1).unwrap();
    let [_, address] = bound.local_addresses()[..] else { panic!("two addresses") };
    // A listener with a waiting connection is always ready, and every attempt to receive fails.
    let broken = TcpListener::bind("127.0.0.1:0").unwrap();
    let _waiting = TcpStream::connect(broken.local_addr().unwrap()).unwrap();
    bound.endpoints[0].udp[0] = OwnedFd::from(broken).into();
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let limits = InForce::new(Limits::default(), usize::MAX);
    let began = std::time::Instant::now();
    let listeners = bound.serve(&Published::new(table()), &metrics, &limits).unwrap();
    let fixture = Fixture { address, metrics, listeners };
    let client = asker(address);
    (0..ASKED).for_each(|number| ask(&client, number.to_le_bytes()[0]));
    let errors = fixture.count(ERRORS);
    assert!(errors < u64::from(ASKED / 2), "replies wait for the socket that fails: {errors} errors");
    fixture.wait_for_count(ERRORS, 3).await;
    let errors = u32::try_from(fixture.count(ERRORS)).unwrap();
    // There is a rest between any two.
    assert!(udp::REST * (errors - 1) <= began.elapsed(), "{errors} errors in {:?}", began.elapsed());
    fixture.listeners.stop().await;
}

/// Each datagram is sent from the last CPU, and loopback delivers it there.
#[test]
fn an_address_that_cannot_be_steered_does_not_prevent_the_others() {
    let (log, _guard) = CapturedLog::listen();
    let cpus = sys::affinity::allowed_cpus().unwrap();
    let mut bound = bind(&both_families(), cpus.len()).unwrap();
    let [refused, steered] = bound.local_addresses()[..] else { panic!("two addresses") };
    // The kernel steers only sockets that share a port.
    bound.endpoints[0].udp[0] = UdpSocket::bind("127.0.0.1:0").unwrap();
    bound.steer_by_cpu();
    let client = std::thread::spawn(move || {
        sys::affinity::pin_to(*cpus.last().unwrap()).unwrap();
        for _ in 0..40 {
            asker(steered).send(&query(1)).unwrap();
        }
        cpus.len()
    });
    let is_alone = client.join().unwrap() == 1;
    let last = bound.endpoints[1].udp.last().unwrap();
    last.set_nonblocking(true).unwrap();
    let arrived = std::iter::from_fn(|| last.recv(&mut [0; 512]).ok()).count();
    assert_eq!(arrived, 40);
    let told = log.take("").concat();
    if !is_alone {
        assert!(told.contains("no effect on this address") && told.contains(&refused.to_string()), "{told}");
    }
    assert!(!told.contains(&steered.to_string()), "{told}");
}

#[test]
fn steering_that_has_no_effect_says_why() {
    let (log, _guard) = CapturedLog::listen();
    let workers = sys::affinity::allowed_cpus().unwrap().len() + 1;
    bind(&both_families(), workers).unwrap().steer_by_cpu();
    let told = log.take("").concat();
    assert!(told.contains("has no effect: it needs one UDP worker for each CPU"), "{told}");
    assert!(told.contains(&format!("`workers` is set to {workers}, and")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_datagram_is_received_or_counted_as_dropped_by_the_kernel() {
    // More than the largest receive buffer.
    const SENT: u64 = 8000;
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 1).unwrap();
    let address = bound.local_addresses()[0];
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut long = query(1);
    long.resize(sys::batch::MAX_QUERY, 0);
    for _ in 0..SENT {
        client.send_to(&long, address).unwrap();
    }
    let metrics = Arc::new(Metrics::new(bound.workers()));
    let limits = InForce::new(Limits::default(), usize::MAX);
    let listeners = bound.serve(&Published::new(table()), &metrics, &limits).unwrap();
    let fixture = Fixture { address, metrics, listeners };
    fixture.wait_for_count("steerd_kernel_drops_total", 1).await;
    let dropped = fixture.count("steerd_kernel_drops_total");
    fixture.wait_for_count("steerd_queries_total{transport=\"udp\",family=\"ipv4\"}", SENT - dropped).await;
    fixture.listeners.stop().await;
}
