//! Zone transfers over TCP: decides who may start one, and produces the messages of a running one.
//!
//! The table says who may transfer a zone. `answer::transfer` writes the records, and `wire::tsig`
//! signs the messages.

use std::sync::Arc;

use crate::answer::transfer::Transfer;
use crate::answer::{Client, Transport, refuse};
use crate::sys::clock::unix_time;
use crate::table::Table;
use crate::wire::query::Header;
use crate::wire::tsig::{self, Signer, TsigError};
use crate::wire::{Full, MAX_MESSAGE, Query, opcode, rcode};
use crate::zone::rtype;

/// The kind of a message, as far as transfers are concerned.
pub(super) enum Begun {
    /// Not a request for a transfer.
    Other,
    /// A refused transfer: the length of the reply and its code.
    Refused(usize, u16),
    /// A transfer that is allowed.
    Transfer(Box<Outgoing>),
}

/// A running transfer.
pub(super) struct Outgoing {
    transfer: Transfer,
    signer: Option<Signer>,
}

/// Checks whether a message asks for a transfer, and whether the client may have it.
pub(super) fn begin(message: &[u8], client: &Client, table: &Table, reply: &mut [u8]) -> Begun {
    let Some(header) = Header::read(message).filter(|header| header.opcode() == opcode::QUERY) else {
        return Begun::Other;
    };
    let Ok(query) = Query::read(&header, message) else { return Begun::Other };
    if header.is_response() || !matches!(query.question.qtype, rtype::AXFR | rtype::IXFR) {
        return Begun::Other;
    }
    let mut refuse = |code| refuse(message, client, table, code, reply);
    let signer = match tsig::verify(message, &table.settings.transfers.keys, unix_time()) {
        Ok(signer) => signer,
        Err(TsigError::Malformed) => return refused(refuse(rcode::FORMERR), rcode::FORMERR),
        Err(TsigError::Refused(refusal)) => {
            let length = refuse(rcode::NOTAUTH);
            let length = refusal.append(reply, length, unix_time()).unwrap_or(length);
            return refused(length, rcode::NOTAUTH);
        }
    };
    let name = query.question.name();
    let begun =
        if table.settings.transfers.allows(name, client.address, signer.as_ref().map(Signer::key_name)) {
            let catalog = Arc::clone(&table.catalog);
            Transfer::new(catalog, &header, &query, Transport::Tcp, table.settings.udp_payload)
        } else {
            Err(rcode::REFUSED)
        };
    match (begun, signer) {
        (Ok(transfer), signer) => Begun::Transfer(Box::new(Outgoing { transfer, signer })),
        (Err(code), None) => refused(refuse(code), code),
        (Err(code), Some(mut signer)) => {
            let length = refuse(code);
            refused(signer.sign(reply, length, unix_time()).unwrap_or(length), code)
        }
    }
}

fn refused(length: usize, code: u16) -> Begun {
    Begun::Refused(length, code)
}

impl Outgoing {
    /// Writes the next message. Returns its length, or `None` when all are sent.
    ///
    /// # Errors
    /// If a single record does not fit together with its signature; the transfer is then aborted.
    pub(super) fn next_message(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Full> {
        let signature = self.signer.as_ref().map_or(0, Signer::record_length);
        let room = MAX_MESSAGE.min(buffer.len()).saturating_sub(signature);
        let Some(length) = self.transfer.next_message(buffer.get_mut(..room).ok_or(Full)?)? else {
            return Ok(None);
        };
        match &mut self.signer {
            Some(signer) => signer.sign(buffer, length, unix_time()).map(Some),
            None => Ok(Some(length)),
        }
    }
}
