//! The hosts of the guides: their addresses, web servers on them, and an `ssh` that controls these.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::program;

/// The port of all web servers.
pub(crate) const PORT: u16 = 8080;

/// Adds addresses to loopback.
pub(crate) fn add_addresses<'a>(addresses: impl IntoIterator<Item = &'a str>) {
    for address in addresses {
        let added =
            Command::new(program("ip")).args(["address", "add", address, "dev", "lo"]).status().unwrap();
        assert!(added.success(), "{address}");
    }
}

/// Writes the configuration of a host's nginx, with a health check of its own.
pub(crate) fn write_web_server(directory: &Path, host: &str, address: &str, locations: &str) {
    let here = directory.join(host);
    std::fs::create_dir(&here).unwrap();
    let path = here.display();
    let mut config = format!(
        "daemon on; user root; pid {path}/pid; error_log {path}/error.log warn;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log off; "
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        write!(config, "{kind}_temp_path {path}/{kind}; ").unwrap();
    }
    write!(
        config,
        "server {{ listen {address}:{PORT}; location = /healthz {{ return 200 ok; }} {locations} }} }}"
    )
    .unwrap();
    std::fs::write(here.join("nginx.conf"), config).unwrap();
}

/// Writes the programs `sudo` and `ssh`: `ssh HOST sudo systemctl ACTION SERVICE` controls the nginx of the host.
pub(crate) fn write_ssh(directory: &Path) {
    let nginx = program("nginx");
    let script = format!(
        "#!/bin/bash -e\n\
         host=$1 action=$4; cd {}/$host\n\
         nginx() {{ {} -p . -c nginx.conf -e error.log \"$@\"; }}\n\
         case $action in stop|restart) nginx -s quit; while [ -e pid ]; do sleep 0.05; done ;; esac\n\
         case $action in start|restart) nginx ;; esac\n",
        directory.display(),
        nginx.display()
    );
    // Everything in the namespace runs as root already.
    for (name, script) in [("ssh", script.as_str()), ("sudo", "#!/bin/sh\nexec \"$@\"\n")] {
        let path = directory.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}
