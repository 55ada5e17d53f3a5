//! Finds out why the kernel refuses to start an executable file: its format, or its interpreter.
//!
//! The kernel reports the same error for a missing program and for a missing interpreter. The file itself tells them
//! apart: a script names its interpreter in the first line, an ELF file names its dynamic loader. This module starts
//! no program.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::file;
use crate::printable::excerpt;

/// How much of a program is read, bytes: enough for the first line of a script and for the headers of an ELF file.
const BEGINNING: u64 = 4096;

/// An interpreter may be a script too. Linux follows at most this many.
const DEPTH: usize = 4;

/// The search path if the environment has no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why a program cannot be started.
#[derive(Debug, PartialEq, Eq)]
pub struct InterpreterFault {
    /// The end of a sentence about the program, and what to do.
    pub reason: String,
    /// False if it depends on the environment of this process.
    pub certain: bool,
}

impl InterpreterFault {
    fn certain(reason: String) -> Self {
        Self { reason, certain: true }
    }
}

/// Why the kernel cannot start the program, if a reason is found. Blocks. `look_at` is called before each access to a
/// path, and may deny it.
#[must_use]
pub fn fault(program: &Path, look_at: impl Fn(&Path) -> io::Result<()>) -> Option<InterpreterFault> {
    let mut program = program.to_owned();
    for _ in 0..DEPTH {
        look_at(&program).ok()?;
        let mut beginning = Vec::new();
        let file = file::open(&program).ok()?;
        let size = file.metadata().ok()?.len();
        file.take(BEGINNING).read_to_end(&mut beginning).ok()?;
        if let Some(fault) = format_fault(&beginning, size) {
            return Some(fault);
        }
        let interpreter = match of(&beginning) {
            Ok(interpreter) => interpreter?,
            Err(reason) => return Some(InterpreterFault::certain(reason)),
        };
        look_at(&interpreter.path).ok()?;
        let shown = excerpt(interpreter.path.as_os_str().as_encoded_bytes());
        match std::fs::metadata(&interpreter.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let kind = interpreter.kind;
                return Some(InterpreterFault::certain(format!(
                    "its {kind} {shown} does not exist; install it, or name another"
                )));
            }
            Err(error) => {
                return Some(InterpreterFault::certain(format!("its {} {shown}: {error}", interpreter.kind)));
            }
            Ok(found) if !is_executable(&found) => {
                return Some(InterpreterFault::certain(format!(
                    "its {} {shown} cannot be run",
                    interpreter.kind
                )));
            }
            Ok(_) => {}
        }
        if let Some(name) = interpreter.through_env()
            && !is_in_path(name)
        {
            let reason =
                format!("its interpreter {} is not in the PATH of this process", excerpt(name.as_bytes()));
            return Some(InterpreterFault { reason, certain: false });
        }
        program = interpreter.path;
    }
    None
}

/// Why the kernel does not recognise the format of a file that begins like this (`ENOEXEC`).
fn format_fault(beginning: &[u8], size: u64) -> Option<InterpreterFault> {
    const ELF: &[u8] = b"\x7fELF";
    if beginning.starts_with(ELF) {
        return elf_fault(beginning, size).map(|reason| InterpreterFault::certain(reason.to_owned()));
    }
    if beginning.starts_with(b"#!") || of(beginning).is_err() {
        return None;
    }
    let is_text = std::str::from_utf8(beginning).map_or_else(|error| error.error_len().is_none(), |_| true)
        && !beginning.contains(&0);
    let reason = if is_text {
        "it is a script whose first line does not name its interpreter; begin it with #!/bin/sh, or another one"
    } else {
        "it is neither a script nor a program of this system"
    };
    // Other formats may be registered with the kernel.
    Some(InterpreterFault { reason: reason.to_owned(), certain: !has_other_formats() })
}

/// Why a 64-bit ELF file cannot run: it is damaged, or built for another architecture.
fn elf_fault(file: &[u8], size: u64) -> Option<&'static str> {
    const BROKEN: &str = "it is a program file that is cut short or broken; copy or build it again";
    const BITS_64: u8 = 2;
    const PROGRAM_HEADER: u64 = 56;
    let &class = file.get(4)?;
    if class != BITS_64 {
        return None;
    }
    let short = |at: usize| Some(u16::from_ne_bytes(*file.get(at..)?.first_chunk()?));
    let (Some(kind), Some(machine), Some(header), Some(count)) =
        (short(16), short(18), short(0x36), short(0x38))
    else {
        return Some(BROKEN);
    };
    if own_machine().is_some_and(|own| own != machine) {
        return Some("it is a program for another kind of machine; build it for this one");
    }
    let start =
        file.get(0x20..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_ne_bytes(*bytes))?;
    let end = start.checked_add(PROGRAM_HEADER * u64::from(count));
    let is_sound = matches!(kind, 2 | 3) && u64::from(header) == PROGRAM_HEADER && count > 0;
    (!is_sound || end.is_none_or(|end| end > size)).then_some(BROKEN)
}

/// The architecture of this process, as in `e_machine` of its ELF header.
fn own_machine() -> Option<u16> {
    let mut own = [0; 20];
    std::fs::File::open("/proc/self/exe").ok()?.read_exact(&mut own).ok()?;
    own.last_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// Whether other formats are registered with the kernel (`binfmt_misc`).
fn has_other_formats() -> bool {
    const FORMATS: &str = "/proc/sys/fs/binfmt_misc";
    let formats = std::fs::read_dir(FORMATS).into_iter().flatten().flatten();
    formats.map(|entry| entry.file_name()).any(|name| name != "register" && name != "status")
}

/// The program that the kernel starts in order to run another.
struct Interpreter {
    kind: &'static str,
    path: PathBuf,
    /// The rest of the first line, which the kernel passes as one argument.
    argument: String,
}

impl Interpreter {
    /// The program that `env` searches for.
    fn through_env(&self) -> Option<&str> {
        self.path.file_name().filter(|name| *name == "env")?;
        let argument = self.argument.as_str();
        let split = argument.strip_prefix("-S").or_else(|| argument.strip_prefix("--split-string="));
        let name = match split {
            Some(words) => words.split_whitespace().next()?,
            None => argument,
        };
        (!name.is_empty() && !name.starts_with('-') && !name.contains(['=', '/'])).then_some(name)
    }
}

/// The interpreter of a program that begins with these bytes; an error if it cannot have one.
fn of(beginning: &[u8]) -> Result<Option<Interpreter>, String> {
    const CONVERT: &str = "convert it, for example with dos2unix";
    let Some(line) = beginning.strip_prefix(b"#!") else {
        return match beginning {
            [] => Err("it is empty".to_owned()),
            [0xef, 0xbb, 0xbf, b'#', b'!', ..] => {
                Err(format!("a byte-order mark stands before its first line; {CONVERT}"))
            }
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(format!("it is written in UTF-16; {CONVERT}")),
            _ => Ok(loader(beginning)),
        };
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.contains(&b'\r') {
        return Err(format!(
            "its lines end with CRLF, so the system looks for an interpreter named {}; {CONVERT}",
            excerpt(line.trim_ascii_start())
        ));
    }
    let line = String::from_utf8_lossy(line);
    let line = line.trim_matches([' ', '\t']);
    let (path, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if path.is_empty() {
        return Err("its first line names no interpreter after #!".to_owned());
    }
    if !path.starts_with('/') {
        return Err(format!("its interpreter {} has no absolute path", excerpt(path.as_bytes())));
    }
    let argument = argument.trim_start_matches([' ', '\t']).to_owned();
    Ok(Some(Interpreter { kind: "interpreter", path: path.into(), argument }))
}

/// The dynamic loader of a 64-bit ELF file in native byte order: the program header `PT_INTERP`.
fn loader(file: &[u8]) -> Option<Interpreter> {
    const INTERPRETER: u32 = 3;
    if !file.starts_with(b"\x7fELF\x02") {
        return None;
    }
    let short = |at: usize| Some(u16::from_ne_bytes(*file.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_ne_bytes(*file.get(at..)?.first_chunk()?));
    let long = |at: usize| usize::try_from(u64::from_ne_bytes(*file.get(at..)?.first_chunk()?)).ok();
    let (first, size, count) = (long(0x20)?, usize::from(short(0x36)?), usize::from(short(0x38)?));
    let header = (0..count)
        .map_while(|number| first.checked_add(number * size))
        .find(|header| word(*header) == Some(INTERPRETER))?;
    let start = long(header.checked_add(8)?)?;
    let end = start.checked_add(long(header.checked_add(32)?)?)?;
    let path = file.get(start..end)?.split(|byte| *byte == 0).next()?;
    let path = PathBuf::from(std::str::from_utf8(path).ok()?);
    Some(Interpreter { kind: "loader", path, argument: String::new() })
}

fn is_executable(found: &Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}

fn is_in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .any(|directory| std::fs::metadata(directory.join(name)).is_ok_and(|found| is_executable(&found)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of_another_machine() -> Vec<u8> {
        let mut elf = std::fs::read("/bin/sh").unwrap();
        elf[18] ^= 0xff;
        elf
    }

    #[test]
    fn what_keeps_a_program_from_starting_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let not_executable = directory.path().join("text");
        std::fs::write(&not_executable, "text").unwrap();
        let elf = {
            let mut elf = std::fs::read("/bin/sh").unwrap();
            let at = memchr::memmem::find(&elf, b"/lib").unwrap();
            elf[at..at + 4].copy_from_slice(b"/non");
            elf
        };
        for (content, certain, reason) in [
            (
                b"#!/bin/sh\r\necho\r\n".to_vec(),
                true,
                "end with CRLF, so the system looks for an interpreter named \"/bin/sh\\r\"",
            ),
            (b"#! /usr/bin/env sh\r\n".to_vec(), true, "end with CRLF"),
            (
                b"#!/nowhere/python3 -u\n".to_vec(),
                true,
                "its interpreter \"/nowhere/python3\" does not exist",
            ),
            (
                b"#!/usr/bin/env nowhere-to-be-found\n".to_vec(),
                false,
                "\"nowhere-to-be-found\" is not in the PATH",
            ),
            (b"#!/usr/bin/env -S nowhere-to-be-found -u\n".to_vec(), false, "not in the PATH"),
            (b"#!\n".to_vec(), true, "names no interpreter"),
            (b"#!sh\n".to_vec(), true, "no absolute path"),
            (b"\xef\xbb\xbf#!/bin/sh\n".to_vec(), true, "byte-order mark"),
            (b"\xff\xfe#\0!\0".to_vec(), true, "UTF-16"),
            (b"".to_vec(), true, "it is empty"),
            (format!("#!{}\n", not_executable.display()).into_bytes(), true, "cannot be run"),
            (format!("#!{}\n", directory.path().display()).into_bytes(), true, "cannot be run"),
            (elf, true, "its loader \"/non"),
            (b"echo fine\n".to_vec(), !has_other_formats(), "does not name its interpreter"),
            ("# grüße\necho\n".into(), !has_other_formats(), "does not name its interpreter"),
            (vec![0x4d, 0x5a, 0, 0xff], !has_other_formats(), "neither a script nor a program"),
            (b"\x7fELF\x02\x01\x01\0".to_vec(), true, "cut short or broken"),
            (std::fs::read("/bin/sh").unwrap()[..100].to_vec(), true, "cut short or broken"),
            (of_another_machine(), true, "another kind of machine"),
        ] {
            std::fs::write(&path, &content).unwrap();
            let fault = fault(&path, |_| Ok(())).unwrap();
            assert!(fault.reason.contains(reason) && fault.certain == certain, "{reason}: {fault:?}");
        }
        for sound in
            ["#!/bin/sh\necho\r\n", "#!/usr/bin/env sh\n", "#!/usr/bin/env -S sh -e\n", "#!  /bin/sh"]
        {
            std::fs::write(&path, sound).unwrap();
            assert_eq!(fault(&path, |_| Ok(())), None, "{sound:?}");
        }
        assert_eq!(fault(Path::new("/bin/sh"), |_| Ok(())), None);
    }

    proptest! {
        #[test]
        fn any_file_is_looked_at(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = of(&bytes);
            let _ = loader(&[b"\x7fELF\x02", bytes.as_slice()].concat());
        }
    }
}
