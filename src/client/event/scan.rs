//! Finds the end of an event (protocol section 5), with a state machine that reads each byte once. So
//! bodies of one byte each cost no more.

use super::broken;
use crate::error::{Error, Result};

/// The deepest nesting of an event, including its outer braces (protocol section 5).
pub const MAX_EVENT_DEPTH: u32 = 64;

/// The position in an event after the last byte.
#[derive(Default)]
pub(super) struct Scan {
    /// Open braces and brackets. The JSON parser checks that they match.
    pub(super) depth: u32,
    string: Str,
}

#[derive(Default, Clone, Copy)]
enum Str {
    /// Outside a string.
    #[default]
    Outside,
    /// Inside a string. `high`: directly after an escaped high surrogate, which only an escaped low
    /// surrogate may follow.
    Inside { high: bool },
    /// After a backslash.
    Escape { high: bool },
    /// Inside the digits of `\uXXXX`.
    Unicode { high: bool, digits: u8, value: u16 },
}

impl Scan {
    /// Reads `bytes`, which continue those of the last call. `Some(n)` means that the event ends
    /// after `n` of them.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        let mut at = 0;
        while at < bytes.len() {
            if let Str::Inside { high: false } = self.string {
                // Most of an event is text without escapes.
                match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    Some(skipped) => at += skipped,
                    None => return Ok(None),
                }
            }
            let byte = bytes[at];
            at += 1;
            self.string = match self.string {
                Str::Outside => match byte {
                    b'"' => Str::Inside { high: false },
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth > MAX_EVENT_DEPTH {
                            return Err(broken(&format!(
                                "an event is nested more than {MAX_EVENT_DEPTH} levels deep"
                            )));
                        }
                        Str::Outside
                    }
                    b'}' | b']' => {
                        self.depth -= 1;
                        if self.depth == 0 {
                            return Ok(Some(at));
                        }
                        Str::Outside
                    }
                    _ => Str::Outside,
                },
                Str::Inside { high } => match byte {
                    b'\\' => Str::Escape { high },
                    _ if high => return Err(lone_surrogate()),
                    b'"' => Str::Outside,
                    _ => Str::Inside { high },
                },
                Str::Escape { high } => match byte {
                    b'u' => Str::Unicode {
                        high,
                        digits: 0,
                        value: 0,
                    },
                    _ if high => return Err(lone_surrogate()),
                    _ => Str::Inside { high: false },
                },
                Str::Unicode {
                    high,
                    digits,
                    value,
                } => {
                    let digit = (byte as char).to_digit(16).ok_or_else(|| {
                        broken("an event has a \\u escape without four hex digits")
                    })?;
                    let value = value << 4 | digit as u16;
                    if digits < 3 {
                        Str::Unicode {
                            high,
                            digits: digits + 1,
                            value,
                        }
                    } else {
                        match (high, value) {
                            (false, 0xd800..=0xdbff) => Str::Inside { high: true },
                            (true, 0xdc00..=0xdfff) => Str::Inside { high: false },
                            (true, _) | (_, 0xdc00..=0xdfff) => return Err(lone_surrogate()),
                            _ => Str::Inside { high: false },
                        }
                    }
                }
            };
        }
        Ok(None)
    }
}

fn lone_surrogate() -> Error {
    broken("an event has a lone surrogate")
}
