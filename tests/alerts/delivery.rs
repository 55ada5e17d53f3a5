//! Receivers that are dead, slow or hostile, receivers over TLS, programs, and reloads.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;

use crate::receiver::{Manner, OK, Receiver, read};
use crate::scene::Scene;
use crate::support::{free_port, wait_for};

const TIMES: &str = "delay = \"0s\"\ngroup = \"0s\"\nevents = [\"pool\"]\n";

fn alert(name: &str, receiver: &Receiver, keys: &str) -> String {
    format!("[[alerts]]\nname = \"{name}\"\nurl = \"{}\"\n{TIMES}{keys}\n", receiver.url())
}

fn failures(scene: &Scene, alert: &str) -> f64 {
    let series = format!("steerd_alerts_sent_total{{alert=\"{alert}\",outcome=\"failure\"}}");
    scene.server.metric(&series).unwrap_or_default()
}

#[test]
fn a_bad_receiver_delays_no_other_and_gets_the_state_when_it_returns() {
    let (good, deaf, broken, limited) =
        (Receiver::start(), Receiver::start(), Receiver::start(), Receiver::start());
    deaf.behave(Manner::Deaf);
    broken.behave(Manner::Reply("500 Internal Server Error\r\n"));
    limited.behave(Manner::Reply("429 Too Many Requests\r\nRetry-After: 3\r\n"));
    let dead = SocketAddr::from(([127, 0, 65, 9], free_port("127.0.65.9")));
    let alerts = [
        alert("good", &good, ""),
        alert("deaf", &deaf, "timeout = \"1s\""),
        alert("broken", &broken, ""),
        alert("limited", &limited, ""),
        format!("[[alerts]]\nname = \"dead\"\nurl = \"http://{dead}/in\"\n{TIMES}"),
    ];
    let mut scene = Scene::start(65, &alerts.concat());
    let began = Instant::now();
    scene.web_dies();
    assert!(good.nth(0).at - began < Duration::from_secs(8));
    for name in ["deaf", "broken", "dead"] {
        wait_for("it was tried again", || (failures(&scene, name) >= 2.0).then_some(()));
        let pending = scene.server.metric(&format!("steerd_alerts_pending{{alert=\"{name}\"}}"));
        assert_eq!(pending, Some(1.0), "{name}");
    }
    let told = |name: &str| {
        let lines = scene.server.process.said("the alert could not be delivered");
        lines.into_iter().filter(|line| line.contains(&format!("\"alert\":\"{name}\""))).collect::<Vec<_>>()
    };
    assert!(told("broken")[0].contains("HTTP 500 Internal Server Error: \\\"said"), "{:?}", told("broken"));
    assert!(told("deaf")[0].contains("no answer within 1s"), "{:?}", told("deaf"));
    assert!(told("dead")[0].contains("refused"), "{:?}", told("dead"));
    assert_eq!(told("broken").len(), 1, "a receiver that stays broken is told of once");
    // `Retry-After` is longer than the first pauses.
    wait_for("the limited one was tried twice", || (failures(&scene, "limited") >= 2.0).then_some(()));
    let tried: Vec<Instant> = limited.got().iter().map(|got| got.at).collect();
    assert!(tried[1] - tried[0] >= Duration::from_secs(3), "{:?}", tried[1] - tried[0]);

    broken.behave(OK);
    deaf.behave(OK);
    limited.behave(OK);
    let dead = Receiver::start_at(dead);
    for receiver in [&broken, &deaf, &limited, &dead] {
        let got =
            receiver.wait("the state", |got| got.body["conditions"][0]["name"] == "web" && got.at > began);
        assert_eq!(got.body["status"], "firing");
    }
    for name in ["broken", "deaf", "limited", "dead"] {
        let pending = format!("steerd_alerts_pending{{alert=\"{name}\"}}");
        wait_for("all is told", || (scene.server.metric(&pending) == Some(0.0)).then_some(()));
    }
    assert_eq!(good.got().len(), 1);
    wait_for("it is said in the log", || {
        (!scene.server.process.said("the receiver of the alert can be reached again").is_empty())
            .then_some(())
    });
}

/// A condition that ends while the receiver is dead is told with its end.
#[test]
fn what_was_missed_is_told_with_its_end() {
    let receiver = Receiver::start();
    receiver.behave(Manner::Reply("503 Service Unavailable\r\n"));
    let mut scene = Scene::start(66, &alert("own", &receiver, ""));
    scene.web_dies();
    wait_for("it was tried", || (failures(&scene, "own") >= 1.0).then_some(()));
    scene.web_returns();
    wait_for("it is over", || {
        (scene.server.metric("steerd_alerts_firing{alert=\"own\"}") == Some(0.0)).then_some(())
    });
    receiver.behave(OK);
    let got = receiver.wait("its end", |got| got.body["status"] == "resolved");
    let condition = &got.body["conditions"][0];
    assert_eq!((&condition["name"], &condition["new"]), (&"web".into(), &true.into()));
    assert!(condition["ended"].as_str() > condition["since"].as_str(), "{condition}");
}

#[test]
fn redirects_are_not_followed_and_tokens_are_sent() {
    let (first, second) = (Receiver::start(), Receiver::start());
    let location = format!("307 Temporary Redirect\r\nLocation: {}\r\n", second.url());
    first.behave(Manner::Reply(Box::leak(location.into_boxed_str())));
    let alerts = [
        alert("moved", &first, "token_file = \"token\""),
        alert("keyed", &second, "token_file = \"token\"\ntoken_header = \"X-Api-Key\""),
    ];
    let mut scene = Scene::start(67, &alerts.concat());
    scene.web_dies();
    assert!(first.nth(0).head.contains("authorization: bearer s3cr3t-t0ken\r\n"));
    let keyed = second.nth(0);
    assert!(keyed.head.contains("x-api-key: s3cr3t-t0ken\r\n") && !keyed.head.contains("authorization"));
    wait_for("a failure", || (failures(&scene, "moved") >= 1.0).then_some(()));
    let said = wait_for("a line", || scene.server.process.said("the alert could not be delivered").pop());
    assert!(
        said.contains("HTTP 307 Temporary Redirect") && said.contains("redirects are not followed"),
        "{said}"
    );
    assert!(!said.contains("s3cr3t"));
    assert!(second.got().iter().all(|got| got.head.contains("x-api-key")));
}

/// A receiver may quote the path of its URL and the token.
#[test]
fn the_words_of_a_receiver_are_told_without_secrets() {
    let receiver = Receiver::start();
    receiver.behave(Manner::Echo);
    let alerts = format!(
        "[[alerts]]\nname = \"own\"\nurl = \"{}/h00k-s3cret\"\ntoken_file = \"token\"\n{TIMES}",
        receiver.url()
    );
    let mut scene = Scene::start(75, &alerts);
    let tested = scene.command(&["alerts", "test"]);
    scene.web_dies();
    let line = wait_for("a line", || scene.server.process.said("the alert could not be delivered").pop());
    for said in [tested, line] {
        assert!(said.contains("403 Forbidden: ") && said.contains("[..]"), "{said}");
        assert!(!said.contains("s3cr"), "{said}");
    }
}

/// A receiver over TLS. Returns its address, its authority in PEM, and the bodies that it gets.
fn secure(address: &str) -> (SocketAddr, String, mpsc::Receiver<Value>) {
    let own = rcgen::generate_simple_self_signed(vec![address.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((address, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let (sender, bodies) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream));
            let Some((_, body)) = read(&mut stream) else { continue };
            let _ = write!(stream.get_mut(), "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            let _ = sender.send(serde_json::from_slice(&body).unwrap());
        }
    });
    (at, own.cert.pem(), bodies)
}

#[test]
fn tls_trusts_the_authority_that_is_named_and_no_other() {
    let (at, authority, bodies) = secure("127.0.0.1");
    let alert = |keys: &str| format!("[[alerts]]\nname = \"tls\"\nurl = \"https://{at}/\"\n{TIMES}{keys}\n");
    let scene = Scene::start(68, "");
    let file = scene.server.directory.path().join("ca.pem");
    fs::write(&file, authority).unwrap();
    // The authorities of the system do not know it.
    scene.reload(&alert(""));
    let said = scene.command(&["alerts", "test"]);
    assert!(
        said.contains("NOT delivered") && said.contains("certificate") && said.ends_with("exit 1"),
        "{said}"
    );
    assert!(bodies.try_recv().is_err());
    scene.reload(&alert(&format!("ca_file = \"{}\"", file.display())));
    let said = scene.command(&["alerts", "test", "tls"]);
    assert!(said.contains("tls: delivered in ") && said.contains("HTTP 204 No Content"), "{said}");
    assert_eq!(bodies.recv_timeout(Duration::from_secs(10)).unwrap()["status"], "test");
}

fn script(scene: &Scene, name: &str, text: &str) -> String {
    let path = scene.server.directory.path().join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn a_program_gets_the_message_and_no_shell_reads_it() {
    let mut scene = Scene::start(69, "");
    let directory = scene.server.directory.path().to_owned();
    let took = script(
        &scene,
        "took",
        &format!("cat > {0}/body; echo \"$1 $STEERD_ALERT\" > {0}/said", directory.display()),
    );
    let child = directory.join("child");
    let hangs = script(&scene, "hangs", &format!("sleep 1000 & echo $! > {}; wait", child.display()));
    let fails = script(&scene, "fails", "echo no network; exit 7");
    let alerts = format!(
        "[[alerts]]\nexec = [\"{took}\", \"$(id); `id`\"]\n{TIMES}[[alerts]]\nexec = [\"{hangs}\"]\ntimeout = \"1s\"\n{TIMES}\
         [[alerts]]\nexec = [\"{fails}\"]\n{TIMES}"
    );
    let said = scene.reload(&alerts);
    assert!(said.contains("alert took: added") && said.ends_with("exit 0"), "{said}");
    scene.web_dies();
    let body: Value =
        wait_for("the message", || serde_json::from_slice(&fs::read(directory.join("body")).ok()?).ok());
    assert_eq!((&body["status"], &body["conditions"][0]["name"]), (&"firing".into(), &"web".into()));
    let said = wait_for("its end", || {
        fs::read_to_string(directory.join("said")).ok().filter(|said| !said.is_empty())
    });
    assert_eq!(said, "$(id); `id` took\n");
    wait_for("the failure", || {
        (failures(&scene, "fails") >= 1.0 && failures(&scene, "hangs") >= 1.0).then_some(())
    });
    let lines = scene.server.process.said("the alert could not be delivered");
    for expected in ["exit code 7, expected 0: \\\"no network", "it has not ended within 1s, and was killed"]
    {
        assert!(lines.iter().any(|line| line.contains(expected)), "{expected}: {lines:?}");
    }
    // The programs of a removed alert end too, with all that they started.
    scene.reload("");
    let child = fs::read_to_string(child).unwrap();
    wait_for("its descendant is gone", || {
        (!std::path::Path::new("/proc").join(child.trim()).exists()).then_some(())
    });
    assert_eq!(scene.server.metric("steerd_alerts_pending{alert=\"fails\"}"), None);
    assert!(!threads(&scene).contains("alerts"), "nothing that is not configured runs");
}

/// The names of the threads of the server.
fn threads(scene: &Scene) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", scene.server.process.id())).unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.collect()
}

#[test]
fn a_reload_changes_and_removes_alerts() {
    let (old, new) = (Receiver::start(), Receiver::start());
    let mut scene = Scene::start(70, "");
    assert!(!threads(&scene).contains("alerts"));
    assert!(scene.reload(&alert("own", &old, "")).contains("alert own: added"));
    assert!(threads(&scene).contains("alerts"));
    scene.web_dies();
    assert_eq!(old.nth(0).body["status"], "firing");
    // Other times: the receiver knows all.
    let said = scene.reload(&alert("own", &old, "repeat = \"1h\""));
    assert!(said.contains("alert own: repeat: 4h -> 1h"), "{said}");
    // Another receiver is told anew; its URL is not shown.
    let said = scene.reload(&alert("own", &new, "repeat = \"1h\""));
    assert!(said.contains("alert own: another receiver") && !said.contains(&new.url()), "{said}");
    assert_eq!(new.nth(0).body["conditions"][0]["name"], "web");
    let said = scene.reload("");
    assert!(said.contains("alert own: removed"), "{said}");
    scene.web_returns();
    scene.wait_for_pool("web", true);
    wait_for("the thread ends", || (!threads(&scene).contains("alerts")).then_some(()));
    assert_eq!((old.got().len(), new.got().len()), (1, 1));
}
