//! The fuzz target `dsse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::dsse::body(data));
