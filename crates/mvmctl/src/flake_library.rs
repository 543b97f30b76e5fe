//! The flake library that this mvmctl carries.

use mvm_engine::FlakeLibrary;

/// The files of `nix/` that flakes are built with, from the same tree as mvmctl.
pub const LIBRARY: FlakeLibrary = FlakeLibrary::new(include!(concat!(env!("OUT_DIR"), "/flake_library.rs")));
