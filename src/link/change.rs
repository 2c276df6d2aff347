//! What an application is told of its connection.

use std::sync::Arc;
use std::time::Duration;

use crate::attestation::Evidenced;
use crate::error::Error;

/// What becomes of a client's connection.
pub enum Change {
    /// It broke; the client connects again.
    Lost(Error),
    /// An attempt begins after a pause. Where the connection did not break, it serves meanwhile.
    Attempt {
        /// From 1, in a row.
        number: u32,
        /// The pause.
        pause: Duration,
    },
    /// The attempt failed.
    Failed(Error),
    /// There is a new connection, verified.
    Connected {
        /// Why it is trusted.
        evidenced: Arc<Evidenced>,
        /// Its manifest is another one than before.
        release_changed: bool,
    },
    /// There will be no other: the client has ended.
    Ended(Error),
}

/// Told of each [`Change`], on the client's callback thread.
pub type ChangeSink = Arc<dyn Fn(Change) + Send + Sync>;
