//! The fuzz target `flakes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::flakes::body(data));
