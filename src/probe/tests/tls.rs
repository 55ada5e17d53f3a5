//! TLS: certificates, sessions, and files that cannot be read.

use std::time::Instant;

use rcgen::date_time_ymd;
use tokio::io::AsyncWriteExt;

use super::tcp::{talk, text};
use super::*;
use crate::check::{Talk, TlsProbe, Version};
use crate::probe::protocols::Offered;
use crate::probe::sessions;
use crate::probe::trust::stalled::Stalled;

#[tokio::test]
async fn certificates_are_judged_by_name_time_and_authority() {
    let authority = Authority::new("ours");
    let trusted = || authority.trusted("s3.example.com");
    let right = https_server(authority.issue(&named("s3.example.com"))).await;
    let report = run(https(right, trusted()), PATIENT).await;
    assert_passed(&report, "200 OK");
    assert_eq!(steps(&report), ["connect", "tls", "response", "body"]);

    let report = run(https(right, authority.trusted("www.example.com")), PATIENT).await;
    assert_fault(
        &report,
        Cause::Tls,
        "certificate: not valid for www.example.com, only for \"s3.example.com\"",
    );
    let unnamed = || TlsSettings { name: None, ..trusted() };
    let report = run(https(right, unnamed()), PATIENT).await;
    assert_fault(&report, Cause::Tls, "certificate: not valid for 127.0.0.1, only for");
    let by_address = https_server(authority.issue(&named("127.0.0.1"))).await;
    assert_passed(&run(https(by_address, unnamed()), PATIENT).await, "200 OK");

    let mut expired = named("s3.example.com");
    expired.not_before = date_time_ymd(2020, 1, 1);
    expired.not_after = date_time_ymd(2021, 1, 1);
    let expired = https_server(authority.issue(&expired)).await;
    assert_fault(&run(https(expired, trusted()), PATIENT).await, Cause::Tls, "certificate: expired ");

    let stranger = https_server(Authority::new("another").issue(&named("s3.example.com"))).await;
    let untrusted = "certificate: signed by an authority that is not trusted here";
    assert_fault(&run(https(stranger, trusted()), PATIENT).await, Cause::Tls, untrusted);

    let key = KeyPair::generate().unwrap();
    let certificate = named("s3.example.com").self_signed(&key).unwrap().der().clone();
    let self_signed = https_server((certificate, key)).await;
    let report = run(https(self_signed, trusted()), PATIENT).await;
    assert_fault(&report, Cause::Tls, "certificate: self-signed, and not in ca_file");

    let key = KeyPair::generate().unwrap();
    let mut itself = named("s3.example.com");
    itself.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = itself.self_signed(&key).unwrap().der().clone();
    let itself = https_server((certificate, key)).await;
    let report = run(https(itself, trusted()), PATIENT).await;
    assert_fault(
        &report,
        Cause::Tls,
        "certificate: that of an authority (CA:TRUE), which a server must not use; make one with",
    );
    let any = TlsSettings { insecure: true, ..TlsSettings::default() };
    for port in [self_signed, expired, stranger] {
        // The second handshake is resumed.
        for _ in 0..2 {
            assert_passed(&run(https(port, any.clone()), PATIENT).await, "200 OK");
        }
    }
    let lasting = TlsSettings { min_days_left: Some(1), ..any };
    assert_fault(&run(https(expired, lasting), PATIENT).await, Cause::Tls, "certificate: expired ");
}

/// A certificate that is valid for this many more days and half a day.
fn valid_for(days: i64) -> CertificateParams {
    let mut params = named("s3.example.com");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let end = i64::try_from(now.as_secs()).unwrap() + days * 86_400 + 43_200;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_after = epoch + Duration::from_secs(end.try_into().unwrap());
    params
}

#[tokio::test]
async fn a_certificate_must_be_valid_for_long_enough_in_resumed_sessions_too() {
    let authority = Authority::new("ours");
    let config = server_config(authority.issue(&valid_for(5)), &[&rustls::version::TLS12]);
    let (port, handshakes) = tls_server(config, &[], answer_ok).await;
    let wanting = |days| TlsSettings { min_days_left: Some(days), ..authority.trusted("s3.example.com") };
    let report = run(https(port, wanting(5)), PATIENT).await;
    assert_passed(&report, "200 OK");
    eventually("a handshake", || handshakes.lock().unwrap().pop().is_some()).await;
    for _ in 0..2 {
        let report = run(https(port, wanting(7)), PATIENT).await;
        assert_fault(&report, Cause::Tls, "UTC, and at least 7 days are required (min_days_left)");
    }
    // The server notices the end of a handshake later than the probe.
    eventually("two handshakes", || handshakes.lock().unwrap().len() == 2).await;
    assert_eq!(*handshakes.lock().unwrap(), [HandshakeKind::Full, HandshakeKind::Resumed]);
}

#[tokio::test]
async fn sessions_are_resumed_by_the_same_check_of_the_same_address() {
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let authority = Authority::new("ours");
        let config = server_config(authority.issue(&named("s3.example.com")), versions);
        let (port, handshakes) = tls_server(config, &[], answer_ok).await;
        let settings = authority.trusted("s3.example.com");
        let probe = async |probe: &HttpProbe, address: &str| {
            let report = probe::run(&Probe::Http(probe.clone()), address.parse().unwrap(), PATIENT).await;
            assert_passed(&report, "200 OK");
            handshakes.lock().unwrap().pop().unwrap()
        };
        let own = https(port, settings.clone());
        assert_eq!(probe(&own, "127.0.0.1").await, HandshakeKind::Full);
        for _ in 0..3 {
            assert_eq!(probe(&own, "127.0.0.1").await, HandshakeKind::Resumed);
        }
        // Another backend, another check, another offer: each has its own session.
        assert_eq!(probe(&own, "127.0.0.2").await, HandshakeKind::Full);
        let lax = https(port, TlsSettings { insecure: true, ..settings.clone() });
        assert_eq!(probe(&lax, "127.0.0.1").await, HandshakeKind::Full);
        let older = HttpProbe { version: Version::Http1, ..own.clone() };
        assert_eq!(probe(&older, "127.0.0.1").await, HandshakeKind::Full);
        assert_eq!(probe(&own, "127.0.0.1").await, HandshakeKind::Resumed);

        // As for a probe one minute later.
        let later = Instant::now() + sessions::LIFETIME;
        sessions::of(SocketAddr::new(HERE, port), &settings, Offered::by(Version::Default), later);
        assert_eq!(probe(&own, "127.0.0.1").await, HandshakeKind::Full);
        assert_eq!(probe(&own, "127.0.0.1").await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn a_handshake_is_a_check_of_its_own_and_may_be_followed_by_words() {
    let authority = Authority::new("ours");
    let config = server_config(authority.issue(&named("mail.example")), rustls::ALL_VERSIONS);
    let (port, _) = tls_server(config, &[], |mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let _ = stream.shutdown().await;
    })
    .await;
    let tls = async |settings: TlsSettings, talk: Talk| {
        probe::run(&Probe::Tls(TlsProbe { talk, ..TlsProbe::handshake(port, settings) }), HERE, PATIENT).await
    };
    let settings = || authority.trusted("mail.example");
    let report = tls(settings(), Talk::default()).await;
    assert_passed(&report, "TLS handshake done");
    assert_eq!(steps(&report), ["connect", "tls"]);
    let report = tls(settings(), talk(None, Some(text("220 ")))).await;
    assert_passed(&report, "TLS handshake done, heard \"220 \"");
    assert_eq!(steps(&report), ["connect", "tls", "talk"]);
    let report = tls(settings(), talk(None, Some(text("250 ")))).await;
    assert_fault(&report, Cause::Body, r#"heard "220 mail.example ESMTP", expected "250 ""#);
    let report = tls(authority.trusted("www.example"), Talk::default()).await;
    assert_fault(&report, Cause::Tls, "not valid for www.example");
}

#[tokio::test]
async fn what_is_not_tls_fails_and_what_cannot_be_checked_is_void() {
    let authority = Authority::new("ours");
    let with_file = |path| TlsSettings { ca_file: Some(path), ..authority.trusted("s3.example.com") };
    let plain = canned("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let missing = authority.directory.path().join("missing.pem");
    assert_fault(
        &run(https(plain, with_file(missing)), PATIENT).await,
        Cause::Local,
        "missing.pem cannot be used",
    );
    let empty = authority.directory.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    assert_fault(&run(https(plain, with_file(empty)), PATIENT).await, Cause::Local, "holds no certificate");
    let endless = PathBuf::from("/dev/zero");
    assert_fault(&run(https(plain, with_file(endless)), PATIENT).await, Cause::Local, "it is a device");
    let long = authority.directory.path().join("long.pem");
    std::fs::File::create(&long).unwrap().set_len((16 << 20) + 1).unwrap();
    assert_fault(&run(https(plain, with_file(long)), PATIENT).await, Cause::Local, "16 MiB");
    let unnamed = authority.trusted("not a name");
    assert_fault(
        &run(https(plain, unnamed), PATIENT).await,
        Cause::Local,
        "neither a host name nor an address",
    );
}

/// How many threads of this process are reading authorities.
fn readers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.starts_with("read auth")).count()
}

/// As on a disk that does not respond.
#[tokio::test]
async fn authorities_that_cannot_be_read_in_time_are_void_and_take_one_thread() {
    let authority = Authority::new("ours");
    let port = https_server(authority.issue(&named("s3.example.com"))).await;
    let stuck = authority.directory.path().join("stuck.pem");
    std::fs::copy(authority.file(), &stuck).unwrap();
    let stalled = Stalled::new(&stuck);
    let with_file = |path| TlsSettings { ca_file: Some(path), ..authority.trusted("s3.example.com") };

    let waiting: Vec<_> =
        (0..20).map(|_| tokio::spawn(run(https(port, with_file(stuck.clone())), BRIEF))).collect();
    assert_passed(&run(https(port, with_file(authority.file())), PATIENT).await, "200 OK");
    for probe in waiting {
        assert_fault(&probe.await.unwrap(), Cause::Local, "authorities were not read within 250ms");
    }
    // Readers of other tests come and go.
    eventually("one reader", || readers() == 1).await;

    // The disk responds again, so the next probe gets its files.
    drop(stalled);
    assert_passed(&run(https(port, with_file(stuck)), PATIENT).await, "200 OK");
}
