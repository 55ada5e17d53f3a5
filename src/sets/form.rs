//! The form of a set: lines of JSON. The first is the head; each further one is a text.
//!
//! The head has the SHA-256 of each text, and one of all of them with their paths. So a text that has changed is found
//! when the set is opened, and two sets are the same if that of all is.

use std::path::PathBuf;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{SetOccasion, belongs, kind_named};
use crate::file::{FileKind, ReadFile};

/// The name of the form.
const FORMAT: &str = "steerd-configuration";
/// The version that is written. Later ones are not read.
const VERSION: u32 = 1;

/// A set without its texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetHead {
    format: String,
    version: u32,
    /// Grows with each set.
    pub number: u64,
    /// When it was loaded first.
    pub at: Timestamp,
    /// The client that requested it.
    pub by: String,
    /// The SHA-256 of all its texts with their paths, in hexadecimal digits.
    pub sha256: String,
    /// The absolute path of the main file.
    pub main: String,
    /// The changes to the configuration before it.
    pub changes: String,
    /// Its files, the main file first.
    pub files: Vec<SetFile>,
}

/// A file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFile {
    /// The absolute path.
    pub path: String,
    /// [`FileKind::as_str`].
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
    /// Whether the set has its text. If not, a rollback reads the file from its place.
    pub kept: bool,
}

/// A text, as UTF-8 or as bytes.
#[derive(Serialize, Deserialize)]
struct StoredText {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl SetHead {
    pub(super) fn new(number: u64, files: &[ReadFile], occasion: SetOccasion) -> Self {
        let SetOccasion { main, at, by, changes } = occasion;
        let file = |file: &ReadFile| SetFile {
            path: file.path.to_string_lossy().into_owned(),
            kind: file.kind.as_str().into(),
            size: file.size,
            sha256: file.hash.map_or_else(String::new, |hash| HEXLOWER.encode(&hash)),
            // A path that is not UTF-8 has no form here.
            kept: file.text.is_some() && file.path.to_str().is_some(),
        };
        Self {
            format: FORMAT.into(),
            version: VERSION,
            number,
            at,
            by,
            sha256: hash_of(files),
            main: main.to_string_lossy().into_owned(),
            changes,
            files: files.iter().filter(|file| belongs(file)).map(file).collect(),
        }
    }

    /// Whether both are the same texts of the same files.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && self.main == other.main
    }
}

/// The SHA-256 of the configuration, zones and lists of networks with their paths, in hexadecimal digits.
#[must_use]
pub fn hash_of(files: &[ReadFile]) -> String {
    let mut context = Context::new(&SHA256);
    for file in files.iter().filter(|file| belongs(file)) {
        let path = file.path.as_os_str().as_encoded_bytes();
        context.update(&(path.len() as u64).to_be_bytes());
        context.update(path);
        context.update(&file.hash.unwrap_or_default());
    }
    HEXLOWER.encode(context.finish().as_ref())
}

pub(super) fn encode(head: &SetHead, files: &[ReadFile]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(head)?;
    bytes.push(b'\n');
    for file in files.iter().filter(|file| belongs(file)) {
        let (Some(content), Some(path)) = (&file.text, file.path.to_str()) else { continue };
        let text = std::str::from_utf8(content).ok().map(str::to_owned);
        let base64 = text.is_none().then(|| BASE64.encode(content));
        serde_json::to_writer(&mut bytes, &StoredText { path: path.into(), text, base64 })?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// # Errors
/// Why it is no head of a set, as the end of a sentence.
pub(super) fn decode_head(line: &[u8]) -> Result<SetHead, String> {
    let head: SetHead = serde_json::from_slice(line).map_err(|error| format!("is damaged: {error}"))?;
    if head.format != FORMAT || head.version > VERSION {
        return Err(format!(
            "has the form {} {}, which this steerd does not read",
            head.format, head.version
        ));
    }
    Ok(head)
}

type Texts = Vec<(PathBuf, FileKind, Arc<[u8]>)>;

/// # Errors
/// Why it is no set, as the end of a sentence.
pub(super) fn decode(bytes: &[u8]) -> Result<(SetHead, Texts), String> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let head = decode_head(lines.next().unwrap_or_default())?;
    let mut texts = Vec::new();
    let mut files = head.files.iter().filter(|file| file.kept);
    for line in lines.filter(|line| !line.is_empty()) {
        let stored: StoredText =
            serde_json::from_slice(line).map_err(|error| format!("is damaged: {error}"))?;
        let content = match (stored.text, stored.base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(base64)) => {
                BASE64.decode(base64.as_bytes()).map_err(|error| format!("is damaged: {error}"))?
            }
            _ => return Err("is damaged: a text is missing".into()),
        };
        let is_right = |file: &&SetFile| {
            file.path == stored.path && file.sha256 == HEXLOWER.encode(digest(&SHA256, &content).as_ref())
        };
        let file = files.next().filter(is_right);
        let kind = file.and_then(|file| kind_named(&file.kind));
        let Some(kind) = kind else {
            return Err(format!("is damaged: the text of {} is not that of its head", stored.path));
        };
        texts.push((stored.path.into(), kind, content.into()));
    }
    if files.next().is_some() {
        return Err("is damaged: its end is missing".into());
    }
    Ok((head, texts))
}
