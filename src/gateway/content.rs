//! How much a request's input holds, without building them in memory: what is text is bounded by its bytes,
//! what is an image, a file or a sound is counted apart.

use super::json::{Name, object, plain, read};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Most tokens one image can count for, among models whose rule is published: gpt-4o-mini takes 2 833 and 5 667 for
/// each of at most 8 tiles (an image is scaled to 768 × 2 048 and cut into squares of 512). From OpenAI's guide
/// "Images and vision", calculating costs.
const IMAGE_TOKENS_MAX: i64 = 2_833 + 8 * 5_667;
/// What an image typically counts for, to estimate by: gpt-4o takes 85 and 170 for each of 4 tiles (same source).
const IMAGE_TOKENS_TYPICAL: i64 = 85 + 4 * 170;
/// No file can count for more than a whole context window; the largest that takes files is gpt-4.1's (OpenAI's model
/// page).
const FILE_TOKENS_MAX: i64 = 1_047_576;
/// Ten tokens a second (OpenAI's audio pricing), and no codec in use makes a second smaller than 1 000 bytes (MP3 at
/// 8 kbit/s), which is 1 333 characters of base64.
const SOUND_BYTES_PER_TOKEN_MIN: usize = 128;
/// English has 4.8 bytes a token and code 2.5: what nobody counted is estimated between.
const TEXT_BYTES_PER_TOKEN: usize = 4;
/// Deepest value that is read, as serde_json has it for what it reads itself.
const DEPTH_MAX: usize = 127;
/// Where the items of an input lie: in its array.
const ITEM_DEPTH: usize = 1;

/// The parts of the messages that bytes do not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Inline or by URL.
    images: i64,
    /// Inline or by id; videos too.
    files: i64,
    /// Of inline sounds.
    sound_bytes: usize,
    /// Bytes of the body that the above take up.
    other_bytes: usize,
    /// Items that stand for others, which only the upstream knows.
    references: usize,
    /// Tokens that the upstream adds by itself.
    added_tokens: i64,
}

impl Content {
    /// Whether there is nothing but text.
    pub fn is_text(&self) -> bool {
        self.images == 0 && self.files == 0 && self.sound_bytes == 0
    }

    /// Whether something stands for what only the upstream knows.
    pub fn has_references(&self) -> bool {
        self.references > 0
    }

    /// Notes tokens that the upstream adds by itself.
    pub fn add_tokens(&mut self, tokens: i64) {
        self.added_tokens = self.added_tokens.saturating_add(tokens);
    }

    /// Notes images that came beside the text.
    pub fn add_images(&mut self, images: i64) {
        self.images = self.images.saturating_add(images);
    }

    /// More input tokens than a body of this length can count for. A token has at least one byte, and the syntax
    /// around each message is longer than the few tokens a chat template puts there.
    pub fn tokens_max(&self, body_bytes: usize) -> i64 {
        let text = clamped(body_bytes.saturating_sub(self.other_bytes));
        let sound = clamped(self.sound_bytes.div_ceil(SOUND_BYTES_PER_TOKEN_MIN));
        let other = self
            .images
            .saturating_mul(IMAGE_TOKENS_MAX)
            .saturating_add(self.files.saturating_mul(FILE_TOKENS_MAX))
            .saturating_add(sound);
        text.saturating_add(other).saturating_add(self.added_tokens)
    }

    /// A guess at the input tokens, for when an upstream does not say.
    pub fn tokens_estimated(&self, body_bytes: usize) -> i64 {
        let text = estimate_text(body_bytes.saturating_sub(self.other_bytes));
        let sound = clamped(self.sound_bytes.div_ceil(SOUND_BYTES_PER_TOKEN_MIN));
        text.saturating_add(self.images.saturating_mul(IMAGE_TOKENS_TYPICAL)).saturating_add(sound)
    }
}

/// A guess at the tokens of a text of this length.
pub fn estimate_text(bytes: usize) -> i64 {
    clamped(bytes.div_ceil(TEXT_BYTES_PER_TOKEN))
}

fn clamped(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Content {
    /// Looks through a part of the body for what is not text, wherever it is.
    ///
    /// # Errors
    /// When the JSON is broken or nested too deep.
    pub fn survey(&mut self, part: &RawValue) -> Result<(), serde_json::Error> {
        self.survey_within(part, 0)
    }

    /// A part that lies `depth` levels deep. serde's own bound holds for each part that is read by itself.
    fn survey_within(&mut self, part: &RawValue, depth: usize) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(part.get());
        Walk::at(self, depth)?.deserialize(&mut reader).map(drop)
    }
}

/// What one object of the body turned out to be.
#[derive(Default)]
struct Part<'a> {
    /// It names something that is stored somewhere.
    id: bool,
    /// It says itself what it holds.
    says: bool,
    /// Its type; empty when that is no text.
    kind: Option<Cow<'a, str>>,
    image: bool,
    file: bool,
    /// What the content of a block of Anthropic's is.
    source: Option<&'a RawValue>,
}

/// The parts that say by their type alone what they hold, and what it counts as.
#[derive(Deserialize)]
struct Source<'a> {
    r#type: Option<&'a str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl<'a> Part<'a> {
    /// Counts an object once its fields are known: an image that is given twice is one image.
    fn settle(self, content: &mut Content, depth: usize) -> Result<(), serde_json::Error> {
        let kind = self.kind.as_deref().unwrap_or_default();
        content.images +=
            i64::from(self.image || matches!(kind, "input_image" | "image_url" | "computer_screenshot"));
        content.files += i64::from(self.file || kind == "input_file");
        // OpenAI takes an item with nothing but an id for a reference; its SDKs have the type as optional.
        let is_bare = depth == ITEM_DEPTH && kind.is_empty() && self.id && !self.says;
        content.references += usize::from(kind == "item_reference" || is_bare);
        let Some(source) = self.source else { return Ok(()) };
        match kind {
            "image" if !self.image => content.images += 1,
            "document" => match object::<Source<'a>>(source) {
                // As text it is bounded by its bytes, like any other.
                Some(Source { r#type: Some("text"), .. }) => return Ok(()),
                Some(Source { r#type: Some("content"), content: Some(inner) }) => {
                    return content.survey_within(inner, depth + 1);
                }
                _ => content.files += 1,
            },
            _ => return content.survey_within(source, depth + 1),
        }
        content.other_bytes += source.get().len();
        Ok(())
    }
}

/// Refuses the second of two: an upstream might read the other one.
fn once<T, E: serde::de::Error>(before: Option<T>) -> Result<(), E> {
    match before {
        None => Ok(()),
        Some(_) => Err(E::custom("given twice")),
    }
}

/// Whether a URL, or an object that has one, holds what it leads to.
fn is_inline(link: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Link<'a> {
        #[serde(borrow)]
        url: Name<'a>,
    }
    let url = read(link).or_else(|| object(link).map(|Link { url }| url));
    url.is_some_and(|Name(url)| url.starts_with("data:"))
}

struct Walk<'a> {
    content: &'a mut Content,
    /// Of the value that is read next.
    depth: usize,
}

impl<'a> Walk<'a> {
    fn at<E: serde::de::Error>(content: &'a mut Content, depth: usize) -> Result<Self, E> {
        match depth {
            0..=DEPTH_MAX => Ok(Self { content, depth }),
            _ => Err(E::custom("nested too deep")),
        }
    }

    fn inner<E: serde::de::Error>(&mut self) -> Result<Walk<'_>, E> {
        Walk::at(self.content, self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    /// Whether there is anything.
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<bool, A::Error> {
        let mut part = Part::default();
        while let Some(Name(key)) = map.next_key()? {
            match &*plain(&key) {
                "type" => {
                    let kind = read(map.next_value()?).map_or(Cow::Borrowed(""), |Name(kind)| kind);
                    once(part.kind.replace(kind))?;
                }
                "image_url" | "image" | "input_image" => {
                    part.image = true;
                    self.content.other_bytes += map.next_value::<&RawValue>()?.get().len();
                }
                "file" | "file_url" | "file_data" | "input_file" | "video" | "video_url" | "document" => {
                    part.file = true;
                    self.content.other_bytes += map.next_value::<&RawValue>()?.get().len();
                }
                "input_audio" | "audio_url" => {
                    let sound = map.next_value::<&RawValue>()?;
                    self.content.other_bytes += sound.get().len();
                    match &*key == "audio_url" && !is_inline(sound) {
                        true => part.file = true,
                        false => self.content.sound_bytes += sound.get().len(),
                    }
                }
                "source" => once(part.source.replace(map.next_value()?))?,
                key => {
                    let is_there = map.next_value_seed(self.inner()?)?;
                    part.id |= key == "id";
                    part.says |= is_there && matches!(key, "role" | "content");
                }
            }
        }
        part.settle(self.content, self.depth).map(|()| true).map_err(serde::de::Error::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element_seed(self.inner()?)?.is_some() {}
        Ok(true)
    }

    fn visit_bool<E>(self, _: bool) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(true)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey_of(messages: &serde_json::Value) -> (Content, usize) {
        let text = messages.to_string();
        let raw = serde_json::from_str::<&RawValue>(&text).expect("JSON");
        let mut content = Content::default();
        content.survey(raw).expect("shallow");
        (content, text.len())
    }

    #[test]
    fn text_is_bounded_by_its_bytes() {
        let messages =
            serde_json::json!([{"role": "user", "content": [{"type": "text", "text": "image_url"}]}]);
        let (content, bytes) = survey_of(&messages);
        assert!(content.is_text());
        assert_eq!(content.tokens_max(bytes), clamped(bytes));
    }

    #[test]
    fn an_inline_image_counts_as_an_image_and_not_by_its_bytes() {
        let data = format!("data:image/png;base64,{}", "A".repeat(5_000_000));
        let messages = serde_json::json!([{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": data}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ]}]);
        let (content, bytes) = survey_of(&messages);
        let most = content.tokens_max(bytes);
        assert!((2 * IMAGE_TOKENS_MAX..2 * IMAGE_TOKENS_MAX + 200).contains(&most), "{most}");
        assert!(content.tokens_estimated(bytes) < most);
    }

    #[test]
    fn files_and_sounds_are_seen() {
        let messages = serde_json::json!([{"content": [
            {"type": "file", "file": {"file_id": "f"}},
            {"type": "input_audio", "input_audio": {"data": "A".repeat(12_800), "format": "mp3"}},
        ]}]);
        let (content, bytes) = survey_of(&messages);
        assert!(!content.is_text());
        assert!(content.tokens_max(bytes) >= FILE_TOKENS_MAX + 100);
        let by_url = |url: &str| serde_json::json!([{"type": "audio_url", "audio_url": {"url": url}}]);
        assert_eq!(survey_of(&by_url("https://example.com/an-hour.mp3")).0.files, 1);
        let inline = survey_of(&by_url("data:audio/mpeg;base64,AAAA")).0;
        assert!(inline.files == 0 && inline.sound_bytes > 0);
    }

    #[test]
    fn anthropics_blocks_are_what_their_type_says() {
        let messages = serde_json::json!([{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A".repeat(9_000)}},
            {"source": {"type": "url", "url": "https://example.com/a.png"}, "type": "image"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
            {"type": "document", "source": {"type": "content", "content": [
                {"type": "image", "source": {"type": "file", "file_id": "f"}},
            ]}},
        ]}]);
        let (content, bytes) = survey_of(&messages);
        assert_eq!((content.images, content.files), (3, 0));
        assert!(content.tokens_max(bytes) < 3 * IMAGE_TOKENS_MAX + 2_000);
        let pdf = serde_json::json!([{"type": "document", "source": {"type": "base64", "data": "A"}}]);
        assert_eq!(survey_of(&pdf).0.files, 1);
    }

    #[test]
    fn items_of_a_response_are_counted_once_each() {
        let input = serde_json::json!([{"role": "user", "content": [
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
            {"type": "input_image", "file_id": "file_1"},
            {"type": "input_file", "file_data": "AAAA", "filename": "a.pdf"},
        ]}]);
        let (content, _) = survey_of(&input);
        assert_eq!((content.images, content.files, content.has_references()), (2, 1, false));
        let reference = serde_json::json!([{"type": "item_reference", "id": "msg_1"}]);
        assert!(survey_of(&reference).0.has_references());
    }

    #[test]
    fn an_item_with_nothing_but_an_id_is_a_reference() {
        let has_references = |input: &serde_json::Value| survey_of(input).0.has_references();
        assert!(has_references(&serde_json::json!([{"id": "msg_1"}])));
        assert!(has_references(&serde_json::json!([{"type": null, "id": "msg_1"}])));
        assert!(has_references(&serde_json::json!([{"id": "msg_1", "role": null, "content": null}])));
        assert!(!has_references(&serde_json::json!([{"id": "msg_1", "role": "user", "content": "hi"}])));
        assert!(!has_references(&serde_json::json!([
            {"type": "computer_call", "id": "c", "pending_safety_checks": [{"id": "s", "code": "x"}]},
        ])));
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_whatever_it_is_nested_in() {
        let survey = |text: &str| Content::default().survey(serde_json::from_str(text).expect("JSON"));
        let nested = |before: &str, after: &str, times: usize| {
            format!("{}0{}", before.repeat(times), after.repeat(times))
        };
        let arrays = nested("[", "]", 60);
        for (before, after) in [
            (r#"{"source":"#.to_owned(), "}".to_owned()),
            (format!(r#"{{"source":{}"#, &arrays[..60]), format!("{}}}", &arrays[61..])),
            (r#"{"type":"document","source":{"type":"content","content":"#.to_owned(), "}}".to_owned()),
        ] {
            assert!(survey(&nested(&before, &after, 1)).is_ok(), "{before}");
            assert!(survey(&nested(&before, &after, 10_000)).is_err(), "{before}");
        }
    }

    #[test]
    fn a_part_is_what_it_says_however_that_is_written() {
        let survey = |text: &str| {
            let mut content = Content::default();
            content.survey(serde_json::from_str(text).expect("JSON")).map(|()| content)
        };
        let images = |text: &str| survey(text).expect("readable").images;
        assert_eq!(
            images(r#"[{"type": "imag\u0065", "source": {"type": "url", "url": "https://example.com"}}]"#),
            1
        );
        assert_eq!(images(r#"[{"Type": "image", "\u017fource": {"type": "file", "file_id": "f"}}]"#), 1);
        assert_eq!(images(r#"[{"type": "x", "Image_URL": {"url": "https://example.com/a.png"}}]"#), 1);
        assert_eq!(images(r#"[{"type": ["image"], "text": "image"}]"#), 0);
        assert!(
            survey(r#"[{"type": "item_referenc\u0065", "id": "m"}]"#).expect("readable").has_references()
        );
        for doubled in [
            r#"[{"type": "text", "type": "image", "source": {"type": "file", "file_id": "f"}}]"#,
            r#"[{"type": "image", "typ\u0065": "text", "source": {"type": "file", "file_id": "f"}}]"#,
            r#"[{"type": "document", "source": {"type": "file"}, "source": {"type": "text", "data": "a"}}]"#,
        ] {
            assert!(survey(doubled).is_err(), "{doubled}");
        }
    }
}
