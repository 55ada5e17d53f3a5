//! A backend on the command line.

use std::fmt;
use std::str::FromStr;

/// A backend, as `POOL/BACKEND`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BackendPath {
    pub(super) pool: String,
    pub(super) backend: String,
}

impl FromStr for BackendPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((pool, backend)) if !pool.is_empty() && !backend.is_empty() => {
                Ok(Self { pool: pool.into(), backend: backend.into() })
            }
            _ => Err("expected POOL/BACKEND, such as web/gw1"),
        }
    }
}

impl fmt::Display for BackendPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pool, self.backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_a_pool_and_a_name() {
        let path = "web/2001:db8::1".parse::<BackendPath>().unwrap();
        assert_eq!((path.pool.as_str(), path.backend.as_str()), ("web", "2001:db8::1"));
        for bad in ["", "web", "web/", "/gw1"] {
            assert!(bad.parse::<BackendPath>().is_err(), "{bad}");
        }
    }
}
