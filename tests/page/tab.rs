//! A tab of the browser: scripts, clicks and keys, and what the page has complained of.

use std::path::Path;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::support::{PATIENCE, wait_for};

/// Notes what a page must never do, and how long its work takes.
const NOTES: &str = "window.notes = [];
    window.measures = [];
    new PerformanceObserver((list) => measures.push(...list.getEntries())).observe({ type: 'measure' });
    addEventListener('securitypolicyviolation', (event) => notes.push(`${event.violatedDirective} ${event.blockedURI}`));
    addEventListener('error', (event) => notes.push(event.message));
    addEventListener('unhandledrejection', (event) => notes.push(String(event.reason)));";

/// The member of a reply that names an element (`WebDriver`, section 12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";
pub(crate) const SPACE: &str = " ";

/// A theme of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

impl Theme {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// A tab, with the turn of the test; closed on drop.
pub(crate) struct Tab<'b> {
    browser: &'b Browser,
    first: Value,
    _turn: MutexGuard<'b, ()>,
}

impl<'b> Tab<'b> {
    /// Opens an empty tab of a desktop's size.
    pub(crate) fn new(browser: &'b Browser) -> Self {
        let turn = browser.turn();
        let first = browser.try_command("GET", "window", None).unwrap();
        let tab = Self { browser, first, _turn: turn };
        tab.renew();
        tab
    }

    /// Opens another tab in place of this one, as if a person closed it and came again.
    pub(crate) fn again(&self) {
        self.close();
        self.renew();
    }

    fn renew(&self) {
        let told = self.command("POST", "window/new", &json!({"type": "tab"}));
        self.command("POST", "window", &json!({"handle": told["handle"]}));
        self.cdp("Page.addScriptToEvaluateOnNewDocument", &json!({"source": NOTES}));
        self.show_as(Theme::Light, 1400, 1000);
        self.logged();
    }

    fn close(&self) {
        let _ = self.browser.try_command("DELETE", "window", None);
        let _ = self.browser.try_command("POST", "window", Some(&json!({"handle": self.first})));
    }

    /// Sets the theme and the size of the tab.
    pub(crate) fn show_as(&self, theme: Theme, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        let preference = json!({"name": "prefers-color-scheme", "value": theme.name()});
        self.cdp("Emulation.setEmulatedMedia", &json!({"features": [preference]}));
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.browser.try_command(method, path, Some(body)).unwrap()
    }

    /// A command of the developer tools.
    pub(crate) fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    pub(crate) fn go(&self, url: &str) {
        self.command("POST", "url", &json!({"url": url}));
    }

    /// Runs a script in each page that is loaded from now on, before the scripts of the page.
    pub(crate) fn before(&self, script: &str) {
        self.cdp("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    }

    /// The value of a script, which returns it.
    pub(crate) fn eval(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({"script": script, "args": []}))
    }

    /// The value of a script that calls `done` with it.
    pub(crate) fn eval_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.command("POST", "execute/async", &json!({"script": script, "args": []}))
    }

    /// The text of the first element that a selector finds, as it is rendered.
    pub(crate) fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("return document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until a script returns something true, and returns it.
    pub(crate) fn wait(&self, what: &str, script: &str) -> Value {
        let is_true =
            |value: &Value| !matches!(value, Value::Null | Value::Bool(false)) && value != "" && value != 0;
        wait_for(what, || Some(self.eval(script)).filter(is_true))
    }

    /// Waits until the text of an element contains some words.
    pub(crate) fn wait_for_text(&self, selector: &str, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text(selector).contains(words) {
            assert!(
                Instant::now() < deadline,
                "{selector} does not say {words:?}, but {:?}",
                self.text(selector)
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Clicks an element with the mouse.
    pub(crate) fn click(&self, selector: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = self.try_click(selector) {
            assert!(Instant::now() < deadline, "{selector} cannot be clicked: {why}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn try_click(&self, selector: &str) -> Result<(), String> {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.browser.try_command("POST", "element", Some(&wanted))?;
        let path = format!("element/{}/click", found[ELEMENT].as_str().unwrap_or_default());
        self.browser.try_command("POST", &path, Some(&json!({}))).map(drop)
    }

    /// Presses keys one after the other.
    pub(crate) fn keys(&self, keys: &str) {
        let pressed = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})));
        let actions =
            json!({"actions": [{"type": "key", "id": "keyboard", "actions": pressed.collect::<Vec<_>>()}]});
        self.command("POST", "actions", &actions);
    }

    /// Puts a text into a field, in place of its content.
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        self.click(selector);
        self.eval(&format!("document.querySelector({selector:?}).select()"));
        self.keys(text);
    }

    /// The messages of the console since the last call.
    pub(crate) fn logged(&self) -> Vec<String> {
        let entries = self.command("POST", "se/log", &json!({"type": "browser"}));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Asserts that nothing was logged, except messages with one of these texts, and that no policy was violated.
    pub(crate) fn assert_quiet(&self, except: &[&str]) {
        let logged: Vec<String> = self.logged();
        let loud: Vec<&String> =
            logged.iter().filter(|text| !except.iter().any(|known| text.contains(known))).collect();
        assert!(loud.is_empty(), "the console has {loud:#?}");
        assert_eq!(self.eval("return window.notes"), json!([]), "the page has violated its policy or failed");
    }

    /// The page as an image.
    pub(crate) fn picture(&self, path: &Path) {
        let told = self.cdp("Page.captureScreenshot", &json!({"format": "png"}));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, from_base64(told["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page-failure.png");
            if let Ok(told) = self.browser.try_command("GET", "screenshot", None) {
                let _ = std::fs::write(&path, from_base64(told.as_str().unwrap_or_default()));
                eprintln!("--- the page as it was: {}", path.display());
            }
            eprintln!(
                "--- its console: {:?}",
                self.browser.try_command("POST", "se/log", Some(&json!({"type": "browser"})))
            );
        }
        self.close();
    }
}

/// Decodes base64 (RFC 4648, section 4).
fn from_base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let group = |group: &[u8]| {
        let bits =
            group.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - group.len()));
        bits.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
