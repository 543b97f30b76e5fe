//! The store as the engine uses it: threads, processes, kills, and what is left on the disk.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and its helpers are part of it"
)]

mod child;
mod claims;
mod collection;
mod crash;
mod discard;
mod disk;
mod fixture;
mod kernels;
mod leases;
mod names;
mod opening;
mod pins;
mod scopes;
