//! The files of `static/`, embedded in the binary. Their URLs carry a fingerprint, so browsers keep them for ever
//! and yet never use an old one.

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpResponse, web};
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// Of 64 hexadecimal digits.
const FINGERPRINT_DIGITS: usize = 12;

#[derive(RustEmbed)]
#[folder = "static"]
struct Static;

/// The framework's style; and made of it, its dark theme for browsers in which no script chooses it.
const STYLE: &str = "vendor/tabler-1.6.1/tabler.min.css";
const DARK_STYLE: &str = "dark.css";

/// File name to fingerprint.
static FINGERPRINTS: LazyLock<HashMap<String, String>> = LazyLock::new(|| {
    let paths = Static::iter().chain([Cow::Borrowed(DARK_STYLE)]);
    paths.filter_map(|path| Some((path.to_string(), fingerprint(&read(&path)?)))).collect()
});

fn fingerprint(file: &[u8]) -> String {
    let digits: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..FINGERPRINT_DIGITS].to_owned()
}

fn read(path: &str) -> Option<Cow<'static, [u8]>> {
    if path != DARK_STYLE {
        return Some(Static::get(path)?.data);
    }
    let style = Static::get(STYLE)?.data;
    // As specific as before, and at the same place among the other rules.
    let dark = String::from_utf8_lossy(&style).replace("[data-bs-theme=dark]", ":root");
    Some(Cow::Owned(dark.into_bytes()))
}

/// The URL of a file of `static/`, for templates: `{{ crate::dashboard::assets::asset("app.css") }}`.
/// One that does not exist gets a URL that answers 404; a test sees to it that there is none.
pub fn asset(path: &str) -> String {
    let fingerprint = FINGERPRINTS.get(path).map_or("missing", String::as_str);
    format!("/static/{fingerprint}/{path}")
}

/// `GET /static/{fingerprint}/{path}`.
pub async fn serve(place: web::Path<(String, String)>) -> HttpResponse {
    let (fingerprint, path) = place.into_inner();
    // An old fingerprint is refused rather than answered with a newer file, which would be kept under it for ever.
    let file = FINGERPRINTS.get(&path).filter(|current| **current == fingerprint).and_then(|_| read(&path));
    match file {
        Some(file) => HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, content_type(&path)))
            .insert_header((CACHE_CONTROL, FOR_EVER))
            .body(file.into_owned()),
        None => HttpResponse::NotFound().body("not found\n"),
    }
}

fn content_type(path: &str) -> String {
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let is_text = kind.type_() == "text" || kind.subtype() == "svg";
    if is_text { format!("{kind}; charset=utf-8") } else { kind.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_file_that_a_template_names_exists() {
        let mut names = Vec::new();
        collect(Path::new("templates"), &mut names);
        assert!(names.len() > 3, "{names:?}");
        for name in names {
            assert!(FINGERPRINTS.contains_key(&name), "static/{name} is named by a template");
        }
    }

    fn collect(folder: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, names);
                continue;
            }
            let text = fs::read_to_string(&path).expect("a template");
            let after = text.split("asset(\"").skip(1);
            names.extend(after.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }

    #[test]
    fn scripts_and_styles_have_their_types() {
        assert_eq!(content_type("app.js"), "text/javascript; charset=utf-8");
        assert_eq!(content_type("app.css"), "text/css; charset=utf-8");
        assert_eq!(content_type("icons.svg"), "image/svg+xml; charset=utf-8");
    }
}
