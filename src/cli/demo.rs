//! `keyhouse demo`: a server on a throw-away data set, gone when it ends.

use super::data::DataOptions;
use super::failure::Failure;
use super::output::{self, Output};
use super::{sample, serve};
use crate::config::Reach;
use crate::vault::Vault;
use clap::Args;
use serde::Serialize;
use std::net::SocketAddr;

/// Look around: a server on a throw-away data set with users, models, keys and a built-in upstream
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  keyhouse demo\n  keyhouse demo --listen 127.0.0.1:9000")]
pub(super) struct DemoOptions {
    /// Address and port
    #[arg(long, value_name = "ADDRESS", env = "KEYHOUSE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

/// What one needs to look around.
#[derive(Serialize)]
struct Welcome<'a> {
    url: String,
    admin: &'a sample::Login,
    user: &'a sample::Login,
    model: &'static str,
    secret: &'a str,
}

/// Serves until it is told to stop; the data set goes with it.
pub(super) fn run(options: &DemoOptions, output: Output) -> Result<(), Failure> {
    let listener = serve::bind(options.listen)?;
    let folder = tempfile::Builder::new().prefix("keyhouse-demo-").tempdir().map_err(|error| {
        Failure::Failed(format!("No temporary directory can be made: {error}. Check TMPDIR."))
    })?;
    let store = DataOptions::in_directory(folder.path()).open_store()?;
    let vault = Vault::from_master_key(&rand::random());
    let sample = sample::furnish(&store, &vault)?;
    let reach = Reach { public_url: None, trusted_proxies: Vec::new() };
    serve::serve(store, vault, reach, listener, |_, address| {
        eprintln!("listening on http://{address}");
        welcome(&sample, address, output)
    })
}

fn welcome(sample: &sample::Sample, address: SocketAddr, output: Output) -> Result<(), Failure> {
    let url = format!("http://{}", serve::reachable(address));
    let (admin, user, secret) = (&sample.admin, &sample.user, sample.secret.expose());
    if output.json {
        return output.document(&Welcome { url, admin, user, model: sample::MODEL, secret });
    }
    let (model, admin_name, user_name) = (sample::MODEL, &admin.name, &user.name);
    output::print(&format!(
        r#"
Sign in at {url}

  {user_name:<6} {}    a user with credits and keys
  {admin_name:<6} {}    an admin

Call it:

  curl -N {url}/v1/chat/completions \
    -H 'Authorization: Bearer {secret}' \
    -H 'Content-Type: application/json' \
    -d '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"What is a key house?"}}]}}'

Everything here is thrown away when the demo ends (Ctrl-C)."#,
        user.password, admin.password
    ))
}
