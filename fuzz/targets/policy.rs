//! The fuzz target `policy`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::policy::body(data));
