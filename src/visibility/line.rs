//! A line of the query log: one JSON object for each query.

use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use crate::answer::{DropReason, Transport};
use crate::listener::rate_limit::{IPV4_PREFIX, IPV6_PREFIX};
use crate::metrics::Dropped;
use crate::name::Name;
use crate::network::Network;
use crate::printable::printable;
use crate::tap::{Sample, SampleOutcome};
use crate::wire::edns::option;
use crate::wire::query::Header;
use crate::wire::subnet::ClientSubnet;
use crate::wire::{HEADER, Question, query, rcode};
use crate::zone::reader::type_name;

/// The fields of a line, in their order. A field that a query does not have is left out.
#[derive(Serialize)]
struct QueryLine<'a> {
    time: Timestamp,
    /// The address, or its network if addresses are cut.
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    transport: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_subnet: Option<String>,
    /// `reply`, `transfer`, or why there is no reply.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rcode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<bool>,
    /// The length of the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    /// From the query to its reply.
    microseconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backends: Vec<&'a str>,
}

/// Appends the line of a sample. With `anonymize`, no address is in it, only networks.
pub(super) fn append(lines: &mut Vec<u8>, sample: &Sample, anonymize: bool) {
    let (outcome, replied) = match sample.outcome {
        SampleOutcome::Replied { rcode, truncated, slipped, length } => {
            (if slipped { "slipped" } else { "reply" }, Some((rcode, truncated, length)))
        }
        SampleOutcome::Transferred => ("transfer", None),
        SampleOutcome::Dropped(why) => (dropped(why), None),
    };
    let network = |address: IpAddr| Network::around(address, IPV4_PREFIX, IPV6_PREFIX).to_string();
    let asked = AskedQuestion::read(sample.query());
    let mut names = sample.names();
    let text = |name: &[u8]| printable(&String::from_utf8_lossy(name)).into_owned();
    let service = names.next().and_then(Name::from_wire).map(|name| name.to_plain());
    let pool = names.next().map(text);
    let duration = sample.replied.duration_since(sample.asked).unwrap_or_default();
    let address = sample.client.ip().to_canonical();
    let line = QueryLine {
        time: Timestamp::try_from(sample.asked.max(SystemTime::UNIX_EPOCH)).unwrap_or_default(),
        client: if anonymize { network(address) } else { address.to_string() },
        port: (!anonymize).then_some(sample.client.port()),
        transport: match sample.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        },
        name: asked.name,
        r#type: asked
            .qtype
            .map(|qtype| type_name(qtype).map_or_else(|| format!("TYPE{qtype}"), str::to_owned)),
        client_subnet: asked.client_subnet.map(|subnet| {
            if anonymize && subnet.source() > shortest(subnet.address()) {
                network(subnet.address())
            } else {
                subnet.to_string()
            }
        }),
        outcome,
        rcode: replied
            .map(|(code, ..)| rcode::name(code).map_or_else(|| format!("RCODE{code}"), str::to_owned)),
        truncated: replied.map(|(_, truncated, _)| truncated),
        bytes: replied.map(|(.., length)| length),
        microseconds: (duration.as_secs_f64() * 1e7).round() / 10.0,
        service,
        pool,
        backends: names.filter_map(|name| std::str::from_utf8(name).ok()).collect(),
    };
    // A buffer in memory takes everything.
    let _ = serde_json::to_writer(&mut *lines, &line);
    lines.push(b'\n');
}

fn shortest(address: IpAddr) -> u8 {
    if address.is_ipv4() { IPV4_PREFIX } else { IPV6_PREFIX }
}

fn dropped(why: Dropped) -> &'static str {
    match why {
        Dropped::Unanswerable(DropReason::Short) => "short",
        Dropped::Unanswerable(DropReason::Response) => "response",
        Dropped::Unanswerable(DropReason::PortZero) => "port_zero",
        Dropped::Long => "long",
        Dropped::Limited => "limited",
    }
}

/// The parts of a query that a line shows. All are absent from a query that cannot be read.
#[derive(Default)]
struct AskedQuestion {
    name: Option<String>,
    qtype: Option<u16>,
    client_subnet: Option<ClientSubnet>,
}

impl AskedQuestion {
    fn read(message: &[u8]) -> Self {
        let Some(header) = Header::read(message) else { return Self::default() };
        let edns = query::find_edns(&header, message);
        let subnet = edns.and_then(|edns| edns.options().find(|(code, _)| *code == option::CLIENT_SUBNET));
        let client_subnet = subnet.and_then(|(_, value)| ClientSubnet::read(value));
        let question = message.get(HEADER..).filter(|_| header.qdcount > 0).and_then(Question::read);
        let Some((question, _)) = question else { return Self { client_subnet, ..Self::default() } };
        let name = Name::from_wire(question.name()).map(|name| name.to_plain());
        Self { name, qtype: Some(question.qtype), client_subnet }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::answer::Client;
    use crate::tap::{AnsweredQuery, Exchange};

    fn line(query: &[u8], client: &str, anonymize: bool) -> Value {
        let client =
            Client { address: client.parse().unwrap(), port: 5300, transport: Transport::Udp, time: 0 };
        let asked = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_504_000);
        let mut sample = Sample::default();
        sample.fill(&Exchange {
            server: "192.0.2.53:53".parse().unwrap(),
            asked,
            replied: asked + Duration::from_nanos(12_345),
            answered: AnsweredQuery {
                client: &client,
                query,
                reply: &[],
                outcome: SampleOutcome::Dropped(Dropped::Limited),
                drawn: None,
            },
        });
        let mut lines = Vec::new();
        append(&mut lines, &sample, anonymize);
        let text = String::from_utf8(lines).unwrap();
        assert_eq!((text.lines().count(), text.ends_with('\n')), (1, true));
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_unreadable_query_has_a_line_too() {
        let expected = serde_json::json!({
            "time": "2025-11-30T12:00:00Z", "client": "2001:db8::1", "port": 5300, "transport": "udp",
            "outcome": "limited", "microseconds": 12.3,
        });
        assert_eq!(line(b"", "2001:db8::1", false), expected);
        assert_eq!(line(&[0xff; 40], "2001:db8::1", false), expected);
    }

    #[test]
    fn networks_stand_for_addresses() {
        for (client, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:0:1ff::1", "2001:db8:0:100::/56"),
        ] {
            let line = line(b"", client, true);
            assert_eq!((line["client"].as_str(), &line["port"]), (Some(network), &Value::Null));
        }
    }

    proptest! {
        #[test]
        fn any_query_makes_one_line_of_json(
            header in prop::collection::vec(any::<u8>(), 12), body in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            line(&[header, body].concat(), "192.0.2.1", true);
        }
    }
}
