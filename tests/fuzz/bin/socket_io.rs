#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::run("socket_io", data));
