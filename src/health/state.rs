//! The health machine of one address.
