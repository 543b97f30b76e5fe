//! The fuzz target `nar`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::nar::body(data));
