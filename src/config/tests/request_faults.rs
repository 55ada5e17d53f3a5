//! Faults in the requests and expectations of checks.

use super::{in_check, load_with_rest, one_error};

/// As [`in_check`], for an http check with one more key, whose value begins at column 35.
fn in_http(key: &str, value: &str, expected: &str) {
    // Pads the key, so that the value is always at the same column.
    let space = " ".repeat(9 - key.len().min(9));
    let column = 26 + space.len() + key.len() + 3;
    in_check(&format!("{{ type = \"http\",{space} {key} = {value} }}"), &format!("2:{column} {expected}"));
}

#[test]
fn methods_and_headers() {
    in_http("method", "\"get\"", "`method` must be written as servers know it | did you mean \"GET\"?");
    in_http("method", "\"A B\"", "`method` must be a method such as \"GET\" or \"HEAD\"; this is `A B`");
    in_http("method", "\"\"", "`method` must be a method such as \"GET\" or \"HEAD\"; this is ``");
    for connect in ["CONNECT", "connect"] {
        in_http(
            "method",
            &format!("\"{connect}\""),
            "CONNECT asks for a tunnel, and its outcome says nothing about the backend",
        );
    }
    in_http(
        "headers",
        "[]",
        "`headers` must be a table of headers, such as { Accept = \"text/plain\" }; this is a list",
    );
    let many: Vec<String> = (0..33).map(|number| format!("h{number} = \"\"")).collect();
    in_http(
        "headers",
        &format!("{{ {} }}", many.join(", ")),
        "`headers` must be a table of at most 32 headers; these are 33",
    );
    in_http("weight_header", "\"x load\"", "`x load` is not the name of a header");
    let header = |header: &str, expected: &str| {
        in_check(&format!("{{ type = \"http\", headers = {{ {header} }} }}"), &format!("2:{expected}"));
    };
    header(
        "Host = \"a\"",
        "38 the Host header is not set by `headers` | set `host` of the check: with https it is the name that the \
         certificate must have too",
    );
    header("Connection = \"a\"", "38 the probe itself decides about the header `connection`");
    header("Content-Length = \"1\"", "38 the probe itself decides about the header `content-length`");
    header("\"a b\" = \"c\"", "38 `a b` is not the name of a header");
    header("\"\" = \"c\"", "38 `` is not the name of a header");
    header("a = 1", "42 `a` must be the value of a header; this is an integer");
    header("a = \" b\"", "42 `a` must be without space at its ends: servers remove it");
    header("a = \"b\\nc\"", "42 '\\n' is not allowed in the value of a header");
    header("a = \"bäc\"", "42 'ä' is not allowed in the value of a header");
    header(&format!("a = \"{}\"", "b".repeat(1025)), "42 `a` must be at most 1024 bytes; this has 1025");
    header("Accept = \"b\", accept = \"c\"", "52 header `accept` is set already");
}

#[test]
fn bodies_and_sizes() {
    let what = "a table: { contains = \"a text\" }, { not_contains = \"a text\" } or { matches = \"an \
                expression\" }";
    in_http("body", "{}", &format!("`body` must be {what}"));
    in_http(
        "body",
        "\"ok\"",
        &format!("`body` must be {what}; this is a string | did you mean {{ contains = \"ok\" }}?"),
    );
    let body = |body: &str, expected: &str| {
        in_check(&format!("{{ type = \"http\", body = {{ {body} }} }}"), &format!("2:{expected}"));
    };
    body("contains = \"a\", matches = \"b\"", "51 `body` has `contains` or `matches`, not both");
    body("contains = \"a\", not_matches = \"b\"", "51 `body` has `contains` or `not_matches`, not both");
    body("contain = \"a\"", "35 unknown key `contain` | did you mean `contains`?");
    body("contains = \"\"", "46 `contains` must be a text of 1 to 4096 bytes; this has 0");
    body("matches = 1", "45 `matches` must be a regular expression; this is an integer");
    body("matches = \"(\"", "46 this is not a regular expression that can be used: unclosed group");
    let size = "`body_limit` must be a size with a unit, such as \"512B\", \"64KiB\" or \"1MiB\"";
    in_http("body_limit", "512", &format!("{size}; this is an integer | did you mean \"512B\"?"));
    in_http("body_limit", "\"512\"", &format!("{size} | did you mean \"512B\"?"));
    in_http("body_limit", "\"64 KB\"", &format!("{size} | did you mean \"64KiB\"?"));
    in_http("body_limit", "\"1.5MiB\"", size);
    in_http("body_limit", "\"KiB\"", size);
    for value in ["0B", "1048577B", "2MiB", "99999999999999999999B", "18446744073709551615KiB"] {
        in_http("body_limit", &format!("\"{value}\""), "`body_limit` must be from 1B to 1MiB");
    }
    in_http("http_version", "\"1\"", "`http_version` must be \"1.1\" or \"2\"");
}

/// The caret marks the wrong part of the expression, in every notation for strings.
#[test]
fn expressions_are_shown_where_they_are_wrong() {
    let expect = |written: &str, column: usize, under: &str, reason: &str| {
        let text = format!("{{ type = \"tcp\", port = 1, expect = {written} }}");
        in_check(&text, &format!("2:{column} this is not a regular expression that can be used: {reason}"));
        let faults =
            load_with_rest(&format!("[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {text}\n")).unwrap_err();
        let location = &faults.errors().next().unwrap().location;
        assert_eq!(&location.text[location.span.clone()], under, "{written}");
    };
    expect("\"ab(c\"", 47, "(", "unclosed group");
    expect("'ab(c'", 47, "(", "unclosed group");
    expect("'\\d+(c'", 48, "(", "unclosed group");
    expect("\"\\\\d+(c\"", 49, "(", "unclosed group");
    expect("\"\\u00e4(c\"", 51, "(", "unclosed group");
    expect("'a{2,1}'", 46, "{2,1}", "invalid repetition count range, the start must be <= the end");
    expect("'\\p{Nothing}'", 45, "\\p{Nothing}", "Unicode property not found");
    expect("'(\\w{999}){999}'", 44, "'(\\w{999}){999}'", "compiled it takes more than 1048576 bytes");
}

#[test]
fn an_expression_of_several_lines_is_shown_as_a_whole() {
    let text = "[pools.x]\nbackends = [\"192.0.2.1\"]\n[pools.x.check]\ntype = \"tcp\"\nport = 1\nexpect = '''\na(b'''\n";
    one_error(text, "6:10 this is not a regular expression that can be used: unclosed group");
}

#[test]
fn send_and_expect() {
    let tcp = |key: &str, value: &str, expected: &str| {
        in_check(&format!("{{ type = \"tcp\", port = 1, {key} = {value} }}"), &format!("2:{expected}"));
    };
    tcp("send", "\"\"", "42 `send` must be the text to send of 1 to 4096 bytes; this has 0");
    tcp("send", "[1]", "42 `send` must be the text to send; this is a list");
    tcp("expect", "\"\"", "44 `expect` must be a regular expression of 1 to 4096 bytes; this has 0");
    let long = "a".repeat(4097);
    tcp(
        "send",
        &format!("\"{long}\""),
        "42 `send` must be the text to send of 1 to 4096 bytes; this has 4097",
    );
}

/// Binary metadata of gRPC must be base64.
#[test]
fn binary_metadata_is_base64() {
    let check = |value: &str| {
        format!("{{ type = \"grpc\", port = 1, headers = {{ trace-bin = \"{value}\", plain = \"a b\" }} }}")
    };
    for value in ["AQID", "AQI=", "AQI", "AQID,AQI=", ""] {
        let text = format!("[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {}\n", check(value));
        assert!(load_with_rest(&text).is_ok(), "{value}");
    }
    for value in ["a b", "AQI==", "A", "A_-="] {
        in_check(
            &check(value),
            "2:46 the value of `trace-bin` is not base64, as that of metadata whose name ends in -bin must be | write \
             the bytes in base64, as `base64 -w0` prints them",
        );
    }
}
