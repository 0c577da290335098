//! See [`kairos_fuzz::frontmatter`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::frontmatter::run(data);
});
