//! `keyhouse serve`: the server. Opens everything, binds, says where, and serves until it is told to stop.

use super::data::DataOptions;
use super::failure::Failure;
use crate::app::{self, House};
use crate::config::{Reach, parse_public_url};
use crate::dashboard::setup::SetupToken;
use crate::dashboard::turnstile::Turnstile;
use crate::domain::network::parse_cidr;
use crate::gateway::Timeouts;
use crate::ledger::Instance;
use crate::password::Hasher;
use crate::store::Store;
use crate::vault::Vault;
use clap::Args;
use ipnetwork::IpNetwork;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use url::Url;

const EXAMPLES: &str = "\
Examples:
  keyhouse serve
  keyhouse serve --listen 127.0.0.1:9000 --data-dir /var/lib/keyhouse
  keyhouse serve --public-url https://keys.example.com --trusted-proxies 127.0.0.1,::1";

/// Serve the dashboard and /v1
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServeOptions {
    /// Address and port; 0.0.0.0 or [::] for every interface
    #[arg(long, value_name = "ADDRESS", env = "KEYHOUSE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// How people reach it, such as https://keys.example.com [default: as they ask]
    #[arg(long, value_name = "URL", env = "KEYHOUSE_PUBLIC_URL", value_parser = parse_public_url)]
    public_url: Option<Url>,
    /// Proxies whose X-Forwarded-For is believed, separated by commas
    #[arg(
        long,
        value_name = "CIDR,…",
        env = "KEYHOUSE_TRUSTED_PROXIES",
        value_delimiter = ',',
        value_parser = parse_cidr
    )]
    trusted_proxies: Vec<IpNetwork>,
}

/// Serves until it is told to stop.
pub(super) fn run(options: &ServeOptions, data: &DataOptions) -> Result<(), Failure> {
    data.make_data_dir()?;
    let store = data.open_store()?;
    let vault = data.open_vault(&store)?;
    let listener = bind(options.listen)?;
    if options.public_url.is_none() && !options.listen.ip().is_loopback() {
        tracing::warn!(
            "reachable from other machines without --public-url: give the https:// address of your proxy, \
             or passwords and keys travel in the clear"
        );
    }
    let reach =
        Reach { public_url: options.public_url.clone(), trusted_proxies: options.trusted_proxies.clone() };
    serve(store, vault, reach, listener, announce)
}

/// Binds, or says what to do when the address is taken.
pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).map_err(|error| {
        Failure::Failed(match error.kind() {
            io::ErrorKind::AddrInUse => {
                let other = SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(8080));
                format!("Something else listens on {address} already. Choose another port, such as --listen {other}.")
            }
            _ => format!("Cannot listen on {address}: {error}. Check --listen."),
        })
    })
}

/// Starts the ledger, lets `announce` speak once the socket is bound, and serves on it.
pub(super) fn serve(
    store: Store,
    vault: Vault,
    reach: Reach,
    listener: TcpListener,
    announce: impl FnOnce(&House, SocketAddr) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unusable = |error: io::Error| Failure::Failed(format!("The server ended: {error}."));
    let address = listener.local_addr().map_err(unusable)?;
    let instance = Instance::start(&store, &vault.fingerprint())?;
    let house = House {
        setup: SetupToken::of(&store, &vault)?,
        hasher: Hasher::default(),
        turnstile: Turnstile::default(),
        upstream_timeouts: Timeouts::default(),
        ledger: instance.ledger().clone(),
        store,
        vault,
        reach,
    };
    let served = announce(&house, address)
        .and_then(|()| actix_web::rt::System::new().block_on(app::serve(house, listener)).map_err(unusable));
    instance.stop();
    served
}

fn announce(house: &House, address: SocketAddr) -> Result<(), Failure> {
    eprintln!("listening on http://{address}");
    let base_url = house
        .reach
        .public_url
        .as_ref()
        .map_or_else(|| format!("http://{}", reachable(address)), Url::to_string);
    if let Some(link) = house.setup.link(&base_url) {
        eprintln!("There are no users yet. Make the first admin here, once: {link}");
    }
    Ok(())
}

/// An address one can type: not "every interface".
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
