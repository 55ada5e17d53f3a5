//! Master files (RFC 1035, section 5) to zones, with line and column for every fault.
//!
//! The reader opens no file: how a path becomes bytes is an argument.
