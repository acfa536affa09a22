//! A JSON object in its own order, its values unread, and the few kinds of values that Keyhouse reads from one.

use super::error::GatewayError;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Most fields of an object that is read by name; the routes have some dozens.
const FIELDS_MAX: usize = 1_024;

/// Names and values as they were written.
#[derive(Debug)]
pub struct Object<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

/// A name as it was written, where that is possible: serde alone would make each a string of its own.
#[derive(Deserialize)]
pub struct Name<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A part, if it is what is looked for.
pub fn read<'a, T: Deserialize<'a>>(part: &'a RawValue) -> Option<T> {
    serde_json::from_str(part.get()).ok()
}

/// What an object says, if it is one: an array would be read as a list of fields.
pub fn object<'a, T: Deserialize<'a>>(part: &'a RawValue) -> Option<T> {
    Some(part).filter(|part| part.get().starts_with('{')).and_then(read)
}

/// Shows `see` each element of an array, however many there are. `false`: it is none.
pub fn each<'a>(array: &'a RawValue, see: impl FnMut(&'a RawValue)) -> bool {
    struct Elements<F>(F);
    impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
            while let Some(element) = array.next_element()? {
                self.0(element);
            }
            Ok(())
        }
    }
    serde_json::Deserializer::from_str(array.get()).deserialize_seq(Elements(see)).is_ok()
}

/// Reads what came as bytes. Nearly all of it is text, which is found out once, and not for each string in it.
///
/// # Errors
/// Where the JSON breaks.
pub fn from_bytes<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(json),
    }
}

impl<'a> Object<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Says where the JSON breaks.
    pub fn parse(body: &'a [u8]) -> Result<Self, GatewayError> {
        from_bytes(body).map_err(|error| malformed(&error))
    }

    /// The value of a name; null is as if it were not given.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        found.filter(|value| value.get() != "null")
    }

    /// The object with this in place of a value.
    pub fn with(&self, name: &str, value: &str) -> String {
        let mut written = Writer::with_capacity(64);
        for (key, old) in &self.0 {
            written.put(key, if key == name { value } else { old.get() });
        }
        written.finish()
    }

    /// Refuses two of one name among those that are acted upon, and other spellings of them.
    ///
    /// # Errors
    /// Names the field.
    pub fn refuse_doubles(&self, acted_upon: &'static [&'static str]) -> Result<(), GatewayError> {
        for &name in acted_upon {
            let mut same = self.0.iter().filter(|(key, _)| is_spelling(name, key));
            match (same.next(), same.next()) {
                (Some(_), Some(_)) => {
                    return Err(GatewayError::field(name, format!("`{name}` is given twice. Give it once.")));
                }
                (Some((key, _)), None) if key != name => {
                    return Err(GatewayError::field(name, format!("Write `{name}` in lower case.")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A field that is true or false, and false when it is not given.
    ///
    /// # Errors
    /// For anything else.
    pub fn boolean(&self, name: &'static str) -> Result<bool, GatewayError> {
        Ok(self.switch(name)?.unwrap_or(false))
    }

    /// A field that is true or false, if it is given.
    ///
    /// # Errors
    /// For anything else.
    pub fn switch(&self, name: &'static str) -> Result<Option<bool>, GatewayError> {
        match self.get(name).map(RawValue::get) {
            None => Ok(None),
            Some("false") => Ok(Some(false)),
            Some("true") => Ok(Some(true)),
            Some(_) => Err(GatewayError::field(name, format!("`{name}` must be true or false."))),
        }
    }

    /// A whole number between 1 and `max`, if it is given.
    ///
    /// # Errors
    /// For anything else.
    pub fn integer(&self, name: &'static str, max: i64) -> Result<Option<i64>, GatewayError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        // Digits only: 1e3 and 5.0 are integers to some parsers and not to others.
        let parsed = value.get().parse::<i64>().ok().filter(|number| (1..=max).contains(number));
        parsed.map(Some).ok_or_else(|| {
            GatewayError::field(name, format!("`{name}` must be a whole number between 1 and {max}."))
        })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    if fields.len() == FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                    fields.push((name, value));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Self)
    }
}

/// Writes an object, field by field.
pub struct Writer(String);

impl Writer {
    /// With room for about so much.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds a field whose value is JSON already.
    pub fn put(&mut self, name: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        push_quoted(&mut self.0, name);
        self.0.push(':');
        self.0.push_str(value);
    }

    /// The object.
    pub fn finish(mut self) -> String {
        if self.0.is_empty() {
            self.0.push('{');
        }
        self.0.push('}');
        self.0
    }
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    push_quoted(&mut json, text);
    json
}

fn push_quoted(json: &mut String, text: &str) {
    if text.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
        return json.push_str(&serde_json::Value::from(text).to_string());
    }
    json.push('"');
    json.push_str(text);
    json.push('"');
}

/// Says where a body cannot be read on.
pub fn malformed(error: &serde_json::Error) -> GatewayError {
    // serde's message may quote the input after the position; only the position is ours to tell.
    let what = if error.is_eof() { "ends too early" } else { "is not a JSON object that can be read" };
    GatewayError::Malformed(
        format!("The body {what}, at line {} column {}.", error.line(), error.column()).into(),
    )
}

/// Whether Go's `encoding/json` takes a given name for one of ours, which are ASCII in lower case: it is lax about case (ſ
/// and K, the Kelvin sign, included).
pub fn is_spelling(ours: &str, given: &str) -> bool {
    if given.is_ascii() {
        return ours.eq_ignore_ascii_case(given);
    }
    plain(given) == ours
}

/// A name as it is compared: in lower case, whichever spelling of it was given.
pub fn plain(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return name.into();
    }
    name.to_lowercase().to_uppercase().to_lowercase().into()
}
