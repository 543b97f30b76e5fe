//! The fuzz target `kernel`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::kernel::body(data));
