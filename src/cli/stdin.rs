//! Secrets from stdin: typed without echo at a terminal, else read whole, bounded, less one line end.

use super::failure::Failure;
use std::io::{self, IsTerminal, Read};

/// No password or provider's secret is longer.
const BYTES_MAX: u64 = 16 * 1024;

/// Reads a secret; `what` names it in the prompt and in errors.
pub(super) fn read_secret(what: &str) -> Result<String, Failure> {
    if io::stdin().is_terminal() {
        return prompt(&format!("{what}: "));
    }
    read_piped(io::stdin().lock(), what)
}

/// As [`read_secret`], typed twice at a terminal.
pub(super) fn read_new_password() -> Result<String, Failure> {
    let password = read_secret("Password")?;
    if io::stdin().is_terminal() && prompt("The same again: ")? != password {
        return Err(Failure::Failed("The two passwords differ; try again.".to_owned()));
    }
    Ok(password)
}

fn prompt(label: &str) -> Result<String, Failure> {
    rpassword::prompt_password(label)
        .map_err(|error| Failure::Failed(format!("Nothing could be read from the terminal: {error}.")))
}

fn read_piped(input: impl Read, what: &str) -> Result<String, Failure> {
    let mut text = String::new();
    input.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| {
        Failure::Failed(format!("The {} cannot be read from stdin: {error}.", what.to_lowercase()))
    })?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::Usage(format!(
            "The {} on stdin is longer than {BYTES_MAX} bytes.",
            what.to_lowercase()
        )));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_dropped_and_no_more() {
        let read = |text: &str| read_piped(text.as_bytes(), "Password").expect("read");
        assert_eq!(read("secret\n"), "secret");
        assert_eq!(read("secret\r\n"), "secret");
        assert_eq!(read(" secret \n\n"), " secret \n");
        assert_eq!(read(""), "");
    }

    #[test]
    fn what_never_ends_or_is_no_text_is_refused() {
        assert!(read_piped(io::repeat(b'x'), "Password").is_err());
        assert!(read_piped(&b"\xff\xfe"[..], "Password").is_err());
    }
}
