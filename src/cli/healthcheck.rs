//! `steerd healthcheck`: should this instance be announced? For health checks of containers and hooks of BGP daemons.
//!
//! It asks the admin server whether DNS is answered, and with a name it sends a query as a resolver would: over UDP, and
//! over TCP if the reply is truncated. It needs no token.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::cli::client::{AdminClient, ServerTrust};
use crate::cli::explain::AddressType;
use crate::cli::{ConfigFile, block_on, complain, print};
use crate::config::{AdminPlace, AdminUrl, parse_duration};
use crate::duration::Shown;
use crate::name::Name;
use crate::wire::query::Header;
use crate::wire::record::Record;
use crate::wire::{HEADER, class, flag, rcode};
use crate::zone::rtype;

/// The port of DNS.
const DNS: u16 = 53;
/// How often a query is sent within the time limit, as resolvers repeat lost ones.
const ATTEMPTS: u32 = 3;

#[derive(Debug, Args)]
pub(super) struct HealthCheck {
    /// Also query this name, usually of a service: the answer must have addresses
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    name: Option<Name>,
    /// The type of the query
    #[arg(long, value_name = "TYPE", default_value = "a", ignore_case = true)]
    r#type: AddressType,
    /// The DNS server; defaults to the first address of `listen` under `[server]`
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = parse_server)]
    dns: Option<SocketAddr>,
    /// The admin server, as http://HOST:PORT, https://HOST:PORT or unix:PATH; defaults to `listen` under `[admin]`
    #[arg(long, value_name = "URL")]
    admin: Option<AdminUrl>,
    /// The authority of the admin server's certificate for https, or the certificate itself
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Time limit for everything together
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    config: ConfigFile,
}

/// A reply to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AddressReply {
    code: u16,
    is_truncated: bool,
    /// How many addresses of the queried type it has.
    addresses: usize,
}

pub(super) fn run(asked: &HealthCheck) -> ExitCode {
    let outcome = block_on(async {
        let expired = || format!("not finished within {}", Shown(asked.timeout));
        timeout(asked.timeout, health(asked)).await.unwrap_or_else(|_| Err(expired()))
    });
    match outcome {
        Some(Ok(words)) => {
            print(&words);
            ExitCode::SUCCESS
        }
        Some(Err(words)) => {
            complain(&format!("error: {words}"));
            ExitCode::FAILURE
        }
        None => ExitCode::FAILURE,
    }
}

/// The words for a healthy instance, or why it is not.
async fn health(asked: &HealthCheck) -> Result<String, String> {
    let path = asked.config.path();
    let complete = asked.admin.is_some() && (asked.dns.is_some() || asked.name.is_none());
    // A container may have the two addresses as arguments, and no configuration.
    let place = if complete { Ok(AdminPlace::default()) } else { AdminPlace::of(&path) };
    let place = place.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let url = asked
        .admin
        .clone()
        .or_else(|| place.listen.map(|listen| AdminUrl::of(listen, place.certificate.is_some())))
        .ok_or_else(|| {
            let missing = || format!("{} sets no `listen` under [admin]", path.display());
            format!("{}; give the server with --admin URL", AdminPlace::fault(&path).unwrap_or_else(missing))
        })?;
    let origin = if asked.admin.is_some() { "--admin".into() } else { format!("from {}", path.display()) };
    let trust = match &asked.ca_file {
        // No secret is sent, and an old certificate is no reason to withdraw a route.
        None if asked.admin.is_none() => ServerTrust::Proof,
        file => ServerTrust::Authority(file.clone()),
    };
    let admin = AdminClient { url, origin, token: None, unread: None, forwarded_to: None, trust, file: None };
    admin.is_ready().await.map_err(|error| error.to_string())?;
    let Some(name) = &asked.name else { return Ok("ready".to_owned()) };
    let configured = || place.dns.first().copied().unwrap_or((Ipv4Addr::UNSPECIFIED, DNS).into());
    let server = reachable(asked.dns.unwrap_or_else(configured));
    let qtype = match asked.r#type {
        AddressType::A => rtype::A,
        AddressType::Aaaa => rtype::AAAA,
    };
    let query = question(name, qtype, rand::random());
    let each = asked.timeout / ATTEMPTS;
    let cannot =
        |error: io::Error| format!("{server} does not answer a query for {}: {error}", name.to_plain());
    let mut reply = over_udp(server, &query, qtype, each).await.map_err(cannot)?;
    if reply.is_truncated {
        reply = over_tcp(server, &query, qtype).await.map_err(cannot)?;
    }
    judge(reply, name, server)
}

fn judge(reply: AddressReply, name: &Name, server: SocketAddr) -> Result<String, String> {
    let name = name.to_plain();
    match (reply.code, reply.addresses) {
        (rcode::NOERROR, 0) => Err(format!("{server} answers the query for {name} without an address")),
        (rcode::NOERROR, 1) => Ok(format!("ready; {name} has 1 address")),
        (rcode::NOERROR, count) => Ok(format!("ready; {name} has {count} addresses")),
        (code, _) => {
            let word = rcode::name(code).map_or_else(|| code.to_string(), str::to_owned);
            Err(format!("{server} answers the query for {name} with {word}"))
        }
    }
}

/// Loopback instead of an unspecified address, on which a server listens but to which nothing is sent.
fn reachable(server: SocketAddr) -> SocketAddr {
    let ip = match server.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, server.port())
}

fn question(name: &Name, qtype: u16, id: u16) -> Vec<u8> {
    let mut query: Vec<u8> = [id, 0, 1, 0, 0, 0].iter().flat_map(|number| number.to_be_bytes()).collect();
    query.extend_from_slice(name.wire());
    query.extend([qtype, class::IN].iter().flat_map(|number| number.to_be_bytes()));
    query
}

/// The reply to `query`; `None` if the message is another one, or is broken.
fn reply_to(query: &[u8], qtype: u16, message: &[u8]) -> Option<AddressReply> {
    let (header, asked) = (Header::read(message)?, Header::read(query)?);
    let mut rest = message.get(HEADER..)?.strip_prefix(query.get(HEADER..)?)?;
    if !header.is_response() || header.id != asked.id {
        return None;
    }
    let mut addresses = 0;
    for _ in 0..header.ancount {
        let (record, after) = Record::read(message, rest)?;
        addresses += usize::from(record.rtype == qtype);
        rest = after;
    }
    Some(AddressReply { code: header.flags & 0x0f, is_truncated: header.flags & flag::TC != 0, addresses })
}

async fn over_udp(
    server: SocketAddr,
    query: &[u8],
    qtype: u16,
    each: Duration,
) -> Result<AddressReply, io::Error> {
    let own: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    let mut message = [0; 4096];
    loop {
        socket.send(query).await?;
        let reply = async {
            loop {
                let length = socket.recv(&mut message).await?;
                if let Some(reply) = reply_to(query, qtype, message.get(..length).unwrap_or_default()) {
                    return Ok(reply);
                }
            }
        };
        if let Ok(reply) = timeout(each, reply).await {
            return reply;
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8], qtype: u16) -> Result<AddressReply, io::Error> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    reply_to(query, qtype, &message).ok_or_else(|| io::Error::other("the reply is not one to the query"))
}

fn parse_name(text: &str) -> Result<Name, String> {
    Name::parse(text).map_err(|error| error.to_string())
}

fn parse_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.trim_matches(['[', ']']).parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS));
    text.parse().or(address).map_err(|_| "expected an address such as 127.0.0.1 or [::1]:5300".to_owned())
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let range = Duration::from_millis(10)..=Duration::from_secs(60);
    parse_duration(text)
        .filter(|time| range.contains(time))
        .ok_or_else(|| "expected a duration with a unit, such as 500ms or 2s, from 10ms to 1m".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query() -> Vec<u8> {
        question(&Name::parse("www.example").unwrap(), rtype::A, 0x1234)
    }

    /// A reply to [`query()`] with these flags, and records of these types.
    fn reply(flags: u16, types: &[u16]) -> Vec<u8> {
        let mut message = query();
        message[2..4].copy_from_slice(&(flag::QR | flags).to_be_bytes());
        message[7] = u8::try_from(types.len()).unwrap();
        for rtype in types {
            message.extend([0xc0, 12]);
            message.extend(rtype.to_be_bytes());
            message.extend([0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1]);
        }
        message
    }

    fn read(message: &[u8]) -> Option<AddressReply> {
        reply_to(&query(), rtype::A, message)
    }

    #[test]
    fn a_reply_is_judged_by_its_code_and_its_addresses() {
        let name = Name::parse("www.example").unwrap();
        let server = "127.0.0.1:53".parse().unwrap();
        let judged = |flags, types: &[u16]| judge(read(&reply(flags, types)).unwrap(), &name, server);
        assert_eq!(judged(0, &[rtype::A]).unwrap(), "ready; www.example has 1 address");
        assert_eq!(
            judged(0, &[rtype::CNAME, rtype::A, rtype::A]).unwrap(),
            "ready; www.example has 2 addresses"
        );
        let error = judged(0, &[rtype::CNAME]).unwrap_err();
        assert_eq!(error, "127.0.0.1:53 answers the query for www.example without an address");
        let error = judged(2, &[]).unwrap_err();
        assert_eq!(error, "127.0.0.1:53 answers the query for www.example with SERVFAIL");
        assert!(read(&reply(flag::TC, &[])).unwrap().is_truncated);
    }

    #[test]
    fn a_message_that_is_no_reply_to_the_query_is_ignored() {
        let good = reply(0, &[rtype::A]);
        assert!(read(&good).is_some());
        assert_eq!(read(&query()), None, "a query");
        let changed = |place: usize| {
            let mut message = good.clone();
            message[place] ^= 0x40;
            read(&message)
        };
        assert_eq!(changed(0), None, "another id");
        assert_eq!(changed(14), None, "another name");
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn servers_and_times_are_read_as_people_write_them() {
        let server = |text| parse_server(text).unwrap().to_string();
        assert_eq!(server("127.0.0.1"), "127.0.0.1:53");
        assert_eq!(server("127.0.0.1:5300"), "127.0.0.1:5300");
        assert_eq!(server("::1"), "[::1]:53");
        assert_eq!(server("[::1]:5300"), "[::1]:5300");
        assert!(parse_server("localhost").is_err());
        assert_eq!(reachable("[::]:53".parse().unwrap()).to_string(), "[::1]:53");
        assert_eq!(parse_timeout("500ms").unwrap(), Duration::from_millis(500));
        for wrong in ["5", "0s", "2h", ""] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&message);
            let mut after_question = reply(0, &[rtype::A]);
            after_question.truncate(query().len());
            after_question.extend(message);
            let _ = read(&after_question);
        }
    }
}
