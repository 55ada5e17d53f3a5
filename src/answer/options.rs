//! EDNS options: interprets those of a query and adds those of the reply.

use super::{Client, Transport};
use crate::cookie::{COOKIE, Cookie};
use crate::settings::Settings;
use crate::wire::edns::{Edns, OPT_LENGTH, OptRecord, option};
use crate::wire::subnet::{self, ClientSubnet};

/// An extended error (RFC 8914, section 4): its code and a text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedError {
    pub(super) code: u16,
    text: &'static str,
}

impl ExtendedError {
    /// No zone of ours has the name.
    pub(super) const NOT_AUTHORITATIVE: Self = Self { code: 20, text: "" };
    /// The client is not allowed to do this.
    pub(super) const PROHIBITED: Self = Self { code: 18, text: "" };
    /// No pool of the service is usable, and the service is configured to answer with an error.
    pub(super) const ALL_DOWN: Self = Self { code: 0, text: "no healthy backend" };

    /// Adds the option to an OPT record.
    pub(super) fn write(self, opt: &mut OptRecord) {
        opt.push(option::EXTENDED_ERROR, &[&self.code.to_be_bytes(), self.text.as_bytes()]);
    }
}

/// Whether a cookie proves the client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieProof {
    /// No cookie, or cookies are off.
    None,
    /// A cookie that is not valid.
    Unproven,
    /// A cookie that we gave to this address.
    Proven,
}

/// Interprets the options and adds the replies to them to the OPT record: cookie, client subnet,
/// keepalive, NSID. Each is added if the client asks for it, the settings enable it, and there is
/// room. They are in order of importance, so the least important is left out first. Unknown options
/// are ignored (RFC 6891, section 6.1.2). Of repeated options the first counts.
///
/// Returns `None` if an option is malformed: FORMERR.
pub(super) fn heed(
    edns: &Edns<'_>,
    client: &Client,
    settings: &Settings,
    opt: &mut OptRecord,
) -> Option<CookieProof> {
    let mut proof = CookieProof::None;
    let first = |wanted| edns.options().find(|(code, _)| *code == wanted).map(|(_, value)| value);
    if let (Some(cookies), Some(value)) = (&settings.cookies, first(option::COOKIE)) {
        let (client_cookie, shown) = match cookies.secrets.check(value, client.address, client.time) {
            Cookie::Malformed => return None,
            Cookie::Unproven(client_cookie) => (client_cookie, CookieProof::Unproven),
            Cookie::Proven(client_cookie) => (client_cookie, CookieProof::Proven),
        };
        proof = shown;
        opt.push(option::COOKIE, &[&cookies.secrets.reply(client_cookie, client.address, client.time)]);
    }
    if let Some(value) = first(option::CLIENT_SUBNET)
        && settings.client_subnet.contains(client.address)
    {
        let subnet = ClientSubnet::read(value)?;
        // No answer depends on the client yet, so every answer is valid for all clients (RFC 7871,
        // section 7.2.1).
        let (value, length) = subnet.write(0);
        opt.push(option::CLIENT_SUBNET, &[value.get(..length).unwrap_or(&[])]);
    }
    if let (Transport::Tcp, Some(value)) = (client.transport, first(option::KEEPALIVE)) {
        // A client must not send a timeout (RFC 7828, section 3.2.1).
        if !value.is_empty() {
            return None;
        }
        opt.push(option::KEEPALIVE, &[&settings.tcp_idle.to_be_bytes()]);
    }
    if let (Some(nsid), Some(_)) = (&settings.nsid, first(option::NSID)) {
        opt.push(option::NSID, &[nsid]);
    }
    Some(proof)
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
