//! `/api/v1/explain`: why a client gets an answer.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::admin::problem::Problem;
use crate::admin::{AdminState, json, status};
use crate::answer::{DrawnAddress, TierVerdict};
use crate::checker::CheckerCommand;
use crate::config;
use crate::fleet::{
    ExplainRequest, ExplainedBackend, ExplainedOutcome, ExplainedService, ExplainedTier, Explanation,
};
use crate::name::Name;
use crate::network::{Network, NetworkError};
use crate::pool::{Family, MinHealthy};
use crate::service::{Answers, WhenDown};
use crate::wire::subnet::ClientSubnet;

/// The parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    name: Option<String>,
    r#type: Option<String>,
    client: Option<String>,
    resolver: Option<String>,
    seed: Option<u64>,
}

/// An explanation.
#[derive(Serialize)]
struct ExplainDocument<'a> {
    generation: u64,
    name: &'a str,
    r#type: &'static str,
    client: ShownClient,
    zone: Option<&'a str>,
    rcode: Option<&'static str>,
    /// The reasons, if a service answers.
    service: Option<ShownService<'a>>,
    sample: ShownSample<'a>,
}

/// The client, as the server sees it.
#[derive(Serialize)]
struct ShownClient {
    /// The address that sends the query.
    address: IpAddr,
    /// The client subnet that it sends.
    subnet: Option<String>,
    /// The scope in the reply.
    scope: Option<u8>,
}

#[derive(Serialize)]
struct ShownService<'a> {
    name: String,
    rule: Option<u16>,
    /// Whom the rule is for.
    rule_clients: Option<String>,
    /// The prefix of clients for which the same rule applies, or none.
    prefix: Option<String>,
    policy: &'static str,
    answers: Option<u16>,
    spread: &'static str,
    ttl: ShownTtl,
    when_down: &'static str,
    outcome: ShownOutcome,
    pool: Option<&'a str>,
    on_trust: bool,
    /// The pending change that shortens the TTL.
    pending: Option<ShownChange<'a>>,
    /// `auto`, `manual` or a duration.
    failback: String,
    /// The earlier tier that is usable and not taken yet.
    waiting: Option<status::WaitingTierShown<'a>>,
    /// The pool that an operator has put first.
    failover: Option<status::FailoverShown<'a>>,
    tiers: Vec<ShownTier<'a>>,
    /// Backends that are left out because there are too many.
    backends_left_out: usize,
}

#[derive(Serialize)]
struct ShownChange<'a> {
    at: Option<Timestamp>,
    change: &'a str,
}

#[derive(Serialize)]
struct ShownTtl {
    min: u32,
    max: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum ShownOutcome {
    Tier,
    FailOpen,
    NoAddress,
    Down,
}

#[derive(Serialize)]
struct ShownTier<'a> {
    pool: &'a str,
    verdict: &'static str,
    /// The verdict as a sentence.
    because: String,
    min_healthy: String,
    addresses: usize,
    eligible: usize,
    weight: u64,
    eligible_weight: u64,
    backends: Vec<ShownBackend<'a>>,
}

#[derive(Serialize)]
struct ShownBackend<'a> {
    #[serde(flatten)]
    backend: status::Backend<'a>,
    /// By address, for those that are drawn.
    drawn: Vec<ShownDraw>,
}

#[derive(Serialize)]
struct ShownDraw {
    address: IpAddr,
    weight: u32,
    /// The probability of being in an answer.
    included: f64,
    /// The probability of being first; over all clients for a persistent service, as that of being in an answer.
    first: f64,
    /// The place in the ranking of this client, from 1; only for a persistent service.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<u32>,
}

#[derive(Serialize)]
struct ShownSample<'a> {
    seed: u64,
    ttl: Option<u32>,
    addresses: &'a [IpAddr],
}

pub(super) async fn explain(
    State(shown): State<AdminState>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters.map_err(|rejection| bad(rejection.body_text()))?;
    let request = parameters.request()?;
    let (name, seed) = (request.name.to_plain(), request.seed);
    let client = ShownClient {
        address: request.address,
        subnet: request.subnet.map(|subnet| subnet.to_string()),
        scope: None,
    };
    let family = request.family;
    let asked = Box::new(request);
    let explained = shown.sources.ask(|reply| CheckerCommand::Explain(asked, reply)).await?;
    let Explanation { generation, zone, rcode, scope, addresses, ttl, service } = &explained;
    Ok(json(&ExplainDocument {
        generation: *generation,
        name: &name,
        r#type: record_type(family),
        client: ShownClient { scope: *scope, ..client },
        zone: zone.as_deref(),
        rcode: crate::wire::rcode::name(*rcode),
        service: service.as_ref().map(|service| ShownService::new(service, family)),
        sample: ShownSample { seed, ttl: *ttl, addresses },
    }))
}

impl Parameters {
    fn request(&self) -> Result<ExplainRequest, Problem> {
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            bad("`name` is missing: the name of a service, such as ?name=s3.lb.example.com")
        })?;
        let ascii = config::to_ascii(name).unwrap_or(name.into());
        let name = Name::parse(&ascii)
            .map_err(|error| bad(format!("`name`: `{name}` is not a domain name: {error}")))?;
        let family = match self.r#type.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("A") => Family::Ipv4,
            Some("AAAA") => Family::Ipv6,
            Some(other) => return Err(bad(format!("`type` must be A or AAAA, not `{other}`"))),
        };
        let client = self.client.as_deref().map(network).transpose()?;
        let resolver = match self.resolver.as_deref() {
            Some(text) => Some(text.parse::<IpAddr>().map_err(|_| bad("`resolver` must be an IP address"))?),
            None => None,
        };
        let subnet = resolver.and(client).map(|client| {
            // Resolvers send no more (RFC 7871, section 11.1).
            let longest = if client.first().is_ipv4() { 24 } else { 56 };
            ClientSubnet::of(client.first(), client.length().min(longest))
        });
        let address = resolver.or(client.map(Network::first)).unwrap_or(Ipv4Addr::LOCALHOST.into());
        Ok(ExplainRequest { name, family, address, subnet, seed: self.seed.unwrap_or(1) })
    }
}

fn network(text: &str) -> Result<Network, Problem> {
    text.parse().map_err(|error: NetworkError| bad(format!("`client`: {error}")))
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn record_type(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "A",
        Family::Ipv6 => "AAAA",
    }
}

impl<'a> ShownService<'a> {
    fn new(explained: &'a ExplainedService, family: Family) -> Self {
        let ExplainedService {
            service,
            rule,
            clients,
            route,
            outcome,
            pending,
            waiting,
            failover,
            tiers,
            left_out,
        } = explained;
        let (outcome, pool, on_trust) = match outcome {
            ExplainedOutcome::Tier { pool, on_trust } => (ShownOutcome::Tier, Some(&**pool), *on_trust),
            ExplainedOutcome::FailOpen { pool } => (ShownOutcome::FailOpen, Some(&**pool), false),
            ExplainedOutcome::NoAddress => (ShownOutcome::NoAddress, None, false),
            ExplainedOutcome::Down => (ShownOutcome::Down, None, false),
        };
        Self {
            name: service.name.to_plain(),
            rule: *rule,
            rule_clients: rule
                .and_then(|rule| service.rules.get(usize::from(rule).checked_sub(1)?))
                .map(ToString::to_string),
            prefix: clients.map(|clients| clients.to_string()),
            policy: service.policy.as_str(),
            answers: match route.answers {
                Answers::AtMost(count) => Some(count),
                Answers::All => None,
            },
            spread: service.spread.as_str(),
            ttl: ShownTtl { min: route.ttl.min, max: route.ttl.max },
            when_down: match route.when_down {
                WhenDown::FailOpen => "fail-open",
                WhenDown::NoData => "nodata",
                WhenDown::ServFail => "servfail",
                WhenDown::Addresses { .. } => "addresses",
            },
            outcome,
            pool,
            on_trust,
            pending: pending
                .as_ref()
                .map(|pending| ShownChange { at: status::timestamp(pending.at), change: &pending.text }),
            failback: service.failback.to_string(),
            waiting: waiting.as_ref().map(status::WaitingTierShown::from),
            failover: failover.as_ref().map(status::FailoverShown::from),
            tiers: tiers.iter().map(|tier| ShownTier::new(tier, family)).collect(),
            backends_left_out: *left_out,
        }
    }
}

impl<'a> ShownTier<'a> {
    fn new(tier: &'a ExplainedTier, family: Family) -> Self {
        let ExplainedTier {
            pool,
            verdict,
            min_healthy,
            addresses,
            eligible,
            weight,
            eligible_weight,
            backends,
        } = tier;
        let min_healthy = match min_healthy {
            MinHealthy::Count(count) => count.to_string(),
            MinHealthy::Percent(percent) => format!("{percent}%"),
        };
        let figures = format!(
            "{eligible} of {addresses} {} addresses are eligible, weight {eligible_weight} of {weight}; min_healthy is \
             {min_healthy}",
            family.as_str()
        );
        let (word, because) = match verdict {
            TierVerdict::InUse => ("in-use", format!("the first usable tier: {figures}")),
            TierVerdict::FailedOver => ("failed-over", format!("put first by an operator: {figures}")),
            TierVerdict::Kept => ("kept", format!("in use until the service returns: {figures}")),
            TierVerdict::Waiting => {
                ("waiting", format!("usable, but the service does not return to it yet: {figures}"))
            }
            TierVerdict::FailsOpen => {
                ("fails-open", format!("no tier is usable, so all its backends answer: {figures}"))
            }
            TierVerdict::Spare => ("spare", format!("usable, but another tier answers: {figures}")),
            TierVerdict::Unusable => ("unusable", format!("not usable: {figures}")),
            TierVerdict::NoAddress => ("no-address", format!("it has no {} address", family.as_str())),
            TierVerdict::OtherFamilyOnly => (
                "other-family-only",
                format!("it is usable but has no {} address, so the answer is NODATA", family.as_str()),
            ),
        };
        Self {
            pool,
            verdict: word,
            because,
            min_healthy,
            addresses: *addresses,
            eligible: *eligible,
            weight: *weight,
            eligible_weight: *eligible_weight,
            backends: backends.iter().map(ShownBackend::from).collect(),
        }
    }
}

impl<'a> From<&'a ExplainedBackend> for ShownBackend<'a> {
    fn from(ExplainedBackend { status, drawn }: &'a ExplainedBackend) -> Self {
        let part = |drawn: &DrawnAddress| ShownDraw {
            address: drawn.member.address,
            weight: drawn.weight,
            included: drawn.probability.included.as_float(),
            first: drawn.probability.first.as_float(),
            rank: drawn.rank,
        };
        Self {
            backend: status::Backend::new(status, false),
            drawn: drawn.iter().flatten().map(part).collect(),
        }
    }
}
