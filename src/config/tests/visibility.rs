//! Faults of `query_log` and `dnstap`.

use super::one_error;

#[test]
fn of_the_query_log_and_dnstap() {
    let rate =
        "`sample` must be a percentage from \"0%\" to \"100%\" with at most four decimals, such as \"0.1%\"";
    let long = format!("dnstap = {{ socket = \"/{}\" }}", "x".repeat(107));
    for (text, expected) in [
        ("query_log = { sample = \"1%\" }", "2:1 query_log has no `file`"),
        ("query_log = { file = \"q\", sample = \"1\" }", &format!("2:36 {rate}")),
        ("query_log = { file = \"q\", sample = \"101%\" }", &format!("2:36 {rate}")),
        ("dnstap = { identity = \"a\" }", "2:1 dnstap has no `socket`"),
        (
            "dnstap = { socket = \"/tap\", identity = \"\" }",
            "2:40 `identity` must be a text of 1 to 255 bytes",
        ),
        (&long, "2:21 `socket` must be the path of a Unix socket, of at most 107 bytes; this has 108"),
    ] {
        one_error(&format!("[server]\n{text}\n"), expected);
    }
}
