//! PID 1 and agent in every guest.

fn main() {}
