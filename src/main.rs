//! The `steerd` program.

fn main() {}
