//! The servers that the enclave can imitate, and their differences (protocol.md sections 1, 4, 5,
//! 6).
//!
//! README.md shows the differences as a table.

use std::time::Duration;

/// A published server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Server {
    /// Version 0.1.14 of March 2026.
    V0_1_14,
    /// About version 0.1.18 of August 2026.
    #[default]
    Newer,
}

impl Server {
    /// Finds a server by the value of `--server`.
    pub(crate) fn named(name: &str) -> Result<Self, String> {
        match name {
            "0.1.14" => Ok(Self::V0_1_14),
            "newer" => Ok(Self::Newer),
            _ => Err(format!("--server is 0.1.14 or newer, not {name}")),
        }
    }

    fn choose<T>(self, v0_1_14: T, newer: T) -> T {
        match self {
            Self::V0_1_14 => v0_1_14,
            Self::Newer => newer,
        }
    }

    /// A failure of the model silently stops a streamed chat; any other chat gets status 500.
    pub(crate) fn fails_silently(self) -> bool {
        self.choose(true, false)
    }

    /// The server has the newer routes.
    pub(crate) fn has_newer_routes(self) -> bool {
        self.choose(false, true)
    }

    /// An unauthorized token still opens the WebSocket.
    pub(crate) fn opens_for_unauthorized(self) -> bool {
        self.choose(false, true)
    }

    /// The largest document, in bytes.
    pub(crate) fn max_document(self) -> usize {
        self.choose(50 << 20, 256 << 20)
    }

    /// Returns how many chunks of an upload may wait for an earlier one.
    pub(crate) fn max_out_of_order(self) -> usize {
        self.choose(64, 256)
    }

    /// Returns the status for an upload that timed out.
    pub(crate) fn upload_timeout_status(self) -> i32 {
        self.choose(502, 503)
    }
}

/// Time limits of the server. Tests set shorter ones.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// The server drops a connection, without a close frame, if the client is silent for this long.
    pub(crate) silence: Duration,
    /// The interval of that check.
    pub(crate) silence_check: Duration,
    /// An upload that is incomplete after this time ends and frees its place.
    pub(crate) upload: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(300),
            silence_check: Duration::from_secs(120),
            upload: Duration::from_secs(600),
        }
    }
}
