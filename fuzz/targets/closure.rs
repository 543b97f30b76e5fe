//! The fuzz target `closure`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::closure::body(data));
