//! See [`kairos_fuzz::relay`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::relay::run(data);
});
