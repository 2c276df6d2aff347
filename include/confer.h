/*
 * confer.h: an open client for Confer's attested inference service.
 *
 * Confer runs a large language model inside an Intel TDX confidential VM. This library connects to
 * it and verifies its software before it sends any request. Chats, embeddings and documents then go
 * through a channel that ends inside that VM. On request, the library reconnects when the network
 * fails, and verifies again each time.
 *
 * GETTING STARTED
 *
 *     #include <confer.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *
 *     int main(int argc, char **argv) { // hello [URL POLICY_FILE]
 *         confer_config *config = NULL;
 *         confer_policy *policy = NULL;
 *         confer_client *client = NULL;
 *         confer_chat_request *request = NULL;
 *         confer_stream *stream = NULL;
 *         confer_error *error = NULL;
 *         const char *answer = NULL;
 *         bool local = argc > 1; // another enclave than Confer's needs another policy
 *
 *         bool failed = confer_config_new(&config, &error) ||
 *                       confer_config_set_token(config, getenv("CONFER_TOKEN"), CONFER_NTS, &error) ||
 *                       (local && confer_config_set_endpoint(config, argv[1], CONFER_NTS, &error)) ||
 *                       (local && confer_policy_load(argv[2], CONFER_NTS, &policy, &error)) ||
 *                       (local && confer_config_set_policy(config, policy, &error)) ||
 *                       confer_connect(config, &client, &error) || // verifies the enclave, or fails
 *                       confer_chat_request_new(&request, &error) ||
 *                       confer_chat_request_add_message(request, CONFER_ROLE_USER, "Hello!", CONFER_NTS, &error) ||
 *                       confer_chat_stream(client, request, NULL, &stream, &error) ||
 *                       confer_stream_collect(stream, -1, &answer, NULL, &error);
 *         if (failed) fprintf(stderr, "%s\n", confer_error_message(error, NULL));
 *         else puts(answer);
 *
 *         confer_error_free(error);
 *         confer_stream_free(stream);
 *         confer_chat_request_free(request);
 *         confer_client_free(client);
 *         confer_policy_free(policy);
 *         confer_config_free(config);
 *         return failed;
 *     }
 *
 *     cc hello.c $(pkg-config --cflags --libs confer) -o hello
 *
 * If the library is not in a folder of the system, add -Wl,-rpath,FOLDER.
 *
 * Documents that this header names, such as docs/policy.md, are in the source of libconfer. They
 * are installed in share/doc/libconfer, on Debian in share/doc/libconfer-dev.
 *
 * CONTENTS
 *
 * Section                Source in src/ffi   Main names
 * ---------------------  ------------------  --------------------------------------------------------
 * Types                  types.rs            confer_config, confer_client, confer_stream, confer_event
 * Statuses               status.rs           confer_status, confer_status_name
 * Errors                 error.rs            confer_error_message, _status, _retryable, _progress
 * Version and runtime    version.rs          confer_version_number, confer_runtime_wait
 * Configuration          config.rs           confer_config_new, _set_token, _set_endpoint, _set_policy
 * Settings by key        settings.rs         confer_config_set_duration_ms, _set_limit
 * Log                    log.rs              confer_config_set_log
 * Policies               policy.rs           confer_policy_production, _load, _parse
 * Clients                connect.rs          confer_connect, _connect_start, confer_close
 * Reports                report.rs           confer_report_verified, _json, _check_outcome
 * Report fields          report_fields.rs    confer_report_signer, _image_version, _mrtd
 * Evidence               report_evidence.rs  confer_evidence_verify
 * Conversations          conversation.rs     confer_conversation_new, _json, _parse
 * Chat requests          request.rs          confer_chat_request_new, _add_message, _add_tool
 * Sampling               sampling.rs         confer_chat_request_set_temperature, _set_max_tokens
 * Embeddings requests    embeddings.rs       confer_embeddings_request_new, _add_text
 * Extraction requests    extraction.rs       confer_extraction_request_new, _set_document_file
 * Fetch requests         fetch.rs            confer_fetch_request_new
 * Raw requests           raw.rs              confer_raw_request_new, _set_body
 * Callbacks              callbacks.rs        confer_stream_callbacks
 * Starting requests      start.rs            confer_chat_stream, confer_embeddings_stream
 * Streams                stream.rs           confer_stream_next, _collect, _cancel
 * Uploads                upload.rs           confer_stream_write, _finish
 * Events                 event.rs            confer_event_type, _content, _clone
 * Tool calls             tool.rs             confer_event_wants_answer, _answer_tool, _fail_tool
 * Watching a client      watch.rs            confer_client_watch, confer_config_set_ask
 * Client events          client_event.rs     confer_event_answer_token, _answer_release
 * Names                  names.rs            confer_event_type_name, confer_role_name
 *
 * CONVENTIONS
 *
 * Arguments    The handle comes first, then inputs, then outputs, and last `confer_error **error`,
 *              which may be NULL. Every pointer is checked for NULL. A call that returns a
 *              confer_status writes its outputs only on success; on failure, a handle output is
 *              NULL. On failure `*error` receives an error; free it with confer_error_free(). After
 *              CONFER_OK, CONFER_TIMEOUT and CONFER_END it is NULL. A getter accepts a NULL handle,
 *              and returns NULL, 0, -1 or false for it unless its text names another value.
 *              `a || b || c` stops at the first call that fails, and gives 1, not the status: ask
 *              confer_error_status(). Use it only for calls whose success is CONFER_OK alone.
 * Text         In: a pointer to UTF-8 and its length in bytes. The length CONFER_NTS, which is
 *              SIZE_MAX, means that the text is NUL-terminated. NULL with length 0 is the empty
 *              text. The library copies inputs.
 *              Out: borrowed and NUL-terminated. The text is valid as long as its handle, unless
 *              its function says otherwise; `len`, if not NULL, receives its length.
 * Handles      Opaque. Each type has a _free function, which accepts NULL and never waits. Handles
 *              may be freed in any order.
 * Threads      Any thread may call any function, and several threads may use one handle at once,
 *              unless its type says otherwise. A handle may be freed while another thread waits in
 *              a call on it: the call then returns. It must not be freed while another thread
 *              starts a call on it or is in a getter.
 * Const        A function that takes `const T *` does not change the handle.
 * Callbacks    Each client has one thread for its callbacks, which runs them in order. It is never
 *              a network thread. A client without callbacks has no such thread. A slow callback
 *              does not delay other clients. A callback must return: it must not throw an exception
 *              through the library or use longjmp. Its arguments are lent: it must not free them.
 *              The only exception is the stream, if the start call returned its handle and the
 *              application has not freed it.
 *
 *              In a callback                                    result
 *              ---------------------------------------------    ----------------------------
 *              confer_stream_next(), confer_stream_collect(), confer_stream_write(),
 *                confer_client_wait(), confer_close()
 *                with timeout 0                                 as elsewhere
 *                with any other timeout                         CONFER_E_WOULD_DEADLOCK
 *              confer_connect(), confer_runtime_wait()          CONFER_E_WOULD_DEADLOCK
 *              anything else: starting a request or a
 *                client, answering a question or a tool
 *                call, _cancel, _free, setters, getters         as elsewhere
 *
 *              An event that a callback receives is lent. To answer a question or a tool call
 *              later, keep its event with confer_event_clone(), answer the clone from any thread,
 *              and free the clone.
 * Fork         In a forked child of a process that used the library, every call that returns a
 *              status returns CONFER_E_FORKED. Getters are safe there, and freeing does nothing.
 *              Clients read as ended, and descriptors must not be polled. The library calls no
 *              `destroy` there for what it was given before. A program started with exec is not
 *              affected. If a name look-up was in progress at the fork, the C library's resolver
 *              may stay locked in the child: call getaddrinfo() there only after exec.
 * Exit         A process may end at any time, even while the library connects. Nothing has to be
 *              closed first. The destructor of a static C++ object may close and free. Functions
 *              with __attribute__((destructor)) must not call the library: in a statically linked
 *              program they run after the library's destructors.
 * Signals      The library installs no signal handler. Do not call its functions from one. Its
 *              threads block all signals except SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS
 *              and SIGABRT, which report a fault of the thread itself. So the application's threads
 *              handle all others. Threads and processes that a callback starts inherit this mask,
 *              and on Linux the name of its thread.
 * Stack        A thread that calls the library needs a stack of 64 KiB. Callbacks run on a stack of
 *              2 MiB.
 * Shortage     If the system refuses a thread, a descriptor or memory, the call or request fails
 *              with CONFER_E_SYSTEM, which is retryable, and the message names the limit. Other
 *              requests and the client continue.
 * Sandboxes    The library needs random bytes, from the system call getrandom or, on a kernel
 *              without it, from /dev/urandom. If a sandbox filter refuses them, every call that
 *              returns a status returns CONFER_E_SYSTEM, not retryable. Install a filter before the
 *              first call: if it refuses getrandom later, the cryptography aborts the process.
 * Platforms    This header is the same on all platforms. Windows has neither fork nor signals, and
 *              confer_stream_fd() fails there: event loops use `on_ready`. iOS gives applications no
 *              list of its authorities, so CONFER_ROOTS_SYSTEM fails there. A program for Windows
 *              that links the static library defines CONFER_STATIC.
 * Output       The library prints nothing and uses no global logger. Its only changes to the
 *              process are a fork handler and an exit handler, which are removed when it is
 *              unloaded.
 * Requests     Each request is a stream of events. confer_chat_stream(), confer_embeddings_stream()
 *              and so on start one. Callbacks receive its events, or the application reads them
 *              with confer_stream_next(); confer_stream_collect() reads a whole answer. A stream
 *              ends once: with the end of the answer, or with an error that says how far the
 *              request got. One connection carries all requests of a client, and their answers
 *              interleave. If the application reads a stream slowly and it is the only request, the
 *              library stops reading the socket. If there are other requests, it continues to read
 *              for them, and keeps the slow stream's events up to a limit. All streams share one
 *              WebSocket, so a large message of one stream delays the messages after it by its
 *              transfer time.
 * Limits       Each limit is a named constant with its reason in the source. A name in parentheses
 *              sets the limit in the row above it. It is a function, or a key of
 *              confer_config_set_duration_ms() or confer_config_set_limit(). docs/limits.md has
 *              measurements.
 *
 *              What a peer can cause                      at most       beyond
 *              -----------------------------------------  ------------  -------------------------
 *              time of a stage of connecting              10 or 15 s    CONFER_E_STAGE_TIMEOUT
 *                (CONFER_DURATION_STAGE_*)
 *              time of all stages together                60 s          CONFER_E_STAGE_TIMEOUT
 *                (CONFER_DURATION_CONNECT)
 *              silence while a ping is open               20 s          CONFER_E_DEAD_PEER
 *                (CONFER_DURATION_DEAD_PEER)
 *              silence after the network changed          5 s           CONFER_E_DEAD_PEER
 *                (CONFER_DURATION_PROBE)
 *              silence of an answer that is streamed      180 s         CONFER_E_STREAM_IDLE
 *                (CONFER_DURATION_IDLE_EVENTS)
 *              silence of any other answer                600 s         CONFER_E_STREAM_IDLE
 *                (CONFER_DURATION_IDLE_OTHER)
 *              addresses of a name that are tried         16            the others are ignored
 *              answer of a proxy                          8 KiB         CONFER_E_PROXY
 *              headers of a proxy's answer                64            CONFER_E_PROXY
 *              retry delay that a server requests         1 h           the delay is 1 h
 *              Intel's key set                            1 MiB         CONFER_E_REJECTED
 *              evidence, nesting                          65,439 B, 64  CONFER_E_REJECTED
 *              WebSocket message                          65,535 B      CONFER_E_LIMIT
 *              frames of a message                        4,096         CONFER_E_LIMIT
 *              unfinished messages                        64            CONFER_E_LIMIT
 *              bytes of unfinished messages               64 MiB        CONFER_E_LIMIT
 *                (CONFER_LIMIT_UNFINISHED)
 *              headers of a response                      64, 16 KiB    CONFER_E_LIMIT
 *              an event, nesting                          16 MiB, 64    CONFER_E_EVENT
 *              tools called in one round                  256           CONFER_E_TOOL_ROUNDS
 *              rounds of tools                            1,000         CONFER_E_TOOL_ROUNDS
 *                (confer_chat_request_set_tool_rounds())
 *              unread on a stream, the only request       1 MiB         the socket is not read
 *                (CONFER_LIMIT_STREAM_REST)
 *              unread on a stream                         16 MiB        CONFER_E_SLOW_CONSUMER
 *                (CONFER_LIMIT_STREAM_UNREAD)
 *              unread on all streams of a client          64 MiB        CONFER_E_SLOW_CONSUMER
 *                (CONFER_LIMIT_CLIENT_UNREAD)
 *              unread in the process                      1 GiB         CONFER_E_SLOW_CONSUMER
 *                (confer_runtime_set_unread_limit())
 *              text from confer_stream_collect()          32 MiB        CONFER_E_TOO_LARGE
 *              text of a refusal                          1,024 B       truncated
 *
 *              What an application can cause              at most       beyond
 *              -----------------------------------------  ------------  -------------------------
 *              a request, a conversation                  32 MiB        CONFER_E_TOO_LARGE
 *              a text of a message, characters            20,000,000    CONFER_E_TOO_LARGE
 *              tools, documents of a request              128, 1,000    CONFER_E_INVALID_ARGUMENT
 *              requests that wait to be sent              64 MiB        CONFER_E_TOO_MANY
 *                (CONFER_LIMIT_UNSENT)
 *              open requests of a client                  4,096         CONFER_E_TOO_MANY
 *                (CONFER_LIMIT_REQUESTS)
 *              uploads at once on a connection            10            the next one waits
 *              data of an upload in memory                2 MiB         the rest is read later
 *              data written and not sent, in addition     1 MiB         confer_stream_write waits
 *              time of a tool                             24 h          the model gets an error
 *                (confer_chat_request_set_tool_rounds())
 *              name look-ups at once in the process       32            the next one waits
 *              cancelled look-ups that still hang         32            CONFER_E_SYSTEM
 *              file accesses at once in the process       8             the next one waits
 *              cancelled file accesses that still hang    8             CONFER_E_SYSTEM
 *              failed attempts to reconnect               0             the client ends
 *                (CONFER_LIMIT_ATTEMPTS)
 *              old connections with open requests         4             CONFER_E_EXPIRED
 *              log records that wait for a slow callback  1,024         dropped and counted
 */

/* Written by `make header` from the source in src/ffi; do not edit. */

#ifndef CONFER_H
#define CONFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CONFER_API marks each function as visible outside the library; on Windows, as imported from its DLL
 * unless CONFER_STATIC is defined. An application may define it before it includes this header. */
#ifndef CONFER_API
#  if defined(_WIN32) && !defined(CONFER_STATIC)
#    define CONFER_API __declspec(dllimport)
#  elif defined(__GNUC__) && !defined(_WIN32)
#    define CONFER_API __attribute__((visibility("default")))
#  else
#    define CONFER_API
#  endif
#endif

/* CONFER_MUST_USE marks each function that returns a confer_status: the compiler warns about a call
 * that ignores it. An application may define it as empty before it includes this header. */
#ifndef CONFER_MUST_USE
#  if defined(__cplusplus) && __cplusplus >= 201703L
#    define CONFER_MUST_USE [[nodiscard]]
#  elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L
#    define CONFER_MUST_USE [[nodiscard]]
#  elif defined(__GNUC__)
#    define CONFER_MUST_USE __attribute__((warn_unused_result))
#  else
#    define CONFER_MUST_USE
#  endif
#endif

/* The length of a NUL-terminated text. */
#define CONFER_NTS SIZE_MAX

#ifdef __cplusplus
extern "C" {
#endif

/* ================================================================================================
 * Types: src/ffi/types.rs
 *
 * The handles, all opaque, and the function that destroys user data.
 * ================================================================================================ */

/**
 * A chat request. Any thread may use it; calls on one request take turns. Starting a chat copies
 * it, so it can be changed, sent again or freed at once afterwards. A failed setter keeps the old
 * value.
 */
typedef struct confer_chat_request confer_chat_request;

/**
 * A client: one connection to a verified enclave, or several in sequence; see
 * CONFER_LIMIT_ATTEMPTS. Several threads may use it at once. It stays open until it is closed, or
 * until it and all its requests' streams are freed.
 */
typedef struct confer_client confer_client;

/**
 * The settings of clients. Any thread may use it; calls on one configuration take turns.
 * Connecting copies the settings, so the configuration can be changed or freed at once afterwards.
 * It can serve many clients, which then share the policy's memory and the key set.
 */
typedef struct confer_config confer_config;

/**
 * A history of messages. It exists only in this process: the library stores nothing. Any thread.
 * Pass it to a request with confer_chat_request_set_conversation().
 *
 * A server refuses a history in which a tool call is not directly followed by its response. So a
 * conversation keeps calls and responses in pairs: it puts a response directly after its call. It
 * drops a response without a call, and a server tool's call without a response. A call of the
 * application's tools waits for its response until the next answer is complete.
 */
typedef struct confer_conversation confer_conversation;

/**
 * A request for the embeddings of 1 to 64 texts. Any thread may use it; calls on one request take
 * turns. Starting it copies it, so it can be changed, sent again or freed at once afterwards. A
 * failed setter keeps the old value.
 */
typedef struct confer_embeddings_request confer_embeddings_request;

/**
 * Why a call or a stream failed. Immutable: several threads may read it at once.
 */
typedef struct confer_error confer_error;

/**
 * One event of a stream. It is lent by a stream or a callback, or is a clone, which belongs to the
 * application. Immutable: several threads may read it at once.
 */
typedef struct confer_event confer_event;

/**
 * A request that uploads a document and returns its content. Any thread may use it; calls on one
 * request take turns. Starting it copies it, so it can be changed, sent again or freed at once
 * afterwards. A document from a callback can be sent only once. A failed setter keeps the old
 * value.
 */
typedef struct confer_extraction_request confer_extraction_request;

/**
 * A request for a page, which the enclave fetches. The page's server and observers of the
 * enclave's traffic learn that it was fetched, but not for whom. Any thread may use it; calls on
 * one request take turns. Starting it copies it, so it can be changed, sent again or freed at once
 * afterwards. A failed setter keeps the old value.
 */
typedef struct confer_fetch_request confer_fetch_request;

/**
 * The parties and values that are trusted: one JSON document with Intel's root, the firmware, the
 * accepted patch levels and the signer of releases. Immutable: several threads may use it at once.
 * It remembers verified releases, so clients that share a policy connect faster.
 */
typedef struct confer_policy confer_policy;

/**
 * A request to any route, for example to one that this version has no function for. Any thread may
 * use it; calls on one request take turns. Starting it copies it, so it can be changed, sent again
 * or freed at once afterwards. A failed setter keeps the old value.
 */
typedef struct confer_raw_request confer_raw_request;

/**
 * Why an enclave was trusted or refused, check by check. Immutable: several threads may read it at
 * once.
 */
typedef struct confer_report confer_report;

/**
 * A request in progress, and its events. Any thread may use it, but only one at a time may read it
 * with confer_stream_next() or confer_stream_collect().
 */
typedef struct confer_stream confer_stream;

/**
 * Destroys the user data: called once, after the last callback. May be NULL.
 */
typedef void (*confer_destroy_fn)(void *user_data);

/* ================================================================================================
 * Statuses: src/ffi/status.rs
 *
 * Results of calls and streams, with their names and descriptions.
 * ================================================================================================ */

/**
 * The result of a call or a stream. 0 is success, and 1 and 2 are not errors. Each hundred is a
 * family: 1xx mistakes of the caller, 2xx ended on this side, 3xx network, 4xx the peer broke the
 * protocol, 5xx the enclave was refused, 6xx the enclave answered with an error. Numbers are never
 * changed or reused. Later versions may add numbers to any family.
 */
typedef int32_t confer_status;

/**
 * Success.
 */
#define CONFER_OK 0

/**
 * The time limit passed without a result. Not an error: wait again.
 */
#define CONFER_TIMEOUT 1

/**
 * The stream is complete: everything was read. Not an error.
 */
#define CONFER_END 2

/**
 * An argument is missing or outside its bounds; the message names it.
 */
#define CONFER_E_INVALID_ARGUMENT 100

/**
 * A text argument is not UTF-8; the message names it and the first bad byte.
 */
#define CONFER_E_INVALID_UTF8 101

/**
 * The URL of the endpoint or the proxy is not one that this library connects to.
 */
#define CONFER_E_INVALID_URL 102

/**
 * An argument is not the expected JSON; the message has line and column.
 */
#define CONFER_E_INVALID_JSON 103

/**
 * The policy document is not valid; the message names the key.
 */
#define CONFER_E_INVALID_POLICY 104

/**
 * Another thread is in this call on the same handle, or the worker threads run already.
 */
#define CONFER_E_BUSY 105

/**
 * A callback made a call that waits.
 */
#define CONFER_E_WOULD_DEADLOCK 106

/**
 * The library was in use before this process was forked.
 */
#define CONFER_E_FORKED 107

/**
 * A local file cannot be read or written.
 */
#define CONFER_E_FILE 108

/**
 * An argument exceeds its limit.
 */
#define CONFER_E_TOO_LARGE 109

/**
 * Too many requests of the client are open, or too many bytes wait to be sent.
 */
#define CONFER_E_TOO_MANY 110

/**
 * The question, tool call or upload is already over: the call changes nothing.
 */
#define CONFER_E_STALE 111

/**
 * The client has not connected yet.
 */
#define CONFER_E_NOT_CONNECTED 112

/**
 * Cancelled by the application.
 */
#define CONFER_E_CANCELLED 200

/**
 * The client was closed.
 */
#define CONFER_E_CLOSED 201

/**
 * A callback returned a value other than 0.
 */
#define CONFER_E_STOPPED 202

/**
 * The library contained a defect. The handle is unusable; others are not affected. Please report
 * it.
 */
#define CONFER_E_PANIC 203

/**
 * The system refused a thread, a descriptor, memory or randomness.
 */
#define CONFER_E_SYSTEM 204

/**
 * No token to connect with: the application gave none, and the message has its reason, or the
 * server refused the only one.
 */
#define CONFER_E_TOKEN 205

/**
 * The connection reached its maximum age, or its evidence expired, and reconnecting is off.
 */
#define CONFER_E_EXPIRED 206

/**
 * The host name of the endpoint, or of the proxy, has no address.
 */
#define CONFER_E_RESOLVE 300

/**
 * No TCP connection to the endpoint, or to the proxy; the message has the failure of each address.
 */
#define CONFER_E_CONNECT 301

/**
 * No TLS session with the endpoint.
 */
#define CONFER_E_TLS 302

/**
 * The endpoint refused the WebSocket upgrade, for example because the token is not valid; see
 * confer_error_http_status().
 */
#define CONFER_E_UPGRADE 303

/**
 * Connecting exceeded a time limit; the message names the stage.
 */
#define CONFER_E_STAGE_TIMEOUT 304

/**
 * The connection broke or was closed by the peer.
 */
#define CONFER_E_CONNECTION_LOST 305

/**
 * The peer no longer answers keepalive pings, and no byte was sent or received for the time limit.
 */
#define CONFER_E_DEAD_PEER 306

/**
 * The proxy refused the tunnel or failed to open it; see confer_error_http_status(). The status
 * 407 means that it wants other credentials.
 */
#define CONFER_E_PROXY 307

/**
 * The peer broke the protocol of WebSocket messages or responses.
 */
#define CONFER_E_PROTOCOL 400

/**
 * The Noise handshake failed.
 */
#define CONFER_E_HANDSHAKE 401

/**
 * A Noise message fails authentication: it was altered, truncated, replayed or reordered.
 */
#define CONFER_E_DECRYPT 402

/**
 * A transport frame is malformed or breaks a reassembly rule.
 */
#define CONFER_E_FRAME 403

/**
 * The peer exceeded a limit.
 */
#define CONFER_E_LIMIT 404

/**
 * A streamed answer contains bytes that are not an event. Ends only that stream.
 */
#define CONFER_E_EVENT 405

/**
 * The enclave's evidence does not satisfy the policy. Only the token, with the upgrade, and the
 * first handshake message were sent; see confer_error_check_id() and confer_error_report().
 */
#define CONFER_E_REJECTED 500

/**
 * The enclave satisfies the policy, but its release has changed, and the application did not
 * accept it.
 */
#define CONFER_E_RELEASE_REFUSED 501

/**
 * The enclave answered with a status other than 200; see confer_error_http_status() and
 * confer_error_peer_text().
 */
#define CONFER_E_REFUSED 600

/**
 * The enclave answered 401: it does not accept the token. Connect again with a fresh one. With
 * CONFER_ASK_TOKEN and reconnecting, the library has first asked for a fresh token and, if it got
 * one, sent the request again.
 */
#define CONFER_E_UNAUTHORIZED 601

/**
 * The enclave answered 402, for example because a free account's token has expired. Otherwise like
 * CONFER_E_UNAUTHORIZED.
 */
#define CONFER_E_PAYMENT_REQUIRED 602

/**
 * The request was silent for longer than its idle limit, or waited that long for a connection.
 */
#define CONFER_E_STREAM_IDLE 603

/**
 * The application reads a stream too slowly. Its unread data exceeds CONFER_LIMIT_STREAM_UNREAD,
 * or all streams together exceed a limit and this one holds more than an equal share; see
 * confer_config_set_limit(). If it is the client's only request, the library stops reading the
 * socket instead.
 */
#define CONFER_E_SLOW_CONSUMER 604

/**
 * The model still calls tools after the last allowed round; see
 * confer_chat_request_set_tool_rounds().
 */
#define CONFER_E_TOOL_ROUNDS 605

/**
 * Returns the name of a status, such as "CONFER_E_REJECTED", or "CONFER_E_UNKNOWN" for a number
 * that this version does not know. Static, NUL-terminated, never NULL. Any thread.
 */
CONFER_API
const char *confer_status_name(confer_status status);

/**
 * Returns one sentence that explains a status, in English. Static, NUL-terminated, never NULL. Any
 * thread.
 */
CONFER_API
const char *confer_status_description(confer_status status);

/* ================================================================================================
 * Errors: src/ffi/error.rs
 *
 * The reason why a call or a stream failed, and whether a retry may help.
 * ================================================================================================ */

/**
 * Nothing of the request was sent.
 */
#define CONFER_PROGRESS_NOT_SENT 0

/**
 * At least a part of the request was handed to the network, so the enclave may have acted on it.
 */
#define CONFER_PROGRESS_MAYBE_SENT 1

/**
 * The enclave had begun to answer. A refusal by a status is an answer too: its status says whether
 * the enclave carried the request out.
 */
#define CONFER_PROGRESS_PARTLY_ANSWERED 2

/**
 * Returns the status that the failed call returned. CONFER_OK for NULL.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_error_status(const confer_error *error);

/**
 * Returns what happened: the argument or check, what was expected and what was found. English, for
 * developers and logs. Never contains a token, prompt, answer or key, and therefore not the
 * enclave's reason for a refusal: see confer_error_peer_text(). NULL for NULL. Borrowed from the
 * error, NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_error_message(const confer_error *error, size_t *len);

/**
 * Returns the id of the deciding check, such as "tdx.key_binding", for CONFER_E_REJECTED, or NULL.
 * Borrowed from the error. `len` may be NULL.
 */
CONFER_API
const char *confer_error_check_id(const confer_error *error, size_t *len);

/**
 * Returns the HTTP status of a refused upgrade or tunnel, or the enclave's status for a refused
 * request. 0 without such a status.
 */
CONFER_API
int32_t confer_error_http_status(const confer_error *error);

/**
 * Returns whether the same call may succeed later, unchanged. This does not mean that repeating is
 * harmless; see confer_error_progress(). A client that reconnects follows the same rule: it
 * retries after a retryable error, and ends with any other.
 *
 *     Error                                          Retryable
 *     -------------------------------------------    --------------------------------------------
 *     CONFER_E_INVALID_ARGUMENT, _INVALID_UTF8,      no: a mistake of the caller
 *       _INVALID_URL, _INVALID_JSON,
 *       _INVALID_POLICY, _WOULD_DEADLOCK,
 *       _FORKED, _FILE, _TOO_LARGE, _STALE,
 *       _NOT_CONNECTED
 *     CONFER_E_BUSY, _TOO_MANY                       yes
 *     CONFER_E_SYSTEM                                yes; no if the process is ending, or the
 *                                                    system refuses random bytes, because
 *                                                    a sandbox filter stays
 *     CONFER_E_CANCELLED, _CLOSED, _STOPPED,         no
 *       _PANIC
 *     CONFER_E_TOKEN                                 yes: asks for a token again; no if nobody
 *                                                    can be asked, or the application refused
 *     CONFER_E_EXPIRED                               yes: with a new client
 *     CONFER_E_RESOLVE, _CONNECT, _STAGE_TIMEOUT,    yes
 *       _CONNECTION_LOST, _DEAD_PEER
 *     CONFER_E_TLS                                   yes; no for an untrusted certificate, unless
 *                                                    only its dates are wrong: the device's clock
 *                                                    may be wrong for a while
 *     CONFER_E_UPGRADE                               yes; with an HTTP status, only for 408, 429
 *                                                    and 5xx
 *       HTTP status 401, 402, 403, and 500 for an    no, unless the application gives another
 *       expired token                                token
 *     CONFER_E_PROXY                                 yes; with an HTTP status, only for 408, 429
 *                                                    and 5xx: not for 407, because proxies lock
 *                                                    accounts; no if it refuses the credentials
 *                                                    or the target by SOCKS5, or if its answer
 *                                                    is not HTTP
 *     CONFER_E_PROTOCOL, _HANDSHAKE, _DECRYPT,       yes: the bytes may have been damaged in
 *       _FRAME, _LIMIT                               transit
 *     CONFER_E_EVENT                                 no
 *     CONFER_E_REJECTED                              no, unless every failed check can pass
 *                                                    later: Intel gave the enclave no token,
 *                                                    Intel's key set cannot be fetched, or the
 *                                                    device's clock seems to be wrong
 *     CONFER_E_RELEASE_REFUSED                       no; yes if nobody answered in time
 *     CONFER_E_REFUSED                               no, except with status 429, 502, 503 or 504
 *     CONFER_E_UNAUTHORIZED, _PAYMENT_REQUIRED       no: connect with a fresh token
 *     CONFER_E_STREAM_IDLE                           yes
 *     CONFER_E_SLOW_CONSUMER, _TOOL_ROUNDS           no
 */
CONFER_API
bool confer_error_retryable(const confer_error *error);

/**
 * Returns the delay before a retry that the peer requested, in milliseconds, at most one hour; -1
 * if it requested none.
 */
CONFER_API
int64_t confer_error_retry_delay_ms(const confer_error *error);

/**
 * Returns how far the request got, one of CONFER_PROGRESS_*. A request that was not sent can be
 * sent again safely. For any other, the application must know whether repeating is safe.
 */
CONFER_API
int32_t confer_error_progress(const confer_error *error);

/**
 * Returns the enclave's reason for refusing a request or closing the connection, or NULL if it
 * gave none. At most 1,024 bytes, without control characters. It may repeat parts of the request:
 * show it to the user, but do not log it. Borrowed from the error. `len` may be NULL.
 */
CONFER_API
const char *confer_error_peer_text(const confer_error *error, size_t *len);

/**
 * Returns the report of the refused enclave, for CONFER_E_REJECTED, or NULL. It belongs to the
 * error: do not free it, and do not use it after the error was freed.
 */
CONFER_API
const confer_report *confer_error_report(const confer_error *error);

/**
 * Returns a new handle for an error, which may be a lent one. Both handles share the error. Free
 * it with confer_error_free(). NULL for NULL.
 */
CONFER_API
confer_error *confer_error_clone(const confer_error *error);

/**
 * Frees an error from a failed call, or a clone. NULL is allowed. Do not free an error that a
 * callback receives.
 */
CONFER_API
void confer_error_free(confer_error *error);

/* ================================================================================================
 * Version and runtime: src/ffi/version.rs
 *
 * The library's version, and the threads and memory that all clients share.
 * ================================================================================================ */

/**
 * Major version: changes when something is removed. While it is 0, see the CHANGELOG.
 */
#define CONFER_VERSION_MAJOR 0

/**
 * Minor version: changes when something is added.
 */
#define CONFER_VERSION_MINOR 1

/**
 * Patch version.
 */
#define CONFER_VERSION_PATCH 0

/**
 * The header's version as one number: major * 1,000,000 + minor * 1,000 + patch.
 */
#define CONFER_VERSION_NUMBER 1000

/**
 * Returns the library's version as one number, like CONFER_VERSION_NUMBER. Compare both to check
 * that the header matches the loaded library. Any thread.
 */
CONFER_API
uint32_t confer_version_number(void);

/**
 * Returns the library's version as text, such as "0.1.0". Static, NUL-terminated. Any thread.
 */
CONFER_API
const char *confer_version_string(void);

/**
 * Sets the number of the library's worker threads: 1 to 64, default 2. They start with the first
 * connection, serve all clients of the process, and end with the last client. Each connection
 * stays on one worker. If the system refuses some of the threads, the others serve all
 * connections, and the next connection starts the missing ones. If it refuses all, connecting
 * fails with CONFER_E_SYSTEM.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside the bounds; CONFER_E_BUSY while another number of
 * workers runs. Any thread.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_runtime_set_workers(size_t count, confer_error **error);

/**
 * Sets how many unread bytes all streams of the process may have together: 64 KiB to 1 TiB,
 * default 1 GiB. Above this, streams with more than an equal share fail with
 * CONFER_E_SLOW_CONSUMER. Takes effect at once. Any thread.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_runtime_set_unread_limit(uint64_t bytes, confer_error **error);

/**
 * Waits until no thread of the library runs, so that the library can be unloaded. Needed after the
 * last client was freed, after a failed connection, and after handles were freed without
 * confer_close().
 *
 * `timeout_ms`: 0 returns at once; negative waits without a limit.
 *
 * Returns CONFER_OK, or CONFER_TIMEOUT while a thread runs, as it does while a client is open.
 * Errors: CONFER_E_WOULD_DEADLOCK in a callback. Any thread.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_runtime_wait(int64_t timeout_ms, confer_error **error);

/* ================================================================================================
 * Configuration: src/ffi/config.rs
 *
 * The endpoint, proxy, certificate authorities, token and policy of a client.
 * ================================================================================================ */

/**
 * Looks up the host name of the endpoint or the proxy.
 */
#define CONFER_STAGE_RESOLVE 0

/**
 * Connects by TCP. Tries all addresses of the name, IPv6 and IPv4 in turn, each 250 ms after the
 * previous one or when that has failed.
 */
#define CONFER_STAGE_TCP 1

/**
 * Negotiates TLS with the endpoint. Does nothing for ws://.
 */
#define CONFER_STAGE_TLS 2

/**
 * Requests the WebSocket upgrade, with the token.
 */
#define CONFER_STAGE_UPGRADE 3

/**
 * Exchanges messages 1 and 2 of the Noise handshake.
 */
#define CONFER_STAGE_HANDSHAKE 4

/**
 * Finds or fetches Intel's key set.
 */
#define CONFER_STAGE_KEY_SET 5

/**
 * Verifies the evidence and, if it satisfies the policy, sends message 3.
 */
#define CONFER_STAGE_VERIFY 6

/**
 * Opens a tunnel through the proxy, after CONFER_STAGE_TCP and before CONFER_STAGE_TLS. Skipped
 * without a proxy.
 */
#define CONFER_STAGE_PROXY 7

/**
 * All stages together, for confer_report_timing_us().
 */
#define CONFER_STAGE_ALL 100

/**
 * Trusts Mozilla's list of authorities, which is built into the library.
 */
#define CONFER_ROOTS_BUNDLED 0

/**
 * Trusts the system's authorities.
 */
#define CONFER_ROOTS_SYSTEM 1

/**
 * Creates a configuration for Confer's service, with the production policy and all limits at their
 * defaults. Only the token is missing.
 *
 * `config`: receives the configuration; free it with confer_config_free().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_new(confer_config **config, confer_error **error);

/**
 * Sets the URL of the WebSocket, with its path and without the token, at most 2,048 bytes.
 * `wss://`, or `ws://` for a loopback address. Default "wss://inference.confer.to/websocket".
 *
 * Errors: CONFER_E_INVALID_URL.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_endpoint(confer_config *config,
                                         const char *url,
                                         size_t url_len,
                                         confer_error **error);

/**
 * Sets the proxy. Default: no proxy.
 *
 * `url`: `http://host:port` for HTTP CONNECT, or `socks5://host:port`; with credentials
 * `http://user:password@host:port`, percent-encoded. At most 2,048 bytes. The default scheme is
 * `http://`, and the default port 80 or 1080. Empty text: no proxy. For SOCKS5, user name and
 * password have 1 to 255 bytes each. The proxy looks up the endpoint's name, never this library,
 * so `socks5h://` means the same.
 *
 * All connections use it, including the fetch of Intel's key set. TLS ends at the endpoint, so a
 * proxy sees the endpoint's name, sizes and times, and no token. The proxy receives its
 * credentials unencrypted, as these protocols define; the library writes them nowhere else. A
 * proxy cannot reach this machine's loopback addresses, the only ones that need no TLS. So with a
 * proxy, connecting to a ws:// endpoint fails with CONFER_E_INVALID_URL, and a key set at an
 * http:// URL is not fetched.
 *
 * Errors: CONFER_E_INVALID_URL, which does not repeat the text.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_proxy(confer_config *config,
                                      const char *url,
                                      size_t url_len,
                                      confer_error **error);

/**
 * Sets the proxy from the process's environment at the time of this call: the first of
 * HTTPS_PROXY, https_proxy, ALL_PROXY and all_proxy that is not empty, or no proxy. The value has
 * the form of confer_config_set_proxy(). Without this call the library ignores the environment.
 *
 * The library connects without the proxy to the hosts in NO_PROXY, or no_proxy, by curl's rules.
 * The list has names, which include their subdomains, addresses, and networks such as 10.0.0.0/8,
 * separated by commas or spaces; `*` is every host. It also connects without the proxy to ws://
 * endpoints. Other threads must not change the environment during this call.
 *
 * Errors: CONFER_E_INVALID_URL, with the name of the variable, if the library cannot use the
 * proxy.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_proxy_from_environment(confer_config *config, confer_error **error);

/**
 * Sets the TLS roots, one of CONFER_ROOTS_*. Default CONFER_ROOTS_BUNDLED, which needs no file.
 * This call reads the system's roots, from SSL_CERT_FILE and SSL_CERT_DIR if they are set; call it
 * again to read them again. The verification of the enclave does not use these roots: its roots
 * are in the policy.
 *
 * Clients of one configuration resume each other's TLS sessions until its roots are set again. All
 * clients with the bundled roots resume each other's.
 *
 * Errors: CONFER_E_FILE if the system's store cannot be read or has no usable certificate, and on
 * iOS; CONFER_E_INVALID_ARGUMENT. A failed call keeps the previous roots.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_roots(confer_config *config, int32_t roots, confer_error **error);

/**
 * Sets the application's TLS roots, which replace all others: PEM text of at most 1 MiB and 1,024
 * certificates. The library ignores anything else in the text.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT without a certificate, or for an unusable one, with its
 * position; CONFER_E_TOO_LARGE. A failed call keeps the previous roots.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_roots_pem(confer_config *config,
                                          const char *pem,
                                          size_t pem_len,
                                          confer_error **error);

/**
 * Sets the account's token, at most 8,192 bytes. It has no default: connecting without a token is
 * an error, unless confer_connect_start() is used with CONFER_ASK_TOKEN; see
 * confer_config_set_ask(). The library sends the token in the request line of the upgrade, and
 * writes it nowhere else. It removes one newline at the end.
 *
 * A client does not connect again with a token that the server has refused for good: after HTTP
 * status 401, 402 or 403, and after HTTP status 500 or a request's status 401 or 402 if the token
 * is a JWT whose `exp` has passed. Without CONFER_ASK_TOKEN, a client that reconnects then ends at
 * its next attempt.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT for a token that is empty, begins with "Bearer ", or contains
 * white space, a byte order mark, quotes or a control character; CONFER_E_TOO_LARGE. The message
 * names the mistake, and never repeats the token.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_token(confer_config *config,
                                      const char *token,
                                      size_t token_len,
                                      confer_error **error);

/**
 * Sets the policy, which says what is trusted. Default: confer_policy_production(). The policy can
 * be freed afterwards.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_policy(confer_config *config,
                                       const confer_policy *policy,
                                       confer_error **error);

/**
 * Sets the cache file of Intel's key sets, so that the next process need not fetch them. Default:
 * no file. Connecting reads the file, and a fetch replaces it as a whole. The library verifies its
 * content like a fetched key set, so the file needs no protection. An empty file counts as
 * missing. A file with other content is not changed, and connecting fails with CONFER_E_FILE. If
 * the file cannot be written, the log has a warning.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_jwks_cache_file(confer_config *config,
                                                const char *path,
                                                size_t path_len,
                                                confer_error **error);

/**
 * Frees a configuration. Its clients continue. NULL is allowed.
 */
CONFER_API
void confer_config_free(confer_config *config);

/* ================================================================================================
 * Settings by key: src/ffi/settings.rs
 *
 * Times, sizes and counts of a configuration.
 * ================================================================================================ */

/**
 * Looking up the host name of the endpoint or the proxy. Keys below 100 are the numbers of
 * CONFER_STAGE_*.
 */
#define CONFER_DURATION_STAGE_RESOLVE 0

/**
 * Connecting by TCP, over all addresses of the name.
 */
#define CONFER_DURATION_STAGE_TCP 1

/**
 * Negotiating TLS.
 */
#define CONFER_DURATION_STAGE_TLS 2

/**
 * Upgrading to a WebSocket.
 */
#define CONFER_DURATION_STAGE_UPGRADE 3

/**
 * Messages 1 and 2 of the Noise handshake.
 */
#define CONFER_DURATION_STAGE_HANDSHAKE 4

/**
 * Finding or fetching Intel's key set.
 */
#define CONFER_DURATION_STAGE_KEY_SET 5

/**
 * Verifying the evidence and sending message 3.
 */
#define CONFER_DURATION_STAGE_VERIFY 6

/**
 * Opening a tunnel through the proxy.
 */
#define CONFER_DURATION_STAGE_PROXY 7

/**
 * All stages of connecting together.
 */
#define CONFER_DURATION_CONNECT 100

/**
 * The application's answer to a question: for a token, or about another release.
 */
#define CONFER_DURATION_ANSWER 101

/**
 * The interval between keepalive pings.
 */
#define CONFER_DURATION_KEEPALIVE 102

/**
 * Longest time that a ping may stay unanswered while no byte moves in either direction. Then the
 * connection counts as dead: CONFER_E_DEAD_PEER.
 */
#define CONFER_DURATION_DEAD_PEER 103

/**
 * Longest silence of the enclave after confer_client_network_changed(). Then the connection counts
 * as dead.
 */
#define CONFER_DURATION_PROBE 104

/**
 * Longest silence of a request whose answer ends with CONFER_EVENT_COMPLETION, such as a streamed
 * chat. Then it fails with CONFER_E_STREAM_IDLE. A server can lose a streamed answer silently and
 * still answer pings.
 */
#define CONFER_DURATION_IDLE_EVENTS 105

/**
 * The same for any other answer: the server may work for 10 minutes on a document, or on an answer
 * without streaming. The same limits apply while a request waits for a connection, or for its turn
 * to upload.
 */
#define CONFER_DURATION_IDLE_OTHER 106

/**
 * The age at which a new, verified connection replaces a working one.
 *
 * With retries on (see CONFER_LIMIT_ATTEMPTS), the library makes the new connection first. Open
 * requests finish on the old one; at most four old connections stay open for this. If no
 * connection can be made, new requests wait, and fail with the last attempt's error after the last
 * allowed attempt. The old connection continues for open requests. An error that is not retried
 * ends the client. With retries off, the connection ends with CONFER_E_EXPIRED.
 */
#define CONFER_DURATION_MAX_AGE 107

/**
 * The longest delay before the first retry. This maximum doubles with each failure, and the delay
 * is a random part of it. If the server asks for a longer delay, the library waits that long.
 */
#define CONFER_DURATION_FIRST_RETRY 108

/**
 * The longest delay before any retry, unless the server asks for a longer one.
 */
#define CONFER_DURATION_LONGEST_RETRY 109

/**
 * Unread bytes of a stream. Above it the library stops reading the socket, if no other request is
 * open.
 */
#define CONFER_LIMIT_STREAM_REST 0

/**
 * Unread bytes of a stream. Above it the stream fails with CONFER_E_SLOW_CONSUMER.
 */
#define CONFER_LIMIT_STREAM_UNREAD 1

/**
 * Unread bytes of all streams of a client. Above it, streams with more than an equal share fail.
 */
#define CONFER_LIMIT_CLIENT_UNREAD 2

/**
 * Bytes of incomplete messages. Above it the connection fails with CONFER_E_LIMIT.
 */
#define CONFER_LIMIT_UNFINISHED 3

/**
 * Bytes of requests that wait to be sent. Above it another request is refused with
 * CONFER_E_TOO_MANY, and one that is larger than the limit itself with CONFER_E_TOO_LARGE. If the
 * application answers token questions and retries are on, sent requests without an answer may hold
 * as many bytes again, because they are repeated after status 401 or 402.
 */
#define CONFER_LIMIT_UNSENT 4

/**
 * Open requests. Above it another request is refused with CONFER_E_TOO_MANY.
 */
#define CONFER_LIMIT_REQUESTS 5

/**
 * Number of attempts to connect that may fail one after the other; the first attempt of
 * confer_connect_start() counts too. After the last one the client ends with its error. 0: the
 * client ends with its connection.
 *
 * Each new connection is fully verified, with the same policy. A request that was not sent before
 * the connection broke is sent on the next one. Other streams end with the connection's error, and
 * confer_error_progress() says how far they got: nothing is sent twice. Requests started without a
 * connection wait for one. A later connection that breaks within 10 s counts as a failed attempt.
 * An error that is not retried, such as a refused enclave, ends the client at once: see the table
 * of confer_error_retryable().
 */
#define CONFER_LIMIT_ATTEMPTS 6

/**
 * Sets a time of a configuration, in milliseconds. Any thread.
 *
 * `duration`: one of CONFER_DURATION_*. `ms`: within its bounds; 0, where allowed, turns the time
 * off.
 *
 *     Key                                Default    Bounds
 *     -------------------------------    -------    --------------------------
 *     CONFER_DURATION_STAGE_RESOLVE      10,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_TCP          10,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_TLS          10,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_UPGRADE      10,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_HANDSHAKE    15,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_KEY_SET      15,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_VERIFY       15,000     1 to 86,400,000
 *     CONFER_DURATION_STAGE_PROXY        10,000     1 to 86,400,000
 *     CONFER_DURATION_CONNECT            60,000     1 to 86,400,000
 *     CONFER_DURATION_ANSWER             30,000     1 to 86,400,000
 *     CONFER_DURATION_KEEPALIVE          20,000     1 to 86,400,000
 *     CONFER_DURATION_DEAD_PEER          20,000     1 to 86,400,000
 *     CONFER_DURATION_PROBE              5,000      1 to 86,400,000
 *     CONFER_DURATION_IDLE_EVENTS        180,000    1 to 86,400,000
 *     CONFER_DURATION_IDLE_OTHER         600,000    1 to 86,400,000
 *     CONFER_DURATION_MAX_AGE            0          10,000 to 86,400,000, or 0
 *     CONFER_DURATION_FIRST_RETRY        500        1 to 86,400,000
 *     CONFER_DURATION_LONGEST_RETRY      30,000     1 to 86,400,000
 *
 * Errors: CONFER_E_INVALID_ARGUMENT.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_duration_ms(confer_config *config,
                                            int32_t duration,
                                            uint64_t ms,
                                            confer_error **error);

/**
 * Sets a size or a count of a configuration. Any thread.
 *
 * `limit`: one of CONFER_LIMIT_*. `value`: within its bounds. An unread event counts as at least
 * the size of its JSON; an event that was taken no longer counts. See also
 * confer_runtime_set_unread_limit().
 *
 *     Key                           Default    Bounds
 *     --------------------------    -------    ------------------------
 *     CONFER_LIMIT_STREAM_REST      1 MiB      64 KiB to 1 TiB
 *     CONFER_LIMIT_STREAM_UNREAD    16 MiB     64 KiB to 1 TiB
 *     CONFER_LIMIT_CLIENT_UNREAD    64 MiB     64 KiB to 1 TiB
 *     CONFER_LIMIT_UNFINISHED       64 MiB     64 KiB to 1 TiB
 *     CONFER_LIMIT_UNSENT           64 MiB     64 KiB to 1 TiB
 *     CONFER_LIMIT_REQUESTS         4,096      1 to 1,000,000
 *     CONFER_LIMIT_ATTEMPTS         0          1 to 4,294,967,295, or 0
 *
 * Errors: CONFER_E_INVALID_ARGUMENT.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_limit(confer_config *config,
                                      int32_t limit,
                                      uint64_t value,
                                      confer_error **error);

/**
 * Sets whether a working connection is also replaced when its evidence expires: at
 * confer_report_expires_at() plus the policy's leeway. That is some minutes after the enclave
 * received its token from Intel. Otherwise like CONFER_DURATION_MAX_AGE. Default false.
 *
 * If the wall clock jumped or the machine slept, the library notices the expiry at the next
 * request, or within 30 s.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_renew_with_evidence(confer_config *config, bool renew, confer_error **error);

/* ================================================================================================
 * Log: src/ffi/log.rs
 *
 * Records of connections and failures, without secrets.
 * ================================================================================================ */

/**
 * Something failed.
 */
#define CONFER_LOG_ERROR 1

/**
 * Something is wrong, but the work continues.
 */
#define CONFER_LOG_WARN 2

/**
 * A connection was opened or closed.
 */
#define CONFER_LOG_INFO 3

/**
 * Each stage of connecting.
 */
#define CONFER_LOG_DEBUG 4

/**
 * Receives a log record. `level`: one of CONFER_LOG_*; `target`: the part of the library, such as
 * "confer::connect"; `message`: English. Both texts are NUL-terminated UTF-8 and valid during the
 * call. Runs on the client's callback thread.
 */
typedef void (*confer_log_fn)(void *user_data, int32_t level, const char *target, const char *message);

/**
 * Sets the receiver of the log. Default: no receiver, and the library prints nothing. No record
 * contains a token, prompt, answer or key, at any level.
 *
 * `level`: the highest level to record, one of CONFER_LOG_*. `log`: NULL turns the log off.
 * `user_data`: passed to `log`. Clients of one configuration share it, and each has its own
 * callback thread, so several threads may use it at once.
 * `destroy`: runs once, when neither the configuration nor a client still needs `user_data`: on a
 * client's callback thread, or in the call that sets another log or frees the configuration. If
 * this call fails, it runs before the call returns.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_log(confer_config *config,
                                    int32_t level,
                                    confer_log_fn log,
                                    void *user_data,
                                    confer_destroy_fn destroy,
                                    confer_error **error);

/* ================================================================================================
 * Policies: src/ffi/policy.rs
 *
 * Requirements for an enclave's hardware and software: built in, or a JSON document.
 * ================================================================================================ */

/**
 * Creates the built-in policy for Confer's service. It accepts any release that Confer's release
 * job signed, and warns about machines with outdated firmware, as the official client does.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_policy_production(confer_policy **policy, confer_error **error);

/**
 * Creates the production policy with an empty list `tdx.tcb_status.warn`. It refuses machines
 * whose firmware needs an update or another configuration.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_policy_strict(confer_policy **policy, confer_error **error);

/**
 * Parses a policy from its JSON document. Every key must be present. Unknown and repeated keys are
 * errors. docs/policy.md explains each key.
 *
 * `json`, `json_len`: the document, UTF-8, at most 1 MiB; CONFER_NTS if NUL-terminated. Copied.
 *
 * Errors: CONFER_E_INVALID_POLICY, with the key's path or the position.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_policy_parse(const char *json,
                                  size_t json_len,
                                  confer_policy **policy,
                                  confer_error **error);

/**
 * Reads a policy from a file, or a pipe up to its end. Otherwise like confer_policy_parse().
 *
 * Errors: those of confer_policy_parse(), and CONFER_E_FILE if the file cannot be read.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_policy_load(const char *path,
                                 size_t path_len,
                                 confer_policy **policy,
                                 confer_error **error);

/**
 * Returns the exact bytes of the document. Borrowed from the policy, NUL-terminated. `len` may be
 * NULL.
 */
CONFER_API
const char *confer_policy_json(const confer_policy *policy, size_t *len);

/**
 * Returns the policy's name. Borrowed from the policy, NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_policy_name(const confer_policy *policy, size_t *len);

/**
 * Returns the SHA-256 of the document's exact bytes, 64 hex digits, as in reports. Borrowed from
 * the policy. `len` may be NULL.
 */
CONFER_API
const char *confer_policy_sha256(const confer_policy *policy, size_t *len);

/**
 * Frees a policy. Configurations that use it stay valid. NULL is allowed.
 */
CONFER_API
void confer_policy_free(confer_policy *policy);

/* ================================================================================================
 * Clients: src/ffi/connect.rs
 *
 * Connecting, the client's state, token, report and counters, and closing.
 * ================================================================================================ */

/**
 * The client is making its first connection.
 */
#define CONFER_CLIENT_CONNECTING 0

/**
 * The client has a verified connection.
 */
#define CONFER_CLIENT_CONNECTED 1

/**
 * The connection broke, and the client is making another one.
 */
#define CONFER_CLIENT_RECONNECTING 2

/**
 * The client has ended: see confer_client_check().
 */
#define CONFER_CLIENT_ENDED 3

/**
 * Bytes sent by sockets, with TLS and WebSocket.
 */
#define CONFER_COUNTER_BYTES_SENT 0

/**
 * Bytes received from sockets.
 */
#define CONFER_COUNTER_BYTES_RECEIVED 1

/**
 * Whole messages sent: requests, chunks of documents, pings.
 */
#define CONFER_COUNTER_MESSAGES_SENT 2

/**
 * Whole messages received.
 */
#define CONFER_COUNTER_MESSAGES_RECEIVED 3

/**
 * Keepalive pings sent.
 */
#define CONFER_COUNTER_PINGS_SENT 4

/**
 * Keepalive pings answered.
 */
#define CONFER_COUNTER_PINGS_ANSWERED 5

/**
 * Round-trip time of the last answered ping in microseconds; 0 before the first. Leaves out pings
 * that were open while a full stream stopped reading, because they measure the application.
 */
#define CONFER_COUNTER_ROUND_TRIP_US 6

/**
 * Verified connections, including the first one.
 */
#define CONFER_COUNTER_CONNECTIONS 7

/**
 * Failed attempts to reconnect.
 */
#define CONFER_COUNTER_FAILED_ATTEMPTS 8

/**
 * Connects, verifies the enclave, and completes the handshake. Waits for at most
 * CONFER_DURATION_CONNECT and 6 seconds more; the extra time is for a slow write of the key-set
 * cache or a hanging thread of the library. Before the enclave is verified, the library sends only
 * the token and the first handshake message.
 *
 * Makes one attempt, without retries, and cannot be cancelled. To retry or cancel the first
 * attempt, use confer_connect_start(). If the connection breaks later, the client reconnects by
 * CONFER_LIMIT_ATTEMPTS.
 *
 * `client`: receives the client; close it with confer_close() and free it with
 * confer_client_free().
 *
 * Errors: CONFER_E_REJECTED if the enclave is refused, with the report in the error; 3xx and 4xx
 * for the network and the protocol; CONFER_E_FILE for the key-set cache;
 * CONFER_E_INVALID_ARGUMENT without a token, also with CONFER_ASK_TOKEN, because nobody could
 * answer; CONFER_E_WOULD_DEADLOCK in a callback.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_connect(const confer_config *config, confer_client **client, confer_error **error);

/**
 * Creates a client that begins to connect, and returns at once. The first attempt is retried by
 * the same rules as later ones; confer_close() cancels it. Requests can be started at once: they
 * stay in this process until the enclave is verified. Allowed in a callback.
 *
 * `client`: receives the client; end it with confer_close() and free it with confer_client_free().
 *
 * Errors: CONFER_E_INVALID_ARGUMENT without a token, unless CONFER_ASK_TOKEN is set;
 * CONFER_E_SYSTEM if the system refuses a thread. Other errors are the client's: see
 * confer_client_wait().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_connect_start(const confer_config *config, confer_client **client, confer_error **error);

/**
 * Waits until the client is connected.
 *
 * `timeout_ms`: 0 does not wait; negative waits without a limit.
 *
 * Returns CONFER_OK once it is connected, and CONFER_TIMEOUT otherwise. If the client has ended or
 * ends during the wait, returns its status and error. That is CONFER_E_CLOSED if the client was
 * closed, or if it and all its streams were freed. In a callback returns CONFER_E_WOULD_DEADLOCK,
 * unless `timeout_ms` is 0.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_client_wait(confer_client *client, int64_t timeout_ms, confer_error **error);

/**
 * Returns the client's state, one of CONFER_CLIENT_*. Later versions may add states.
 * CONFER_CLIENT_ENDED for NULL.
 */
CONFER_API
int32_t confer_client_state(const confer_client *client);

/**
 * Returns CONFER_OK until the client ends, and then the status and error with which it ended. A
 * client that is reconnecting has not ended; see confer_client_state().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_client_check(const confer_client *client, confer_error **error);

/**
 * Gives the client a fresh token. It answers an open CONFER_EVENT_ASK_TOKEN; if there is none, the
 * next attempt to connect uses it. Never waits.
 *
 * Errors: those of confer_config_set_token().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_client_set_token(confer_client *client,
                                      const char *token,
                                      size_t token_len,
                                      confer_error **error);

/**
 * Returns the report of the connection in use, or of the last one.
 *
 * `report`: receives the report; free it with confer_report_free(). It may outlive the client.
 *
 * Errors: CONFER_E_NOT_CONNECTED before the first connection.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_attestation_report(const confer_client *client,
                                        confer_report **report,
                                        confer_error **error);

/**
 * Call it when the network changed, or the machine has slept. The library checks the connection at
 * once: the enclave must answer within CONFER_DURATION_PROBE. A client that is waiting to
 * reconnect does so at once. Never waits. Allowed in a callback. Does nothing after the client's
 * end.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_client_network_changed(confer_client *client, confer_error **error);

/**
 * Returns a counter of the client, one of CONFER_COUNTER_*; 0 for others.
 * (confer_report_timing_us() has the time of each stage of connecting.)
 */
CONFER_API
uint64_t confer_client_counter(const confer_client *client, int32_t counter);

/**
 * Ends the client and its streams. Drops undelivered events, and ends each stream with
 * CONFER_E_CLOSED, unless it has failed before or its whole answer was delivered. A running
 * callback finishes; then only `on_done` and `destroy` are called for each stream. Ends the
 * library's threads that no other client needs. After the last client was closed with CONFER_OK
 * and the last handle was freed, no thread of the library runs. The library can then be unloaded,
 * after the application's threads that called it have ended. The client must still be freed.
 * Starting requests on it fails with CONFER_E_CLOSED; confer_attestation_report() still works.
 *
 * `timeout_ms`: 0 does not wait; negative waits for callbacks, name look-ups and file access
 * without a limit.
 * Returns CONFER_OK, or CONFER_TIMEOUT if the end continues in the background: call it again to
 * wait for it. Several threads may call it at once.
 * Errors: CONFER_E_WOULD_DEADLOCK in a callback, unless `timeout_ms` is 0.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_close(confer_client *client, int64_t timeout_ms, confer_error **error);

/**
 * Frees a client. Never waits, and is allowed in a callback. Streams of requests keep the client
 * until they are freed too; a watch does not. Without such a stream, freeing ends the client, also
 * one that is connecting. Without confer_close() before, threads may run for a moment longer: see
 * confer_runtime_wait(). NULL is allowed.
 */
CONFER_API
void confer_client_free(confer_client *client);

/* ================================================================================================
 * Reports: src/ffi/report.rs
 *
 * The verdict about an enclave, check by check, and as JSON.
 * ================================================================================================ */

/**
 * The check holds.
 */
#define CONFER_OUTCOME_PASS 0

/**
 * The policy tolerates the result, but the machine needs an update.
 */
#define CONFER_OUTCOME_WARN 1

/**
 * The check does not hold.
 */
#define CONFER_OUTCOME_FAIL 2

/**
 * The check could not run, because its input is missing. Rejects like a failure.
 */
#define CONFER_OUTCOME_SKIP 3

/**
 * Returns whether every check passed or warned, so the enclave satisfies the policy. False for
 * NULL.
 */
CONFER_API
bool confer_report_verified(const confer_report *report);

/**
 * Returns the report as a JSON object, which docs/report.md describes. Borrowed from the report,
 * NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_report_json(const confer_report *report, size_t *len);

/**
 * Returns the evidence as a JSON object, for confer_evidence_verify(). Contains no account token
 * and nothing of a request. Borrowed from the report, NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_report_evidence(const confer_report *report, size_t *len);

/**
 * Returns the duration of a stage of connecting in microseconds.
 *
 * `stage`: CONFER_STAGE_*, or CONFER_STAGE_ALL for the sum of all stages.
 * Returns -1 for a stage that did not run, and in a report of confer_evidence_verify().
 */
CONFER_API
int64_t confer_report_timing_us(const confer_report *report, int32_t stage);

/**
 * Returns the number of checks. A report always has all checks, in a fixed order.
 */
CONFER_API
size_t confer_report_check_count(const confer_report *report);

/**
 * Returns the outcome of check `index`, CONFER_OUTCOME_*, or -1 for a wrong index.
 */
CONFER_API
int32_t confer_report_check_outcome(const confer_report *report, size_t index);

/**
 * Returns the stable id of check `index`, such as "tdx.key_binding", or NULL for a wrong index.
 * Borrowed from the report, NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_report_check_id(const confer_report *report, size_t index, size_t *len);

/**
 * Returns the result of check `index` as a sentence in English, or NULL for a wrong index.
 * Borrowed from the report, NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_report_check_detail(const confer_report *report, size_t index, size_t *len);

/**
 * Returns the value that check `index` expected, or NULL if it has none. Borrowed from the report,
 * NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_report_check_expected(const confer_report *report, size_t index, size_t *len);

/**
 * Returns the value that check `index` found, or NULL if it has none. Borrowed from the report,
 * NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_report_check_observed(const confer_report *report, size_t index, size_t *len);

/**
 * Returns a new handle for a report, which may be one that belongs to an error. Both handles share
 * the report. Free it with confer_report_free(). NULL for NULL.
 */
CONFER_API
confer_report *confer_report_clone(const confer_report *report);

/**
 * Frees a report from confer_attestation_report(), confer_evidence_verify() or
 * confer_report_clone(). NULL is allowed. Do not free a report that belongs to an error.
 */
CONFER_API
void confer_report_free(confer_report *report);

/* ================================================================================================
 * Report fields: src/ffi/report_fields.rs
 *
 * Single values of a report: policy, release, measurements, firmware, dates.
 * ================================================================================================ */

/**
 * Returns the platform that the evidence claims, such as "TDX", or NULL if unknown. Borrowed from
 * the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_platform(const confer_report *report, size_t *len);

/**
 * Returns the name of the applied policy, or NULL if unknown. Borrowed from the report. `len` may
 * be NULL.
 */
CONFER_API
const char *confer_report_policy_name(const confer_report *report, size_t *len);

/**
 * Returns the SHA-256 of the applied policy document, 64 hex digits, or NULL if unknown. Borrowed
 * from the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_policy_sha256(const confer_report *report, size_t *len);

/**
 * Returns the enclave's URL without its query, or NULL in a report of confer_evidence_verify().
 * Borrowed from the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_endpoint(const confer_report *report, size_t *len);

/**
 * Returns the SHA-256 of the received manifest, 64 hex digits, or NULL if unknown. Borrowed from
 * the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_manifest_sha256(const confer_report *report, size_t *len);

/**
 * Returns the release's `imageVersion`, or NULL if unknown. Borrowed from the report. `len` may be
 * NULL.
 */
CONFER_API
const char *confer_report_image_version(const confer_report *report, size_t *len);

/**
 * Returns the release's `proxyVersion`, or NULL if unknown. Borrowed from the report. `len` may be
 * NULL.
 */
CONFER_API
const char *confer_report_proxy_version(const confer_report *report, size_t *len);

/**
 * Returns the signer of the release, the email address in the signing certificate, or NULL if
 * unknown. Borrowed from the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_signer(const confer_report *report, size_t *len);

/**
 * Returns the identity provider that confirmed the signer, the certificate's OIDC issuer, or NULL
 * if unknown. Borrowed from the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_issuer(const confer_report *report, size_t *len);

/**
 * Returns the URL of the transparency log with the signature, or NULL if unknown. Borrowed from
 * the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_log_url(const confer_report *report, size_t *len);

/**
 * Returns the measurement of the virtual firmware, 96 hex digits, or NULL if unknown. Borrowed
 * from the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_mrtd(const confer_report *report, size_t *len);

/**
 * Returns runtime measurement register 0, 96 hex digits, or NULL if unknown. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_rtmr0(const confer_report *report, size_t *len);

/**
 * Returns runtime measurement register 1, 96 hex digits, or NULL if unknown. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_rtmr1(const confer_report *report, size_t *len);

/**
 * Returns runtime measurement register 2, 96 hex digits, or NULL if unknown. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_rtmr2(const confer_report *report, size_t *len);

/**
 * Returns runtime measurement register 3, 96 hex digits, or NULL if unknown. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_rtmr3(const confer_report *report, size_t *len);

/**
 * Returns the machine's patch level according to Intel, such as "UpToDate", or NULL if unknown.
 * Borrowed from the report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_tcb_status(const confer_report *report, size_t *len);

/**
 * Returns the date of the patch level in RFC 3339 format, or NULL if unknown. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_tcb_date(const confer_report *report, size_t *len);

/**
 * Returns the time of the verification in Unix seconds, or -1 if unknown.
 */
CONFER_API
int64_t confer_report_verified_at(const confer_report *report);

/**
 * Returns the expiry of Intel's token in Unix seconds, or -1 if unknown.
 */
CONFER_API
int64_t confer_report_expires_at(const confer_report *report);

/**
 * Returns the entry's index in the transparency log, or -1 if unknown.
 */
CONFER_API
int64_t confer_report_log_index(const confer_report *report);

/**
 * Returns when the transparency log added the entry, in Unix seconds, or -1 if unknown.
 */
CONFER_API
int64_t confer_report_log_integrated_time(const confer_report *report);

/**
 * Returns the security version of the TDX module, or -1 if unknown.
 */
CONFER_API
int64_t confer_report_seam_svn(const confer_report *report);

/**
 * Returns the Noise static key that the enclave proved to hold, 64 hex digits. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_server_key(const confer_report *report, size_t *len);

/**
 * Returns how many of Intel's security advisories apply to the machine.
 */
CONFER_API
size_t confer_report_advisory_count(const confer_report *report);

/**
 * Returns advisory `index`, such as "INTEL-SA-00837", or NULL for a wrong index. Borrowed from the
 * report. `len` may be NULL.
 */
CONFER_API
const char *confer_report_advisory(const confer_report *report, size_t index, size_t *len);

/* ================================================================================================
 * Evidence: src/ffi/report_evidence.rs
 *
 * Verifying the evidence of a report again, offline.
 * ================================================================================================ */

/**
 * Verifies exported evidence again, offline.
 *
 * `evidence`, `evidence_len`: the result of confer_report_evidence().
 * `policy`: NULL for the production policy.
 * `at`: the time of the verification in Unix seconds; -1 for the time when the evidence was
 * captured.
 * `report`: receives the report if the evidence satisfies the policy; free it with
 * confer_report_free().
 *
 * The file is not authenticated: whoever exported it chose its time and key.
 *
 * Errors: CONFER_E_REJECTED if the evidence does not satisfy the policy, with the report in the
 * error; CONFER_E_INVALID_JSON for another file; CONFER_E_INVALID_ARGUMENT for a negative time
 * other than -1.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_evidence_verify(const char *evidence,
                                     size_t evidence_len,
                                     const confer_policy *policy,
                                     int64_t at,
                                     confer_report **report,
                                     confer_error **error);

/* ================================================================================================
 * Conversations: src/ffi/conversation.rs
 *
 * Histories of messages, which chats continue and extend.
 * ================================================================================================ */

/**
 * The user.
 */
#define CONFER_ROLE_USER 0

/**
 * An earlier answer of the model.
 */
#define CONFER_ROLE_ASSISTANT 1

/**
 * Instructions of the system.
 */
#define CONFER_ROLE_SYSTEM 2

/**
 * Instructions of the developer.
 */
#define CONFER_ROLE_DEVELOPER 3

/**
 * A call of a tool by the model. The content is JSON text with `toolCallId`, `toolName` and
 * `toolArguments`.
 */
#define CONFER_ROLE_TOOL_CALL 4

/**
 * A tool's result. The content is JSON text with `toolCallId`, `toolName` and `content`.
 */
#define CONFER_ROLE_TOOL_RESPONSE 5

/**
 * Creates a conversation without messages; free it with confer_conversation_free().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_conversation_new(confer_conversation **conversation, confer_error **error);

/**
 * Parses the result of confer_conversation_json(), at most 256 MiB. Puts each tool's response
 * directly after its call, and drops responses without a call.
 *
 * Errors: CONFER_E_INVALID_JSON for invalid JSON, an unknown key or an unknown version, with the
 * position or the number of the wrong message; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_conversation_parse(const char *json,
                                        size_t json_len,
                                        confer_conversation **conversation,
                                        confer_error **error);

/**
 * Returns the conversation as a JSON document, `{"version": 1, "messages": […], "context_tokens":
 * n, "max_context_tokens": n}`. The numbers are null before the first completion. It contains all
 * messages: protect it accordingly. Borrowed until the next call of this function on the same
 * conversation: two threads must not call it at once. NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_conversation_json(const confer_conversation *conversation, size_t *len);

/**
 * Appends a message, with `role` and `content` as in confer_chat_request_add_message(). A
 * conversation holds at most 32 MiB. A message with CONFER_ROLE_TOOL_RESPONSE goes directly after
 * the call with its `toolCallId`.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT for an unknown role, and for a response whose call is unknown
 * or already answered; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_conversation_add_message(confer_conversation *conversation,
                                              int32_t role,
                                              const char *content,
                                              size_t content_len,
                                              confer_error **error);

/**
 * Drops all messages after the first `count`. A tool call that loses its response waits for
 * another one.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_conversation_truncate(confer_conversation *conversation,
                                           size_t count,
                                           confer_error **error);

/**
 * Returns the number of messages.
 */
CONFER_API
size_t confer_conversation_message_count(const confer_conversation *conversation);

/**
 * Returns the number of tokens at the last completion, or -1 before the first.
 *
 * `max`: receives the maximum number of tokens, or -1 if unknown. May be NULL.
 */
CONFER_API
int64_t confer_conversation_context_tokens(const confer_conversation *conversation, int64_t *max);

/**
 * Frees a conversation. NULL is allowed.
 */
CONFER_API
void confer_conversation_free(confer_conversation *conversation);

/* ================================================================================================
 * Chat requests: src/ffi/request.rs
 *
 * Messages, model, documents, tools and other properties of a chat.
 * ================================================================================================ */

/**
 * Creates a chat request without messages. A request can be sent many times, also at once. With a
 * conversation it needs no message of its own. It begins with the model
 * "Qwen/Qwen3-235B-A22B-Instruct-2507-tput" and without web search.
 *
 * `request`: receives the request; free it with confer_chat_request_free().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_new(confer_chat_request **request, confer_error **error);

/**
 * Appends a message. `role`: one of CONFER_ROLE_*. `content`: copied, at most 20,000,000
 * characters, the servers' limit. A request has at most 32 MiB in all. Messages are sent unchanged
 * and in this order. A server refuses a request in which a tool call is not directly followed by
 * its response.
 *
 * Errors: CONFER_E_INVALID_UTF8, CONFER_E_TOO_LARGE; CONFER_E_INVALID_ARGUMENT for an unknown
 * role.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_add_message(confer_chat_request *request,
                                              int32_t role,
                                              const char *content,
                                              size_t content_len,
                                              confer_error **error);

/**
 * Appends a message as a JSON object, for example with `imageRefs`. It is sent unchanged.
 *
 * Errors: CONFER_E_INVALID_JSON, with the position, for invalid JSON and for JSON that is not an
 * object; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_add_message_json(confer_chat_request *request,
                                                   const char *json,
                                                   size_t json_len,
                                                   confer_error **error);

/**
 * Sets the model, which must not be blank. Default "Qwen/Qwen3-235B-A22B-Instruct-2507-tput".
 * Newer servers ignore it and use their model.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT for a blank name, CONFER_E_INVALID_UTF8, CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_model(confer_chat_request *request,
                                            const char *model,
                                            size_t model_len,
                                            confer_error **error);

/**
 * Sets whether the enclave may send search queries, made from the conversation, to an external
 * search service. Default false. The library always sends this property, because servers treat a
 * missing one as true.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_web_search(confer_chat_request *request,
                                                 bool allowed,
                                                 confer_error **error);

/**
 * Sets whether the answer comes in events, token by token. Default true. If false, the answer is
 * one CONFER_EVENT_BODY with the assistant's text, without tools, and it is not added to a
 * conversation.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_streaming(confer_chat_request *request,
                                                bool streaming,
                                                confer_error **error);

/**
 * Adds a stored document to the chat, as a JSON object. Servers need all of these properties:
 * "attachmentId", of 1 to 200 letters, digits, "_" and "-"; "filename", of at most 1,024
 * characters; "contentType", "sourceObjectKey" and "encryptionKey", not blank; and "sourceBytes",
 * 1 to 268,435,456. Other properties are sent unchanged. Only the enclave receives
 * "encryptionKey"; the library writes it nowhere else.
 *
 * Errors: CONFER_E_INVALID_JSON, with the position, for invalid JSON and for JSON that is not an
 * object; CONFER_E_INVALID_ARGUMENT for a property that is repeated or outside these bounds, which
 * newer servers enforce, and for more than 1,000 documents; CONFER_E_INVALID_UTF8;
 * CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_add_document_json(confer_chat_request *request,
                                                    const char *json,
                                                    size_t json_len,
                                                    confer_error **error);

/**
 * Adds a tool that the model may call.
 *
 * `name`: not blank, at most 64 bytes, unique in the request, and not the name of one of the
 * server's tools, because servers ignore a second tool of that name: `web_search`, `page_fetch`,
 * `exec_command`, `publish_file`, `file_overview`, `file_search`, `file_read`, `file_view`.
 * `description`: for the model. `parameters`: the JSON Schema of the arguments, an object.
 *
 * When the model calls the tool, CONFER_EVENT_CLIENT_TOOL_CALL arrives. The stream then ends with
 * its completion, and the application sends the results with its next request. To answer calls on
 * the same stream, call confer_chat_request_set_tool_rounds().
 *
 * Errors: CONFER_E_INVALID_JSON for `parameters`, with the position; CONFER_E_INVALID_ARGUMENT for
 * the name, and for more than 128 tools; CONFER_E_TOO_LARGE. Newer servers enforce these bounds.
 * To send other tools, set "clientTools" with confer_chat_request_set_property().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_add_tool(confer_chat_request *request,
                                           const char *name,
                                           size_t name_len,
                                           const char *description,
                                           size_t description_len,
                                           const char *parameters,
                                           size_t parameters_len,
                                           confer_error **error);

/**
 * Answers calls of tools on the same stream, in rounds. Each CONFER_EVENT_CLIENT_TOOL_CALL then
 * wants an answer: see confer_event_wants_answer(). It arrives when the model's answer is
 * complete, right before that answer's CONFER_EVENT_COMPLETION. When all calls of a round are
 * answered, the library sends the next request, until an answer calls no tools. All of it is one
 * stream, with a CONFER_EVENT_COMPLETION at the end of each round.
 *
 * `max_rounds`: rounds whose calls are answered, up to 1,000; 16 is a good number. If the model
 * still calls tools after them, the stream ends with CONFER_E_TOOL_ROUNDS. So does a round with
 * more than 256 calls.
 * `timeout_ms`: the time for each answer, 1 to 86,400,000; 300,000 is a good number. It begins
 * when the event is delivered. After that the call fails, and the model receives an error. The
 * idle limit does not run while answers are missing.
 *
 * A call of a tool that the request did not add fails, and its event wants no answer. A tool that
 * takes long should not run in a callback, because it holds up the client's other callbacks and
 * with them questions: clone the event, and answer it on another thread.
 *
 * While a stream waits for answers, nothing of it is on the connection: it outlives the loss of a
 * connection, and its next round goes out on the new one.
 * Errors: CONFER_E_INVALID_ARGUMENT.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_tool_rounds(confer_chat_request *request,
                                                  uint32_t max_rounds,
                                                  uint64_t timeout_ms,
                                                  confer_error **error);

/**
 * Continues a conversation. Its messages are sent before those of the request. When the answer is
 * complete, the request's messages and the model's answer and tool calls are added to it. An
 * answer that fails or is cancelled before it is complete adds nothing.
 *
 * With confer_chat_request_set_tool_rounds(), all calls and answers of the chat are added. Without
 * it, if the model called tools of the application, the conversation contains these calls. The
 * next request has the responses as messages with CONFER_ROLE_TOOL_RESPONSE; each is sent directly
 * after its call. Calls without a response are not sent, and the next complete answer drops them
 * from the conversation; see confer_conversation.
 *
 * NULL, the default, turns this off. The conversation can be freed afterwards.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_conversation(confer_chat_request *request,
                                                   const confer_conversation *conversation,
                                                   confer_error **error);

/**
 * Sets any other property to a JSON value, which is sent unchanged: a property of later servers,
 * or a value that a typed setter refuses. Setting it again replaces it.
 *
 * Errors: CONFER_E_INVALID_JSON, with the position; CONFER_E_INVALID_ARGUMENT for "messages",
 * "model", "webSearch" and "stream", which have other functions, for "clientTools" and "documents"
 * if some were added one by one, and without a name; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_property(confer_chat_request *request,
                                               const char *name,
                                               size_t name_len,
                                               const char *json,
                                               size_t json_len,
                                               confer_error **error);

/**
 * Frees a request. NULL is allowed.
 */
CONFER_API
void confer_chat_request_free(confer_chat_request *request);

/* ================================================================================================
 * Sampling: src/ffi/sampling.rs
 *
 * The model's choice of words, and the length and form of its answer.
 * ================================================================================================ */

/**
 * Sets the temperature: 0 or more; a higher one gives more varied answers. Default: the server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_temperature(confer_chat_request *request,
                                                  double temperature,
                                                  confer_error **error);

/**
 * Samples only from the most likely tokens whose probabilities add up to `top_p`, a number above 0
 * and at most 1. Default: the server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_top_p(confer_chat_request *request, double top_p, confer_error **error);

/**
 * Sets the lowest probability of a token, relative to the most likely one: 0 to 1. Default: the
 * server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_min_p(confer_chat_request *request, double min_p, confer_error **error);

/**
 * Samples only from the `top_k` most likely tokens: 1 or more, or -1 for all. Default: the
 * server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_top_k(confer_chat_request *request,
                                            int32_t top_k,
                                            confer_error **error);

/**
 * Sets the penalty of a token that has occurred before: -2 to 2. Default: the server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_presence_penalty(confer_chat_request *request,
                                                       double penalty,
                                                       confer_error **error);

/**
 * Sets the penalty of a token for each time that it has occurred before: -2 to 2. Default: the
 * server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_frequency_penalty(confer_chat_request *request,
                                                        double penalty,
                                                        confer_error **error);

/**
 * Divides the weight of a token that has occurred before: above 0; 1 changes nothing. Default: the
 * server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_repetition_penalty(confer_chat_request *request,
                                                         double penalty,
                                                         confer_error **error);

/**
 * Sets the maximum number of tokens of the answer: 1 to 2,147,483,647. Default: the server's.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT outside these bounds, which newer servers enforce.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_max_tokens(confer_chat_request *request,
                                                 int64_t max_tokens,
                                                 confer_error **error);

/**
 * Sets whether the answer must be JSON. Default: the server's.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_json(confer_chat_request *request, bool json, confer_error **error);

/**
 * Sets whether the model reasons before it answers, in CONFER_EVENT_THINKING. Default: the
 * server's.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_request_set_thinking(confer_chat_request *request,
                                               bool thinking,
                                               confer_error **error);

/* ================================================================================================
 * Embeddings requests: src/ffi/embeddings.rs
 *
 * Texts whose embeddings the enclave computes.
 * ================================================================================================ */

/**
 * Creates an embeddings request without texts. Send it with confer_embeddings_stream().
 *
 * `request`: receives the request; free it with confer_embeddings_request_free().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_embeddings_request_new(confer_embeddings_request **request, confer_error **error);

/**
 * Adds a text, which is copied.
 *
 * Errors: CONFER_E_TOO_LARGE for the 65th, and for more than 32 MiB in all; CONFER_E_INVALID_UTF8.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_embeddings_request_add_text(confer_embeddings_request *request,
                                                 const char *content,
                                                 size_t content_len,
                                                 confer_error **error);

/**
 * Sets whether the texts are queries. Default false: they are texts to search.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_embeddings_request_set_is_query(confer_embeddings_request *request,
                                                     bool is_query,
                                                     confer_error **error);

/**
 * Frees a request. NULL is allowed.
 */
CONFER_API
void confer_embeddings_request_free(confer_embeddings_request *request);

/* ================================================================================================
 * Extraction requests: src/ffi/extraction.rs
 *
 * Uploads of documents, from memory, a file or a callback, or in pieces.
 * ================================================================================================ */

/**
 * Reads up to `size` bytes of the document into `buffer`, and returns their number; 0 at the end
 * of the document; a negative number to stop, which ends the stream with CONFER_E_STOPPED. Called
 * on the client's callback thread until 1 MiB is read or the document ends. A slow one delays the
 * client's other callbacks.
 *
 * `size` varies: it is the rest of that 1 MiB, or the rest of a document with a `total_length`, if
 * that is less. Never write more than `size`.
 */
typedef int64_t (*confer_read_fn)(void *user_data, uint8_t *buffer, size_t size);

/**
 * Creates a request without a document. Set one, and send it with confer_extraction_stream().
 * CONFER_EVENT_PROGRESS reports the progress of the upload, and the content comes as JSON in
 * pieces, CONFER_EVENT_BODY. An answer or a refusal can come during the upload, which then stops.
 *
 * A server takes documents of up to 50 MiB, a newer one of 1 byte to 256 MiB. A connection takes
 * 10 uploads at once. Further ones wait, in order, for at most the idle limit. A cancelled upload
 * counts until its final chunk was sent.
 *
 * `filename`: not empty. `request`: receives the request; free it with
 * confer_extraction_request_free().
 * Errors: CONFER_E_INVALID_ARGUMENT for an empty name; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_request_new(const char *filename,
                                            size_t filename_len,
                                            confer_extraction_request **request,
                                            confer_error **error);

/**
 * Sets an option to a JSON value: "content_type" and "image_export_mode" (strings), "ocr",
 * "table_structure" and "include_images" (true or false), or an option of later servers. Default:
 * the server's.
 *
 * Errors: CONFER_E_INVALID_JSON, with the position; CONFER_E_INVALID_ARGUMENT without a name, and
 * for "filename" and "total_length", which the library sets; CONFER_E_INVALID_UTF8;
 * CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_request_set_option(confer_extraction_request *request,
                                                   const char *name,
                                                   size_t name_len,
                                                   const char *json,
                                                   size_t json_len,
                                                   confer_error **error);

/**
 * Sets the document from memory, and copies it. Newer servers refuse an empty document with status
 * 400.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT for SIZE_MAX: a document needs its length.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_request_set_document_bytes(confer_extraction_request *request,
                                                           const uint8_t *bytes,
                                                           size_t len,
                                                           confer_error **error);

/**
 * Sets the document from a regular file. This call opens the file, sending reads it, and it is
 * closed when neither the request nor a stream needs it. If the file becomes shorter, the stream
 * ends with CONFER_E_FILE; appended bytes are ignored. Newer servers refuse an empty document with
 * status 400.
 *
 * Errors: CONFER_E_FILE if it cannot be opened or is not a regular file; CONFER_E_INVALID_ARGUMENT
 * for an empty path.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_request_set_document_file(confer_extraction_request *request,
                                                          const char *path,
                                                          size_t path_len,
                                                          confer_error **error);

/**
 * Sets a callback that reads the document. It serves one start, even a start that fails with
 * CONFER_E_TOO_MANY; set it again for another. The library cannot read the document a second time,
 * so it never repeats such a request.
 *
 * `total_length`: the document's length in bytes, or -1 if unknown. Newer servers refuse an
 * unknown length and an empty document with status 400. If the document ends before its length,
 * the stream ends with CONFER_E_INVALID_ARGUMENT.
 * `user_data`: passed to `read`. `destroy`: runs once when `user_data` is no longer needed: on the
 * callback thread after the upload, complete or not, or in the call that drops a document that was
 * never sent. If this call fails, it runs before the call returns.
 * Errors: CONFER_E_INVALID_ARGUMENT without `read`, or for a `total_length` below -1.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_request_set_document_callback(confer_extraction_request *request,
                                                              int64_t total_length,
                                                              confer_read_fn read,
                                                              void *user_data,
                                                              confer_destroy_fn destroy,
                                                              confer_error **error);

/**
 * Announces a document that the application writes to the stream with confer_stream_write(). Write
 * it again for each stream that the request starts. The library does not repeat the request after
 * a refused token.
 *
 * `total_length`: the document's length in bytes, or -1 if it is unknown. Newer servers refuse an
 * unknown length and an empty document with status 400.
 * Errors: CONFER_E_INVALID_ARGUMENT for a `total_length` below -1.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_request_set_document_stream(confer_extraction_request *request,
                                                            int64_t total_length,
                                                            confer_error **error);

/**
 * Frees a request. NULL is allowed.
 */
CONFER_API
void confer_extraction_request_free(confer_extraction_request *request);

/* ================================================================================================
 * Fetch requests: src/ffi/fetch.rs
 *
 * Pages that the enclave fetches.
 * ================================================================================================ */

/**
 * Creates a request for a page. Send it with confer_fetch_stream().
 *
 * `url`: not empty. `request`: receives the request; free it with confer_fetch_request_free().
 * Errors: CONFER_E_INVALID_ARGUMENT for an empty URL; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_fetch_request_new(const char *url,
                                       size_t url_len,
                                       confer_fetch_request **request,
                                       confer_error **error);

/**
 * Sets a header of the fetch; at most 64. Setting one again replaces it.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT without a name; CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE for
 * the 65th, and for more than 32 MiB in all.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_fetch_request_set_header(confer_fetch_request *request,
                                              const char *name,
                                              size_t name_len,
                                              const char *value,
                                              size_t value_len,
                                              confer_error **error);

/**
 * Frees a request. NULL is allowed.
 */
CONFER_API
void confer_fetch_request_free(confer_fetch_request *request);

/* ================================================================================================
 * Raw requests: src/ffi/raw.rs
 *
 * Requests of any route, with a body of any bytes.
 * ================================================================================================ */

/**
 * The answer is one response, in one CONFER_EVENT_BODY.
 */
#define CONFER_ENDING_ONE_RESPONSE 0

/**
 * The answer comes in events, like that of a chat, and ends with CONFER_EVENT_COMPLETION.
 */
#define CONFER_ENDING_COMPLETION 1

/**
 * The answer comes in pieces, each a CONFER_EVENT_BODY, and ends after Content-Length bytes.
 */
#define CONFER_ENDING_CONTENT_LENGTH 2

/**
 * Creates a request without a body. Send it with confer_raw_stream().
 *
 * `verb`: at most 32 bytes. `path`: at most 2,048 bytes. `ending`: the end of the answer, one of
 * CONFER_ENDING_*. The protocol does not mark an end: a wrong `ending` loses the rest of an
 * answer, or waits until the idle limit.
 * (`POST /v2/document/extract`, for a stored document, needs CONFER_ENDING_CONTENT_LENGTH.)
 * `request`: receives the request; free it with confer_raw_request_free().
 * Errors: CONFER_E_INVALID_ARGUMENT for an invalid verb, path or ending; CONFER_E_INVALID_UTF8.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_raw_request_new(const char *verb,
                                     size_t verb_len,
                                     const char *path,
                                     size_t path_len,
                                     int32_t ending,
                                     confer_raw_request **request,
                                     confer_error **error);

/**
 * Sets the body: UTF-8, copied, at most 32 MiB. Default: no body.
 *
 * Errors: CONFER_E_INVALID_UTF8; CONFER_E_TOO_LARGE.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_raw_request_set_body(confer_raw_request *request,
                                          const char *body,
                                          size_t body_len,
                                          confer_error **error);

/**
 * Frees a request. NULL is allowed.
 */
CONFER_API
void confer_raw_request_free(confer_raw_request *request);

/* ================================================================================================
 * Callbacks: src/ffi/callbacks.rs
 *
 * The table of functions that receive a stream's events, or wake-ups to read them.
 * ================================================================================================ */

/**
 * The callbacks of a stream. They run on the client's callback thread, one at a time, in order.
 *
 * Set `size` to `sizeof(confer_stream_callbacks)` and unused members to NULL, for example by
 * `confer_stream_callbacks c = {sizeof c, data, on_event, on_done, destroy, NULL}`. A smaller
 * size, of an older header, is accepted. A larger one, of at most 1,024 bytes, is accepted if all
 * members unknown to this version are zero.
 *
 * The table has two uses. With `on_event`, the library delivers the events. With `on_ready`, it
 * wakes the application, which takes them with confer_stream_next() or confer_stream_collect() on
 * any thread; `on_event` must be NULL then.
 */
typedef struct {
    /**
     * sizeof(confer_stream_callbacks).
     */
    size_t size;
    /**
     * Passed to each call.
     */
    void *user_data;
    /**
     * Receives an event, which is lent during the call. Return 0 to continue; anything else stops
     * the stream, and `on_done` follows with CONFER_E_STOPPED. May be NULL.
     */
    int32_t (*on_event)(void *user_data, confer_stream *stream, const confer_event *event);
    /**
     * Called exactly once, at the end of the stream, after the last event or the last `on_ready`.
     * `status` is CONFER_OK if the answer is complete; otherwise `error` says why it failed, and
     * is lent during the call. May be NULL.
     *
     * With `on_ready`, events may still wait: free the stream only after confer_stream_next() has
     * returned the end, which has the same status. (If confer_close() comes first, it drops these
     * events, and confer_stream_next() returns CONFER_E_CLOSED.)
     */
    void (*on_done)(void *user_data, confer_stream *stream, confer_status status, const confer_error *error);
    /**
     * Destroys the user data. Called exactly once, after `on_done` and all other callbacks. May be
     * NULL.
     */
    confer_destroy_fn destroy;
    /**
     * Called when an event or the end is ready to be taken. Then call confer_stream_next() with a
     * timeout of 0, here or on another thread, until it returns CONFER_TIMEOUT, CONFER_END or an
     * error. The next call comes after everything was taken, and one more comes for the end. A
     * call can come after another thread has taken everything. None begins after
     * confer_stream_free(), but one that has begun can last longer than a free on another thread.
     * After confer_close(), `on_done` may come without a call of `on_ready`. NULL: the library
     * delivers the events to `on_event`.
     */
    void (*on_ready)(void *user_data, confer_stream *stream);
} confer_stream_callbacks;

/* ================================================================================================
 * Starting requests: src/ffi/start.rs
 *
 * One function for each kind of request. Each starts a stream.
 * ================================================================================================ */

/**
 * Sends a chat and starts the stream of its answer.
 *
 * `callbacks`: copied. They run on the client's callback thread, after this call has stored the
 * handle in `stream`. NULL: the application takes the events with confer_stream_next() or
 * confer_stream_collect().
 * `stream`: receives the handle; free it with confer_stream_free(). With callbacks it may be NULL:
 * the stream then runs to its end, and the handle in the callbacks is valid until `on_done`
 * returns and must not be freed.
 *
 * If this call fails, no callback runs except `destroy`, which runs once before the call returns.
 * It does not run for a NULL table or an invalid `size`.
 * Errors: CONFER_E_CLOSED, or the status with which the client ended; CONFER_E_TOO_LARGE,
 * CONFER_E_TOO_MANY; CONFER_E_INVALID_ARGUMENT, for example for a request without a message.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_chat_stream(confer_client *client,
                                 const confer_chat_request *request,
                                 const confer_stream_callbacks *callbacks,
                                 confer_stream **stream,
                                 confer_error **error);

/**
 * Sends an embeddings request and starts the stream of its answer: one CONFER_EVENT_EMBEDDINGS
 * with a row for each text. Otherwise like confer_chat_stream(); CONFER_E_INVALID_ARGUMENT for a
 * request without a text.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_embeddings_stream(confer_client *client,
                                       const confer_embeddings_request *request,
                                       const confer_stream_callbacks *callbacks,
                                       confer_stream **stream,
                                       confer_error **error);

/**
 * Uploads a document and starts the stream of its content: CONFER_EVENT_PROGRESS and
 * CONFER_EVENT_BODY. Otherwise like confer_chat_stream(); CONFER_E_INVALID_ARGUMENT for a request
 * without a document, or with a callback that an earlier start used.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_extraction_stream(confer_client *client,
                                       const confer_extraction_request *request,
                                       const confer_stream_callbacks *callbacks,
                                       confer_stream **stream,
                                       confer_error **error);

/**
 * Makes the enclave fetch a page, and starts the stream of its HTML: one CONFER_EVENT_BODY.
 * Otherwise like confer_chat_stream().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_fetch_stream(confer_client *client,
                                  const confer_fetch_request *request,
                                  const confer_stream_callbacks *callbacks,
                                  confer_stream **stream,
                                  confer_error **error);

/**
 * Sends a raw request and starts the stream of its answer, whose events depend on the request's
 * ending. Otherwise like confer_chat_stream().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_raw_stream(confer_client *client,
                                const confer_raw_request *request,
                                const confer_stream_callbacks *callbacks,
                                confer_stream **stream,
                                confer_error **error);

/**
 * Sends a ping and starts the stream of its answer: one CONFER_EVENT_PONG with the round-trip
 * time. (The library's keepalive needs no call.) Otherwise like confer_chat_stream().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_ping_stream(confer_client *client,
                                 const confer_stream_callbacks *callbacks,
                                 confer_stream **stream,
                                 confer_error **error);

/* ================================================================================================
 * Streams: src/ffi/stream.rs
 *
 * Reading events or a whole answer, cancelling and freeing.
 * ================================================================================================ */

/**
 * Takes the next event.
 *
 * `timeout_ms`: 0 does not wait; negative waits for the next event or the end. The wait on a
 * request is bounded: it ends if the enclave is silent for the idle limit, which does not run
 * while the library waits for the application's document or answers. The wait on a watch is not
 * bounded.
 * `event`: receives the event, lent until the next confer_stream_next() or confer_stream_collect()
 * on this stream, or until the stream is freed. confer_event_clone() keeps it longer.
 *
 * Returns CONFER_OK with an event; CONFER_TIMEOUT without one; CONFER_END when the answer is
 * complete. If the stream failed, the calls after the last event return that status and error.
 * Other errors, which do not end the stream: CONFER_E_BUSY if another thread reads this stream;
 * CONFER_E_WOULD_DEADLOCK in a callback unless `timeout_ms` is 0; CONFER_E_INVALID_ARGUMENT for a
 * stream whose events go to callbacks.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_stream_next(confer_stream *stream,
                                 int64_t timeout_ms,
                                 const confer_event **event,
                                 confer_error **error);

/**
 * Reads to the end and returns the whole answer: the text of a chat, without its reasoning, or the
 * bytes of another answer. It is the content of all CONFER_EVENT_TOKEN and CONFER_EVENT_BODY
 * events, without those that confer_stream_next() has taken before.
 *
 * `timeout_ms`: 0 takes the waiting events; negative waits for the end, as in
 * confer_stream_next().
 * `text`, `len`: receive the text and its length. It may contain NUL characters, and is
 * NUL-terminated. Borrowed until the next confer_stream_collect() or until the stream is freed.
 * `len` may be NULL.
 *
 * Returns CONFER_OK with the text, and again at later calls; CONFER_TIMEOUT before the end: call
 * it again to read on. If the stream failed, it returns that status and error, and
 * confer_stream_text() has the received part.
 * Other errors: CONFER_E_TOO_LARGE above 32 MiB, which cancels the stream and is returned again at
 * later calls; CONFER_E_INVALID_ARGUMENT at once for a ping and for embeddings, for a stream whose
 * events go to callbacks, and for a chat whose tools want answers; CONFER_E_BUSY if another thread
 * reads this stream; CONFER_E_WOULD_DEADLOCK in a callback unless `timeout_ms` is 0.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_stream_collect(confer_stream *stream,
                                    int64_t timeout_ms,
                                    const char **text,
                                    size_t *len,
                                    confer_error **error);

/**
 * Returns the text that confer_stream_collect() has read so far, even after a failure. Empty
 * before the first call; NULL while another thread reads the stream, and for a stream whose events
 * go to callbacks. Borrowed from the stream until the next confer_stream_collect(),
 * NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_stream_text(const confer_stream *stream, size_t *len);

/**
 * Returns a descriptor for poll(), epoll, kqueue or an event loop. It is readable while
 * confer_stream_next() can return at once (level-triggered), so also after the end: then take it
 * out of the set. It belongs to the stream: do not read, write or close it, and do not use it
 * after the stream was freed. Windows has no such descriptor: use `on_ready` there.
 *
 * Errors: CONFER_E_SYSTEM; CONFER_E_INVALID_ARGUMENT for a stream with callbacks, and on Windows.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_stream_fd(confer_stream *stream, int *fd, confer_error **error);

/**
 * Cancels the request; ends a watch, but not its client. Drops undelivered events, and ends the
 * stream with CONFER_E_CANCELLED, unless it has failed or all of the answer was delivered. The
 * server continues, because the protocol has no message for cancelling. Never waits; calling it
 * again changes nothing; NULL is allowed. Any thread; allowed in a callback.
 */
CONFER_API
void confer_stream_cancel(confer_stream *stream);

/**
 * Cancels and frees a stream. Callbacks still run to their end: `on_done`, then `destroy`. A
 * thread that waits in confer_stream_next() wakes. Never waits, and is allowed in a callback. NULL
 * is allowed.
 */
CONFER_API
void confer_stream_free(confer_stream *stream);

/* ================================================================================================
 * Uploads: src/ffi/upload.rs
 *
 * Writing a document in pieces while its request runs.
 * ================================================================================================ */

/**
 * Writes the next bytes of a document that confer_extraction_request_set_document_stream()
 * announced. The library keeps at most 1 MiB of it. This call takes bytes until that space is
 * full, and then waits for more space. Any thread, but one at a time.
 *
 * `timeout_ms`: 0 does not wait; negative waits until all bytes are taken or the upload ends.
 * After a CONFER_EVENT_PROGRESS there may be space.
 * `written`: receives the number of taken bytes.
 *
 * Returns CONFER_OK if all bytes were taken; CONFER_TIMEOUT if not all were.
 * Errors, which do not end the stream: CONFER_E_STALE if the upload has ended, because the answer
 * came early, or the stream failed or was cancelled (bytes may still be taken for a moment after
 * confer_stream_cancel()); CONFER_E_INVALID_ARGUMENT for more bytes than the document still has,
 * none of which are taken, after confer_stream_finish(), and for other streams; CONFER_E_BUSY if
 * another thread writes; CONFER_E_WOULD_DEADLOCK in a callback unless `timeout_ms` is 0.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_stream_write(confer_stream *stream,
                                  const uint8_t *bytes,
                                  size_t len,
                                  int64_t timeout_ms,
                                  size_t *written,
                                  confer_error **error);

/**
 * Ends the document of confer_stream_write(). A document with a known length ends with its last
 * byte and does not need this call. Calling it again changes nothing. Never waits. Any thread.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT if bytes of a known length are missing, which ends the stream,
 * and for other streams; CONFER_E_STALE if the upload has ended before; CONFER_E_BUSY if another
 * thread writes.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_stream_finish(confer_stream *stream, confer_error **error);

/* ================================================================================================
 * Events: src/ffi/event.rs
 *
 * Types and fields of the events of a request.
 * ================================================================================================ */

/**
 * An event of an unknown type or without a type: see confer_event_json(). Not an error.
 */
#define CONFER_EVENT_OTHER 0

/**
 * Text to append to the answer: confer_event_content().
 */
#define CONFER_EVENT_TOKEN 1

/**
 * Reasoning text: confer_event_content().
 */
#define CONFER_EVENT_THINKING 2

/**
 * The server runs one of its tools: confer_event_tool_name() and so on.
 */
#define CONFER_EVENT_SERVER_TOOL_CALL 3

/**
 * That tool's result: confer_event_content(), confer_event_full_content().
 */
#define CONFER_EVENT_SERVER_TOOL_RESPONSE 4

/**
 * The application must run this tool: see confer_chat_request_add_tool() and
 * confer_event_wants_answer().
 */
#define CONFER_EVENT_CLIENT_TOOL_CALL 5

/**
 * The end of an answer of the model. The stream ends after it, unless a round of tools follows:
 * see confer_chat_request_set_tool_rounds().
 */
#define CONFER_EVENT_COMPLETION 6

/**
 * A piece of an answer that does not come in events: a chat without streaming, a page, a document,
 * any other response. See confer_event_content(), whose bytes may be no text and may end within a
 * character, and confer_event_received().
 */
#define CONFER_EVENT_BODY 7

/**
 * A part of an upload was sent: confer_event_sent().
 */
#define CONFER_EVENT_PROGRESS 8

/**
 * The answer to an embeddings request: confer_event_embeddings().
 */
#define CONFER_EVENT_EMBEDDINGS 9

/**
 * The answer to a ping: confer_event_round_trip_us().
 */
#define CONFER_EVENT_PONG 10

/**
 * Returns the type of the event, one of CONFER_EVENT_*. Later versions may add numbers.
 */
CONFER_API
int32_t confer_event_type(const confer_event *event);

/**
 * Returns the received event, a JSON object, or NULL for CONFER_EVENT_BODY and higher numbers.
 * Borrowed from the event, NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_event_json(const confer_event *event, size_t *len);

/**
 * Returns the text of a token, of reasoning or of a tool's result, or the bytes of a piece. If the
 * event has no content: empty for CONFER_EVENT_TOKEN, CONFER_EVENT_THINKING and CONFER_EVENT_BODY,
 * and NULL for other events. It may contain NUL characters: use `len`. Borrowed from the event,
 * NUL-terminated. `len` may be NULL.
 */
CONFER_API
const char *confer_event_content(const confer_event *event, size_t *len);

/**
 * Returns the complete result of a server's tool, which a message history needs, or NULL without
 * one. confer_event_content() can be a shorter text for display. Borrowed from the event. `len`
 * may be NULL.
 */
CONFER_API
const char *confer_event_full_content(const confer_event *event, size_t *len);

/**
 * Returns the id of the event's tool call, or NULL without one. Borrowed from the event. `len` may
 * be NULL.
 */
CONFER_API
const char *confer_event_tool_call_id(const confer_event *event, size_t *len);

/**
 * Returns the tool's name, or NULL without one. Borrowed from the event. `len` may be NULL.
 */
CONFER_API
const char *confer_event_tool_name(const confer_event *event, size_t *len);

/**
 * Returns the tool's arguments, a JSON text, or NULL without them. Borrowed from the event. `len`
 * may be NULL.
 */
CONFER_API
const char *confer_event_tool_arguments(const confer_event *event, size_t *len);

/**
 * For a completion, returns whether the model's answer calls tools of the application. With
 * confer_chat_request_set_tool_rounds(), the stream continues when all calls are answered. Without
 * it, the application sends the results with its next request.
 */
CONFER_API
bool confer_event_pending_tool_calls(const confer_event *event);

/**
 * For a completion, returns the number of tokens of the conversation, or -1 if unknown.
 */
CONFER_API
int64_t confer_event_context_tokens(const confer_event *event);

/**
 * For a completion, returns the maximum number of tokens of a conversation, or -1 if unknown.
 */
CONFER_API
int64_t confer_event_max_context_tokens(const confer_event *event);

/**
 * For CONFER_EVENT_PROGRESS, returns the number of sent bytes of the document; -1 for other
 * events.
 *
 * `total`: receives the length of the document, or -1 if unknown. May be NULL.
 */
CONFER_API
int64_t confer_event_sent(const confer_event *event, int64_t *total);

/**
 * For CONFER_EVENT_BODY, returns the number of received bytes of the answer, with this piece; -1
 * for other events.
 *
 * `total`: receives the length of the answer, or -1 if unknown. May be NULL.
 */
CONFER_API
int64_t confer_event_received(const confer_event *event, int64_t *total);

/**
 * For CONFER_EVENT_EMBEDDINGS, returns the embeddings, one row for each text in the order of the
 * request. All values are finite. NULL for other events. Borrowed from the event.
 *
 * `rows`, `columns`: receive the number of texts and the dimension. May be NULL.
 */
CONFER_API
const float *confer_event_embeddings(const confer_event *event, size_t *rows, size_t *columns);

/**
 * For CONFER_EVENT_PONG, returns the round-trip time in microseconds; -1 for other events.
 */
CONFER_API
int64_t confer_event_round_trip_us(const confer_event *event);

/**
 * Returns a copy of an event. It stays valid when a lent event does not. Free it with
 * confer_event_free(). It does not count as unread. NULL for NULL.
 */
CONFER_API
confer_event *confer_event_clone(const confer_event *event);

/**
 * Frees a clone. NULL is allowed. Do not free an event that a stream or a callback lends.
 */
CONFER_API
void confer_event_free(confer_event *event);

/* ================================================================================================
 * Tool calls: src/ffi/tool.rs
 *
 * Answers of the application to the model's calls of its tools.
 * ================================================================================================ */

/**
 * Returns whether the event wants an answer from the application. True for CONFER_EVENT_ASK_TOKEN,
 * CONFER_EVENT_ASK_RELEASE, and CONFER_EVENT_CLIENT_TOOL_CALL in a chat with
 * confer_chat_request_set_tool_rounds(); false for other events. Answer a tool call with
 * confer_event_answer_tool() or confer_event_fail_tool(), at once or later, from any thread, on
 * the event or a clone of it.
 *
 * If the event and its last clone are freed without an answer, the tool call fails. The library
 * frees a lent event when `on_event` returns, at the next confer_stream_next(), or with its
 * stream. To answer later, clone the event first.
 */
CONFER_API
bool confer_event_wants_answer(const confer_event *event);

/**
 * Answers a tool call with the tool's result. Never waits. If the stream has ended, returns
 * CONFER_OK and drops the answer.
 *
 * `content`: any text, also JSON; at most 20,000,000 characters when written as a JSON string.
 * Errors: CONFER_E_STALE if the call was answered before, or failed at its time limit;
 * CONFER_E_INVALID_ARGUMENT for an event that wants no answer; CONFER_E_INVALID_UTF8 and
 * CONFER_E_TOO_LARGE, after which the call still wants its answer.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_event_answer_tool(const confer_event *event,
                                       const char *content,
                                       size_t content_len,
                                       confer_error **error);

/**
 * Answers a tool call with a failure. The model reads "Error: " and the reason, and continues.
 * Otherwise like confer_event_answer_tool().
 */
CONFER_MUST_USE CONFER_API
confer_status confer_event_fail_tool(const confer_event *event,
                                     const char *reason,
                                     size_t reason_len,
                                     confer_error **error);

/* ================================================================================================
 * Watching a client: src/ffi/watch.rs
 *
 * A stream of the client's events, and the questions that it may ask.
 * ================================================================================================ */

/**
 * The application answers CONFER_EVENT_ASK_TOKEN.
 */
#define CONFER_ASK_TOKEN 1

/**
 * The application answers CONFER_EVENT_ASK_RELEASE.
 */
#define CONFER_ASK_RELEASE 2

/**
 * Sets the questions that the application answers: CONFER_ASK_TOKEN, CONFER_ASK_RELEASE, both, or
 * 0. Default 0. A question is an event of a watch: see confer_client_watch(). An answer is due
 * within CONFER_DURATION_ANSWER.
 *
 *     Question                   Asked                      No answer in time      Refused
 *     -----------------------    -----------------------    -------------------    -----------
 *     token for a connection     before the attempt         the attempt fails      the same,
 *                                                           (CONFER_E_TOKEN)       no retry
 *     token that expires soon    a minute before its `exp`  the connection keeps   the same
 *                                                           the old token
 *     token after status 401     before the request is      the request ends       the same
 *     or 402                     sent once more             with that status
 *     another release            before the handshake is    the attempt fails      the client
 *                                completed                                         ends
 *
 * The first attempt uses the configured token, if there is one. Otherwise it asks, except in
 * confer_connect(), which never asks. Questions before a token's end and after status 401 or 402
 * need CONFER_LIMIT_ATTEMPTS above 0. A release that nobody accepts is never used.
 *
 * The library gives the server whatever token the application answers. After a refusal,
 * confer_event_error() of the CONFER_EVENT_RETRY before the question says so: do not answer with
 * the same token again.
 *
 * Errors: CONFER_E_INVALID_ARGUMENT for an unknown bit.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_config_set_ask(confer_config *config, uint32_t questions, confer_error **error);

/**
 * Opens a stream of the client's events:
 *
 *     CONFER_EVENT_STAGE           a stage of connecting began: confer_event_stage()
 *     CONFER_EVENT_CONNECTED       the client has a verified connection: confer_event_report(),
 *                                  confer_event_release_changed()
 *     CONFER_EVENT_DISCONNECTED    it broke, and the client makes another one:
 *                                  confer_event_error()
 *     CONFER_EVENT_RETRY           the next attempt, after a loss or to replace a connection that
 *                                  still serves: confer_event_attempt(), confer_event_delay_ms(),
 *                                  and confer_event_error() for the failure of the previous one
 *     CONFER_EVENT_ASK_TOKEN       a question: confer_event_token_reason()
 *     CONFER_EVENT_ASK_RELEASE     a question: confer_event_report(),
 *                                  confer_event_previous_report()
 *     CONFER_EVENT_ANSWERED        a question of this watch is over
 *     the end of the stream        the client has ended: CONFER_OK after confer_close(), otherwise
 *                                  the client's error
 *
 * Events of a watch and of requests have no order among each other, except that callbacks of a
 * watch go first when both wait. A watch begins with the present state and any open question, so
 * it can be opened at any time. If nobody reads it, old events are dropped: see
 * confer_stream_dropped(). The present state, an open question and the end are kept. A watch does
 * not keep its client alive; cancelling or freeing it ends only the watch. Several watches of one
 * client can be open.
 *
 * `callbacks`, `stream`: as for confer_chat_stream(). For a client that was closed, a call with
 * callbacks fails with CONFER_E_CLOSED; without callbacks, the stream returns its end at once.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_client_watch(confer_client *client,
                                  const confer_stream_callbacks *callbacks,
                                  confer_stream **stream,
                                  confer_error **error);

/**
 * Returns the number of events that a watch dropped because nobody read them. 0 for other streams.
 */
CONFER_API
uint64_t confer_stream_dropped(const confer_stream *stream);

/* ================================================================================================
 * Client events: src/ffi/client_event.rs
 *
 * Types and fields of the events of a watch, and answers to its questions.
 * ================================================================================================ */

/**
 * A stage of connecting began.
 */
#define CONFER_EVENT_STAGE 100

/**
 * The client has a verified connection.
 */
#define CONFER_EVENT_CONNECTED 101

/**
 * The connection broke.
 */
#define CONFER_EVENT_DISCONNECTED 102

/**
 * The client connects again after a delay.
 */
#define CONFER_EVENT_RETRY 103

/**
 * The client needs a token: confer_event_answer_token(), confer_event_refuse_token().
 */
#define CONFER_EVENT_ASK_TOKEN 104

/**
 * The enclave's release differs from the previous one: confer_event_answer_release().
 */
#define CONFER_EVENT_ASK_RELEASE 105

/**
 * The open question is over: it was answered, or its answer is no longer needed. A client has only
 * one open question at a time.
 */
#define CONFER_EVENT_ANSWERED 106

/**
 * The client has had no connection yet, and needs a token for one.
 */
#define CONFER_TOKEN_FIRST 0

/**
 * Another connection needs a token.
 */
#define CONFER_TOKEN_RECONNECT 1

/**
 * The token in use expires soon.
 */
#define CONFER_TOKEN_EXPIRING 2

/**
 * The server refused the last token: with HTTP status 401, 402 or 403 for the upgrade, with 500
 * for the upgrade if the token has expired, or with status 401 or 402 for a request.
 */
#define CONFER_TOKEN_REFUSED 3

/**
 * Returns the stage of CONFER_EVENT_STAGE, one of CONFER_STAGE_*; -1 for other events.
 */
CONFER_API
int32_t confer_event_stage(const confer_event *event);

/**
 * Returns the report of CONFER_EVENT_CONNECTED, or of the enclave in CONFER_EVENT_ASK_RELEASE;
 * NULL for other events. Borrowed from the event.
 */
CONFER_API
const confer_report *confer_event_report(const confer_event *event);

/**
 * Returns the report of the previous connection, for CONFER_EVENT_ASK_RELEASE; NULL for other
 * events. Borrowed from the event.
 */
CONFER_API
const confer_report *confer_event_previous_report(const confer_event *event);

/**
 * Returns the error of CONFER_EVENT_DISCONNECTED, or of the failed attempt before
 * CONFER_EVENT_RETRY; NULL for the first retry after a lost connection, for the first attempt to
 * replace a connection unless an earlier one to replace it failed, and for other events.
 * Borrowed from the event.
 */
CONFER_API
const confer_error *confer_event_error(const confer_event *event);

/**
 * Returns whether the release has changed since the previous CONFER_EVENT_CONNECTED of this watch,
 * even if it has changed back. False for the first one and for other events.
 */
CONFER_API
bool confer_event_release_changed(const confer_event *event);

/**
 * Returns the number of the attempt of CONFER_EVENT_RETRY; 0 for other events. Consecutive
 * attempts are counted from 1. The first attempt of a client has no event, so its first retry is
 * number 2.
 */
CONFER_API
uint32_t confer_event_attempt(const confer_event *event);

/**
 * Returns the delay before the attempt of CONFER_EVENT_RETRY, in milliseconds; -1 for other
 * events.
 */
CONFER_API
int64_t confer_event_delay_ms(const confer_event *event);

/**
 * Returns the reason of CONFER_EVENT_ASK_TOKEN, one of CONFER_TOKEN_*; -1 for other events.
 */
CONFER_API
int32_t confer_event_token_reason(const confer_event *event);

/**
 * Answers CONFER_EVENT_ASK_TOKEN, on the event or a clone of it, from any thread, at once or
 * later. After an invalid token the question stays open: answer again, or refuse it with
 * confer_event_refuse_token().
 *
 * Errors: those of confer_config_set_token(); CONFER_E_STALE if the question is over;
 * CONFER_E_INVALID_ARGUMENT for another event.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_event_answer_token(const confer_event *event,
                                        const char *token,
                                        size_t token_len,
                                        confer_error **error);

/**
 * Answers CONFER_EVENT_ASK_TOKEN without a token. `reason` becomes part of errors and of the log,
 * so it must not contain a secret; 1,024 characters of it are kept.
 *
 * Errors: CONFER_E_STALE if the question is over; CONFER_E_INVALID_UTF8; CONFER_E_INVALID_ARGUMENT
 * for another event.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_event_refuse_token(const confer_event *event,
                                        const char *reason,
                                        size_t reason_len,
                                        confer_error **error);

/**
 * Answers CONFER_EVENT_ASK_RELEASE. Accepting applies only to the manifest in this event's report.
 * Refusing ends the client with CONFER_E_RELEASE_REFUSED.
 *
 * Errors: CONFER_E_STALE if the question is over; CONFER_E_INVALID_ARGUMENT for another event.
 */
CONFER_MUST_USE CONFER_API
confer_status confer_event_answer_release(const confer_event *event, bool accept, confer_error **error);

/* ================================================================================================
 * Names: src/ffi/names.rs
 *
 * The names of constants, for logs.
 * ================================================================================================ */

/**
 * Returns the name of one of CONFER_EVENT_*, such as "CONFER_EVENT_TOKEN"; "CONFER_EVENT_UNKNOWN"
 * for a number that this version does not know. Static, NUL-terminated, never NULL. Any thread.
 */
CONFER_API
const char *confer_event_type_name(int32_t kind);

/**
 * Returns the name of one of CONFER_ROLE_*, such as "CONFER_ROLE_USER". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_role_name(int32_t role);

/**
 * Returns the name of one of CONFER_ENDING_*, such as "CONFER_ENDING_COMPLETION". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_ending_name(int32_t ending);

/**
 * Returns the name of one of CONFER_PROGRESS_*, such as "CONFER_PROGRESS_NOT_SENT". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_progress_name(int32_t progress);

/**
 * Returns the name of one of CONFER_OUTCOME_*, such as "CONFER_OUTCOME_PASS". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_outcome_name(int32_t outcome);

/**
 * Returns the name of one of CONFER_STAGE_*, such as "CONFER_STAGE_TLS". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_stage_name(int32_t stage);

/**
 * Returns the name of one of CONFER_CLIENT_*, such as "CONFER_CLIENT_CONNECTED". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_client_state_name(int32_t state);

/**
 * Returns the name of one of CONFER_TOKEN_*, such as "CONFER_TOKEN_REFUSED". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_token_reason_name(int32_t reason);

/**
 * Returns the name of one of CONFER_ROOTS_*, such as "CONFER_ROOTS_BUNDLED". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_roots_name(int32_t roots);

/**
 * Returns the name of one of CONFER_LIMIT_*, such as "CONFER_LIMIT_REQUESTS". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_limit_name(int32_t limit);

/**
 * Returns the name of one of CONFER_LOG_*, such as "CONFER_LOG_WARN". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_log_level_name(int32_t level);

/**
 * Returns the name of one of CONFER_COUNTER_*, such as "CONFER_COUNTER_PINGS_SENT". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_counter_name(int32_t counter);

/**
 * Returns the name of one of CONFER_DURATION_*, such as "CONFER_DURATION_CONNECT". Otherwise like
 * confer_event_type_name().
 */
CONFER_API
const char *confer_duration_name(int32_t duration);

#ifdef __cplusplus
} // extern "C"
#endif

#endif // CONFER_H
