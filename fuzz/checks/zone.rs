//! Reads arbitrary bytes as a zone: a fault has a place, and accepted records are answered.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use steerd::answer::Transport;
use steerd::answer::transfer::Transfer;
use steerd::name::Name;
use steerd::table::Table;
use steerd::wire::query::Header;
use steerd::wire::{MAX_MESSAGE, Query, flag, rcode};
use steerd::zone::reader::{self, MAX_FAULTS, ZoneFault};
use steerd::zone::{Lookup, NodeRef, Zone, rtype};

use super::query::{opt, query};
use super::reply::Reply;
use super::respond::{self, Setting};
use super::{allocation, world};

/// Separates the files for `$INCLUDE` in the input: the ASCII file separator.
const SEPARATOR: u8 = 0x1c;

/// How many names of a zone are queried at most.
const MOST_NAMES: usize = 64;

/// Maximum number of files for `$INCLUDE`; the reader's own limit is far above it.
const MOST_FILES: usize = 8;

/// Maximum length of an input, bytes.
const LONGEST: usize = 1 << 16;

/// Maximum memory for reading an input, bytes. Most of it is for records of `$GENERATE`; see
/// [`is_modest`].
const MEMORY: usize = 64 << 20;

/// Reads the input as a zone `example.` and queries every name in it.
///
/// The part before the first separator is the zone's file. `$INCLUDE` finds the part whose number,
/// modulo the number of parts, is the last byte of the path. Returns the zone's faults.
pub(crate) fn check(input: &[u8]) -> Vec<ZoneFault> {
    if !is_modest(input) {
        return Vec::new();
    }
    let files: Vec<&[u8]> = input.split(|&byte| byte == SEPARATOR).collect();
    let main = PathBuf::from("zone");
    let mut left = MOST_FILES;
    let mut load = |path: &Path| {
        left = left.checked_sub(1).ok_or_else(|| std::io::Error::other("too many files"))?;
        let number = path.as_os_str().as_encoded_bytes().last().map_or(0, |&last| usize::from(last));
        let file = if path == main { files.first() } else { files.get(number % files.len()) };
        file.map(|file| file.to_vec()).ok_or_else(|| std::io::Error::other("there is no such file"))
    };
    let apex = Name::parse("example").unwrap();
    let (read, peak) =
        allocation::peak_during(|| reader::read(&main, &apex, &mut load).and_then(reader::ReadZone::finish));
    assert!(peak <= MEMORY, "{peak} bytes of memory to read {} bytes", input.len());
    match read {
        Err(faults) => {
            check_faults(&faults);
            faults
        }
        Ok(zone) => {
            check_zone(zone);
            Vec::new()
        }
    }
}

/// Whether the input is short and creates few records. A `$GENERATE` of a million records is valid,
/// but the fuzzer would spend all its time on them.
fn is_modest(input: &[u8]) -> bool {
    let is_word = |word: &[u8]| word.eq_ignore_ascii_case(b"$GENERATE");
    let ends = (9..=input.len()).filter(|&end| is_word(&input[end - 9..end]));
    // The range is the next token. It should be on the same line, without a large number.
    let mut directives = 0;
    for end in ends {
        directives += 1;
        let line = input[end..].split(|&byte| byte == b'\n').next().unwrap_or(&[]).trim_ascii();
        let numbers = line.split(|byte| !byte.is_ascii_digit());
        if matches!(line, [] | [b'(' | b';', ..]) || numbers.into_iter().any(|digits| digits.len() > 3) {
            return false;
        }
    }
    let includes = input.windows(8).filter(|word| word.eq_ignore_ascii_case(b"$INCLUDE")).count();
    let most = if includes == 0 { 32 } else { 1 };
    input.len() <= LONGEST && directives <= most
}

fn check_faults(faults: &[ZoneFault]) {
    assert!((1..=MAX_FAULTS + 1).contains(&faults.len()), "{} faults", faults.len());
    for fault in faults {
        assert!(!fault.message.is_empty() && !fault.text.contains('\n'), "{fault:?}");
        if fault.line == 0 {
            assert_eq!((fault.column, fault.length), (0, 0), "{fault:?}");
            continue;
        }
        assert!(fault.column >= 1 && fault.length >= 1, "{fault:?}");
        // The mark is in the line or right after its end.
        assert!(fault.column as usize <= fault.text.len() + 1, "{fault:?}");
        assert!(fault.text.is_char_boundary(fault.column as usize - 1), "{fault:?}");
        assert!(fault.to_string().contains(&fault.message));
    }
}

fn check_zone(zone: Zone) {
    let records: usize = zone.nodes().flat_map(NodeRef::rrsets).map(|rrset| usize::from(rrset.count)).sum();
    assert_eq!(records, zone.records());
    let table = world::table_of(zone);
    check_transfer(&table);
    let zone = &table.catalog.zones()[0];
    for node in zone.nodes().take(MOST_NAMES) {
        for rtype in [rtype::A, rtype::ANY, rtype::DS, 65_280] {
            ask_udp(&table, node.name(), rtype);
        }
        let below = [b"\x01x", node.name()].concat();
        if below.len() <= 255 {
            ask_udp(&table, &below, rtype::A);
        }
        match zone.find(node.name()) {
            Lookup::Found(found) if found.name() == node.name() => check_node(&table, node),
            Lookup::Referral { .. } | Lookup::Dname(_) => {}
            other => panic!("{:?} is in the zone, and not found: {other:?}", node.name()),
        }
    }
}

/// A transfer sends every record once, between two copies of the SOA record.
fn check_transfer(table: &Table) {
    let zone = &table.catalog.zones()[0];
    let message = query(zone.apex_name(), rtype::AXFR, Some(opt(1232)));
    let header = Header::read(&message).unwrap();
    let asked = Query::read(&header, &message).unwrap();
    let begun = Transfer::new(Arc::clone(&table.catalog), &header, &asked, Transport::Tcp, 1232);
    let mut transfer = begun.unwrap();
    let mut buffer = vec![0xff; MAX_MESSAGE];
    let mut types = Vec::new();
    while let Some(length) = transfer.next_message(&mut buffer).unwrap() {
        let reply = Reply::read(&buffer[..length]);
        assert!(reply.rcode() == rcode::NOERROR && !reply.answers.is_empty());
        types.extend(reply.answers.iter().map(|record| record.rtype));
    }
    assert_eq!(types.len(), zone.records() + 1);
    assert_eq!((types.first(), types.last()), (Some(&rtype::SOA), Some(&rtype::SOA)));
}

fn ask_udp(table: &Table, name: &[u8], rtype: u16) {
    respond::ask(table, Setting::new(Transport::Udp), &query(name, rtype, Some(opt(1232))), |_| ());
}

/// Records of the file are answered completely.
fn check_node(table: &Table, node: NodeRef<'_>) {
    for rrset in node.rrsets() {
        let query = query(node.name(), rrset.rtype, None);
        respond::ask(table, Setting::new(Transport::Tcp), &query, |reply| {
            assert_eq!(reply.rcode(), rcode::NOERROR);
            if reply.flags & flag::TC != 0 || is_a_question(rrset.rtype) {
                return;
            }
            let answered = reply.answers.iter().filter(|record| {
                (record.rtype, record.ttl, record.owner.as_slice()) == (rrset.rtype, rrset.ttl, node.name())
            });
            assert_eq!(
                answered.count(),
                usize::from(rrset.count),
                "type {} of {:?}",
                rrset.rtype,
                node.name()
            );
        });
    }
}

/// Types that query something other than records of that type.
fn is_a_question(rtype: u16) -> bool {
    matches!(rtype, rtype::OPT | 249..=255)
}
