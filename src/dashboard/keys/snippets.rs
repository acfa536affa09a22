//! Programs to paste into a terminal: a first call with a new key against this very server.

use crate::config::Reach;
use actix_web::HttpRequest;

/// One program.
pub struct Snippet {
    /// Of the tab and its panel.
    pub id: &'static str,
    /// On the tab.
    pub title: &'static str,
    /// How to run it.
    pub hint: &'static str,
    /// To copy.
    pub code: String,
}

/// curl, Python and Node, each calling `model` with `secret`.
pub fn snippets(base_url: &str, secret: &str, model: &str) -> [Snippet; 3] {
    [
        Snippet { id: "curl", title: "curl", hint: "Run in a terminal", code: curl(base_url, secret, model) },
        Snippet {
            id: "python",
            title: "Python",
            hint: "After: pip install openai",
            code: python(base_url, secret, model),
        },
        Snippet {
            id: "node",
            title: "Node",
            hint: "After: npm install openai; save as hello.mjs",
            code: node(base_url, secret, model),
        },
    ]
}

fn curl(base_url: &str, secret: &str, model: &str) -> String {
    format!(
        r#"curl {base_url}/chat/completions \
  -H "Authorization: Bearer {secret}" \
  -H "Content-Type: application/json" \
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'"#
    )
}

fn python(base_url: &str, secret: &str, model: &str) -> String {
    format!(
        r#"from openai import OpenAI

client = OpenAI(
    base_url="{base_url}",
    api_key="{secret}",
)
completion = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello!"}}],
)
print(completion.choices[0].message.content)"#
    )
}

fn node(base_url: &str, secret: &str, model: &str) -> String {
    format!(
        r#"import OpenAI from "openai";

const client = new OpenAI({{
  baseURL: "{base_url}",
  apiKey: "{secret}",
}});
const completion = await client.chat.completions.create({{
  model: "{model}",
  messages: [{{ role: "user", content: "Hello!" }}],
}});
console.log(completion.choices[0].message.content);"#
    )
}

/// Where programs reach `/v1` of this server: its public URL, or else as this browser reached it.
pub fn base_url(reach: &Reach, request: &HttpRequest) -> String {
    let server = reach.server_url(request);
    server.map_or_else(|| "/v1".into(), |url| format!("{}/v1", url.as_str().trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn as_seen(public_url: Option<&str>, host: &'static str) -> String {
        let reach = Reach {
            public_url: public_url.map(|url| url.parse().expect("a URL")),
            trusted_proxies: Vec::new(),
        };
        base_url(&reach, &TestRequest::default().insert_header(("host", host)).to_http_request())
    }

    #[test]
    fn programs_call_the_server_where_it_is_reached() {
        assert_eq!(as_seen(None, "127.0.0.1:8080"), "http://127.0.0.1:8080/v1");
        assert_eq!(as_seen(Some("https://keys.test/house/"), "x"), "https://keys.test/house/v1");
        assert_eq!(as_seen(None, "a\"; rm -rf /; \""), "/v1");
    }
}
