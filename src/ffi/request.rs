//! Chat requests. Messages, model, documents, tools and other properties of a chat.

use std::ffi::c_char;

use super::conversation::read_role;
use super::status::confer_status;
use super::support::{guard, handle, text};
use super::types::{confer_chat_request, confer_conversation, confer_error};
use crate::client::{ChatRequest, time_limit};

/// Creates a chat request without messages. A request can be sent many times, also at once. With a
/// conversation it needs no message of its own. It begins with the model
/// "Qwen/Qwen3-235B-A22B-Instruct-2507-tput" and without web search.
///
/// `request`: receives the request; free it with confer_chat_request_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_new(
    request: *mut *mut confer_chat_request,
    error: *mut *mut confer_error,
) -> confer_status {
    // SAFETY: `request` is NULL or writable.
    guard::gives(error, unsafe { handle::out(request, "request") }, |out| {
        out.set(confer_chat_request::give(ChatRequest::default()));
        Ok(())
    })
}

/// Appends a message. `role`: one of CONFER_ROLE_*. `content`: copied, at most 20,000,000
/// characters, the servers' limit. A request has at most 32 MiB in all. Messages are sent unchanged
/// and in this order. A server refuses a request in which a tool call is not directly followed by
/// its response.
///
/// Errors: CONFER_E_INVALID_UTF8, CONFER_E_TOO_LARGE; CONFER_E_INVALID_ARGUMENT for an unknown
/// role.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_add_message(
    request: *mut confer_chat_request,
    role: i32,
    content: *const c_char,
    content_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let role = read_role(role)?;
        // SAFETY: NULL or a live handle; `content` is as the contract of texts says.
        let content = unsafe { text::read(content, content_len, "content") }?;
        unsafe { confer_chat_request::with(request, |request| request.add_message(role, content)) }
    })
}

/// Appends a message as a JSON object, for example with `imageRefs`. It is sent unchanged.
///
/// Errors: CONFER_E_INVALID_JSON, with the position, for invalid JSON and for JSON that is not an
/// object; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_add_message_json(
    request: *mut confer_chat_request,
    json: *const c_char,
    json_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `json` is as the contract of texts says.
        let json = unsafe { text::read(json, json_len, "json") }?;
        unsafe { confer_chat_request::with(request, |request| request.add_message_json(json)) }
    })
}

/// Sets the model, which must not be blank. Default "Qwen/Qwen3-235B-A22B-Instruct-2507-tput".
/// Newer servers ignore it and use their model.
///
/// Errors: CONFER_E_INVALID_ARGUMENT for a blank name, CONFER_E_INVALID_UTF8, CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_model(
    request: *mut confer_chat_request,
    model: *const c_char,
    model_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `model` is as the contract of texts says.
        let model = unsafe { text::read(model, model_len, "model") }?;
        unsafe { confer_chat_request::with(request, |request| request.set_model(model)) }
    })
}

/// Sets whether the enclave may send search queries, made from the conversation, to an external
/// search service. Default false. The library always sends this property, because servers treat a
/// missing one as true.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_web_search(
    request: *mut confer_chat_request,
    allowed: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_web_search(allowed);
                Ok(())
            })
        }
    })
}

/// Sets whether the answer comes in events, token by token. Default true. If false, the answer is
/// one CONFER_EVENT_BODY with the assistant's text, without tools, and it is not added to a
/// conversation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_streaming(
    request: *mut confer_chat_request,
    streaming: bool,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_streaming(streaming);
                Ok(())
            })
        }
    })
}

/// Adds a stored document to the chat, as a JSON object. Servers need all of these properties:
/// "attachmentId", of 1 to 200 letters, digits, "_" and "-"; "filename", of at most 1,024
/// characters; "contentType", "sourceObjectKey" and "encryptionKey", not blank; and "sourceBytes",
/// 1 to 268,435,456. Other properties are sent unchanged. Only the enclave receives
/// "encryptionKey"; the library writes it nowhere else.
///
/// Errors: CONFER_E_INVALID_JSON, with the position, for invalid JSON and for JSON that is not an
/// object; CONFER_E_INVALID_ARGUMENT for a property that is repeated or outside these bounds, which
/// newer servers enforce, and for more than 1,000 documents; CONFER_E_INVALID_UTF8;
/// CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_add_document_json(
    request: *mut confer_chat_request,
    json: *const c_char,
    json_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; `json` is as the contract of texts says.
        let json = unsafe { text::read(json, json_len, "json") }?;
        unsafe { confer_chat_request::with(request, |request| request.add_document_json(json)) }
    })
}

/// Adds a tool that the model may call.
///
/// `name`: not blank, at most 64 bytes, unique in the request, and not the name of one of the
/// server's tools, because servers ignore a second tool of that name: `web_search`, `page_fetch`,
/// `exec_command`, `publish_file`, `file_overview`, `file_search`, `file_read`, `file_view`.
/// `description`: for the model. `parameters`: the JSON Schema of the arguments, an object.
///
/// When the model calls the tool, CONFER_EVENT_CLIENT_TOOL_CALL arrives. The stream then ends with
/// its completion, and the application sends the results with its next request. To answer calls on
/// the same stream, call confer_chat_request_set_tool_rounds().
///
/// Errors: CONFER_E_INVALID_JSON for `parameters`, with the position; CONFER_E_INVALID_ARGUMENT for
/// the name, and for more than 128 tools; CONFER_E_TOO_LARGE. Newer servers enforce these bounds.
/// To send other tools, set "clientTools" with confer_chat_request_set_property().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_add_tool(
    request: *mut confer_chat_request,
    name: *const c_char,
    name_len: usize,
    description: *const c_char,
    description_len: usize,
    parameters: *const c_char,
    parameters_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; the texts are as their contract says.
        let (name, description, parameters) = unsafe {
            (
                text::read(name, name_len, "name")?,
                text::read(description, description_len, "description")?,
                text::read(parameters, parameters_len, "parameters")?,
            )
        };
        unsafe {
            confer_chat_request::with(request, |request| {
                request.add_tool(name, description, parameters)
            })
        }
    })
}

/// Answers calls of tools on the same stream, in rounds. Each CONFER_EVENT_CLIENT_TOOL_CALL then
/// wants an answer: see confer_event_wants_answer(). It arrives when the model's answer is
/// complete, right before that answer's CONFER_EVENT_COMPLETION. When all calls of a round are
/// answered, the library sends the next request, until an answer calls no tools. All of it is one
/// stream, with a CONFER_EVENT_COMPLETION at the end of each round.
///
/// `max_rounds`: rounds whose calls are answered, up to 1,000; 16 is a good number. If the model
/// still calls tools after them, the stream ends with CONFER_E_TOOL_ROUNDS. So does a round with
/// more than 256 calls.
/// `timeout_ms`: the time for each answer, 1 to 86,400,000; 300,000 is a good number. It begins
/// when the event is delivered. After that the call fails, and the model receives an error. The
/// idle limit does not run while answers are missing.
///
/// A call of a tool that the request did not add fails, and its event wants no answer. A tool that
/// takes long should not run in a callback, because it holds up the client's other callbacks and
/// with them questions: clone the event, and answer it on another thread.
///
/// While a stream waits for answers, nothing of it is on the connection: it outlives the loss of a
/// connection, and its next round goes out on the new one.
/// Errors: CONFER_E_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_tool_rounds(
    request: *mut confer_chat_request,
    max_rounds: u32,
    timeout_ms: u64,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        let limit = time_limit("timeout_ms", timeout_ms)?;
        // SAFETY: NULL or a live handle.
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_tool_rounds(max_rounds, limit)
            })
        }
    })
}

/// Continues a conversation. Its messages are sent before those of the request. When the answer is
/// complete, the request's messages and the model's answer and tool calls are added to it. An
/// answer that fails or is cancelled before it is complete adds nothing.
///
/// With confer_chat_request_set_tool_rounds(), all calls and answers of the chat are added. Without
/// it, if the model called tools of the application, the conversation contains these calls. The
/// next request has the responses as messages with CONFER_ROLE_TOOL_RESPONSE; each is sent directly
/// after its call. Calls without a response are not sent, and the next complete answer drops them
/// from the conversation; see confer_conversation.
///
/// NULL, the default, turns this off. The conversation can be freed afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_conversation(
    request: *mut confer_chat_request,
    conversation: *const confer_conversation,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: each is NULL or a live handle.
        let conversation = unsafe { handle::peek(conversation) }.map(|it| it.conversation.clone());
        unsafe {
            confer_chat_request::with(request, |request| {
                request.set_conversation(conversation);
                Ok(())
            })
        }
    })
}

/// Sets any other property to a JSON value, which is sent unchanged: a property of later servers,
/// or a value that a typed setter refuses. Setting it again replaces it.
///
/// Errors: CONFER_E_INVALID_JSON, with the position; CONFER_E_INVALID_ARGUMENT for "messages",
/// "model", "webSearch" and "stream", which have other functions, for "clientTools" and "documents"
/// if some were added one by one, and without a name; CONFER_E_TOO_LARGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_set_property(
    request: *mut confer_chat_request,
    name: *const c_char,
    name_len: usize,
    json: *const c_char,
    json_len: usize,
    error: *mut *mut confer_error,
) -> confer_status {
    guard::done(error, || {
        // SAFETY: NULL or a live handle; the texts are as their contract says.
        let name = unsafe { text::read(name, name_len, "name") }?;
        let json = unsafe { text::read(json, json_len, "json") }?;
        unsafe { confer_chat_request::with(request, |request| request.set_property(name, json)) }
    })
}

/// Frees a request. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn confer_chat_request_free(request: *mut confer_chat_request) {
    // SAFETY: NULL, or a live handle that is not used afterwards.
    guard::quiet(|| drop(unsafe { handle::take(request) }));
}
