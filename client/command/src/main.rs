//! The `virtwire` command.
fn main() {}
