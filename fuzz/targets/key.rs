//! What parses as a key is exactly as it was written: `sk-kh`, 46 characters of base62, the checksum right.
#![no_main]

use keyhouse::domain::secret::KeySecret;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(secret) = KeySecret::parse(text) {
        assert_eq!(secret.expose(), text);
        assert_eq!(text.len(), 51);
        assert!(text.strip_prefix("sk-kh").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        // One character more or less, or another one, is another key or none.
        assert!(KeySecret::parse(&text[..50]).is_none());
    }
});
