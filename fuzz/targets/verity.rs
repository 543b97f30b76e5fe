//! The fuzz target `verity`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::verity::body(data));
