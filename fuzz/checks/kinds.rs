//! One query for each kind of answer, with the expected shape of its reply. The allocation test and
//! the benchmark check the shape, so that they measure what they claim.

use steerd::answer::Transport;
use steerd::table::Table;
use steerd::wire::{flag, rcode};
use steerd::zone::rtype;

use super::inputs;
use super::query::{Opt, opt, query, wire};
use super::respond::{self, Setting};
use super::world::World;

/// A query and the shape of its reply.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) query: Vec<u8>,
    pub(crate) transport: Transport,
    rcode: u16,
    /// Number of answer records; `None` if the reply is truncated.
    answers: Option<usize>,
    /// Option codes in the reply.
    options: &'static [u16],
    /// Whether the server requires cookies; `None` if it answers no options.
    cookies: Option<bool>,
}

impl Kind {
    /// The table that answers this kind.
    pub(crate) fn table<'w>(&self, world: &'w World) -> &'w Table {
        match self.cookies {
            None if self.name.contains("1,000,000") => world.table_of_many_networks(),
            None => world.table(),
            Some(required) => world.table_under(1, true, 1 + u8::from(required)),
        }
    }

    /// Checks the shape of the reply.
    pub(crate) fn check(&self, table: &Table) {
        respond::ask(table, Setting::new(self.transport), &self.query, |reply| {
            let answers = (reply.flags & flag::TC == 0).then_some(reply.answers.len());
            assert_eq!((reply.rcode(), answers), (self.rcode, self.answers), "{}", self.name);
            if self.cookies.is_some() {
                assert_eq!(reply.options(), self.options, "{}", self.name);
            }
        });
    }
}

/// A kind of query over UDP with EDNS.
fn kind(name: &'static str, qname: &str, qtype: u16, rcode: u16, answers: usize) -> Kind {
    let query = query(&wire(qname), qtype, Some(opt(1232)));
    Kind { query, ..plain(name, rcode, answers) }
}

/// A kind whose query is not set yet.
fn plain(name: &'static str, rcode: u16, answers: usize) -> Kind {
    let answers = Some(answers);
    Kind { name, query: Vec::new(), transport: Transport::Udp, rcode, answers, options: &[], cookies: None }
}

/// All kinds, in display order.
pub(crate) fn all() -> Vec<Kind> {
    use rcode::{BADVERS, FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, YXDOMAIN};
    let grown = format!("{0}.{0}.x.grow.example", "a".repeat(63));
    let mut kinds = vec![
        kind("static A", "mail.example", rtype::A, NOERROR, 1),
        kind("static A, without EDNS", "mail.example", rtype::A, NOERROR, 1),
        kind("static A, over TCP", "mail.example", rtype::A, NOERROR, 1),
        kind("static TXT", "host.example", rtype::TXT, NOERROR, 1),
        kind("28 A records", "big28.example", rtype::A, NOERROR, 28),
        kind("250 A records, over TCP", "big250.example", rtype::A, NOERROR, 250),
        kind("MX with its address", "example", rtype::MX, NOERROR, 1),
        kind("wildcard", "any.wild.example", rtype::A, NOERROR, 1),
        kind("ANY", "host.example", rtype::ANY, NOERROR, 1),
        kind("NODATA", "host.example", rtype::MX, NOERROR, 0),
        kind("NXDOMAIN", "nothing.example", rtype::A, NXDOMAIN, 0),
        kind("referral with glue", "www.sub.example", rtype::A, NOERROR, 0),
        kind("alias", "alias.example", rtype::A, NOERROR, 3),
        kind("15 aliases", "c6.example", rtype::A, NOERROR, 16),
        kind("aliases in a circle", "loop.example", rtype::A, NOERROR, 2),
        kind("DNAME", "a.old.example", rtype::A, NOERROR, 3),
        kind("DNAME to a name too long", &grown, rtype::A, YXDOMAIN, 1),
        kind("service, 2 of 4", "weighted.healthy.failopen.svc.example", rtype::A, NOERROR, 2),
        kind("service, 2 of 4, AAAA", "weighted.healthy.failopen.svc.example", rtype::AAAA, NOERROR, 2),
        kind("service, 1 of 8", "one.eight.svc.example", rtype::A, NOERROR, 1),
        kind("service, 4 of 8", "four.eight.svc.example", rtype::A, NOERROR, 4),
        kind("service, 4 of 10,000", "four.many.svc.example", rtype::A, NOERROR, 4),
        kind("service, 4 of 50", "four.fifty.svc.example", rtype::A, NOERROR, 4),
        kind("persistent, 4 of 50", "ranked.fifty.svc.example", rtype::A, NOERROR, 4),
        kind("persistent, 1 of 50", "first.fifty.svc.example", rtype::A, NOERROR, 1),
        kind("persistent, 4 of 10,000", "ranked.many.svc.example", rtype::A, NOERROR, 4),
        kind("service, 2 of 250", "weighted.large.failopen.svc.example", rtype::A, NOERROR, 2),
        kind("service, all of 4", "all.healthy.failopen.svc.example", rtype::A, NOERROR, 4),
        kind("service, all of 250, over TCP", "all.large.failopen.svc.example", rtype::A, NOERROR, 250),
        kind("service, second tier", "weighted.down-healthy.failopen.svc.example", rtype::A, NOERROR, 2),
        kind("service, failing open", "weighted.down.failopen.svc.example", rtype::A, NOERROR, 2),
        kind("service, down, NODATA", "weighted.down.nodata.svc.example", rtype::A, NOERROR, 0),
        kind("service, down, SERVFAIL", "weighted.down.servfail.svc.example", rtype::A, SERVFAIL, 0),
        kind("service, down, fixed", "weighted.down.fixed.svc.example", rtype::A, NOERROR, 1),
        kind("service by rule", "one.rules.svc.example", rtype::A, NOERROR, 1),
        kind("service by rule of 1,000,000", "one.rules.svc.example", rtype::A, NOERROR, 1),
        kind("service by alias", "toservice.example", rtype::A, NOERROR, 3),
        kind("service by wildcard", "any.svc.example", rtype::A, NOERROR, 4),
        kind("REFUSED", "elsewhere", rtype::A, REFUSED, 0),
        kind("FORMERR", "mail.example", rtype::OPT, FORMERR, 0),
    ];
    for kind in &mut kinds {
        if kind.name.ends_with("over TCP") {
            kind.transport = Transport::Tcp;
        }
    }
    kinds[1].query = query(&wire("mail.example"), rtype::A, None);
    let mail = wire("mail.example");
    let mut cut = query(&mail, rtype::A, Some(opt(1232)));
    cut.pop();
    let mut update = query(&mail, rtype::A, None);
    update[2] |= 5 << 3;
    let mut notify = query(&wire("example"), rtype::SOA, None);
    notify[2] |= 4 << 3;
    let version = query(&mail, rtype::A, Some(Opt { version: 1, ..opt(1232) }));
    for (name, query, rcode) in [
        ("FORMERR, cut short", cut, FORMERR),
        ("NOTIMP", update, NOTIMP),
        ("notification", notify, NOERROR),
        ("BADVERS", version, BADVERS),
    ] {
        kinds.push(Kind { query, ..plain(name, rcode, 0) });
    }
    for (name, qname) in [
        ("truncated, static", "big250.example"),
        ("truncated, service", "all.large.failopen.svc.example"),
        ("truncated, referral", "www.many.example"),
    ] {
        kinds.push(Kind { answers: None, ..kind(name, qname, rtype::A, NOERROR, 0) });
    }
    kinds.extend(with_options());
    kinds
}

/// A static answer with each option, from a server that answers all of them.
fn with_options() -> Vec<Kind> {
    const SUBNET: &[u8] = b"\x00\x08\x00\x07\x00\x01\x18\x00\xc0\x00\x02";
    let (unproven, proven) = (inputs::cookie(false), inputs::cookie(true));
    let all = [b"\x00\x03\x00\x00", SUBNET, &proven].concat();
    let kind = |name, options: &[u8], said, required, rcode, answers| Kind {
        query: query(&wire("mail.example"), rtype::A, Some(Opt { options, ..opt(1232) })),
        options: said,
        cookies: Some(required),
        ..plain(name, rcode, answers)
    };
    let mut kinds = vec![
        kind("NSID", b"\x00\x03\x00\x00", &[3], false, rcode::NOERROR, 1),
        kind("client subnet", SUBNET, &[8], false, rcode::NOERROR, 1),
        kind("keepalive, over TCP", b"\x00\x0b\x00\x00", &[11], false, rcode::NOERROR, 1),
        kind("option unknown", b"\xff\x00\x00\x01x", &[], false, rcode::NOERROR, 1),
        kind("cookie, new client", &unproven, &[10], false, rcode::NOERROR, 1),
        kind("cookie, known client", &proven, &[10], true, rcode::NOERROR, 1),
        kind("cookie, NSID, subnet", &all, &[10, 8, 3], true, rcode::NOERROR, 1),
        kind("BADCOOKIE", &unproven, &[10], true, rcode::BADCOOKIE, 0),
        kind("cookie missing: truncated", b"", &[], true, rcode::NOERROR, 0),
        kind("extended error", b"", &[15], false, rcode::REFUSED, 0),
    ];
    for kind in &mut kinds {
        match kind.name {
            "keepalive, over TCP" => kind.transport = Transport::Tcp,
            "cookie missing: truncated" => kind.answers = None,
            "extended error" => kind.query = query(&wire("elsewhere"), rtype::A, Some(opt(1232))),
            _ => {}
        }
    }
    let mut version = query(&wire("version.bind"), rtype::TXT, None);
    *version.last_mut().unwrap() = 3;
    kinds.push(Kind { query: version, cookies: Some(false), ..plain("CHAOS", rcode::NOERROR, 1) });
    kinds
}
