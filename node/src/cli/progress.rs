//! Progress of what takes long, on standard error, where a person is watching.

use std::io::IsTerminal as _;
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use kairos_actors::meeting::Progress;

/// A line that says what is being done. Hidden unless standard error is a terminal.
pub fn spinner() -> ProgressBar {
    match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    }
}

/// A bar for a transfer called `what`, and the function to tell it about bytes. Hidden unless standard error is a
/// terminal.
pub fn transfer(what: &str) -> (ProgressBar, Progress) {
    let bar = spinner();
    let style = "{spinner} {msg} {bytes} {wide_bar} {total_bytes} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    let told = bar.clone();
    let progress: Progress = Arc::new(move |received, total| {
        if let Some(total) = total {
            told.set_length(total);
        }
        told.set_position(received);
    });
    (bar, progress)
}
