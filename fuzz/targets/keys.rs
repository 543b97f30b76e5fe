//! The fuzz target `keys`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::keys::body(data));
