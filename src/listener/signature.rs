//! Queries with a transaction signature (RFC 8945) that are no transfers: a secondary asks so for
//! the SOA record before it transfers a zone, and takes no unsigned answer.

use crate::answer::{Client, Reply, ResponseKind, Verdict, refuse};
use crate::sys::clock::unix_time;
use crate::table::Table;
use crate::wire::rcode;
use crate::wire::tsig::{self, TsigError};

/// Signs the reply to a signed query, or says in its place why the signature is not accepted
/// (RFC 8945, section 5.2). Any other verdict stays as it is.
pub(super) fn complete<'t>(
    verdict: Verdict<'t>,
    query: &[u8],
    client: &Client,
    table: &Table,
    reply: &mut [u8],
) -> Verdict<'t> {
    let Verdict::Reply(facts) = verdict else { return verdict };
    if !facts.signed {
        return verdict;
    }
    // No longer than the client takes it, also with the signature.
    let Some(reply) = reply.get_mut(..facts.limit) else { return verdict };
    let now = unix_time();
    let (code, length) = match tsig::verify(query, &table.settings.transfers.keys, now) {
        Ok(None) => return verdict,
        Ok(Some(mut signer)) => {
            // The room was kept back. Where there is none, because of long names in the question and
            // of the key, the client sees that nothing is signed.
            let length = signer.sign(reply, facts.length, now).unwrap_or(facts.length);
            return Verdict::Reply(Reply { length, ..facts });
        }
        Err(TsigError::Malformed) => (rcode::FORMERR, refuse(query, client, table, rcode::FORMERR, reply)),
        Err(TsigError::Refused(refusal)) => {
            let length = refuse(query, client, table, rcode::NOTAUTH, reply);
            (rcode::NOTAUTH, refusal.append(reply, length, now).unwrap_or(length))
        }
    };
    let kind = ResponseKind::Error(code);
    Verdict::Reply(Reply {
        length,
        rcode: code,
        kind,
        truncated: false,
        proven: false,
        service: None,
        ..facts
    })
}
