//! Tells changes of services and pools: log lines and events.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::events::{Teller, tell};
use crate::fleet::answering::{Answering, ChangeKind, RouteChange, in_words, lost};
use crate::pool::{Family, PoolId};
use crate::service::{RouteIndex, ServiceId};
use crate::table::{PoolView, ServiceView, Table};

/// A change of a route in words, with the fields that its log line has.
struct ChangeInWords {
    is_warning: bool,
    message: Cow<'static, str>,
    /// Which of the tiers before and after it names.
    tiers: (bool, bool),
    names_family: bool,
    says_left: bool,
}

impl ChangeInWords {
    fn new(change: &RouteChange<'_>, kind: ChangeKind, families: &[Family]) -> Self {
        const NONE: (bool, bool) = (false, false);
        let (from, to, both) = ((true, false), (false, true), (true, true));
        let family = in_words(families);
        let instead = || change.instead(families);
        let words = |is_warning, message: Cow<'static, str>, tiers, names_family, says_left| Self {
            is_warning,
            message,
            tiers,
            names_family,
            says_left,
        };
        match kind {
            ChangeKind::Later | ChangeKind::Earlier if change.reaches_failover(families) => {
                words(false, "service is answered by the pool of its failover".into(), both, false, true)
            }
            ChangeKind::Later | ChangeKind::Earlier if change.leaves_failover(families) => {
                let message = "service has left the pool of its failover, which is not usable; it returns to it as \
                               soon as it is";
                words(true, message.into(), both, false, true)
            }
            ChangeKind::Down if change.before.0.is_down() => {
                let message = format!("service is down in {family} too: no tier is usable, it {}", instead());
                words(true, message.into(), from, true, false)
            }
            ChangeKind::Down => {
                let message = format!("service down: no tier is usable, it {}", instead());
                words(true, message.into(), from, true, false)
            }
            ChangeKind::Gone => {
                words(true, format!("service has no {family} address any more").into(), from, true, false)
            }
            ChangeKind::Later => {
                let message = "service is answered by a later tier: none before it is usable";
                words(true, message.into(), both, false, true)
            }
            ChangeKind::Instead => {
                let message = format!("service is still down, and now {}", instead());
                words(false, message.into(), NONE, true, false)
            }
            ChangeKind::Drained => {
                let message = "service is still down, and answers with drained backends again: no other address is left";
                words(true, message.into(), NONE, true, false)
            }
            ChangeKind::OnTrust => {
                let message = "service is answered on trust: a tier is usable with addresses that are held back, \
                               or have had no outcome yet";
                words(false, message.into(), to, true, false)
            }
            ChangeKind::Up if change.now.0.is_down() => {
                words(false, format!("service is up in {family}, not in all families").into(), to, true, true)
            }
            ChangeKind::Up => words(false, "service up: a tier is usable again".into(), to, true, true),
            ChangeKind::Earlier => {
                words(false, "service is answered by another tier".into(), both, false, true)
            }
            ChangeKind::Back => {
                words(false, format!("service has {family} addresses again").into(), to, true, false)
            }
        }
    }
}

/// Tells the changes of a route of a service.
fn tell_change(change: &RouteChange<'_>, asked_by: Option<&str>, teller: &Teller) {
    let (service, rule) = change.names();
    let (before, after) = change.tiers_of_both();
    for (kind, families) in change.kinds() {
        let words = ChangeInWords::new(change, kind, &families);
        let message = &words.message;
        let family = words.names_family.then(|| in_words(&families));
        let from = words.tiers.0.then_some(&before);
        let to = words.tiers.1.then_some(&after);
        let left = words.says_left.then(|| change.left(&families));
        macro_rules! line {
            ($level:ident, $kind:ident) => {
                tell!(teller, $level, $kind, service, rule, family, from, to, left, asked_by, "{message}")
            };
        }
        let is_tier = matches!(kind, ChangeKind::Later | ChangeKind::Earlier);
        match (words.is_warning, is_tier) {
            (true, true) => line!(warn, Tier),
            (true, false) => line!(warn, Service),
            (false, true) => line!(info, Tier),
            (false, false) => line!(info, Service),
        }
    }
}

/// Tells the families in which a pool has become usable or unusable.
pub(super) fn tell_pool(
    before: &PoolView,
    now: &PoolView,
    left: &str,
    asked_by: Option<&str>,
    teller: &Teller,
) {
    let pool = &*now.name;
    for family in Family::ALL {
        if let Some(lost) = lost(before, now, family) {
            tell!(
                teller,
                warn,
                Pool,
                pool,
                family = family.as_str(),
                left,
                asked_by,
                "pool is not usable: it {lost}"
            );
        }
        let is_back = now.family(family).usable && !before.family(family).usable;
        if is_back && before.family(family).is_configured() {
            tell!(teller, info, Pool, pool, family = family.as_str(), left, asked_by, "pool is usable again");
        }
    }
}

/// How each service was answered when last examined.
#[derive(Debug)]
pub(super) struct ServiceLog {
    /// Indexed by `ServiceId`.
    last: Vec<ServiceAnswering>,
}

/// How the routes of a service are answered.
#[derive(Debug)]
struct ServiceAnswering {
    default: Answering,
    rules: Box<[Answering]>,
}

impl ServiceAnswering {
    fn of(service: &ServiceView, table: &Table) -> Self {
        Self {
            default: Answering::of(service.default_route(), table),
            rules: service.routes().skip(1).map(|route| Answering::of(route, table)).collect(),
        }
    }

    /// In the order of the routes.
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Answering> {
        std::iter::once(&mut self.default).chain(&mut self.rules)
    }
}

impl ServiceLog {
    /// Starts from the first table. Nothing is told about it.
    pub(super) fn new(table: &Table) -> Self {
        Self { last: table.services().iter().map(|view| ServiceAnswering::of(view, table)).collect() }
    }

    /// Switches to another table, in which services and pools may have other ids. Tells the changes
    /// of the services that existed before.
    pub(super) fn go_on(&mut self, before: &Table, now: &Table, asked_by: Option<&str>, teller: &Teller) {
        let earlier = std::mem::replace(self, Self::new(now));
        let services = before.services().iter().map(|view| view.service.name.wire());
        let mut earlier: HashMap<&[u8], ServiceAnswering> = services.zip(earlier.last).collect();
        for (view, last) in now.services().iter().zip(&mut self.last) {
            let Some(old) = earlier.get_mut(view.service.name.wire()) else { continue };
            for ((route, last), old) in view.routes().zip(last.iter_mut()).zip(old.iter_mut()) {
                *last = last.after(old, route, now);
                tell_change(
                    &RouteChange { route, before: (old, before), now: (last, now) },
                    asked_by,
                    teller,
                );
            }
        }
    }

    /// Takes the tier of a route from the previous run, so that only a change since then is told.
    pub(super) fn recall(&mut self, id: ServiceId, route: RouteIndex, family: Family, pool: PoolId) {
        let of_service = self.last.get_mut(id.index());
        if let Some(last) = of_service.and_then(|last| last.iter_mut().nth(usize::from(route.0))) {
            last.set_tier(family, pool);
        }
    }

    /// Tells the changes of these services. A service that is repeated has changed only the first time.
    pub(super) fn look(
        &mut self,
        before: &Table,
        table: &Table,
        services: impl IntoIterator<Item = ServiceId>,
        asked_by: Option<&str>,
        teller: &Teller,
    ) {
        for id in services {
            let (Some(view), Some(last)) = (table.service(id), self.last.get_mut(id.index())) else {
                continue;
            };
            for (route, last) in view.routes().zip(last.iter_mut()) {
                let now = Answering::of(route, table).after(last, route, table);
                let old = std::mem::replace(last, now);
                if old != now {
                    tell_change(
                        &RouteChange { route, before: (&old, before), now: (&now, table) },
                        asked_by,
                        teller,
                    );
                }
            }
        }
    }
}
