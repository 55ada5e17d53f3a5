//! Real sockets on the real clock.

use std::net::SocketAddr;

use super::*;

/// Addresses of this machine that have a free port in common: 127.0.1.1 and the following.
fn listeners(count: u8) -> (u16, Vec<std::net::TcpListener>) {
    for _ in 0..100 {
        let first = std::net::TcpListener::bind("127.0.1.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let rest =
            (2..=count).map(|last| std::net::TcpListener::bind((IpAddr::from([127, 0, 1, last]), port)));
        if let Ok(all) = std::iter::once(Ok(first)).chain(rest).collect() {
            return (port, all);
        }
    }
    panic!("no port is free on {count} addresses");
}

#[tokio::test]
async fn over_sockets_a_backend_dies_and_returns() {
    let (port, mut listening) = listeners(3);
    let timing = milliseconds(200, 150, 20);
    let pools = vec![pool_of("web", tcp(port, timing), &["127.0.1.1", "127.0.1.2", "127.0.1.3"])];
    let setup = FleetSetup { served: setup(pools, vec![service(&[0])]), memory: Memory::default() };
    let handle = start(setup, CAPACITY, outputs(Arc::new(Metrics::new(1)))).unwrap();
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0).len(), 3);
    let dead = listening.remove(1);
    let address = dead.local_addr().unwrap();
    drop(dead);
    until("death is found", SECOND * 10, || eligible(&handle, 0) == ["127.0.1.1", "127.0.1.3"]).await;
    let report = status(&handle).await.pools[0].backends[1].addresses[0].checks[0].last.clone().unwrap();
    assert_eq!(&*report.detail, "connection refused");
    listening.push(std::net::TcpListener::bind(address).unwrap());
    until("return is found", SECOND * 10, || eligible(&handle, 0).len() == 3).await;
}

#[tokio::test]
async fn over_sockets_a_black_hole_among_fifty_delays_no_other() {
    let (port, mut listening) = listeners(50);
    // A full backlog: the kernel drops further connection attempts.
    let hole = listening.remove(20);
    let hole_address = hole.local_addr().unwrap();
    socket2::SockRef::from(&hole).listen(0).unwrap();
    let mut held = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&hole_address, patience) {
        held.push(stream);
        assert!(held.len() < 100, "this kernel does not honour the backlog");
    }
    let timing = milliseconds(1500, 1400, 50);
    let addresses: Vec<String> = (1..=50).map(|last| format!("127.0.1.{last}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let served = setup(vec![pool_of("web", tcp(port, timing), &addresses)], Vec::new());
    let setup = FleetSetup { served, memory: Memory::default() };
    let handle = start(setup, CAPACITY, outputs(Arc::new(Metrics::new(1)))).unwrap();
    ready(&handle).await;
    assert_eq!(eligible(&handle, 0).len(), 49);
    let dead: SocketAddr = listening.pop().unwrap().local_addr().unwrap();
    let gone = || !eligible(&handle, 0).contains(&dead.ip().to_string());
    // Interval, jitter and one recheck, and a reserve for a busy machine that is less than a
    // timeout.
    let bound = Duration::from_millis(1500 + 75 + 50 + 800);
    until("death is found", bound, gone).await;
    assert_eq!(eligible(&handle, 0).len(), 48);
}
