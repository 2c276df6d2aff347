//! Settings by key. Times, sizes and counts of a configuration.

use super::status::confer_status;
use super::support::guard;
use super::types::{confer_config, confer_error};
use crate::client::{DURATIONS, LIMITS, Setting};
use crate::error::{Error, Result, Status};

/// Looking up the host name of the endpoint or the proxy. Keys below 100 are the numbers of
/// CONFER_STAGE_*.
pub const CONFER_DURATION_STAGE_RESOLVE: i32 = 0;
/// Connecting by TCP, over all addresses of the name.
pub const CONFER_DURATION_STAGE_TCP: i32 = 1;
/// Negotiating TLS.
pub const CONFER_DURATION_STAGE_TLS: i32 = 2;
/// Upgrading to a WebSocket.
pub const CONFER_DURATION_STAGE_UPGRADE: i32 = 3;
/// Messages 1 and 2 of the Noise handshake.
pub const CONFER_DURATION_STAGE_HANDSHAKE: i32 = 4;
/// Finding or fetching Intel's key set.
pub const CONFER_DURATION_STAGE_KEY_SET: i32 = 5;
/// Verifying the evidence and sending message 3.
pub const CONFER_DURATION_STAGE_VERIFY: i32 = 6;
/// Opening a tunnel through the proxy.
pub const CONFER_DURATION_STAGE_PROXY: i32 = 7;
/// All stages of connecting together.
pub const CONFER_DURATION_CONNECT: i32 = 100;
/// The application's answer to a question: for a token, or about another release.
pub const CONFER_DURATION_ANSWER: i32 = 101;
/// The interval between keepalive pings.
pub const CONFER_DURATION_KEEPALIVE: i32 = 102;
/// Longest time that a ping may stay unanswered while no byte moves in either direction. Then the
/// connection counts as dead: CONFER_E_DEAD_PEER.
pub const CONFER_DURATION_DEAD_PEER: i32 = 103;
/// Longest silence of the enclave after confer_client_network_changed(). Then the connection counts
/// as dead.
pub const CONFER_DURATION_PROBE: i32 = 104;
/// Longest silence of a request whose answer ends with CONFER_EVENT_COMPLETION, such as a streamed
/// chat. Then it fails with CONFER_E_STREAM_IDLE. A server can lose a streamed answer silently and
/// still answer pings.
pub const CONFER_DURATION_IDLE_EVENTS: i32 = 105;
/// The same for any other answer: the server may work for 10 minutes on a document, or on an answer
/// without streaming. The same limits apply while a request waits for a connection, or for its turn
/// to upload.
pub const CONFER_DURATION_IDLE_OTHER: i32 = 106;
/// The age at which a new, verified connection replaces a working one.
///
/// With retries on (see CONFER_LIMIT_ATTEMPTS), the library makes the new connection first. Open
/// requests finish on the old one; at most four old connections stay open for this. If no
/// connection can be made, new requests wait, and fail with the last attempt's error after the last
/// allowed attempt. The old connection continues for open requests. An error that is not retried
/// ends the client. With retries off, the connection ends with CONFER_E_EXPIRED.
pub const CONFER_DURATION_MAX_AGE: i32 = 107;
/// The longest delay before the first retry. This maximum doubles with each failure, and the delay
/// is a random part of it. If the server asks for a longer delay, the library waits that long.
pub const CONFER_DURATION_FIRST_RETRY: i32 = 108;
/// The longest delay before any retry, unless the server asks for a longer one.
pub const CONFER_DURATION_LONGEST_RETRY: i32 = 109;

/// Unread bytes of a stream. Above it the library stops reading the socket, if no other request is
/// open.
pub const CONFER_LIMIT_STREAM_REST: i32 = 0;
/// Unread bytes of a stream. Above it the stream fails with CONFER_E_SLOW_CONSUMER.
pub const CONFER_LIMIT_STREAM_UNREAD: i32 = 1;
/// Unread bytes of all streams of a client. Above it, streams with more than an equal share fail.
pub const CONFER_LIMIT_CLIENT_UNREAD: i32 = 2;
/// Bytes of incomplete messages. Above it the connection fails with CONFER_E_LIMIT.
pub const CONFER_LIMIT_UNFINISHED: i32 = 3;
/// Bytes of requests that wait to be sent. Above it another request is refused with
/// CONFER_E_TOO_MANY, and one that is larger than the limit itself with CONFER_E_TOO_LARGE. If the
/// application answers token questions and retries are on, sent requests without an answer may hold
/// as many bytes again, because they are repeated after status 401 or 402.
pub const CONFER_LIMIT_UNSENT: i32 = 4;
/// Open requests. Above it another request is refused with CONFER_E_TOO_MANY.
pub const CONFER_LIMIT_REQUESTS: i32 = 5;
/// Number of attempts to connect that may fail one after the other; the first attempt of
/// confer_connect_start() counts too. After the last one the client ends with its error. 0: the
/// client ends with its connection.
///
/// Each new connection is fully verified, with the same policy. A request that was not sent before
/// the connection broke is sent on the next one. Other streams end with the connection's error, and
/// confer_error_progress() says how far they got: nothing is sent twice. Requests started without a
/// connection wait for one. A later connection that breaks within 10 s counts as a failed attempt.
/// An error that is not retried, such as a refused enclave, ends the client at once: see the table
/// of confer_error_retryable().
pub const CONFER_LIMIT_ATTEMPTS: i32 = 6;

/// Sets a time of a configuration, in milliseconds. Any thread.
///
/// `duration`: one of CONFER_DURATION_*. `ms`: within its bounds; 0, where allowed, turns the time
/// off.
///
///     Key                                Default    Bounds
///     -------------------------------    -------    --------------------------
///     CONFER_DURATION_STAGE_RESOLVE      10,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_TCP          10,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_TLS          10,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_UPGRADE      10,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_HANDSHAKE    15,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_KEY_SET      15,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_VERIFY       15,000     1 to 86,400,000
///     CONFER_DURATION_STAGE_PROXY        10,000     1 to 86,400,000
///     CONFER_DURATION_CONNECT            60,000     1 to 86,400,000
///     CONFER_DURATION_ANSWER             30,000     1 to 86,400,000
///     CONFER_DURATION_KEEPALIVE          20,000     1 to 86,400,000
///     CONFER_DURATION_DEAD_PEER          20,000     1 to 86,400,000
///     CONFER_DURATION_PROBE              5,000      1 to 86,400,000
///     CONFER_DURATION_IDLE_EVENTS        180,000    1 to 86,400,000
///     CONFER_DURATION_IDLE_OTHER         600,000    1 to 86,400,000
///     CONFER_DURATION_MAX_AGE            0          10,000 to 86,400,000, or 0
///     CONFER_DURATION_FIRST_RETRY        500        1 to 86,400,000
///     CONFER_DURATION_LONGEST_RETRY      30,000     1 to 86,400,000
///
/// Errors: CONFER_E_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_duration_ms(
    config: *mut confer_config,
    duration: i32,
    ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let setting = known(&DURATIONS, "duration", duration, "CONFER_DURATION_*")?;
        // SAFETY: NULL or a live handle.
        unsafe { confer_config::with(config, |config| setting.set(config, ms)) }
    })
}

/// Sets a size or a count of a configuration. Any thread.
///
/// `limit`: one of CONFER_LIMIT_*. `value`: within its bounds. An unread event counts as at least
/// the size of its JSON; an event that was taken no longer counts. See also
/// confer_runtime_set_unread_limit().
///
///     Key                           Default    Bounds
///     --------------------------    -------    ------------------------
///     CONFER_LIMIT_STREAM_REST      1 MiB      64 KiB to 1 TiB
///     CONFER_LIMIT_STREAM_UNREAD    16 MiB     64 KiB to 1 TiB
///     CONFER_LIMIT_CLIENT_UNREAD    64 MiB     64 KiB to 1 TiB
///     CONFER_LIMIT_UNFINISHED       64 MiB     64 KiB to 1 TiB
///     CONFER_LIMIT_UNSENT           64 MiB     64 KiB to 1 TiB
///     CONFER_LIMIT_REQUESTS         4,096      1 to 1,000,000
///     CONFER_LIMIT_ATTEMPTS         0          1 to 4,294,967,295, or 0
///
/// Errors: CONFER_E_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_limit(
    config: *mut confer_config,
    limit: i32,
    value: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let setting = known(&LIMITS, "limit", limit, "CONFER_LIMIT_*")?;
        // SAFETY: NULL or a live handle.
        unsafe { confer_config::with(config, |config| setting.set(config, value)) }
    })
}

/// Sets whether a working connection is also replaced when its evidence expires: at
/// confer_report_expires_at() plus the policy's leeway. That is some minutes after the enclave
/// received its token from Intel. Otherwise like CONFER_DURATION_MAX_AGE. Default false.
///
/// If the wall clock jumped or the machine slept, the library notices the expiry at the next
/// request, or within 30 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_renew_with_evidence(
    config: *mut confer_config,
    renew: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_config::with(config, |config| {
                config.renew_with_evidence = renew;
                Ok(())
            })
        }
    })
}

fn known(
    table: &'static [Setting],
    argument: &str,
    key: i32,
    constants: &str,
) -> Result<&'static Setting> {
    let found = table.iter().find(|setting| setting.key == key);
    found.ok_or_else(|| {
        let message = format!("{argument}: invalid value {key} (expected a {constants} constant)");
        Error::new(Status::InvalidArgument, message)
    })
}
