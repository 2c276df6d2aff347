//! The tokens that clients may come with, by what becomes of their requests.
//!
//! Knows no sockets. A token is compared in constant time and never shown: its class is.

use aws_lc_rs::constant_time;

/// What a known token is good for. Any other is refused at the upgrade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Class {
    Accepted,
    /// The upgrade is accepted, and each request answered 402 (protocol.md section 4).
    Expired,
    /// The upgrade is accepted, and each request answered 401 (section 1). Version 0.1.14 refuses the upgrade.
    Unauthorized,
}

impl Class {
    /// How the log tells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Expired => "expired",
            Self::Unauthorized => "unauthorized",
        }
    }

    /// What requests are answered instead.
    pub(crate) fn refusal(self) -> Option<(i32, &'static str)> {
        match self {
            Self::Accepted => None,
            Self::Expired => Some((402, "Payment required")),
            Self::Unauthorized => Some((401, "Unauthorized")),
        }
    }
}

#[derive(Default)]
pub(crate) struct Tokens(Vec<(String, Class)>);

impl Tokens {
    /// Adds a token; one token has one class.
    pub(crate) fn add(&mut self, token: String, class: Class) -> Result<(), String> {
        if self.0.iter().any(|(known, _)| *known == token) {
            return Err("a token is given twice".into());
        }
        self.0.push((token, class));
        Ok(())
    }

    /// The first token that lets in.
    pub(crate) fn accepted(&self) -> Option<&str> {
        let found = self.0.iter().find(|(_, class)| *class == Class::Accepted);
        found.map(|(token, _)| token.as_str())
    }

    pub(crate) fn class(&self, given: &[u8]) -> Option<Class> {
        let is =
            |token: &str| constant_time::verify_slices_are_equal(given, token.as_bytes()).is_ok();
        let found = self.0.iter().find(|(token, _)| is(token));
        found.map(|(_, class)| *class)
    }
}
