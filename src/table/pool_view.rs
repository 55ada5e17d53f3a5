//! The addresses of a pool that may be in answers now.
//!
//! `health` decides which addresses are healthy. This file combines their states with the operator's
//! overrides, and so determines the candidates. Services, and which of their pools answers, belong to
//! `table`.
//!
//! The role of an address, according to its [`AddressCondition`]; an override takes precedence over the checks:
//!
//! ```text
//!                      eligible                        in fail open             counts for min_healthy as
//! healthy              yes, by percent of its weight   yes                      healthy
//! unknown, or held     if the healthy ones are too     yes                      healthy, if it is eligible
//!                      few for min_healthy
//! draining, unhealthy  no                              yes                      not healthy
//! override up          yes, at full weight             yes                      healthy
//! override down        no                              yes                      not healthy
//! override drain       no                              if no other is left      not healthy
//! weight override 0 %  no                              if no other is left      not healthy
//! override disabled    no                              no                       not in the total either
//! ```
//!
//! Any other weight override multiplies the weight in answers and in fail open, also beside the override `up`, and
//! not the weight that counts for `min_healthy`.
//!
//! Fail open distrusts the checks, not the operator. A drained server is about to be stopped, so it is
//! answered only if no tier has another address. It still counts in the total for `min_healthy`, as missing
//! capacity; a disabled backend does not.

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::pool::{Family, MAX_WEIGHT_PERCENT, Override, Pool};
use crate::selection::{Candidate, CandidateKey};

/// The addresses of a pool that may be in answers now.
#[derive(Debug)]
pub struct PoolView {
    /// The pool's name.
    pub name: Arc<str>,
    /// The names of its backends, in configuration order.
    pub backends: Arc<[Box<str>]>,
    /// Indexed by [`Family::index`].
    pub families: [FamilyView; 2],
}

/// The addresses of a pool that may be in answers now, for one address family.
#[derive(Clone, Debug)]
pub struct FamilyView {
    /// Whether the pool satisfies `min_healthy`.
    pub usable: bool,
    /// Whether the pool is usable only if addresses that are unknown or held count.
    pub on_trust: bool,
    /// The addresses that may appear in an answer now. Successive views share them until a member or
    /// a weight changes.
    pub eligible: Arc<Choice>,
    /// The addresses in answers if the pool fails open. They do not depend on health, so successive views
    /// share them until the configuration or an override changes.
    pub everyone: Arc<Choice>,
    /// Whether an operator drains all of them. If so, other tiers fail open before this one.
    pub drained: bool,
    /// All its addresses, including disabled ones. Successive views share them until the configuration changes.
    pub configured: Arc<[ConfiguredAddress]>,
}

/// An address as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfiguredAddress {
    /// The address for answers, and its backend.
    pub member: Member,
    /// The number of its site within the pool: that of the first backend of the site.
    pub site: u32,
    /// Its key for persistent services.
    pub(super) key: CandidateKey,
    weight: u32,
    /// The index within the backend.
    at: u32,
    enabled: bool,
}

/// Addresses with the weights for drawing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// In configuration order.
    pub members: Box<[Member]>,
    /// Their weights and sites.
    pub candidates: Box<[Candidate]>,
    /// Their indices in [`FamilyView::configured`].
    pub places: Box<[u32]>,
}

/// An address that may be in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The address.
    pub address: IpAddr,
    /// The index of its backend within the pool.
    pub backend: u32,
}

/// The combined result of all checks of a backend address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Passes its checks, or has none.
    Healthy,
    /// Alive, but wants no new clients.
    Draining,
    /// Fails its checks.
    Unhealthy,
    /// Has had no outcome yet.
    Unknown,
}

impl Standing {
    /// The word for it in metrics, logs and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Draining => "draining",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        }
    }
}

/// The default percentage of its weight that an address gets.
pub const FULL_WEIGHT: u8 = 100;

/// The known state of one backend address: the result of its checks, and an operator's override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressCondition {
    /// The result of the checks.
    pub standing: Standing,
    /// It would be healthy, but damping holds it for a while.
    pub held: bool,
    /// Percent of its weight while it is eligible, 0 to [`FULL_WEIGHT`]. With 0 it is left out while
    /// another address has weight.
    pub percent: u8,
    /// The operator's override, which takes precedence.
    pub overridden: Option<Override>,
    /// The operator's percentage of the configured weight, 0 to [`MAX_WEIGHT_PERCENT`].
    pub weight: u16,
}

impl From<Standing> for AddressCondition {
    /// A condition with full weight and without an override.
    fn from(standing: Standing) -> Self {
        Self { standing, held: false, percent: FULL_WEIGHT, overridden: None, weight: FULL_WEIGHT.into() }
    }
}

impl AddressCondition {
    /// The role of the address; `None` if it is disabled.
    fn role(self) -> Option<Role> {
        let role = match self.overridden {
            Some(Override::Disabled) => return None,
            _ if self.weight == 0 => Role::Drained,
            Some(Override::Up) => Role::Eligible(FULL_WEIGHT),
            Some(Override::Down) => Role::Out,
            Some(Override::Drain) => Role::Drained,
            None => {
                let percent = self.percent.min(FULL_WEIGHT);
                match (self.standing, self.held) {
                    (Standing::Draining, _) | (Standing::Unhealthy, false) => Role::Out,
                    (Standing::Unknown, _) | (_, true) => Role::Spare(percent),
                    (Standing::Healthy, false) => Role::Eligible(percent),
                }
            }
        };
        Some(role)
    }

    /// The weight with which an address of this configured weight is drawn while it is eligible, in hundredths.
    #[must_use]
    pub fn eligible_weight(self, configured: u32) -> u32 {
        let percent = match (self.overridden, self.percent) {
            // At 0 percent it is answered only if all have 0 percent, and then as if all had 100.
            (Some(Override::Up), _) | (None, 0) => FULL_WEIGHT,
            (_, percent) => percent,
        };
        scaled(configured, product(percent, self.weight))
    }

    /// The weight with which an address of this configured weight is drawn while its pool fails open, in
    /// hundredths.
    #[must_use]
    pub fn fail_open_weight(self, configured: u32) -> u32 {
        match scaled(configured, self.weight) {
            // It is answered only if all have 0: by configured weight, and equally if these are 0 too.
            0 => scaled(configured.max(1), FULL_WEIGHT.into()),
            weight => weight,
        }
    }
}

/// The product of two percentages, at most [`MAX_WEIGHT_PERCENT`]. It is rounded up, so it is 0 only if one of them
/// is 0.
fn product(percent: u8, weight: u16) -> u16 {
    let product = u32::from(percent) * u32::from(weight.min(MAX_WEIGHT_PERCENT));
    u16::try_from(product.div_ceil(FULL_WEIGHT.into())).unwrap_or(MAX_WEIGHT_PERCENT)
}

/// A weight in hundredths.
fn scaled(weight: u32, percent: u16) -> u32 {
    // At most `MAX_WEIGHT_PERCENT` x `MAX_WEIGHT`, which fits.
    weight.saturating_mul(percent.into())
}

/// The role of an address that counts in the totals of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Eligible, with this percentage of its weight.
    Eligible(u8),
    /// Becomes eligible, with this percentage of its weight, if `min_healthy` is only reached with the
    /// spares.
    Spare(u8),
    /// Answered only if the pool fails open.
    Out,
    /// Answered only if the pool fails open and no other address is left.
    Drained,
}

/// An address that is not disabled.
#[derive(Clone, Copy, Debug)]
struct EnabledAddress<'c> {
    configured: &'c ConfiguredAddress,
    /// The index of its configured address.
    place: u32,
    role: Role,
    /// See [`AddressCondition::weight`].
    weight_percent: u16,
}

/// An address for a [`Choice`].
type Chosen = (u32, Member, Candidate);

impl EnabledAddress<'_> {
    /// The weight as configured.
    fn weight(&self) -> u32 {
        self.configured.weight
    }

    /// The address with this weight; `None` if the weight is 0.
    fn candidate(&self, weight: u32) -> Option<Chosen> {
        let ConfiguredAddress { member, site, .. } = *self.configured;
        (weight > 0).then_some((self.place, member, Candidate { weight, site }))
    }

    /// The percentage of its weight with which it is eligible, without the operator's; `None` if it is not.
    fn percent(&self, with_spares: bool) -> Option<u8> {
        match self.role {
            Role::Eligible(percent) => Some(percent),
            Role::Spare(percent) => with_spares.then_some(percent),
            Role::Out | Role::Drained => None,
        }
    }
}

impl Choice {
    fn new(chosen: impl Iterator<Item = Chosen>) -> Self {
        let (mut members, mut candidates, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, member, candidate) in chosen {
            members.push(member);
            candidates.push(candidate);
            places.push(place);
        }
        Self { members: members.into(), candidates: candidates.into(), places: places.into() }
    }

    /// A choice with these members: a known one if it is equal.
    fn shared<'k>(
        known: impl IntoIterator<Item = &'k Arc<Self>>,
        chosen: impl Iterator<Item = Chosen> + Clone,
    ) -> Arc<Self> {
        let is_same = |choice: &&Arc<Self>| {
            let own = choice.places.iter().zip(&choice.members).zip(&choice.candidates);
            own.map(|((place, member), candidate)| (*place, *member, *candidate)).eq(chosen.clone())
        };
        match known.into_iter().find(is_same) {
            Some(choice) => Arc::clone(choice),
            None => Arc::new(Self::new(chosen)),
        }
    }
}

impl PoolView {
    /// Builds the view of a pool. `condition` returns the state of an address, by the index of its backend and
    /// its index within the backend, and is called once per address.
    ///
    /// `previous` is an earlier view of the pool; unchanged parts are shared with it. It may have
    /// other backends.
    pub fn build(
        pool: &Pool,
        previous: Option<&PoolView>,
        condition: impl Fn(usize, usize) -> AddressCondition,
    ) -> Self {
        let name = previous.map(|view| &view.name).filter(|name| ***name == *pool.name);
        let backends = previous.map(|view| &view.backends).filter(|backends| {
            backends.iter().map(|name| &**name).eq(pool.backends.iter().map(|backend| &*backend.name))
        });
        Self {
            name: name.map_or_else(|| pool.name.as_str().into(), Arc::clone),
            backends: backends.map_or_else(
                || pool.backends.iter().map(|backend| backend.name.as_str().into()).collect(),
                Arc::clone,
            ),
            families: Family::ALL.map(|family| {
                let previous = previous.map(|view| view.family(family));
                let configured = configured(pool, family);
                // Shared, so that draws can see that their addresses are the same.
                let configured = match previous.filter(|view| *view.configured == *configured) {
                    Some(view) => Arc::clone(&view.configured),
                    None => configured.into(),
                };
                FamilyView::build(pool, previous, configured, &condition)
            }),
        }
    }

    /// The next view of the pool, with the same configuration. Otherwise like [`PoolView::build`], but without
    /// examining the names of backends and sites.
    #[must_use]
    pub fn next(&self, pool: &Pool, condition: impl Fn(usize, usize) -> AddressCondition) -> Self {
        debug_assert!(
            Family::ALL.iter().all(|&family| *self.family(family).configured == *configured(pool, family))
        );
        let next =
            |view: &FamilyView| FamilyView::build(pool, Some(view), Arc::clone(&view.configured), &condition);
        Self {
            name: Arc::clone(&self.name),
            backends: Arc::clone(&self.backends),
            families: self.families.each_ref().map(next),
        }
    }

    /// The view of one family.
    #[must_use]
    pub fn family(&self, family: Family) -> &FamilyView {
        family.select(&self.families)
    }

    /// Whether the pool can be in use for a family: it is usable, or has no address of this family and is usable
    /// for the other one.
    #[must_use]
    pub fn can_answer(&self, family: Family) -> bool {
        self.answering_family(family).is_some()
    }

    /// Whether the pool can be in use for a family, and not only on trust.
    #[must_use]
    pub fn is_steady(&self, family: Family) -> bool {
        self.answering_family(family).is_some_and(|view| !view.on_trust)
    }

    /// The family whose addresses decide whether the pool can be in use for this one, if it can.
    fn answering_family(&self, family: Family) -> Option<&FamilyView> {
        let own = self.family(family);
        if own.usable || own.is_configured() {
            return Some(own).filter(|view| view.usable);
        }
        self.families.iter().find(|other| other.usable)
    }

    /// For each family that the pool has addresses of, whether it is usable.
    #[must_use]
    pub fn usable(&self) -> bool {
        let mut families = self.families.iter().filter(|family| family.is_configured()).peekable();
        families.peek().is_some() && families.all(|family| family.usable)
    }
}

impl FamilyView {
    fn build(
        pool: &Pool,
        previous: Option<&Self>,
        configured: Arc<[ConfiguredAddress]>,
        condition: &impl Fn(usize, usize) -> AddressCondition,
    ) -> Self {
        let enabled = &*enabled(&configured, condition);
        let total_weight = enabled.iter().map(|address| u64::from(address.weight())).sum();
        // Counts configured weights, so an address in slow start counts fully.
        let enough = |with_spares| {
            let healthy = enabled
                .iter()
                .filter(|address| address.weight() > 0 && address.percent(with_spares).is_some());
            let (count, weight) = healthy
                .fold((0, 0), |(count, weight), address| (count + 1, weight + u64::from(address.weight())));
            pool.min_healthy.is_met(count, weight, total_weight)
        };
        let healthy_suffice = enough(false);
        let with_spares = !healthy_suffice && enough(true);
        let drained = enabled.iter().all(|address| address.role == Role::Drained);
        let everyone = Choice::shared(previous.map(|view| &view.everyone), everyone_of(enabled, drained));
        // Usually all are eligible.
        let known = previous.map(|view| &view.eligible).into_iter().chain([&everyone]);
        Self {
            usable: healthy_suffice || with_spares,
            on_trust: with_spares,
            eligible: Choice::shared(known, eligible_of(enabled, with_spares)),
            everyone,
            drained,
            configured,
        }
    }

    /// Whether the pool has an address of this family that is not disabled.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !self.everyone.members.is_empty()
    }
}

/// The addresses of one family, in configuration order.
fn configured(pool: &Pool, family: Family) -> Vec<ConfiguredAddress> {
    let mut sites = HashMap::new();
    let mut configured = Vec::with_capacity(pool.backends.len());
    for (number, backend) in (0..).zip(&pool.backends) {
        let site = backend.site.as_deref().map_or(number, |site| *sites.entry(site).or_insert(number));
        let addresses = (0..).zip(&backend.addresses);
        let of_family = addresses.filter(|(_, address)| Family::of(**address) == family);
        configured.extend((0..).zip(of_family).map(|(place, (at, &address))| ConfiguredAddress {
            member: Member { address, backend: number },
            site,
            key: CandidateKey::new(&backend.name, place),
            weight: backend.weight,
            at,
            enabled: backend.enabled,
        }));
    }
    configured
}

/// The addresses that are not disabled.
fn enabled<'c>(
    configured: &'c [ConfiguredAddress],
    condition: &impl Fn(usize, usize) -> AddressCondition,
) -> Vec<EnabledAddress<'c>> {
    let entry = |(index, configured): (u32, &'c ConfiguredAddress)| {
        let condition = condition(configured.member.backend as usize, configured.at as usize);
        let (role, weight_percent) = (condition.role()?, condition.weight);
        Some(EnabledAddress { configured, place: index, role, weight_percent })
    };
    let mut enabled = Vec::with_capacity(configured.len());
    enabled.extend((0..).zip(configured).filter(|(_, configured)| configured.enabled).filter_map(entry));
    enabled
}

/// The eligible addresses with their weights: the configured weights if all addresses get exactly these, otherwise
/// in hundredths.
fn eligible_of(enabled: &[EnabledAddress<'_>], with_spares: bool) -> impl Iterator<Item = Chosen> + Clone {
    let weighted = enabled.iter().filter(|address| address.weight() > 0);
    let picked = weighted.filter_map(move |address| Some((address, address.percent(with_spares)?)));
    // If all get 0 percent, leaving them out would make the answer of a usable pool empty.
    let none_has_any = picked.clone().all(|(_, percent)| percent == 0);
    let of_weight = move |address: &EnabledAddress<'_>, percent| {
        product(if none_has_any { FULL_WEIGHT } else { percent }, address.weight_percent)
    };
    let unscaled =
        picked.clone().all(|(address, percent)| of_weight(address, percent) == u16::from(FULL_WEIGHT));
    picked.filter_map(move |(address, percent)| {
        let weight = address.weight();
        address.candidate(if unscaled { weight } else { scaled(weight, of_weight(address, percent)) })
    })
}

/// All addresses as if they were healthy; drained ones only if there are no others. Drawn by weight with the
/// operator's percentage; by configured weight if the operator gives all of them 0, or uniformly if these are 0 too.
fn everyone_of(enabled: &[EnabledAddress<'_>], all_drained: bool) -> impl Iterator<Item = Chosen> + Clone {
    let left = enabled.iter().filter(move |address| all_drained || address.role != Role::Drained);
    let unscaled = left.clone().all(|address| address.weight_percent == u16::from(FULL_WEIGHT));
    let all_zero = left.clone().all(|address| address.weight() == 0);
    let none_has_any = left.clone().all(|address| scaled(address.weight(), address.weight_percent) == 0);
    left.filter_map(move |address| {
        let weight = address.weight();
        address.candidate(match () {
            () if all_zero => 1,
            () if unscaled || none_has_any => weight,
            () => scaled(weight, address.weight_percent),
        })
    })
}
