//! How many bytes the answer of a service takes, for whoever must know before the first query.

use super::options;
use crate::name::{MAX_NAME, Name};
use crate::pool::Family;
use crate::settings::Settings;
use crate::wire::HEADER;

/// Type and class, which follow the name of a question.
const QUESTION_TAIL: usize = 4;
/// Length of a record before its data, for a record whose owner is the name of the question: a pointer to it,
/// type, class, TTL, length.
const RECORD_HEAD: usize = 12;

/// The most bytes that a UDP reply takes beside the addresses of the service with this name: the
/// client asks with every option, and under a wildcard for the longest name there is.
#[must_use]
pub fn around_addresses(service: &Name, settings: &Settings) -> usize {
    let name = if service.is_wildcard() { MAX_NAME } else { service.wire().len() };
    HEADER + name + QUESTION_TAIL + options::longest(settings)
}

/// Bytes of the record of one address.
#[must_use]
pub fn of_address(family: Family) -> usize {
    RECORD_HEAD
        + match family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 16,
        }
}
