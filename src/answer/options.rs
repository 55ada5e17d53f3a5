//! EDNS options: interprets those of the query and adds those of the reply.

use std::net::IpAddr;

use super::{Client, Transport};
use crate::cookie::{COOKIE, Cookie};
use crate::settings::Settings;
use crate::wire::edns::{OPT_LENGTH, OptRecord, QueryOptions};
use crate::wire::subnet::{self, ClientSubnet};

/// An extended error (RFC 8914, section 4): a code and a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedError {
    code: u16,
    text: &'static str,
}

impl ExtendedError {
    /// No zone here has the name.
    pub(super) const NOT_AUTHORITATIVE: Self = Self { code: 20, text: "" };
    /// The client is not allowed to do this.
    pub(super) const PROHIBITED: Self = Self { code: 18, text: "" };
    /// No pool of the service is usable, and the service is configured to answer with an error.
    pub(super) const ALL_DOWN: Self = Self { code: 0, text: "no healthy backend" };

    /// Adds the option to an OPT record, if there is room.
    pub(super) fn write(self, opt: &mut OptRecord<'_>) {
        opt.add_extended_error(self.code, self.text);
    }
}

/// Whether a cookie proves the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieProof {
    /// No cookie, or cookies are off.
    None,
    /// A cookie that is not valid.
    Unproven,
    /// A cookie that this server gave to this address.
    Proven,
}

/// Interprets the options of a query and adds the answers to the OPT record: cookie, client subnet,
/// keepalive, NSID. Each is added if the client requests it, the settings enable it, and there is
/// room. The most important one comes first, so the least important one is left out first. Unknown
/// options are ignored (RFC 6891, section 6.1.2). If an option is repeated, the first one counts.
///
/// Returns `None` if an option is malformed: FORMERR.
pub(super) fn heed<'s>(
    asked: &QueryOptions<'_>,
    client: &Client,
    settings: &'s Settings,
    opt: &mut OptRecord<'s>,
) -> Option<CookieProof> {
    let mut proof = CookieProof::None;
    if let (Some(cookies), Some(value)) = (&settings.cookies, asked.cookie) {
        let (client_cookie, shown) = match cookies.secrets.check(value, client.address, client.time) {
            Cookie::Malformed => return None,
            Cookie::Unproven(client_cookie) => (client_cookie, CookieProof::Unproven),
            Cookie::Proven(client_cookie) => (client_cookie, CookieProof::Proven),
        };
        proof = shown;
        opt.add_cookie(cookies.secrets.reply(client_cookie, client.address, client.time));
    }
    if let Some(value) = asked.client_subnet
        && settings.client_subnet.contains(client.address)
    {
        opt.add_client_subnet(ClientSubnet::read(value)?);
    }
    if let (Transport::Tcp, Some(value)) = (client.transport, asked.keepalive) {
        // A client must not send a timeout (RFC 7828, section 3.2.1).
        if !value.is_empty() {
            return None;
        }
        opt.add_keepalive(settings.tcp_idle);
    }
    if let (Some(nsid), true) = (&settings.nsid, asked.nsid) {
        opt.add_nsid(nsid);
    }
    Some(proof)
}

/// The address of the client for which an answer is made: that of its client subnet, if the reply has room to tell for which
/// clients the answer is valid, otherwise that of the resolver.
pub(super) fn steered_address(opt: Option<&OptRecord<'_>>, client: &Client) -> IpAddr {
    let subnet = opt.and_then(OptRecord::client_subnet);
    subnet.and_then(ClientSubnet::client).unwrap_or_else(|| client.address.to_canonical())
}

/// The longest OPT record of a UDP reply, bytes. Extended errors do not count: they are left out if
/// there is no room.
pub(super) fn longest(settings: &Settings) -> usize {
    let cookie = settings.cookies.as_ref().map(|_| COOKIE);
    let nsid = settings.nsid.as_ref().map(|text| text.len());
    let client_subnet = (!settings.client_subnet.is_empty()).then_some(subnet::LONGEST);
    let values = [cookie, nsid, client_subnet].into_iter().flatten();
    OPT_LENGTH + values.map(|value| 4 + value).sum::<usize>()
}
