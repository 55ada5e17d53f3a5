//! Explains an answer.
//!
//! [`explain`] asks the answering function itself, with a query as a client would send it, and shows the parts of the
//! table that the reply was made from. So an explanation cannot differ from an answer. It changes nothing: it draws with
//! a generator of its own, and counts nothing. Health, overrides and their history do not belong here: `fleet` adds them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{Client, Disposition, Reply, Responder, ResponseKind, ServiceAnswer, Transport};
use crate::name::Name;
use crate::pool::{Family, PoolId};
use crate::selection::{Candidate, Probability};
use crate::table::{Decision, Draw, Drawing, Member, RouteView, Table};
use crate::wire::edns::{OPT_LENGTH, option};
use crate::wire::query::{Header, find_edns};
use crate::wire::record::Record;
use crate::wire::subnet::ClientSubnet;
use crate::wire::{HEADER, MAX_MESSAGE, PLAIN_UDP, Question, class};
use crate::zone::{Zone, rtype};

/// A port of the client; any but 0 will do.
const PORT: u16 = 53;

/// A query to explain.
#[derive(Clone, Debug)]
pub struct Asked<'q> {
    /// The name in the question.
    pub name: &'q Name,
    /// A or AAAA.
    pub family: Family,
    /// The address that sends the query: that of a resolver, as a rule.
    pub address: IpAddr,
    /// The client subnet that it sends (RFC 7871).
    pub subnet: Option<ClientSubnet>,
    /// The time of arrival in seconds since 1970.
    pub time: u32,
    /// Determines the sample draw.
    pub seed: u64,
}

/// An answer with its reasons.
#[derive(Debug)]
pub struct Explained<'t> {
    /// The apex of the zone that answers, in lower-case wire form; `None` if no zone here has the name.
    pub zone: Option<&'t [u8]>,
    /// The response code.
    pub rcode: u16,
    /// The scope in the client-subnet option of the reply.
    pub scope: Option<u8>,
    /// The addresses of the sample, in the order of the reply.
    pub addresses: Vec<IpAddr>,
    /// The TTL of the addresses, seconds.
    pub ttl: Option<u32>,
    /// The route that answered; `None` if the zone alone answers.
    pub route: Option<RouteExplained<'t>>,
}

/// The reasons for the answer of a service.
#[derive(Debug)]
pub struct RouteExplained<'t> {
    /// The service, and which of its routes.
    pub route: RouteView<'t>,
    /// How the route answers now.
    pub decision: &'t Decision,
    /// Its tiers, in order.
    pub tiers: Vec<(PoolId, TierVerdict)>,
    /// The pool that is drawn from.
    pub pool: Option<PoolId>,
    /// The addresses that may be drawn. Empty if no pool is drawn from.
    pub drawn: Vec<DrawnAddress>,
}

/// The part of a tier in a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierVerdict {
    /// It answers, as the first usable tier.
    InUse,
    /// It answers, because an operator has put it first.
    FailedOver,
    /// It answers, because the service does not return to an earlier tier yet.
    Kept,
    /// It is usable, and the service does not return to it yet.
    Waiting,
    /// It answers, because no tier is usable: all its backends, as if they were healthy.
    FailsOpen,
    /// It is usable, but another tier answers.
    Spare,
    /// Too little of it is healthy.
    Unusable,
    /// It has no address of the family, and the next tier is asked.
    NoAddress,
    /// It has no address of the family, but is usable in the other one, so the answer is NODATA.
    OtherFamilyOnly,
}

/// An address that may be drawn.
#[derive(Clone, Copy, Debug)]
pub struct DrawnAddress {
    /// The address, and the index of its backend.
    pub member: Member,
    /// Its weight in the draw.
    pub weight: u32,
    /// How often it is in an answer, and first in one; for a persistent service over all clients.
    pub probability: Probability,
    /// Its place in the ranking of this client, from 1; only for a persistent service.
    pub rank: Option<u32>,
}

/// Explains the answer to a query.
#[must_use]
pub fn explain<'t>(table: &'t Table, asked: &Asked<'_>) -> Explained<'t> {
    let client = Client { address: asked.address, port: PORT, transport: Transport::Tcp, time: asked.time };
    let query = query(asked);
    let mut reply = vec![0; MAX_MESSAGE];
    let mut responder = Responder::new(SmallRng::seed_from_u64(asked.seed));
    let Disposition::Reply(Reply { length, rcode, kind, service, .. }) =
        responder.respond(&query, &client, table, &mut reply)
    else {
        // Only messages that are not queries are dropped.
        return Explained {
            zone: None,
            rcode: 0,
            scope: None,
            addresses: Vec::new(),
            ttl: None,
            route: None,
        };
    };
    let reply = reply.get(..length).unwrap_or_default();
    let records = addresses(reply);
    let owner = match kind {
        ResponseKind::Answer(owner) | ResponseKind::NoName(owner) | ResponseKind::Referral(owner) => {
            Some(owner)
        }
        ResponseKind::Error(_) => None,
    };
    Explained {
        zone: owner.and_then(|owner| table.catalog.find(owner, false)).map(Zone::apex_name),
        rcode,
        scope: scope(reply),
        ttl: records.first().map(|(_, ttl)| *ttl),
        addresses: records.into_iter().map(|(address, _)| address).collect(),
        route: service.and_then(|answer| of_route(table, answer, asked)),
    }
}

fn of_route<'t>(table: &'t Table, answer: ServiceAnswer, asked: &Asked<'_>) -> Option<RouteExplained<'t>> {
    let family = asked.family;
    let route = table.service(answer.service)?.route(answer.route)?;
    let decision = table.decision(route, family);
    let tiers = route.route.tiers.iter().copied();
    let verdict = |(tier, pool): (usize, PoolId)| Some((pool, verdict(table, route, (tier, pool), family)?));
    let draw = match decision {
        Decision::Tier { draw, .. } | Decision::FailOpen { draw, .. } => Some(draw),
        Decision::NoAddress | Decision::Down { .. } => None,
    };
    let drawing = Drawing::of(&route.service.service, route.route);
    Some(RouteExplained {
        route,
        decision,
        tiers: tiers.enumerate().filter_map(verdict).collect(),
        pool: answer.pool,
        drawn: draw.map_or_else(Vec::new, |draw| drawn(draw, drawing, client(table, asked))),
    })
}

/// The part of a tier in a decision; `None` if the table does not have its pool.
fn verdict(
    table: &Table,
    route: RouteView<'_>,
    (tier, pool): (usize, PoolId),
    family: Family,
) -> Option<TierVerdict> {
    let view = table.pool(pool)?;
    let here = view.family(family);
    let in_use = table.tier_in_use(route.plan(), family);
    Some(match table.decision(route, family) {
        Decision::Tier { tier: used, .. } if *used == tier => {
            let failover = route.service.failover.as_ref();
            match in_use.waiting {
                _ if failover.is_some_and(|failover| failover.pool == pool) => TierVerdict::FailedOver,
                Some(_) => TierVerdict::Kept,
                None => TierVerdict::InUse,
            }
        }
        Decision::FailOpen { pool: open, .. } if *open == pool => TierVerdict::FailsOpen,
        _ if here.usable && in_use.waiting.is_some() && tier < in_use.tier => TierVerdict::Waiting,
        _ if here.usable => TierVerdict::Spare,
        _ if here.is_configured() => TierVerdict::Unusable,
        Decision::NoAddress if view.families.iter().any(|other| other.usable) => TierVerdict::OtherFamilyOnly,
        _ => TierVerdict::NoAddress,
    })
}

/// The addresses of a draw, with the probabilities of its formulas.
fn drawn(draw: &Draw, drawing: Drawing, client: IpAddr) -> Vec<DrawnAddress> {
    let mut ranks = vec![None; draw.addresses.len()];
    for (rank, index) in (1..).zip(draw.ranking(client).into_iter().flatten()) {
        if let Some(slot) = ranks.get_mut(index as usize) {
            *slot = Some(rank);
        }
    }
    let ranks = draw.choice.places.iter().map(|place| ranks.get(*place as usize).copied().flatten());
    let probabilities = drawing.probabilities(&draw.choice);
    let members = draw.choice.members.iter().zip(&draw.choice.candidates);
    let of =
        |(((member, candidate), probability), rank): (((&Member, &Candidate), Probability), Option<u32>)| {
            DrawnAddress { member: *member, weight: candidate.weight, probability, rank }
        };
    members.zip(probabilities).zip(ranks).map(of).collect()
}

/// The client that decides for a persistent service: see `options::steered_address`.
fn client(table: &Table, asked: &Asked<'_>) -> IpAddr {
    let is_trusted = table.settings.client_subnet.contains(asked.address);
    let subnet = asked.subnet.filter(|_| is_trusted).and_then(|subnet| subnet.client());
    subnet.unwrap_or_else(|| asked.address.to_canonical())
}

/// A query as a resolver would send it.
fn query(asked: &Asked<'_>) -> Vec<u8> {
    let qtype = match asked.family {
        Family::Ipv4 => rtype::A,
        Family::Ipv6 => rtype::AAAA,
    };
    // An identifier, no flags, and one question.
    let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(asked.subnet.is_some())];
    query.extend_from_slice(asked.name.wire());
    query.extend(qtype.to_be_bytes());
    query.extend(class::IN.to_be_bytes());
    if let Some(subnet) = asked.subnet {
        let (value, length) = subnet.write(0);
        let value = value.get(..length).unwrap_or_default();
        let [d0, d1] = u16::try_from(4 + length).unwrap_or(0).to_be_bytes();
        let [l0, l1] = u16::try_from(length).unwrap_or(0).to_be_bytes();
        let [p0, p1] = u16::try_from(PLAIN_UDP).unwrap_or(0).to_be_bytes();
        let [o0, o1] = rtype::OPT.to_be_bytes();
        let [c0, c1] = option::CLIENT_SUBNET.to_be_bytes();
        let head: [u8; OPT_LENGTH] = [0, o0, o1, p0, p1, 0, 0, 0, 0, d0, d1];
        query.extend(head);
        query.extend([c0, c1, l0, l1]);
        query.extend_from_slice(value);
    }
    query
}

/// The addresses in the answer section of a reply, with their TTLs.
pub(super) fn addresses(reply: &[u8]) -> Vec<(IpAddr, u32)> {
    let answers = reply.get(6..8).and_then(|count| count.try_into().ok()).map_or(0, u16::from_be_bytes);
    let questions = reply.get(HEADER..).and_then(Question::read);
    let mut rest = questions.map_or(&[][..], |(_, rest)| rest);
    let mut found = Vec::new();
    for _ in 0..answers {
        let Some((record, after)) = Record::read(reply, rest) else { break };
        rest = after;
        let address = match (record.rtype, record.data) {
            (rtype::A, data) => data.try_into().map(|data: [u8; 4]| IpAddr::V4(Ipv4Addr::from(data))),
            (rtype::AAAA, data) => data.try_into().map(|data: [u8; 16]| IpAddr::V6(Ipv6Addr::from(data))),
            _ => continue,
        };
        found.extend(address.ok().map(|address| (address, record.ttl)));
    }
    found
}

/// The scope in the client-subnet option of a reply.
fn scope(reply: &[u8]) -> Option<u8> {
    let edns = find_edns(&Header::read(reply)?, reply)?;
    let (_, value) = edns.options().find(|(code, _)| *code == option::CLIENT_SUBNET)?;
    value.get(3).copied()
}
