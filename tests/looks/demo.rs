//! The house of `keyhouse demo`, which has something to show on every page, and one page of each kind in it.

use crate::support::crawl::{self, Verb};
use crate::support::visitor;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A name and its password.
pub struct Login {
    pub name: String,
    pub password: String,
}

/// One page of each kind that somebody sees, by its kind: `/keys/{}/edit`.
pub struct Tour {
    pub login: Login,
    pub pages: Vec<(String, String)>,
}

/// A running demo; it ends with this value.
pub struct Demo {
    pub url: String,
    welcome: Value,
    process: Child,
}

impl Demo {
    pub fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_keyhouse"))
            .args(["demo", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the demo starts");
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let (mut text, mut line) = (String::new(), String::new());
        let welcome: Value = loop {
            line.clear();
            assert!(output.read_line(&mut line).expect("text") > 0, "the demo ended: {text}");
            text.push_str(&line);
            if let Ok(welcome) = serde_json::from_str(&text) {
                break welcome;
            }
        };
        let url = welcome["url"].as_str().expect("a URL").to_owned();
        Self { url, welcome, process }
    }

    /// The user's pages, and those that only the admin has.
    pub fn tours(&self) -> [Tour; 2] {
        let mut seen = BTreeSet::new();
        let tours = ["user", "admin"].map(|who| {
            let word = |name: &str| self.welcome[who][name].as_str().expect("a word").to_owned();
            let login = Login { name: word("name"), password: word("password") };
            let person = visitor(&self.url);
            assert!(person.sign_in(&login.name, &login.password).status.is_redirection());
            let is_page = |path: &str| person.get(path).header("content-type").starts_with("text/html");
            let gets = crawl::addresses(&person).into_iter().filter(|((verb, _), _)| *verb == Verb::Get);
            let mut pages: Vec<(String, String)> =
                gets.map(|((_, kind), path)| (kind, path)).filter(|(_, path)| is_page(path)).collect();
            pages.retain(|(kind, _)| seen.insert(kind.clone()));
            Tour { login, pages }
        });
        let kinds = |tour: &Tour| tour.pages.iter().map(|(kind, _)| kind.clone()).collect::<Vec<_>>();
        assert!(seen.len() > 30, "one page of each kind: {:#?}", tours.each_ref().map(kinds));
        tours
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What people see who are not signed in.
pub const OUTSIDE: [&str; 3] = ["/sign-in", "/welcome?token=wrong", "/nothing/here"];
