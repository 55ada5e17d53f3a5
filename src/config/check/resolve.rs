//! Makes a check from its keys, and reports contradictions between them.

use crate::check::{
    BODY_LIMIT, Check, ExecProbe, Expected, GrpcProbe, HttpProbe, Probe, Talk, TcpProbe, TlsProbe,
    TlsSettings, name_in,
};
use crate::config::check::key::{CheckKey, contradiction};
use crate::config::check::keys::{CheckKeys, OF_TLS, PlainKeys};
use crate::config::check::pattern::BodyRequirement;
use crate::config::check::{CheckKind, Hosts, ReadCheck, certificate, request, timing};
use crate::config::source::At;
use crate::config::value::Located;

impl<'s> CheckKeys<'s> {
    /// The check from these keys and the defaults, with its kind as its name. `at` is its location in the pool; `hosts`
    /// says which backends have a host. None if there are faults.
    pub(super) fn resolve(&self, defaults: &Self, at: At<'s>, hosts: Hosts<'_>) -> Option<ReadCheck<'s>> {
        let before = at.findings().errors();
        let mut keys = self.clone().or_default(defaults);
        keys.settle_talk();
        let plain = &keys.plain;
        let timing = timing::read(plain, keys.faulty);
        if let (Some(critical), Some(observe_only)) = (is_true(&plain.critical), is_true(&plain.observe_only))
        {
            let message = "a check that is `observe_only` decides nothing, and one that is `critical` does";
            contradiction(("observe_only", observe_only), ("critical", Some(critical)), message.to_owned());
        }
        let kind = plain.kind.value();
        match &plain.kind {
            CheckKey::Set(kind) => keys.report_misfits(kind.value),
            CheckKey::Unset if !keys.faulty => {
                at.error_with_hint("the check has no `type`", "for example type = \"http\"".to_owned());
            }
            CheckKey::Unset | CheckKey::Wrong => {}
        }
        if kind.is_none_or(|kind| matches!(kind, CheckKind::Http | CheckKind::Https)) {
            keys.report_contradictions_of_http();
        }
        if kind == Some(CheckKind::Grpc) {
            keys.report_contradictions_of_grpc();
        }
        if kind.is_none_or(|kind| keys.has_tls(kind)) {
            keys.report_contradictions_of_tls();
        }
        // The checks below also rely on keys that are missing.
        if keys.faulty {
            return None;
        }
        let probe = keys.probe(kind?, at, hosts)?;
        if at.findings().errors() > before {
            return None;
        }
        let mut check = Check::new(probe, timing?);
        check.critical = is_true(&plain.critical).is_some();
        check.observe_only = is_true(&plain.observe_only).is_some();
        let critical_at = is_true(&plain.critical).map(|critical| critical.at);
        let unverified_at = keys.unverified().filter(|_| kind.is_some_and(|kind| keys.has_tls(kind)));
        Some(ReadCheck { at, name: plain.name.set().copied(), critical_at, unverified_at, check })
    }

    /// Reports keys that have no effect in a check of this kind. A default without effect is not a fault, because it is
    /// for other checks.
    fn report_misfits(&self, kind: CheckKind) {
        let misfit = |name: &str, fits: &[CheckKind], at: At<'_>| {
            let fitting = CheckKind::words(fits, "and");
            at.error(format!("`{name}` belongs to {fitting} checks, and this is {}", kind.with_article()));
        };
        for own in self.plain.own().iter().filter(|own| !own.fits.contains(&kind)) {
            misfit(own.name, own.fits, own.at);
        }
        if let Some(at) = self.tls_at.filter(|_| !OF_TLS.contains(&kind)) {
            misfit("tls", OF_TLS, at);
        }
    }

    fn report_contradictions_of_http(&self) {
        let PlainKeys { method, body_limit, status, drain_status, .. } = &self.plain;
        if let (Some(body), Some(method)) = (self.body(), method.set())
            && method.value == "HEAD"
        {
            let message = "a response to HEAD has no body to search".to_owned();
            contradiction(("body", body), ("method", Some(method)), message);
        }
        if let Some(body) = self.body()
            && let BodyRequirement { expected: Expected::Text(text), without: false } = &body.value
            && let Some(limit) = body_limit.or_likely(BODY_LIMIT, self.faulty)
            && text.len() > limit
        {
            let message = format!(
                "the text of `body` has {} bytes, and `body_limit` lets {limit} be read: it would never be found",
                text.len()
            );
            contradiction(("body", body), ("body_limit", body_limit.set()), message);
        }
        if let Some(drain) = drain_status.set()
            && let Some(accepted) = status.or_likely(HttpProbe::get(0, "/").status, self.faulty)
            && accepted
                .into_iter()
                .flatten()
                .all(|code| drain.value.iter().any(|codes| codes.contains(&code)))
        {
            let message =
                "every accepted `status` is in `drain_status`, which goes first: nobody would be healthy";
            contradiction(("drain_status", drain), ("status", status.set()), message.to_owned());
        }
    }

    /// Bytes are written as text or in hexadecimal. A key of the check itself replaces a default in the other form.
    fn settle_talk(&mut self) {
        let PlainKeys { send, send_hex, expect, expect_hex, .. } = &mut self.plain;
        settle(("send", send), ("send_hex", send_hex));
        settle(("expect", expect), ("expect_hex", expect_hex));
    }

    fn report_contradictions_of_grpc(&self) {
        if let Some(headers) = self.plain.headers.set().filter(|headers| !headers.inherited)
            && let Some(name) = headers.value.keys().find(|name| request::is_of_call(name))
        {
            headers.at.error(format!("the probe itself decides about the header `{name}` of a call"));
        }
        if let Some(headers) = self.plain.headers.set().filter(|headers| !headers.inherited)
            && let Some(name) = headers.value.iter().find_map(|(name, value)| {
                (name.ends_with("-bin") && !request::is_base64(value)).then_some(name)
            })
        {
            headers.at.error_with_hint(
                format!(
                    "the value of `{name}` is not base64, as that of metadata whose name ends in -bin must be"
                ),
                "write the bytes in base64, as `base64 -w0` prints them".to_owned(),
            );
        }
    }

    fn report_contradictions_of_tls(&self) {
        // An inherited file is for the checks that verify.
        if let (Some(verify), Some(ca_file)) = (self.tls.verify.set(), self.tls.ca_file.set())
            && !verify.value
            && (!ca_file.inherited || verify.inherited)
        {
            let message = "`ca_file` says whom to trust, but `verify = false` trusts everyone";
            contradiction(("ca_file", ca_file), ("verify", Some(verify)), message.to_owned());
        }
        if let (Some(key), CheckKey::Unset) = (self.tls.client_key.set(), &self.tls.client_certificate) {
            key.at.error("`client_key` is the key of a `client_certificate`, which is missing");
        }
    }

    /// The requirement for the body. A default has no effect if the check requests no body.
    fn body(&self) -> Option<&Located<'s, BodyRequirement>> {
        let own_head = self.plain.method.set().is_some_and(|key| key.value == "HEAD" && !key.inherited);
        self.plain.body.set().filter(|body| !(body.inherited && own_head))
    }

    /// The location of `verify = false`.
    fn unverified(&self) -> Option<At<'s>> {
        self.tls.verify.set().filter(|verify| !verify.value).map(|verify| verify.at)
    }

    /// Whether the check uses TLS. A default for `tls` is for checks that always use TLS; a gRPC check uses it only if
    /// it has a table `tls` itself.
    fn has_tls(&self, kind: CheckKind) -> bool {
        match kind {
            CheckKind::Https | CheckKind::Tls => true,
            CheckKind::Grpc => self.tls_at.is_some(),
            CheckKind::Http | CheckKind::Tcp | CheckKind::Exec => false,
        }
    }

    /// The probe of a check of this kind; `None` if a key is missing, which is reported.
    fn probe(&self, kind: CheckKind, at: At<'s>, hosts: Hosts<'_>) -> Option<Probe> {
        let plain = &self.plain;
        if kind == CheckKind::Exec {
            let Some(program) = plain.program.value() else {
                at.error_with_hint(
                    "an exec check needs a `program`",
                    "for example \"exec:/usr/local/bin/check\"".to_owned(),
                );
                return None;
            };
            let arguments = plain.arguments.value().unwrap_or_default();
            return Some(Probe::Exec(ExecProbe { program, arguments, port: plain.port.value() }));
        }
        let Some(port) = plain.port.value().or(kind.default_port()) else {
            at.error(format!("{} needs a `port`", kind.with_article()));
            return None;
        };
        let tls = if self.has_tls(kind) { Some(self.tls_settings(kind, at, hosts)?) } else { None };
        let talk = || Talk {
            send: plain.send.value().map(|text| text.as_bytes().to_vec()).or(plain.send_hex.value()),
            expect: plain.expect.value().or(plain.expect_hex.value().map(Expected::Text)),
        };
        let proxy = plain.proxy.value();
        Some(match (kind, tls) {
            (CheckKind::Tcp, _) => Probe::Tcp(TcpProbe { port, talk: talk(), proxy }),
            (CheckKind::Tls, Some(tls)) => Probe::Tls(TlsProbe { port, tls, talk: talk(), proxy }),
            (CheckKind::Grpc, tls) => Probe::Grpc(GrpcProbe {
                port,
                tls,
                host: plain.host.value().map(request::sent),
                service: plain.service.value().unwrap_or_default().to_owned(),
                headers: self.metadata(),
                proxy,
            }),
            (_, tls) => Probe::Http(self.http(port, tls)),
        })
    }

    fn http(&self, port: u16, tls: Option<TlsSettings>) -> HttpProbe {
        let plain = &self.plain;
        let built_in = HttpProbe::get(port, plain.path.value().unwrap_or("/"));
        HttpProbe {
            tls,
            version: plain.version.value().unwrap_or_default(),
            method: plain.method.value().map_or(built_in.method, str::to_owned),
            host: plain.host.value().map(request::sent),
            headers: plain.headers.value().into_iter().flatten().collect(),
            status: plain.status.value().unwrap_or(built_in.status),
            drain_status: plain.drain_status.value().unwrap_or_default(),
            body: self.body().map(|body| body.value.expected.clone()),
            body_without: self.body().is_some_and(|body| body.value.without),
            body_limit: plain.body_limit.value().unwrap_or(BODY_LIMIT),
            weight_header: plain.weight_header.value(),
            proxy: plain.proxy.value(),
            ..built_in
        }
    }

    /// The headers of a call. Defaults for headers that the call itself sets are left out: they are for checks of
    /// another kind.
    fn metadata(&self) -> Vec<(String, String)> {
        let headers = self.plain.headers.value().into_iter().flatten();
        headers.filter(|(name, _)| !request::is_of_call(name)).collect()
    }

    fn tls_settings(&self, kind: CheckKind, at: At<'s>, hosts: Hosts<'_>) -> Option<TlsSettings> {
        let insecure = self.unverified().is_some();
        // A tls check sends no host, so a default has no effect.
        let host = self.plain.host.value().filter(|_| kind != CheckKind::Tls);
        let name = self.tls.name.value().or_else(|| Some(name_in(host?)));
        match name {
            None if !insecure && !matches!(hosts, Hosts::All) => {
                let means = if kind == CheckKind::Tls {
                    "write \"tls://NAME:PORT\", or set"
                } else {
                    "set `host` or"
                };
                let lacking = match hosts {
                    Hosts::Some { without } => format!(": backend `{without}` has no `host` of its own"),
                    Hosts::None | Hosts::All => String::new(),
                };
                at.error_with_hint(
                    format!("{} must know which name the certificate has to have{lacking}", kind.with_article()),
                    format!(
                        "{means} `tls.name`, or a `host` for each backend, or `tls.verify = false` to accept any \
                         certificate"
                    ),
                );
                return None;
            }
            Some(name) if !certificate::can_be_certified(name) => {
                at.error(certificate::no_name(name));
                return None;
            }
            _ => {}
        }
        Some(TlsSettings {
            name: name.map(request::sent),
            insecure,
            ca_file: self.tls.ca_file.value().filter(|_| !insecure),
            min_days_left: self.tls.min_days_left.value().filter(|&days| days > 0),
            client: self.tls.client().ok()?,
        })
    }
}

/// Reports two keys with the same meaning. An inherited one is dropped instead.
fn settle<'s, A: Clone, B: Clone>(
    (name, one): (&str, &mut CheckKey<'s, A>),
    (other_name, other): (&str, &mut CheckKey<'s, B>),
) {
    let (Some(set), Some(other_set)) = (one.set(), other.set()) else { return };
    match (set.inherited, other_set.inherited) {
        (true, false) => *one = CheckKey::Unset,
        (false, true) => *other = CheckKey::Unset,
        _ => {
            let message = format!("a check has `{name}` or `{other_name}`, not both");
            contradiction((other_name, other_set), (name, Some(set)), message);
        }
    }
}

fn is_true<'k, 's>(key: &'k CheckKey<'s, bool>) -> Option<&'k Located<'s, bool>> {
    key.set().filter(|key| key.value)
}
