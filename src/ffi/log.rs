//! Log. Records of connections and failures, without secrets.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use super::status::confer_status;
use super::support::guard;
use super::support::user_data::UserData;
use super::types::{confer_config, confer_destroy_fn, confer_error};
use crate::client::{Level, Sink};
use crate::error::{Error, Status};

/// Something failed.
pub const CONFER_LOG_ERROR: i32 = 1;
/// Something is wrong, but the work continues.
pub const CONFER_LOG_WARN: i32 = 2;
/// A connection was opened or closed.
pub const CONFER_LOG_INFO: i32 = 3;
/// Each stage of connecting.
pub const CONFER_LOG_DEBUG: i32 = 4;

/// Receives a log record. `level`: one of CONFER_LOG_*; `target`: the part of the library, such as
/// "confer::connect"; `message`: English. Both texts are NUL-terminated UTF-8 and valid during the
/// call. Runs on the client's callback thread.
#[allow(non_camel_case_types)]
pub type confer_log_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: i32,
        target: *const c_char,
        message: *const c_char,
    ),
>;

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

/// Sets the receiver of the log. Default: no receiver, and the library prints nothing. No record
/// contains a token, prompt, answer or key, at any level.
///
/// `level`: the highest level to record, one of CONFER_LOG_*. `log`: NULL turns the log off.
/// `user_data`: passed to `log`. Clients of one configuration share it, and each has its own
/// callback thread, so several threads may use it at once.
/// `destroy`: runs once, when neither the configuration nor a client still needs `user_data`: on a
/// client's callback thread, or in the call that sets another log or frees the configuration. If
/// this call fails, it runs before the call returns.
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
        // SAFETY: NULL or a live handle. Drops the replaced log outside the lock, because `destroy`
        // is the application's.
        drop(unsafe {
            confer_config::with(config, |config| {
                Ok(std::mem::replace(&mut config.log, sink))
            })
        }?);
        Ok(())
    })
}
