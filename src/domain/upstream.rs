//! Upstreams: the dialects Keyhouse can speak to a provider, and what a base URL may look like.

use super::network::is_global;
use super::{Invalid, parse_label};
use std::fmt;
use url::{Host, Url};

/// Slowest pace of the echo upstream between two chunks, in milliseconds.
const PACE_MS_MAX: i64 = 60_000;

/// How to talk to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `POST {base}/chat/completions` and its siblings, Bearer secret.
    OpenAi,
    /// `POST {base}/messages` and its siblings, `x-api-key` secret.
    Anthropic,
    /// Built in: answers by itself, for demos and tests.
    Echo,
}

impl Dialect {
    /// The word on the command line and in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Echo => "echo",
        }
    }

    /// Parses that word.
    ///
    /// # Errors
    /// For any other.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        match raw {
            "openai" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "echo" => Ok(Self::Echo),
            _ => Err(Invalid::new("Choose a dialect: openai, anthropic or echo.")),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A provider's base URL without a trailing slash, such as `https://api.openai.com/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Accepts an absolute http(s) URL with a host and nothing that could carry a secret or change the route.
    ///
    /// # Errors
    /// For other schemes, user names or passwords, queries and fragments.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let url = (raw.len() <= 2048)
            .then(|| Url::parse(raw.trim()).ok())
            .flatten()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or(Invalid::new("Enter an absolute URL such as https://api.openai.com/v1."))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Invalid::new(
                "Leave names and passwords out of the URL; give the secret separately.",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Invalid::new("Leave ? and # out of the URL."));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Refuses a host that plainly is on this machine or a private network, unless that is allowed. What a name
    /// resolves to is checked at each connection.
    ///
    /// # Errors
    /// Says how to allow it.
    pub fn permit(&self, allow_private: bool) -> Result<(), Invalid> {
        let public = match Url::parse(&self.0).ok().as_ref().and_then(Url::host) {
            Some(Host::Ipv4(ip)) => is_global(ip.into()),
            Some(Host::Ipv6(ip)) => is_global(ip.into()),
            Some(Host::Domain(name)) => {
                let name = name.trim_end_matches('.');
                name != "localhost" && !name.ends_with(".localhost")
            }
            None => false,
        };
        if public || allow_private {
            return Ok(());
        }
        Err(Invalid::new(
            "This address is on this machine or a private network. If the upstream really is there, add --allow-private.",
        ))
    }
}

/// An upstream's name: it is typed before `=` in routes, so it has no punctuation but `. _ -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamName(String);

impl UpstreamName {
    /// Letters, digits and `. _ -`, at most 60.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let name = raw.trim();
        let good = (1..=60).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if good {
            return Ok(Self(name.to_owned()));
        }
        Err(Invalid::new("Enter a name of 1 to 60 letters, digits, or . _ -."))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which upstream serves a model, and what it calls it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteDraft {
    /// Of the provider.
    pub upstream: UpstreamName,
    /// `None`: by the public name.
    pub upstream_model: Option<String>,
}

impl RouteDraft {
    /// Parses `upstream` or `upstream=their-name`; whatever stands behind the first `=` is their name.
    ///
    /// # Errors
    /// When either part is empty, too long, or has characters it may not have.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let (upstream, upstream_model) = match raw.split_once('=') {
            Some((upstream, model)) => {
                (upstream, Some(parse_label(model, "The upstream's name for the model", 256)?))
            }
            None => (raw, None),
        };
        Ok(Self { upstream: UpstreamName::parse(upstream)?, upstream_model })
    }
}

/// The secret sent to a provider. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamSecret(String);

impl UpstreamSecret {
    /// It travels in a header: visible ASCII without spaces, at most 4096.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(raw: &str) -> Result<Self, Invalid> {
        let secret = raw.trim();
        if (1..=4096).contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(secret.to_owned()));
        }
        Err(Invalid::new(
            "Enter the upstream's secret: visible ASCII characters without spaces, at most 4096.",
        ))
    }

    /// The text, to encrypt it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UpstreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UpstreamSecret(…)")
    }
}

/// Checks the pace of an echo upstream: milliseconds between two chunks of its answer.
///
/// # Errors
/// When it is negative or longer than a minute.
pub fn parse_pace_ms(pace_ms: i64) -> Result<i64, Invalid> {
    if (0..=PACE_MS_MAX).contains(&pace_ms) {
        return Ok(pace_ms);
    }
    Err(Invalid::new("Enter a pace between 0 and 60000 milliseconds."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_absolute_and_bear_no_secret() {
        assert_eq!(
            BaseUrl::parse("https://api.openai.com/v1/").expect("valid").as_str(),
            "https://api.openai.com/v1"
        );
        for raw in [
            "",
            "api.openai.com",
            "ftp://x/",
            "file:///etc/passwd",
            "https://u:p@x/",
            "https://x/?k=1",
            "https://x/#a",
        ] {
            assert!(BaseUrl::parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn an_address_that_is_not_public_must_be_allowed() {
        for raw in [
            "http://localhost:11434/v1",
            "http://LOCALHOST./v1",
            "http://api.localhost/v1",
            "http://127.0.0.1/v1",
            "http://2130706433/v1",
            "http://0x7f.1/v1",
            "http://[::1]:8080/v1",
            "http://[::ffff:10.0.0.1]/v1",
            "http://169.254.169.254/v1",
        ] {
            let url = BaseUrl::parse(raw).expect(raw);
            assert!(url.permit(false).is_err(), "{raw}");
            assert!(url.permit(true).is_ok(), "{raw}");
        }
        for raw in ["https://api.openai.com/v1", "https://8.8.8.8/v1", "http://localhost.example.com/v1"] {
            assert!(BaseUrl::parse(raw).expect(raw).permit(false).is_ok(), "{raw}");
        }
    }

    #[test]
    fn a_route_splits_at_its_first_equals_sign() {
        let route = RouteDraft::parse("openrouter=meta/llama-3:70b=x").expect("valid");
        assert_eq!(route.upstream.as_str(), "openrouter");
        assert_eq!(route.upstream_model.as_deref(), Some("meta/llama-3:70b=x"));
        assert_eq!(RouteDraft::parse("echo").expect("valid").upstream_model, None);
        for raw in ["", "=gpt", "echo=", "a b=gpt", "echo=a\nb"] {
            assert!(RouteDraft::parse(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn a_secret_fits_a_header_and_does_not_print_itself() {
        let secret = UpstreamSecret::parse(" sk-abc\n").expect("valid");
        assert_eq!(secret.expose(), "sk-abc");
        assert_eq!(format!("{secret:?}"), "UpstreamSecret(…)");
        for raw in ["", " ", "a b", "a\r\nb", "schlüssel", &"x".repeat(4097)] {
            assert!(UpstreamSecret::parse(raw).is_err(), "{raw}");
        }
    }
}
