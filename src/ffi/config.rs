//! Configuration. The endpoint, proxy, certificate authorities, token and policy of a client.

use std::ffi::c_char;
use std::path::PathBuf;

use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_config, confer_error, confer_policy};
use crate::client::{Config, Roots};
use crate::error::{Error, Status};

/// Looks up the host name of the endpoint or the proxy.
pub const CONFER_STAGE_RESOLVE: i32 = 0;
/// Connects by TCP. Tries all addresses of the name, IPv6 and IPv4 in turn, each 250 ms after the
/// previous one or when that has failed.
pub const CONFER_STAGE_TCP: i32 = 1;
/// Negotiates TLS with the endpoint. Does nothing for ws://.
pub const CONFER_STAGE_TLS: i32 = 2;
/// Requests the WebSocket upgrade, with the token.
pub const CONFER_STAGE_UPGRADE: i32 = 3;
/// Exchanges messages 1 and 2 of the Noise handshake.
pub const CONFER_STAGE_HANDSHAKE: i32 = 4;
/// Finds or fetches Intel's key set.
pub const CONFER_STAGE_KEY_SET: i32 = 5;
/// Verifies the evidence and, if it satisfies the policy, sends message 3.
pub const CONFER_STAGE_VERIFY: i32 = 6;
/// Opens a tunnel through the proxy, after CONFER_STAGE_TCP and before CONFER_STAGE_TLS. Skipped
/// without a proxy.
pub const CONFER_STAGE_PROXY: i32 = 7;
/// All stages together, for confer_report_timing_us().
pub const CONFER_STAGE_ALL: i32 = 100;

/// Trusts Mozilla's list of authorities, which is built into the library.
pub const CONFER_ROOTS_BUNDLED: i32 = 0;
/// Trusts the system's authorities.
pub const CONFER_ROOTS_SYSTEM: i32 = 1;

/// Creates a configuration for Confer's service, with the production policy and all limits at their
/// defaults. Only the token is missing.
///
/// `config`: receives the configuration; free it with confer_config_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_new(
    config: *mut *mut confer_config,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `config` is NULL or writable.
    guard::gives(error, unsafe { handle::out(config, "config") }, |out| {
        out.set(confer_config::give(Config::new()));
        Ok(())
    })
}

/// Sets the URL of the WebSocket, with its path and without the token, at most 2,048 bytes.
/// `wss://`, or `ws://` for a loopback address. Default "wss://inference.confer.to/websocket".
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

/// Sets the proxy. Default: no proxy.
///
/// `url`: `http://host:port` for HTTP CONNECT, or `socks5://host:port`; with credentials
/// `http://user:password@host:port`, percent-encoded. At most 2,048 bytes. The default scheme is
/// `http://`, and the default port 80 or 1080. Empty text: no proxy. For SOCKS5, user name and
/// password have 1 to 255 bytes each. The proxy looks up the endpoint's name, never this library,
/// so `socks5h://` means the same.
///
/// All connections use it, including the fetch of Intel's key set. TLS ends at the endpoint, so a
/// proxy sees the endpoint's name, sizes and times, and no token. The proxy receives its
/// credentials unencrypted, as these protocols define; the library writes them nowhere else. A
/// proxy cannot reach this machine's loopback addresses, the only ones that need no TLS. So with a
/// proxy, connecting to a ws:// endpoint fails with CONFER_E_INVALID_URL, and a key set at an
/// http:// URL is not fetched.
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

/// Sets the proxy from the process's environment at the time of this call: the first of
/// HTTPS_PROXY, https_proxy, ALL_PROXY and all_proxy that is not empty, or no proxy. The value has
/// the form of confer_config_set_proxy(). Without this call the library ignores the environment.
///
/// The library connects without the proxy to the hosts in NO_PROXY, or no_proxy, by curl's rules.
/// The list has names, which include their subdomains, addresses, and networks such as 10.0.0.0/8,
/// separated by commas or spaces; `*` is every host. It also connects without the proxy to ws://
/// endpoints. Other threads must not change the environment during this call.
///
/// Errors: CONFER_E_INVALID_URL, with the name of the variable, if the library cannot use the
/// proxy.
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

/// Sets the TLS roots, one of CONFER_ROOTS_*. Default CONFER_ROOTS_BUNDLED, which needs no file.
/// This call reads the system's roots, from SSL_CERT_FILE and SSL_CERT_DIR if they are set; call it
/// again to read them again. The verification of the enclave does not use these roots: its roots
/// are in the policy.
///
/// Clients of one configuration resume each other's TLS sessions until its roots are set again. All
/// clients with the bundled roots resume each other's.
///
/// Errors: CONFER_E_FILE if the system's store cannot be read or has no usable certificate, and on
/// iOS; CONFER_E_INVALID_ARGUMENT. A failed call keeps the previous roots.
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

/// Sets the application's TLS roots, which replace all others: PEM text of at most 1 MiB and 1,024
/// certificates. The library ignores anything else in the text.
///
/// Errors: CONFER_E_INVALID_ARGUMENT without a certificate, or for an unusable one, with its
/// position; CONFER_E_TOO_LARGE. A failed call keeps the previous roots.
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

/// Sets the account's token, at most 8,192 bytes. It has no default: connecting without a token is
/// an error, unless confer_connect_start() is used with CONFER_ASK_TOKEN; see
/// confer_config_set_ask(). The library sends the token in the request line of the upgrade, and
/// writes it nowhere else. It removes one newline at the end.
///
/// A client does not connect again with a token that the server has refused for good: after HTTP
/// status 401, 402 or 403, and after HTTP status 500 or a request's status 401 or 402 if the token
/// is a JWT whose `exp` has passed. Without CONFER_ASK_TOKEN, a client that reconnects then ends at
/// its next attempt.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a token that is empty, begins with "Bearer ", or contains
/// white space, a byte order mark, quotes or a control character; CONFER_E_TOO_LARGE. The message
/// names the mistake, and never repeats the token.
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

/// Sets the policy, which says what is trusted. Default: confer_policy_production(). The policy can
/// be freed afterwards.
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

/// Sets the cache file of Intel's key sets, so that the next process need not fetch them. Default:
/// no file. Connecting reads the file, and a fetch replaces it as a whole. The library verifies its
/// content like a fetched key set, so the file needs no protection. An empty file counts as
/// missing. A file with other content is not changed, and connecting fails with CONFER_E_FILE. If
/// the file cannot be written, the log has a warning.
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

/// Frees a configuration. Its clients continue. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_config_free(config: *mut confer_config) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(config) }));
}
