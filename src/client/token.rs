//! Reads the events that make up most of an answer in one pass: objects with only `type` and
//! `content`, such as `{"type":"token","content":"text"}`.
//!
//! Leaves everything else to the general reader, including errors. Whatever this reader accepts,
//! the general reader reads in the same way, as a property test checks.

use std::ops::Range;

/// An event at the start of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The event is reasoning text, not a token.
    pub(super) thinking: bool,
    /// The range of the content's text.
    pub(super) content: Range<usize>,
    /// The unescaped text, if it has escapes.
    pub(super) unescaped: Option<String>,
    /// The length of the event.
    pub(super) len: usize,
}

/// Finds a complete event at the start of `bytes`.
pub(super) fn find(bytes: &[u8]) -> Option<Found> {
    let mut at = Cursor { bytes, at: 0 };
    let (mut thinking, mut content) = (None, None);
    at.expect(b'{')?;
    for last in [false, true] {
        at.expect(b'"')?;
        if at.skip(b"type\"") {
            at.expect(b':')?;
            at.expect(b'"')?;
            let is_thinking = !at.skip(b"token\"");
            if is_thinking && !at.skip(b"thinking\"") {
                return None;
            }
            if thinking.replace(is_thinking).is_some() {
                return None;
            }
        } else if at.skip(b"content\"") {
            at.expect(b':')?;
            at.expect(b'"')?;
            if content.replace(at.text()?).is_some() {
                return None;
            }
        } else {
            return None;
        }
        at.expect(if last { b'}' } else { b',' })?;
    }
    let (content, escaped) = content?;
    let unescaped = match escaped {
        true => {
            let quoted = &bytes[content.start - 1..content.end + 1];
            Some(serde_json::from_slice(quoted).ok()?)
        }
        false => {
            simdutf8::basic::from_utf8(&bytes[content.clone()]).ok()?;
            None
        }
    };
    Some(Found {
        thinking: thinking?,
        content,
        unescaped,
        len: at.at,
    })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Skips `byte`, and white space before it.
    fn expect(&mut self, byte: u8) -> Option<()> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
        let found = *self.bytes.get(self.at)? == byte;
        self.at += 1;
        found.then_some(())
    }

    fn skip(&mut self, text: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Skips a string's text and its closing quote. Returns the text's range, and whether it has
    /// escapes.
    fn text(&mut self) -> Option<(Range<usize>, bool)> {
        let (start, mut escaped) = (self.at, false);
        loop {
            self.at += plain(&self.bytes[self.at..]);
            match self.bytes.get(self.at)? {
                b'"' => {
                    let end = self.at;
                    self.at += 1;
                    return Some((start..end, escaped));
                }
                b'\\' => {
                    escaped = true;
                    self.bytes.get(self.at + 1)?; // the unescaping checks which one
                    self.at += 2;
                }
                _ => return None, // a control character
            }
        }
    }
}

/// Returns the number of bytes before the first quote, backslash or control character.
fn plain(bytes: &[u8]) -> usize {
    /// The compiler vectorises a check of this many bytes.
    const BLOCK: usize = 64;
    let special = |byte: &u8| (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20);
    let blocks = bytes.chunks_exact(BLOCK);
    let clean = |block: &&[u8]| !block.iter().fold(false, |any, byte| any | special(byte));
    let skipped = blocks.take_while(clean).count() * BLOCK;
    let rest = &bytes[skipped..];
    skipped + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(json: &str) -> Option<String> {
        let found = find(json.as_bytes())?;
        let plain = &json[found.content];
        Some(found.unescaped.unwrap_or_else(|| plain.into()))
    }

    #[test]
    fn tokens_are_read_in_both_orders_with_spaces_and_escapes() {
        let long = "x".repeat(200);
        for (json, text) in [
            (r#"{"type":"token","content":"a"}"#, "a"),
            (r#"{"content":"a","type":"token"}{"#, "a"),
            ("{ \"type\" :\t\"token\" , \"content\" : \"é\" } ", "é"),
            (r#"{"type":"token","content":""}"#, ""),
            (
                r#"{"type":"token","content":"a\"b\\\n\u00e9\ud83d\ude00"}"#,
                "a\"b\\\né😀",
            ),
            (
                &format!(r#"{{"type":"token","content":"{long}\t{long}"}}"#),
                &format!("{long}\t{long}"),
            ),
        ] {
            assert_eq!(content(json).as_deref(), Some(text), "{json}");
        }
        let found = find(br#"{"type":"thinking","content":"a"} more"#).unwrap();
        assert_eq!((found.thinking, found.len), (true, 33));
    }

    #[test]
    fn other_events_are_left_to_the_general_reader() {
        for json in [
            "",
            "{",
            "{}",
            r#"{"type":"token"}"#,
            r#"{"type":"token","content":"a""#,
            r#"{"type":"token","content":"a"#,
            r#"{"type":"token","content":"a\"#,
            r#"{"type":"token","content":"a","more":1}"#,
            r#"{"type":"token","type":"token"}"#,
            r#"{"content":"a","content":"b"}"#,
            r#"{"type":"completion","content":"a"}"#,
            r#"{"type":"tok\u0065n","content":"a"}"#,
            r#"{"type":"token","content":7}"#,
            r#"{"type":"token","content":"\ud800"}"#,
            r#"{"type":"token","content":"\q"}"#,
            "{\"type\":\"token\",\"content\":\"\u{1}\"}",
        ] {
            assert_eq!(find(json.as_bytes()), None, "{json}");
        }
        assert_eq!(find(b"{\"type\":\"token\",\"content\":\"\xff\"}"), None);
    }

    #[test]
    fn special_bytes_are_found_at_every_place() {
        for len in 0..200 {
            assert_eq!(plain(&vec![b'x'; len]), len);
            for special in [b'"', b'\\', 0, 0x1f] {
                for at in 0..len {
                    let mut bytes = vec![0xffu8; len];
                    bytes[at] = special;
                    assert_eq!(plain(&bytes), at);
                }
            }
        }
    }
}
