//! From which address a request comes, as far as that can be known: a proxy in front of this node says it in a header,
//! and anybody else may say anything.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use kairos_place::network::{Network, UNKNOWN_ADDRESS};

use crate::config::ProxyHeader;

/// Most addresses of a header that are looked at, from the right.
const HOPS_MAX: usize = 32;

/// Whom to believe about the address of somebody else.
#[derive(Debug, Clone)]
pub struct Proxies {
    trusted: Vec<Network>,
    header: HeaderName,
    is_forwarded: bool,
}

impl Proxies {
    /// Believes `trusted` proxies what they write into `header`, and nobody else, and nothing in any other header: a
    /// proxy passes those on as they came.
    pub fn new(trusted: Vec<Network>, header: ProxyHeader) -> Self {
        Self {
            trusted,
            header: HeaderName::from_static(match header {
                ProxyHeader::XForwardedFor => "x-forwarded-for",
                ProxyHeader::Forwarded => "forwarded",
                ProxyHeader::XRealIp => "x-real-ip",
            }),
            is_forwarded: header == ProxyHeader::Forwarded,
        }
    }

    /// The address that counts: that of the connection, or, behind trusted proxies, the right-most in the header that is
    /// not one of theirs. What is no address ends the search, since what is left of it was written by nobody we trust.
    pub fn address(&self, request: &HttpRequest) -> IpAddr {
        let connection = request.peer_addr();
        let mut nearest = connection.map_or(UNKNOWN_ADDRESS, |peer| peer.ip().to_canonical());
        if !self.trusts(nearest) {
            return nearest;
        }
        let mut values: Vec<&str> = Vec::new();
        for value in request.headers().get_all(&self.header) {
            match value.to_str() {
                Ok(text) => values.extend(text.split(',')),
                Err(_) => values.push(""),
            }
        }
        for value in values.iter().rev().take(HOPS_MAX) {
            let told = match self.is_forwarded {
                true => forwarded_for(value),
                false => address(value.trim()),
            };
            let Some(told) = told else {
                return nearest;
            };
            nearest = told;
            if !self.trusts(nearest) {
                return nearest;
            }
        }
        nearest
    }

    /// Whether a request was made on this machine: its connection, and whoever a proxy says that it is for.
    pub fn is_local(&self, request: &HttpRequest) -> bool {
        let ours = request.app_config().local_addr().ip().to_canonical();
        let here = |address: IpAddr| {
            address.is_loopback() || (address == ours && !address.is_unspecified())
        };
        let connection = request.peer_addr().map(|peer| peer.ip().to_canonical());
        connection.is_some_and(here) && here(self.address(request))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|proxy| proxy.contains(address))
    }
}

/// The address in `for=` of one element of `Forwarded` (RFC 7239). An element without one says nothing.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let node = node.trim();
    let bare = node
        .strip_prefix('"')
        .and_then(|node| node.strip_suffix('"'));
    address(bare.unwrap_or(node))
}

/// An address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|told| told.ip());
    alone.or_else(with_port).map(|told| told.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use proptest::prelude::*;

    use super::*;

    fn found(header: ProxyHeader, peer: &str, lines: &[(&str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"];
        let trusted = trusted.map(|network| network.parse().unwrap()).to_vec();
        let mut request = TestRequest::get().peer_addr(SocketAddr::new(peer.parse().unwrap(), 9));
        for line in lines {
            request = request.append_header(*line);
        }
        let proxies = Proxies::new(trusted, header);
        proxies.address(&request.to_http_request()).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_in_their_header() {
        const XFF: &str = "x-forwarded-for";
        let check = |peer, lines: &[(&str, &str)], address| {
            assert_eq!(
                found(ProxyHeader::XForwardedFor, peer, lines),
                address,
                "{lines:?}"
            );
        };
        check("192.0.2.1", &[(XFF, "198.51.100.7")], "192.0.2.1");
        check("10.0.0.1", &[(XFF, "198.51.100.7")], "198.51.100.7");
        check("::ffff:10.0.0.1", &[(XFF, "198.51.100.7")], "198.51.100.7");
        // What the client itself sent stands left of what the proxy saw.
        check(
            "10.0.0.1",
            &[(XFF, "127.0.0.1, 198.51.100.7")],
            "198.51.100.7",
        );
        check(
            "10.0.0.1",
            &[(XFF, "203.0.113.9"), (XFF, "198.51.100.7, 10.1.1.1")],
            "198.51.100.7",
        );
        check("10.0.0.1", &[(XFF, "10.2.2.2, 10.1.1.1")], "10.2.2.2");
        check(
            "10.0.0.1",
            &[(XFF, "198.51.100.7, junk, 10.1.1.1")],
            "10.1.1.1",
        );
        check("10.0.0.1", &[(XFF, "198.51.100.7, ")], "10.0.0.1");
        check("10.0.0.1", &[(XFF, "[2001:db8::5]:80")], "2001:db8::5");
        check("10.0.0.1", &[], "10.0.0.1");
        for other in ["forwarded", "x-real-ip"] {
            check("10.0.0.1", &[(other, "for=198.51.100.7")], "10.0.0.1");
        }
    }

    #[test]
    fn the_other_headers_are_read_in_their_forms() {
        for (value, address) in [
            ("for=198.51.100.7", "198.51.100.7"),
            ("For=\"[2001:db8::5]:4711\";proto=https", "2001:db8::5"),
            (
                "for=203.0.113.9, proto=http;for=198.51.100.7",
                "198.51.100.7",
            ),
            (
                "for=198.51.100.7, for=\"[2001:db8:ffff::1]\"",
                "198.51.100.7",
            ),
            ("for=198.51.100.7, for=unknown", "10.0.0.1"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("proto=http", "10.0.0.1"),
        ] {
            let lines = [("forwarded", value)];
            assert_eq!(
                found(ProxyHeader::Forwarded, "10.0.0.1", &lines),
                address,
                "{value}"
            );
        }
        let lines = [("x-real-ip", " 198.51.100.7 ")];
        assert_eq!(
            found(ProxyHeader::XRealIp, "10.0.0.1", &lines),
            "198.51.100.7"
        );
    }

    proptest! {
        #[test]
        fn no_header_of_a_stranger_changes_anything(value in "[ -~]{0,200}") {
            let lines = [("x-forwarded-for", value.as_str())];
            prop_assert_eq!(found(ProxyHeader::XForwardedFor, "192.0.2.1", &lines), "192.0.2.1");
        }

        #[test]
        fn whatever_a_client_writes_stands_left_of_what_the_proxy_saw(value in "[ -~]{0,200}") {
            let value = format!("{value}, 198.51.100.7");
            for (header, name) in [
                (ProxyHeader::XForwardedFor, "x-forwarded-for"), (ProxyHeader::XRealIp, "x-real-ip"),
            ] {
                let lines = [(name, value.as_str())];
                prop_assert_eq!(found(header, "10.0.0.1", &lines), "198.51.100.7");
            }
        }
    }
}
