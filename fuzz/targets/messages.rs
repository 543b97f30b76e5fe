//! The fuzz target `messages`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::messages::body(data));
