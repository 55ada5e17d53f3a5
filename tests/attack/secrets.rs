//! No reload, reply or log line shows a secret, and no client sends one to the wrong server.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::support::{STEERD, Steerd, TOKEN, wait_for};

const NOBODY: u32 = 65534;
const ZONE: &str =
    "$TTL 300\n@ SOA ns1 host 1 3600 900 604800 2\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A configuration with a secret in every place that accepts one.
fn configuration(secret: &str) -> String {
    format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [\"127.0.0.1\"]\nrequire = 1\nchecks = [\n\
         {{ name = \"run\", type = \"exec\", program = \"/bin/true\", arguments = [\"--password\", \"{secret}\"] }},\n\
         {{ name = \"get\", type = \"http\", port = 9, path = \"/healthz?token={secret}\", headers = {{ X-Key = \"{secret}\" }}, \
         body = {{ contains = \"{secret}\" }} }},\n\
         {{ name = \"talk\", type = \"tcp\", port = 9, send = \"AUTH {secret}\\r\\n\", expect = \"{secret}\" }},\n]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    )
}

#[test]
fn a_reload_shows_no_secret_in_the_log_the_reply_or_the_command() {
    let server = Steerd::start(&configuration("5Ecr37-one"), &[("zone", ZONE)]);
    let seen = |reply: &str| {
        assert!(!reply.contains("5Ecr37"), "{reply}");
        for changed in [
            "arguments changed",
            "query changed",
            "headers changed",
            "body changed",
            "send changed",
            "expect changed",
        ] {
            assert!(reply.contains(changed), "{changed}: {reply}");
        }
    };
    server.configure(&configuration("5Ecr37-two"), "");
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200);
    seen(&report.to_string());
    server.configure(&configuration("5Ecr37-three"), "");
    let admin = format!("http://{}", server.admin);
    seen(&text(&Command::new(STEERD).args(["reload", "--admin", &admin]).output().unwrap()));
    let line = wait_for("both reloads are in the log", || {
        let lines = server.process.said("\"reloaded\"");
        (lines.len() == 2).then_some(lines)
    });
    seen(&line.join("\n"));
    // An error next to a secret does not quote it.
    server.configure(
        &configuration("5Ecr37-two\\u0000").replace("/bin/true", "/bin/none --password 5Ecr37"),
        "",
    );
    let (status, refusal) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 422);
    assert!(!refusal.to_string().contains("5Ecr37"), "{refusal}");
    let (_, pools) = server.request("GET", "/api/v1/status", "");
    assert!(!pools.to_string().contains("5Ecr37"), "{pools}");
    assert!(server.process.said("5Ecr37").is_empty());
}

#[test]
fn a_token_or_key_that_others_can_read_is_told() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("zone"), ZONE).unwrap();
    let config = "[server]\ncookie_secret_file = \"cookies\"\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"token\"\n\
                  [keys.\"k.test\"]\nsecret_file = \"key\"\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
                  [pools.web]\nbackends = [\"127.0.0.1\"]\nchecks = []\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n";
    fs::write(at("steerd.toml"), config).unwrap();
    let secrets = [
        ("token", TOKEN),
        ("key", "MDEyMzQ1Njc4OWFiY2RlZg=="),
        ("cookies", "00112233445566778899aabbccddeeff"),
    ];
    let check = |mode: u32| {
        for (name, secret) in secrets {
            fs::write(at(name), secret).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let output = Command::new(STEERD).arg("check").arg("-c").arg(at("steerd.toml")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    // With a user `steerd`, the advice for a file of root is to give it to the group of that user.
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let has_service = users.lines().any(|line| line.starts_with("steerd:"));
    let for_service = has_service && fs::metadata(at("token")).unwrap().uid() == 0;
    for mode in [0o644, 0o640, 0o602] {
        let said = check(mode);
        for (name, secret) in secrets {
            let path = at(name).display().to_string();
            let advice = if for_service {
                format!("chgrp steerd {path} && chmod 640 {path}")
            } else {
                format!("chmod 600 {path}")
            };
            assert!(said.contains(&advice) && said.contains(&format!("mode {mode:04o}")), "{name}: {said}");
            assert!(!said.contains(secret), "{said}");
        }
    }
    assert!(!check(0o600).contains("warning"));
    if fs::metadata(at("token")).unwrap().uid() == 0 {
        let said = check(0o644);
        assert!(
            said.contains(&format!("{} && chmod 640", at("token").display())),
            "the service reads it: {said}"
        );
        for (name, _) in secrets {
            chown(at(name), None, Some(NOBODY)).unwrap();
        }
        assert!(!check(0o640).contains("warning"), "only its group reads it");
    }
}

/// A listener that is not steerd. It answers every request with `reply`, or relays it to the server
/// `ask`, and records everything it receives.
fn impostor(reply: &'static str, ask: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    thread::spawn(move || {
        for stream in listener.incoming().take(8) {
            let kept = Arc::clone(&kept);
            let mut stream = stream.unwrap();
            let mut real = ask.map(|server| TcpStream::connect(server).unwrap());
            if let Some(real) = &real {
                let (mut from, mut to) = (real.try_clone().unwrap(), stream.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    let bytes = &buffer[..length];
                    kept.lock().unwrap().extend_from_slice(bytes);
                    match &mut real {
                        Some(real) => real.write_all(bytes).unwrap(),
                        None => write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{reply}", reply.len())
                            .unwrap(),
                    }
                }
            });
        }
    });
    (address, heard)
}

#[test]
fn only_a_server_that_knows_the_token_is_sent_it() {
    let config = configuration("x");
    let server = Steerd::start(&config, &[("zone", ZONE), ("token", TOKEN)]);
    server.configure(&config, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    let token_file = server.directory.path().join("token");
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    let run = |at: SocketAddr, more: &[&str]| {
        let url = format!("http://{at}");
        let mut command = Command::new(STEERD);
        command
            .args(["reload", "--admin", &url, "--token-file"])
            .arg(&token_file)
            .args(more)
            .output()
            .unwrap()
    };
    let honest = run(server.admin, &[]);
    assert!(honest.status.success(), "{}", text(&honest));

    // Replies that steerd would not send, and an old proof.
    let old = r#"{"address":"127.0.0.1:1","proofs":["0000000000000000000000000000000000000000000000000000000000000000"]}"#;
    for reply in ["{}", old, "no JSON", ""] {
        let (address, heard) = impostor(reply, None);
        let output = run(address, &[]);
        assert!(!output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("the token was not sent"), "{}", text(&output));
        let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
        assert!(
            heard.contains("nonce=") && !heard.contains(TOKEN) && !heard.contains("uthorization"),
            "{heard}"
        );
    }

    // An impostor that relays everything between the client and the real server.
    let (address, heard) = impostor("", Some(server.admin));
    let output = run(address, &[]);
    assert!(!output.status.success(), "{}", text(&output));
    assert!(text(&output).contains(&format!("--forwarded-to {}", server.admin)), "{}", text(&output));
    assert!(!String::from_utf8_lossy(&heard.lock().unwrap()).contains(TOKEN));
    // The address behind the operator's own tunnel must be given.
    let output = run(address, &["--forwarded-to", &server.admin.to_string()]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(String::from_utf8_lossy(&heard.lock().unwrap()).contains(TOKEN));
}

#[test]
fn no_reply_of_a_server_steers_the_terminal() {
    let reply = "{\"generation\": 1, \"pools\": {\"added\": [\"\u{1b}[2J\u{9b}2J\u{85}\u{202e}\\u001b[2J\\nforged\"]}}";
    let reply: &'static str = Box::leak(reply.replace('\u{1b}', "").into_boxed_str());
    let (address, _) = impostor(reply, None);
    for more in [&[][..], &["--json"]] {
        let url = format!("http://{address}");
        let output = Command::new(STEERD).args(["reload", "--admin", &url]).args(more).output().unwrap();
        let said = text(&output);
        assert!(said.contains("2J") && said.contains("forged"), "{said:?}");
        let active = said.chars().find(|&char| (char.is_control() && char != '\n') || char == '\u{202e}');
        assert_eq!(active, None, "{said:?}");
        assert!(!said.lines().any(|line| line.starts_with("forged")), "{said:?}");
    }
}
