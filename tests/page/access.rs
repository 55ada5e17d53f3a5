//! Everyone can use the page: by keyboard alone, with a screen reader, in both themes, and on a phone.

use std::path::Path;

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::scene::{Site, row};
use crate::tab::{ENTER, SPACE, TAB, Tab, Theme};

/// The faults that axe-core finds in the page as it is shown.
pub(crate) fn assert_no_violations(tab: &Tab<'_>, what: &str) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page/node_modules/axe-core/axe.min.js");
    let axe = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; tests/run installs what the tests need", path.display())
    });
    if tab.eval("return typeof axe") != json!("object") {
        tab.eval(&axe);
    }
    let found = tab.eval_async(
        "axe.run(document, { resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
             .then(({ violations }) => done(violations.map(({ id, help, nodes }) =>
                 [id, help, nodes.slice(0, 3).map(({ html, failureSummary }) => [html.slice(0, 200), failureSummary])])),
                 (error) => done([String(error)]))",
    );
    assert_eq!(found, json!([]), "{what}: {found:#}");
}

#[test]
fn axe_finds_nothing_in_either_theme_with_trouble_details_and_dialogs() {
    let mut site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    site.kill(2);
    let drain = json!({"state": "drain", "reason": "kernel", "for": "1h"}).to_string();
    assert_eq!(site.server.request("PUT", "/api/v1/pools/web/backends/gw3/override", &drain).0, 200);
    tab.wait_for_text("#trouble", "gw2 of web is unhealthy");
    tab.click(&format!("{} button[data-action=detail]", row("gw2")));
    tab.click("#explain-form button");
    tab.wait_for_text("#explain-result", "Addresses drawn from web");
    for theme in [Theme::Light, Theme::Dark] {
        for (width, height) in [(1400, 1000), (360, 800)] {
            tab.show_as(theme, width, height);
            assert_no_violations(&tab, &format!("{theme:?}, {width} px"));
        }
    }
    tab.show_as(Theme::Light, 1400, 1000);
    tab.click(&format!("{} button[data-action=drain]", row("gw1")));
    tab.wait_for_text("#change-consequences", "Pool");
    for theme in [Theme::Light, Theme::Dark] {
        tab.show_as(theme, 1400, 1000);
        assert_no_violations(&tab, &format!("{theme:?}, a dialog"));
    }
    tab.assert_quiet(&[]);
}

/// From the top of the page to a drained backend and back, with Tab, Space and Enter only.
#[test]
fn a_backend_is_drained_by_keyboard_alone() {
    let site = Site::start("");
    let browser = Browser::shared();
    let tab = site.open(&browser);
    let reach = |what: &str, script: &str| {
        for _ in 0..60 {
            tab.keys(TAB);
            // The focus must be visible wherever it goes.
            let outline = "const style = getComputedStyle(document.activeElement); return style.outlineStyle !== 'none'";
            assert_eq!(
                tab.eval(outline),
                json!(true),
                "{:?}",
                tab.eval("return document.activeElement.outerHTML")
            );
            if tab.eval(script) == json!(true) {
                return;
            }
        }
        panic!("{what} is not reached by Tab");
    };
    reach("the link to skip", "return document.activeElement.className === 'skip'");
    reach("the button", "return document.activeElement.ariaLabel === 'Drain web/gw1'");
    tab.keys(ENTER);
    tab.wait_for_text("#change-consequences", "New answers leave gw1 out");
    assert_eq!(tab.eval("return document.activeElement.value"), json!("drain"), "the focus is in the dialog");
    // Arrows choose among the states, and each is told.
    tab.keys("\u{e015}");
    tab.wait_for_text("#change-submit", "Disable gw1");
    tab.keys("\u{e013}");
    tab.wait_for_text("#change-submit", "Drain gw1");
    tab.wait("the button is ready", "return !document.querySelector('#change-submit').disabled");
    reach("the button of the dialog", "return document.activeElement.id === 'change-submit'");
    tab.keys(ENTER);
    tab.wait_for_text(&row("gw1"), "drain (healthy)");
    let focused = tab.eval("return document.activeElement.closest('tr')?.dataset.backend");
    assert_eq!(focused, json!("gw1"), "the focus returns");
    tab.keys(ENTER);
    tab.wait_for_text("#change-submit", "End the override");
    tab.wait("the button is ready", "return !document.querySelector('#change-submit').disabled");
    reach("the button of the dialog", "return document.activeElement.id === 'change-submit'");
    tab.keys(SPACE);
    tab.wait_for_text(&row("gw1"), "Drain…");
    tab.assert_quiet(&[]);
}

#[test]
fn nothing_is_wider_than_a_phone() {
    let mut site = Site::start("");
    site.kill(2);
    let browser = Browser::shared();
    let tab = site.open(&browser);
    let reason = json!({"state": "drain", "reason": "a-reason-without-any-space".repeat(7)}).to_string();
    assert_eq!(site.server.request("PUT", "/api/v1/pools/web/backends/gw3/override", &reason).0, 200);
    tab.wait_for_text(&row("gw3"), "a-reason-without");
    tab.click(&format!("{} button[data-action=detail]", row("gw2")));
    tab.click("#explain-form button");
    tab.wait_for_text("#explain-result", "Addresses drawn from web");
    for width in [360, 700, 1000, 1400] {
        tab.show_as(Theme::Light, width, 800);
        let wider = tab.eval(
            "return [...document.querySelectorAll('body *')].filter((node) => node.checkVisibility() && node.closest('.visually-hidden, thead') === null
                 && node.getBoundingClientRect().right > innerWidth + 0.5).map((node) => node.outerHTML.slice(0, 150))",
        );
        assert_eq!(wider, json!([]), "{width} px");
        assert_eq!(tab.eval("return document.documentElement.scrollWidth"), json!(width));
    }
    tab.show_as(Theme::Light, 360, 640);
    tab.click(&format!("{} button[data-action=drain]", row("gw1")));
    tab.wait_for_text("#change-consequences", "leave gw1 out");
    let inside = "const box = document.querySelector('#change-dialog').getBoundingClientRect();
        return box.left >= 0 && box.right <= 360 && box.top >= 0 && box.bottom <= 640";
    assert_eq!(tab.eval(inside), json!(true), "the dialog fits");
    tab.assert_quiet(&[]);
}

/// The nodes of the accessibility tree that are not ignored: role and name.
fn tree(tab: &Tab<'_>) -> Vec<(String, String)> {
    tab.cdp("Accessibility.enable", &json!({}));
    let told = tab.cdp("Accessibility.getFullAXTree", &json!({}));
    let text = |node: &Value, key: &str| node[key]["value"].as_str().unwrap_or_default().to_owned();
    let nodes = told["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] != json!(true));
    nodes.map(|node| (text(node, "role"), text(node, "name"))).collect()
}

#[test]
fn a_screen_reader_is_told_the_structure() {
    let mut site = Site::start("");
    site.kill(2);
    let browser = Browser::shared();
    let tab = site.open(&browser);
    tab.wait_for_text("#trouble", "gw2 of web is unhealthy");
    tab.wait_for_text("#events-list", "backend is unhealthy");
    for width in [1400, 360] {
        tab.show_as(Theme::Light, width, 900);
        let tree = tree(&tab);
        let is_there =
            |role: &str, name: &str| tree.iter().any(|node| node.0 == role && node.1.starts_with(name));
        for (role, name) in [
            ("banner", ""),
            ("navigation", "Sections"),
            ("main", ""),
            ("region", "State"),
            ("list", "Trouble and notices"),
            ("region", "Services"),
            ("table", "Services, with the pool that answers for each"),
            ("region", "Pools"),
            ("search", ""),
            ("searchbox", "Filter"),
            ("region", "web"),
            ("button", "web"),
            ("table", "Backends of web"),
            ("columnheader", "Last probes"),
            ("rowheader", "gw1"),
            ("button", "Drain web/gw1"),
            ("button", "Change web/gw1"),
            ("image", "Last "),
            ("region", "Events"),
            ("region", "Explain an answer"),
            ("combobox", "Name"),
        ] {
            assert!(is_there(role, name), "{width} px: no {role} {name:?} in {tree:#?}");
        }
        let levels = "return [...document.querySelectorAll('h1, h2, h3')].filter((node) => node.checkVisibility()).map((node) => node.tagName).join('')";
        assert_eq!(tab.eval(levels), json!("H1H2H2H2H3H3H2H2"), "the headings are an outline");
        let cells =
            tree.iter().filter(|(role, _)| matches!(&**role, "cell" | "gridcell" | "rowheader")).count();
        assert!(cells >= 4 * 7 + 6, "{width} px: rows keep their cells: {cells}");
    }
    // States are told by words and marks, not by colours alone.
    assert!(tab.text(&row("gw2")).contains("unhealthy"));
    tab.assert_quiet(&[]);
}
