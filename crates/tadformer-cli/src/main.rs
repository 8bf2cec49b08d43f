//! crates/tadformer-cli
fn main() {}
