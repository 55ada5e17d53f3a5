//! Zone transfers (RFC 5936): a whole zone, message by message.
//!
//! A transfer keeps the zones as they were at its start, so a secondary gets one consistent version,
//! even if new zones are published in the meantime. It needs only the caller's buffer and a position in
//! the zone.
//!
//! It sends the records of the zone file. The addresses of services are not zone data: they change
//! without a new serial, and a copy would keep sending clients to dead backends. So a secondary knows
//! the name of a service only if the file has other records for it, and has no addresses to answer. It
//! is a copy of the static data only, so the NS records of a zone with services must not list it.
//!
//! An incremental transfer is answered with the whole zone (RFC 1995, section 4), because steerd keeps
//! no history of changes. The caller checks the client's rights.
//!
//! ```text
//!   Opening --the SOA--> Records(position) --all others, and the SOA again--> Done
//!      '---- only the SOA: the client has this version, or asks over UDP ----^
//! ```

use std::sync::Arc;

use crate::answer::Transport;
use crate::wire::edns::{OPT_LENGTH, OptRecord};
use crate::wire::query::Header;
use crate::wire::writer::Section;
use crate::wire::{Full, Query, Writer, class, flag, rcode};
use crate::zone::{Catalog, NodeRef, Zone, rtype};

/// The maximum length of a message of a transfer, unless a single record is longer. Compression
/// pointers have 14 bits, so names in longer messages would be compressed less.
pub const MESSAGE_SIZE: usize = 16 * 1024;

/// A transfer in progress.
#[derive(Debug)]
pub struct Transfer {
    catalog: Arc<Catalog>,
    /// The name of the zone, for the look-up in the catalog; at most 255 bytes.
    apex: Box<[u8]>,
    question: Box<[u8]>,
    id: u16,
    flags: u16,
    /// The OPT record of the first message, if the client sent one.
    opt: Option<[u8; OPT_LENGTH]>,
    /// Whether the answer is only the SOA record.
    soa_alone: bool,
    stage: TransferStage,
}

/// The next part to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransferStage {
    Opening,
    Records(Position),
    Done,
}

/// The position of a record: the node, the RRset within the node, the record within the RRset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    node: usize,
    rrset: usize,
    record: usize,
}

impl Transfer {
    /// Starts the transfer for an AXFR or IXFR query. `udp_payload` is the value for our OPT
    /// record.
    ///
    /// # Errors
    ///
    /// A response code if there can be no transfer: BADVERS, REFUSED for another class, FORMERR for AXFR
    /// over UDP, NOTAUTH if no zone here has this name.
    pub fn new(
        catalog: Arc<Catalog>,
        header: &Header,
        query: &Query<'_>,
        transport: Transport,
        udp_payload: u16,
    ) -> Result<Self, u16> {
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return Err(rcode::BADVERS);
        }
        if query.question.qclass != class::IN {
            return Err(rcode::REFUSED);
        }
        let incremental = query.question.qtype == rtype::IXFR;
        // A zone does not fit into a datagram. IXFR over UDP gets the SOA, which tells the client
        // whether to retry over TCP (RFC 1995, section 2). AXFR requires TCP (RFC 5936, section
        // 4.2).
        let datagram = transport == Transport::Udp;
        if datagram && !incremental {
            return Err(rcode::FORMERR);
        }
        let apex = query.question.name();
        let zone = catalog.find(apex, false).filter(|zone| zone.apex_name() == apex);
        let serial = zone.and_then(Zone::serial).ok_or(rcode::NOTAUTH)?;
        let current = incremental && query.known_serial.is_some_and(|known| is_current(known, serial));
        Ok(Self {
            apex: apex.into(),
            question: query.question.bytes.into(),
            id: header.id,
            flags: flag::QR | flag::AA | header.flags & (flag::OPCODE | flag::RD),
            opt: query.edns.map(|edns| OptRecord::new(udp_payload, edns.dnssec_ok).head(rcode::NOERROR)),
            soa_alone: datagram || current,
            stage: TransferStage::Opening,
            catalog,
        })
    }

    /// Writes the next message into `buffer` and returns its length, or `None` at the end. A record
    /// longer than [`MESSAGE_SIZE`] may use all of `buffer`: over TCP, 65,535 bytes minus the room for a
    /// signature.
    ///
    /// # Errors
    /// If a single record does not fit; then the transfer must be aborted.
    pub fn next_message(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Full> {
        let Some(zone) = self.catalog.find(&self.apex, false).filter(|_| self.stage != TransferStage::Done)
        else {
            return Ok(None);
        };
        for limit in [MESSAGE_SIZE, buffer.len()] {
            let mut writer = Writer::new(buffer, limit);
            let mut stage = self.stage;
            let opt = self.opt.as_ref().filter(|_| stage == TransferStage::Opening);
            if stage == TransferStage::Opening {
                writer.question_apart(&self.question)?;
            }
            writer.reserve(opt.map_or(0, |opt| opt.len()));
            let written = self.write(zone, &mut stage, &mut writer);
            if let Some(opt) = opt {
                writer.reserved(opt)?;
            }
            // A full message is not an error unless it is empty.
            if written.is_ok() || stage != self.stage {
                self.stage = stage;
                return Ok(Some(writer.finish(self.id, self.flags)));
            }
        }
        Err(Full)
    }

    /// Writes from `stage` on until the zone is complete or the message is full. Moves `stage` past
    /// the written records.
    fn write(&self, zone: &Zone, stage: &mut TransferStage, writer: &mut Writer<'_>) -> Result<(), Full> {
        if *stage == TransferStage::Opening {
            write_soa(zone, writer)?;
            *stage = if self.soa_alone {
                TransferStage::Done
            } else {
                TransferStage::Records(Position::default())
            };
        }
        if let TransferStage::Records(position) = stage {
            write_records(zone, position, writer)?;
            write_soa(zone, writer)?;
            *stage = TransferStage::Done;
        }
        Ok(())
    }
}

/// Whether a client with the serial `known` is up to date, in serial number arithmetic (RFC 1982,
/// section 3.2). If the order is undefined, it is not.
fn is_current(known: u32, serial: u32) -> bool {
    known.wrapping_sub(serial) < 1 << 31
}

/// Writes the SOA record, or nothing if it does not fit.
fn write_soa(zone: &Zone, writer: &mut Writer<'_>) -> Result<(), Full> {
    let (soa, _) = zone.negative_soa().ok_or(Full)?;
    let mark = writer.mark();
    let written = writer.rrset(Section::Answer, zone.apex_name(), soa, soa.ttl);
    written.inspect_err(|_| writer.rewind(mark))
}

/// Writes the records from `position` on, without the SOA, and moves `position` past them. Records below
/// a zone cut are included (RFC 5936, section 3.5).
fn write_records(zone: &Zone, position: &mut Position, writer: &mut Writer<'_>) -> Result<(), Full> {
    for node in zone.nodes().skip(position.node) {
        write_node(node, position, writer)?;
        *position = Position { node: position.node + 1, rrset: 0, record: 0 };
    }
    Ok(())
}

fn write_node(node: NodeRef<'_>, position: &mut Position, writer: &mut Writer<'_>) -> Result<(), Full> {
    for rrset in node.rrsets().skip(position.rrset) {
        // The SOA record exists only at the apex; it is sent at the start and the end of the transfer.
        let records = rrset.records().skip(position.record).filter(|_| rrset.rtype != rtype::SOA);
        for data in records {
            let mark = writer.mark();
            let written = writer.record(Section::Answer, node.name(), rrset.rtype, rrset.ttl, data);
            written.inspect_err(|_| writer.rewind(mark))?;
            position.record += 1;
        }
        position.rrset += 1;
        position.record = 0;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::rr::{RData, RecordType};
    use proptest::prelude::*;

    use super::*;
    use crate::name::Name;
    use crate::service::ServiceId;
    use crate::wire::MAX_MESSAGE;
    use crate::zone::ZoneBuilder;

    const SERIAL: u32 = 0xffff_fff0;

    fn wire(text: &str) -> Vec<u8> {
        Name::parse(text).unwrap().wire().to_vec()
    }

    /// A zone with an SOA, an NS and these records: owner below `example`, type, data.
    fn catalog(records: &[(String, u16, Vec<u8>)]) -> Arc<Catalog> {
        let mut builder = ZoneBuilder::new(&wire("example"));
        let mut soa = [wire("ns.example"), wire("hostmaster.example")].concat();
        for number in [SERIAL, 3600, 900, 604_800, 60] {
            soa.extend(number.to_be_bytes());
        }
        builder.add(&wire("example"), rtype::SOA, 300, &soa, 0).unwrap();
        builder.add(&wire("example"), rtype::NS, 300, &wire("ns.elsewhere"), 0).unwrap();
        for (owner, rtype, data) in records {
            builder.add(&wire(&format!("{owner}.example")), *rtype, 300, data, 0).unwrap();
        }
        builder.bind_service(&wire("www.example"), ServiceId(0)).unwrap();
        Arc::new(Catalog::new(vec![builder.finish().unwrap()]))
    }

    fn query(qtype: u16, edns: bool, known: Option<u32>) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, known.is_some().into(), 0, edns.into()];
        query.extend(b"\x07eXample\x00");
        query.extend([qtype.to_be_bytes(), [0, 1]].concat());
        if let Some(known) = known {
            query.extend(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x16\x00\x00");
            query.extend([known, 1, 1, 1, 1].map(u32::to_be_bytes).concat());
        }
        if edns {
            query.extend(OptRecord::new(1232, false).head(0));
        }
        query
    }

    fn begin(catalog: &Arc<Catalog>, query: &[u8], transport: Transport) -> Result<Transfer, u16> {
        let header = Header::read(query).unwrap();
        let query = Query::read(&header, query).unwrap();
        Transfer::new(Arc::clone(catalog), &header, &query, transport, 1232)
    }

    fn messages(mut transfer: Transfer) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        std::iter::from_fn(|| {
            let length = transfer.next_message(&mut buffer).unwrap()?;
            Some(buffer[..length].to_vec())
        })
        .collect()
    }

    /// The records of a transfer in order, as text, read by an independent parser.
    fn read_back(messages: &[Vec<u8>]) -> Vec<String> {
        let mut records = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let message = Message::from_vec(message).unwrap();
            assert_eq!((message.metadata.id, message.metadata.authoritative), (0x1234, true));
            assert_eq!(message.queries.len(), usize::from(index == 0), "only the first has the question");
            assert!(message.authorities.is_empty() && message.additionals.is_empty());
            assert!(!message.answers.is_empty());
            records.extend(message.answers.iter().map(ToString::to_string));
        }
        records
    }

    fn address(owner: &str, last: u8) -> (String, u16, Vec<u8>) {
        (owner.into(), rtype::A, vec![192, 0, 2, last])
    }

    #[test]
    fn a_small_zone_is_one_message() {
        let records = [
            address("a.b", 1),
            address("a.b", 2),
            ("mail".into(), rtype::MX, [&[0, 10][..], &wire("a.b.example")].concat()),
            // A delegation, and the names below it.
            ("sub".into(), rtype::NS, wire("ns.sub.example")),
            address("ns.sub", 3),
            address("hidden.sub", 4),
            address("*.wild", 5),
            ("www".into(), rtype::TXT, b"\x06beside".to_vec()),
        ];
        let messages =
            messages(begin(&catalog(&records), &query(rtype::AXFR, true, None), Transport::Tcp).unwrap());
        assert_eq!(messages.len(), 1);
        let message = Message::from_vec(&messages[0]).unwrap();
        assert_eq!(message.edns.as_ref().unwrap().max_payload(), 1232);
        assert_eq!(message.queries[0].name().to_string(), "eXample.");
        let soa = "example. 300 IN SOA ns.example. hostmaster.example. 4294967280 3600 900 604800 60";
        let expected = [
            soa,
            "example. 300 IN NS ns.elsewhere.",
            "a.b.example. 300 IN A 192.0.2.1",
            "a.b.example. 300 IN A 192.0.2.2",
            "mail.example. 300 IN MX 10 a.b.example.",
            "sub.example. 300 IN NS ns.sub.example.",
            "ns.sub.example. 300 IN A 192.0.2.3",
            "hidden.sub.example. 300 IN A 192.0.2.4",
            "*.wild.example. 300 IN A 192.0.2.5",
            "www.example. 300 IN TXT beside",
            soa,
        ];
        assert_eq!(read_back(&messages), expected);
        let uncompressed: usize = 12 + expected.iter().map(|record| record.len()).sum::<usize>();
        assert!(messages[0].len() < uncompressed * 2 / 3, "names are compressed");
    }

    #[test]
    fn the_zones_of_the_beginning_are_sent_to_the_end() {
        let records: Vec<_> =
            (0..=255).flat_map(|a| (0..20).map(move |b| address(&format!("{b}.{a}"), b))).collect();
        let zones = catalog(&records);
        let transfer = begin(&zones, &query(rtype::AXFR, false, None), Transport::Tcp).unwrap();
        drop(zones);
        let messages = messages(transfer);
        assert!(messages.len() > 3, "{} messages", messages.len());
        assert!(messages.iter().all(|message| message.len() <= MESSAGE_SIZE));
        assert!(messages[1].len() > MESSAGE_SIZE - 100, "a message is filled before the next one begins");
        assert_eq!(read_back(&messages).len(), 256 * 20 + 3);
    }

    #[test]
    fn a_record_larger_than_a_message_has_one_of_its_own() {
        let text: Vec<u8> = std::iter::repeat_n([&[255][..], &[b'x'; 255]].concat(), 200).flatten().collect();
        let records = [address("a", 1), ("big".into(), rtype::TXT, text), address("c", 3)];
        let zones = catalog(&records);
        let transfer = || begin(&zones, &query(rtype::AXFR, false, None), Transport::Tcp).unwrap();
        let sizes: Vec<_> = messages(transfer()).iter().map(Vec::len).collect();
        assert!(sizes.len() == 2 && sizes[0] < 200 && sizes[1] > 51_200, "{sizes:?}");
        assert_eq!(read_back(&messages(transfer())).len(), 6);
        let mut transfer = transfer();
        let mut buffer = vec![0; 50_000];
        assert!(matches!(transfer.next_message(&mut buffer), Ok(Some(_))));
        assert_eq!(transfer.next_message(&mut buffer), Err(Full));
        assert_eq!(transfer.next_message(&mut []), Err(Full));
    }

    #[test]
    fn an_incremental_transfer_is_the_whole_zone_or_the_soa() {
        let zones = catalog(&[address("a", 1)]);
        let count = |known, transport| {
            let messages = messages(begin(&zones, &query(rtype::IXFR, true, known), transport).unwrap());
            read_back(&messages).len()
        };
        for (known, records) in [
            (Some(SERIAL), 1),
            (Some(SERIAL + 1), 1),
            (Some(SERIAL.wrapping_add(0x7fff_ffff)), 1),
            (Some(SERIAL - 1), 4),
            (Some(SERIAL.wrapping_add(0x8000_0000)), 4),
            (Some(SERIAL.wrapping_add(0x8000_0001)), 4),
            (None, 4),
        ] {
            assert_eq!(count(known, Transport::Tcp), records, "{known:?}");
            assert_eq!(count(known, Transport::Udp), 1, "{known:?}");
        }
    }

    #[test]
    fn what_cannot_be_transferred() {
        let zones = catalog(&[]);
        let refused = |query: &[u8], transport| begin(&zones, query, transport).unwrap_err();
        let axfr = query(rtype::AXFR, true, None);
        assert_eq!(refused(&axfr, Transport::Udp), rcode::FORMERR);
        let mut below = axfr.clone();
        below.splice(12..12, *b"\x01a");
        assert_eq!(refused(&below, Transport::Tcp), rcode::NOTAUTH);
        let mut another = axfr.clone();
        another[13] = b'x';
        assert_eq!(refused(&another, Transport::Tcp), rcode::NOTAUTH);
        let mut chaos = axfr.clone();
        chaos[24] = 3;
        assert_eq!(refused(&chaos, Transport::Tcp), rcode::REFUSED);
        let mut version = axfr.clone();
        version[31] = 1;
        assert_eq!(refused(&version, Transport::Tcp), rcode::BADVERS);
    }

    /// Records with few names and any length, so that messages end at positions of every kind.
    fn any_records() -> impl Strategy<Value = Vec<(String, u16, Vec<u8>)>> {
        let owner = prop::sample::select(vec!["a", "b", "a.b", "x.y.z", "a-rather-long-label.b"]);
        // The parser rejects records without data.
        let text = prop::collection::vec(any::<u8>(), 1..=255);
        let record = (owner, 0_u8..4, text).prop_map(|(owner, kind, mut text)| match kind {
            0 => (owner.into(), rtype::MX, [&[0, 1][..], &wire("a.b.example")].concat()),
            1 => {
                text.insert(0, text.len().to_le_bytes()[0]);
                (owner.into(), rtype::TXT, text)
            }
            // An unknown type.
            _ => (owner.into(), 65_280, text),
        });
        prop::collection::vec(record, 0..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_record_is_sent_once_between_two_soas(records in any_records(), size in 1000..MESSAGE_SIZE) {
            let zones = catalog(&records);
            let mut transfer = begin(&zones, &query(rtype::AXFR, true, None), Transport::Tcp).unwrap();
            let mut buffer = vec![0; size];
            let mut sent = Vec::new();
            while let Some(length) = transfer.next_message(&mut buffer).unwrap() {
                sent.extend(Message::from_vec(&buffer[..length]).unwrap().answers);
            }
            let soas = sent.iter().filter(|record| record.record_type() == RecordType::SOA).count();
            prop_assert_eq!(soas, 2);
            prop_assert_eq!(sent.first(), sent.last());
            let mut expected: Vec<_> = records.iter().map(|(owner, rtype, data)| format!("{owner}.example. {rtype} {data:?}")).collect();
            expected.sort();
            expected.dedup();
            let mut data: Vec<_> = sent[1..sent.len() - 1].iter().filter_map(|record| {
                let data = match &record.data {
                    RData::MX(_) => [&[0, 1][..], &wire("a.b.example")].concat(),
                    RData::TXT(text) => {
                        let text = &text.txt_data[0];
                        [&[text.len().to_le_bytes()[0]][..], text].concat()
                    }
                    RData::Unknown { rdata, .. } => rdata.anything.clone(),
                    _ => return None,
                };
                Some(format!("{} {} {data:?}", record.name, u16::from(record.record_type())))
            }).collect();
            data.sort();
            prop_assert_eq!(data, expected);
        }
    }
}
