//! Checks as URLs: the short form, for the most common settings.

use crate::check::name_in;
use crate::config::check::certificate::TlsKeys;
use crate::config::check::key::CheckKey;
use crate::config::check::keys::{CheckKeys, PlainKeys};
use crate::config::check::{CheckKind, KINDS, certificate, program, request};
use crate::config::value::TomlValue;
use crate::spelling::closest;

/// Reads `SCHEME://[HOST][:PORT][/PATH]` or `exec:PROGRAM`. Missing parts come from the defaults.
pub(super) fn read<'s>(value: TomlValue<'s>, text: &'s str) -> Option<CheckKeys<'s>> {
    if let Some(path) = text.strip_prefix("exec:") {
        let program = program::checked(value, path, "of the check")?;
        let kind = CheckKey::here(CheckKind::Exec, value.at);
        let plain = PlainKeys { kind, program: CheckKey::here(program, value.at), ..PlainKeys::default() };
        return Some(CheckKeys { plain, ..CheckKeys::default() });
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let hint = matches!(text, "ping" | "icmp")
            .then(|| "there is no ping; \"tcp://:PORT\" passes where a port takes connections".to_owned());
        value.must_be("a URL such as \"http://:8080/healthz\", or a table", hint);
        return None;
    };
    let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    // The message does not quote the text, which may contain a password.
    if authority.contains('@') {
        value.at.concealed().error_with_hint(
            "a check's URL takes no user and no password before the host",
            "write the check as a table, with headers = { Authorization = \"Basic ..\" }, which is the base64 of \
             USER:PASSWORD"
                .to_owned(),
        );
        return None;
    }
    let (name, port) = request::split_port(authority);
    let Some(kind) = KINDS.iter().find(|(word, _)| *word == scheme).map(|(_, kind)| *kind) else {
        let hint = closest(scheme, KINDS.iter().map(|(word, _)| *word)).map_or_else(
            || format!("a check is {}", CheckKind::words(&KINDS.map(|(_, kind)| kind), "or")),
            |near| format!("did you mean `{near}`?"),
        );
        value.at.error_with_hint(format!("`{scheme}` is not a type of check"), hint);
        return None;
    };
    let refuse = |message: &str, hint: String| {
        value.at.error_with_hint(message, hint);
        None
    };
    match kind {
        CheckKind::Exec => return refuse("a program is on this machine", format!("write \"exec:{rest}\"")),
        CheckKind::Tcp if !name.is_empty() || !target.is_empty() => {
            return refuse(
                "a tcp check has a port only: it connects to the addresses of the backends",
                format!("write \"tcp://:{}\"", port.unwrap_or("5432")),
            );
        }
        CheckKind::Tls if !target.is_empty() => {
            return refuse(
                "a tls check has a name and a port only: it sends no request",
                format!("write \"tls://{authority}\", or \"https://{rest}\" for a request"),
            );
        }
        _ => {}
    }
    if port.is_none() && name.parse::<u16>().is_ok() {
        // A query may contain a token.
        let path = target.split('?').next().unwrap_or_default();
        return refuse(
            &format!("`{name}` is where the host stands, and no host has a name of digits only"),
            format!("did you mean \"{scheme}://:{name}{path}\"?"),
        );
    }
    let port = match port {
        None => CheckKey::Unset,
        Some(digits) => CheckKey::here(request::port_number(value, digits)?, value.at),
    };
    let mut plain = PlainKeys { kind: CheckKey::here(kind, value.at), port, ..PlainKeys::default() };
    let mut tls = TlsKeys::default();
    if !name.is_empty() {
        let authority = request::checked_host(value, authority)?;
        if kind == CheckKind::Tls {
            tls.name = CheckKey::here(certificate::checked_name(value, name_in(authority))?, value.at);
        } else {
            plain.host = CheckKey::here(authority, value.at);
        }
    }
    if kind == CheckKind::Grpc {
        // An empty path means no path.
        if let Some(service) = target.strip_prefix('/').or(Some(target)).filter(|name| !name.is_empty()) {
            plain.service = CheckKey::here(request::checked_service(value, service)?, value.at);
        }
    } else if !target.is_empty() {
        plain.path = CheckKey::here(request::checked_path(value, target)?, value.at);
    }
    Some(CheckKeys { plain, tls, ..CheckKeys::default() })
}
