//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz h264`

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| holdfast_fuzz::targets::run("h264", input));
