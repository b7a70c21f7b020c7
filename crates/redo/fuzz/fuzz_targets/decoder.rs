#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| zorya_redo_fuzz::decoder(input));
