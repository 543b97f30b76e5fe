//! The fuzz target `plan_bundle`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::plan_bundle::body(data));
