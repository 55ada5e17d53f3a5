//! The record of a load: which files were read, and the texts of those that make a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::SystemTime;

use ring::digest::{SHA256, digest};

use super::{Content, FileStamp};

/// The most bytes of zones and lists of networks that a record keeps; those for which there is no room are not kept.
/// Files of the configuration itself are always kept.
pub const MAX_KEPT_TEXTS: u64 = 32 << 20;
/// The largest zone file or list of networks that a record keeps, bytes: some 200,000 records.
const MAX_KEPT_FILE: u64 = 8 << 20;
/// In a file of certificates, the sign of a private key.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

/// The part of a file in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The configuration itself: the main file, or an included one.
    Configuration,
    /// A zone file, or one that it includes.
    Zone,
    /// A list of networks.
    Networks,
    /// A geographic database.
    Database,
    /// Certificates.
    Certificate,
    /// A token, a key or another secret.
    Secret,
    /// The form of a message.
    Template,
}

impl FileKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Configuration,
        Self::Zone,
        Self::Networks,
        Self::Database,
        Self::Certificate,
        Self::Secret,
        Self::Template,
    ];

    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Zone => "zone",
            Self::Networks => "networks",
            Self::Database => "database",
            Self::Certificate => "certificate",
            Self::Secret => "secret",
            Self::Template => "template",
        }
    }

    /// Whether a change of such a file leads to a reload. Rules follow theirs without one.
    #[must_use]
    pub const fn is_watched(self) -> bool {
        !matches!(self, Self::Networks | Self::Database)
    }

    /// Whether a set of files has the text of such a file. A rollback reads all others from their place.
    #[must_use]
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Configuration | Self::Zone | Self::Networks)
    }
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadFile {
    /// The absolute path, with links as they are.
    pub path: PathBuf,
    /// Its part in the configuration.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// When it was last changed; none for a kept text.
    pub modified: Option<SystemTime>,
    /// Its metadata just before it was read; none for a kept text.
    pub stamp: Option<FileStamp>,
    /// The SHA-256 of its content; none for secrets.
    pub hash: Option<[u8; 32]>,
    /// Its content, if it is kept.
    pub text: Option<Arc<[u8]>>,
}

/// A pattern of `include`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludePattern {
    /// The pattern.
    pub pattern: PathBuf,
    /// The files that it matched on disk; none if kept texts were read in place of them.
    pub files: Option<Vec<PathBuf>>,
}

/// The files that a load has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRecord {
    /// Each file once, in the order in which they were read.
    pub files: Vec<ReadFile>,
    /// All files that were to be read from their place, by their absolute paths, also those that could not be. Each with
    /// its metadata before that; none if it could not be looked up.
    pub looked_at: BTreeMap<PathBuf, Option<FileStamp>>,
    /// The patterns of `include`, each with its files.
    pub patterns: Vec<IncludePattern>,
    /// The bytes of kept zones and lists.
    kept: u64,
}

impl FileRecord {
    pub(super) fn looked_at(&mut self, path: &Path, stamp: Option<FileStamp>) {
        self.looked_at.insert(without_directory(path), stamp);
    }

    /// Adds the files that another load has looked at, without their texts.
    pub fn add_looked_at(&mut self, other: Self) {
        let is_watched =
            |path: &PathBuf| !other.files.iter().any(|file| file.path == *path && !file.kind.is_watched());
        self.looked_at.extend(other.looked_at.into_iter().filter(|(path, _)| is_watched(path)));
        self.patterns.extend(other.patterns);
    }

    pub(super) fn add(&mut self, path: &Path, kind: FileKind, content: &Content) {
        let path = without_directory(path);
        if self.files.iter().any(|file| file.path == path) {
            return;
        }
        let size = content.bytes.len() as u64;
        let is_secret = kind == FileKind::Secret
            || !kind.is_kept()
                && content.bytes.windows(PRIVATE_KEY.len()).any(|window| window == PRIVATE_KEY);
        let has_room = size <= MAX_KEPT_FILE && self.kept + size <= MAX_KEPT_TEXTS;
        let is_kept = kind == FileKind::Configuration || (kind.is_kept() && has_room);
        if is_kept && kind != FileKind::Configuration {
            self.kept += size;
        }
        self.files.push(ReadFile {
            path,
            kind,
            size,
            modified: content.origin.metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
            stamp: content.origin.metadata.as_ref().map(FileStamp::from),
            hash: (!is_secret).then(|| hash(&content.bytes)),
            text: is_kept.then(|| content.bytes.as_slice().into()),
        });
    }
}

/// Texts that are read in place of their files.
#[derive(Clone, Debug, Default)]
pub struct KeptTexts {
    texts: BTreeMap<PathBuf, Arc<[u8]>>,
    /// The files of the configuration, in the order in which they were read: the main file first.
    configurations: Vec<PathBuf>,
}

impl KeptTexts {
    /// Takes absolute paths with the kind and the content of each file, in the order of a record.
    #[must_use]
    pub fn new(texts: impl IntoIterator<Item = (PathBuf, FileKind, Arc<[u8]>)>) -> Self {
        let mut kept = Self::default();
        for (path, kind, text) in texts {
            if kind == FileKind::Configuration {
                kept.configurations.push(path.clone());
            }
            kept.texts.insert(path, text);
        }
        kept
    }

    /// The files of the configuration that the main file includes, in their order.
    #[must_use]
    pub fn included(&self) -> &[PathBuf] {
        self.configurations.get(1..).unwrap_or_default()
    }

    pub(super) fn get(&self, path: &Path) -> Option<&Arc<[u8]>> {
        self.texts.get(&without_directory(path))
    }
}

/// The SHA-256 of a content.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The path as an absolute one: it must name the same file in a process with another working directory.
fn without_directory(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_owned())
}
