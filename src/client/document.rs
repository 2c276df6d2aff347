//! Stored documents that a chat is about (protocol section 5).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::argument::{invalid, not_blank};
use super::json;
use super::size;
use crate::error::Result;

/// Bounds of newer servers.
const MAX_ATTACHMENT_ID: usize = 200;
/// In UTF-16 units, as servers count.
const MAX_FILENAME: usize = 1_024;
const MAX_SOURCE_BYTES: u64 = 256 << 20;

/// The properties that servers need, as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    #[serde(borrow, default)]
    attachment_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    filename: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source_bytes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    source_object_key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    encryption_key: Option<&'a RawValue>,
}

/// Checks a document, a JSON object, and returns it unchanged, because servers may know further
/// properties. Errors quote no text, because one of the texts is a key.
pub(super) fn check(json: &str) -> Result<Box<RawValue>> {
    let whole = json::object("json", json)?;
    // Refuses a repeated property, because servers may read either.
    let given: Properties<'_> = serde_json::from_str(whole.get())
        .or_else(|_| invalid("json: it has one of its properties twice".into()))?;
    let id: String = read("attachmentId", given.attachment_id, "a text")?;
    attachment_id(&id)?;
    filename(&text("filename", given.filename)?)?;
    for (name, value) in [
        ("contentType", given.content_type),
        ("sourceObjectKey", given.source_object_key),
        ("encryptionKey", given.encryption_key),
    ] {
        text(name, value)?;
    }
    let bytes: i64 = read("sourceBytes", given.source_bytes, "a whole number")?;
    if !(1..=MAX_SOURCE_BYTES as i64).contains(&bytes) {
        return invalid(format!(
            "json: sourceBytes: invalid value {bytes} (expected 1 to {MAX_SOURCE_BYTES})"
        ));
    }
    Ok(whole)
}

fn read<'a, T: Deserialize<'a>>(name: &str, value: Option<&'a RawValue>, kind: &str) -> Result<T> {
    let missing = || format!("json: {name}: it is missing");
    let value = value.map_or_else(|| invalid(missing()), Ok)?;
    serde_json::from_str(value.get())
        .or_else(|_| invalid(format!("json: {name}: invalid (expected {kind})")))
}

/// A text that is not blank.
fn text(name: &str, value: Option<&RawValue>) -> Result<String> {
    let text: String = read(name, value, "a text")?;
    let name = format!("json: {name}");
    not_blank(&name, &text)?;
    size::text(&name, &text)?;
    Ok(text)
}

fn attachment_id(id: &str) -> Result<()> {
    let of_an_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match (1..=MAX_ATTACHMENT_ID).contains(&id.len()) && id.bytes().all(of_an_id) {
        true => Ok(()),
        false => invalid(format!(
            "json: attachmentId: invalid (expected 1 to {MAX_ATTACHMENT_ID} letters, digits, _ and -)"
        )),
    }
}

fn filename(name: &str) -> Result<()> {
    match name.encode_utf16().count() {
        0..=MAX_FILENAME => Ok(()),
        units => invalid(format!(
            "json: filename: {units} characters (expected at most {MAX_FILENAME})"
        )),
    }
}
