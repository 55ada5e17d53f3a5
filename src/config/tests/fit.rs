//! An answer fits into a UDP reply, or the configuration is rejected.

use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{errors, load_files, load_with_rest};
use crate::answer::{Client, Disposition, Responder, Transport};
use crate::check::PoolSetup;
use crate::config::{ConfigFaults, Setup};
use crate::name::MAX_NAME;
use crate::served::Served;
use crate::table::{PoolView, Services, Standing, Table};
use crate::wire::MAX_MESSAGE;
use crate::wire::edns::option;
use crate::zone::rtype;

/// A service with this name and these keys, and a pool with `ipv4` and `ipv6` addresses.
fn service(name: &str, keys: &str, ipv4: usize, ipv6: usize) -> String {
    let addresses: Vec<String> = (0..ipv4)
        .map(|index| format!("\"198.51.{}.{}\"", index / 250, index % 250))
        .chain((0..ipv6).map(|index| format!("\"2001:db8::{index:x}\"")))
        .collect();
    format!(
        "[services.\"{name}\"]\npools = [\"x\"]\n{keys}\n[pools.x]\nbackends = [{}]\n",
        addresses.join(", ")
    )
}

fn one_error(text: &str, expected: &str) {
    assert_eq!(errors(&load_with_rest(text)), [format!("steerd.toml:{expected}")], "\n{text}");
}

fn sound(text: &str) {
    let errors = errors(&load_with_rest(text));
    assert!(errors.is_empty(), "{errors:?}\n{text}");
}

/// Header 12, question 15 + 4, OPT record with a cookie 11 + 28: 70 bytes; then 16 or 28 bytes per
/// address.
#[test]
fn the_figures() {
    let x = |keys: &str, ipv4, ipv6| service("x.example.com", keys, ipv4, ipv6);
    sound(&x("answers = 72", 100, 0));
    one_error(
        &x("answers = 73", 100, 0),
        "3:11 an answer of `x.example.com.` with 73 IPv4 addresses takes 1238 bytes, and a UDP reply has 1232 at \
         most: it would always be truncated | set `answers` to at most 72, or `udp_payload` of [server] to at least \
         1238",
    );
    sound(&x("answers = 73", 72, 0));
    sound(&x("answers = \"all\"", 72, 41));
    one_error(
        &x("answers = \"all\"", 100, 42),
        "3:11 an answer of `x.example.com.` with 100 IPv4 addresses takes 1670 bytes, and a UDP reply has 1232 at \
         most: it would always be truncated | set `answers` to at most 41, or `udp_payload` of [server] to at least \
         1670",
    );
    one_error(
        &x("answers = 256", 0, 1000),
        "3:11 an answer of `x.example.com.` with 256 IPv6 addresses takes 7238 bytes, and a UDP reply has 1232 at \
         most: it would always be truncated | set `answers` to at most 41",
    );
    one_error(
        &format!("[defaults.service]\nanswers = \"all\"\n{}", x("", 73, 0)),
        "3:11 an answer of `x.example.com.` with 73 IPv4 addresses takes 1238 bytes, and a UDP reply has 1232 at \
         most: it would always be truncated | set `answers` to at most 72, or `udp_payload` of [server] to at least \
         1238",
    );
}

#[test]
fn what_takes_room_beside_the_addresses() {
    let x = |server: &str, name: &str| {
        let keys = "answers = \"all\"\npolicy = \"all\"";
        format!("[server]\nudp_payload = 512\n{server}\n{}", service(name, keys, 0, 15))
    };
    sound(&x("", "x.example.com"));
    sound(&x("nsid = \"a name of 18 chars\"", "x.example.com"));
    for (server, name, size) in [
        ("nsid = \"one name of 19 char\"", "x.example.com", 490 + 4 + 19),
        ("client_subnet = [\"any\"]", "x.example.com", 490 + 24),
        ("", "*.example.com", 490 - 15 + 255),
    ] {
        let result = load_with_rest(&x(server, name));
        assert!(errors(&result)[0].contains(&format!("takes {size} bytes")), "{:?}", errors(&result));
    }
    sound(&x("cookies = false\nclient_subnet = [\"any\"]", "x.example.com"));
}

#[test]
fn addresses_for_when_all_is_down() {
    let list: Vec<String> = (0..80).map(|index| format!("\"192.0.2.{index}\"")).collect();
    let x = |keys: &str| service("x.example.com", keys, 3, 0);
    one_error(
        &x(&format!("answers = 2\nwhen_down = [{}]", list.join(", "))),
        "4:13 an answer of `x.example.com.` with 80 IPv4 addresses takes 1350 bytes, and a UDP reply has 1232 at \
         most: it would always be truncated | name at most 72, or `udp_payload` of [server] to at least 1350",
    );
    sound(&x(&format!("when_down = [{}]", list[..72].join(", "))));
}

#[test]
fn what_is_never_answered_takes_no_room() {
    let backends = |first: u32, rest: &str| {
        let backend = |index: u32, rest: &str| format!("{{ address = \"192.0.2.{index}\", {rest} }}");
        let mut list: Vec<String> = (0..80).map(|index| backend(index, rest)).collect();
        list.push(backend(100, &format!("weight = {first}")));
        format!(
            "[services.\"x.example.com\"]\npools = [\"x\"]\nanswers = \"all\"\n[pools.x]\nbackends = [{}]\n",
            list.join(", ")
        )
    };
    sound(&backends(1, "weight = 0"));
    sound(&backends(1, "enabled = false"));
    assert_eq!(errors(&load_with_rest(&backends(0, "weight = 0"))).len(), 1, "then all fail open");
    assert_eq!(errors(&load_with_rest(&backends(0, "weight = 1"))).len(), 1);
}

#[test]
fn nothing_is_concluded_from_what_is_wrong() {
    let x = service("x.example.com", "answers = \"all\"", 100, 0);
    let result = load_with_rest(&format!("[server]\nudp_payload = 5000\n{x}"));
    assert_eq!(errors(&result).len(), 1, "{result:?}");
}

/// A configuration in which everything varies that the size of an answer depends on.
#[derive(Clone, Debug)]
struct Config {
    payload: u16,
    nsid: usize,
    cookies: bool,
    client_subnet: bool,
    wildcard: bool,
    label: usize,
    answers: Option<usize>,
    ipv4: usize,
    ipv6: usize,
    when_down: Option<(usize, usize)>,
}

prop_compose! {
    fn config()(
        payload in 512_u16..2500,
        nsid in 0_usize..=128,
        cookies: bool,
        client_subnet: bool,
        wildcard: bool,
        label in 1_usize..=63,
        answers in prop::option::of(1_usize..120),
        ipv4 in 0_usize..100,
        ipv6 in 1_usize..60,
        when_down in prop::option::of((0_usize..100, 0_usize..60).prop_filter("none", |(ipv4, ipv6)| ipv4 + ipv6 > 0)),
    ) -> Config {
        Config { payload, nsid, cookies, client_subnet, wildcard, label, answers, ipv4, ipv6, when_down }
    }
}

impl Config {
    fn load(&self, payload: u16) -> Result<Setup, ConfigFaults> {
        let nsid =
            if self.nsid == 0 { String::new() } else { format!("nsid = \"{}\"\n", "n".repeat(self.nsid)) };
        let client_subnet = if self.client_subnet { "client_subnet = [\"any\"]\n" } else { "" };
        let answers = self.answers.map_or("\"all\"".to_owned(), |answers| answers.to_string());
        let when_down = self.when_down.map_or(String::new(), |(ipv4, ipv6)| {
            let ipv4 = (0..ipv4).map(|index| format!("\"192.0.2.{index}\""));
            let all: Vec<String> =
                ipv4.chain((0..ipv6).map(|index| format!("\"2001:db8:d::{index:x}\""))).collect();
            format!("when_down = [{}]\n", all.join(", "))
        });
        let name = format!("{}{}.example.com", if self.wildcard { "*." } else { "" }, "l".repeat(self.label));
        let text = format!(
            "[server]\nudp_payload = {payload}\ncookies = {}\n{nsid}{client_subnet}\
             [zones.\"example.com\"]\nfile = \"example.com.zone\"\n{}",
            self.cookies,
            service(&name, &format!("answers = {answers}\n{when_down}"), self.ipv4, self.ipv6),
        );
        load_files(&text, &[])
    }

    /// The longest name that the service answers, in wire form.
    fn longest_name(&self) -> Vec<u8> {
        let mut suffix = vec![u8::try_from(self.label).unwrap()];
        suffix.resize(1 + self.label, b'l');
        suffix.extend(b"\x07example\x03com\x00");
        let mut missing = if self.wildcard { MAX_NAME - suffix.len() } else { 0 };
        while missing > 0 {
            // A label takes at least two bytes, so a single byte must not remain for the next one.
            let label = if missing == 65 { 62 } else { (missing - 1).min(63) };
            let mut name = vec![u8::try_from(label).unwrap()];
            name.resize(1 + label, b'w');
            name.append(&mut suffix);
            suffix = name;
            missing -= 1 + label;
        }
        suffix
    }

    /// A query with every option, from a client that accepts replies of any size.
    fn query(&self, rtype: u16) -> Vec<u8> {
        let mut options = Vec::new();
        let subnet = [&[0, 2, 128, 0][..], &[1; 16]].concat();
        for (code, value) in
            [(option::COOKIE, &b"12345678"[..]), (option::NSID, b""), (option::CLIENT_SUBNET, &subnet)]
        {
            options.extend(code.to_be_bytes());
            options.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            options.extend(value);
        }
        let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend(self.longest_name());
        query.extend(rtype.to_be_bytes());
        query.extend([0, 1, 0, 0, 41, 0xff, 0xff, 0, 0, 0, 0]);
        query.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
        query.extend(options);
        query
    }

    /// The replies while all backends are healthy and while none is: length in bytes, and whether
    /// truncated.
    fn replies(&self, served: Served) -> Vec<(usize, bool)> {
        let settings = Arc::new(served.settings);
        let catalog = Arc::new(served.catalog);
        let services = Arc::new(Services::new(served.services));
        let client =
            Client { address: Ipv4Addr::LOCALHOST.into(), port: 53, transport: Transport::Udp, time: 1 };
        let mut replies = Vec::new();
        for standing in [Standing::Healthy, Standing::Unhealthy] {
            let view = |pool: &PoolSetup| Arc::new(PoolView::build(&pool.pool, None, |_, _| standing.into()));
            let (settings, catalog) = (Arc::clone(&settings), Arc::clone(&catalog));
            let table = Table::new(
                1,
                settings,
                catalog,
                Arc::clone(&services),
                served.pools.iter().map(view),
                SmallRng::seed_from_u64(1),
            );
            for rtype in [rtype::A, rtype::AAAA] {
                let mut responder = Responder::new(SmallRng::seed_from_u64(1));
                let mut buffer = vec![0; MAX_MESSAGE];
                let disposition = responder.respond(&self.query(rtype), &client, &table, &mut buffer);
                let Disposition::Reply(reply) = disposition else { panic!("{disposition:?}") };
                assert_eq!(reply.rcode, 0);
                replies.push((reply.length, reply.truncated));
            }
        }
        replies
    }
}

proptest! {
    /// Replies of an accepted configuration are never truncated for a client that accepts `udp_payload`
    /// bytes; replies of a rejected one would be.
    #[test]
    fn an_accepted_configuration_is_never_truncated(config in config()) {
        match config.load(config.payload) {
            Ok(setup) => {
                for (length, truncated) in config.replies(setup.served) {
                    prop_assert!(!truncated && length <= usize::from(config.payload), "{length}");
                }
            }
            Err(faults) => {
                let with_room = config.load(4096).map_err(|faults| TestCaseError::fail(faults.to_string()))?;
                let replies = config.replies(with_room.served);
                let longest = replies.iter().map(|(length, _)| *length).max().unwrap_or(0);
                prop_assert!(longest > usize::from(config.payload), "{longest} bytes fit:\n{faults}");
            }
        }
    }
}
