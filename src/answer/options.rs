//! EDNS options: what a client's ask for, and what the reply says to them.

use super::{Client, Transport};
use crate::cookie::{COOKIE, Cookie};
use crate::settings::Settings;
use crate::wire::edns::{Edns, OPT_LENGTH, OptRecord, option};
use crate::wire::subnet::{self, ClientSubnet};

/// Information codes of extended errors (RFC 8914, section 4) with a text for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ExtendedError {
    code: u16,
    text: &'static str,
}

impl ExtendedError {
    /// No zone of ours holds the name.
    pub(super) const NOT_AUTHORITATIVE: Self = Self { code: 20, text: "" };
    /// The client may not have what it asks for.
    pub(super) const PROHIBITED: Self = Self { code: 18, text: "" };
    /// A service without a usable pool, whose operator wants an error then.
    pub(super) const ALL_DOWN: Self = Self { code: 0, text: "no healthy backend" };

    /// Adds the option.
    pub(super) fn write(self, opt: &mut OptRecord) {
        opt.push(option::EXTENDED_ERROR, &[&self.code.to_be_bytes(), self.text.as_bytes()]);
    }
}

/// The proof that a client has given of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// No cookie, or cookies are off.
    None,
    /// A cookie that proves nothing.
    Unproven,
    /// A cookie that we gave to this address.
    Proven,
}

/// Reads the options and adds what is said to them to the OPT record of the reply: cookie, client
/// subnet, keepalive, NSID, as far as the client asks for them, the settings have them, and there
/// is room. The order is what they are worth: the last is the first to be left out. Unknown options
/// are passed over (RFC 6891, section 6.1.2); of several of one kind the first counts.
///
/// `None` when an option breaks its rules: FORMERR.
pub(super) fn heed(
    edns: &Edns<'_>,
    client: &Client,
    settings: &Settings,
    opt: &mut OptRecord,
) -> Option<Proof> {
    let mut proof = Proof::None;
    let first = |wanted| edns.options().find(|(code, _)| *code == wanted).map(|(_, value)| value);
    if let (Some(cookies), Some(value)) = (&settings.cookies, first(option::COOKIE)) {
        let (client_cookie, shown) = match cookies.secrets.check(value, client.address, client.time) {
            Cookie::Malformed => return None,
            Cookie::Unproven(client_cookie) => (client_cookie, Proof::Unproven),
            Cookie::Proven(client_cookie) => (client_cookie, Proof::Proven),
        };
        proof = shown;
        opt.push(option::COOKIE, &[&cookies.secrets.reply(client_cookie, client.address, client.time)]);
    }
    if let Some(value) = first(option::CLIENT_SUBNET)
        && settings.client_subnet.contains(client.address)
    {
        let subnet = ClientSubnet::read(value)?;
        // No answer depends on the client yet, so each is good for everyone (RFC 7871, section
        // 7.2.1).
        let (value, length) = subnet.write(0);
        opt.push(option::CLIENT_SUBNET, &[value.get(..length).unwrap_or(&[])]);
    }
    if let (Transport::Tcp, Some(value)) = (client.transport, first(option::KEEPALIVE)) {
        // A client must not send a time (RFC 7828, section 3.2.1).
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

/// The longest OPT record of a reply over UDP, bytes. Extended errors do not count: they are left
/// out where there is no room.
pub(super) fn longest(settings: &Settings) -> usize {
    let cookie = settings.cookies.as_ref().map(|_| COOKIE);
    let nsid = settings.nsid.as_ref().map(|text| text.len());
    let client_subnet = (!settings.client_subnet.is_empty()).then_some(subnet::LONGEST);
    let values = [cookie, nsid, client_subnet].into_iter().flatten();
    OPT_LENGTH + values.map(|value| 4 + value).sum::<usize>()
}
