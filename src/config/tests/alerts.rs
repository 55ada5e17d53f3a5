//! `[[alerts]]`: what is read, and its faults.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{REST, errors, load_files, told};
use crate::alerts::settings::{AlertSettings, AlertTemplate, AlertTiming, Destination, Wanted, Webhook};
use crate::config::{ConfigFaults, Setup};
use crate::events::EventKind;

const FILES: [(&str, &str); 4] = [
    ("token", "s3cr3t\n"),
    ("hook", "https://hooks.example.com/services/T0/B0/x\n"),
    ("own.json", "{\"say\": \"{{text}}\"}"),
    ("bad.json", "{\"say\": {{text}}}"),
];

fn load(alerts: &str) -> Result<Setup, ConfigFaults> {
    let authority = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let files: Vec<_> = FILES.into_iter().chain([("authority", authority.as_str())]).collect();
    load_files(&format!("{alerts}{REST}"), &files)
}

fn read(keys: &str) -> AlertSettings {
    let setup = load(&format!("[[alerts]]\n{keys}\n")).unwrap_or_else(|faults| panic!("{keys}\n{faults}"));
    AlertSettings::clone(&setup.alerts[0])
}

fn webhook(keys: &str) -> Webhook {
    match read(keys).destination {
        Destination::Web(webhook) => webhook,
        other @ Destination::Program { .. } => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let alert = read("url = \"https://example.net/in\"");
    assert_eq!((alert.name.as_str(), alert.template), ("example.net", AlertTemplate::Json));
    assert_eq!((alert.wanted, alert.timing), (Wanted::default(), AlertTiming::default()));
    let webhook = webhook("url = \"https://example.net/in\"");
    assert_eq!(webhook.url.reveal(), "https://example.net/in");
    assert_eq!((webhook.token, webhook.ca_file, webhook.timeout), (None, None, Duration::from_secs(10)));
    assert_eq!(load("").unwrap().alerts, []);
}

#[test]
fn everything_set() {
    let alert = read(
        "name = \"oncall\"\nurl_file = \"hook\"\ntoken_file = \"token\"\ntoken_header = \"X-Key\"\nca_file = \"authority\"\n\
         timeout = \"3s\"\ntemplate = \"slack\"\nevents = [\"service\", \"pool\"]\npools = [\"web\"]\n\
         services = [\"WWW.example.com.\"]\ndelay = \"1m\"\ngroup = \"0s\"\nrepeat = \"never\"\nresolve = false",
    );
    assert_eq!((alert.name.as_str(), alert.template), ("oncall", AlertTemplate::Slack));
    let Destination::Web(webhook) = alert.destination else { panic!() };
    assert_eq!(webhook.url.reveal(), "https://hooks.example.com/services/T0/B0/x");
    assert_eq!(webhook.token.unwrap().reveal(), "s3cr3t");
    assert_eq!((webhook.token_header.as_deref(), webhook.timeout), (Some("X-Key"), Duration::from_secs(3)));
    assert!(webhook.ca_file.unwrap().ends_with("authority"));
    assert_eq!(alert.wanted.kinds, BTreeSet::from([EventKind::Service, EventKind::Pool]));
    let names = alert.wanted.names.unwrap();
    assert_eq!(names.pools, BTreeSet::from(["web".to_owned()]));
    assert_eq!(names.services, BTreeSet::from(["www.example.com".to_owned()]));
    let timing =
        AlertTiming { delay: Duration::from_secs(60), group: Duration::ZERO, repeat: None, resolve: false };
    assert_eq!(alert.timing, timing);
    let program = read("exec = [\"/bin/sh\", \"-c\", \"cat\"]\ntemplate_file = \"own.json\"");
    let Destination::Program { path, arguments, .. } = program.destination else { panic!() };
    assert_eq!((path.to_str().unwrap(), arguments.len(), program.name.as_str()), ("/bin/sh", 2, "sh"));
    assert!(matches!(program.template, AlertTemplate::Own(_)));
    let pagerduty = read("template = \"pagerduty\"\ntoken_file = \"token\"");
    assert_eq!(pagerduty.name, "pagerduty");
    let Destination::Web(webhook) = pagerduty.destination else { panic!() };
    assert_eq!(webhook.url.reveal(), "https://events.pagerduty.com/v2/enqueue");
    let alertmanager = read("template = \"alertmanager\"\nurl = \"http://127.0.0.1:9093/api/v2/alerts\"");
    assert_eq!(alertmanager.timing.repeat, Some(Duration::from_secs(60)));
}

#[test]
fn secrets_are_not_shown() {
    let alert = read("url = \"https://a.example/T0/B0/secret\"\ntoken_file = \"token\"");
    let shown = format!("{alert:?}");
    assert!(!shown.contains("secret\"") && !shown.contains("s3cr3t"), "{shown}");
    let faults = load("[[alerts]]\nurl = \"ftp://a.example/secret\"\n").unwrap_err();
    assert!(!faults.render(false).contains("secret"), "{}", faults.render(false));
    for alerts in [
        "[[alerts]]\nurl = [\"https://a.example/secret\"]\n",
        "[[alerts]]\nurl = \"https://a.example/secret\"\nexec = [\"/bin/sh\"]\n",
        "[[alerts]]\nexec = [\"/bin/sh\"]\nurl = \"https://a.example/secret\"\n",
        "[[alerts]]\nurl = \"https://a.example/secret\"\ntemplate = \"alertmanager\"\n",
        "[[alerts]]\nurl = \"http://a.example/secret\"\nca_file = \"authority\"\n",
        "alerts = [{ url = \"https://a.example/secret\", nane = \"x\" }]\n",
    ] {
        let shown = load(alerts).unwrap_err().render(false);
        assert!(!shown.contains("secret"), "{alerts}\n{shown}");
    }
}

#[test]
fn faults() {
    for (keys, expected) in [
        ("", "1:1 this alert has no receiver: write `url`, `url_file` or `exec`"),
        (
            "url = \"https://a.example\"\nexec = [\"/bin/sh\"]",
            "3:1 an alert has one receiver: `url`, `url_file` or `exec`",
        ),
        ("url = \"a.example/x\"", "2:7 `url` cannot be used: it is not a URL (relative URL without a base)"),
        ("url = \"ftp://a.example/\"", "2:7 `url` cannot be used: it must begin with https:// or http://"),
        (
            "url = \"https://me:pw@a.example/\"",
            "2:7 `url` cannot be used: it has a user before the host; write the value of the header Authorization to a \
             file, and name it by `token_file`, with token_header = \"Authorization\"",
        ),
        (
            "url = \"https://a.example\"\ntemplate = \"slak\"",
            "3:12 `template` must be \"json\", \"slack\", \"alertmanager\" or \"pagerduty\" | did you mean \"slack\"?",
        ),
        (
            "url = \"https://a.example\"\ntemplate = \"own.json\"",
            "3:12 `template` must be \"json\", \"slack\", \"alertmanager\" or \"pagerduty\" | a template of your own is \
             named by `template_file`",
        ),
        (
            "url = \"https://a.example\"\ntemplate_file = \"bad.json\"",
            "3:17 the template `bad.json` cannot be used: {{text}} is a text, and so stands in a string: \"{{text}}\"",
        ),
        (
            "url = \"https://a.example\"\nevents = [\"pol\"]",
            "3:11 each element of `events` must be \"pool\", \"service\", \"tier\", \"suspicion\", \"reload\", \
             \"certificate\" or \"audit\" | did you mean \"pool\"?",
        ),
        (
            "url = \"https://a.example\"\npools = [\"wbe\"]",
            "3:10 there is no pool `wbe` | did you mean \"web\"?",
        ),
        (
            "url = \"https://a.example\"\nservices = [\"ww.example.com\"]",
            "3:13 there is no service `ww.example.com` | did you mean \"www.example.com\"?",
        ),
        ("url = \"https://a.example\"\nrepeat = \"1s\"", "3:10 `repeat` must be from 1m to 720h"),
        (
            "url = \"http://a.example/api/v2/alerts\"\ntemplate = \"alertmanager\"\nrepeat = \"1h\"",
            "4:10 Alertmanager decides itself how often it repeats a notification | leave out `repeat`, and set \
             repeat_interval in a route of Alertmanager",
        ),
        (
            "url = \"http://a.example/\"\ntemplate = \"alertmanager\"",
            "2:7 Alertmanager takes alerts at /api/v2/alerts, and this URL has another path | write the URL with \
             /api/v2/alerts at its end",
        ),
        (
            "template = \"pagerduty\"",
            "1:1 an alert for PagerDuty needs an integration key | write the key to a file, and name it by `token_file`",
        ),
        (
            "exec = [\"/bin/sh\"]\nca_file = \"authority\"",
            "3:11 `ca_file` is for a URL, and this alert runs a program",
        ),
        (
            "exec = [\"token\"]",
            "2:9 the program `token` of the alert cannot be run: it is not executable (see chmod)",
        ),
        (
            "exec = \"/bin/sh\"",
            "2:8 `exec` must be a list of a program and its arguments, such as [\"/usr/local/bin/notify\", \"--urgent\"]; this is a string | did you mean [\"/bin/sh\"]?",
        ),
        ("url = \"https://a.example\"\nnane = \"x\"", "3:1 unknown key `nane` | did you mean `name`?"),
        (
            "url = \"https://a.example\"\ntoken_header = \"X\"",
            "3:16 `token_header` says where the token of `token_file` goes, and there is none",
        ),
        ("url = \"http://a.example\"\nca_file = \"authority\"", "3:11 `ca_file` is for https"),
        (
            "url = \"https://a.example\"\nca_file = \"token\"",
            "3:11 `ca_file` `token`: it holds no certificate in PEM form",
        ),
    ] {
        let result = load(&format!("[[alerts]]\n{keys}\n"));
        assert_eq!(errors(&result), [format!("steerd.toml:{expected}")], "\n{keys}");
    }
    let twice =
        load("[[alerts]]\nurl = \"https://a.example/1\"\n[[alerts]]\nurl = \"https://a.example/2\"\n");
    assert_eq!(errors(&twice), ["steerd.toml:3:1 alert `a.example` is defined twice"]);
    let single = load("[alerts]\nurl = \"https://a.example/1\"\n");
    assert_eq!(
        errors(&single),
        [
            "steerd.toml:1:1 `alerts` must be a list of tables; this is a table | write [[alerts]], in double brackets"
        ]
    );
    let plain = load("[[alerts]]\nurl = \"http://a.example/1\"\ntoken_file = \"token\"\n").unwrap();
    let warnings: Vec<String> = plain.warnings.warnings().map(told).collect();
    assert!(warnings.iter().any(|warning| warning.contains("sent without encryption")), "{warnings:?}");
}
