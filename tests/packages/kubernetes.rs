//! The manifests for Kubernetes: valid for its schemas, with a configuration that runs in the image as they say.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::image::Container;
use crate::support::traffic::Sent;
use crate::support::{Process, dig, http_get, wait_for};
use crate::{namespace, output, source};

/// Prints the documents of a file as JSON, after their validation for several versions.
const VALIDATE: &str = "
import json, sys, yaml, kubernetes_validate
documents = [document for document in yaml.safe_load_all(open(sys.argv[1])) if document]
for document in documents:
    for version in sys.argv[2:]:
        kubernetes_validate.validate(document, version, strict=True)
print(json.dumps(documents))
";

/// The oldest and the newest version whose schemas are tried.
const VERSIONS: [&str; 2] = ["1.30", "1.36"];

fn python() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-packages/bin/python")
}

fn validate(file: &Path) -> Command {
    let mut command = Command::new(python());
    command.args(["-c", VALIDATE]).arg(file).args(VERSIONS);
    command
}

/// The objects, which are valid.
fn objects() -> Vec<Value> {
    serde_json::from_str(&output(&mut validate(&source("packaging/kubernetes/steerd.yaml")))).unwrap()
}

fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
fn they_are_valid_and_a_mistake_is_found() {
    let objects = objects();
    assert_eq!(objects.len(), 4, "{objects:#?}");
    let text = std::fs::read_to_string(source("packaging/kubernetes/steerd.yaml")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let wrong = directory.path().join("wrong.yaml");
    std::fs::write(&wrong, text.replace("replicas:", "replicsa:")).unwrap();
    let refused = validate(&wrong).output().unwrap();
    assert!(!refused.status.success() && crate::text(&refused.stderr).contains("replicsa"), "{refused:?}");
}

#[test]
fn they_say_what_is_promised() {
    let objects = objects();
    let deployment = &object(&objects, "Deployment")["spec"];
    assert_eq!(deployment["replicas"], 2);
    let pod = &deployment["template"];
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    for kind in ["Service", "PodDisruptionBudget"] {
        let selector = &object(&objects, kind)["spec"]["selector"];
        let selected = if kind == "Service" { selector } else { &selector["matchLabels"] };
        assert_eq!(selected, &pod["metadata"]["labels"], "{kind}");
    }
    assert_eq!(object(&objects, "PodDisruptionBudget")["spec"]["minAvailable"], 1);
    let ports = object(&objects, "Service")["spec"]["ports"].as_array().unwrap();
    for protocol in ["UDP", "TCP"] {
        let port = ports.iter().find(|port| port["protocol"] == protocol).unwrap();
        assert_eq!(port["port"], 53);
        let named =
            container["ports"].as_array().unwrap().iter().find(|named| named["name"] == port["targetPort"]);
        assert_eq!(named.unwrap()["protocol"], protocol);
    }
}

/// Writes files as Kubernetes mounts them: links to links, so that all change at once.
fn mount(directory: &Path, files: &[(&str, &str)], version: &str) {
    let new = directory.join(version);
    std::fs::create_dir_all(&new).unwrap();
    for (name, text) in files {
        std::fs::write(new.join(name), text).unwrap();
        let link = directory.join(name);
        if !link.is_symlink() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    let _ = std::fs::remove_file(directory.join("..new"));
    symlink(version, directory.join("..new")).unwrap();
    std::fs::rename(directory.join("..new"), directory.join("..data")).unwrap();
}

#[test]
fn the_configuration_runs_in_the_image_as_the_deployment_says() {
    namespace::run_with_users(
        "kubernetes::the_configuration_runs_in_the_image_as_the_deployment_says",
        || {
            let objects = objects();
            let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            let data = object(&objects, "ConfigMap")["data"].as_object().unwrap();
            let files: Vec<(&str, &str)> =
                data.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap())).collect();
            // On this machine backends of the example are not reachable; their place is taken by this network.
            let outside = tempfile::tempdir().unwrap();
            let config = outside.path().join("config");
            mount(&config, &files, "..1");
            let token = outside.path().join("token");
            mount(&token, &[("token", "0123456789abcdef0123456789abcdef")], "..1");
            // The user of the container reads them.
            let users = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(outside.path(), users).unwrap();
            let image = Container::new(|root| {
                for mounted in container["volumeMounts"].as_array().unwrap() {
                    let from = if mounted["name"] == "config" { &config } else { &token };
                    let at = root.path(mounted["mountPath"].as_str().unwrap());
                    std::fs::create_dir_all(&at).unwrap();
                    output(Command::new("mount").arg("--bind").arg(from).arg(&at));
                }
            });
            let mut running: Process = image.start();
            wait_for("DNS is answered", || {
                assert!(running.is_running(), "steerd ended: {:?}", running.said(""));
                running.said("DNS is answered").pop()
            });
            let port = |name: &Value| {
                let ports = container["ports"].as_array().unwrap();
                let port = ports.iter().find(|port| &port["name"] == name).unwrap();
                u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap()
            };
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let request = &container[probe]["httpGet"];
                let admin = ([127, 0, 0, 1], port(&request["port"])).into();
                assert_eq!(http_get(admin, request["path"].as_str().unwrap()).0, 200, "{probe}");
            }
            let dns = ([127, 0, 0, 1], port(&"dns-udp".into())).into();
            // All fail, so the service fails open.
            assert_eq!(dig(dns, &Sent::default(), &["www.lb.example.com"]).len(), 2);
            // A changed ConfigMap takes effect by a reload.
            let changed: Vec<(&str, String)> = files
                .iter()
                .map(|(name, text)| (*name, text.replace("answers = 2", "answers = 1")))
                .collect();
            let changed: Vec<(&str, &str)> =
                changed.iter().map(|(name, text)| (*name, text.as_str())).collect();
            mount(&config, &changed, "..2");
            let told = output(&mut image.command(&["/usr/bin/steerd".into(), "reload".into()]));
            assert!(told.contains("answers"), "{told}");
            assert_eq!(dig(dns, &Sent::default(), &["www.lb.example.com"]).len(), 1);
            running.signal("TERM");
            assert_eq!(running.ended(), Some(0));
        },
    );
}
