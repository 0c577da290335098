//! See [`kairos_fuzz::skillset_json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::skillset_json::run(data);
});
