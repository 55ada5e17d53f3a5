//! stub
use std::net::IpAddr;
/// stub
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks;
impl Networks {
    /// stub
    #[must_use]
    pub fn contains(&self, _: IpAddr) -> bool {
        false
    }
}
