//! Doing something again while what became of it is unknown.

use std::time::Duration;

use kairos_protocol::id::MessageId;

use super::error::MembershipError;
use crate::meeting::client::PeerUrl;

/// How often a message is sent at most before its sender is told that its fate is unknown.
const TRIES: u32 = 3;
/// Pause after the first time; each is twice as long as the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// Sends the message `id`, again and again while what became of it is unknown. Whoever takes it must take it once, by its
/// name.
///
/// # Errors
///
/// [`MembershipError::Unknown`] if that stays so; else what `send` says.
pub(super) async fn until_known<T>(
    id: &MessageId,
    url: &PeerUrl,
    mut send: impl AsyncFnMut() -> Result<T, MembershipError>,
) -> Result<T, MembershipError> {
    let (mut pause, mut sent) = (PAUSE, 0);
    loop {
        sent += 1;
        match send().await {
            Err(MembershipError::Client(error)) if error.is_unknown() => {
                if sent == TRIES {
                    let (id, source) = (id.clone(), Box::new(error));
                    return Err(MembershipError::Unknown { id, source });
                }
                tracing::debug!(place.url = %url, %error, "sends a message again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            known => return known,
        }
    }
}
