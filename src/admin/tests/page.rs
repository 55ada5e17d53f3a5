//! The files of the status page, and their headers.

use super::*;

/// The paths that a text of the page names, as `from "./name.js"` or `"page/name"`.
fn named(text: &str) -> Vec<String> {
    let scripts = text.split("from \"./").skip(1).filter_map(|rest| rest.split('"').next());
    let files = text.split("\"page/").skip(1).filter_map(|rest| rest.split('"').next());
    scripts.chain(files).map(|name| format!("/page/{name}")).collect()
}

#[tokio::test]
async fn each_file_that_the_page_names_is_there_for_everyone() {
    let fixture = start(None);
    let (mut seen, mut next) = (Vec::new(), vec!["/".to_owned()]);
    while let Some(path) = next.pop() {
        let (head, text) = fixture.request("GET", &path).await;
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        for (name, value) in [
            ("content-security-policy", "default-src 'none'; script-src 'self'; style-src 'self'; "),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("content-type", "text/"),
        ] {
            assert!(head.contains(&format!("{name}: {value}")), "{path}: {head}");
        }
        assert!(!head.contains("unsafe") && !head.contains("access-control"), "{path}: {head}");
        assert!(
            !text.contains("://") || path == "/" || text.contains("www.w3.org"),
            "{path} names another host"
        );
        assert!(!text.contains("innerHTML") && !text.contains("eval("), "{path}");
        seen.push(path);
        next.extend(named(&text).into_iter().filter(|path| !seen.contains(path)));
        next.sort();
        next.dedup();
    }
    let scripts = std::fs::read_dir("src/admin/page").unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        [".js", ".css", ".html"].iter().any(|end| name.to_str().unwrap().ends_with(end))
    });
    assert_eq!(seen.len(), scripts.count(), "each file is named by the page: {seen:?}");
    for path in ["/page/", "/page/mod.rs", "/page/none.js", "/index.html"] {
        let (head, body) = fixture.request("GET", path).await;
        assert_problem(&head, &body, 404);
    }
    let (head, body) = fixture.send("POST", "/", "", Some("{}")).await;
    assert_problem(&head, &body, 405);
}

#[tokio::test]
async fn the_page_is_open_where_the_api_needs_the_token() {
    let tokens = vec![AdminToken::of_token_file(BearerToken::parse("0123456789abcdef").unwrap())];
    let access = Access { tokens, ..Access::default() };
    let fixture = start_at("0.0.0.0:0", access, Some(status("")));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: lb1\r\nConnection: close\r\n\r\n");
    let address = SocketAddr::new("127.0.0.1".parse().unwrap(), fixture.address.port());
    let fixture = Fixture { address, ..fixture };
    for (path, expected) in [("/", 200), ("/page/main.js", 200), ("/api/v1/status", 401), ("/metrics", 401)] {
        let (head, _) = fixture.exchange(&get(path)).await;
        assert!(head.starts_with(&format!("http/1.1 {expected} ")), "{path}: {head}");
    }
}
