//! `keyhouse user sign-in-link`: a link by which a person sets their password, once.

use super::data::Context;
use super::failure::Failure;
use super::output::{Show, moment};
use super::serve::reachable;
use super::user;
use crate::config::parse_public_url;
use crate::domain::sign_in_link::SignInToken;
use crate::domain::user::UserName;
use crate::store::audit::Actor;
use crate::store::sign_in_links;
use clap::Args;
use serde::Serialize;
use std::net::SocketAddr;
use url::Url;

/// Where the link leads.
#[derive(Debug, Clone, Args)]
pub(super) struct LinkOptions {
    /// How people reach the server, for a sign-in link [default: http:// and --listen]
    #[arg(long, value_name = "URL", env = "KEYHOUSE_PUBLIC_URL", value_parser = parse_public_url)]
    public_url: Option<Url>,
    /// Where the server listens, for a sign-in link
    #[arg(long, value_name = "ADDRESS", env = "KEYHOUSE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

impl LinkOptions {
    /// The link of this token.
    pub fn of(&self, token: &SignInToken) -> String {
        let listen = || format!("http://{}", reachable(self.listen));
        token.link(&self.public_url.as_ref().map_or_else(listen, Url::to_string))
    }
}

/// Print a link by which a user sets their password, once; the one before stops to work
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  keyhouse user sign-in-link ada --public-url https://keys.example.com")]
pub(super) struct SignInLink {
    /// Login name
    #[arg(value_parser = UserName::parse)]
    name: UserName,
    #[command(flatten)]
    link: LinkOptions,
}

/// A link that was made.
#[derive(Serialize)]
struct LinkView {
    /// Whose.
    name: String,
    /// To be opened in a browser.
    sign_in_link: String,
    /// RFC 3339.
    expires_at: String,
}

impl Show for LinkView {
    const NONE: &'static str = "There is no link.";

    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![("Sign-in link", self.sign_in_link.clone()), ("Works until", self.expires_at.clone())]
    }
}

/// Runs the command.
pub(super) fn run(options: &SignInLink, context: &Context) -> Result<(), Failure> {
    let user = context.with(|connection, _| Ok(user::find(connection, &options.name)))??;
    let token = SignInToken::generate();
    let expires_at_ms = context.with(|connection, now_ms| {
        sign_in_links::create(connection, user.id, &token.digest(), &Actor::cli(), now_ms)
    })?;
    let view = LinkView {
        name: user.name,
        sign_in_link: options.link.of(&token),
        expires_at: moment(expires_at_ms),
    };
    context.output.one(&view)
}
