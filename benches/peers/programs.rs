//! The programs that the bench starts: finds them, or installs Debian's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// A program, or a file that a program needs, and the package that contains it.
pub(crate) type Need = (&'static str, &'static str);

/// Debian's packages ask this whether a service may start; exit code 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Finds the programs; installs what is missing if this is Debian and the user is root. Returns a message for the user
/// if it cannot.
pub(crate) fn find_or_install(needs: &[Need]) -> Result<(), String> {
    let missing = || -> Vec<Need> { needs.iter().copied().filter(|(name, _)| !is_there(name)).collect() };
    let mut packages: Vec<&str> = missing().into_iter().map(|(_, package)| package).collect();
    packages.dedup();
    if !packages.is_empty() && is_there("apt-get") && is_root() {
        eprintln!("installing {}", packages.join(" "));
        install(&packages)?;
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    Err(format!(
        "these programs are missing: {}\non Debian and Ubuntu, as root: apt-get install --no-install-recommends {}",
        names.join(", "),
        packages.join(" ")
    ))
}

fn is_there(name: &str) -> bool {
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    places.split(':').any(|place| Path::new(place).join(name).exists())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs packages without starting their services.
fn install(packages: &[&str]) -> Result<(), String> {
    let own_policy = !Path::new(POLICY).exists();
    if own_policy {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("{POLICY}: {error}"))?;
    }
    let apt = |arguments: &[&str]| {
        let status =
            Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").status();
        status.is_ok_and(|status| status.success())
    };
    let install = || apt(&[&["install", "-y", "-q", "--no-install-recommends"], packages].concat());
    let installed = install() || apt(&["update", "-q"]) && install();
    if own_policy {
        let _ = fs::remove_file(POLICY);
    }
    if installed { Ok(()) } else { Err(format!("apt-get cannot install {}", packages.join(" "))) }
}
