//! Stored documents that a chat is about (protocol section 5).

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::chat::not_blank;
use super::json;
use super::size;
use crate::error::{Error, Result, Status};

/// Bounds of newer servers.
const MAX_ATTACHMENT_ID: usize = 200;
/// In UTF-16 units, as servers count.
const MAX_FILENAME: usize = 1_024;
const MAX_SOURCE_BYTES: u64 = 256 << 20;

/// A stored document.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct StoredDocument {
    pub attachment_id: String,
    pub filename: String,
    pub content_type: String,
    pub source_bytes: i64,
    pub source_object_key: String,
    pub encryption_key: String,
}

/// The names of a document's parts in errors, in the order of [`StoredDocument`].
type Names = [&'static str; 6];
const ARGUMENTS: Names = [
    "attachment_id",
    "filename",
    "content_type",
    "source_bytes",
    "source_object_key",
    "encryption_key",
];
const PROPERTIES: Names = [
    "attachmentId",
    "filename",
    "contentType",
    "sourceBytes",
    "sourceObjectKey",
    "encryptionKey",
];

fn invalid<T>(why: String) -> Result<T> {
    Err(Error::new(Status::InvalidArgument, why))
}

impl StoredDocument {
    /// Checks it and writes its JSON.
    pub(super) fn to_json(&self) -> Result<Box<RawValue>> {
        self.check(ARGUMENTS)?;
        serde_json::value::to_raw_value(self).map_err(|_| {
            Error::new(
                Status::InvalidJson,
                "document: it cannot be written as JSON",
            )
        })
    }

    /// Checks a document given as a JSON object, and keeps it unchanged, because servers may know
    /// further properties. Errors quote no value, because one of the values is a key.
    pub(super) fn check_json(json: &str) -> Result<Box<RawValue>> {
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
        fn read<'a, T: Deserialize<'a>>(
            name: &str,
            value: Option<&'a RawValue>,
            kind: &str,
        ) -> Result<T> {
            let missing = || format!("json: {name}: it is missing");
            let value = value.map_or_else(|| invalid(missing()), Ok)?;
            serde_json::from_str(value.get())
                .or_else(|_| invalid(format!("json: {name}: invalid (expected {kind})")))
        }
        let whole = json::object("json", json)?;
        // Refuses a repeated property, because servers may read either.
        let given: Properties<'_> = serde_json::from_str(whole.get())
            .or_else(|_| invalid("json: it has one of its properties twice".into()))?;
        let text = "a text";
        let document = StoredDocument {
            attachment_id: read(PROPERTIES[0], given.attachment_id, text)?,
            filename: read(PROPERTIES[1], given.filename, text)?,
            content_type: read(PROPERTIES[2], given.content_type, text)?,
            source_bytes: read(PROPERTIES[3], given.source_bytes, "a whole number")?,
            source_object_key: read(PROPERTIES[4], given.source_object_key, text)?,
            encryption_key: read(PROPERTIES[5], given.encryption_key, text)?,
        };
        document.check(PROPERTIES)?;
        Ok(whole)
    }

    fn check(&self, names: Names) -> Result<()> {
        let id = &self.attachment_id;
        let of_an_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=MAX_ATTACHMENT_ID).contains(&id.len()) || !id.bytes().all(of_an_id) {
            return invalid(format!(
                "{}: invalid (expected 1 to {MAX_ATTACHMENT_ID} letters, digits, _ and -)",
                names[0]
            ));
        }
        for (name, text) in [
            (names[1], &self.filename),
            (names[2], &self.content_type),
            (names[4], &self.source_object_key),
            (names[5], &self.encryption_key),
        ] {
            not_blank(name, text)?;
            size::text(name, text)?;
        }
        let units = self.filename.encode_utf16().count();
        if units > MAX_FILENAME {
            return invalid(format!(
                "{}: {units} characters (expected at most {MAX_FILENAME})",
                names[1]
            ));
        }
        let bytes = self.source_bytes;
        if !(1..=MAX_SOURCE_BYTES as i64).contains(&bytes) {
            return invalid(format!(
                "{}: invalid value {bytes} (expected 1 to {MAX_SOURCE_BYTES})",
                names[3]
            ));
        }
        Ok(())
    }
}
