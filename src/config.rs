//! The checked settings of a running server, as the rest of the house sees them, and the file they may come from.
//! Flags and the environment are the command line's; it takes what this file says as defaults.

use crate::domain::Invalid;
use actix_web::http::header::{HeaderMap, X_FORWARDED_FOR};
use ipnetwork::IpNetwork;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use url::Url;

/// Read when `--config` names no other file, if it is there.
const FILE: &str = "keyhouse.toml";
/// A longer file is not a list of settings.
const FILE_BYTES_MAX: u64 = 64 * 1024;

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

    /// Where this server is reached: its public URL, or else as this browser reached it.
    pub fn server_url(&self, request: &actix_web::HttpRequest) -> Option<Url> {
        let asked = || {
            let host = request.headers().get("host")?.to_str().ok()?;
            // Parsed, so that a strange Host cannot break out of where the URL is written.
            let url = Url::parse(&format!("http://{host}/")).ok()?;
            (url.path() == "/" && url.query().is_none() && url.fragment().is_none()).then_some(url)
        };
        self.public_url.clone().or_else(asked)
    }

    /// Whether a request comes from this machine or a private network; see
    /// [`crate::domain::network::is_near`].
    pub fn is_near(&self, request: &actix_web::HttpRequest) -> bool {
        let Some(peer) = request.peer_addr() else { return false };
        let headers = request.headers();
        let hidden = ["forwarded", "via", "x-real-ip", "x-forwarded-host", "x-forwarded-proto"];
        let forwarded_for = forwarded_for(headers);
        // A proxy that says it is one, and not for whom it asks, tells nothing.
        if forwarded_for.is_none() && hidden.iter().any(|name| headers.contains_key(*name)) {
            return false;
        }
        crate::domain::network::is_near(peer.ip(), forwarded_for.as_deref(), &self.trusted_proxies)
    }

    /// The caller's address; see [`crate::domain::network::client_address`].
    pub fn client_address(&self, request: &actix_web::HttpRequest) -> IpAddr {
        let peer = request.peer_addr().map_or(IpAddr::from([0, 0, 0, 0]), |address: SocketAddr| address.ip());
        let forwarded_for = forwarded_for(request.headers());
        crate::domain::network::client_address(peer, forwarded_for.as_deref(), &self.trusted_proxies)
    }
}

/// Several lines of the header are one list; the last line is what the nearest proxy wrote. A byte that is no text spoils its
/// own hop alone: the caller may have sent it, and the proxy put an address behind it.
fn forwarded_for(headers: &HeaderMap) -> Option<String> {
    let mut lines = headers.get_all(X_FORWARDED_FOR).peekable();
    lines.peek()?;
    Some(lines.map(|value| String::from_utf8_lossy(value.as_bytes())).collect::<Vec<_>>().join(","))
}

/// Checks where people reach this server: `https://keys.example.com`, nothing behind the host and port.
///
/// # Errors
/// When it is not such a URL.
pub fn parse_public_url(raw: &str) -> Result<Url, Invalid> {
    Url::parse(raw.trim())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .filter(|url| url.path() == "/" && url.query().is_none() && url.fragment().is_none())
        .ok_or(Invalid::new("give a scheme and a host, such as https://keys.example.com"))
}

/// The settings of a `keyhouse.toml`, each under the name of its flag: `data-dir = "/var/lib/keyhouse"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Flag without its dashes, and the value as one would type it.
    pub settings: Vec<(String, String)>,
}

impl SettingsFile {
    /// Reads the file `named`, or `./keyhouse.toml` if there is one.
    ///
    /// # Errors
    /// A sentence for whoever wrote the file: it is missing, is no TOML, or has a setting not among `known`.
    pub fn load(named: Option<&Path>, known: &[String]) -> Result<Option<Self>, String> {
        let path = named.unwrap_or(Path::new(FILE));
        let read = std::fs::metadata(path).and_then(|about| match about.len() {
            0..=FILE_BYTES_MAX => std::fs::read_to_string(path),
            _ => Err(io::Error::other("it is too long to be a list of settings")),
        });
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(None),
            Err(error) => return Err(format!("{} cannot be read: {error}.", path.display())),
        };
        let settings = parse_settings(&text, known).map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(Some(Self { path: path.to_owned(), settings }))
    }
}

fn parse_settings(text: &str, known: &[String]) -> Result<Vec<(String, String)>, String> {
    // The parser's own message quotes the line it stumbled on, which may hold a password.
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = text[..error.span().map_or(0, |span| span.start).min(text.len())].lines().count().max(1);
        format!("line {line} is not TOML: {}.", error.message().replace('\n', " "))
    })?;
    let mut settings: Vec<(String, String)> = Vec::new();
    for (key, value) in &table {
        let name = key.replace('_', "-");
        if !known.contains(&name) {
            return Err(format!("there is no setting {key}; there are {}.", known.join(", ")));
        }
        if settings.iter().any(|(given, _)| *given == name) {
            return Err(format!("{name} is set twice."));
        }
        let value = as_typed(value).ok_or_else(|| format!("{key} must be a text or a list of texts."))?;
        settings.push((name, value));
    }
    Ok(settings)
}

/// A value as one would type it behind its flag; a list is joined by commas.
fn as_typed(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<&str>> = values.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<String> {
        ["listen", "database-url", "trusted-proxies"].map(String::from).to_vec()
    }

    #[test]
    fn settings_are_named_as_their_flags() {
        let text = "listen = \"[::1]:80\"\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n";
        let settings = parse_settings(text, &known()).expect("valid");
        let expected = [("listen", "[::1]:80"), ("trusted-proxies", "10.0.0.0/8,::1")];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_not_a_setting_is_named_and_a_password_is_not() {
        let refusal = |text: &str| parse_settings(text, &known()).expect_err("refused");
        assert!(refusal("listne = \"x\"").contains("no setting listne"));
        assert!(refusal("[listen]\nport = 1").contains("listen must be"));
        assert!(refusal("database-url = \"a\"\ndatabase_url = \"b\"").contains("twice"));
        let broken = refusal("listen = \"x\"\ndatabase-url = \"postgres://ada:hunter2@db/x\n");
        assert!(broken.contains("line 2") && !broken.contains("hunter2"), "{broken}");
    }

    #[test]
    fn a_public_url_is_a_scheme_and_a_host() {
        assert!(parse_public_url("https://keys.example.com").is_ok());
        assert!(parse_public_url("http://10.0.0.1:8080/").is_ok());
        for raw in [
            "",
            "keys.example.com",
            "ftp://x",
            "https://u:p@x",
            "https://x/keys",
            "https://x/?a",
            "https://x/#a",
        ] {
            assert!(parse_public_url(raw).is_err(), "{raw}");
        }
    }
}
