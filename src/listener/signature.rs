//! Signed queries other than transfers (RFC 8945). A secondary sends one to get the SOA record
//! before it transfers a zone, and accepts only a signed answer.

use crate::answer::{Client, CookieProof, Disposition, Reply, ResponseKind, refuse};
use crate::sys::clock::unix_time;
use crate::table::Table;
use crate::wire::rcode;
use crate::wire::tsig::{self, TsigError};

/// Signs the reply to a signed query. If the signature is not accepted, replaces the reply with the
/// error (RFC 8945, section 5.2). Returns other verdicts unchanged.
pub(super) fn complete<'t>(
    disposition: Disposition<'t>,
    query: &[u8],
    client: &Client,
    table: &Table,
    reply: &mut [u8],
) -> Disposition<'t> {
    let Disposition::Reply(facts) = disposition else { return disposition };
    if !facts.signed {
        return disposition;
    }
    // The signature must also fit into the size that the client accepts.
    let Some(reply) = reply.get_mut(..facts.limit) else { return disposition };
    let now = unix_time();
    let (code, length) = match tsig::verify(query, &table.settings.transfers.keys, now) {
        Ok(None) => return disposition,
        Ok(Some(mut signer)) => {
            // The answer reserved room for the signature. If long names of the question and the key
            // exceed it, the reply is unsigned, which the client notices.
            let length = signer.sign(reply, facts.length, now).unwrap_or(facts.length);
            return Disposition::Reply(Reply { length, ..facts });
        }
        Err(TsigError::Malformed) => (rcode::FORMERR, refuse(query, client, table, rcode::FORMERR, reply)),
        Err(TsigError::Refused(refusal)) => {
            let length = refuse(query, client, table, rcode::NOTAUTH, reply);
            (rcode::NOTAUTH, refusal.append(reply, length, now).unwrap_or(length))
        }
    };
    let kind = ResponseKind::Error(code);
    Disposition::Reply(Reply {
        length,
        rcode: code,
        kind,
        truncated: false,
        cookie: CookieProof::None,
        service: None,
        ..facts
    })
}
