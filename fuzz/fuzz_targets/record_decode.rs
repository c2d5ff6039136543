#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| jet_session::store::fuzz::record_decode(bytes));
