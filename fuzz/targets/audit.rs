//! The fuzz target `audit`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::audit::body(data));
