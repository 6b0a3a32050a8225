//! `cargo +nightly fuzz run --fuzz-dir tests/fuzz provisioning`

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| holdfast_fuzz::targets::run("provisioning", input));
