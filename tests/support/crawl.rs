//! Finds what there is by following every link and form of every page, so that a page that is new tomorrow is found too.
#![allow(dead_code, reason = "each test crate uses its own part")]

use super::Person;
use std::collections::{BTreeMap, VecDeque};

/// Far more than there are pages of different kinds.
const PAGES_MAX: usize = 400;

/// How an address is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    Post,
}

/// One address of each kind that this person is led to from `/`: `/keys/12/edit` stands for all that edit a key.
/// The second part of each is the address as it was met.
pub fn addresses(person: &Person) -> BTreeMap<(Verb, String), String> {
    let mut known: BTreeMap<(Verb, String), String> = BTreeMap::new();
    let mut waiting = VecDeque::from(["/keys".to_owned(), "/account".to_owned()]);
    let mut read = 0;
    while let Some(path) = waiting.pop_front() {
        read += 1;
        assert!(read < PAGES_MAX, "the pages lead on and on: {known:#?}");
        let answer = person.get(&path);
        if answer.status.is_redirection() {
            waiting.extend(remember(&mut known, Verb::Get, answer.location()));
        }
        if !answer.header("content-type").starts_with("text/html") {
            continue;
        }
        for (verb, path) in targets(&answer.body) {
            let new = remember(&mut known, verb, &path);
            if verb == Verb::Get {
                waiting.extend(new);
            }
        }
    }
    known
}

/// The address itself, if it is the first of its kind.
fn remember(known: &mut BTreeMap<(Verb, String), String>, verb: Verb, path: &str) -> Option<String> {
    let ours = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/static/");
    let kind = (verb, kind(path));
    if !ours || known.contains_key(&kind) {
        return None;
    }
    known.insert(kind, path.to_owned());
    Some(path.to_owned())
}

/// The path with `{}` for each id in it, without its query.
pub fn kind(path: &str) -> String {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let part = |part: &str| if is_id(part) { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// A row's number, or a digest in hexadecimal digits.
pub fn is_id(part: &str) -> bool {
    let digits = part.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = part.len() >= 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    !part.is_empty() && (digits || hexadecimal)
}

/// Where links and forms of a page lead.
fn targets(html: &str) -> Vec<(Verb, String)> {
    let mut targets = Vec::new();
    for tag in html.split('<').skip(1).filter_map(|rest| rest.split('>').next()) {
        let posts = attribute(tag, "method").is_some_and(|method| method.eq_ignore_ascii_case("post"));
        let action = if posts { Verb::Post } else { Verb::Get };
        for (name, verb) in [
            ("href", Verb::Get),
            ("hx-get", Verb::Get),
            ("hx-post", Verb::Post),
            ("action", action),
            ("formaction", Verb::Post),
        ] {
            targets.extend(attribute(tag, name).map(|path| (verb, path)));
        }
    }
    targets
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let value = rest.split('"').next()?;
    Some(value.replace("&#38;", "&").replace("&amp;", "&"))
}
