//! The fuzz target `tar`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::tar::body(data));
