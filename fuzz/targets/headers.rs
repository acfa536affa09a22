//! Whatever stands in the headers that bear a key, it is an answer or a refusal; no two different keys are ever one.
//! Input: header values, one a line; those that begin with `x` go into `x-api-key`.
#![no_main]

use actix_web::http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use keyhouse::domain::secret::KeySecret;
use keyhouse::gateway::presented_key;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(8) {
        let (name, value) = match line.strip_prefix(b"x") {
            Some(value) => (HeaderName::from_static("x-api-key"), value),
            None => (AUTHORIZATION, line),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    if let Ok(digest) = presented_key(&headers) {
        for (_, value) in &headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let last = value.trim().rsplit(' ').next().unwrap_or_default();
            assert_eq!(KeySecret::parse(last).map(|secret| secret.digest()), Some(digest.clone()));
        }
    }
});
