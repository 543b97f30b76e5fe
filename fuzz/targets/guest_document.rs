//! The fuzz target `guest_document`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mvm_fuzz::guest_document::body(data));
