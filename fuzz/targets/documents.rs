//! The fuzz target `documents`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::documents::body(data));
