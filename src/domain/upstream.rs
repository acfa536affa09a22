//! Upstreams: the dialects Keyhouse can speak to a provider, and what a base URL may look like.

use super::network::is_global;
use super::{FieldErrors, Invalid, parse_label};
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
            "This address is on this machine or a private network. If the upstream really is there, allow private addresses (--allow-private).",
        ))
    }
}

/// Whether calls to these two base URLs reach different places, by scheme, host or port: a secret given for one is
/// none of the other's business.
pub fn leads_elsewhere(from: &str, to: &str) -> bool {
    let origin = |raw| Url::parse(raw).ok().map(|url| url.origin());
    origin(from) != origin(to)
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

/// Highest priority or weight of a route.
pub const ROUTE_NUMBER_MAX: i64 = 1_000_000;

/// Where a route is to stand among the others of its model, as a form has it.
#[derive(Debug, Clone, Copy)]
pub struct RoutePlaceDraft<'a> {
    /// The upstream's name for the model; blank: the public one.
    pub upstream_model: &'a str,
    /// Blank: after all others, or as it is.
    pub priority: &'a str,
    /// Blank: 1, or as it is.
    pub weight: &'a str,
}

/// A checked draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlace {
    /// `None`: the public name.
    pub upstream_model: Option<String>,
    /// Lower is tried first.
    pub priority: Option<i64>,
    /// Share among equals.
    pub weight: Option<i64>,
}

impl RoutePlaceDraft<'_> {
    /// Checks each field.
    ///
    /// # Errors
    /// Every refused field.
    pub fn parse(&self) -> Result<RoutePlace, FieldErrors> {
        let mut errors = FieldErrors::default();
        let name = match self.upstream_model.trim() {
            "" => Ok(None),
            name => parse_label(name, "The upstream's name for the model", 256).map(Some),
        };
        let number = |raw: &str, least: i64, why: &'static str| match raw.trim() {
            "" => Ok(None),
            raw => match raw.parse() {
                Ok(number) if (least..=ROUTE_NUMBER_MAX).contains(&number) => Ok(Some(number)),
                _ => Err(Invalid::new(why)),
            },
        };
        let upstream_model = errors.take("upstream_model", name);
        let priority = errors.take(
            "priority",
            number(self.priority, 0, "Enter a whole number between 0 and 1000000; lower is tried first."),
        );
        let weight =
            errors.take("weight", number(self.weight, 1, "Enter a whole number between 1 and 1000000."));
        match (upstream_model, priority, weight) {
            (Some(upstream_model), Some(priority), Some(weight)) => {
                Ok(RoutePlace { upstream_model, priority, weight })
            }
            _ => Err(errors),
        }
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

/// An upstream as a form has it.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamDraft<'a> {
    /// Unique.
    pub name: &'a str,
    /// How to talk to it.
    pub dialect: Dialect,
    /// Of all but the echo.
    pub base_url: &'a str,
    /// Of all but the echo.
    pub allow_private: bool,
    /// Of the echo alone; blank is 0.
    pub pace_ms: &'a str,
}

/// A checked draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Unique.
    pub name: UpstreamName,
    /// Empty for echo.
    pub base_url: String,
    /// May be on this machine or a private network.
    pub allow_private: bool,
    /// Milliseconds between two chunks of the echo.
    pub pace_ms: i64,
}

impl UpstreamDraft<'_> {
    /// Checks each field that this dialect has; the others are nothing.
    ///
    /// # Errors
    /// Every refused field.
    pub fn parse(&self) -> Result<UpstreamSettings, FieldErrors> {
        let mut errors = FieldErrors::default();
        let name = errors.take("name", UpstreamName::parse(self.name));
        let is_echo = self.dialect == Dialect::Echo;
        let base_url = || {
            let url = BaseUrl::parse(self.base_url)?;
            url.permit(self.allow_private).map(|()| url.as_str().to_owned())
        };
        let pace_ms = || match self.pace_ms.trim() {
            "" => Ok(0),
            typed => parse_pace_ms(typed.parse().unwrap_or(-1)),
        };
        let base_url = errors.take("base_url", if is_echo { Ok(String::new()) } else { base_url() });
        let pace_ms = errors.take("pace_ms", if is_echo { pace_ms() } else { Ok(0) });
        match (name, base_url, pace_ms) {
            (Some(name), Some(base_url), Some(pace_ms)) => Ok(UpstreamSettings {
                name,
                base_url,
                allow_private: self.allow_private && !is_echo,
                pace_ms,
            }),
            _ => Err(errors),
        }
    }
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
    fn only_another_scheme_host_or_port_leads_elsewhere() {
        let here = "https://api.example.com/v1";
        for same in
            ["https://api.example.com/v2", "https://api.example.com:443", "https://API.example.com/v1"]
        {
            assert!(!leads_elsewhere(here, same), "{same}");
        }
        for other in [
            "http://api.example.com/v1",
            "https://api.example.com:8443/v1",
            "https://api.example.org/v1",
            "https://api.example.com.evil.example/v1",
            "",
        ] {
            assert!(leads_elsewhere(here, other), "{other}");
        }
        assert!(!leads_elsewhere("", ""), "of the echo");
    }

    #[test]
    fn a_form_is_judged_by_its_dialect() {
        let draft = |dialect, base_url, pace_ms| {
            UpstreamDraft { name: "u", dialect, base_url, allow_private: false, pace_ms }.parse()
        };
        let echo = draft(Dialect::Echo, "what is typed here is hidden", "30").expect("valid");
        assert_eq!((echo.base_url.as_str(), echo.pace_ms), ("", 30));
        let remote = draft(Dialect::OpenAi, "https://api.example.com/v1/", "x").expect("valid");
        assert_eq!((remote.base_url.as_str(), remote.pace_ms), ("https://api.example.com/v1", 0));
        for (dialect, base_url, pace_ms, field) in [
            (Dialect::OpenAi, "http://127.0.0.1/v1", "", "base_url"),
            (Dialect::Anthropic, "", "", "base_url"),
            (Dialect::Echo, "", "soon", "pace_ms"),
            (Dialect::Echo, "", "60001", "pace_ms"),
        ] {
            assert!(draft(dialect, base_url, pace_ms).expect_err("refused").of(field).is_some(), "{field}");
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
