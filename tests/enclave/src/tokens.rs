//! The known tokens, each with a class that decides how the server answers.
//!
//! Independent of sockets. Tokens are compared in constant time. Only their class is ever shown.

use aws_lc_rs::constant_time;

/// The class of a known token. An unknown token is refused at the upgrade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Class {
    Accepted,
    /// The upgrade succeeds, and each request gets status 402 (protocol.md section 4).
    Expired,
    /// The upgrade succeeds, and each request gets status 401 (section 1). Version 0.1.14 refuses
    /// the upgrade.
    Unauthorized,
}

impl Class {
    /// Returns the name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Expired => "expired",
            Self::Unauthorized => "unauthorized",
        }
    }

    /// Returns the status and body that replace every answer.
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

    /// Returns the first accepted token.
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
