//! The fuzz target `layers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::layers::body(data));
