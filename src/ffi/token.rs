//! Token providers: the section "Tokens" of the header.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::error::confer_error;
use super::status::confer_status;
use super::support::guard::{self, Turns};
use super::support::user_data::UserData;
use super::support::{handle, text};
use crate::client::{TokenProvider, TokenQuestion};
use crate::error::Result;

/// A token question, to answer once. Any thread. Freeing it unanswered means that the application
/// has no token.
#[allow(non_camel_case_types)]
pub struct confer_token_request(Turns<TokenQuestion>);

/// Asks for a token. `request` now belongs to the application: answer it with
/// confer_token_request_answer() or confer_token_request_fail(), at once or later and from any
/// thread, and free it with confer_token_request_free(). Called on the client's callback thread,
/// also during confer_connect(), which waits for the answer.
#[allow(non_camel_case_types)]
pub type confer_token_fn =
    Option<unsafe extern "C" fn(user_data: *mut c_void, request: *mut confer_token_request)>;

struct ProviderCallback {
    call: unsafe extern "C" fn(*mut c_void, *mut confer_token_request),
    user_data: UserData,
}

impl TokenProvider for ProviderCallback {
    fn ask(&self, question: TokenQuestion) {
        let handle = handle::give(confer_token_request(Turns::new(question)));
        // SAFETY: the application gave function and user data together, and the request becomes its
        // own.
        unsafe { (self.call)(self.user_data.pointer(), handle) };
    }
}

/// Returns the application's provider, if any.
pub(super) fn provider(
    call: Option<unsafe extern "C" fn(*mut c_void, *mut confer_token_request)>,
    user_data: UserData,
) -> Option<Arc<dyn TokenProvider>> {
    call.map(|call| Arc::new(ProviderCallback { call, user_data }) as Arc<dyn TokenProvider>)
}

/// # Safety
/// `request` is NULL or a live handle.
unsafe fn with<T>(
    request: *const confer_token_request,
    work: impl FnOnce(&mut TokenQuestion) -> Result<T>,
) -> Result<T> {
    // SAFETY: passed on.
    unsafe { handle::borrow(request, "request") }?.0.with(work)
}

/// Answers with a token, by the rules of confer_config_set_token().
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a token that those rules refuse, and for a second answer;
/// CONFER_E_TOO_LARGE; CONFER_E_INVALID_UTF8.
/// After an error about the token, another one can be given.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_token_request_answer(
    request: *mut confer_token_request,
    token: *const c_char,
    token_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `token` is as the contract of texts says.
        let token = unsafe { text::read(token, token_len, "token") }?;
        unsafe { with(request, |question| question.answer(token)) }
    })
}

/// Answers that the application has no token. The attempt fails with CONFER_E_TOKEN and `reason`,
/// of which 1,024 characters are kept. It must not contain a secret, because errors and the log
/// repeat it.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a second answer; CONFER_E_INVALID_UTF8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_token_request_fail(
    request: *mut confer_token_request,
    reason: *const c_char,
    reason_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `reason` is as the contract of texts says.
        let reason = unsafe { text::read(reason, reason_len, "reason") }?;
        unsafe { with(request, |question| question.fail(reason)) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_token_request_free(request: *mut confer_token_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
