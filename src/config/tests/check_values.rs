//! What checks and pools are made of: every key, one by one.
