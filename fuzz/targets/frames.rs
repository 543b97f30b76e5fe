//! The fuzz target `frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::frames::body(data));
