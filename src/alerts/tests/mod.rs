//! The ledger against a naive model, and the bodies against the rules of their receivers.

mod bodies;
mod simulation;
mod timeline;

use std::sync::Arc;

use super::ledger::PresentConditions;
use crate::events::EventKind;
use crate::fleet::{Condition, ConditionKey};

/// A condition of a pool.
fn condition(name: &str) -> Condition {
    Condition {
        key: ConditionKey { kind: EventKind::Pool, name: name.into(), rule: None },
        summary: format!("pool {name} is not usable"),
        reason: "it has no usable ipv4 address any more".into(),
        consequence: "service www.example.com fails open".into(),
        fails_open: false,
        start: 0,
    }
}

fn present(names: &[&str]) -> PresentConditions {
    let conditions = names.iter().map(|name| Arc::new(condition(name)));
    conditions.map(|condition| (condition.key.clone(), condition)).collect()
}
