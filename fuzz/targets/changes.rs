//! The fuzz target `changes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::changes::body(data));
