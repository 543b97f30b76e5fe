//! Whole-system tests of mvm and what they share: images made by other tools, a registry, and a comparison of trees.
//!
//! Nothing here uses the crates of mvm: what is tested is the program `mvmctl`, and what judges it is not ours.

#![expect(clippy::print_stderr, reason = "a test that can't clean up says so")]

pub mod corpus;
pub mod crash;
pub mod faults;
pub mod fixtures;
pub mod nar;
pub mod need;
pub mod process;
pub mod random_layers;
pub mod registry;
pub mod sandbox;
pub mod terminal;
pub mod token_server;
pub mod tree;
pub mod workspace;
