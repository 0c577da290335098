//! See [`kairos_fuzz::ledger_text`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    kairos_fuzz::ledger_text::run(data);
});
