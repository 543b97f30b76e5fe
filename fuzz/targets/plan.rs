//! The fuzz target `plan`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::plan::body(data));
