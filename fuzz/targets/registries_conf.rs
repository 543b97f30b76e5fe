//! The fuzz target `registries_conf`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::registries_conf::body(data));
