//! Tests of compiled rules: properties of random ones, and the size of large ones.

mod properties;
mod size;
