//! `[admin]`: where the admin server listens, and who may use it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::access::{self, Access};
use crate::config::admin_listen::{self, AdminListen, SocketRights};
use crate::config::client::ClientSettings;
use crate::config::document::{Document, ONLY_SERVERS, Sections};
use crate::config::fault::ConfigFaults;
use crate::config::load;
use crate::config::server::{Listen, listeners};
use crate::config::source::{Findings, SourceFile};
use crate::config::value::{Located, NamedValue, TomlValue};
use crate::config::{admin_tls, binding};
use crate::file::{self, FileKind};

/// `[admin]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens; without an address, there is no admin server.
    pub listen: Vec<AdminListen>,
    /// The rights of the files of its Unix sockets.
    pub socket: SocketRights,
    /// The clients that may use it.
    pub access: Access,
}

/// Reads `[admin]`, which may be missing.
pub(super) fn read(entry: Option<NamedValue<'_>>, dns: &Listen<'_>) -> AdminSettings {
    let mut settings = AdminSettings::default();
    let Some(mut table) = entry.and_then(|entry| entry.value.table(entry.at)) else { return settings };
    let listen = table.read("listen", admin_listen::places).map(|read| read.value).unwrap_or_default();
    let has_tokens = table.get("token_file").is_some() || table.get("tokens").is_some();
    settings.access.tokens = access::tokens(&mut table);
    settings.access.public_reads =
        table.read("public_reads", TomlValue::boolean).is_some_and(|read| read.value);
    settings.access.tls = table.get("tls").and_then(admin_tls::read);
    if let Some(socket) = table.get("socket") {
        settings.socket = admin_listen::socket_rights(socket);
        if listen.iter().all(|place| place.value.tcp().is_some()) {
            socket.at.error("`socket` is about a Unix socket, and `listen` names none (\"unix:PATH\")");
        }
    }
    table.close();
    let mut others: Vec<Located<'_, SocketAddr>> = Vec::new();
    for Located { value: place, at, .. } in &listen {
        let AdminListen::Tcp(address) = *place else { continue };
        let listen = Located { value: address, at: *at, inherited: false };
        check_address(&listen, has_tokens, dns);
        let other = others.iter().find_map(|other| Some((other, binding::conflict(address, other.value)?)));
        if let Some((other, reason)) = other {
            at.error_beside(
                format!("one server cannot listen on both: {reason}; leave one out"),
                other.at,
                "the other",
            );
        }
        others.push(listen);
    }
    settings.listen = listen.into_iter().map(|place| place.value).collect();
    settings
}

fn check_address(listen: &Located<'_, SocketAddr>, has_tokens: bool, dns: &Listen<'_>) {
    let Located { value: address, at, .. } = *listen;
    if !address.ip().is_loopback() && !has_tokens {
        at.error_with_hint(
            format!(
                "`{address}` can be reached from other machines, so `token_file` or [admin.tokens.NAME] is needed beside it"
            ),
            "write a token to a file, as with `openssl rand -hex 32`, and name the file; or use a loopback \
             address such as \"127.0.0.1:8053\""
                .to_owned(),
        );
    }
    let other = dns.iter().find_map(|other| Some((other, binding::conflict(address, other.value)?)));
    if let Some((other, reason)) = other {
        let by_default = if other.inherited { ", as without `listen` under [server]" } else { "" };
        let message = if other.value == address {
            format!("DNS is answered on `{address}`{by_default}; choose another port")
        } else {
            format!("DNS is answered on `{}`{by_default}, and {reason}; choose another port", other.value)
        };
        at.error_beside(message, other.at, "here");
    }
    binding::warn(listen);
}

/// The settings that a client of the admin server reads from a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminPlace {
    /// The first address of `listen`.
    pub listen: Option<AdminListen>,
    /// `token_file`; it has not been read.
    pub token_file: Option<PathBuf>,
    /// `certificate` of `tls`, if it is set; it has not been read.
    pub certificate: Option<PathBuf>,
    /// `[client]`.
    pub client: ClientSettings,
    /// `listen` of `[server]`; empty if it is not set.
    pub dns: Vec<SocketAddr>,
}

impl AdminPlace {
    /// Reads the settings even if the configuration has faults: the client may want to ask the running server about
    /// them.
    ///
    /// # Errors
    /// If the file cannot be read, or not in time.
    pub fn of(path: &Path) -> io::Result<Self> {
        let main = path.to_owned();
        let read = move |reading: &_| Ok(Self::read(&Findings::of(Arc::clone(reading)), &main));
        load::within(load::LOAD_TIME, path, &Arc::default(), read).unwrap_or_else(|faults| {
            let told = faults.errors().map(|fault| format!("{}: {}", fault.location, fault.message)).next();
            Err(io::Error::new(io::ErrorKind::TimedOut, told.unwrap_or_default()))
        })
    }

    /// The first mistake that may hide the settings, with its place; none if they are only missing.
    #[must_use]
    pub fn fault(path: &Path) -> Option<String> {
        let main = path.to_owned();
        let read = move |reading: &_| -> Result<(), ConfigFaults> {
            let findings = Findings::of(Arc::clone(reading));
            // An error here is that of the file as a whole, which `of` reports.
            let _ = Self::read(&findings, &main);
            Err(findings.into_faults())
        };
        let faults = load::within(load::LOAD_TIME, path, &Arc::default(), read).err()?;
        faults.errors().next().map(|fault| format!("{}: {}", fault.location, fault.message))
    }

    fn read(findings: &Findings, path: &Path) -> io::Result<Self> {
        let content = findings.read(path, FileKind::Configuration, file::CONFIGURATION)?;
        let source = match SourceFile::from_bytes(path, content.bytes, true) {
            Ok(source) => source,
            Err(fault) => {
                findings.push(*fault);
                return Ok(Self::default());
            }
        };
        let main = Document::parse(&source, findings);
        let included = main.included(findings);
        let included: Vec<_> = included.iter().map(|source| Document::parse(source, findings)).collect();
        let sections = Sections::collect(&main, &included, findings);
        if sections.name_only_servers() {
            source.at(findings, None).error(ONLY_SERVERS);
        }
        let Sections { server, admin, client, .. } = sections;
        let client = client.and_then(|entry| entry.value.table(entry.at));
        let client = client.map(|mut table| ClientSettings::from_table(&mut table)).unwrap_or_default();
        let dns = server.and_then(|entry| entry.value.table(entry.at));
        let dns = dns.and_then(|mut table| table.read("listen", listeners)).map(|read| read.value);
        let dns = dns.into_iter().flatten().map(|located| located.value).collect();
        let place = Self { client, dns, ..Self::default() };
        let Some(mut table) = admin.and_then(|entry| entry.value.table(entry.at)) else { return Ok(place) };
        let listen = table.read("listen", admin_listen::places);
        Ok(Self {
            listen: listen.and_then(|read| read.value.into_iter().next()).map(|first| first.value),
            token_file: table.read("token_file", TomlValue::path).map(|read| read.value),
            certificate: table.get("tls").and_then(admin_tls::certificate_path),
            ..place
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_server_is_found_in_a_configuration_full_of_faults() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let of = |text: &str| {
            std::fs::write(&path, text).unwrap();
            AdminPlace::of(&path).unwrap()
        };
        let place =
            of("[admin]\nlisten = \"127.0.0.1:9\"\ntoken_file = \"t\"\nodd = 1\n[server]\nworkers = 'x'\n\
             listen = [\"192.0.2.1:53\", 'y']\n");
        assert_eq!(place.dns, ["192.0.2.1:53".parse().unwrap()]);
        assert_eq!(place.listen, Some("127.0.0.1:9".parse().unwrap()));
        assert_eq!(place.token_file, Some(directory.path().join("t")));
        let tls = of("[admin]\nlisten = \"127.0.0.1:9\"\ntls = { certificate = \"c\", odd = 1 }\n");
        assert_eq!(tls.certificate, Some(directory.path().join("c")));
        assert_eq!(of("[admin]\nlisten = \"127.0.0.1:9\"\n[pools\n").listen, place.listen);
        let sockets = of("[admin]\nlisten = [\"unix:a.sock\", \"127.0.0.1:9\"]\n").listen;
        assert_eq!(sockets, Some(AdminListen::Unix(directory.path().join("a.sock"))));
        std::fs::write(directory.path().join("a.toml"), "[admin]\nlisten = \"127.0.0.1:9\"\n").unwrap();
        assert_eq!(of("include = [\"a.toml\"]\n").listen, place.listen);
        let place =
            of("[client]\nadmin = [\"http://192.0.2.1:8053\", \"odd\"]\ntoken_file = \"t\"\nodd = 1\n");
        let admin = vec!["http://192.0.2.1:8053".parse().unwrap()];
        let token_file = Some(directory.path().join("t"));
        assert_eq!(
            place,
            AdminPlace { client: ClientSettings { admin, token_file, ca_file: None }, ..Default::default() }
        );
        for nothing in ["", "[admin]\nlisten = 5\n", "admin = 5"] {
            assert_eq!(of(nothing), AdminPlace::default(), "{nothing}");
        }
        assert!(AdminPlace::of(&directory.path().join("none")).is_err());
    }

    #[test]
    fn a_mistake_that_hides_the_place_is_told_with_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        let fault = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            AdminPlace::fault(&path)
        };
        let place = |place: &str| format!("{}{place}", path.display());
        for (text, expected) in [
            (&b"[admin\nlisten = \"127.0.0.1:9\"\n"[..], ":1:"),
            (b"[server\n[admin]\nlisten =\n", ":1:"),
            (b"[admin]\nlisten = \"127.0.0.1\"\n", ":2:10: "),
            (b"[admin]\nlisten = \"\xff\"\n", ":2:11: "),
            (b"[client]\nadmin = [\"http://192.0.2.1:1\"]\n", ": this file names only servers ([client])"),
        ] {
            let told = fault(text).unwrap();
            assert!(told.starts_with(&place(expected)), "{told}");
        }
        for sound in [
            "",
            "[server]\n",
            "[admin]\n",
            "[client]\nadmin = [\"http://192.0.2.1:1\"]\n[zones.\"a.test\"]\nfile = \"z\"\n",
        ] {
            assert_eq!(fault(sound.as_bytes()), None, "{sound}");
        }
    }
}
