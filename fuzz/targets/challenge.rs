//! The fuzz target `challenge`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::challenge::body(data));
