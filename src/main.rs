//! Arguments become a command.

fn main() {}
