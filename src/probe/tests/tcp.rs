//! TCP probes: connections, and exchanges on them.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::check::{Expected, Pattern, Talk, TcpProbe};

pub(super) fn text(text: &str) -> Expected {
    Expected::Text(text.into())
}

pub(super) fn pattern(text: &str) -> Expected {
    Expected::Pattern(Pattern::new(text).unwrap())
}

pub(super) fn talk(send: Option<&str>, expect: Option<Expected>) -> Talk {
    Talk { send: send.map(Into::into), expect }
}

async fn tcp(port: u16, talk: Talk, timeout: Duration) -> Report {
    probe::run(&Probe::Tcp(TcpProbe { talk, ..TcpProbe::connect(port) }), HERE, timeout).await
}

#[tokio::test]
async fn tcp_finds_a_listener_without_a_word_to_its_program() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let report = probe::run(&Probe::Tcp(TcpProbe::connect(port)), HERE, PATIENT).await;
    assert_passed(&report, "connected");
    assert_eq!(steps(&report), ["connect"]);
    let client = TcpStream::connect((HERE, port)).await.unwrap();
    let (_, first) = listener.accept().await.unwrap();
    assert_eq!(first, client.local_addr().unwrap(), "nobody was there before");
}

#[tokio::test]
async fn words_end_without_a_reset() {
    let (sender, mut ends) = tokio::sync::mpsc::channel(1);
    let port = server(move |mut stream| {
        let sender = sender.clone();
        async move { sender.send(stream.read_to_end(&mut Vec::new()).await).await.unwrap() }
    })
    .await;
    let talk = Talk { send: Some(b"hello".to_vec()), expect: None };
    assert_passed(&tcp(port, talk, PATIENT).await, "connected");
    assert_eq!(ends.recv().await.unwrap().unwrap(), 5, "all of it, and an orderly end");
}

#[tokio::test]
async fn ipv6_is_probed_alike() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let probe = Probe::Tcp(TcpProbe::connect(port));
    assert_passed(&probe::run(&probe, "::1".parse().unwrap(), PATIENT).await, "connected");
    drop(listener);
    assert_fault(
        &probe::run(&probe, "::1".parse().unwrap(), PATIENT).await,
        Cause::Refused,
        "connection refused",
    );
}

#[tokio::test]
async fn refusal_and_silence_are_told_apart() {
    let port = closed_port().await;
    assert_fault(&tcp(port, Talk::default(), PATIENT).await, Cause::Refused, "connection refused");
    assert_fault(&run(http(port), PATIENT).await, Cause::Refused, "connection refused");

    let (port, _full) = black_hole().await;
    let expected = "no answer within 250ms (while connecting)";
    let report = tcp(port, Talk::default(), BRIEF).await;
    assert_fault(&report, Cause::Timeout, expected);
    assert!(report.duration >= BRIEF);
    assert_fault(&run(http(port), BRIEF).await, Cause::Timeout, expected);

    let port = server(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let report = run(http(port), BRIEF).await;
    assert_fault(&report, Cause::Timeout, "no answer within 250ms (waiting for the response)");
    let insecure = TlsSettings { insecure: true, ..TlsSettings::default() };
    let report = run(https(port, insecure), BRIEF).await;
    assert_fault(&report, Cause::Timeout, "no answer within 250ms (during the TLS handshake)");
}

#[tokio::test]
async fn words_are_said_and_heard() {
    let port = server(|mut stream| async move {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
        let mut said = [0; 6];
        if stream.read_exact(&mut said).await.is_ok() && said == *b"NOOP\r\n" {
            // In pieces: the expected bytes may arrive in any division.
            for byte in b"250 2.0.0 Ok\r\n" {
                let _ = stream.write_all(&[*byte]).await;
                tokio::task::yield_now().await;
            }
        }
        std::future::pending::<()>().await;
    })
    .await;
    let report = tcp(port, talk(Some("NOOP\r\n"), Some(pattern("(?m)^250 "))), PATIENT).await;
    assert_passed(&report, "connected, heard a match of \"(?m)^250 \"");
    assert_eq!(steps(&report), ["connect", "talk"]);
    assert_passed(&tcp(port, talk(None, Some(text("ESMTP"))), PATIENT).await, "connected, heard \"ESMTP\"");
    assert_passed(&tcp(port, talk(Some("QUIT\r\n"), None), PATIENT).await, "connected");

    let report = tcp(port, talk(None, Some(text("ready"))), BRIEF).await;
    let expected =
        r#"no answer within 250ms (waiting for what is expected; heard "220 mail.example ESMTP\r\n")"#;
    assert_fault(&report, Cause::Timeout, expected);
}

#[tokio::test]
async fn what_closes_or_goes_on_without_the_words_fails() {
    let closes = server(|mut stream| async move {
        let _ = stream.write_all(b"554 go away\r\nmore\r\n").await;
    })
    .await;
    let report = tcp(closes, talk(None, Some(text("220 "))), PATIENT).await;
    assert_fault(&report, Cause::Body, r#"heard "554 go away", expected "220 ""#);

    let silent = server(|stream| async move { drop(stream) }).await;
    let report = tcp(silent, talk(None, Some(text("220 "))), PATIENT).await;
    assert_fault(&report, Cause::Closed, r#"closed without a response, expected "220 ""#);
}
