//! Warnings about records that are legal but unusual, with the names involved.
//!
//! A warning never rejects a zone; only the builder does. `targets` checks the names in record
//! data.

mod targets;

use std::collections::HashSet;

use super::{CNAME, DELEGATION, DNAME, Lookup, NodeRef, WILDCARD_CHILD, Zone, rtype};
use crate::name::{self, Name};
use crate::printable::quoted;

/// At most this many warnings of one kind are reported per zone; the rest are counted.
pub const MAX_TOLD: usize = 10;

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The tag of its record; `None` if it concerns the whole zone.
    pub tag: Option<u32>,
    /// The unusual fact, and how to resolve it.
    pub message: String,
}

/// Kinds of warnings, each counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdviceKind {
    OutOfZone,
    Ttl,
    NoTtl,
    Lines,
    Signed,
    Shadowed,
    ServiceAsServer,
    Target,
    Doubled,
    Hidden,
    ServersBesideDname,
    NotAscii,
}

impl AdviceKind {
    const COUNT: usize = Self::NotAscii as usize + 1;

    /// The text that follows the number of unreported warnings.
    const MORE: [&'static str; Self::COUNT] = [
        "more records are not in the zone, and are ignored",
        "more records differ in TTL from the first of their name and type",
        "more records have no TTL",
        "more quoted texts span several lines",
        "more zones are signed",
        "more names are not answered by a wildcard service",
        "more NS records name a service",
        "more records lead to a name that does not exist, has no address, or is written wrongly",
        "more names end with the name of the zone twice",
        "more records are hidden below a delegation or a DNAME",
        "more delegations stand beside a DNAME",
        "more names are not ASCII",
    ];
}

/// The warnings so far.
#[derive(Debug, Default)]
pub(super) struct CountedAdvice {
    advice: Vec<Advice>,
    counts: [usize; AdviceKind::COUNT],
}

impl CountedAdvice {
    /// Adds a warning. Does not call `message` if there are enough of this kind.
    pub(super) fn add(&mut self, kind: AdviceKind, tag: Option<u32>, message: impl FnOnce() -> String) {
        let Some(count) = self.counts.get_mut(kind as usize) else { return };
        *count += 1;
        if *count <= MAX_TOLD {
            self.advice.push(Advice { tag, message: message() });
        }
    }

    /// Whether another warning of this kind would only be counted.
    fn has_enough(&self, kind: AdviceKind) -> bool {
        self.counts.get(kind as usize).is_some_and(|&count| count >= MAX_TOLD)
    }

    pub(super) fn finish(mut self) -> Vec<Advice> {
        for (count, more) in self.counts.into_iter().zip(AdviceKind::MORE) {
            if let Some(left) = count.checked_sub(MAX_TOLD).filter(|&left| left > 0) {
                self.advice.push(Advice { tag: None, message: format!("{left} {more}") });
            }
        }
        self.advice
    }
}

/// A record as the builder received it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added<'a> {
    pub(super) tag: u32,
    pub(super) owner: &'a [u8],
    pub(super) rtype: u16,
    pub(super) data: &'a [u8],
}

/// Checks the whole zone. `records` are all its records, in any order.
pub(super) fn look<'a>(
    zone: &Zone,
    records: &(impl Iterator<Item = Added<'a>> + Clone),
    told: &mut CountedAdvice,
) {
    about_signatures(records.clone(), told);
    let has_cuts = zone.nodes.iter().any(|node| node.flags & (DELEGATION | DNAME) != 0);
    let servers = if has_cuts { servers(records.clone()) } else { HashSet::new() };
    for record in records.clone() {
        about_names(zone, record, told);
        if !(has_cuts && about_hidden(zone, record, &servers, told)) {
            targets::look(zone, record, told);
        }
    }
    about_wildcard_services(zone, records, told);
}

/// A name for a message: in backquotes, like all text from a file. Letters that are not ASCII are
/// kept if the name is UTF-8.
fn shown(wire: &[u8]) -> String {
    let Some(name) = Name::from_wire(wire).map(|name| name.to_string()) else { return String::new() };
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = name::unescape(after).filter(|(value, _)| byte == b'\\' && !value.is_ascii());
        let (shown, after) = escaped.unwrap_or((byte, after));
        bytes.push(shown);
        rest = after;
    }
    quoted(&String::from_utf8(bytes).unwrap_or(name))
}

/// Gives one warning for the whole zone.
fn about_signatures<'a>(records: impl Iterator<Item = Added<'a>> + Clone, told: &mut CountedAdvice) {
    /// Record types with which a zone is signed. DS is not among them: it belongs to the child
    /// zone.
    const NSEC3: u16 = 50;
    const DNSKEY: u16 = 48;
    let of_dnssec =
        records.filter(|record| matches!(record.rtype, rtype::RRSIG | rtype::NSEC | NSEC3 | DNSKEY));
    let more = of_dnssec.clone().skip(1).count();
    let Some(first) = of_dnssec.min_by_key(|record| record.tag) else { return };
    told.add(AdviceKind::Signed, Some(first.tag), || {
        format!(
            "the zone is signed (at {} and {more} more records), but steerd serves no signatures with its \
             answers: if the parent has a DS record for the zone, validating resolvers refuse every answer; \
             remove that DS record, or serve the zone elsewhere",
            shown(first.owner),
        )
    });
}

/// The labels of a name in this zone before the apex, in lower case.
fn prefix<'n>(zone: &Zone, name: &'n [u8]) -> Option<&'n [u8]> {
    let length = name.len().checked_sub(zone.apex.len())?;
    name.get(..length).filter(|_| zone.apex.len() > 1 && name::is_within(name, &zone.apex))
}

/// Whether the labels end with those of the apex.
fn ends_with_apex(zone: &Zone, prefix: &[u8]) -> bool {
    let Some((_, apex)) = zone.apex.split_last() else { return false };
    let mut rest = prefix;
    while rest.len() > apex.len()
        && let Some((&length, after)) = rest.split_first()
    {
        rest = after.get(usize::from(length)..).unwrap_or(&[]);
    }
    prefix.ends_with(apex) && rest == apex
}

fn about_names(zone: &Zone, record: Added<'_>, told: &mut CountedAdvice) {
    let targets: Vec<_> = targets::names(record).map(|(name, _)| name).collect();
    for name in std::iter::once(record.owner).chain(targets.iter().map(Vec::as_slice)) {
        if prefix(zone, name).is_some_and(|prefix| ends_with_apex(zone, prefix)) {
            told.add(AdviceKind::Doubled, Some(record.tag), || {
                format!(
                    "{} ends with the name of the zone twice: a name without its final dot is relative to the \
                     origin; is the dot missing?",
                    shown(name)
                )
            });
        }
        if !name.is_ascii()
            && let Some(ascii) = a_label(name)
        {
            told.add(AdviceKind::NotAscii, Some(record.tag), || {
                format!(
                    "{} is served as these bytes, which suits DNS-SD; clients look up a host by \
                     its A-label, `{ascii}`",
                    shown(name),
                )
            });
        }
    }
}

/// The labels of a name without escapes, each followed by a dot.
fn plain(name: &[u8]) -> Vec<u8> {
    name::labels(name).flat_map(|label| [label, b"."].concat()).collect()
}

/// The name as A-labels (RFC 5891), if it has such a form.
fn a_label(name: &[u8]) -> Option<String> {
    let text = String::from_utf8(plain(name)).ok()?;
    idna::domain_to_ascii(&text).ok().filter(|ascii| !ascii.is_empty())
}

/// Whether this node has addresses for address queries.
fn has_address(node: NodeRef<'_>) -> bool {
    node.service().is_some() || node.rrset(rtype::A).is_some() || node.rrset(rtype::AAAA).is_some()
}

/// The names of all name servers, in lower case. Below a cut, their addresses are glue.
fn servers<'a>(records: impl Iterator<Item = Added<'a>>) -> HashSet<Vec<u8>> {
    records
        .filter(|record| record.rtype == rtype::NS)
        .map(|record| record.data.to_ascii_lowercase())
        .collect()
}

/// Warns about a record below a delegation or a DNAME: it is never answered, unless it is glue.
fn about_hidden(
    zone: &Zone,
    record: Added<'_>,
    servers: &HashSet<Vec<u8>>,
    told: &mut CountedAdvice,
) -> bool {
    if zone.node(record.owner).is_some_and(|node| node.node.flags & DELEGATION != 0) {
        let beside_dname = zone.node(record.owner).is_some_and(|node| node.node.flags & DNAME != 0);
        if beside_dname && record.rtype == rtype::DNAME {
            told.add(AdviceKind::ServersBesideDname, Some(record.tag), || {
                format!(
                    "{} has NS records beside its DNAME: the delegation is answered, and the DNAME is never used",
                    shown(record.owner)
                )
            });
        }
    }
    let is_glue = matches!(record.rtype, rtype::A | rtype::AAAA) && servers.contains(record.owner);
    let by = match zone.find(record.owner) {
        Lookup::Referral { cut, exact } => {
            let belongs_to_cut = exact
                && matches!(record.rtype, rtype::NS | rtype::DS | rtype::RRSIG | rtype::NSEC | rtype::DNAME);
            if is_glue || belongs_to_cut {
                return false;
            }
            format!("the delegation of {}", shown(cut.name()))
        }
        Lookup::Dname(dname) => format!("the DNAME of {}", shown(dname.name())),
        _ => return false,
    };
    told.add(AdviceKind::Hidden, Some(record.tag), || {
        format!("this record of {} is never answered: it is hidden by {by}", shown(record.owner))
    });
    true
}

/// A wildcard answers neither a name that exists nor the names below it (RFC 4592, section 2.2.2).
/// A name also exists if there is a name below it.
fn about_wildcard_services<'a>(
    zone: &Zone,
    records: &(impl Iterator<Item = Added<'a>> + Clone),
    told: &mut CountedAdvice,
) {
    let wildcard_of = |parent: &[u8]| {
        let node = zone.node(parent).filter(|node| node.node.flags & WILDCARD_CHILD != 0)?;
        let wildcard = [b"\x01*", node.name()].concat();
        zone.node(&wildcard).filter(|node| node.service().is_some()).map(|_| wildcard)
    };
    let services: Vec<&[u8]> =
        zone.nodes().filter(|node| node.service().is_some()).map(NodeRef::name).collect();
    if !services.iter().any(|name| name.starts_with(b"\x01*")) {
        return;
    }
    for node in zone.nodes() {
        let name = node.name();
        let is_special = name.starts_with(b"\x01*") || name.get(1) == Some(&b'_');
        if is_special || has_address(node) || node.node.flags & (CNAME | DELEGATION | DNAME) != 0 {
            continue;
        }
        let Some(wildcard) = name::parent(name).and_then(wildcard_of) else { continue };
        if told.has_enough(AdviceKind::Shadowed) {
            told.add(AdviceKind::Shadowed, None, String::new);
            continue;
        }
        let below = |other: &[u8]| other != name && name::is_within(other, name);
        let record = records.clone().find(|record| record.owner == name);
        let record = record.or_else(|| records.clone().find(|record| below(record.owner)));
        let service = services.iter().copied().find(|other| below(other));
        told.add(AdviceKind::Shadowed, record.map(|record| record.tag), || {
            let cause = match (record, service) {
                (Some(record), _) if record.owner == name => String::new(),
                (Some(Added { owner, .. }), _) | (None, Some(owner)) => {
                    format!(" because of {}", shown(owner))
                }
                (None, None) => String::new(),
            };
            format!(
                "{} exists{cause}, so the wildcard service {} answers neither it nor names below it: make \
                 it a service of its own if it needs addresses",
                shown(name),
                shown(&wildcard)
            )
        });
    }
}
