//! Changes of a client's connection: the section "Connection" of the header.

use std::ffi::c_void;
use std::sync::Arc;

use super::error::confer_error;
use super::report::confer_report;
use super::support::user_data::UserData;
use super::support::{guard, handle};
use crate::client::{Change, ChangeSink, ReleaseSink};

/// A change of the connection. Lent to a callback. Immutable.
#[allow(non_camel_case_types)]
pub struct confer_connection_event {
    kind: i32,
    error: Option<confer_error>,
    report: Option<confer_report>,
    attempt: u32,
    delay_ms: i64,
    flag: bool,
}

/// The connection broke, with confer_connection_event_error(). The client reconnects.
pub const CONFER_CONNECTION_LOST: i32 = 1;
/// An attempt begins after a pause: confer_connection_event_attempt(),
/// confer_connection_event_delay_ms(). If the connection did not break, it serves until it is
/// replaced.
pub const CONFER_CONNECTION_ATTEMPT: i32 = 2;
/// The attempt failed with confer_connection_event_error().
pub const CONFER_CONNECTION_FAILED: i32 = 3;
/// A new, verified connection serves: confer_connection_event_report(),
/// confer_connection_event_release_changed().
pub const CONFER_CONNECTION_CONNECTED: i32 = 4;
/// The client has ended, with confer_connection_event_error().
pub const CONFER_CONNECTION_ENDED: i32 = 5;

/// Receives changes of the connection, on the client's callback thread. If 1,024 of them wait for a
/// slow callback, attempts and their failures are left out.
#[allow(non_camel_case_types)]
pub type confer_connection_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const confer_connection_event)>;

/// Called when the release of an enclave that satisfies the policy differs from the previous one.
/// Return 0 to accept it. Both reports are lent during the call. Runs on the client's callback
/// thread, within the time limit of CONFER_STAGE_RELEASE.
#[allow(non_camel_case_types)]
pub type confer_release_fn = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        before: *const confer_report,
        now: *const confer_report,
    ) -> i32,
>;

impl confer_connection_event {
    fn new(change: Change) -> confer_connection_event {
        let mut event = confer_connection_event {
            kind: 0,
            error: None,
            report: None,
            attempt: 0,
            delay_ms: -1,
            flag: false,
        };
        match change {
            Change::Lost(error) => {
                event.kind = CONFER_CONNECTION_LOST;
                event.error = Some(confer_error::new(error));
            }
            Change::Attempt { number, pause } => {
                event.kind = CONFER_CONNECTION_ATTEMPT;
                event.attempt = number;
                event.delay_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
            }
            Change::Failed(error) => {
                event.kind = CONFER_CONNECTION_FAILED;
                event.error = Some(confer_error::new(error));
            }
            Change::Connected {
                evidenced,
                release_changed,
            } => {
                event.kind = CONFER_CONNECTION_CONNECTED;
                event.report = Some(confer_report::new(evidenced));
                event.flag = release_changed;
            }
            Change::Ended(error) => {
                event.kind = CONFER_CONNECTION_ENDED;
                event.error = Some(confer_error::new(error));
            }
        }
        event
    }
}

/// Returns the application's callback, if any.
pub(super) fn connection(
    call: Option<unsafe extern "C" fn(*mut c_void, *const confer_connection_event)>,
    user_data: UserData,
) -> Option<ChangeSink> {
    call.map(|call| {
        let tell = move |change: Change| {
            let event = confer_connection_event::new(change);
            // SAFETY: the application gave both together; the event lives during the call.
            unsafe { call(user_data.pointer(), &raw const event) };
        };
        Arc::new(tell) as ChangeSink
    })
}

type Release = unsafe extern "C" fn(*mut c_void, *const confer_report, *const confer_report) -> i32;

/// Returns the application's release callback, if any.
pub(super) fn release(call: Option<Release>, user_data: UserData) -> Option<ReleaseSink> {
    call.map(|call| {
        let ask = move |before: &Arc<_>, now: &Arc<_>| {
            let before = confer_report::new(Arc::clone(before));
            let now = confer_report::new(Arc::clone(now));
            // SAFETY: the application gave both together; the reports live during the call.
            unsafe { call(user_data.pointer(), &raw const before, &raw const now) == 0 }
        };
        Arc::new(ask) as ReleaseSink
    })
}

/// Returns the change, one of CONFER_CONNECTION_*. Later versions may add numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connection_event_type(
    event: *const confer_connection_event,
) -> i32 {
    // SAFETY: NULL or a live event.
    guard::get(0, || unsafe { handle::peek(event) }.map(|event| event.kind))
}

/// Returns the error of the lost connection, the failed attempt or the client's end; NULL for
/// others. Borrowed from the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connection_event_error(
    event: *const confer_connection_event,
) -> *const confer_error {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event.
        let error = unsafe { handle::peek(event) }?.error.as_ref();
        error.map(std::ptr::from_ref)
    })
}

/// Returns the report of the new connection; NULL for others. Borrowed from the event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connection_event_report(
    event: *const confer_connection_event,
) -> *const confer_report {
    guard::get(std::ptr::null(), || {
        // SAFETY: NULL or a live event.
        let report = unsafe { handle::peek(event) }?.report.as_ref();
        report.map(std::ptr::from_ref)
    })
}

/// Returns whether the new connection's release (its manifest) differs from the previous one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connection_event_release_changed(
    event: *const confer_connection_event,
) -> bool {
    // SAFETY: NULL or a live event.
    guard::get(false, || {
        unsafe { handle::peek(event) }.map(|event| event.flag)
    })
}

/// Returns the number of the attempt in a row, from 1; 0 for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connection_event_attempt(
    event: *const confer_connection_event,
) -> u32 {
    // SAFETY: NULL or a live event.
    guard::get(0, || {
        unsafe { handle::peek(event) }.map(|event| event.attempt)
    })
}

/// Returns the pause before the attempt, in milliseconds; -1 for others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_connection_event_delay_ms(
    event: *const confer_connection_event,
) -> i64 {
    // SAFETY: NULL or a live event.
    guard::get(-1, || {
        unsafe { handle::peek(event) }.map(|event| event.delay_ms)
    })
}
