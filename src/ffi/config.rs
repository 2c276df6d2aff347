//! Configuration: the section "Configuration" of the header.

use std::ffi::{CString, c_char, c_void};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::connection::{confer_connection_fn, confer_release_fn, connection, release};
use super::error::confer_error;
use super::policy::confer_policy;
use super::status::confer_status;
use super::support::guard::{self, Turns};
use super::support::user_data::{UserData, confer_destroy_fn};
use super::support::{handle, text};
use super::token::{confer_token_fn, provider};
use crate::client::Config;
use crate::error::{Error, Result, Status};
use crate::host::{Level, Sink};
use crate::link::Reconnect;
use crate::net::Roots;
use crate::session::{BOUND_BYTES, BOUND_REQUESTS, Idle, Limits, Stage};

/// What clients are made from. Any thread may use it; calls on one configuration take turns. Connecting copies what it
/// needs, so a configuration can be changed or freed at once afterwards, and can serve many clients: they share its
/// policy's memory and key set.
#[allow(non_camel_case_types)]
pub struct confer_config(Turns<Config>);

impl confer_config {
    /// # Safety
    /// `config` is NULL or a live handle.
    pub(super) unsafe fn with<T>(
        config: *const confer_config,
        work: impl FnOnce(&mut Config) -> Result<T>,
    ) -> Result<T> {
        // SAFETY: passed on.
        unsafe { handle::borrow(config, "config") }?.0.with(work)
    }
}

/// Sets one time limit.
///
/// # Safety
/// `config` is NULL or a live handle.
unsafe fn set_limit(
    config: *const confer_config,
    name: &str,
    milliseconds: u64,
    set: impl FnOnce(&mut Limits, Duration),
) -> Result<()> {
    let wait = Config::wait(name, milliseconds)?;
    // SAFETY: passed on.
    unsafe {
        confer_config::with(config, |config| {
            set(&mut config.limits, wait);
            Ok(())
        })
    }
}

/// The endpoint's host name, or the proxy's, is looked up. Default limit 10 s.
pub const CONFER_STAGE_RESOLVE: i32 = 0;
/// A TCP connection is made: all addresses of the name are tried, IPv6 and IPv4 in turn, each 250 ms after the one before
/// or when that has failed. Default limit 10 s.
pub const CONFER_STAGE_TCP: i32 = 1;
/// TLS is negotiated, with the endpoint itself; nothing to do for ws://. Default limit 10 s.
pub const CONFER_STAGE_TLS: i32 = 2;
/// The WebSocket upgrade is asked for, with the token. Default limit 10 s.
pub const CONFER_STAGE_UPGRADE: i32 = 3;
/// Messages 1 and 2 of the Noise handshake. Default limit 15 s.
pub const CONFER_STAGE_HANDSHAKE: i32 = 4;
/// Intel's key set is found or fetched. Default limit 15 s.
pub const CONFER_STAGE_KEY_SET: i32 = 5;
/// The evidence is verified and, if it holds, message 3 is sent. Default limit 15 s.
pub const CONFER_STAGE_VERIFY: i32 = 6;
/// A tunnel through the proxy is asked for, after CONFER_STAGE_TCP and before CONFER_STAGE_TLS; entered only where there
/// is one. Default limit 10 s.
pub const CONFER_STAGE_PROXY: i32 = 7;
/// The application's token provider is asked; the first stage, where there is one. Default limit 15 s.
pub const CONFER_STAGE_TOKEN: i32 = 8;
/// The application is asked whether another release than before will do; the last stage before message 3. Default limit
/// 15 s.
pub const CONFER_STAGE_RELEASE: i32 = 9;
/// Connecting has ended, well or not: confer_connecting_wait() will not wait any more.
pub const CONFER_STAGE_ENDED: i32 = 100;

/// TLS trusts Mozilla's list of authorities, which is built into the library.
pub const CONFER_ROOTS_BUNDLED: i32 = 0;
/// TLS trusts the authorities that the system does.
pub const CONFER_ROOTS_SYSTEM: i32 = 1;

/// Bytes that wait to be read on a stream, from which on the socket is not read if no other request is open. Default
/// 1 MiB.
pub const CONFER_LIMIT_STREAM_REST: i32 = 0;
/// Bytes that wait to be read on a stream, above which it fails with CONFER_E_SLOW_CONSUMER. Default 16 MiB.
pub const CONFER_LIMIT_STREAM_UNREAD: i32 = 1;
/// Bytes that wait to be read on all streams of a client, above which those fail that hold more than their equal share.
/// Default 64 MiB.
pub const CONFER_LIMIT_CLIENT_UNREAD: i32 = 2;
/// Bytes of messages of which not all has come, above which the connection fails with CONFER_E_LIMIT. Default 64 MiB.
pub const CONFER_LIMIT_UNFINISHED: i32 = 3;
/// Bytes of requests that wait to be sent, above which a further one is refused with CONFER_E_TOO_MANY. Default 64 MiB. With
/// a token provider and reconnecting on, as many again of those that were sent and have no answer yet: status 401 or 402
/// would have them sent once more.
pub const CONFER_LIMIT_UNSENT: i32 = 4;
/// Requests that are open at once, above which a further one is refused with CONFER_E_TOO_MANY. Default 4,096.
pub const CONFER_LIMIT_REQUESTS: i32 = 5;

/// Something failed.
pub const CONFER_LOG_ERROR: i32 = 1;
/// Something is not as it should be; the work goes on.
pub const CONFER_LOG_WARN: i32 = 2;
/// A connection came or went.
pub const CONFER_LOG_INFO: i32 = 3;
/// Each stage of connecting.
pub const CONFER_LOG_DEBUG: i32 = 4;

/// Takes a log record. `level`: one of CONFER_LOG_*; `target`: the part of the library, such as "confer::connect";
/// `message`: English. Both texts are NUL-terminated UTF-8 and valid during the call. Runs on the client's callback
/// thread.
#[allow(non_camel_case_types)]
pub type confer_log_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: i32,
        target: *const c_char,
        message: *const c_char,
    ),
>;

/// Told that connecting entered a stage: one of CONFER_STAGE_*. Runs on the client's callback thread.
#[allow(non_camel_case_types)]
pub type confer_stage_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, stage: i32)>;

/// A new configuration: Confer's own service, the production policy, every limit at its default. Only the token is
/// missing.
///
/// `config`: receives the configuration; free it with confer_config_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_new(
    config: *mut *mut confer_config,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `config` is NULL or writable.
    guard::gives(error, unsafe { handle::out(config, "config") }, |out| {
        out.set(handle::give(confer_config(Turns::new(Config::new()))));
        Ok(())
    })
}

/// Where to connect: the URL of the WebSocket, path included, without the token, at most 2,048 bytes. `wss://`, or
/// `ws://` for a loopback address. Default "wss://inference.confer.to/websocket".
///
/// Errors: CONFER_E_INVALID_URL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_endpoint(
    config: *mut confer_config,
    url: *const c_char,
    url_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `url` is as the contract of texts says.
        let url = unsafe { text::read(url, url_len, "url") }?;
        unsafe { confer_config::with(config, |config| config.set_endpoint(url)) }
    })
}

/// The proxy to connect through. Default none.
///
/// `url`: `http://host:port` for HTTP CONNECT, or `socks5://host:port`; with credentials `http://user:password@host:port`,
/// percent-encoded. At most 2,048 bytes; without a scheme `http://` is meant; the port is 80 or 1080 if none is given. Empty
/// text: no proxy. For SOCKS5 user name and password have 1 to 255 bytes each. The endpoint's name is looked up by the
/// proxy, never here; `socks5h://`, which says so elsewhere, is the same.
///
/// Everything goes through it, Intel's key set too. TLS is with the endpoint itself: a proxy sees its name, sizes and
/// times, and no token. Credentials go to the proxy in the clear, as in every such protocol, and are written nowhere
/// else. What is plain is on this machine, which a proxy does not lead to: with a ws:// endpoint connecting fails with
/// CONFER_E_INVALID_URL, and a key set at an http:// URL is not fetched.
///
/// Errors: CONFER_E_INVALID_URL, which does not repeat the text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_proxy(
    config: *mut confer_config,
    url: *const c_char,
    url_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `url` is as the contract of texts says.
        let url = unsafe { text::read(url, url_len, "url") }?;
        unsafe { confer_config::with(config, |config| config.set_proxy(url)) }
    })
}

/// Takes the proxy from the process's environment, as it is during this call: the first of HTTPS_PROXY, https_proxy,
/// ALL_PROXY and all_proxy that is not empty, in the form of confer_config_set_proxy(), which it replaces; none of them: no
/// proxy. Without this call the environment is not looked at.
///
/// Hosts in NO_PROXY, or no_proxy, are reached without it, by curl's rules: names, which stand for all below them too,
/// addresses, and networks such as 10.0.0.0/8, parted by commas or spaces; `*` is every host. So are ws:// endpoints, which
/// are on this machine. Other threads must not change the environment meanwhile.
///
/// Errors: CONFER_E_INVALID_URL, which names the variable, if it holds no proxy that the library can use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_proxy_from_environment(
    config: *mut confer_config,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe { confer_config::with(config, Config::set_proxy_from_environment) }
    })
}

/// Whose certificates count for TLS. Default CONFER_ROOTS_BUNDLED, which needs no file. The system's are read during
/// this call, from where SSL_CERT_FILE and SSL_CERT_DIR say if they are set; call it again to read them anew. Neither has
/// to do with the enclave's verification, whose roots stand in the policy.
///
/// Clients of one configuration resume each other's TLS sessions, as long as its roots are not set again; those with the
/// bundled roots all do.
///
/// Errors: CONFER_E_FILE if the system's store cannot be read or has no usable certificate; CONFER_E_INVALID_ARGUMENT.
/// The roots from before then stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_roots(
    config: *mut confer_config,
    roots: i32,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let roots = match roots {
            CONFER_ROOTS_BUNDLED => Roots::Bundled,
            CONFER_ROOTS_SYSTEM => Roots::System,
            _ => {
                return Err(Error::new(
                    Status::InvalidArgument,
                    format!("roots: invalid value {roots} (expected a CONFER_ROOTS_* constant)"),
                ));
            }
        };
        // SAFETY: NULL or a live handle.
        unsafe { confer_config::with(config, |config| config.set_roots(roots)) }
    })
}

/// The application's own roots for TLS, in place of any others: certificates as PEM text, at most 1 MiB and 1,024 of them.
/// What else the text holds is passed over.
///
/// Errors: CONFER_E_INVALID_ARGUMENT if there is no certificate in it or one that cannot be used, which is named by its
/// place; CONFER_E_TOO_LARGE. The roots from before then stay.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_roots_pem(
    config: *mut confer_config,
    pem: *const c_char,
    pem_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `pem` is as the contract of texts says.
        let pem = unsafe { text::read(pem, pem_len, "pem") }?;
        unsafe { confer_config::with(config, |config| config.set_roots_pem(pem)) }
    })
}

/// The account's token, at most 8,192 bytes. No default: connecting without one, and without a provider, is an error. The
/// library sends it in the upgrade's request line and writes it nowhere else. One newline at its end is left out.
///
/// Once the server has refused a token for good, the client does not connect with it again: after HTTP status 401, 402 or
/// 403, and after HTTP status 500 or a request's status 401 or 402 if the token is a JWT whose `exp` has passed. Without a
/// provider a client with reconnecting on then ends at its next attempt to connect.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a token that is empty, that begins with "Bearer ", or that holds white space, a
/// byte order mark, quotes or a control character; CONFER_E_TOO_LARGE. The message names what is wrong, and never the token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_token(
    config: *mut confer_config,
    token: *const c_char,
    token_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `token` is as the contract of texts says.
        let token = unsafe { text::read(token, token_len, "token") }?;
        unsafe { confer_config::with(config, |config| config.set_token(token)) }
    })
}

/// Who gives a token for each connection, the first one too, in the place of confer_config_set_token(). Default no one.
///
/// `provider`: asked on the client's callback thread before each attempt to connect; its time limit is that of
/// CONFER_STAGE_TOKEN. With reconnecting on, it is also asked a minute before the last token ends, if that is a JWT that
/// says when, and the connection is replaced by one with the fresh token. While it gives a token that the server has refused
/// for good, attempts fail with CONFER_E_TOKEN. May be NULL for none.
/// `user_data`, `destroy`: as for confer_config_set_log().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_token_provider(
    config: *mut confer_config,
    provider: confer_token_fn,
    user_data: *mut c_void,
    destroy: confer_destroy_fn,
    error: *mut *mut confer_error,
) -> confer_status {
    // First of all: `destroy` runs on every failure.
    let user_data = UserData::new(user_data, destroy);
    guard::done(error, || {
        let provider = self::provider(provider, user_data);
        // SAFETY: as in confer_config_set_log.
        drop(unsafe {
            confer_config::with(config, |config| {
                Ok(std::mem::replace(&mut config.provider, provider))
            })
        }?);
        Ok(())
    })
}

/// Whether a connection that breaks is made again. Default off: the client ends with its connection.
///
/// Each new connection goes through the whole verification, with the same policy. A request that was not sent when the
/// connection broke is sent on the next one; of others the stream ends with the connection's error, and
/// confer_error_progress() says how far they had come: nothing is sent twice. Requests that are started meanwhile wait.
///
/// A request that has waited for the time of confer_config_set_idle_timeout_ms() ends with CONFER_E_STREAM_IDLE.
///
/// `max_attempts`: how many may fail in a row before the client ends with the last one's error; 0 for off. A connection
/// that was made again and breaks within 10 s counts as one. An error that is not retried, such as a refused enclave or
/// refused credentials, ends the client at once: see the table of confer_error_retryable().
/// `first_delay_ms`, `max_delay_ms`: the pause before an attempt is a random part of the first delay, which doubles with
/// each failure up to the most; 1 to 86,400,000. A server that asks for a longer one has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_reconnect(
    config: *mut confer_config,
    max_attempts: u32,
    first_delay_ms: u64,
    max_delay_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let reconnect = match max_attempts {
            0 => None,
            attempts => Some(Reconnect {
                attempts,
                first: Config::wait("first_delay_ms", first_delay_ms)?,
                most: Config::wait("max_delay_ms", max_delay_ms)?,
            }),
        };
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_config::with(config, |config| {
                config.reconnect = reconnect;
                Ok(())
            })
        }
    })
}

/// When a connection that works is replaced by a fresh one, which is verified anew. Default never.
///
/// With reconnecting on, the new connection is made first; requests that are under way end on the old one, of which four
/// may linger. Where none can be made, new requests wait, and end with the last attempt's error once the attempts are used
/// up; the old connection stays for what is under way, unless that error is not retried: then the client ends. With
/// reconnecting off, the connection ends with CONFER_E_EXPIRED.
///
/// `max_age_ms`: the age that a connection may reach, at least 10,000 and at most 86,400,000; 0 for any.
/// `with_evidence`: not beyond the time for which its evidence would be accepted: confer_report_expires_at(), and the
/// policy's leeway. That is some minutes after the enclave had its token from Intel. Where the clock on the wall jumped, or
/// the machine slept, it is noticed by the next request, and within 30 s by those that are under way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_max_age(
    config: *mut confer_config,
    max_age_ms: u64,
    with_evidence: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        /// Below it, a client would do little but connect.
        const LEAST: u64 = 10_000;
        if (1..LEAST).contains(&max_age_ms) {
            let message =
                format!("max_age_ms: invalid value {max_age_ms} (expected 0, or at least {LEAST})");
            return Err(Error::new(Status::InvalidArgument, message));
        }
        let max_age = match max_age_ms {
            0 => None,
            age => Some(Config::wait("max_age_ms", age)?),
        };
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_config::with(config, |config| {
                (config.renew.max_age, config.renew.with_evidence) = (max_age, with_evidence);
                Ok(())
            })
        }
    })
}

/// Who is told of what becomes of the connection: that it broke, each attempt to make it again, and how that ended.
/// Default no one.
///
/// `connection`: may be NULL for none. `user_data`, `destroy`: as for confer_config_set_log().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_connection_callback(
    config: *mut confer_config,
    connection: confer_connection_fn,
    user_data: *mut c_void,
    destroy: confer_destroy_fn,
    error: *mut *mut confer_error,
) -> confer_status {
    // First of all: `destroy` runs on every failure.
    let user_data = UserData::new(user_data, destroy);
    guard::done(error, || {
        let sink = self::connection(connection, user_data);
        // SAFETY: as in confer_config_set_log.
        drop(unsafe {
            confer_config::with(config, |config| {
                Ok(std::mem::replace(&mut config.changes, sink))
            })
        }?);
        Ok(())
    })
}

/// Who decides about an enclave that satisfies the policy, but runs another release (manifest) than the connection before
/// it. Default no one: the policy alone decides. Refused, it gets no message 3, and the client ends with
/// CONFER_E_RELEASE_REFUSED.
///
/// `release`: may be NULL for none. `user_data`, `destroy`: as for confer_config_set_log().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_release_callback(
    config: *mut confer_config,
    release: confer_release_fn,
    user_data: *mut c_void,
    destroy: confer_destroy_fn,
    error: *mut *mut confer_error,
) -> confer_status {
    // First of all: `destroy` runs on every failure.
    let user_data = UserData::new(user_data, destroy);
    guard::done(error, || {
        let sink = self::release(release, user_data);
        // SAFETY: as in confer_config_set_log.
        drop(unsafe {
            confer_config::with(config, |config| {
                Ok(std::mem::replace(&mut config.release, sink))
            })
        }?);
        Ok(())
    })
}

/// What is trusted. Default: confer_policy_production(). The configuration keeps what it needs; the policy can be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_policy(
    config: *mut confer_config,
    policy: *const confer_policy,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: each is NULL or a live handle.
        let policy = unsafe { handle::borrow(policy, "policy") }?;
        unsafe {
            confer_config::with(config, |config| {
                config.set_policy(policy.verifier.clone());
                Ok(())
            })
        }
    })
}

/// A file in which fetched key sets of Intel are kept, so that the next process need not fetch them. Default none. It
/// is read when connecting and replaced whole after a fetch; its content is verified like any key set, so it need not be
/// protected. A file that holds something else than a key set is not touched: connecting fails with CONFER_E_FILE; an
/// empty one counts as none. A file that cannot be written is a warning in the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_jwks_cache_file(
    config: *mut confer_config,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `path` is as the contract of texts says.
        let path = unsafe { text::read(path, path_len, "path") }?;
        if path.is_empty() || path.contains('\0') {
            return Err(Error::new(
                Status::InvalidArgument,
                "path: it is empty or contains a NUL character",
            ));
        }
        unsafe {
            confer_config::with(config, |config| {
                config.set_cache(PathBuf::from(path));
                Ok(())
            })
        }
    })
}

/// The time limit of one stage of connecting, in milliseconds, 1 to 86,400,000. `stage`: one of CONFER_STAGE_*, where
/// the defaults stand.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_stage_timeout_ms(
    config: *mut confer_config,
    stage: i32,
    timeout_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let known = Stage::ALL
            .iter()
            .find(|known| **known as i32 == stage)
            .copied();
        let stage = known.ok_or_else(|| {
            Error::new(
                Status::InvalidArgument,
                format!("stage: invalid value {stage} (expected a CONFER_STAGE_* constant)"),
            )
        })?;
        // SAFETY: NULL or a live handle.
        unsafe {
            set_limit(config, "timeout_ms", timeout_ms, |limits, wait| {
                limits.stage[stage as usize] = wait;
            })
        }
    })
}

/// The time limit of all stages together, in milliseconds, 1 to 86,400,000. Default 60,000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_connect_timeout_ms(
    config: *mut confer_config,
    timeout_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            set_limit(config, "timeout_ms", timeout_ms, |limits, wait| {
                limits.connect = wait
            })
        }
    })
}

/// The time between keepalive pings, in milliseconds, 1 to 86,400,000. Default 20,000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_keepalive_ms(
    config: *mut confer_config,
    interval_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            set_limit(config, "interval_ms", interval_ms, |limits, wait| {
                limits.keepalive = wait
            })
        }
    })
}

/// How long a ping may stay unanswered while no byte moves in either direction before the connection counts as dead,
/// in milliseconds, 1 to 86,400,000. Default 20,000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_dead_peer_ms(
    config: *mut confer_config,
    timeout_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            set_limit(config, "timeout_ms", timeout_ms, |limits, wait| {
                limits.dead_after = wait
            })
        }
    })
}

/// How long nothing may come for a request before it fails with CONFER_E_STREAM_IDLE, in milliseconds, 1 to 86,400,000.
/// Default 180,000 for answers that end with CONFER_EVENT_COMPLETION (a streamed chat), and 600,000 for all others: the
/// server may work for 10 minutes on a document, or on an answer that is not streamed. This call sets both.
///
/// A server can lose a streamed answer without a word while it still answers pings. A request that waits for a
/// connection, and an upload that waits for one of the connection's places, have the same limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_idle_timeout_ms(
    config: *mut confer_config,
    timeout_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            set_limit(config, "timeout_ms", timeout_ms, |limits, wait| {
                limits.idle = Idle::both(wait)
            })
        }
    })
}

/// How long the enclave may be silent after confer_client_network_changed() before the connection counts as dead, in
/// milliseconds, 1 to 86,400,000. Default 5,000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_probe_timeout_ms(
    config: *mut confer_config,
    timeout_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            set_limit(config, "timeout_ms", timeout_ms, |limits, wait| {
                limits.probe = wait
            })
        }
    })
}

/// How much memory a client may take for one purpose: one of CONFER_LIMIT_*, where the defaults stand. Those of bytes can
/// be set from 64 KiB to 1 TiB, the number of requests from 1 to 1,000,000. An event takes its size for its JSON, and once
/// more while it is lent. See also confer_runtime_set_unread_limit().
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
        let range = match limit {
            CONFER_LIMIT_REQUESTS => BOUND_REQUESTS,
            _ => BOUND_BYTES,
        };
        let value = bounded("value", value, range)?;
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_config::with(config, |config| {
                let bounds = &mut config.limits.bounds;
                let bound = match limit {
                    CONFER_LIMIT_STREAM_REST => &mut bounds.stream_rest,
                    CONFER_LIMIT_STREAM_UNREAD => &mut bounds.stream,
                    CONFER_LIMIT_CLIENT_UNREAD => &mut bounds.client,
                    CONFER_LIMIT_UNFINISHED => &mut bounds.unfinished,
                    CONFER_LIMIT_UNSENT => &mut bounds.unsent,
                    CONFER_LIMIT_REQUESTS => &mut bounds.requests,
                    _ => {
                        let message = format!(
                            "limit: invalid value {limit} (expected a CONFER_LIMIT_* constant)"
                        );
                        return Err(Error::new(Status::InvalidArgument, message));
                    }
                };
                *bound = value;
                Ok(())
            })
        }
    })
}

/// A number within its bounds.
pub(super) fn bounded(name: &str, value: u64, range: RangeInclusive<u64>) -> Result<usize> {
    let held = usize::try_from(value)
        .ok()
        .filter(|_| range.contains(&value));
    held.ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        let message = format!("{name}: invalid value {value} (expected {least} to {most})");
        Error::new(Status::InvalidArgument, message)
    })
}

struct LogCallback {
    call: unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char),
    user_data: UserData,
}

impl Sink for LogCallback {
    fn record(&self, level: Level, target: &'static str, message: &str) {
        let text = |text: &str| CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default();
        let (target, message) = (text(target), text(message));
        // SAFETY: the application gave both together; the texts live during the call.
        unsafe {
            (self.call)(
                self.user_data.pointer(),
                level as i32,
                target.as_ptr(),
                message.as_ptr(),
            )
        };
    }
}

/// Where the log goes. Default nowhere: the library prints nothing. No record holds a token, a prompt, an answer or a
/// key at any level.
///
/// `level`: records up to this one of CONFER_LOG_* are made. `log`: may be NULL for none.
/// `user_data`: passed to `log`. Clients that are made from one configuration share it, and each has a thread for its
/// callbacks: several clients may use it at once.
/// `destroy`: runs once when neither the configuration nor a client needs `user_data` any more, on the thread that let
/// go of it last: one that sets another log or frees the configuration, or a client's callback thread. If this call
/// fails, it runs before the call returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_log(
    config: *mut confer_config,
    level: i32,
    log: confer_log_fn,
    user_data: *mut c_void,
    destroy: confer_destroy_fn,
    error: *mut *mut confer_error,
) -> confer_status {
    // First of all: `destroy` runs on every failure.
    let user_data = UserData::new(user_data, destroy);
    guard::done(error, || {
        let level = match level {
            CONFER_LOG_ERROR => Level::Error,
            CONFER_LOG_WARN => Level::Warn,
            CONFER_LOG_INFO => Level::Info,
            CONFER_LOG_DEBUG => Level::Debug,
            _ => {
                return Err(Error::new(
                    Status::InvalidArgument,
                    format!("level: invalid value {level} (expected a CONFER_LOG_* constant)"),
                ));
            }
        };
        let sink = log.map(|call| {
            (
                level,
                Arc::new(LogCallback { call, user_data }) as Arc<dyn Sink>,
            )
        });
        // SAFETY: NULL or a live handle. What it replaces is dropped outside the lock: `destroy` is the application's.
        drop(unsafe {
            confer_config::with(config, |config| {
                Ok(std::mem::replace(&mut config.log, sink))
            })
        }?);
        Ok(())
    })
}

/// Who is told of the stages of connecting. Default no one.
///
/// `stage`: may be NULL for none. `user_data`, `destroy`: as for confer_config_set_log().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_set_stage_callback(
    config: *mut confer_config,
    stage: confer_stage_fn,
    user_data: *mut c_void,
    destroy: confer_destroy_fn,
    error: *mut *mut confer_error,
) -> confer_status {
    // First of all: `destroy` runs on every failure.
    let user_data = UserData::new(user_data, destroy);
    guard::done(error, || {
        let sink = stage.map(|call| {
            let tell = move |stage: Option<Stage>| {
                let stage = stage.map_or(CONFER_STAGE_ENDED, |stage| stage as i32);
                // SAFETY: the application gave both together.
                unsafe { call(user_data.pointer(), stage) };
            };
            Arc::new(tell) as Arc<dyn Fn(Option<Stage>) + Send + Sync>
        });
        // SAFETY: as in confer_config_set_log.
        drop(unsafe {
            confer_config::with(config, |config| {
                Ok(std::mem::replace(&mut config.stages, sink))
            })
        }?);
        Ok(())
    })
}

/// Frees a configuration. Clients that were made from it are not affected. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_free(config: *mut confer_config) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(config) }));
}
