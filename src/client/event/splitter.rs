//! Finds the events in the bodies of an answer (protocol section 5).
//!
//! The published server puts one event into each body. Several in one body, and one over several
//! bodies, are accepted too.

use bytes::{Bytes, BytesMut};

use super::super::inbox::Weighted;
use super::scan::Scan;
use super::{Event, Kind, MAX_EVENT, broken};
use crate::error::Result;

/// White space that events may keep in memory, in addition to a quarter of their size.
const MAX_BLANK: usize = 256;

/// Finds the events in the bodies of one answer.
#[derive(Default)]
pub struct Splitter {
    /// The start of an incomplete event.
    partial: BytesMut,
    scan: Scan,
}

/// Weight at which events are handed over. A body may contain millions of events, and each takes
/// far more memory than its two bytes.
pub const SLICE: usize = 64 << 10;

/// The result of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Split {
    /// The whole body was read. The answer continues.
    More,
    /// The body contains more, to be read after these events were handed over.
    Slice,
    /// The last event is a `completion`. Later bytes are ignored.
    Complete,
}

impl Splitter {
    /// Reads from `body`, and appends the events that end in it. On an error, `events` has the
    /// events before the error.
    pub fn push(&mut self, body: &mut Bytes, events: &mut Vec<Event>) -> Result<Split> {
        let (len, before) = (body.len(), events.len());
        let result = self.split(body, events);
        // White space between events must not stay in memory, because nothing counts it.
        let (taken, events) = (len - body.len(), &mut events[before..]);
        let kept: usize = events.iter().map(|event| event.json.len()).sum();
        if taken > kept + kept / 4 + MAX_BLANK {
            for event in events {
                event.json = Bytes::copy_from_slice(&event.json);
            }
        }
        result
    }

    fn split(&mut self, rest: &mut Bytes, events: &mut Vec<Event>) -> Result<Split> {
        let mut weight = 0;
        loop {
            if self.scan.depth == 0 {
                let blank = rest
                    .iter()
                    .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
                    .count();
                let _ = rest.split_to(blank);
                match rest.first() {
                    None => return Ok(Split::More),
                    Some(b'{') => {}
                    Some(_) => {
                        return Err(broken(
                            "unexpected bytes between two events (expected a JSON object)",
                        ));
                    }
                }
                if let Some(event) = Event::take_token(rest) {
                    weight += event.weight();
                    events.push(event);
                    if weight >= SLICE && !rest.is_empty() {
                        return Ok(Split::Slice);
                    }
                    continue;
                }
            }
            let end = self.scan.advance(rest)?;
            let len = end.unwrap_or(rest.len());
            if self.partial.len() + len > MAX_EVENT {
                return Err(broken(&format!(
                    "an event is larger than {MAX_EVENT} bytes"
                )));
            }
            let part = rest.split_to(len);
            if end.is_none() {
                self.partial.extend_from_slice(&part);
                return Ok(Split::More);
            }
            let json = if self.partial.is_empty() {
                part
            } else {
                self.partial.extend_from_slice(&part);
                std::mem::take(&mut self.partial).freeze()
            };
            let event = Event::parse(json)?;
            let complete = event.kind == Kind::Completion;
            weight += event.weight();
            events.push(event);
            if complete {
                return Ok(Split::Complete);
            }
            if weight >= SLICE && !rest.is_empty() {
                return Ok(Split::Slice);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Text, token};
    use super::*;
    use crate::error::Status;

    fn split(bodies: &[&[u8]]) -> Result<(Vec<Event>, Split)> {
        let (mut splitter, mut events) = (Splitter::default(), Vec::new());
        let mut last = Split::More;
        for body in bodies {
            let mut body = Bytes::copy_from_slice(body);
            loop {
                last = splitter.push(&mut body, &mut events)?;
                if last != Split::Slice {
                    break;
                }
            }
            if last == Split::Complete {
                break;
            }
        }
        Ok((events, last))
    }

    fn contents(events: &[Event]) -> Vec<&str> {
        events
            .iter()
            .filter_map(|e| e.content().map(Text::as_str))
            .collect()
    }

    #[test]
    fn one_body_may_hold_several_events_and_several_bodies_one() {
        let (events, _) = split(&[
            br#"{"type":"token","content":"a"}{"type":"token","content":"b"}"#,
            br#" {"type":"tok"#,
            br#"en","content":"c}\"{"}"#,
            b"\n\t",
        ])
        .unwrap();
        assert_eq!(contents(&events), ["a", "b", "c}\"{"]);
    }

    #[test]
    fn an_event_keeps_no_white_space_alive() {
        let mut body = br#"{"type":"token","content":"a"}"#.to_vec();
        body.resize(64 << 10, b' ');
        let body = Bytes::from(body);
        let mut events = Vec::new();
        Splitter::default()
            .push(&mut body.clone(), &mut events)
            .unwrap();
        assert_eq!(contents(&events), ["a"]);
        assert!(!body.as_ptr_range().contains(&events[0].json.as_ptr()));
    }

    #[test]
    fn all_that_an_event_holds_is_in_its_weight() {
        let long = "x".repeat(10_000);
        let json =
            format!(r#"{{"type":"tool_response","content":"{long}","full_content":"{long}"}}"#);
        let (events, _) = split(&[json.as_bytes()]).unwrap();
        assert!(events[0].weight() > 30_000);
    }

    #[test]
    fn a_body_of_many_events_comes_in_slices() {
        let mut body = Bytes::from("{}".repeat(1 << 20));
        let (mut splitter, mut events, mut total) = (Splitter::default(), Vec::new(), 0);
        while splitter.push(&mut body, &mut events).unwrap() == Split::Slice {
            let weight: usize = events.iter().map(Event::weight).sum();
            assert!((SLICE..2 * SLICE).contains(&weight), "{weight}");
            total += events.len();
            events.clear();
        }
        assert_eq!(total + events.len(), 1 << 20);
    }

    #[test]
    fn a_token_always_has_a_content() {
        for json in [
            r#"{"type":"token"}"#,
            r#"{"type":"thinking","content":5}"#,
            r#"{"content":null,"type":"token"}"#,
        ] {
            let (events, _) = split(&[json.as_bytes()]).unwrap();
            assert_eq!(contents(&events), [""], "{json}");
        }
    }

    #[test]
    fn bytes_after_completion_are_ignored() {
        let (events, end) =
            split(&[br#"{"type":"completion","context_tokens":5,"max_context_tokens":9,"pending_tool_calls":true}junk"#])
                .unwrap();
        assert_eq!(end, Split::Complete);
        let details = events[0].details();
        assert_eq!(
            (details.context_tokens, details.max_context_tokens),
            (Some(5), Some(9))
        );
        assert_eq!(details.pending_tool_calls, Some(true));
    }

    #[test]
    fn a_missing_unknown_or_odd_type_is_passed_on() {
        for json in [
            r#"{}"#,
            r#"{"type":"later"}"#,
            r#"{"type":7,"content":[1]}"#,
            r#"{"type":null,"x":{"y":[]}}"#,
        ] {
            let (events, end) = split(&[json.as_bytes()]).unwrap();
            assert_eq!((events[0].kind(), end), (Kind::Other, Split::More));
            assert_eq!(events[0].json().unwrap().as_str(), json);
        }
    }

    #[test]
    fn bytes_that_are_no_json_object_end_the_stream() {
        for bad in [
            "x",
            "[]",
            "\"a\"",
            "1",
            "{]",
            "{\"a\":}",
            "{} x",
            "{\"a\":\"\\q\"}",
            "{\"a\" 1}",
            "}",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert_eq!(
                split(&[bad.as_bytes()]).unwrap_err().status(),
                Status::Event,
                "{bad}"
            );
        }
        assert!(split(&[b"{\"content\":\"\xff\"}"]).is_err());
        assert!(split(&[b"{\"ignored\":\"\xff\"}"]).is_err());
    }

    #[test]
    fn a_lone_surrogate_ends_the_stream_wherever_it_stands() {
        for bad in [
            r"\ud800",
            r"\udc00",
            r"\ud800x",
            r"\ud800\n",
            r"\ud800A",
            r"\ud800\ud800",
            r"\udbff\ue000",
        ] {
            for key in ["content", "ignored"] {
                let json = format!(r#"{{"{key}":"{bad}"}}"#);
                assert_eq!(
                    split(&[json.as_bytes()]).unwrap_err().status(),
                    Status::Event,
                    "{json}"
                );
            }
        }
        let (events, _) = split(&[br#"{"type":"token","content":"\ud83d\ude00"}"#]).unwrap();
        assert_eq!(contents(&events), ["😀"]);
    }

    #[test]
    fn nesting_ends_at_64_levels() {
        let nested = |levels: usize| {
            format!(
                "{}{}{}{}",
                "{\"a\":",
                "[".repeat(levels - 1),
                "]".repeat(levels - 1),
                "}"
            )
        };
        assert!(split(&[nested(64).as_bytes()]).is_ok());
        assert!(split(&[nested(65).as_bytes()]).is_err());
    }

    #[test]
    fn an_event_ends_at_16_mib_however_it_is_cut() {
        let event = |len: usize| {
            let head = br#"{"type":"token","content":""#;
            [&head[..], &vec![b'x'; len - head.len() - 2], b"\"}"].concat()
        };
        assert_eq!(split(&[&event(MAX_EVENT)]).unwrap().0.len(), 1);
        assert!(split(&[&event(MAX_EVENT + 1)]).is_err());
        let whole = event(MAX_EVENT);
        let bytes: Vec<&[u8]> = whole.chunks(1).collect(); // would take hours if it were quadratic
        assert_eq!(split(&bytes).unwrap().0.len(), 1);
    }

    #[test]
    fn an_error_does_not_quote_the_answer() {
        let error = split(&[br#"{"type":"token","content":"secret" oops}"#]).unwrap_err();
        assert!(
            !error.message().contains("secret") && !error.message().contains("oops"),
            "{error}"
        );
    }

    proptest! {
        /// Whatever the reader of tokens accepts, the general reader reads in the same way.
        #[test]
        fn both_readers_read_the_same(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "\"", "\"type\"", "\"content\"", "\"token\"", "\"thinking\"", ":", ",", " ", "\n", "x",
                "\\n", "\\u00e9", "\\ud83d\\ude00", "\\ud800", "\u{1}", "é", "\\", "7",
                "{\"type\":\"token\",\"content\":\"", "\"}",
            ]), 0..12),
        ) {
            let json = parts.concat();
            if let Some(found) = token::find(json.as_bytes()) {
                let general = Event::parse(Bytes::from(json[..found.len].to_owned())).unwrap();
                let mut rest = Bytes::from(json);
                let own = Event::take_token(&mut rest).unwrap();
                prop_assert_eq!(own.kind(), general.kind());
                let text = |event: &Event| event.content().map(|text| text.as_str().to_owned());
                prop_assert_eq!(text(&own), text(&general));
                prop_assert_eq!(own.json_bytes(), general.json_bytes());
            }
        }

        /// The division of a stream into bodies does not change its events.
        #[test]
        fn cutting_changes_nothing(texts in prop::collection::vec(any::<String>(), 0..8), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16)) {
            let whole: Vec<u8> = texts.iter()
                .flat_map(|text| serde_json::json!({"type": "token", "content": text}).to_string().into_bytes()).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            at.extend([0, whole.len()]);
            at.sort_unstable();
            let bodies: Vec<&[u8]> = at.windows(2).map(|w| &whole[w[0]..w[1]]).collect();
            let (events, _) = split(&bodies).unwrap();
            prop_assert_eq!(contents(&events), texts);
        }

        #[test]
        fn any_bytes_are_answered(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..32), 0..8)) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let _ = split(&bodies);
            let braced: Vec<Vec<u8>> = bodies.iter().map(|b| [b"{", *b].concat()).collect();
            let _ = split(&braced.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
