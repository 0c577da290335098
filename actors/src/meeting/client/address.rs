//! Where peers are, and where they answer.

use std::fmt;
use std::str::FromStr;

use kairos_p2p::PeerName;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

/// How a peer is named by its node: `p2p://12D3Koo…`.
const NODE: &str = "p2p";

/// Where a peer is: scheme, host and port; a path is kept for peers behind a prefix. Or which node is its, as
/// `p2p://` and the node's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerUrl(Url);

/// Why a text is not the address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerUrlError {
    /// Not a URL.
    #[error("`{0}` is not a URL; write it like http://host:8080")]
    NotUrl(String),
    /// A scheme that is not spoken.
    #[error("`{0}` URLs are not spoken; use http:// or https://")]
    Scheme(String),
    /// The name of no node.
    #[error("`{0}` names no node; write it like p2p://12D3Koo…")]
    Node(String),
    /// Credentials, query or fragment.
    #[error("a peer's URL has no user, password, query or fragment")]
    Extra,
}

impl PeerUrl {
    /// The peer whose node has this name.
    pub fn of_node(node: PeerName) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the name of a node has letters and digits only"
        )]
        Self(Url::parse(&format!("{NODE}://{node}")).expect("a URL"))
    }

    /// Its node, where it is named by that.
    pub fn node(&self) -> Option<PeerName> {
        match self.0.scheme() == NODE {
            true => self.0.host_str()?.parse().ok(),
            false => None,
        }
    }
}

impl FromStr for PeerUrl {
    type Err = PeerUrlError;

    fn from_str(text: &str) -> Result<Self, PeerUrlError> {
        let shown = || text.chars().take(200).collect::<String>();
        let mut url = Url::parse(text).map_err(|_| PeerUrlError::NotUrl(shown()))?;
        if url.scheme() == NODE {
            let host = url.host_str().unwrap_or_default();
            let node = host.parse().map_err(|_| PeerUrlError::Node(shown()))?;
            let whole = Self::of_node(node);
            let told = text.trim_end_matches('/');
            return match whole.0.as_str() == told {
                true => Ok(whole),
                false => Err(PeerUrlError::Extra),
            };
        }
        if !matches!(url.scheme(), "http" | "https") {
            // `localhost:8080` parses as the scheme `localhost`.
            return Err(match url.host() {
                None => PeerUrlError::NotUrl(shown()),
                Some(_) => PeerUrlError::Scheme(url.scheme().to_owned()),
            });
        }
        let credentials = !url.username().is_empty() || url.password().is_some();
        if credentials || url.query().is_some() || url.fragment().is_some() {
            return Err(PeerUrlError::Extra);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl TryFrom<String> for PeerUrl {
    type Error = PeerUrlError;

    fn try_from(text: String) -> Result<Self, PeerUrlError> {
        text.parse()
    }
}

impl From<PeerUrl> for String {
    fn from(url: PeerUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// Where a Meeting Place answers for `path`, each segment as it is meant.
pub(super) fn place_endpoint(place: &PeerUrl, path: &[&str], query: &[(&str, &str)]) -> Url {
    let mut url = place.0.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["place", "v1"]).extend(path);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// Where a peer answers for `path`.
pub(super) fn endpoint(peer: &PeerUrl, path: &str) -> Url {
    let mut url = peer.0.clone();
    url.set_path(&format!(
        "{}/meeting/v1/{path}",
        peer.0.path().trim_end_matches('/')
    ));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_its_key() {
        let node = PeerName::of_ed25519(&[0; 32]).unwrap();
        let url = PeerUrl::of_node(node);
        assert_eq!(url.to_string().parse(), Ok(url.clone()));
        assert_eq!(url.node(), Some(node));
        assert_eq!("http://x".parse::<PeerUrl>().unwrap().node(), None);
        for bad in [
            "p2p://".to_owned(),
            "p2p://localhost".to_owned(),
            format!("{url}/x"),
            format!("{url}:1"),
            format!("{url}?q"),
            url.to_string().to_lowercase(),
        ] {
            assert!(bad.parse::<PeerUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_peer_url_is_scheme_host_and_port() {
        for (text, shown) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/", "http://localhost:8080"),
            (
                "https://Example.org/agents/a/",
                "https://example.org/agents/a",
            ),
        ] {
            assert_eq!(text.parse::<PeerUrl>().unwrap().to_string(), shown);
        }
        assert_eq!(
            endpoint(&"https://example.org/a/".parse().unwrap(), "skills").as_str(),
            "https://example.org/a/meeting/v1/skills"
        );
        let place = "https://example.org/a/".parse().unwrap();
        let asked = place_endpoint(&place, &["deposit", "a/b c"], &[("n", "1")]);
        assert_eq!(
            asked.as_str(),
            "https://example.org/a/place/v1/deposit/a%2Fb%20c?n=1"
        );
        for bad in [
            "",
            "localhost:8080",
            "ftp://x",
            "file:///etc",
            "http://u:p@x",
            "http://x/?q",
            "http://",
        ] {
            assert!(bad.parse::<PeerUrl>().is_err(), "{bad}");
        }
    }
}
