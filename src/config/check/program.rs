//! Values of the keys of an exec check.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::config::value::TomlValue;
use crate::file;
use crate::interpreter;

const MAX_ARGUMENTS: usize = 64;
/// The longest argument, bytes.
const MAX_ARGUMENT: usize = 4096;

pub(super) fn program(value: TomlValue<'_>) -> Option<PathBuf> {
    checked(value, value.string("the path of a program")?, "of the check")
}

/// A file that can be executed. The path is made absolute: a path without a slash would be searched for in
/// `PATH`, and a relative one depends on the working directory.
pub(in crate::config) fn checked(value: TomlValue<'_>, text: &str, owner: &str) -> Option<PathBuf> {
    let refuse = |reason: &str| {
        let hint =
            "arguments belong in `arguments`: { type = \"exec\", program = \"..\", arguments = [\"..\"] }";
        let hint = text.contains(' ').then(|| hint.to_owned());
        // The text after a space may be arguments, which may contain secrets.
        let named = text.split_once(' ').map_or(text.into(), |(named, _)| format!("{named} ..."));
        value.at.error_with_hint(format!("the program `{named}` {owner} {reason}"), hint);
        None
    };
    if text.is_empty() {
        value.must_be("the path of a program; this is empty", None);
        return None;
    }
    let path = value.at.source().resolve(text);
    let path = match std::path::absolute(&path) {
        Ok(path) => path,
        Err(error) => return refuse(&format!("has no absolute path: {error}")),
    };
    match value.at.findings().look_at(&path).and_then(|()| std::fs::metadata(&path)) {
        Err(error) => refuse(&format!("cannot be run: {error}")),
        Ok(found) if found.is_dir() => refuse("cannot be run: it is a directory"),
        Ok(found) if !found.is_file() => {
            let kind = file::irregular(found.file_type()).unwrap_or("thing of another kind");
            refuse(&format!("cannot be run: it is a {kind}"))
        }
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            refuse("cannot be run: it is not executable (see chmod)")
        }
        Ok(_) => match interpreter::fault(&path, |path| value.at.findings().look_at(path)) {
            Some(fault) if fault.certain => refuse(&format!("cannot be run: {}", fault.reason)),
            Some(fault) => {
                let hint = "set PATH of the process that serves, or name the interpreter by its path";
                let message = format!("the program `{text}` {owner}: {}", fault.reason);
                value.at.warning(message, hint.to_owned());
                Some(path)
            }
            None => Some(path),
        },
    }
}

/// A list of arguments; it may be empty.
pub(super) fn arguments(value: TomlValue<'_>) -> Option<Vec<String>> {
    let values = value.list_or_none("a list of arguments, such as [\"--fast\"]")?;
    if values.len() > MAX_ARGUMENTS {
        value.must_be(
            format!("a list of at most {MAX_ARGUMENTS} arguments; these are {}", values.len()),
            None,
        );
        return None;
    }
    // Reports the faults of all elements, before the first fault makes the list wrong.
    let read: Vec<_> = values.into_iter().map(argument).collect();
    read.into_iter().collect()
}

pub(in crate::config) fn argument(value: TomlValue<'_>) -> Option<String> {
    let text = value.string("an argument")?;
    if text.len() > MAX_ARGUMENT || text.contains('\0') {
        value.must_be(format!("at most {MAX_ARGUMENT} bytes, none of them zero"), None);
        return None;
    }
    Some(text.to_owned())
}
