//! How much a request's input holds, without building them in memory: what is text is bounded by its bytes,
//! what is an image, a file or a sound is counted apart.

use super::json::{Name, Object, object, plain, read};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
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
/// What a file is taken for, to estimate by: five pages of at most 3 000 tokens, or as many as its bytes are likely to have
/// (Anthropic's "PDF support": 1 500 to 3 000 tokens a page), at some 50 kB a page in base64.
const FILE_TOKENS_TYPICAL: i64 = 15_000;
const FILE_BYTES_PER_TOKEN: usize = 24;
/// The longest that was said in one answer before, which the upstream keeps (OpenAI's model page of gpt-4o-audio-preview:
/// 16 384 output tokens).
const SAID_TOKENS_MAX: i64 = 16_384;
/// Ten tokens a second (OpenAI's audio pricing), and no codec in use makes a second smaller than 1 000 bytes (MP3 at
/// 8 kbit/s), which is 1 333 characters of base64.
const SOUND_BYTES_PER_TOKEN_MIN: usize = 128;
/// English has 4.8 bytes a token and code 2.5: what nobody counted is estimated between.
const TEXT_BYTES_PER_TOKEN: usize = 4;
/// Deepest value that is read, as serde_json has it for what it reads itself.
const DEPTH_MAX: usize = 127;
/// What is read when it is known what it belongs to is read again at each level. Anthropic's blocks have two.
const AGAIN_MAX: usize = 4;
/// Whose value is no longer is `null`, and so not given, or nothing.
const NULL_BYTES: usize = "null".len();
/// Where the items of an input lie: in its array.
const ITEM_DEPTH: usize = 1;

/// The parts of the messages that bytes do not bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Inline or by URL.
    images: i64,
    /// Inline or by id; videos too.
    files: i64,
    /// Of those inline, and of what says where the others are.
    file_bytes: usize,
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
        let files = self.files.saturating_mul(FILE_TOKENS_TYPICAL);
        let files = files.max(clamped(self.file_bytes.div_ceil(FILE_BYTES_PER_TOKEN)));
        let images = self.images.saturating_mul(IMAGE_TOKENS_TYPICAL);
        text.saturating_add(images).saturating_add(files).saturating_add(sound)
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
        self.survey_at(part, Place::default())
    }

    /// A part that lies within others. serde's own bound holds for each part that is read by itself.
    fn survey_at(&mut self, part: &RawValue, at: Place) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_str(part.get());
        Walk { content: self, at }.deserialize(&mut reader).map(drop)
    }

    /// Counts a value apart from the text: its bytes say nothing of what it counts for.
    fn set_apart(&mut self, value: &RawValue) -> usize {
        let bytes = value.get().len();
        self.other_bytes += bytes;
        bytes
    }

    fn add_file(&mut self, value: &RawValue) {
        self.files += 1;
        self.file_bytes += self.set_apart(value);
    }

    /// Looks once more, now that it is known what it belongs to. So deep in others nobody looks for media: it is text.
    fn survey_again(&mut self, part: &RawValue, at: Place) -> Result<(), serde_json::Error> {
        at.again().map_or(Ok(()), |at| self.survey_at(part, at))
    }

    /// A sound counts by its bytes where they are here, and else for a file.
    fn add_sound(&mut self, value: &RawValue, is_inline: bool) {
        match is_inline {
            true => self.sound_bytes += self.set_apart(value),
            false => self.add_file(value),
        }
    }
}

/// Where in the body a value is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Within how many others.
    depth: usize,
    /// How many of them were read once more, when it was known what they are.
    again: usize,
}

impl Place {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth < DEPTH_MAX {
            true => Ok(Self { depth: self.depth + 1, ..self }),
            false => Err(E::custom("nested too deep")),
        }
    }

    /// Of a part that is read once more; `None` where that was done often enough.
    fn again(self) -> Option<Self> {
        (self.again < AGAIN_MAX && self.depth < DEPTH_MAX)
            .then(|| Self { depth: self.depth + 1, again: self.again + 1 })
    }
}

/// What one object of the body turned out to be. Of two types an upstream might read either, so that both hold.
#[derive(Default)]
struct Part<'a> {
    /// It names something that is stored somewhere.
    id: bool,
    /// It says itself what it holds.
    says: bool,
    is_reference: bool,
    is_image: bool,
    /// An image that the upstream made before.
    is_made_image: bool,
    is_document: bool,
    image: bool,
    file: bool,
    /// What the content of a block of Anthropic's is.
    sources: Vec<&'a RawValue>,
    /// What a tool gave, or an image that was made.
    results: Vec<&'a RawValue>,
    /// What a tool is called with.
    inputs: Vec<&'a RawValue>,
    /// By how many types it is one.
    types: usize,
    is_tool_use: bool,
}

impl<'a> Part<'a> {
    fn is_a(&mut self, kind: &str) {
        self.types += usize::from(!kind.is_empty());
        match kind {
            "input_image" | "image_url" | "computer_screenshot" => self.image = true,
            "image_generation_call" => self.is_made_image = true,
            "input_file" => self.file = true,
            "item_reference" => self.is_reference = true,
            "image" => self.is_image = true,
            "document" => self.is_document = true,
            "tool_use" | "server_tool_use" | "mcp_tool_use" => self.is_tool_use = true,
            _ => {}
        }
    }

    /// Counts an object once its fields are known: an image that is given twice is one image.
    fn settle(self, content: &mut Content, at: Place) -> Result<(), serde_json::Error> {
        content.images += i64::from(self.image || self.is_made_image);
        content.files += i64::from(self.file);
        // OpenAI takes an item with nothing but an id for a reference; its SDKs have the type as optional.
        let is_bare = at.depth == ITEM_DEPTH && self.id && self.types == 0 && !self.says;
        content.references += usize::from(self.is_reference || is_bare);
        // The model reads what a tool was called with as text, whatever its arguments are called.
        if !(self.is_tool_use && self.types == 1) {
            for input in self.inputs {
                content.survey_again(input, at)?;
            }
        }
        for result in self.results {
            match self.is_made_image {
                true => drop(content.set_apart(result)),
                false => content.survey_again(result, at)?,
            }
        }
        for source in self.sources {
            if self.is_image {
                content.images += i64::from(!self.image);
                content.set_apart(source);
            } else if self.is_document {
                document(source, content, at)?;
            } else {
                content.survey_again(source, at)?;
            }
        }
        Ok(())
    }
}

/// A document of Anthropic's. As text it is bounded by its bytes, like any other.
fn document(source: &RawValue, content: &mut Content, at: Place) -> Result<(), serde_json::Error> {
    let fields = Fields::of(source);
    match fields.only("type").and_then(read::<Name<'_>>) {
        Some(Name(kind)) if kind == "text" => {}
        Some(Name(kind)) if kind == "content" => {
            for inner in fields.all("content") {
                content.survey_again(inner, at)?;
            }
        }
        _ => content.add_file(source),
    }
    Ok(())
}

/// A small object, whose names are found in any spelling.
struct Fields<'a>(Option<Object<'a>>);

impl<'a> Fields<'a> {
    fn of(part: &'a RawValue) -> Self {
        Self(object(part))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &'a RawValue> {
        let fields = self.0.iter().flat_map(|Object(fields)| fields);
        fields.filter(move |(key, _)| plain(key) == name).map(|(_, value)| *value)
    }

    /// Its value, if it has one alone.
    fn only(&self, name: &str) -> Option<&'a RawValue> {
        let mut all = self.all(name);
        all.next().filter(|_| all.next().is_none())
    }
}

/// Whether a sound by URL, or an object that has one, is what its URL holds.
fn holds_data(link: &RawValue) -> bool {
    let url = read::<Name<'_>>(link).or_else(|| Fields::of(link).only("url").and_then(read));
    url.is_some_and(|Name(url)| url.starts_with("data:"))
}

/// Whether a sound is given as such, and not by where it is.
fn is_given(sound: &RawValue) -> bool {
    let fields = Fields::of(sound);
    fields.only("data").is_some()
        && ["url", "id", "file_id"].iter().all(|name| fields.all(name).next().is_none())
}

struct Walk<'a> {
    content: &'a mut Content,
    /// Of the value that is read next.
    at: Place,
}

impl Walk<'_> {
    fn inner<E: serde::de::Error>(&mut self) -> Result<Walk<'_>, E> {
        Ok(Walk { at: self.at.inner()?, content: self.content })
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
                    if let Some(Name(kind)) = read(map.next_value()?) {
                        part.is_a(&kind);
                    }
                }
                "image_url" | "image" | "input_image" => {
                    part.image |= self.content.set_apart(map.next_value()?) > NULL_BYTES;
                }
                "file" | "file_url" | "file_data" | "input_file" | "video" | "video_url" | "document" => {
                    let bytes = self.content.set_apart(map.next_value()?);
                    part.file |= bytes > NULL_BYTES;
                    self.content.file_bytes += bytes;
                }
                "input_audio" => {
                    let sound = map.next_value()?;
                    self.content.add_sound(sound, is_given(sound));
                }
                "audio_url" => {
                    let sound = map.next_value()?;
                    self.content.add_sound(sound, holds_data(sound));
                }
                "audio" => {
                    let sound = map.next_value()?;
                    if Fields::of(sound).all("id").next().is_some() {
                        self.content.add_tokens(SAID_TOKENS_MAX);
                    }
                    self.content.survey_again(sound, self.at).map_err(A::Error::custom)?;
                }
                "source" => part.sources.push(map.next_value()?),
                "result" => part.results.push(map.next_value()?),
                "input" => part.inputs.push(map.next_value()?),
                key => {
                    let is_there = map.next_value_seed(self.inner()?)?;
                    part.id |= key == "id";
                    part.says |= is_there && matches!(key, "role" | "content");
                }
            }
        }
        part.settle(self.content, self.at).map(|()| true).map_err(A::Error::custom)
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
mod tests;
