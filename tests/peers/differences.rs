//! How servers may differ, and why. Each rule removes from two replies the difference that it
//! explains; the rest must be equal.

use std::collections::BTreeSet;

use crate::servers::Peer;
use crate::servers::Peer::{Bind, Knot, Nsd};
use crate::support::message::{
    A, AAAA, ANY, CNAME, DNAME, Edns, HINFO, KEY, NOERROR, NS, NSEC, NSEC3, NXDOMAIN, Query, RRSIG, Record,
    Reply, SERVFAIL, SIG, SOA, SRV, YXDOMAIN, is_within, labels, name_of, wire,
};

/// The verdict on a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The standards allow both.
    Free,
    /// steerd agrees with at least one peer; the others decided differently, or are wrong.
    Contested,
    /// steerd differs from all peers by design.
    Own,
}

/// A reason for differences.
pub(crate) struct Difference {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The behaviour of steerd, and its reason.
    pub(crate) reason: &'static str,
    /// The peers whose differences it explains.
    pub(crate) peers: &'static [Peer],
    /// An example question: name, type, payload size (0 means no EDNS).
    pub(crate) example: (&'static str, u16, u16),
    /// Removes from both replies the parts in which they may differ.
    pub(crate) level: fn(&Case<'_>, ours: &mut Reply, theirs: &mut Reply),
}

/// The inputs of a rule apart from the replies.
pub(crate) struct Case<'q> {
    pub(crate) query: &'q Query,
    /// All records of all zones.
    pub(crate) records: &'q BTreeSet<Record>,
    pub(crate) peer: Peer,
    /// Whether the replies came over TCP.
    pub(crate) tcp: bool,
}

/// The rules, in the order in which they are applied.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "any",
        kind: Kind::Own,
        reason: "ANY gets one synthesised HINFO record (RFC 8482, section 4.2), so that it amplifies nothing.",
        peers: &[Nsd, Knot, Bind],
        example: ("www.plain.test", ANY, 0),
        level: any,
    },
    Difference {
        name: "servers in authority",
        kind: Kind::Free,
        reason: "The zone's NS records beside an answer are of no use to a resolver, which has them from the \
                 referral; RFC 1034, section 4.3.2, asks for them in referrals only.",
        peers: &[Nsd, Bind],
        example: ("www.plain.test", A, 0),
        level: |case, ours, theirs| {
            if !theirs.answer.is_empty() && ours.authority.is_empty() {
                let extra = |record: &Record| record.rtype == NS && case.is_apex(&record.owner);
                theirs.authority.retain(|record| !extra(record) || !case.is_true(record));
            }
        },
    },
    Difference {
        name: "records in addition",
        kind: Kind::Free,
        reason: "Addresses (and SRV records that NAPTR leads to) may go along to save a question, or not (RFC 1034, \
                 section 4.3.2, step 6); they are true, as they stand or by a wildcard. Addresses below a zone \
                 cut are glue, and not meant here.",
        peers: &[Nsd, Knot, Bind],
        example: ("extra.test", 15, 0),
        level: |case, ours, theirs| {
            let cut = case.cut(ours);
            let below = |record: &Record| cut.as_ref().is_some_and(|cut| is_within(&record.owner, cut));
            for reply in [ours, theirs] {
                reply.additional.retain(|record| {
                    !matches!(record.rtype, A | AAAA | SRV) || below(record) || !case.is_true(record)
                });
            }
        },
    },
    Difference {
        name: "checking disabled",
        kind: Kind::Contested,
        reason: "CD is cleared (RFC 4035, section 3.1.6: SHOULD). BIND copies it; NSD does with BADVERS.",
        peers: &[Nsd, Bind],
        example: ("www.plain.test", A, 0),
        level: |case, _, theirs| {
            if case.query.checking_disabled && (case.peer == Bind || case.is_bad_version()) {
                theirs.other_flags &= !0x0010;
            }
        },
    },
    Difference {
        name: "DO of an unknown EDNS version",
        kind: Kind::Contested,
        reason: "DO is copied into every reply (RFC 3225, section 3). NSD clears it with BADVERS.",
        peers: &[Nsd],
        example: ("www.plain.test", A, 1232),
        level: |case, ours, theirs| {
            if let (true, Some(Edns { dnssec_ok: true, .. }), Some(edns)) =
                (case.is_bad_version(), &ours.edns, &mut theirs.edns)
            {
                edns.dnssec_ok = true;
            }
        },
    },
    Difference {
        name: "aliases into other zones",
        kind: Kind::Contested,
        reason: "An alias is followed as long as the server has a zone for its target (RFC 1034, section 4.3.2, \
                 step 3a: back to step 1), as NSD does too. Knot and BIND stop at the end of the first zone.",
        peers: &[Knot, Bind],
        example: ("other.chains.test", A, 0),
        level: |case, ours, theirs| {
            if case.zone(&case.end(theirs)) != case.zone(&case.query.lowered()) {
                ours.stop_where(theirs);
            }
        },
    },
    Difference {
        name: "long chains of aliases",
        kind: Kind::Contested,
        reason: "Up to 16 aliases are followed, as BIND does. Knot stops after five.",
        peers: &[Knot],
        example: ("c01.chains.test", A, 0),
        level: |case, ours, theirs| {
            let aliases = theirs.answer.iter().filter(|record| record.rtype == CNAME).count();
            if aliases >= 5 && case.end(ours) != case.end(theirs) {
                ours.stop_where(theirs);
            }
        },
    },
    Difference {
        name: "any below a DNAME",
        kind: Kind::Contested,
        reason: "The CNAME made from a DNAME answers ANY, as one that stands in the zone does (RFC 1034, section \
                 4.3.2, step 3a), and as it does with BIND. NSD and Knot go on with its target.",
        peers: &[Nsd, Knot],
        example: ("a.in.dname.test", ANY, 0),
        level: |case, ours, theirs| {
            let made = ours.answer.iter().any(|record| record.rtype == DNAME);
            if case.query.qtype == ANY && made {
                theirs.truncated &= ours.truncated;
                theirs.stop_where(ours);
            }
        },
    },
    Difference {
        name: "loops of aliases are answered once",
        kind: Kind::Contested,
        reason: "Each record of a loop is answered once, with NOERROR: an RRset holds no record twice (RFC 2181, \
                 section 5). Knot goes round until its limit, NSD goes round once more where a wildcard leads to \
                 itself.",
        peers: &[Nsd, Knot],
        example: ("loop.chains.test", A, 0),
        level: |case, ours, theirs| {
            if case.is_loop(ours) {
                theirs.answer.dedup();
            }
        },
    },
    Difference {
        name: "loops of aliases are no failure",
        kind: Kind::Contested,
        reason: "A loop is the zone's fault, not the server's, and asking elsewhere does not help: NOERROR, as with \
                 NSD and Knot. BIND says SERVFAIL with the same records.",
        peers: &[Bind],
        example: ("loop.chains.test", A, 0),
        level: |case, ours, theirs| {
            if case.is_loop(ours) && theirs.rcode == SERVFAIL {
                theirs.rcode = NOERROR;
            }
        },
    },
    Difference {
        name: "types that may stand beside an alias",
        kind: Kind::Contested,
        reason: "An alias is followed for every type that does not stand beside it (RFC 1034, section 4.3.2, step \
                 3a), as NSD does. BIND and Knot answer NODATA for types that could (RFC 4034, section 3).",
        peers: &[Knot, Bind],
        example: ("one.chains.test", RRSIG, 0),
        level: |case, ours, theirs| {
            if matches!(case.query.qtype, RRSIG | NSEC)
                || case.peer == Bind && matches!(case.query.qtype, SIG | KEY)
            {
                ours.not_follow(theirs);
            }
        },
    },
    Difference {
        name: "NSEC3 beside an alias",
        kind: Kind::Contested,
        reason: "NSEC3 records stand at names of their own (RFC 5155, section 3), so an alias is followed. NSD \
                 answers NODATA.",
        peers: &[Nsd],
        example: ("one.chains.test", NSEC3, 0),
        level: |case, ours, theirs| {
            if case.query.qtype == NSEC3 {
                ours.not_follow(theirs);
            }
        },
    },
    Difference {
        name: "a DNAME that leads to too long a name",
        kind: Kind::Contested,
        reason: "YXDOMAIN with the DNAME (RFC 6672, section 2.2). Knot adds the SOA and a DNAME at the target, and \
                 says NXDOMAIN where there is nothing at the target.",
        peers: &[Knot],
        example: (
            "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq.\
             qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq.long.dname.test",
            A,
            0,
        ),
        level: |_, ours, theirs| {
            if ours.rcode == YXDOMAIN && matches!(theirs.rcode, YXDOMAIN | NXDOMAIN) {
                theirs.rcode = YXDOMAIN;
                theirs.answer.retain(|record| record.rtype != DNAME || ours.answer.contains(record));
                theirs.authority.retain(|record| record.rtype != SOA);
            }
        },
    },
    Difference {
        name: "negative answers have an SOA record",
        kind: Kind::Contested,
        reason: "It says how long to keep them, and TC is set when it does not fit (RFC 2308, section 3). Knot leaves \
                 it out.",
        peers: &[Knot],
        example: (
            "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy.alias.\
             zzzzzzzzzzzzzzzzzzzzzzzzzzz.two.dname.test",
            DNAME,
            0,
        ),
        level: |case, ours, theirs| {
            if !case.tcp
                && theirs.authority.is_empty()
                && matches!(&ours.authority[..], [soa] if soa.rtype == SOA)
            {
                theirs.authority.clone_from(&ours.authority);
            }
        },
    },
    Difference {
        name: "glue is complete",
        kind: Kind::Contested,
        reason: "All glue below the cut is part of a referral; TC is set when it does not fit (RFC 9471, section \
                 3). Knot does so too; NSD and BIND leave addresses out.",
        peers: &[Nsd, Bind],
        example: ("www.cut14.big.test", A, 0),
        level: |case, ours, theirs| {
            if case.tcp || theirs.truncated || case.cut(theirs).is_none() {
                return;
            }
            if ours.truncated {
                ours.truncated = false;
                ours.answer.clone_from(&theirs.answer);
                ours.authority.clone_from(&theirs.authority);
                ours.additional.clone_from(&theirs.additional);
            } else if theirs.additional.iter().all(|record| ours.additional.contains(record)) {
                theirs.additional.clone_from(&ours.additional);
            }
        },
    },
    Difference {
        name: "what fits",
        kind: Kind::Free,
        reason: "How far names are compressed is free (RFC 1035, section 4.1.4), and so is keeping room back: near \
                 the limit one reply is whole and another truncated. steerd's is the whole one, except that Knot \
                 and BIND point into DNAME data too.",
        peers: &[Nsd, Knot, Bind],
        example: ("a29.big.test", A, 512),
        level: |_, ours, theirs| {
            let dname = theirs.answer.iter().any(|record| record.rtype == DNAME);
            if theirs.truncated && !ours.truncated {
                theirs.clone_from(ours);
            } else if ours.truncated && !theirs.truncated && dname {
                ours.clone_from(theirs);
            }
        },
    },
    Difference {
        name: "content of a truncated reply",
        kind: Kind::Free,
        reason: "It is not to be used, and the question is asked again over TCP (RFC 2181, section 9).",
        peers: &[Nsd, Knot, Bind],
        example: ("a100.big.test", A, 0),
        level: |_, ours, theirs| {
            if ours.truncated && theirs.truncated {
                ours.rcode = theirs.rcode;
                ours.stop_where(theirs);
                theirs.answer.clone_from(&ours.answer);
            }
        },
    },
];

fn any(case: &Case<'_>, ours: &mut Reply, theirs: &mut Reply) {
    let stand_in =
        Record { owner: case.query.lowered(), rtype: HINFO, ttl: 3600, data: b"\x07RFC8482\x00".to_vec() };
    let of_the_name = |record: &Record| record.owner == stand_in.owner && case.is_true(record);
    if case.query.qtype == ANY
        && ours.answer == [stand_in.clone()]
        && (theirs.truncated || !theirs.answer.is_empty() && theirs.answer.iter().all(of_the_name))
    {
        theirs.truncated = false;
        theirs.answer.clone_from(&ours.answer);
        theirs.authority.clear();
        theirs.additional.clear();
    }
}

impl Reply {
    /// Reduces this reply to the other one, if the other one is a part of it.
    fn stop_where(&mut self, other: &Self) {
        if other.answer.iter().all(|record| self.answer.contains(record)) {
            self.rcode = other.rcode;
            self.answer.clone_from(&other.answer);
            self.authority.clone_from(&other.authority);
            self.additional.clone_from(&other.additional);
        }
    }
}

impl Reply {
    /// Takes NODATA from the other reply, if it is for an alias that this reply follows.
    fn not_follow(&mut self, other: &Self) {
        let aliased = self.answer.iter().any(|record| record.rtype == CNAME);
        if aliased
            && other.answer.iter().all(|record| matches!(record.rtype, CNAME | DNAME))
            && other.rcode == NOERROR
        {
            self.stop_where(other);
        }
    }
}

impl Case<'_> {
    fn is_apex(&self, name: &[u8]) -> bool {
        let first = Record { owner: name.to_vec(), rtype: SOA, ttl: 0, data: Vec::new() };
        self.records.range(first..).next().is_some_and(|record| record.owner == name && record.rtype == SOA)
    }

    fn is_bad_version(&self) -> bool {
        self.query.edns.as_ref().is_some_and(|edns| edns.version != 0)
    }

    /// The zone that contains a name.
    fn zone(&self, name: &[u8]) -> Option<Vec<u8>> {
        let parts = labels(name);
        (0..=parts.len()).map(|skip| name_of(&parts[skip..])).find(|apex| self.is_apex(apex))
    }

    /// The end of an answer's alias chain, starting from the queried name.
    fn end(&self, reply: &Reply) -> Vec<u8> {
        let mut name = self.query.lowered();
        for _ in 0..reply.answer.len() {
            match reply.answer.iter().find(|record| record.owner == name && record.rtype == CNAME) {
                Some(alias) => name.clone_from(&alias.data),
                None => break,
            }
        }
        name
    }

    /// Whether an answer's alias chain is a loop.
    fn is_loop(&self, reply: &Reply) -> bool {
        let end = self.end(reply);
        reply.answer.iter().any(|record| record.owner == end && record.rtype == CNAME)
    }

    /// Whether a record is in the zones, directly or through a wildcard.
    fn is_true(&self, record: &Record) -> bool {
        let parts = labels(&record.owner);
        self.records.contains(record)
            || (1..=parts.len()).any(|skip| {
                let owner = [b"\x01*", &name_of(&parts[skip..])[..]].concat();
                self.records.contains(&Record { owner, ..record.clone() })
            })
    }

    /// The zone cut that a reply refers to.
    fn cut(&self, reply: &Reply) -> Option<Vec<u8>> {
        let servers =
            reply.authority.iter().find(|record| record.rtype == NS && !self.is_apex(&record.owner))?;
        Some(servers.owner.clone())
    }
}

impl Difference {
    /// Questions that show the difference, with everything that rules may examine.
    pub(crate) fn examples(&self) -> impl Iterator<Item = Query> {
        let (name, qtype, payload) = self.example;
        [0, 1].into_iter().map(move |version| Query {
            name: wire(name),
            qtype,
            edns: (payload > 0).then_some(Edns { version, payload, dnssec_ok: true }),
            recursion_desired: false,
            checking_disabled: true,
        })
    }
}

/// Removes the differences that the rules explain; returns the rules that were applied.
pub(crate) fn level(case: &Case<'_>, ours: &mut Reply, theirs: &mut Reply) -> Vec<&'static str> {
    let mut used = Vec::new();
    for rule in DIFFERENCES.iter().filter(|rule| rule.peers.contains(&case.peer)) {
        if ours == theirs {
            break;
        }
        let before = (ours.clone(), theirs.clone());
        (rule.level)(case, ours, theirs);
        if (&before.0, &before.1) != (ours, theirs) {
            used.push(rule.name);
        }
    }
    used
}
