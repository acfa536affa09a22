//! How much text an answer holds, to estimate by where nobody counted its tokens.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// What a part of an answer holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// Of what was produced token by token.
    pub bytes: usize,
    /// Whether a reason for the end is given.
    pub finished: bool,
}

impl Text {
    /// Adds up the strings of a part; what cannot be read counts by its length.
    pub fn of(part: &RawValue) -> Self {
        let mut text = Self::default();
        let mut reader = serde_json::Deserializer::from_str(part.get());
        match Walk(&mut text).deserialize(&mut reader) {
            Ok(()) => text,
            Err(_) => Self { bytes: part.get().len(), ..text },
        }
    }
}

/// The keys of an answer that are not its text.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    FinishReason,
    StopReason,
    Role,
    Type,
    Id,
    CallId,
    ItemId,
    Status,
    Object,
    Logprobs,
    Signature,
    EncryptedContent,
    #[serde(other)]
    Other,
}

struct Walk<'a>(&'a mut Text);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::FinishReason | Key::StopReason => {
                    self.0.finished |= map.next_value::<Option<IgnoredAny>>()?.is_some();
                }
                Key::Other => map.next_value_seed(Walk(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Walk(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.bytes += text.len();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
