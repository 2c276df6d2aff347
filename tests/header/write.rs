//! Writes the text of `include/confer.h`: the introduction, and a section for each file of `src/ffi`.
//! cbindgen translates the items of one file at a time.

use std::fs;
use std::path::{Path, PathBuf};

use cbindgen::ItemType::{Constants, Functions, OpaqueItems, Structs, Typedefs};
use cbindgen::{Builder, Config, ItemType};

/// The sections in order. Each has the name of its file, and the names that the table of contents
/// lists. A section imports only earlier ones, and the helpers in `support/`.
#[rustfmt::skip]
pub const SECTIONS: [(&str, &str); 28] = [
    ("types",           "confer_config, confer_client, confer_stream, confer_event"),
    ("status",          "confer_status, confer_status_name"),
    ("error",           "confer_error_message, _status, _retryable, _progress"),
    ("version",         "confer_version_number, confer_runtime_wait"),
    ("config",          "confer_config_new, _set_token, _set_endpoint, _set_policy"),
    ("settings",        "confer_config_set_duration_ms, _set_limit"),
    ("log",             "confer_config_set_log"),
    ("policy",          "confer_policy_production, _load, _parse"),
    ("connect",         "confer_connect, _connect_start, confer_close"),
    ("report",          "confer_report_verified, _json, _check_outcome"),
    ("report_fields",   "confer_report_signer, _image_version, _mrtd"),
    ("report_evidence", "confer_evidence_verify"),
    ("conversation",    "confer_conversation_new, _json, _parse"),
    ("request",         "confer_chat_request_new, _add_message, _add_tool"),
    ("sampling",        "confer_chat_request_set_temperature, _set_max_tokens"),
    ("embeddings",      "confer_embeddings_request_new, _add_text"),
    ("extraction",      "confer_extraction_request_new, _set_document_file"),
    ("fetch",           "confer_fetch_request_new"),
    ("raw",             "confer_raw_request_new, _set_body"),
    ("callbacks",       "confer_stream_callbacks"),
    ("start",           "confer_chat_stream, confer_embeddings_stream"),
    ("stream",          "confer_stream_next, _collect, _cancel"),
    ("upload",          "confer_stream_write, _finish"),
    ("event",           "confer_event_type, _content, _clone"),
    ("tool",            "confer_event_wants_answer, _answer_tool, _fail_tool"),
    ("watch",           "confer_client_watch, confer_config_set_ask"),
    ("client_event",    "confer_event_answer_token, _answer_release"),
    ("names",           "confer_event_type_name, confer_role_name"),
];

/// The section of the handles. C99 forbids to repeat a typedef, so it declares all of them.
const HANDLES: &str = SECTIONS[0].0;

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn file(section: &str) -> PathBuf {
    root().join(format!("src/ffi/{section}.rs"))
}

pub fn header() -> String {
    let config = Config::from_file(root().join("cbindgen.toml")).unwrap();
    let introduction = config.header.as_deref().unwrap();
    let mut header = introduction.replace(" * {sections}\n", &contents());
    for (section, _) in SECTIONS {
        header += &format!("\n{}\n", banner(section));
        if section == HANDLES {
            // cbindgen writes a handle only if it reads a function that uses it.
            let files = SECTIONS.map(|(section, _)| file(section));
            header += &items(&config, &files, &[OpaqueItems]);
        }
        let kinds = [Constants, Structs, Typedefs, Functions];
        header += &with_macros(&items(&config, &[file(section)], &kinds));
    }
    header + config.trailer.as_deref().unwrap()
}

fn contents() -> String {
    let row = |(section, names)| {
        let (title, file) = (about(section).0, format!("{section}.rs"));
        format!(" * {title:23}{file:20}{names}\n")
    };
    SECTIONS.map(row).concat()
}

/// Returns a section's title, and the text below it: the first paragraph of the file's comment.
pub fn about(section: &str) -> (String, String) {
    let source = fs::read_to_string(file(section)).unwrap();
    let lines = source.lines().map_while(|line| line.strip_prefix("//! "));
    let text = lines.collect::<Vec<_>>().join("\n * ");
    let (title, text) = text.split_once(". ").expect("a title and a sentence");
    (title.to_owned(), text.to_owned())
}

pub fn banner(section: &str) -> String {
    let ((title, text), line) = (about(section), "=".repeat(96));
    format!("/* {line}\n * {title}: src/ffi/{section}.rs\n *\n * {text}\n * {line} */")
}

/// Returns the declarations of these kinds, with an empty line before each.
fn items(config: &Config, files: &[impl AsRef<Path>], kinds: &[ItemType]) -> String {
    let mut config = config.clone();
    (config.header, config.trailer) = (None, None);
    config.export.item_types = kinds.to_vec();
    let mut builder = Builder::new().with_config(config);
    for file in files {
        builder = builder.with_src(file);
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    match String::from_utf8(text).unwrap().trim() {
        "" => String::new(),
        text => format!("\n{text}\n"),
    }
}

/// Puts the macros before each function: a line that starts with the type of a result.
fn with_macros(items: &str) -> String {
    let mut text = String::new();
    for line in items.lines() {
        if line.starts_with("confer_status ") {
            text += "CONFER_MUST_USE CONFER_API\n";
        } else if line.starts_with(|c: char| c.is_ascii_lowercase())
            && !line.starts_with("typedef ")
        {
            text += "CONFER_API\n";
        }
        text = text + line + "\n";
    }
    text
}
