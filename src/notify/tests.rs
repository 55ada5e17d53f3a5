//! Notifications over loopback to a secondary that the test plays.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::keys::{Algorithm, Keys};
use crate::settings::Settings;
use crate::table::Table;
use crate::zone::{Catalog, ZoneBuilder};

const PATIENCE: Duration = Duration::from_secs(20);

fn table(serial: u32, secondaries: Vec<Secondary>, keys: Keys) -> Table {
    let zone = Name::parse("example.test").unwrap();
    let wire = zone.wire();
    let mut builder = ZoneBuilder::new(wire);
    let mut soa = [wire, wire].concat();
    for number in [serial, 1, 1, 1, 1] {
        soa.extend(number.to_be_bytes());
    }
    builder.add(wire, rtype::SOA, 60, &soa, 0).unwrap();
    builder.add(wire, rtype::NS, 60, Name::parse("ns.elsewhere").unwrap().wire(), 0).unwrap();
    let mut settings = Settings::default();
    settings.transfers.keys = keys;
    settings.transfers.secondaries.insert(zone, secondaries);
    let catalog = Catalog::new(vec![builder.finish().unwrap()]);
    Table::new(
        serial.into(),
        Arc::new(settings),
        Arc::new(catalog),
        Arc::default(),
        [],
        SmallRng::seed_from_u64(1),
    )
}

/// A secondary, and a server that notifies it.
struct Fixture {
    secondary: UdpSocket,
    secondaries: Vec<Secondary>,
    keys: Keys,
    published: Published,
    metrics: Arc<Metrics>,
    handle: NotifyHandle,
}

impl Fixture {
    async fn start(key: Option<Key>) -> Self {
        let secondary = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let name = key.as_ref().map(|key| key.name().clone());
        let secondaries = vec![Secondary { address: secondary.local_addr().unwrap(), key: name }];
        let keys: Keys = key.into_iter().collect();
        let published = Published::new(table(1, secondaries.clone(), keys.clone()));
        let metrics = Arc::new(Metrics::new(1));
        let handle = start(published.clone(), vec!["127.0.0.1:53".parse().unwrap()], Arc::clone(&metrics));
        Self { secondary, secondaries, keys, published, metrics, handle }
    }

    fn publish(&self, serial: u32) {
        drop(self.published.replace(table(serial, self.secondaries.clone(), self.keys.clone())));
        self.handle.look();
    }

    async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; MESSAGE];
        let received = tokio::time::timeout(PATIENCE, self.secondary.recv_from(&mut buffer));
        let (length, from) = received.await.expect("a notification").unwrap();
        (buffer[..length].to_vec(), from)
    }

    /// Sends a reply with this code.
    async fn reply(&self, query: &[u8], code: u8, to: SocketAddr) {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply[3] = code;
        self.secondary.send_to(&reply, to).await.unwrap();
    }

    fn count(&self, series: &str) -> u64 {
        let text = self.metrics.render(&self.published.load());
        let line = text.lines().find(|line| line.starts_with(series)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn wait_for(&self, series: &str, count: u64) {
        let counted = async {
            while self.count(series) < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, counted)
            .await
            .unwrap_or_else(|_| panic!("{series} stays below {count}"));
    }
}

#[tokio::test]
async fn a_secondary_is_told_at_the_start_and_when_the_serial_rises() {
    let fixture = Fixture::start(None).await;
    fixture.handle.look();
    let (query, from) = fixture.receive().await;
    // NOTIFY with AA and one question: the SOA record of the zone.
    assert_eq!(query[2..12], [0x24, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&query[12..], b"\x07example\x04test\x00\x00\x06\x00\x01");
    assert_eq!(from.ip().to_string(), "127.0.0.1");
    // Neither a message with another id nor a query counts as the reply.
    let mut other = query.clone();
    other[1] ^= 1;
    fixture.reply(&other, 0, from).await;
    fixture.secondary.send_to(&query, from).await.unwrap();
    fixture.reply(&query, 0, from).await;
    fixture.wait_for("steerd_notify_results_total{result=\"acknowledged\"}", 1).await;

    // An equal or lower serial is not new.
    fixture.publish(1);
    fixture.publish(0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    fixture.publish(5);
    let (query, from) = fixture.receive().await;
    fixture.reply(&query, 5, from).await;
    fixture.wait_for("steerd_notify_results_total{result=\"refused\"}", 1).await;
    assert_eq!(fixture.count("steerd_notify_sent_total"), 2);
}

#[tokio::test]
async fn a_secondary_that_is_silent_is_told_again_and_a_newer_serial_takes_over() {
    let fixture = Fixture::start(None).await;
    fixture.handle.look();
    let (first, _) = fixture.receive().await;
    let began = tokio::time::Instant::now();
    let (second, _) = fixture.receive().await;
    assert!(began.elapsed() + Duration::from_millis(100) >= REPLY_TIME + FIRST_REST);
    assert_ne!(first[..2], second[..2], "each attempt has its own id");
    fixture.publish(2);
    let (third, from) = fixture.receive().await;
    fixture.reply(&third, 0, from).await;
    fixture.wait_for("steerd_notify_results_total{result=\"acknowledged\"}", 1).await;
}

#[tokio::test]
async fn with_a_key_only_a_signed_reply_counts() {
    let name = Name::parse("k.test").unwrap();
    let key = Key::new(name, Algorithm::HmacSha256, b"0123456789abcdef0123456789abcdef");
    let fixture = Fixture::start(Some(key)).await;
    fixture.handle.look();
    let (query, from) = fixture.receive().await;
    let mut signer = tsig::verify(&query, &fixture.keys, unix_time()).unwrap().expect("it is signed");
    let unsigned = [&query[..2], &[0xa4, 0, 0, 1, 0, 0, 0, 0, 0, 0], &query[12..12 + 18]].concat();
    fixture.secondary.send_to(&unsigned, from).await.unwrap();
    let mut reply = vec![0; MESSAGE];
    reply[..unsigned.len()].copy_from_slice(&unsigned);
    let length = signer.sign(&mut reply, unsigned.len(), unix_time()).unwrap();
    let mut changed = reply[..length].to_vec();
    changed[3] = 5;
    fixture.secondary.send_to(&changed, from).await.unwrap();
    fixture.secondary.send_to(&reply[..length], from).await.unwrap();
    fixture.wait_for("steerd_notify_results_total{result=\"acknowledged\"}", 1).await;
    assert_eq!(fixture.count("steerd_notify_sent_total"), 1);
}
