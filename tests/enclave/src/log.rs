//! The request log: one JSON line for each event, so that a test can prove that something did not
//! happen.
//!
//! Contains lengths and hashes, never a body, token or key.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::Failure;
use crate::world::hex;

/// Longest text of a client in the log, in characters.
const MAX_SHOWN: usize = 256;

pub(crate) struct Log(Option<Mutex<File>>);

impl Log {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self(path.map(open).transpose()?.map(Mutex::new)))
    }

    /// Appends the line `{"connection": number, "event": event, …details}`.
    pub(crate) fn write(&self, connection: u64, event: &str, details: Value) {
        let Some(file) = &self.0 else { return };
        let mut line = json!({ "connection": connection, "event": event });
        if let (Some(line), Value::Object(details)) = (line.as_object_mut(), details) {
            line.extend(details);
        }
        let line = format!("{line}\n");
        let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = file.write_all(line.as_bytes()) {
            eprintln!("confer-enclave: request log: {error}");
        }
    }
}

/// Describes a body for the log.
pub(crate) fn sha256(body: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, body).as_ref())
}

/// Truncates a client's verb or path for the log.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}
