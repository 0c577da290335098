//! See [`kairos_fuzz::tlog`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::tlog::run(data);
});
