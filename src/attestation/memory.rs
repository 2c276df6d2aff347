//! Whether a verification uses the remembered keys and releases.

/// Whether to use and update the remembered keys and releases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// For a live connection.
    Use,
    /// For a replay, whose file is not authenticated.
    Leave,
}
