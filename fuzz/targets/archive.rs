//! The fuzz target `archive`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::archive::body(data));
