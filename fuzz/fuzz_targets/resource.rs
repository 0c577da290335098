//! See [`kairos_fuzz::resource`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::resource::run(data);
});
