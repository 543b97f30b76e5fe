//! The fuzz target `index`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::index::body(data));
