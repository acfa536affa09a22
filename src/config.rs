//! The checked settings of a running server, as the rest of the house sees them.

use ipnetwork::IpNetwork;
use std::net::{IpAddr, SocketAddr};
use url::Url;

/// How this server is reached, and whom it believes about callers' addresses.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Where people and programs reach it from outside, such as `https://keys.example.com`; `None`: as they ask.
    pub public_url: Option<Url>,
    /// Peers whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNetwork>,
}

impl Reach {
    /// Whether browsers reach this server over HTTPS.
    pub fn is_https(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
    }

    /// The caller's address; see [`crate::domain::network::client_address`].
    pub fn client_address(&self, request: &actix_web::HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |address: SocketAddr| address.ip());
        // Several lines of the header are one list; the last line is what the nearest proxy wrote.
        let forwarded: Vec<&str> =
            request.headers().get_all("x-forwarded-for").filter_map(|value| value.to_str().ok()).collect();
        crate::domain::network::client_address(peer, Some(&forwarded.join(",")), &self.trusted_proxies)
    }
}
