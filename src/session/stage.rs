//! The stages of connecting, with their names.

/// The stages of connecting, mostly in order. The numbers are those of the C API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Stage {
    /// Looks up the host name.
    Resolve = 0,
    /// Opens a TCP connection.
    Tcp = 1,
    /// Negotiates TLS.
    Tls = 2,
    /// Asks for the WebSocket upgrade.
    Upgrade = 3,
    /// Exchanges Noise messages 1 and 2.
    Handshake = 4,
    /// Reads or fetches Intel's key set.
    KeySet = 5,
    /// Verifies the evidence, and then sends message 3.
    Verify = 6,
    /// Opens a tunnel through the proxy, between [`Stage::Tcp`] and [`Stage::Tls`].
    Proxy = 7,
}

impl Stage {
    /// All stages, by number.
    pub const ALL: [Stage; 8] = [
        Stage::Resolve,
        Stage::Tcp,
        Stage::Tls,
        Stage::Upgrade,
        Stage::Handshake,
        Stage::KeySet,
        Stage::Verify,
        Stage::Proxy,
    ];

    /// Returns the name that errors and the report's `timings_us` use.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Resolve => "resolve",
            Stage::Tcp => "tcp",
            Stage::Tls => "tls",
            Stage::Upgrade => "upgrade",
            Stage::Handshake => "handshake",
            Stage::KeySet => "key_set",
            Stage::Verify => "verify",
            Stage::Proxy => "proxy",
        }
    }
}
