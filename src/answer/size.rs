//! The size of a service's answer, for checks of the configuration and before a draw.

use super::options;
use crate::name::{MAX_NAME, Name};
use crate::pool::Family;
use crate::settings::Settings;
use crate::wire::HEADER;

/// The length of type and class in a question, bytes.
const QUESTION_TAIL: usize = 4;
/// A pointer to the name of the question.
const OWNER: usize = 2;
/// The length of a record without owner and data: type, class, TTL, length.
const RECORD_HEAD: usize = 10;

/// The maximum length of a UDP reply without the addresses of this service: the client sends every
/// option and, under a wildcard, the longest possible name.
#[must_use]
pub fn around_addresses(service: &Name, settings: &Settings) -> usize {
    let name = if service.is_wildcard() { MAX_NAME } else { service.wire().len() };
    HEADER + name + QUESTION_TAIL + options::longest(settings)
}

/// The length of the record of one address whose owner is the name of the question, bytes.
#[must_use]
#[inline]
pub fn of_address(family: Family) -> usize {
    OWNER + after_owner(family)
}

/// The same, without the owner.
#[inline]
pub(super) fn after_owner(family: Family) -> usize {
    RECORD_HEAD
        + match family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 16,
        }
}
