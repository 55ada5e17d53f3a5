//! Every metric and label that the rules and the dashboard use exists in the metrics of a running server, and is in the
//! table of `docs/OPERATIONS.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::prometheus::Prometheus;
use crate::read;
use crate::support::{Steerd, http_get};

const ZONE: &str = "$TTL 300\n@ SOA ns1 hostmaster 1 3600 900 604800 2\n@ NS ns1\nns1 A 127.0.0.1\n";

/// The labels that Prometheus and its scrape configuration add, and those of buckets.
const ADDED: [&str; 5] = ["instance", "job", "cluster", "le", "alertstate"];

/// The metrics of a server, each with its labels.
type Metrics = BTreeMap<String, BTreeSet<String>>;

/// The table in the document.
fn documented() -> Metrics {
    let document = read("docs/OPERATIONS.md");
    let (_, table) = document.split_once("| metric | kind | labels | meaning |\n").unwrap();
    let mut metrics = Metrics::new();
    for row in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels: BTreeSet<String> =
            cells[3].split(',').map(str::trim).filter(|label| !label.is_empty()).map(str::to_owned).collect();
        for name in cells[1].split('`').skip(1).step_by(2) {
            metrics.insert(name.to_owned(), labels.clone());
        }
    }
    assert!(metrics.len() > 40, "the table was not understood");
    metrics
}

/// The families of a reply, and the labels of the series that they have.
fn shown(text: &str) -> (BTreeSet<String>, Metrics) {
    let (mut families, mut series) = (BTreeSet::new(), Metrics::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.insert(rest.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = family.filter(|family| families.contains(*family)).unwrap_or(name);
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name);
            let own = names.filter(|name| !ADDED.contains(name)).map(str::to_owned);
            series.entry(family.to_owned()).or_default().extend(own);
        }
    }
    (families, series)
}

/// The metrics in an expression, each with the labels that select its series; and the labels elsewhere in it.
fn used(expression: &str) -> (Metrics, BTreeSet<String>) {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let (mut metrics, mut labels) = (Metrics::new(), BTreeSet::new());
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let end = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        let list = |open: char, close: char| {
            let inside = after.trim_start().strip_prefix(open)?;
            inside.split_once(close)
        };
        if word.starts_with("steerd_") || word == "up" {
            let own = metrics.entry(word.to_owned()).or_default();
            if let Some((matchers, behind)) = list('{', '}') {
                let names = matchers.split(',').filter_map(|matcher| matcher.split(['=', '!']).next());
                own.extend(names.map(|name| name.trim().to_owned()));
                rest = behind;
            }
        } else if ["by", "on", "group_left", "ignoring"].contains(&word)
            && let Some((list, behind)) = list('(', ')')
        {
            labels.extend(list.split(',').map(|name| name.trim().to_owned()));
            rest = behind;
        }
    }
    (metrics, labels)
}

/// The labels between the braces of a legend or an annotation.
fn in_braces(text: &str) -> BTreeSet<String> {
    let words = text.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    words
        .filter_map(|word| {
            let word = word.trim();
            let label = word.strip_prefix("$labels.").or((!word.starts_with('$')).then_some(word))?;
            Some(label.split(' ').next().unwrap_or(label).to_owned())
        })
        .collect()
}

/// Every object of the dashboard that has an expression: the expression, and its legend.
fn queries(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            if let Some(expression) = members.get("expr").and_then(Value::as_str) {
                let legend = ["legendFormat", "textFormat"].iter().find_map(|key| members.get(*key));
                found.push((expression.into(), legend.and_then(Value::as_str).unwrap_or("").into()));
            }
            members.values().for_each(|value| queries(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| queries(value, found)),
        _ => {}
    }
}

fn faults(known: &Metrics, expression: &str, legend: &str) -> Vec<String> {
    let (metrics, labels) = used(expression);
    let mut faults = Vec::new();
    let mut of_expression: BTreeSet<String> = ADDED.iter().map(|&label| label.to_owned()).collect();
    for (name, selected) in &metrics {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let Some(own) = known.get(name).or_else(|| known.get(family?)) else {
            faults.push(format!("no metric {name}"));
            continue;
        };
        for label in selected.iter().filter(|label| !own.contains(*label) && !ADDED.contains(&label.as_str()))
        {
            faults.push(format!("{name} has no label {label}"));
        }
        of_expression.extend(own.iter().cloned());
    }
    for label in labels.iter().chain(&in_braces(legend)).filter(|label| !of_expression.contains(*label)) {
        faults.push(format!("no metric of the expression has a label {label}"));
    }
    faults
}

#[test]
fn every_metric_and_label_in_use_exists_in_a_running_server() {
    let config = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
                  [pools.web]\nbackends = [\"127.0.0.1\", \"127.0.0.2\"]\ncheck = \"tcp://:9\"\n\
                  [pools.standby]\nbackends = [\"127.0.0.3\"]\n\
                  [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\nfailback = \"manual\"\n";
    let steerd = Steerd::start(config, &[("zone", ZONE)]);
    for (path, body) in [
        ("pools/web/backends/127.0.0.1/override", "{\"state\": \"drain\"}"),
        ("pools/web/backends/127.0.0.2/weight", "{\"percent\": 50, \"for\": \"1h\"}"),
        ("services/www.lb.example.test/failover", "{\"pool\": \"standby\"}"),
    ] {
        let (status, reply) = steerd.request("PUT", &format!("/api/v1/{path}"), body);
        assert_eq!(status, 200, "{path}: {reply}");
    }
    let documented = documented();
    let text = http_get(steerd.admin, "/metrics").1;
    let end = |backend: &str| {
        let start =
            format!("steerd_backend_override_end_timestamp_seconds{{pool=\"web\",backend=\"{backend}\",");
        let line = text.lines().find(|line| line.starts_with(&start)).unwrap();
        let (kind, end) = line.trim_start_matches(&start).split_once(' ').unwrap();
        (kind.to_owned(), end.parse::<u64>().unwrap())
    };
    assert_eq!(end("127.0.0.1"), ("kind=\"state\"}".to_owned(), 0));
    let (kind, end) = end("127.0.0.2");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(kind == "kind=\"weight\"}" && (now + 3500..=now + 3600).contains(&end), "{kind} {end}");
    let (families, series) = shown(&text);
    let undocumented: Vec<&String> =
        families.iter().filter(|family| !documented.contains_key(*family)).collect();
    assert!(undocumented.is_empty(), "not in the table of docs/OPERATIONS.md: {undocumented:?}");
    let gone: Vec<&String> = documented.keys().filter(|name| !families.contains(*name)).collect();
    assert!(gone.is_empty(), "in the table of docs/OPERATIONS.md, but not in /metrics: {gone:?}");
    for (name, labels) in &series {
        assert_eq!(labels, &documented[name], "the labels of {name} in docs/OPERATIONS.md");
    }

    let prometheus = Prometheus::start(steerd.admin);
    let mut known = documented;
    known.insert("up".to_owned(), BTreeSet::new());
    let mut found = Vec::new();
    for rule in prometheus.rules() {
        let texts = ["summary", "description"].map(|text| rule["annotations"][text].as_str().unwrap());
        let expression = rule["query"].as_str().unwrap();
        found.extend(
            faults(&known, expression, &texts.concat())
                .into_iter()
                .map(|fault| format!("{expression}: {fault}")),
        );
    }
    let dashboard: Value = serde_json::from_str(&read("examples/monitoring/dashboard.json")).unwrap();
    let mut of_dashboard = Vec::new();
    queries(&dashboard, &mut of_dashboard);
    assert!(of_dashboard.len() > 40, "{} queries", of_dashboard.len());
    for (expression, legend) in &of_dashboard {
        found.extend(
            faults(&known, expression, legend).into_iter().map(|fault| format!("{expression}: {fault}")),
        );
        let mut query = expression.replace("$__rate_interval", "1m");
        for variable in ["$instance", "$service", "$pool"] {
            query = query.replace(variable, ".*");
        }
        assert!(!query.contains('$'), "{query}");
        prometheus.query(&query);
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let (metric, label) =
            query.strip_prefix("label_values(").unwrap().trim_end_matches(')').split_once(", ").unwrap();
        found.extend(faults(&known, &format!("{metric}{{{label}=\"\"}}"), ""));
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn an_unknown_metric_or_label_is_found() {
    let known = documented();
    for (expression, legend, expected) in [
        ("steerd_quries_total", "", "no metric steerd_quries_total"),
        ("rate(steerd_queries_total{rcode=\"NOERROR\"}[1m])", "", "steerd_queries_total has no label rcode"),
        ("sum by (pool) (steerd_queries_total)", "", "has a label pool"),
        ("steerd_pool_usable == 0", "{{backend}}", "has a label backend"),
        ("steerd_pool_usable == 0", "{{ $labels.backend }}", "has a label backend"),
    ] {
        let faults = faults(&known, expression, legend);
        assert!(faults.iter().any(|fault| fault.ends_with(expected)), "{expression}: {faults:?}");
    }
    let right = "sum by (instance, le) (rate(steerd_probe_lag_seconds_bucket{instance=~\"a\"}[1m]))";
    assert_eq!(faults(&known, right, "{{ $value | humanize }} {{instance}}"), [""; 0]);
}

/// Grafana imports a dashboard if its panels have a type, a place and a data source.
#[test]
fn the_dashboard_can_be_imported() {
    let dashboard: Value = serde_json::from_str(&read("examples/monitoring/dashboard.json")).unwrap();
    assert!(dashboard["id"].is_null() && dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    assert!(dashboard["uid"].as_str().is_some_and(|uid| !uid.is_empty() && uid.len() <= 40));
    let panels = dashboard["panels"].as_array().unwrap();
    let rows: Vec<&str> = panels
        .iter()
        .filter(|panel| panel["type"] == "row")
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    let readme = read("examples/monitoring/README.md");
    let (_, table) = readme.split_once("| row | shows |\n").unwrap();
    let listed: Vec<&str> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('|').nth(1).unwrap().trim())
        .collect();
    assert_eq!(rows, listed);
    let (mut ids, mut places) = (BTreeSet::new(), Vec::new());
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is taken");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}");
        let overlaps = |&(_, ox, oy, ow, oh): &(&str, u64, u64, u64, u64)| {
            x < ox + ow && ox < x + w && y < oy + oh && oy < y + h
        };
        assert!(!places.iter().any(overlaps), "{title} overlaps another panel");
        places.push((title, x, y, w, h));
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
            let targets = panel["targets"].as_array().unwrap();
            let refs: BTreeSet<&str> =
                targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
            assert_eq!(refs.len(), targets.len(), "{title}");
        }
    }
}
