//! Response rate limiting, so that spoofed queries cannot use this server to amplify a flood.
//!
//! The source address of a UDP query may be forged. So the limit counts equal responses to one
//! client network, not queries from a client. The caller applies it only to UDP, and not if a valid
//! DNS cookie proves the address (RFC 7873, section 5.2.3).
//!
//! BIND, NSD and Knot DNS do the same with different accounting. The choices made here and their
//! reasons:
//!
//! * **Equality of responses** is as in BIND and NSD: the name of an answer (that of the wildcard,
//!   not of the question), the zone of an NXDOMAIN or a referral, the code of an error. So a flood
//!   of made-up names shares one account. The type is ignored; otherwise a flood would get one
//!   account per type.
//! * **All responses** to a network can share one additional account, like `all-per-second` of
//!   BIND: without it, a flood over many names gets the limit once for each. This must be the
//!   higher limit, because a resolver with many users asks a lot. BIND drops everything above it;
//!   steerd slips a part, so that a real client gets an answer over TCP.
//! * **Client networks** are /24 and /56, as in BIND: a flood hits the victim's neighbours too.
//! * **An account** is a token bucket that holds the responses of one second. A limited response is
//!   not charged, so a client is served again within `1 / responses_per_second` after the flood
//!   ends. BIND charges limited responses too, and keeps a victim waiting for up to `window` (15
//!   seconds).
//! * **Memory** is fixed, as in NSD and Knot. In NSD, two clients with colliding hashes overwrite
//!   each other's bucket. Here eight accounts share a cache line, and a new account replaces the
//!   one with the least debt, so the least debt is lost. No account is charged for the debt of
//!   another: a flood over more accounts than there are slots weakens the limit, but does not
//!   starve clients.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::answer::ResponseKind;
use crate::network::{Network, Networks};

/// Number of accounts: 1 MiB. An account lives for at most a second after its last response, so
/// this is enough for 131,072 clients that query all the time.
pub const SLOTS: usize = SETS * WAYS;
/// Prefix length of IPv4 clients that share an account.
pub const IPV4_PREFIX: u8 = 24;
/// Prefix length of IPv6 clients that share an account.
pub const IPV6_PREFIX: u8 = 56;

/// Number of sets; a power of two.
const SETS: usize = 1 << 14;
/// Slots per set: one cache line.
const WAYS: usize = 8;
/// Capacity of a bucket, one second of responses in microseconds.
const CAPACITY: u64 = 1_000_000;
/// Maximum difference between the clocks of two threads, microseconds.
const SKEW: u64 = 1_000_000;

/// The limits set by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Equal responses per second to one client network, 1 to 1,000,000. As many may be sent at
    /// once after a pause.
    pub responses_per_second: u32,
    /// All responses per second to one client network, not less than `responses_per_second`; `None`
    /// means no limit.
    pub all_responses_per_second: Option<u32>,
    /// One in this many limited responses is sent empty and truncated, so that a real client
    /// retries over TCP: 1 = each, 0 = none, at most 255.
    pub slip: u32,
    /// Clients that are not limited.
    pub networks_exempt: Networks,
}

/// The decision about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// Send it.
    Send,
    /// Send an empty truncated response instead, which is no longer than the query.
    Slip,
    /// Send nothing.
    Drop,
}

/// The accounts of all clients. Threads share them without a lock.
#[derive(Debug)]
pub struct Limiter {
    sets: Box<[Set]>,
    /// Random for each limiter, so that nobody can search for colliding clients.
    seed: foldhash::quality::RandomState,
    /// Cost of a response in the account of equal responses, microseconds.
    cost: u64,
    /// Cost of a response in the account of all responses, microseconds.
    cost_of_all: Option<u64>,
    slip: u64,
    exempt: Networks,
}

/// Accounts that compete for the slots of one cache line.
#[repr(align(64))]
#[derive(Debug, Default)]
struct Set([AtomicU64; WAYS]);

/// One account. It is packed into one atomic word, so that it is never seen half-written.
///
/// ```text
///                response                      response, and the bucket is empty
///   free --------------------> in debt ---------------------------------------.
///     ^  <--------------------  |   ^                                          |
///     |    the debt has run out |   '------------ sent, slipped or dropped <---'
///     '--- evicted: of eight accounts in debt, the one with the least
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    /// The part of the key's hash that does not choose the set: 22 bits.
    tag: u64,
    /// Limited responses since the last slip: 8 bits.
    limited: u64,
    /// When the debt ends, microseconds: 34 bits, which wrap after 4.7 hours.
    free_at: u64,
}

const TAG_BITS: u32 = 22;
const LIMITED_BITS: u32 = 8;
const TIME_BITS: u32 = 64 - TAG_BITS - LIMITED_BITS;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
const LIMITED_MASK: u64 = (1 << LIMITED_BITS) - 1;

impl Account {
    fn unpack(word: u64) -> Self {
        Self {
            tag: word >> (64 - TAG_BITS),
            limited: word >> TIME_BITS & LIMITED_MASK,
            free_at: word & TIME_MASK,
        }
    }

    fn pack(self) -> u64 {
        self.tag << (64 - TAG_BITS) | self.limited << TIME_BITS | self.free_at
    }

    /// Debt in microseconds. A time further ahead than the largest debt has wrapped and is past.
    fn debt(self, now: u64) -> u64 {
        let ahead = self.free_at.wrapping_sub(now) & TIME_MASK;
        if ahead <= CAPACITY + SKEW { ahead } else { 0 }
    }
}

impl Limiter {
    /// Creates a limiter without debts.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        Self {
            sets: (0..SETS).map(|_| Set::default()).collect(),
            seed: foldhash::quality::RandomState::default(),
            cost: cost(limit.responses_per_second),
            cost_of_all: limit.all_responses_per_second.map(cost),
            slip: u64::from(limit.slip).min(LIMITED_MASK),
            exempt: limit.networks_exempt,
        }
    }

    /// Decides about one UDP response and charges the client's accounts: first that for equal
    /// responses, and if it allows the response, that for all responses. `now` is the time since
    /// any fixed moment; it may differ between threads by up to a second.
    #[must_use]
    pub fn judge(&self, client: IpAddr, kind: ResponseKind<'_>, now: Duration) -> LimitAction {
        self.judge_in_detail(client, kind, now).0
    }

    /// As [`Limiter::judge`]; also returns whether the account for all responses has decided.
    #[must_use]
    pub fn judge_in_detail(
        &self,
        client: IpAddr,
        kind: ResponseKind<'_>,
        now: Duration,
    ) -> (LimitAction, bool) {
        if self.exempt.contains(client) {
            return (LimitAction::Send, false);
        }
        let network = Network::around(client, IPV4_PREFIX, IPV6_PREFIX);
        match (self.decide(self.seed.hash_one((network, kind)), self.cost, now), self.cost_of_all) {
            (LimitAction::Send, Some(cost)) => (self.decide(self.seed.hash_one(network), cost, now), true),
            (action, _) => (action, false),
        }
    }

    /// Charges one response to the account with this hash.
    fn decide(&self, hash: u64, cost: u64, now: Duration) -> LimitAction {
        let Some(set) = self.set_of(hash) else { return LimitAction::Send };
        let tag = hash >> (64 - TAG_BITS);
        // Only the low bits are kept, so truncation loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        let now = now.as_micros() as u64;
        loop {
            let (slot, word) = set.find(tag, now);
            let (account, action) = self.charge(Account::unpack(word), tag, cost, now);
            // If another thread has changed the slot, start over. One of the threads always
            // succeeds. Each word is independent, so relaxed ordering is enough.
            if account.pack() == word
                || slot
                    .compare_exchange_weak(word, account.pack(), Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
            {
                return action;
            }
        }
    }

    /// Returns the account after one more response, and the decision. `found` is the client's own
    /// account, or the one it replaces.
    fn charge(&self, found: Account, tag: u64, cost: u64, now: u64) -> (Account, LimitAction) {
        let own = found.tag == tag;
        let (debt, limited) = if own { (found.debt(now), found.limited) } else { (0, 0) };
        if debt + cost <= CAPACITY {
            let free_at = now.wrapping_add(debt + cost) & TIME_MASK;
            return (Account { tag, limited, free_at }, LimitAction::Send);
        }
        match self.slip {
            0 => (found, LimitAction::Drop),
            slip if limited + 1 >= slip => (Account { limited: 0, ..found }, LimitAction::Slip),
            _ => (Account { limited: limited + 1, ..found }, LimitAction::Drop),
        }
    }

    fn set_of(&self, hash: u64) -> Option<&Set> {
        // The tag uses the upper bits, the set the lower ones.
        #[allow(clippy::cast_possible_truncation)]
        self.sets.get(hash as usize & (SETS - 1))
    }
}

/// The cost of a response at this rate, microseconds.
fn cost(per_second: u32) -> u64 {
    (CAPACITY / u64::from(per_second.max(1))).max(1)
}

impl Set {
    /// The slot of the account with this tag, otherwise the slot with the least debt; and its word.
    fn find(&self, tag: u64, now: u64) -> (&AtomicU64, u64) {
        let [first, rest @ ..] = &self.0;
        let mut least = (first, first.load(Ordering::Relaxed));
        if Account::unpack(least.1).tag == tag {
            return least;
        }
        let mut least_debt = Account::unpack(least.1).debt(now);
        for slot in rest {
            let word = slot.load(Ordering::Relaxed);
            let account = Account::unpack(word);
            if account.tag == tag {
                return (slot, word);
            }
            if account.debt(now) < least_debt {
                least = (slot, word);
                least_debt = account.debt(now);
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;

    const NAME: ResponseKind<'_> = ResponseKind::Answer(b"\x03www\x07example\x00");
    const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    /// Late enough for the 34-bit time to have wrapped many times.
    const START: Duration = Duration::from_secs(1_000_000);

    fn limiter(responses_per_second: u32, slip: u32) -> Limiter {
        let networks_exempt = ["198.51.100.0/24", "2001:db8:e::/48"].map(|text| text.parse().unwrap());
        Limiter::new(RateLimit {
            responses_per_second,
            all_responses_per_second: None,
            slip,
            networks_exempt: networks_exempt.into_iter().collect(),
        })
    }

    /// Counts how many of `count` responses at one moment are sent, slipped and dropped.
    fn burst(
        limiter: &Limiter,
        client: IpAddr,
        kind: ResponseKind<'_>,
        now: Duration,
        count: usize,
    ) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..count {
            counts[limiter.judge(client, kind, now) as usize] += 1;
        }
        counts
    }

    #[test]
    fn an_account_survives_its_word() {
        for account in [
            Account { tag: 0, limited: 0, free_at: 0 },
            Account { tag: (1 << TAG_BITS) - 1, limited: 0, free_at: TIME_MASK },
            Account { tag: 1, limited: LIMITED_MASK, free_at: 1 },
        ] {
            assert_eq!(Account::unpack(account.pack()), account);
        }
        assert_eq!(size_of::<Set>(), 64);
    }

    #[test]
    fn a_second_holds_what_is_allowed_and_the_rest_slips_or_is_dropped() {
        for (slip, expected) in
            [(0, [5, 0, 100]), (1, [5, 100, 0]), (2, [5, 50, 50]), (3, [5, 33, 67]), (1000, [5, 0, 100])]
        {
            assert_eq!(burst(&limiter(5, slip), VICTIM, NAME, START, 105), expected, "slip {slip}");
        }
        let limiter = limiter(5, 2);
        burst(&limiter, VICTIM, NAME, START, 50);
        assert_eq!(burst(&limiter, VICTIM, NAME, START + Duration::from_millis(199), 10)[0], 0);
        assert_eq!(burst(&limiter, VICTIM, NAME, START + Duration::from_millis(200), 10)[0], 1);
        assert_eq!(burst(&limiter, VICTIM, NAME, START + Duration::from_millis(1200), 10)[0], 5);
        assert_eq!(burst(&limiter, VICTIM, NAME, START + Duration::from_hours(9), 10)[0], 5);
    }

    #[test]
    fn one_response_a_second_is_possible_and_so_are_a_million() {
        assert_eq!(burst(&limiter(1, 0), VICTIM, NAME, START, 10)[0], 1);
        assert_eq!(burst(&limiter(0, 0), VICTIM, NAME, START, 10)[0], 1);
        assert_eq!(burst(&limiter(u32::MAX, 0), VICTIM, NAME, START, 10)[0], 10);
    }

    #[test]
    fn equal_responses_to_one_network_share_an_account() {
        let zone: &[u8] = b"\x07example\x00";
        let other: &[u8] = b"\x07another\x00";
        let kinds = [
            NAME,
            ResponseKind::Answer(zone),
            ResponseKind::NoName(zone),
            ResponseKind::NoName(other),
            ResponseKind::Referral(zone),
            ResponseKind::Error(5),
            ResponseKind::Error(1),
        ];
        let limiter = limiter(5, 0);
        for kind in kinds {
            assert_eq!(burst(&limiter, VICTIM, kind, START, 10)[0], 5, "{kind:?}");
        }
        let sent = |client: &str| burst(&limiter, client.parse().unwrap(), NAME, START, 10)[0];
        assert_eq!([sent("192.0.2.255"), sent("::ffff:192.0.2.7"), sent("192.0.3.1")], [0, 0, 5]);
        assert_eq!(
            [sent("2001:db8:0:100::1"), sent("2001:db8:0:1ff::1"), sent("2001:db8:0:200::1")],
            [5, 0, 5]
        );
        assert_eq!([sent("198.51.100.9"), sent("2001:db8:e::1")], [10, 10]);
    }

    #[test]
    fn responses_of_all_kinds_share_an_account_if_there_is_one() {
        let networks_exempt = ["198.51.100.0/24".parse().unwrap()].into_iter().collect();
        let limit = RateLimit {
            responses_per_second: 5,
            all_responses_per_second: Some(12),
            slip: 2,
            networks_exempt,
        };
        let limiter = Limiter::new(limit);
        let names: Vec<[u8; 3]> = (0..100).map(|name| [1, name, 0]).collect();
        // The allowance is five per name and twelve in total; every second response above it slips.
        let sent: Vec<_> =
            names.iter().map(|name| burst(&limiter, VICTIM, ResponseKind::Answer(name), START, 10)).collect();
        assert_eq!(sent.iter().map(|counts| counts[0]).sum::<usize>(), 12);
        assert_eq!([sent[0][0], sent[1][0], sent[2][0], sent[3][0]], [5, 5, 2, 0]);
        let [_, slipped, dropped] = sent[99];
        assert_eq!((slipped, dropped), (5, 5), "a real client is sent to TCP");
        // A twelfth of a second later one more is sent; a second later, as many as the bucket
        // regained.
        let later = |time| burst(&limiter, VICTIM, ResponseKind::Error(5), START + time, 100)[0];
        assert_eq!(later(Duration::from_millis(84)), 1);
        assert_eq!(later(Duration::from_millis(1100)), 5);
        // Neighbours share the account, other networks do not, and exempt clients have none.
        let of = |client: &str, kind| burst(&limiter, client.parse().unwrap(), kind, START, 10)[0];
        assert_eq!(of("192.0.2.254", NAME), 0);
        assert_eq!(of("192.0.3.1", NAME), 5);
        assert_eq!(of("198.51.100.9", NAME), 10);
    }

    proptest! {
        /// A few clients at random times, compared with a plain model of the bucket.
        #[test]
        fn accounts_against_the_model(
            rate in 1_u32..2000,
            steps in prop::collection::vec((0_u8..6, 0_u64..2_000_000), 1..300),
        ) {
            let limiter = limiter(rate, 0);
            let cost = u128::from(1_000_000 / rate);
            let mut free_at: HashMap<u8, u128> = HashMap::new();
            let mut now = START;
            for (client, pause) in steps {
                // Pauses are mostly short, so that buckets are full, partly full and empty.
                now += Duration::from_micros(pause / (1 << (pause % 16)));
                let free_at = free_at.entry(client).or_default();
                let debt = free_at.saturating_sub(now.as_micros());
                let expected = if debt + cost <= 1_000_000 {
                    *free_at = now.as_micros() + debt + cost;
                    LimitAction::Send
                } else {
                    LimitAction::Drop
                };
                prop_assert_eq!(limiter.judge(IpAddr::from([192, 0, client, 1]), NAME, now), expected);
            }
        }
    }

    /// Names whose accounts compete for the slots of one set.
    fn rivals(limiter: &Limiter, count: usize) -> Vec<[u8; 4]> {
        let client = Network::around(VICTIM, IPV4_PREFIX, IPV6_PREFIX);
        let set =
            |name: &[u8; 4]| limiter.seed.hash_one((client, ResponseKind::Answer(name))) & (SETS as u64 - 1);
        let wanted = set(&[0; 4]);
        (0_u32..).map(u32::to_be_bytes).filter(|name| set(name) == wanted).take(count).collect()
    }

    #[test]
    fn eight_floods_in_a_set_are_limited_and_starve_no_ninth() {
        let limiter = limiter(10, 0);
        let names = rivals(&limiter, 9);
        let (innocent, floods) = names.split_first().unwrap();
        let mut sent = 0;
        for millisecond in 0..10_000 {
            let now = START + Duration::from_millis(millisecond);
            for name in floods {
                sent += burst(&limiter, VICTIM, ResponseKind::Answer(name), now, 5)[0];
            }
            if millisecond % 250 == 100 {
                let action = limiter.judge(VICTIM, ResponseKind::Answer(innocent), now);
                assert_eq!(action, LimitAction::Send, "after {millisecond} ms");
            }
        }
        // Each flood has its allowance. Each of the 40 responses to the innocent client replaces
        // one account and so forgives a debt of up to one second.
        let allowance = 8 * 10 * 11;
        assert!(sent <= allowance + 40 * 10, "{sent} of 400,000 were sent");
    }

    #[test]
    fn a_flood_over_every_slot_starves_nobody() {
        let limiter = limiter(2, 0);
        for name in 0..2 * u32::try_from(SLOTS).unwrap() {
            burst(&limiter, VICTIM, ResponseKind::Answer(&name.to_be_bytes()), START, 3);
        }
        for client in 0..=255 {
            let client = IpAddr::from([203, 0, client, 1]);
            assert_eq!(limiter.judge(client, NAME, START), LimitAction::Send, "{client}");
        }
    }

    #[test]
    fn threads_share_one_allowance() {
        const THREADS: usize = 8;
        const EACH: usize = 50_000;
        // Large enough for the threads to run in parallel before the bucket is empty.
        const ALLOWED: usize = 100_000;
        let limiter = limiter(ALLOWED.try_into().unwrap(), 4);
        let start = Barrier::new(THREADS);
        let totals = [const { AtomicUsize::new(0) }; 3];
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for (total, count) in totals.iter().zip(burst(&limiter, VICTIM, NAME, START, EACH)) {
                        total.fetch_add(count, Ordering::Relaxed);
                    }
                });
            }
        });
        let over = THREADS * EACH - ALLOWED;
        assert_eq!(totals.map(AtomicUsize::into_inner), [ALLOWED, over / 4, over - over / 4]);
    }

    /// Ten seconds of spoofed queries. The allowance plus a part of the input bounds the output.
    #[test]
    fn a_spoofed_flood_is_not_amplified() {
        const QUERY: usize = 44;
        const RESPONSE: usize = 1232;
        const PER_SECOND: u64 = 50_000;
        const SECONDS: u64 = 10;
        const RATE: usize = 20;
        for slip in [0, 1, 2, 10] {
            let limiter = limiter(RATE.try_into().unwrap(), slip);
            let (mut bytes_in, mut bytes_out) = (0, 0);
            for query in 0..PER_SECOND * SECONDS {
                let now = START
                    + Duration::from_secs(1) * u32::try_from(query).unwrap()
                        / u32::try_from(PER_SECOND).unwrap();
                // Spread over the victim's network, as in carpet bombing.
                let client = IpAddr::from([192, 0, 2, query.to_le_bytes()[0]]);
                bytes_in += QUERY;
                bytes_out += match limiter.judge(client, NAME, now) {
                    LimitAction::Send => RESPONSE,
                    LimitAction::Slip => QUERY,
                    LimitAction::Drop => 0,
                };
            }
            let allowance = RATE * (usize::try_from(SECONDS).unwrap() + 1) * RESPONSE;
            let slipped = if slip == 0 { 0 } else { bytes_in / slip as usize };
            assert!(bytes_out <= allowance + slipped, "slip {slip}: {bytes_in} in, {bytes_out} out");
            assert!(bytes_out > slipped, "slip {slip}: the allowance is granted");
        }
    }
}
