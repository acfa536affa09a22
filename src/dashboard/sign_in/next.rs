//! Where people go after they signed in: back to the page they wanted, and never to another site.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

const NEXT_BYTES_MAX: usize = 2048;

/// The sign-in page, and `next` to come back to after it.
pub fn url(next: Option<&str>) -> String {
    match next {
        Some(next) => format!("/sign-in?next={}", utf8_percent_encode(next, NON_ALPHANUMERIC)),
        None => "/sign-in".to_owned(),
    }
}

/// Why the password is asked for once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After too many wrong codes.
    WrongCodes,
    /// The code came too late.
    Late,
}

impl Again {
    /// In the URL.
    const fn word(self) -> &'static str {
        match self {
            Self::WrongCodes => "wrong-codes",
            Self::Late => "late",
        }
    }

    /// Reads [`Again::word`].
    pub fn parse(raw: &str) -> Option<Self> {
        [Self::WrongCodes, Self::Late].into_iter().find(|why| why.word() == raw)
    }

    /// For people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::WrongCodes => "Too many wrong codes. Enter your password again.",
            Self::Late => "That took too long. Enter your password again.",
        }
    }
}

/// As [`url`], where the page says why.
pub fn again_url(next: Option<&str>, why: Again) -> String {
    let url = url(next);
    let joint = if next.is_some() { '&' } else { '?' };
    format!("{url}{joint}again={}", why.word())
}

/// `raw` if it is a path of this server, so that a link to the sign-in page cannot lead to another site.
pub fn safe_next(raw: &str) -> Option<String> {
    let plain = raw.len() <= NEXT_BYTES_MAX && raw.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
    // Browsers read a backslash as a slash, and two slashes as the beginning of a host.
    if !plain || !raw.starts_with('/') || raw.starts_with("//") || raw.contains('\\') {
        return None;
    }
    let here = Url::parse("http://keyhouse.invalid").ok()?;
    let there = here.join(raw).ok()?;
    let detour = ["/sign-in", "/sign-in/code", "/sign-out", "/setup", "/welcome"].contains(&there.path());
    // `join` resolves dots: what is given on is what was checked.
    let path = there[url::Position::BeforePath..].to_owned();
    (there.origin() == here.origin() && !path.starts_with("//") && !detour).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_stays_on_this_server() {
        for (raw, next) in [
            ("/keys", Some("/keys")),
            ("/keys?status=active&q=a%20b", Some("/keys?status=active&q=a%20b")),
            ("/keys?next=https://evil.example", Some("/keys?next=https://evil.example")),
            ("/a/../keys", Some("/keys")),
            ("", None),
            ("keys", None),
            ("//evil.example", None),
            ("/\\evil.example", None),
            ("\\\\evil.example", None),
            ("/..//evil.example", None),
            ("/.//evil.example", None),
            ("/%2e%2e//evil.example", None),
            ("/\t/evil.example", None),
            ("/ /evil.example", None),
            ("/\r\nSet-Cookie:a=b", None),
            ("https://evil.example", None),
            ("javascript:alert(1)", None),
            ("/sign-in?next=/sign-in", None),
            ("/sign-out", None),
        ] {
            assert_eq!(safe_next(raw).as_deref(), next, "{raw:?}");
        }
        assert_eq!(safe_next(&format!("/{}", "a".repeat(NEXT_BYTES_MAX))), None);
    }

    #[test]
    fn the_way_back_is_one_parameter() {
        assert_eq!(url(None), "/sign-in");
        assert_eq!(url(Some("/keys?a=b&c=d")), "/sign-in?next=%2Fkeys%3Fa%3Db%26c%3Dd");
        assert_eq!(again_url(None, Again::Late), "/sign-in?again=late");
        assert_eq!(
            again_url(Some("/keys?a"), Again::WrongCodes),
            "/sign-in?next=%2Fkeys%3Fa&again=wrong-codes"
        );
    }
}
