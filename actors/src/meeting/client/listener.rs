//! Listening to what a Meeting Place tells by itself.

use reqwest::Response;

/// Longest line of somebody who tells of news, in bytes.
const LINE_MAX: usize = 8 * 1024;

/// A connection on which a Place tells of mail.
#[derive(Debug)]
pub(crate) struct Listener {
    response: Response,
    line: Vec<u8>,
}

impl Listener {
    /// Listens to this answer.
    pub(super) fn new(response: Response) -> Self {
        let line = Vec::new();
        Self { response, line }
    }

    /// Waits for the next event and returns its name; nothing once the Place has hung up, broken off, or said a line
    /// that is longer than it may be.
    pub(crate) async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                match line.trim_end().strip_prefix("event:") {
                    Some(name) => return Some(name.trim().to_owned()),
                    None => continue,
                }
            }
            if self.line.len() > LINE_MAX {
                return None;
            }
            let piece = self.response.chunk().await.ok()??;
            self.line.extend_from_slice(&piece);
        }
    }
}
