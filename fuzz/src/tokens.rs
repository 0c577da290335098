//! A file of tokens, as somebody may have left it.

use kairos_place::token::{RawToken, TokenBook, Which};
use kairos_protocol::time::Timestamp;

use crate::words;

/// Reads `data` as `tokens.json`; what can be read is changed, written and read again.
pub fn run(data: &[u8]) -> String {
    let now = Timestamp::from_secs(1_771_000_000);
    let mut book = match TokenBook::parse(data) {
        Ok(book) => book,
        Err(error) => return words(error),
    };
    let text = String::from_utf8_lossy(data);
    assert!(
        book.authenticate(&text, now).is_none(),
        "a file opens itself"
    );
    let (tokens, unreadable) = (book.tokens().count(), book.unreadable().count());
    let same = TokenBook::parse(&book.to_bytes(now)).expect("what was written is read");
    assert!(same.tokens().eq(book.tokens()));
    let users: Vec<_> = book.tokens().map(|token| token.user.clone()).collect();
    for (n, user) in users.into_iter().take(8).enumerate() {
        let raw = RawToken::from_random([n as u8; 32]);
        if let Ok((token, revoked)) = book.rotate(&Which::Of(user.clone()), &raw, "x", now) {
            assert!(revoked.iter().any(|old| old.role == token.role));
        }
        let _ = book.revoke(&Which::Of(user.clone()));
        assert!(
            book.tokens()
                .all(|token| token.user != user || token.revoked)
        );
    }
    assert!(book.opens_nothing(now) || tokens > 8);
    book.prune(now);
    TokenBook::parse(&book.to_bytes(now)).expect("what was written is read");
    format!("{} tokens, {} unreadable", tokens.min(3), unreadable.min(3))
}
