//! The user of the service, and how to protect a secret so that it alone can read it.

use std::path::Path;

use crate::file::{self, Content};

/// The user that the packages create for the service.
const SERVICE: &str = "steerd";
/// Maximum size of a database of users or groups, bytes.
const ACCOUNTS: u64 = 16 << 20;

/// The commands that protect a file with a secret. If it belongs to root, a service of another user reads it as a member
/// of its group, so removing the rights of the group would stop the service.
pub(crate) fn protection(content: &Content, path: &Path) -> String {
    let shown = path.display().to_string();
    if !content.is_owned_by_root() {
        return format!("chmod 600 {shown}");
    }
    let [users, groups] = ["/etc/passwd", "/etc/group"].map(|path| {
        let read = file::read(Path::new(path), ACCOUNTS).ok();
        read.and_then(|read| String::from_utf8(read.bytes).ok()).unwrap_or_default()
    });
    for_root(&shown, group_of(SERVICE, &users, &groups).as_deref())
}

/// The commands for a file of root, with the group of the service if it is known.
fn for_root(path: &str, group: Option<&str>) -> String {
    match group {
        Some(group) => format!("chgrp {group} {path} && chmod 640 {path}"),
        None => format!(
            "if steerd runs as root: chmod 600 {path}; if it runs as another user, with its GROUP: \
             chgrp GROUP {path} && chmod 640 {path}"
        ),
    }
}

/// The number of a group of this machine, from group(5).
pub(super) fn group_id(name: &str) -> Option<u32> {
    let groups = file::read(Path::new("/etc/group"), ACCOUNTS).ok()?;
    let groups = String::from_utf8(groups.bytes).ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

/// The name of the main group of a user, from the text of passwd(5) and group(5).
fn group_of(user: &str, users: &str, groups: &str) -> Option<String> {
    let line = users.lines().find(|line| line.split(':').next() == Some(user))?;
    let id = line.split(':').nth(3)?;
    let group = groups.lines().find(|line| line.split(':').nth(2) == Some(id))?;
    group.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_root_stays_readable_for_the_service() {
        let users =
            "root:x:0:0::/root:/bin/sh\nsteerd2:x:7:0::/:/bin/sh\nsteerd:x:998:997::/:/sbin/nologin\n";
        let groups = "root:x:0:\ndns:x:997:\nsteerd:x:996:\n";
        assert_eq!(group_of("steerd", users, groups).as_deref(), Some("dns"));
        assert_eq!(group_of("none", users, groups), None);
        assert_eq!((group_id("root"), group_id("no such group")), (Some(0), None));
        assert_eq!(group_of("steerd", users, ""), None);
        assert_eq!(for_root("t", Some("dns")), "chgrp dns t && chmod 640 t");
        let both = for_root("t", None);
        assert!(both.contains("chmod 600 t;") && both.contains("chgrp GROUP t && chmod 640 t"), "{both}");
    }
}
