//! The house rules that a compiler does not know: who may import whom, which crate is named where, what a source
//! file, a template and a migration look like. Each rule is a function from a text to its breaches.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;

/// Modules of the crate, and those that each may name; a module that is not here may name all but `cli`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("config", &["domain"]),
    ("metrics", &["config"]),
    ("error", &["domain"]),
    ("password", &["domain", "error"]),
    ("vault", &["domain", "error"]),
    ("store", &["clock", "domain", "error", "metrics"]),
    ("rollup", &["error", "store"]),
    ("upstream_watch", &["domain", "store"]),
    ("ledger", &["clock", "domain", "error", "metrics", "store"]),
];

/// Those that serve do not see each other, nor what assembles them.
const MAY_NOT_IMPORT: &[(&str, &[&str])] = &[
    ("dashboard", &["api", "app", "cli", "gateway"]),
    ("gateway", &["api", "app", "cli", "dashboard"]),
    ("api", &["app", "cli", "dashboard", "gateway"]),
];

/// Crates that are named in one part of the house alone: by the beginnings of its paths.
const NAMED_IN: &[(&str, &[&str])] = &[
    (
        "diesel",
        &[
            "src/store/",
            "src/ledger/confirming.rs",
            "src/ledger/locked.rs",
            "src/ledger/reading.rs",
            "src/ledger/rows.rs",
            "src/ledger/statements.rs",
            "src/ledger/writing.rs",
            "src/error.rs",
        ],
    ),
    ("diesel_migrations", &["src/store/connection.rs"]),
    ("askama", &["src/dashboard/"]),
    ("actix_htmx", &["src/dashboard/", "src/app.rs"]),
    ("hyper", &["src/gateway/client.rs"]),
    ("hyper_util", &["src/gateway/client.rs"]),
    ("hyper_rustls", &["src/gateway/client.rs"]),
    ("rustls", &["src/gateway/client.rs"]),
    ("prometheus_client", &["src/metrics.rs"]),
    ("chacha20poly1305", &["src/vault.rs"]),
    ("argon2", &["src/password.rs"]),
    ("totp_rs", &["src/domain/second_factor.rs"]),
    ("clap", &["src/cli/"]),
];

const NEVER_IN_SOURCE: &[&str] = &[".unwrap()", "todo!(", "unimplemented!(", "dbg!("];

#[test]
fn the_source_keeps_the_house_rules() {
    let files = files_under("src", "rs");
    assert!(files.len() > 40, "the source was not found");
    report(files.iter().flat_map(|(path, text)| source_breaches(path, text)));
}

#[test]
fn templates_carry_no_script_style_or_raw_html() {
    let files = files_under("templates", "html");
    assert!(!files.is_empty(), "the templates were not found");
    report(files.iter().flat_map(|(path, text)| template_breaches(path, text)));
}

#[test]
fn every_icon_is_there_and_is_used() {
    let sprite = fs::read_to_string(root().join("static/icons.svg")).expect("the icons");
    let ids: BTreeSet<&str> =
        sprite.split("<symbol id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let (templates, source) = (files_under("templates", "html"), files_under("src/dashboard", "rs"));
    let named = templates.iter().flat_map(|(_, text)| text.split("icon(\"").skip(1));
    let named: BTreeSet<&str> = named.filter_map(|rest| rest.split('"').next()).collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<_> = named.difference(&ids).collect();
    assert!(missing.is_empty(), "not in static/icons.svg: {missing:?}");
    // Some are named in a handler and shown by a template.
    let is_used = |id: &&&str| {
        let quoted = format!("\"{id}\"");
        templates.iter().chain(&source).any(|(_, text)| text.contains(&quoted))
    };
    let unused: Vec<_> = ids.iter().filter(|id| !is_used(id)).collect();
    assert!(unused.is_empty(), "in static/icons.svg for nobody: {unused:?}");
}

#[test]
fn both_engines_have_the_same_migrations() {
    let names = |engine: &str| -> BTreeSet<String> {
        let folder = root().join("migrations").join(engine);
        let entries = fs::read_dir(folder).expect("a folder of migrations");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let (sqlite, postgres) = (names("sqlite"), names("postgres"));
    assert!(!sqlite.is_empty());
    assert_eq!(sqlite, postgres);
    for engine in ["sqlite", "postgres"] {
        for name in names(engine) {
            for direction in ["up.sql", "down.sql"] {
                let file = root().join("migrations").join(engine).join(&name).join(direction);
                let text = fs::read_to_string(&file).unwrap_or_default();
                assert!(!text.trim().is_empty(), "{} is missing or empty", file.display());
            }
        }
    }
}

fn report(breaches: impl Iterator<Item = String>) {
    let breaches: Vec<String> = breaches.collect();
    assert!(breaches.is_empty(), "{} breaches of the house rules:\n{}", breaches.len(), breaches.join("\n"));
}

fn source_breaches(path: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if !text.starts_with("//!") {
        breaches.push(format!("{path}: does not begin with //!"));
    }
    if text.lines().count() > LINES_MAX {
        breaches.push(format!("{path}: is longer than {LINES_MAX} lines"));
    }
    let code = without_comments(text);
    for word in NEVER_IN_SOURCE.iter().filter(|word| code.contains(**word)) {
        breaches.push(format!("{path}: has {word}"));
    }
    let module = module_of(path);
    for import in imports(path, &code) {
        if import != module && !may_import(module, &import) {
            breaches.push(format!("{path}: {module} may not import {import}"));
        }
    }
    for (name, places) in NAMED_IN {
        if names_crate(&code, name) && !places.iter().any(|place| path.starts_with(place)) {
            breaches.push(format!("{path}: names {name}"));
        }
    }
    if module == "domain" && names_crate(&code, "actix_web") {
        breaches.push(format!("{path}: names actix_web"));
    }
    breaches
}

fn may_import(module: &str, import: &str) -> bool {
    let of = |list: &[(&str, &'static [&'static str])]| {
        list.iter().find(|(name, _)| *name == module).map(|(_, imports)| *imports)
    };
    if let Some(allowed) = of(MAY_IMPORT) {
        return allowed.contains(&import);
    }
    let refused = of(MAY_NOT_IMPORT).unwrap_or(&["cli"]);
    module == "main" || !refused.contains(&import)
}

/// `src/store/keys.rs` belongs to `store`, `src/app.rs` to `app`.
fn module_of(path: &str) -> &str {
    let inside = path.trim_start_matches("src/");
    inside.split(['/', '.']).next().unwrap_or(inside)
}

/// The crate's modules that a file names, as `crate::store::…`, in a group, or by climbing.
fn imports(path: &str, code: &str) -> BTreeSet<String> {
    // How often one climbs from this file to the crate itself.
    let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    let climb = format!("{}::", vec!["super"; depth].join("::"));
    let code = code.replace(&climb, "crate::");
    let mut names = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        let preceded =
            code[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        let rest = &code[start + "crate::".len()..];
        if preceded {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_heads(group)),
            None => names.extend(identifier(rest)),
        }
    }
    // Types and macros of the crate's root are no modules; nor is what a `mod tests` climbs to.
    names.retain(|name| {
        root().join("src").join(name).exists() || root().join(format!("src/{name}.rs")).exists()
    });
    names
}

/// The first names of the parts of `a::b, c::{d, e}, f}…`.
fn group_heads(group: &str) -> Vec<String> {
    let (mut nesting, mut heads, mut at_start) = (1, Vec::new(), true);
    for (index, c) in group.char_indices() {
        match c {
            '{' => nesting += 1,
            '}' => nesting -= 1,
            ',' if nesting == 1 => at_start = true,
            _ if at_start && !c.is_whitespace() => {
                heads.extend(identifier(&group[index..]));
                at_start = false;
            }
            _ => {}
        }
        if nesting == 0 {
            break;
        }
    }
    heads
}

fn identifier(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(start, _)| {
        let before = code[..start].chars().next_back();
        let path_before = code[..start].ends_with("::") && !code[..start].ends_with(" ::");
        let after = &code[start + name.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"')
            && !path_before
            && (after.starts_with("::") || (code[..start].ends_with("use ") && after.starts_with([';', ' '])))
    })
}

/// Whole-line comments and what stands behind ` // `; strings are left as they are.
fn without_comments(text: &str) -> String {
    let code = |line: &str| match line.trim_start().starts_with("//") {
        true => String::new(),
        false => line.split(" // ").next().unwrap_or_default().to_owned(),
    };
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn template_breaches(path: &str, text: &str) -> Vec<String> {
    let squeezed: String = text.replace("| ", "|");
    let mut breaches: Vec<String> = ["|safe", "hx-on", "<style", "javascript:"]
        .iter()
        .filter(|word| squeezed.contains(**word))
        .map(|word| format!("{path}: has {word}"))
        .collect();
    for tag in tags(text) {
        if tag.starts_with("<script") && !attributes(tag).any(|name| name == "src") {
            breaches.push(format!("{path}: has an inline script"));
        }
        for name in attributes(tag).filter(|name| *name == "style" || is_handler(name)) {
            breaches.push(format!("{path}: has {name}="));
        }
    }
    breaches
}

/// `onclick`, `onload`, …
fn is_handler(attribute: &str) -> bool {
    attribute.len() > 3
        && attribute.starts_with("on")
        && attribute.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn tags(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('<').map(|(start, _)| {
        let rest = &text[start..];
        &rest[..rest.find('>').unwrap_or(rest.len())]
    })
}

/// The names before `=` in a tag.
fn attributes(tag: &str) -> impl Iterator<Item = &str> {
    tag.match_indices('=').map(|(end, _)| {
        let before = tag[..end].trim_end();
        let name = |c: char| !(c.is_alphanumeric() || c == '-' || c == ':' || c == '_');
        &before[before.rfind(name).map_or(0, |at| at + 1)..]
    })
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of an extension under a folder, by its path from the root, with its text.
fn files_under(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push((relative(&path), fs::read_to_string(&path).expect("a text file")));
            }
        }
    }
    files
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("under the root").to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod a_breach_is_noticed {
    use super::*;

    fn breaches(path: &str, code: &str) -> usize {
        source_breaches(path, &format!("//! A module.\n{code}\n")).len()
    }

    #[test]
    fn in_imports() {
        assert_eq!(breaches("src/domain/key.rs", "use crate::store::keys;"), 1);
        assert_eq!(breaches("src/domain/key.rs", "use super::super::store::keys;"), 1);
        assert_eq!(breaches("src/domain/mod.rs", "use super::store::keys;"), 1);
        assert_eq!(
            breaches("src/domain/key.rs", "use super::credits::Credits;\nuse crate::domain::Invalid;"),
            0
        );
        assert_eq!(
            breaches("src/gateway/relay.rs", "use crate::{clock, dashboard::{page, session}, store};"),
            1
        );
        assert_eq!(breaches("src/dashboard/keys.rs", "fn f() { crate::gateway::chat::completions() }"), 1);
        assert_eq!(breaches("src/dashboard/keys.rs", "use crate::ledger::Ledger;\nuse crate::store;"), 0);
        assert_eq!(breaches("src/store/keys.rs", "use crate::ledger::Ledger;"), 1);
        assert_eq!(breaches("src/app.rs", "use crate::cli;"), 1);
        assert_eq!(breaches("src/app.rs", "use crate::{dashboard, gateway};"), 0);
    }

    #[test]
    fn in_crates() {
        assert_eq!(breaches("src/domain/key.rs", "use actix_web::web;"), 1);
        assert_eq!(breaches("src/domain/key.rs", "use diesel::prelude::*;"), 1);
        assert_eq!(breaches("src/ledger/decide.rs", "use diesel::prelude::*;"), 1);
        assert_eq!(breaches("src/store/keys.rs", "use diesel::prelude::*;"), 0);
        assert_eq!(
            breaches("src/gateway/relay.rs", "let client = hyper_util::client::legacy::Client::new();"),
            1
        );
        assert_eq!(breaches("src/gateway/client.rs", "use hyper::body::Incoming;"), 0);
        assert_eq!(breaches("src/cli/key.rs", "#[derive(askama::Template)]"), 1);
        assert_eq!(breaches("src/cli/key.rs", "// diesel::prelude is not for us"), 0);
    }

    #[test]
    fn in_the_file_itself() {
        assert_eq!(source_breaches("src/app.rs", "fn main() {}").len(), 1);
        assert_eq!(breaches("src/app.rs", &"\n".repeat(LINES_MAX)), 1);
        for bad in NEVER_IN_SOURCE {
            assert_eq!(breaches("src/app.rs", &format!("fn f() {{ x{bad} }}")), 1, "{bad}");
        }
        assert_eq!(breaches("src/app.rs", "x.unwrap_or_default();"), 0);
    }

    #[test]
    fn in_templates() {
        for bad in [
            "{{ name|safe }}",
            "{{ name | safe }}",
            "<p style=\"color: red\">",
            "<script>alert(1)</script>",
            "<button type=\"button\" onclick=\"go()\">",
            "<b\n  onmouseover = 'x'>",
            "<form hx-on:submit=\"go()\">",
            "<style>p { }</style>",
        ] {
            assert_eq!(template_breaches("templates/x.html", bad).len(), 1, "{bad}");
        }
        let good = "<script src=\"/static/app.js\" defer></script><p class=\"style\" data-on=\"x\">{{ a|lower }}</p>";
        assert_eq!(template_breaches("templates/x.html", good), Vec::<String>::new());
    }
}
