//! `steerd init`: writes a first configuration and its zone, and says how to go on.
//!
//! The arguments are here, and the order of the work; the texts of the two files are in `files.rs`, those on the
//! terminal in `next.rs`. Nothing is written unless the configuration is valid.

mod files;
mod next;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::cli::{DEFAULT_CONFIG, complain, print};
use crate::config::{self, fault::ConfigFaults, to_ascii};
use crate::name::Name;
use crate::printable::printable;

/// The file of the configuration; the zone's is named after the zone.
const CONFIG_FILE: &str = "steerd.toml";
/// The port of a backend without one.
const HTTP: u16 = 80;

/// The addresses without arguments, from the ranges for documents (RFC 5737).
const EXAMPLE_SERVERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53))];
const EXAMPLE_BACKENDS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11)), 8080),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 12)), 8080),
];

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Directory for steerd.toml and the zone file; it is created if it is missing
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// The name that clients look up
    #[arg(long, value_name = "NAME", default_value = "www.lb.example.com", value_parser = host_name)]
    name: Name,
    /// The zone that is delegated to steerd; defaults to the name without its first label
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    zone: Option<Name>,
    /// Address of a backend, with a port unless it is 80, such as 192.0.2.11:8080; repeat it for each; defaults to two examples
    #[arg(long = "backend", value_name = "ADDRESS[:PORT]", value_parser = parse_backend)]
    backends: Vec<SocketAddr>,
    /// The health check, such as http://:8080/healthz; defaults to a TCP connection to the port of the backend
    #[arg(long, value_name = "URL")]
    check: Option<String>,
    /// Public address of a machine that runs steerd, for the delegation; repeat it for each; defaults to two examples
    #[arg(long = "server", value_name = "ADDRESS")]
    servers: Vec<IpAddr>,
    /// Address for DNS; 0.0.0.0:53 is for all other machines, but needs a privilege; repeat it for each
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5300")]
    listen: Vec<SocketAddr>,
    /// Directory for health and overrides, which then survive a restart
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

impl Init {
    /// The zone, and the file for it.
    fn zone(&self) -> Name {
        let parent = || self.name.parent().filter(|parent| parent.labels().count() > 1);
        self.zone.clone().or_else(parent).unwrap_or_else(|| self.name.clone())
    }

    fn servers(&self) -> &[IpAddr] {
        if self.servers.is_empty() { &EXAMPLE_SERVERS } else { &self.servers }
    }

    fn backends(&self) -> &[SocketAddr] {
        if self.backends.is_empty() { &EXAMPLE_BACKENDS } else { &self.backends }
    }

    fn zone_file(&self) -> String {
        format!("{}.zone", self.zone().to_plain())
    }
}

/// Why no configuration was written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    #[error("{} exists; --force replaces it, or name another directory", shown(.0))]
    Exists(PathBuf),
    #[error("cannot write {}: {source}", shown(path))]
    Write { path: PathBuf, source: io::Error },
    #[error("these arguments make no valid configuration: {}", reasons(.0))]
    Arguments(ConfigFaults),
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// The messages of faults, without their places: the file with them is not kept.
fn reasons(faults: &ConfigFaults) -> String {
    let reason = |message: &str, hint: Option<&str>| {
        hint.map_or_else(
            || printable(message).into_owned(),
            |hint| printable(&format!("{message} ({hint})")).into_owned(),
        )
    };
    faults.errors().map(|fault| reason(&fault.message, fault.hint.as_deref())).collect::<Vec<_>>().join("; ")
}

pub(super) fn run(init: &Init) -> ExitCode {
    match write(init) {
        Ok(path) => {
            if let Some(warning) = next::warning(init) {
                complain(&format!("warning: {warning}"));
            }
            print(&next::steps(init, &path));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes both files, and returns the path of the configuration.
fn write(init: &Init) -> Result<PathBuf, InitError> {
    let files = [(init.zone_file(), files::zone(init)), (CONFIG_FILE.to_owned(), files::configuration(init))];
    let path = init.directory.join(CONFIG_FILE);
    let in_place = |name: &str| init.directory.join(name);
    if !init.force {
        for (name, _) in &files {
            // A link that leads nowhere is in the way too.
            if in_place(name).symlink_metadata().is_ok() {
                return Err(InitError::Exists(in_place(name)));
            }
        }
    }
    let missing: Vec<&Path> = init.directory.ancestors().take_while(|path| is_missing(path)).collect();
    fs::create_dir_all(&init.directory)
        .map_err(|source| InitError::Write { path: init.directory.clone(), source })?;
    if let Err(error) = try_out(&init.directory, &files) {
        for directory in missing {
            let _ = fs::remove_dir(directory);
        }
        return Err(error);
    }
    if for_service(&path) {
        for directory in missing {
            let opened = fs::set_permissions(directory, PermissionsExt::from_mode(0o755));
            opened.map_err(|source| InitError::Write { path: directory.to_owned(), source })?;
        }
    }
    for (name, text) in &files {
        write_file(&in_place(name), text, init.force, for_service(&path))
            .map_err(|source| InitError::Write { path: in_place(name), source })?;
    }
    Ok(path)
}

fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && !path.exists()
}

/// Whether the configuration is that of the service, which another user reads than the one who writes it.
fn for_service(path: &Path) -> bool {
    path == Path::new(DEFAULT_CONFIG)
}

/// Writes a file. A new one can be read by all users if `for_all`, whatever the umask is; one that exists keeps its mode.
fn write_file(path: &Path, text: &str, replace: bool, for_all: bool) -> io::Result<()> {
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    options.write(true);
    let options = if replace { options.create(true).truncate(true) } else { options.create_new(true) };
    let mut file = options.open(path)?;
    if is_new && for_all {
        file.set_permissions(PermissionsExt::from_mode(0o644))?;
    }
    file.write_all(text.as_bytes())
}

/// Loads the configuration from a directory that is removed again, so that nothing is written if it has a fault.
fn try_out(directory: &Path, files: &[(String, String)]) -> Result<(), InitError> {
    let aside = directory.join(format!(".steerd-init-{}", std::process::id()));
    let failed = |path: PathBuf| move |source| InitError::Write { path, source };
    fs::create_dir(&aside).map_err(failed(aside.clone()))?;
    let written = files.iter().try_for_each(|(name, text)| {
        let path = aside.join(name);
        fs::write(&path, text).map_err(failed(path))
    });
    let tried =
        written.and_then(|()| config::load(&aside.join(CONFIG_FILE)).map(drop).map_err(InitError::Arguments));
    let removed = fs::remove_dir_all(&aside).map_err(failed(aside));
    tried.and(removed)
}

/// A name of letters, digits, hyphens and underscores, which needs no quoting anywhere.
fn host_name(text: &str) -> Result<Name, String> {
    let ascii = to_ascii(text).ok_or("the name has characters that no name may have")?;
    let name = Name::parse(&ascii).map_err(|error| error.to_string())?;
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    if name.labels().count() == 0 || !name.labels().all(|label| label.iter().all(is_plain)) {
        return Err("expected letters, digits and hyphens between dots, such as www.lb.example.com".into());
    }
    Ok(name)
}

fn parse_backend(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let with_default = || bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, HTTP));
    let address = text.parse().ok().or_else(with_default);
    address.filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
        "expected an IP address, with a port unless it is 80, such as 192.0.2.11:8080 or [2001:db8::11]:8080".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_backends_are_read() {
        for good in ["www.lb.example.com", "WWW.example.com.", "_x.münchen.example"] {
            host_name(good).unwrap();
        }
        for bad in ["", ".", "a b.example", "*.example.com", "a\"b.example", "a..b", "a\\.b.example", "../x"]
        {
            assert!(host_name(bad).is_err(), "{bad}");
        }
        for (text, address) in [
            ("192.0.2.11", "192.0.2.11:80"),
            ("192.0.2.11:8080", "192.0.2.11:8080"),
            ("2001:db8::11", "[2001:db8::11]:80"),
            ("[2001:db8::11]", "[2001:db8::11]:80"),
            ("[2001:db8::11]:8080", "[2001:db8::11]:8080"),
        ] {
            assert_eq!(parse_backend(text), Ok(address.parse().unwrap()), "{text}");
        }
        for bad in ["gw1", "192.0.2.11:0", "192.0.2.300", "gw1:8080", ""] {
            assert!(parse_backend(bad).is_err(), "{bad}");
        }
    }
}
