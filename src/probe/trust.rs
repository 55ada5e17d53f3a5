//! Certificate authorities and client certificates of probes, read from files and kept for a while.
//!
//! Probes with the same files share the result, because reading and building it takes milliseconds. A thread reads
//! the files, because a file system may hang for hours. Each set of files has at most one thread, however many
//! probes wait for it.

use std::collections::HashMap;
use std::fmt::Display;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ring::digest::{Context, Digest, SHA256};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use tokio::sync::Notify;

use crate::check::{ClientFiles, TlsSettings};
use crate::file;
use crate::pem::{self, IdentityFault};
use crate::probe::verifier::{AnyCertificate, FromAuthority};

/// How often files are read again, so that a renewed `ca_file` takes effect without a restart. The cost is
/// negligible.
const LIFETIME: Duration = Duration::from_secs(60);

/// How long after a failure files are read again, however many probes need them.
const RETRY: Duration = Duration::from_secs(1);

/// The files that a handshake needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HandshakeFiles {
    trust: Trust,
    client: Option<ClientFiles>,
}

/// The authorities that a probe trusts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Trust {
    Anyone,
    System,
    File(PathBuf),
}

/// The result for one [`HandshakeFiles`]: the content, or the error of reading it.
///
/// ```text
///  nothing, or too old --(the first probe that asks)--> being read --> read: wakes the probes that wait
/// ```
#[derive(Default)]
struct CacheEntry {
    state: Mutex<CacheState>,
    read: Notify,
}

#[derive(Default)]
struct CacheState {
    loaded: Option<Loaded>,
    being_read: bool,
}

/// How to verify a backend, and the certificate to present to it.
pub(super) struct Trusting {
    pub(super) config: ClientConfig,
    /// The client certificate of the check.
    pub(super) identity: Option<Arc<CertifiedKey>>,
}

/// The result, or why the files could not be read.
type Verifying = Result<Arc<Trusting>, Arc<str>>;

struct Loaded {
    trusting: Verifying,
    /// The digest of all files. While it stays the same, the verifier is kept, and so are its sessions.
    digest: Option<Vec<u8>>,
    at: Instant,
}

/// Each set of files has its own place, so that a hanging file system delays only the probes that need it. There is
/// one for each set that a configuration has named since the start.
static CACHE: LazyLock<Mutex<HashMap<HandshakeFiles, Arc<CacheEntry>>>> = LazyLock::new(Mutex::default);

/// How to verify with these settings, and which certificate to present. Waits until the files are read.
pub(super) async fn of(settings: &TlsSettings) -> Verifying {
    let trust = match &settings.ca_file {
        _ if settings.insecure => Trust::Anyone,
        Some(path) => Trust::File(path.clone()),
        None => Trust::System,
    };
    let wanted = HandshakeFiles { trust, client: settings.client.clone() };
    let entry = {
        let mut entries = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(entries.entry(wanted.clone()).or_default())
    };
    loop {
        let read = entry.read.notified();
        tokio::pin!(read);
        // From here on, no notification is missed.
        read.as_mut().enable();
        if let Some(found) = look(&entry, &wanted, Instant::now()) {
            return found;
        }
        read.await;
    }
}

/// Returns the last result, and starts reading again if it is too old. An old error is not returned, but old
/// authorities stay in use while new ones are read, because the file system may hang.
fn look(entry: &Arc<CacheEntry>, wanted: &HandshakeFiles, now: Instant) -> Option<Verifying> {
    let mut state = entry.state.lock().unwrap_or_else(PoisonError::into_inner);
    let mut known = None;
    if let Some(loaded) = &state.loaded {
        let lifetime = if loaded.trusting.is_ok() { LIFETIME } else { RETRY };
        if now.saturating_duration_since(loaded.at) < lifetime {
            return Some(loaded.trusting.clone());
        }
        known = Some(loaded.trusting.clone()).filter(Result::is_ok);
    }
    if !state.being_read {
        let (entry, wanted) = (Arc::clone(entry), wanted.clone());
        let reader = thread::Builder::new().name("read authorities".into());
        match reader.spawn(move || read(&entry, &wanted)) {
            Ok(_) => state.being_read = true,
            Err(error) if known.is_none() => {
                return Some(Err(format!(
                    "cannot start a thread to read the certificate authorities: {error}"
                )
                .into()));
            }
            Err(_) => {}
        }
    }
    known
}

/// Reads the files. Blocks.
fn read(entry: &CacheEntry, wanted: &HandshakeFiles) {
    // A panic must not leave probes waiting forever; the next one may try again.
    let found = catch_unwind(|| files(wanted)).unwrap_or_else(|_| {
        Err("reading the certificate authorities panicked; this is a bug in steerd".into())
    });
    let mut state = entry.state.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = found.as_ref().ok().map(|(.., digest)| digest.as_ref().to_vec());
    let known = state.loaded.take().filter(|loaded| digest.is_some() && loaded.digest == digest);
    let trusting = match known {
        Some(loaded) => loaded.trusting,
        None => found
            .and_then(|(authorities, identity, _)| Ok(Trusting { config: build(authorities)?, identity }))
            .map(Arc::new)
            .map_err(Arc::from),
    };
    state.loaded = Some(Loaded { trusting, digest, at: Instant::now() });
    state.being_read = false;
    drop(state);
    entry.read.notify_waiters();
}

/// Trusted certificates.
struct Authorities {
    roots: RootCertStore,
    /// The certificates in a `ca_file`, which may include a server's own certificate.
    certificates: Vec<CertificateDer<'static>>,
    ca_file: Option<PathBuf>,
}

/// The authorities, or none to accept any certificate; the client certificate; the digest of all files.
type LoadedFiles = (Option<Authorities>, Option<Arc<CertifiedKey>>, Digest);

fn files(wanted: &HandshakeFiles) -> Result<LoadedFiles, String> {
    let mut digest = Context::new(&SHA256);
    let authorities = match &wanted.trust {
        Trust::Anyone => None,
        Trust::System => {
            Some(Authorities { roots: system_roots(&mut digest)?, certificates: Vec::new(), ca_file: None })
        }
        Trust::File(path) => Some(authorities_of(path, &mut digest)?),
    };
    let identity = wanted.client.as_ref().map(|files| identity_of(files, &mut digest)).transpose()?;
    Ok((authorities, identity, digest.finish()))
}

fn identity_of(files: &ClientFiles, digest: &mut Context) -> Result<Arc<CertifiedKey>, String> {
    let cannot = |key: &str, path: &Path, reason: &dyn Display| {
        format!("{key} {} cannot be used: {reason}", path.display())
    };
    let in_certificate = |reason: &dyn Display| cannot("client_certificate", &files.certificate, reason);
    let in_key = |reason: &dyn Display| cannot("client_key", &files.key, reason);
    let certificate =
        file::read(&files.certificate, file::CERTIFICATES).map_err(|error| in_certificate(&error))?.bytes;
    let key = file::read(&files.key, file::CERTIFICATES).map_err(|error| in_key(&error))?.bytes;
    digest.update(&certificate);
    digest.update(&key);
    pem::identity(&certificate, &key).map(Arc::new).map_err(|fault| match fault {
        IdentityFault::Certificate(reason) => in_certificate(&reason),
        IdentityFault::Key(reason) => in_key(&reason),
    })
}

fn system_roots(digest: &mut Context) -> Result<RootCertStore, String> {
    // The library opens the file that this variable names, and would wait forever if it were a FIFO.
    if let Some(path) = std::env::var_os("SSL_CERT_FILE") {
        check_regular(Path::new(&path))?;
    }
    let found = rustls_native_certs::load_native_certs();
    found.certs.iter().for_each(|certificate| digest.update(certificate));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this system has no certificate authorities that can be read{why}; install them, or name a ca_file"
        ));
    }
    Ok(roots)
}

fn check_regular(path: &Path) -> Result<(), String> {
    let read = file::read(path, file::CERTIFICATES);
    read.map(drop).map_err(|error| format!("SSL_CERT_FILE {} cannot be used: {error}", path.display()))
}

fn authorities_of(path: &Path, digest: &mut Context) -> Result<Authorities, String> {
    let cannot = |reason: &dyn Display| format!("ca_file {} cannot be used: {reason}", path.display());
    #[cfg(test)]
    stalled::wait_for(path);
    let text = file::read(path, file::CERTIFICATES).map_err(|error| cannot(&error))?.bytes;
    digest.update(&text);
    let certificates = pem::certificates(&text).map_err(|reason| cannot(&reason))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    if roots.is_empty() {
        return Err(cannot(&"none of its certificates can be read"));
    }
    Ok(Authorities { roots, certificates, ca_file: Some(path.to_owned()) })
}

fn build(authorities: Option<Authorities>) -> Result<ClientConfig, String> {
    let mut provider = rustls::crypto::ring::default_provider();
    // AES-128 is strong enough for a probe, and its hash makes resumed handshakes a tenth cheaper.
    let first = CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != first);
    let provider = Arc::new(provider);
    let verifier: Arc<dyn ServerCertVerifier> = match authorities {
        None => Arc::new(AnyCertificate),
        Some(Authorities { roots, certificates, ca_file }) => {
            Arc::new(FromAuthority::new(roots, certificates, ca_file, Arc::clone(&provider))?)
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

/// Files that hang while they are read. For tests, because a regular file never does.
#[cfg(test)]
pub(super) mod stalled {
    use std::collections::HashSet;
    use std::path::{Path, PathBuf};
    use std::sync::{Condvar, Mutex};

    static PATHS: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
    static ANSWERS: Condvar = Condvar::new();

    /// The file becomes readable when this is dropped.
    pub(in crate::probe) struct Stalled(PathBuf);

    impl Stalled {
        pub(in crate::probe) fn new(path: &Path) -> Self {
            PATHS.lock().unwrap().get_or_insert_default().insert(path.into());
            Self(path.into())
        }
    }

    impl Drop for Stalled {
        fn drop(&mut self) {
            PATHS.lock().unwrap().get_or_insert_default().remove(&self.0);
            ANSWERS.notify_all();
        }
    }

    /// Waits until the file is readable.
    pub(super) fn wait_for(path: &Path) {
        let paths = PATHS.lock().unwrap();
        drop(ANSWERS.wait_while(paths, |paths| paths.as_ref().is_some_and(|paths| paths.contains(path))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_stay_in_use_while_their_file_does_not_answer() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["gw.example".into()]).unwrap();
        std::fs::write(&file, own.cert.pem()).unwrap();
        let wanted = HandshakeFiles { trust: Trust::File(file.path().into()), client: None };
        let entry = Arc::new(CacheEntry::default());
        read(&entry, &wanted);
        let known = look(&entry, &wanted, Instant::now()).unwrap().unwrap();

        let stalled = stalled::Stalled::new(file.path());
        let later = Instant::now() + LIFETIME;
        for _ in 0..3 {
            let used = look(&entry, &wanted, later).expect("they are there").unwrap();
            assert!(Arc::ptr_eq(&used, &known));
        }
        assert!(entry.state.lock().unwrap().being_read, "new ones are read");
        drop(stalled);
    }
}
