//! The fuzz target `erofs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::erofs::body(data));
