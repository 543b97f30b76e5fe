//! The fuzz target `framing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::framing::body(data));
