//! The fuzz target `auth`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::auth::body(data));
