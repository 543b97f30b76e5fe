//! The fuzz target `inflate`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::inflate::body(data));
