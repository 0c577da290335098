//! See [`kairos_fuzz::eval`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::eval::run(data);
});
