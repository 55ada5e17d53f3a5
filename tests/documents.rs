//! Checks that the examples in the documents match the program.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::path::Path;

/// Every document for users and developers.
fn documents() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec!["README.md".to_owned()];
    for directory in ["docs", "docs/guides", "examples/clients", "examples/monitoring"] {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        found
            .extend(names.filter(|name| has_extension(name, "md")).map(|name| format!("{directory}/{name}")));
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The contents of the fenced blocks marked `language`.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

fn has_extension(name: &str, expected: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == expected)
}

/// The zone files in a document, each with the name that the text before it gives in backticks.
fn zones(document: &str) -> Vec<(&str, &str)> {
    let mut zones = Vec::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once("```zone\n") {
        let name =
            before.rsplit('`').find(|text| has_extension(text, "zone")).expect("a zone file has a name");
        let (zone, further) = after.split_once("```").unwrap();
        zones.push((name, zone));
        rest = further;
    }
    zones
}

#[test]
fn every_configuration_shown_loads() {
    let paths = documents();
    let documents: Vec<String> = paths.iter().map(|path| read(path)).collect();
    let zones: Vec<_> = documents.iter().flat_map(|text| zones(text)).collect();
    let mut shown = 0;
    for (path, text) in paths.iter().zip(&documents) {
        for block in blocks(text, "toml") {
            let directory = tempfile::tempdir().unwrap();
            let config = directory.path().join("steerd.toml");
            fs::write(&config, block).unwrap();
            for (name, zone) in &zones {
                fs::write(directory.path().join(name), zone).unwrap();
            }
            fs::write(directory.path().join("pagerduty.key"), "0123456789abcdef0123456789abcdef\n").unwrap();
            if let Err(faults) = steerd::config::load(&config) {
                panic!("a configuration in {path}:\n{}", faults.render(false));
            }
            shown += 1;
        }
    }
    assert!(shown > 0, "no document shows a configuration");
}

/// The first configuration that a newcomer sees is a file in the repository, so both work unchanged.
#[test]
fn the_first_configuration_shown_is_the_quickstart() {
    let readme = read("README.md");
    let without_comments = |path: &str, sign: &str| {
        let text = read(path);
        text.split_inclusive('\n')
            .skip_while(|line| line.starts_with(sign) || *line == "\n")
            .collect::<String>()
    };
    assert_eq!(blocks(&readme, "toml")[0], without_comments("config/quickstart.toml", "#"));
    let (name, zone) = zones(&readme)[0];
    assert_eq!(name, "quickstart.test.zone");
    assert_eq!(zone, without_comments("config/quickstart.test.zone", ";"));
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for path in documents() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
        for link in read(&path).split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let target = directory.parent().unwrap().join(link);
            assert!(link.contains("://") || target.exists(), "{path} links to {link}, which is not there");
        }
    }
}

/// The rows of the table that follows, as cells.
fn rows(after: &str) -> Vec<Vec<&str>> {
    let lines =
        after.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn percent(text: &str) -> f64 {
    text.strip_suffix(" %").expect("a percentage").parse::<f64>().unwrap() / 100.0
}

#[test]
fn the_shares_in_the_examples_are_those_of_the_draw() {
    use steerd::selection::{Candidate, Spread, probabilities};
    let document = read("docs/STEERING.md");
    let mut checked = 0;
    for (start, _) in document.match_indices("ith `answers = ") {
        let after = &document[start..];
        let quoted: Vec<&str> = after.split('`').skip(1).step_by(2).take(2).collect();
        let answers = quoted[0].strip_prefix("answers = ").unwrap().parse().unwrap();
        let spread = match quoted[1] {
            "spread = \"shares\"" => Spread::Shares,
            "spread = \"always\"" => Spread::Always,
            other => panic!("{other}"),
        };
        let rows = rows(after);
        let (head, backends) = (&rows[0], &rows[2..]);
        assert_eq!(head[..], ["backend", "weight", "site", "in the answer", "first"]);
        let site = |index: usize| {
            let same = |row: &Vec<&str>| row[2] == backends[index][2];
            if backends[index][2].is_empty() { index } else { backends.iter().position(same).unwrap() }
        };
        let candidates: Vec<Candidate> = (0..backends.len())
            .map(|index| Candidate {
                weight: backends[index][1].parse().unwrap(),
                site: u32::try_from(site(index)).unwrap(),
            })
            .collect();
        for (row, probability) in backends.iter().zip(probabilities(&candidates, answers, spread)) {
            let told = (percent(row[3]), percent(row[4]));
            let exact = (probability.included.as_float(), probability.first.as_float());
            assert!((told.0 - exact.0).abs() < 1e-9 && (told.1 - exact.1).abs() < 1e-9, "{row:?}: {exact:?}");
            checked += 1;
        }
    }
    assert_eq!(checked, 13);
}

/// The rows of the first table after a text.
fn table_after<'d>(document: &'d str, text: &str) -> Vec<Vec<&'d str>> {
    let (_, after) =
        document.split_once(text).unwrap_or_else(|| panic!("the document does not say {text:?}"));
    rows(after).split_off(2)
}

#[test]
fn the_figures_of_the_persistent_example_are_those_of_the_ranking() {
    use steerd::selection::{Candidate, CandidateKey, ClientKey, Ranking, Spread};
    let document = read("docs/STEERING.md");
    let figures = table_after(&document, "An example: a pool has web1, web2 and web3");
    let keys: Vec<CandidateKey> = figures.iter().map(|row| CandidateKey::new(row[0], 0)).collect();
    let candidates = figures.iter().map(|row| Candidate { weight: row[1].parse().unwrap(), site: 0 });
    let ranking = Ranking::new(keys.iter().copied().zip(candidates.clone()), 1, Spread::Off);
    let client = ClientKey::new("192.0.2.0/24".parse().unwrap());
    assert!(document.contains(&format!("A client in 192.0.2.0/24 has the key {:016x}", client.0)));
    let ranked = ranking.of_client(client);
    for (index, row) in figures.iter().enumerate() {
        let rank = ranked.iter().position(|ranked| ranked.index as usize == index).unwrap();
        #[allow(clippy::cast_precision_loss, reason = "shown with four digits")]
        let logarithm = ranked[rank].logarithm as f64 / 2_f64.powi(56);
        let score = logarithm / f64::from(ranked[rank].weight);
        let exact = [
            format!("{:016x}", keys[index].0),
            format!("{logarithm:.4}"),
            format!("{score:.4}"),
            (rank + 1).to_string(),
        ];
        assert_eq!(row[2..], exact.each_ref().map(String::as_str), "{}", row[0]);
    }
    let clients = table_after(&document, "Other clients of this pool:");
    for row in &clients {
        let ranked = ranking.of_client(ClientKey::new(row[0].parse().unwrap()));
        let names = ranked.iter().map(|ranked| figures[ranked.index as usize][0]);
        assert!(names.eq(row[1..].iter().copied()), "{row:?}");
    }
    assert_eq!((figures.len(), clients.len()), (3, 3));
    let total: u32 = candidates.clone().map(|candidate| candidate.weight).sum();
    let shares = candidates.map(|candidate| 100.0 * f64::from(candidate.weight) / f64::from(total));
    let told =
        shares.map(|share| format!("{share:.2}").trim_end_matches('0').trim_end_matches('.').to_owned());
    let told: Vec<String> =
        figures.iter().zip(told).map(|(row, share)| format!("{} {share} %", row[0])).collect();
    let sentence = document.split_once("Here web1 gets").unwrap().1.split_once(" of them").unwrap().0;
    assert_eq!(format!("web1{sentence}"), format!("{}, {} and {}", told[0], told[1], told[2]));
}

/// The page for an attack has the limits that are in force.
#[test]
fn the_limits_on_clients_are_those_of_the_program() {
    use steerd::listener::{MOST_WAITING, TcpLimits, pressure, rate_limit};
    use steerd::metrics::LimitKind;
    let document = read("docs/LIMITS.md");
    let TcpLimits { connections, idle } = TcpLimits::default();
    let grouped = |number: usize| format!("{},{:03}", number / 1000, number % 1000);
    for text in [
        format!("at least {} replies or connections in a second", pressure::LEAST),
        format!("after {} s with less", pressure::QUIET.as_secs()),
        format!("/{} of IPv4 and /{} of IPv6", rate_limit::IPV4_PREFIX, rate_limit::IPV6_PREFIX),
        format!("{} accounts", grouped(rate_limit::SLOTS)),
        format!("`[server] tcp_connections`, {}; a client network may hold a tenth", grouped(connections)),
        format!("`tcp_idle`, {} s", idle.as_secs()),
        format!("{} connections may wait for their client to read", grouped(MOST_WAITING)),
    ] {
        assert!(document.contains(&text), "docs/LIMITS.md does not say: {text}");
    }
    for limit in LimitKind::ALL {
        assert!(document.contains(&format!("`{}`", limit.as_str())), "docs/LIMITS.md has no {limit:?}");
    }
}

/// The output of `steerd plan` with these arguments.
fn planned(arguments: &str) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_steerd"));
    let output = command.arg("plan").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "steerd plan {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_figures_of_sizing_are_those_of_the_command() {
    let document = read("docs/SIZING.md");
    let command = blocks(&document, "sh")[0].trim().strip_prefix("steerd plan ").unwrap();
    assert_eq!(blocks(&document, "text")[0].trim_end(), planned(command).trim_end());

    let tables: Vec<&str> = document.split("| `steerd plan` with |").skip(1).collect();
    let mut checked = 0;
    for table in tables {
        let rows = rows(table.split_once('\n').unwrap().1).split_off(1);
        for row in rows {
            let arguments = row[0].trim_matches('`');
            let line = |more: &str, start: &str| {
                let text = planned(&format!("{arguments} {more}"));
                let found =
                    text.lines().map(str::trim).find(|line| line.starts_with(start)).map(str::to_owned);
                found.unwrap_or_else(|| panic!("{arguments} {more}: no line {start}"))
            };
            let last = |line: &str, count: usize| {
                let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                words[words.len() - count..].to_vec()
            };
            let expected: Vec<String> = if arguments.contains("--backends") {
                let start = if arguments.contains("--sites") { "site 1" } else { "any" };
                let part = |answers: usize| {
                    line(&format!("--answers {answers}"), start).split_once(": ").unwrap().1.to_owned()
                };
                (1..=4).map(part).collect()
            } else if arguments.contains("--ttl") {
                let queries = line("", "10000 clients");
                let queries = queries.split_once(": ").unwrap().1.split(' ').next().unwrap().to_owned();
                let moved = last(&line("", "after the answers have changed"), 3);
                moved.into_iter().chain([queries]).collect()
            } else {
                ["a backend that refuses", "a backend that is silent"]
                    .map(|start| last(&line("", start), 2).join(", "))
                    .to_vec()
            };
            assert_eq!(row[1..], expected, "{arguments}");
            checked += expected.len();
        }
    }
    assert_eq!(checked, 64);
}
