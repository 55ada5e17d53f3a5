//! Lists of networks: one address or prefix per line, and comments from `#` to the end of the line.

use std::ops::Range;

use crate::network::{Network, NetworkError};

/// Faults of one list that are reported; a file that is no list has one in every line.
const MOST_FAULTS: usize = 20;

/// A line that is not a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFault {
    /// Its number, from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
    /// The bytes of the text that are wrong.
    pub span: Range<usize>,
    /// The reason.
    pub error: NetworkError,
}

/// Reads a list.
///
/// # Errors
/// The first faults.
pub fn read_list(text: &str) -> Result<Vec<Network>, Vec<ListFault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut networks = Vec::new();
    let mut faults = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let written = line.split('#').next().unwrap_or("");
        let word = written.trim();
        if word.is_empty() {
            continue;
        }
        match word.parse() {
            Ok(network) => networks.push(network),
            Err(error) => {
                let start = written.len() - written.trim_start().len();
                faults.push(ListFault {
                    line: number,
                    text: line.to_owned(),
                    span: start..start + word.len(),
                    error,
                });
                if faults.len() == MOST_FAULTS {
                    break;
                }
            }
        }
    }
    if faults.is_empty() { Ok(networks) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_blank_lines_and_comments() {
        let text = "\u{feff}# our offices\n192.0.2.0/24\r\n\n  2001:db8::/32 # Berlin\n198.51.100.7";
        let read: Vec<String> = read_list(text).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(read, ["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]);
        assert!(read_list("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn each_fault_has_its_place() {
        let faults = read_list("192.0.2.0/24\n  192.0.2.1/24 # host\nexample.com\n").unwrap_err();
        let places: Vec<(usize, &str)> =
            faults.iter().map(|fault| (fault.line, &fault.text[fault.span.clone()])).collect();
        assert_eq!(places, [(2, "192.0.2.1/24"), (3, "example.com")]);
        assert!(faults[0].error.to_string().contains("write `192.0.2.0/24` for the network"));
        assert_eq!(read_list(&"x\n".repeat(100)).unwrap_err().len(), MOST_FAULTS);
    }
}
