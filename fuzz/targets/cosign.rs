//! The fuzz target `cosign`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::cosign::body(data));
