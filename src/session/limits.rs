//! Limits of a connection in time, memory and number, and all their defaults.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::stage::Stage;

/// The way an answer arrives. It selects the idle limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Streamed, event by event.
    Events,
    /// At once, or in pieces after minutes of work.
    Pieces,
}

impl Pace {
    /// Returns the C constant of the idle limit.
    pub fn limit_name(self) -> &'static str {
        match self {
            Pace::Events => "CONFER_DURATION_IDLE_EVENTS",
            Pace::Pieces => "CONFER_DURATION_IDLE_OTHER",
        }
    }
}

/// Longest silence of a request (protocol section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Before and between the events of a streamed answer.
    pub events: Duration,
    /// Before and between the pieces of any other answer.
    pub pieces: Duration,
}

impl Idle {
    /// Sets the same limit for both.
    pub fn both(limit: Duration) -> Idle {
        Idle {
            events: limit,
            pieces: limit,
        }
    }

    /// Returns the limit of an answer with this pace.
    pub fn of(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Events => self.events,
            Pace::Pieces => self.pieces,
        }
    }
}

/// Most bytes of a request's body. Newer servers take chats of a few megabytes, and a document is
/// uploaded in chunks.
pub const MAX_BODY: usize = 32 << 20;

/// The limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for each [`Stage`], by its number.
    pub stage: [Duration; Stage::ALL.len()],
    /// Time for all stages together.
    pub connect: Duration,
    /// Time between pings.
    pub keepalive: Duration,
    /// Longest time that a ping may be open while no byte moves.
    pub dead_after: Duration,
    /// Longest silence of a request.
    pub idle: Idle,
    /// Longest silence of the peer after the network changed.
    pub probe: Duration,
    /// Limits of memory and number.
    pub bounds: Bounds,
}

/// Limits of the memory that a peer or a slow reader can occupy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Unread bytes of a stream at which the driver stops reading the socket, if no other request
    /// is open.
    pub stream_rest: usize,
    /// Unread bytes above which a stream fails. A delivery that begins below it is taken whole, so
    /// one large event fails no stream whose reader keeps up.
    pub stream: usize,
    /// Unread bytes of all streams of a client. Above it, streams fail that hold more than their
    /// equal share.
    pub client: usize,
    /// Bytes of messages that lack frames (protocol section 3).
    pub unfinished: usize,
    /// Bytes of requests that wait to be sent. A request that has begun to leave and then ends no
    /// longer counts, although its message goes out whole: at most one on each connection.
    pub unsent: usize,
    /// Open requests.
    pub requests: usize,
}

/// Every default. Each of them can be set.
const DEFAULTS: Limits = Limits {
    stage: [
        seconds(10), // resolve
        seconds(10), // tcp
        seconds(10), // tls
        seconds(10), // upgrade
        seconds(15), // handshake: the server asks Intel inside it (protocol section 2)
        seconds(15), // key_set
        seconds(15), // verify
        seconds(10), // proxy
    ],
    connect: seconds(60),
    keepalive: seconds(20),  // protocol section 4
    dead_after: seconds(20), // protocol section 4
    idle: Idle {
        events: seconds(180), // protocol section 4
        pieces: seconds(600), // the server works for up to 10 minutes (protocol section 4)
    },
    probe: seconds(5),
    bounds: Bounds {
        stream_rest: 1 << 20, // some seconds of a fast model's tokens
        stream: 16 << 20,     // one event of the longest kind
        client: 64 << 20,     // four full streams
        unfinished: 64 << 20, // protocol section 3
        unsent: 64 << 20,     // two bodies of the longest kind
        requests: 4_096,
    },
};

/// Range of each bound in bytes. A smaller one would not hold a frame.
pub const BOUND_BYTES: RangeInclusive<u64> = (64 << 10)..=(1 << 40);
/// Range of the number of open requests.
pub const BOUND_REQUESTS: RangeInclusive<u64> = 1..=1_000_000;

impl Limits {
    /// Returns the limit of a stage.
    pub(super) fn of(&self, stage: Stage) -> Duration {
        self.stage[stage as usize]
    }
}

impl Default for Limits {
    fn default() -> Limits {
        DEFAULTS
    }
}

impl Default for Bounds {
    fn default() -> Bounds {
        DEFAULTS.bounds
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
