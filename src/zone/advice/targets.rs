//! Warnings about names in record data: those that do not exist, are aliases, look like addresses, or
//! lack their final dot.
//!
//! [`LAYOUTS`] has every type, except those of DNSSEC, whose data contains a name.

use std::net::IpAddr;

use super::{Added, AdviceKind, CountedAdvice, has_address, plain, prefix, shown};
use crate::name;
use crate::zone::{CNAME, Lookup, NodeRef, Zone, rtype};

/// How a record uses a name. The use decides which warnings apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It must have addresses of its own, so it must not be an alias (RFC 2181, section 10.3).
    Host,
    /// It must exist.
    Name,
    /// It need not exist, but should look intended.
    Free,
    /// A mail address as a name: the first dot replaces the `@` (RFC 1035, section 8).
    Mailbox,
}

/// A part of record data.
#[derive(Clone, Copy, Debug)]
enum LayoutPart {
    Bytes(usize),
    /// A `<character-string>`: its length in one byte, then its text.
    Text,
    Name(Use),
}

/// A record type: its mnemonic, and its data up to the last name.
type Layout = (u16, &'static str, &'static [LayoutPart]);

const HOST: &[LayoutPart] = &[LayoutPart::Bytes(2), LayoutPart::Name(Use::Host)];
const BINDING: &[LayoutPart] = &[LayoutPart::Bytes(2), LayoutPart::Name(Use::Name)];
const FREE: &[LayoutPart] = &[LayoutPart::Name(Use::Free)];

/// RFC 1035, 1183, 2163, 2230, 2782, 3403, 6672, 6742 and 9460.
const LAYOUTS: &[Layout] = &[
    (rtype::NS, "NS", &[LayoutPart::Name(Use::Host)]),
    (rtype::CNAME, "CNAME", &[LayoutPart::Name(Use::Name)]),
    (rtype::SOA, "SOA", &[LayoutPart::Name(Use::Free), LayoutPart::Name(Use::Mailbox)]),
    (rtype::PTR, "PTR", FREE),
    (rtype::MX, "MX", HOST),
    (rtype::SRV, "SRV", &[LayoutPart::Bytes(6), LayoutPart::Name(Use::Host)]),
    (rtype::DNAME, "DNAME", FREE),
    (rtype::SVCB, "SVCB", BINDING),
    (rtype::HTTPS, "HTTPS", BINDING),
    (
        35,
        "NAPTR",
        &[
            LayoutPart::Bytes(4),
            LayoutPart::Text,
            LayoutPart::Text,
            LayoutPart::Text,
            LayoutPart::Name(Use::Free),
        ],
    ),
    (17, "RP", &[LayoutPart::Name(Use::Mailbox), LayoutPart::Name(Use::Free)]),
    (18, "AFSDB", HOST),
    (21, "RT", HOST),
    (36, "KX", HOST),
    (107, "LP", &[LayoutPart::Bytes(2), LayoutPart::Name(Use::Free)]),
    (26, "PX", &[LayoutPart::Bytes(2), LayoutPart::Name(Use::Free), LayoutPart::Name(Use::Free)]),
    (7, "MB", &[LayoutPart::Name(Use::Host)]),
    (8, "MG", &[LayoutPart::Name(Use::Mailbox)]),
    (9, "MR", &[LayoutPart::Name(Use::Mailbox)]),
    (14, "MINFO", &[LayoutPart::Name(Use::Mailbox), LayoutPart::Name(Use::Mailbox)]),
];

fn layout(rtype: u16) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|(number, ..)| *number == rtype)
}

/// The names in the data of a record, in lower case, with their use.
pub(super) fn names(record: Added<'_>) -> impl Iterator<Item = (Vec<u8>, Use)> {
    let mut rest = record.data;
    layout(record.rtype).map_or(&[][..], |(_, _, parts)| parts).iter().filter_map(move |part| {
        let (length, used_as) = match part {
            LayoutPart::Bytes(count) => (*count, None),
            LayoutPart::Text => (1 + usize::from(*rest.first()?), None),
            LayoutPart::Name(used_as) => (name::wire_length(rest)?, Some(*used_as)),
        };
        let (bytes, after) = rest.split_at_checked(length)?;
        rest = after;
        used_as.map(|used_as| (bytes.to_ascii_lowercase(), used_as))
    })
}

/// Warns about the names in the data of a record.
pub(super) fn look(zone: &Zone, record: Added<'_>, told: &mut CountedAdvice) {
    let Some((_, mnemonic, _)) = layout(record.rtype) else { return };
    for (target, used_as) in names(record) {
        let hint = hint(zone, record, &target, used_as);
        let fault = if prefix(zone, &target).is_none() {
            hint.map(|hint| format!(": {hint}"))
        } else {
            about_service(zone, record, &target, told);
            fault(zone, &target, used_as, hint.is_some()).map(|fault| {
                format!(", which {fault}{}", hint.map_or_else(String::new, |hint| format!("; {hint}")))
            })
        };
        if let Some(fault) = fault {
            told.add(AdviceKind::Target, Some(record.tag), || {
                format!("the {mnemonic} record of {} leads to {}{fault}", shown(record.owner), shown(&target))
            });
        }
    }
}

fn about_service(zone: &Zone, record: Added<'_>, target: &[u8], told: &mut CountedAdvice) {
    let (Lookup::Found(node) | Lookup::Wildcard(node)) = zone.find(target) else { return };
    if record.rtype == rtype::NS && node.service().is_some() && address(target_in(zone, target)).is_none() {
        told.add(AdviceKind::ServiceAsServer, Some(record.tag), || {
            format!(
                "the name server {} is a service: its addresses change with the health of backends, and \
                 resolvers look for the zone at them",
                shown(target)
            )
        });
    }
}

/// If the name is in this zone, its labels before the apex; otherwise the whole name.
fn target_in<'n>(zone: &Zone, target: &'n [u8]) -> &'n [u8] {
    prefix(zone, target).unwrap_or(target)
}

/// Why a name of this zone does not suit its use.
fn fault(zone: &Zone, target: &[u8], used_as: Use, is_suspect: bool) -> Option<String> {
    let of_node = |node: NodeRef<'_>| match used_as {
        Use::Host if node.node.flags & CNAME != 0 => Some("is an alias, not a name with addresses"),
        Use::Host if !has_address(node) => Some("has no address"),
        _ => None,
    };
    let found = match zone.find(target) {
        Lookup::Wildcard(wildcard) if is_suspect => {
            return Some(format!("only the wildcard {} answers", shown(wildcard.name())));
        }
        Lookup::Found(node) | Lookup::Wildcard(node) => of_node(node),
        Lookup::Dname(_) if used_as == Use::Host => Some("is an alias by a DNAME"),
        Lookup::NoName if is_suspect || matches!(used_as, Use::Host | Use::Name) => Some("does not exist"),
        // Resolvers reach a zone through servers below its own cut only with glue.
        Lookup::Referral { cut, .. } if used_as == Use::Host && serves(cut, target) => {
            let glue = zone.node(target).is_some_and(has_address);
            (!glue)
                .then_some("has no address here, so that resolvers cannot reach it: add its A or AAAA record")
        }
        Lookup::Referral { .. } | Lookup::Dname(_) | Lookup::NoName => None,
    };
    found.map(str::to_owned)
}

/// Whether the delegation lists this server.
fn serves(cut: NodeRef<'_>, server: &[u8]) -> bool {
    cut.rrset(rtype::NS)
        .is_some_and(|servers| servers.records().any(|other| other.eq_ignore_ascii_case(server)))
}

/// A probable mistake in the way the name is written, and the correction.
fn hint(zone: &Zone, record: Added<'_>, target: &[u8], used_as: Use) -> Option<String> {
    let written = match prefix(zone, target) {
        Some(_) if matches!(zone.find(target), Lookup::Found(_)) => return None,
        Some(prefix) => Some(prefix).filter(|prefix| looks_complete(zone, record.owner, prefix, target)),
        None => None,
    };
    let whole = target_in(zone, target);
    if used_as == Use::Mailbox && whole.contains(&b'@') {
        let mailbox = String::from_utf8_lossy(&plain(whole)).trim_end_matches('.').replace('@', ".");
        return Some(format!("a mail address is written as a name with its final dot: `{mailbox}.`"));
    }
    if let Some(address) = address(whole) {
        let record = if address.is_ipv4() { "A" } else { "AAAA" };
        return Some(format!(
            "`{address}` is an address where a name is expected: give it a name with an {record} record"
        ));
    }
    let relative = [relative(record.owner, written?, target), &[0]].concat();
    Some(format!("if {} is meant, its final dot is missing", shown(&relative)))
}

/// The labels of `target` before those that it shares with the owner. If a name lacks its final dot,
/// these are the name as written: the origin of the owner was appended.
fn relative<'n>(owner: &[u8], prefix: &'n [u8], target: &[u8]) -> &'n [u8] {
    let mut shared = target;
    while !name::is_within(owner, shared) {
        let Some(parent) = name::parent(shared) else { break };
        shared = parent;
    }
    prefix.get(..target.len() - shared.len()).unwrap_or(prefix)
}

/// Whether a name of this zone looks like a name of another zone that lacks its final dot: it has
/// several labels, and the last one consists of letters, like a top-level domain, and does not exist
/// here.
fn looks_complete(zone: &Zone, owner: &[u8], prefix: &[u8], target: &[u8]) -> bool {
    let relative = relative(owner, prefix, target);
    let Some(last) = name::labels(relative).last() else { return false };
    let is_domain =
        last.len() >= 2 && (last.iter().all(u8::is_ascii_alphabetic) || last.starts_with(b"xn--"));
    let at = relative.len() - last.len() - 1;
    is_domain
        && at > 0
        && !name::labels(relative).any(|label| label.starts_with(b"_"))
        && target.get(at..).is_some_and(|known| zone.node(known).is_none())
}

/// The address that a name spells.
fn address(name: &[u8]) -> Option<IpAddr> {
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b':';
    name::labels(name).next().filter(|first| first.iter().all(is_of_address))?;
    let text = String::from_utf8(plain(name)).ok()?;
    text.strip_suffix('.')?.parse().ok()
}
