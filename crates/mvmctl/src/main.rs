//! The command line of mvm.

fn main() {}
