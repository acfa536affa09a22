//! Addresses: a key's IP allowlist, whose address a request came from behind trusted proxies, and which addresses are
//! the public internet's.

use super::Invalid;
use ipnetwork::IpNetwork;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most entries an allowlist may have.
pub const ALLOWLIST_ENTRIES_MAX: usize = 256;

/// The networks a key may be used from; empty means any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpAllowlist(Vec<IpNetwork>);

impl IpAllowlist {
    /// Parses addresses and CIDRs, one a line (commas and blank lines are forgiven).
    ///
    /// # Errors
    /// Names the first line that is neither, by its number; or too many.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let mut networks: Vec<IpNetwork> = Vec::new();
        for (index, line) in raw.lines().enumerate() {
            for entry in line.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
                let network = parse_network(entry).ok_or_else(|| {
                    Invalid::from(format!(
                        "Line {} is not an IP address or CIDR such as 203.0.113.7, 10.0.0.0/8 or 2001:db8::/32.",
                        index + 1
                    ))
                })?;
                if !networks.contains(&network) {
                    networks.push(network);
                }
                if networks.len() > ALLOWLIST_ENTRIES_MAX {
                    return Err(format!(
                        "Enter at most {ALLOWLIST_ENTRIES_MAX} addresses; use CIDRs for ranges."
                    )
                    .into());
                }
            }
        }
        Ok(Self(networks))
    }

    /// Whether a caller at `address` may use the key.
    pub fn allows(&self, address: IpAddr) -> bool {
        self.0.is_empty() || contains(&self.0, address)
    }

    /// No restriction.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries as people read them: a single address without its `/32`.
    pub fn entries(&self) -> impl Iterator<Item = String> + '_ {
        self.0.iter().map(|network| {
            let host_prefix = if network.is_ipv4() { 32 } else { 128 };
            if network.prefix() == host_prefix { network.ip().to_string() } else { network.to_string() }
        })
    }
}

/// One entry a line: the stored form, and what an edit form shows.
impl fmt::Display for IpAllowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, entry) in self.entries().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&entry)?;
        }
        Ok(())
    }
}

fn parse_network(entry: &str) -> Option<IpNetwork> {
    let network: IpNetwork = entry.parse().ok()?;
    // Host bits are dropped: 10.1.2.3/8 means 10.0.0.0/8, and is shown as what it means.
    let network = IpNetwork::new(network.network(), network.prefix()).ok()?;
    // ::ffff:10.0.0.0/104 is IPv4 in disguise; callers are compared as IPv4, so the entry must be too.
    match (network.ip(), network.prefix()) {
        (IpAddr::V6(ip), prefix @ 96..) => match ip.to_ipv4_mapped() {
            Some(v4) => IpNetwork::new(IpAddr::V4(v4), prefix - 96).ok(),
            None => Some(network),
        },
        _ => Some(network),
    }
}

fn contains(networks: &[IpNetwork], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}

/// Parses one network, as given for `--trusted-proxies`.
///
/// # Errors
/// When it is neither an address nor a CIDR.
pub fn parse_cidr(raw: &str) -> Result<IpNetwork, Invalid> {
    parse_network(raw.trim()).ok_or(Invalid::new("not an IP address or CIDR such as 10.0.0.0/8"))
}

/// The caller's address: the peer's own, or, if the peer is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not itself a trusted proxy. What a caller wrote further left counts for nothing. Where a
/// trusted proxy names no address, nobody's (0.0.0.0): taken for the proxy itself, its caller would be let in where the
/// proxy is.
pub fn client_address(peer: IpAddr, forwarded_for: Option<&str>, trusted_proxies: &[IpNetwork]) -> IpAddr {
    let mut address = peer.to_canonical();
    for hop in forwarded_for.unwrap_or_default().rsplit(',') {
        if !contains(trusted_proxies, address) {
            break;
        }
        match parse_hop(hop.trim()) {
            Some(next) => address = next.to_canonical(),
            None if forwarded_for.is_some() => return IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            None => break,
        }
    }
    address
}

/// Whether a request comes from this machine or a private network: by its peer; or, if it was forwarded, by what a
/// trusted proxy says of it, every hop of which must be an address.
pub fn is_near(peer: IpAddr, forwarded_for: Option<&str>, trusted_proxies: &[IpNetwork]) -> bool {
    let Some(hops) = forwarded_for else { return is_local(peer) };
    let plausible = hops.split(',').all(|hop| parse_hop(hop.trim()).is_some());
    contains(trusted_proxies, peer)
        && plausible
        && is_local(client_address(peer, forwarded_for, trusted_proxies))
}

/// Loopback, private, unique local or link-local.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Networks that are not the public internet's, or lead into others: IANA's IPv4 Special-Purpose Address Registry
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>), and multicast.
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by carriers (CGNAT)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, broadcast
];

/// All that IANA gives out as global unicast; what is outside of it is loopback, unique local, link-local, multicast …
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Within it, what is not the public internet's: IANA's IPv6 Special-Purpose Address Registry
/// (<https://www.iana.org/assignments/iana-ipv6-special-registry>).
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo among them
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: an IPv4 address in disguise
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// NAT64: the last four bytes are the IPv4 address that is really connected to.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is the public internet's: no loopback, private, link-local, shared, multicast, documentation or
/// otherwise special one, nor such a one in the disguise of IPv6.
pub fn is_global(address: IpAddr) -> bool {
    let in_v4 = |ip: Ipv4Addr, (network, prefix): (Ipv4Addr, u8)| {
        (u32::from(ip) ^ u32::from(network)).leading_zeros() >= u32::from(prefix)
    };
    let in_v6 = |ip: Ipv6Addr, (network, prefix): (Ipv6Addr, u8)| {
        (u128::from(ip) ^ u128::from(network)).leading_zeros() >= u32::from(prefix)
    };
    match address.to_canonical() {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|special| in_v4(ip, *special)),
        IpAddr::V6(ip) if in_v6(ip, NAT64) => {
            let [.., a, b, c, d] = ip.octets();
            is_global(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(ip) => in_v6(ip, GLOBAL_V6) && !SPECIAL_V6.iter().any(|special| in_v6(ip, *special)),
    }
}

/// Some proxies write `1.2.3.4:567` or `[2001:db8::1]:567`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    hop.parse::<IpAddr>()
        .or_else(|_| hop.parse::<std::net::SocketAddr>().map(|socket| socket.ip()))
        .or_else(|_| hop.trim_start_matches('[').trim_end_matches(']').parse())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_and_ranges_of_both_families_are_matched() {
        let list = IpAllowlist::parse("203.0.113.7\n10.1.2.3/8, 2001:db8::/32\n\n::ffff:192.0.2.0/120")
            .expect("valid");
        assert_eq!(list.to_string(), "203.0.113.7\n10.0.0.0/8\n2001:db8::/32\n192.0.2.0/24");
        for allowed in ["203.0.113.7", "10.200.0.1", "2001:db8::9", "::ffff:10.0.0.1", "192.0.2.44"] {
            assert!(list.allows(ip(allowed)), "{allowed}");
        }
        for refused in ["203.0.113.8", "11.0.0.1", "2001:db9::1", "::1"] {
            assert!(!list.allows(ip(refused)), "{refused}");
        }
    }

    #[test]
    fn an_empty_list_allows_everyone() {
        assert!(IpAllowlist::parse(" \n ").expect("valid").allows(ip("192.0.2.1")));
    }

    #[test]
    fn what_is_no_network_is_refused_with_its_line() {
        for raw in ["10.0.0.0/33", "256.1.1.1", "2001:db8::/129", "localhost", "1.2.3", "10.0.0.1\n<b>"] {
            let error = IpAllowlist::parse(raw).expect_err(raw);
            assert!(error.0.starts_with("Line "), "{raw}");
        }
        let many: String = (0..10_000).map(|n| format!("10.{}.{}.1\n", n / 256, n % 256)).collect();
        assert!(IpAllowlist::parse(&many).is_err());
    }

    #[test]
    fn who_is_near_is_decided_by_the_peer_or_a_trusted_proxy() {
        let trusted = [parse_cidr("10.0.0.1").expect("valid")];
        let near = |peer, forwarded| is_near(ip(peer), forwarded, &trusted);
        for peer in
            ["127.0.0.1", "::1", "10.9.9.9", "192.168.1.2", "172.16.0.1", "fd00::1", "::ffff:127.0.0.1"]
        {
            assert!(near(peer, None), "{peer}");
        }
        for peer in ["203.0.113.1", "2001:db8::1", "172.32.0.1", "100.64.0.1", "0.0.0.0"] {
            assert!(!near(peer, None), "{peer}");
        }
        assert!(near("10.0.0.1", Some("192.168.1.2")));
        assert!(near("10.0.0.1", Some("203.0.113.9, 192.168.1.2")));
        for forwarded in ["203.0.113.9", "192.168.1.2, 203.0.113.9", "", "unknown", "unknown, 10.0.0.1"] {
            assert!(!near("10.0.0.1", Some(forwarded)), "{forwarded}");
        }
        assert!(!near("127.0.0.1", Some("127.0.0.1")), "a proxy that is not trusted");
    }

    #[test]
    fn only_the_public_internets_addresses_are_global() {
        for global in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
        ] {
            assert!(is_global(ip(global)), "{global}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_global(ip(special)), "{special}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted = [parse_cidr("10.0.0.0/8").expect("valid")];
        let client = |peer, forwarded| client_address(ip(peer), forwarded, &trusted);
        assert_eq!(client("203.0.113.9", Some("1.1.1.1")), ip("203.0.113.9"));
        assert_eq!(client("10.0.0.1", Some("6.6.6.6, 198.51.100.4, 10.0.0.2")), ip("198.51.100.4"));
        assert_eq!(client("10.0.0.1", Some("198.51.100.4:1234")), ip("198.51.100.4"));
        assert_eq!(client("10.0.0.1", Some("\u{fffd}, 198.51.100.4")), ip("198.51.100.4"));
        assert_eq!(client("10.0.0.1", Some("garbage")), ip("0.0.0.0"));
        assert_eq!(client("10.0.0.1", Some("198.51.100.4, garbage")), ip("0.0.0.0"));
        assert_eq!(client("203.0.113.9", Some("garbage")), ip("203.0.113.9"));
        assert_eq!(client("10.0.0.1", None), ip("10.0.0.1"));
        assert_eq!(client("::ffff:10.0.0.1", Some("2001:db8::5")), ip("2001:db8::5"));
    }
}
