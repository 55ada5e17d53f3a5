//! The blocks of a guide, and how they run.

use std::path::Path;

use crate::shell::Shell;

/// Parts of a guide.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    /// Commands, and the output that the guide shows of them.
    Commands { text: String, output: Option<String> },
    /// A heading.
    Heading(String),
}

/// A guide that is being followed.
pub(crate) struct Guide {
    blocks: std::vec::IntoIter<Block>,
    shell: Shell,
    /// The last commands, and the output that the guide shows.
    last: (String, Option<String>),
}

impl Guide {
    /// Opens a guide of `docs/guides`. Its commands run in `directory`.
    pub(crate) fn open(name: &str, directory: &Path) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(name);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { blocks: blocks(&text).into_iter(), shell: Shell::start(directory), last: Default::default() }
    }

    /// Runs the commands of the sections up to this heading, which must exist.
    pub(crate) fn follow_until(&mut self, heading: &str) {
        loop {
            match self.blocks.next() {
                Some(Block::Heading(found)) if found == heading => return,
                Some(Block::Heading(_)) => {}
                Some(Block::Commands { text, output }) => self.run(&text, output.as_deref()),
                None => panic!("the guide has no further section called {heading:?}"),
            }
        }
    }

    /// Runs all further commands.
    pub(crate) fn follow(&mut self) {
        while let Some(block) = self.blocks.next() {
            if let Block::Commands { text, output } = block {
                self.run(&text, output.as_deref());
            }
        }
    }

    /// Runs commands that are not in the guide, for conditions that its reader brings about otherwise.
    pub(crate) fn also(&mut self, commands: &str) -> String {
        self.shell.run(commands)
    }

    /// Runs the last commands of the guide again.
    pub(crate) fn repeat(&mut self) {
        let (commands, output) = self.last.clone();
        self.run(&commands, output.as_deref());
    }

    fn run(&mut self, commands: &str, expected: Option<&str>) {
        self.last = (commands.to_owned(), expected.map(str::to_owned));
        let said = self.shell.run(commands);
        if let Some(missing) = expected.and_then(|expected| first_missing(expected, &said)) {
            panic!(
                "the guide shows this line:\n{missing}\nafter the commands\n{commands}\nwhich printed\n{said}"
            );
        }
    }
}

/// The blocks of a document in Markdown.
fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut lines) = (Vec::new(), text.lines());
    let mut follows_commands = false;
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let content: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let content = content.join("\n");
            match (language, blocks.last_mut()) {
                ("sh", _) => blocks.push(Block::Commands { text: content, output: None }),
                ("text", Some(Block::Commands { output, .. })) if follows_commands => *output = Some(content),
                _ => {}
            }
            follows_commands = language == "sh";
        } else if let Some(heading) = line.strip_prefix('#') {
            blocks.push(Block::Heading(heading.trim_start_matches('#').trim().to_owned()));
            follows_commands = false;
        } else if !line.is_empty() {
            follows_commands = false;
        }
    }
    blocks
}

/// The first line that is expected and not printed, in this order.
fn first_missing<'a>(expected: &'a str, printed: &str) -> Option<&'a str> {
    let mut printed = printed.lines();
    expected.lines().find(|line| !printed.any(|printed| matches(line, printed)))
}

/// Whether a printed line is as shown; `…` stands for any text, and runs of spaces are alike.
fn matches(shown: &str, printed: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, printed) = (squeeze(shown), squeeze(printed));
    let mut parts = shown.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn blocks_are_found_and_outputs_compared() {
    let text =
        "# One\n\n```sh\na\nb\n```\n\n```text\nx …\n```\n\n```sh\nc\n```\n\nSo:\n\n```text\ny\n```\n## Two\n";
    let commands = |text: &str, output: Option<&str>| Block::Commands {
        text: text.to_owned(),
        output: output.map(str::to_owned),
    };
    assert_eq!(
        blocks(text),
        [
            Block::Heading("One".into()),
            commands("a\nb", Some("x …")),
            commands("c", None),
            Block::Heading("Two".into())
        ]
    );
    for (shown, printed, same) in [
        ("a b", "a   b", true),
        ("a b", "a bc", false),
        ("at … UTC", "at 12:00 UTC", true),
        ("at … UTC", "at 12:00", false),
        ("a … c … e", "a b c d e", true),
        ("…", "", true),
    ] {
        assert_eq!(matches(shown, printed), same, "{shown} {printed}");
    }
    assert_eq!(first_missing("b\na", "a\nb\n"), Some("a"));
    assert_eq!(first_missing("a\nb", "a\nc\nb\n"), None);
}
