// confer.hpp: confer.h for C++17 and later, header-only.
//
// Handles are move-only and freed by their destructors. Failures are exceptions of type
// confer::error. Callbacks are std::function. confer.h has the whole contract of each call, under
// the same name. No exception ever crosses into C. After a move, calls throw
// CONFER_E_INVALID_ARGUMENT, and getters return nothing. get() returns the handle for calls of
// confer.h, NULL after a move.
//
//     #include <confer.hpp>
//     #include <cstdlib>
//     #include <iostream>
//
//     int main() try {
//         const char *token = std::getenv("CONFER_TOKEN");
//         auto client = confer::client::connect(confer::config().token(token ? token : ""));
//         auto answer = client.pull(confer::chat_request().message(confer::role::user, "Hello!"));
//         std::cout << answer.collect() << '\n';
//     } catch (const confer::error &error) {
//         std::cerr << error.name() << ": " << error.what() << '\n';
//         return 1;
//     }
//
//     c++ -std=c++17 hello.cpp $(pkg-config --cflags --libs confer) -o hello
//
// Streams     client::pull() starts a stream that the application reads, client::stream() one with
//             callbacks. Both take any request, ping() and watch(). watch() is the stream of the
//             client's events; client::watch() gives them to functions, which also answer
//             questions for a token or about another release.
// Tools       When the model calls a chat_request::tool() that has a function, this file runs it,
//             before the stream shows the call, which then wants no answer from its reader.
//             std::string(std::string_view arguments) answers at once. void(const confer::event
//             &call) can copy the call, and answer the copy later on any thread. It runs in
//             pull_stream::next() or on the client's callback thread. There it cannot read this
//             stream: CONFER_E_BUSY. Each stream has a copy of its request's functions.
// Lifetimes   A std::string_view lives as long as the object that returned it, unless the comment of
//             its function says otherwise. An `event` is lent during its callback, or until the
//             stream is read again, and so are its views. A copy of it outlives the loan. Copies of a `report` or an `error` share it.
// Callbacks   Run on the client's callback thread. An exception in on_event stops the stream and
//             arrives in on_done and stream::wait(). The model receives a tool's exception as the
//             result. An exception in a token or release function refuses the question, without
//             its text. All other exceptions are dropped. The clients of one `config` share its
//             log function: they call it in turns, but on different threads.
// Destructors The destructor of a stream with functions cancels it and waits until its functions
//             have returned and were destroyed, so they may refer to local variables. It does not
//             wait in a callback or a forked child. No other destructor waits: functions that read
//             a document or receive the log may run until client::close() has returned true.

#ifndef CONFER_HPP
#define CONFER_HPP

#if (defined(_MSVC_LANG) ? _MSVC_LANG : __cplusplus) < 201703L
#error "confer.hpp needs C++17 or later"
#endif
#if !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#error "confer.hpp reports failures as exceptions: enable them, or use confer.h"
#endif

#include <confer.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <istream>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace confer {

using std::chrono::milliseconds;

// Waits without a limit. The configuration's limits still apply.
inline constexpr milliseconds forever{-1};

// The constants of confer.h. A later version of the library may return other numbers.
// clang-format off
enum class event_type : std::int32_t {
    other = CONFER_EVENT_OTHER, token = CONFER_EVENT_TOKEN, thinking = CONFER_EVENT_THINKING,
    server_tool_call = CONFER_EVENT_SERVER_TOOL_CALL, server_tool_response = CONFER_EVENT_SERVER_TOOL_RESPONSE,
    client_tool_call = CONFER_EVENT_CLIENT_TOOL_CALL, completion = CONFER_EVENT_COMPLETION, body = CONFER_EVENT_BODY,
    progress = CONFER_EVENT_PROGRESS, embeddings = CONFER_EVENT_EMBEDDINGS, pong = CONFER_EVENT_PONG,
    stage = CONFER_EVENT_STAGE, connected = CONFER_EVENT_CONNECTED, disconnected = CONFER_EVENT_DISCONNECTED,
    retry = CONFER_EVENT_RETRY, ask_token = CONFER_EVENT_ASK_TOKEN, ask_release = CONFER_EVENT_ASK_RELEASE,
    answered = CONFER_EVENT_ANSWERED,
};
// The author of a message.
enum class role : std::int32_t {
    user = CONFER_ROLE_USER, assistant = CONFER_ROLE_ASSISTANT, system = CONFER_ROLE_SYSTEM,
    developer = CONFER_ROLE_DEVELOPER, tool_call = CONFER_ROLE_TOOL_CALL, tool_response = CONFER_ROLE_TOOL_RESPONSE,
};
// The end of the answer to a raw_request.
enum class ending : std::int32_t {
    one_response = CONFER_ENDING_ONE_RESPONSE, completion = CONFER_ENDING_COMPLETION,
    content_length = CONFER_ENDING_CONTENT_LENGTH,
};
// How far a failed request had come.
enum class progress : std::int32_t {
    not_sent = CONFER_PROGRESS_NOT_SENT, maybe_sent = CONFER_PROGRESS_MAYBE_SENT,
    partly_answered = CONFER_PROGRESS_PARTLY_ANSWERED,
};
// The result of a check. Fail and skip refuse the enclave.
enum class outcome : std::int32_t {
    pass = CONFER_OUTCOME_PASS, warn = CONFER_OUTCOME_WARN, fail = CONFER_OUTCOME_FAIL, skip = CONFER_OUTCOME_SKIP,
};
// A stage of connecting, or all of them for times.
enum class stage : std::int32_t {
    resolve = CONFER_STAGE_RESOLVE, tcp = CONFER_STAGE_TCP, tls = CONFER_STAGE_TLS, upgrade = CONFER_STAGE_UPGRADE,
    handshake = CONFER_STAGE_HANDSHAKE, key_set = CONFER_STAGE_KEY_SET, verify = CONFER_STAGE_VERIFY,
    proxy = CONFER_STAGE_PROXY, all = CONFER_STAGE_ALL,
};
// The state of a client. Only ended is final.
enum class client_state : std::int32_t {
    connecting = CONFER_CLIENT_CONNECTING, connected = CONFER_CLIENT_CONNECTED,
    reconnecting = CONFER_CLIENT_RECONNECTING, ended = CONFER_CLIENT_ENDED,
};
// Why a client needs a token.
enum class token_reason : std::int32_t {
    first = CONFER_TOKEN_FIRST, reconnect = CONFER_TOKEN_RECONNECT, expiring = CONFER_TOKEN_EXPIRING,
    refused = CONFER_TOKEN_REFUSED,
};
// The authorities that the TLS connection trusts.
enum class roots : std::int32_t { bundled = CONFER_ROOTS_BUNDLED, system = CONFER_ROOTS_SYSTEM };
// The keys of config::duration().
enum class duration : std::int32_t {
    stage_resolve = CONFER_DURATION_STAGE_RESOLVE, stage_tcp = CONFER_DURATION_STAGE_TCP,
    stage_tls = CONFER_DURATION_STAGE_TLS, stage_upgrade = CONFER_DURATION_STAGE_UPGRADE,
    stage_handshake = CONFER_DURATION_STAGE_HANDSHAKE, stage_key_set = CONFER_DURATION_STAGE_KEY_SET,
    stage_verify = CONFER_DURATION_STAGE_VERIFY, stage_proxy = CONFER_DURATION_STAGE_PROXY,
    connect = CONFER_DURATION_CONNECT, answer = CONFER_DURATION_ANSWER, keepalive = CONFER_DURATION_KEEPALIVE,
    dead_peer = CONFER_DURATION_DEAD_PEER, probe = CONFER_DURATION_PROBE, idle_events = CONFER_DURATION_IDLE_EVENTS,
    idle_other = CONFER_DURATION_IDLE_OTHER, max_age = CONFER_DURATION_MAX_AGE,
    first_retry = CONFER_DURATION_FIRST_RETRY, longest_retry = CONFER_DURATION_LONGEST_RETRY,
};
// The keys of config::limit().
enum class limit : std::int32_t {
    stream_rest = CONFER_LIMIT_STREAM_REST, stream_unread = CONFER_LIMIT_STREAM_UNREAD,
    client_unread = CONFER_LIMIT_CLIENT_UNREAD, unfinished = CONFER_LIMIT_UNFINISHED, unsent = CONFER_LIMIT_UNSENT,
    requests = CONFER_LIMIT_REQUESTS, attempts = CONFER_LIMIT_ATTEMPTS,
};
// How important a record of the log is.
enum class log_level : std::int32_t {
    error = CONFER_LOG_ERROR, warn = CONFER_LOG_WARN, info = CONFER_LOG_INFO, debug = CONFER_LOG_DEBUG,
};
// The keys of client::counter().
enum class counter : std::int32_t {
    bytes_sent = CONFER_COUNTER_BYTES_SENT, bytes_received = CONFER_COUNTER_BYTES_RECEIVED,
    messages_sent = CONFER_COUNTER_MESSAGES_SENT, messages_received = CONFER_COUNTER_MESSAGES_RECEIVED,
    pings_sent = CONFER_COUNTER_PINGS_SENT, pings_answered = CONFER_COUNTER_PINGS_ANSWERED,
    round_trip_us = CONFER_COUNTER_ROUND_TRIP_US, connections = CONFER_COUNTER_CONNECTIONS,
    failed_attempts = CONFER_COUNTER_FAILED_ATTEMPTS,
};
// clang-format on

// The questions that the application answers.
enum class ask : std::uint32_t { nothing = 0, token = CONFER_ASK_TOKEN, release = CONFER_ASK_RELEASE };
// Joins questions.
constexpr ask operator|(ask a, ask b) noexcept {
    return static_cast<ask>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}

namespace detail {

template <class Enum>
constexpr std::underlying_type_t<Enum> number(Enum value) noexcept {
    return static_cast<std::underlying_type_t<Enum>>(value);
}

}  // namespace detail

// Returns the constant's name in confer.h, such as "CONFER_ROLE_USER".
inline std::string_view name(event_type value) { return confer_event_type_name(detail::number(value)); }
inline std::string_view name(role value) { return confer_role_name(detail::number(value)); }
inline std::string_view name(ending value) { return confer_ending_name(detail::number(value)); }
inline std::string_view name(progress value) { return confer_progress_name(detail::number(value)); }
inline std::string_view name(outcome value) { return confer_outcome_name(detail::number(value)); }
inline std::string_view name(stage value) { return confer_stage_name(detail::number(value)); }
inline std::string_view name(client_state value) { return confer_client_state_name(detail::number(value)); }
inline std::string_view name(token_reason value) { return confer_token_reason_name(detail::number(value)); }
inline std::string_view name(roots value) { return confer_roots_name(detail::number(value)); }
inline std::string_view name(duration value) { return confer_duration_name(detail::number(value)); }
inline std::string_view name(limit value) { return confer_limit_name(detail::number(value)); }
inline std::string_view name(log_level value) { return confer_log_level_name(detail::number(value)); }
inline std::string_view name(counter value) { return confer_counter_name(detail::number(value)); }
inline std::string_view status_name(confer_status status) { return confer_status_name(status); }

namespace detail {

template <auto Free>
struct deleter {
    template <class T>
    void operator()(T *handle) const noexcept {
        Free(handle);
    }
};

template <class T, auto Free>
using owned = std::unique_ptr<T, deleter<Free>>;

using text = std::optional<std::string_view>;

// Returns a getter's borrowed text, or nullopt for NULL.
template <class Getter, class... Arguments>
text view(Getter getter, Arguments... arguments) {
    std::size_t length = 0;
    const char *bytes = getter(arguments..., &length);
    return bytes == nullptr ? text() : text(std::in_place, bytes, length);
}

// Returns nullopt for a negative number.
template <class T = std::int64_t>
std::optional<T> known(std::int64_t value) {
    return value < 0 ? std::nullopt : std::optional<T>(static_cast<T>(value));
}

// Returns whether a call may wait here: CONFER_E_WOULD_DEADLOCK on a callback thread of any client,
// CONFER_E_FORKED in a forked child, where no callback will run, otherwise CONFER_OK.
inline confer_status may_wait() noexcept {
    // confer_close() checks its handle last.
    const confer_status status = confer_close(nullptr, 1, nullptr);
    return status == CONFER_E_INVALID_ARGUMENT ? CONFER_OK : status;
}

}  // namespace detail

// One verification check of a report.
struct check {
    std::string_view id;
    confer::outcome outcome;
    std::string_view detail;
    detail::text expected;
    detail::text observed;
};

// Why an enclave was trusted or refused. Immutable. Copies share the handle.
class report {
public:
    // Owns `taken`.
    explicit report(confer_report *taken) : handle_(taken, confer_report_free) {}

    // Returns whether the enclave is trusted.
    bool verified() const noexcept { return confer_report_verified(get()); }
    // The report, and the evidence for verify_evidence(), as JSON.
    std::string_view json() const { return detail::view(confer_report_json, get()).value_or(""); }
    std::string_view evidence() const { return detail::view(confer_report_evidence, get()).value_or(""); }

    // The checks, in their order. Throws std::out_of_range for a wrong index.
    std::size_t check_count() const noexcept { return confer_report_check_count(get()); }
    confer::check check(std::size_t index) const {
        if (index >= check_count()) throw std::out_of_range("confer::report::check");
        return {detail::view(confer_report_check_id, get(), index).value_or(""),
                outcome(confer_report_check_outcome(get(), index)),
                detail::view(confer_report_check_detail, get(), index).value_or(""),
                detail::view(confer_report_check_expected, get(), index),
                detail::view(confer_report_check_observed, get(), index)};
    }

    // The next functions return a value of the report, or nullopt if it is unknown. This one: the
    // platform, such as "TDX".
    detail::text platform() const { return detail::view(confer_report_platform, get()); }
    // The applied policy and its SHA-256, 64 hex digits.
    detail::text policy_name() const { return detail::view(confer_report_policy_name, get()); }
    detail::text policy_sha256() const { return detail::view(confer_report_policy_sha256, get()); }
    // The enclave's URL without its query. Nullopt in an offline verification.
    detail::text endpoint() const { return detail::view(confer_report_endpoint, get()); }
    // The Noise key that the enclave proved to hold, 64 hex digits.
    detail::text server_key() const { return detail::view(confer_report_server_key, get()); }
    // The SHA-256 of the release's manifest, 64 hex digits, and the release's versions.
    detail::text manifest_sha256() const { return detail::view(confer_report_manifest_sha256, get()); }
    detail::text image_version() const { return detail::view(confer_report_image_version, get()); }
    detail::text proxy_version() const { return detail::view(confer_report_proxy_version, get()); }
    // The email address in the signing certificate, and the identity provider that confirmed it.
    detail::text signer() const { return detail::view(confer_report_signer, get()); }
    detail::text issuer() const { return detail::view(confer_report_issuer, get()); }
    // The URL of the transparency log with the signature.
    detail::text log_url() const { return detail::view(confer_report_log_url, get()); }
    // The measurements of the virtual firmware and of the running software, 96 hex digits each.
    detail::text mrtd() const { return detail::view(confer_report_mrtd, get()); }
    detail::text rtmr0() const { return detail::view(confer_report_rtmr0, get()); }
    detail::text rtmr1() const { return detail::view(confer_report_rtmr1, get()); }
    detail::text rtmr2() const { return detail::view(confer_report_rtmr2, get()); }
    detail::text rtmr3() const { return detail::view(confer_report_rtmr3, get()); }
    // The patch level according to Intel, such as "UpToDate", and its date in RFC 3339 format.
    detail::text tcb_status() const { return detail::view(confer_report_tcb_status, get()); }
    detail::text tcb_date() const { return detail::view(confer_report_tcb_date, get()); }
    // The security version of the TDX module.
    std::optional<std::int64_t> seam_svn() const { return detail::known(confer_report_seam_svn(get())); }
    // Intel's security advisories that apply to the machine.
    std::vector<std::string_view> advisories() const {
        std::vector<std::string_view> all(confer_report_advisory_count(get()));
        for (std::size_t at = 0; at < all.size(); ++at) all[at] = *detail::view(confer_report_advisory, get(), at);
        return all;
    }
    // The index of the log entry, and when the log added it, in Unix seconds.
    std::optional<std::int64_t> log_index() const { return detail::known(confer_report_log_index(get())); }
    std::optional<std::int64_t> log_integrated_time() const {
        return detail::known(confer_report_log_integrated_time(get()));
    }
    // The time of the verification and the expiry of Intel's token, in Unix seconds.
    std::optional<std::int64_t> verified_at() const { return detail::known(confer_report_verified_at(get())); }
    std::optional<std::int64_t> expires_at() const { return detail::known(confer_report_expires_at(get())); }
    // The duration of a stage of connecting, or of all stages for stage::all.
    std::optional<std::chrono::microseconds> timing(stage of) const {
        return detail::known<std::chrono::microseconds>(confer_report_timing_us(get(), detail::number(of)));
    }

    const confer_report *get() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<const confer_report> handle_;
};

namespace detail {

// Returns a report that outlives a lent one.
inline std::optional<report> keep(const confer_report *lent) {
    return lent ? std::optional<report>(confer_report_clone(lent)) : std::nullopt;
}

}  // namespace detail

// Why a call or a stream failed. what() is the message. Copies share the handle.
class error : public std::runtime_error {
public:
    // Owns `taken`, which may be NULL. `status` is the result of the call.
    explicit error(confer_status status, confer_error *taken = nullptr)
        : error(status, std::shared_ptr<const confer_error>(taken, confer_error_free)) {}

    // Returns the CONFER_E_* constant.
    confer_status status() const noexcept { return status_; }
    // The constant's name, such as "CONFER_E_REJECTED".
    std::string_view name() const noexcept { return confer_status_name(status_); }
    // The check that refused the enclave, such as "tdx.key_binding".
    detail::text check_id() const { return detail::view(confer_error_check_id, get()); }
    // The HTTP status of a refused upgrade or request.
    std::optional<std::int32_t> http_status() const {
        const std::int32_t status = confer_error_http_status(get());
        return status ? std::optional<std::int32_t>(status) : std::nullopt;
    }
    // Returns whether the same call may succeed later. Repeating may do harm: see progress().
    bool retryable() const noexcept { return confer_error_retryable(get()); }
    // The delay that the peer requested.
    std::optional<milliseconds> retry_delay() const {
        return detail::known<milliseconds>(confer_error_retry_delay_ms(get()));
    }
    // Returns how far the request had come. Empty for a timeout, and for other errors that the
    // library did not make.
    std::optional<confer::progress> progress() const {
        if (get() == nullptr) return std::nullopt;
        return confer::progress(confer_error_progress(get()));
    }
    // The enclave's reason. Do not log it: it may repeat parts of the request.
    detail::text peer_text() const { return detail::view(confer_error_peer_text, get()); }
    // The report of a refused enclave.
    std::optional<confer::report> report() const { return detail::keep(confer_error_report(get())); }

    const confer_error *get() const noexcept { return handle_.get(); }

private:
    error(confer_status status, std::shared_ptr<const confer_error> handle)
        : std::runtime_error(
              std::string(detail::view(confer_error_message, handle.get()).value_or(confer_status_description(status)))),
          status_(status),
          handle_(std::move(handle)) {}

    confer_status status_;
    std::shared_ptr<const confer_error> handle_;
};

namespace detail {

// Returns the arguments for C: a text becomes a pointer and a length.
template <class T>
auto flat(T value) {
    if constexpr (std::is_same_v<T, std::string_view>) return std::make_tuple(value.data(), value.size());
    else if constexpr (std::is_enum_v<T>) return std::make_tuple(number(value));
    else return std::make_tuple(value);
}
inline std::tuple<std::int64_t> flat(milliseconds timeout) { return {timeout.count()}; }

// Calls a function of confer.h whose last parameter is the error. Returns CONFER_TIMEOUT and
// CONFER_END, and throws any other failure.
template <class Function, class... Arguments>
confer_status call(Function function, Arguments... arguments) {
    confer_error *failure = nullptr;
    const confer_status status = std::apply([&](auto... flattened) { return function(flattened..., &failure); },
                                            std::tuple_cat(flat(arguments)...));
    if (status >= CONFER_E_INVALID_ARGUMENT) throw error(status, failure);
    return status;
}

// Creates a handle of type T with `function(arguments..., &handle, &error)`.
template <class T, class Function, class... Arguments>
T *make(Function function, Arguments... arguments) {
    T *handle = nullptr;
    call(function, arguments..., &handle);
    return handle;
}

// A handle whose setters return the object, for chaining.
template <class Self, class T, auto Free>
class settings {
public:
    const T *get() const noexcept { return handle_.get(); }

protected:
    explicit settings(T *handle) noexcept : handle_(handle) {}
    template <class Setter, class... Arguments>
    Self &set(Setter setter, Arguments... arguments) {
        call(setter, handle_.get(), arguments...);
        return static_cast<Self &>(*this);
    }

    owned<T, Free> handle_;
};

// A function that runs one thread at a time. C owns it until it calls destroy().
template <class Function>
struct shared {
    explicit shared(Function from) : function(std::move(from)) {}

    template <class... Arguments>
    auto run(Arguments &&...arguments) {
        const std::lock_guard<std::mutex> lock(mutex);
        return function(std::forward<Arguments>(arguments)...);
    }
    static shared &of(void *data) noexcept { return *static_cast<shared *>(data); }
    static void destroy(void *data) noexcept { delete static_cast<shared *>(data); }

    Function function;
    std::mutex mutex;
};

// Passes a function to C, which always calls destroy(). Returns NULL for an empty function.
template <class Function>
void *give(Function function) {
    return function ? new shared<Function>(std::move(function)) : nullptr;
}

}  // namespace detail

// Returns the version of the loaded library as text, such as "0.1.0".
inline std::string_view version() { return confer_version_string(); }
// Returns the version of the loaded library. Equal to CONFER_VERSION_NUMBER if it matches the
// headers.
inline std::uint32_t version_number() noexcept { return confer_version_number(); }

// The library's threads, for the whole process.
namespace runtime {

// Sets the number of worker threads: 1 to 64, default 2. CONFER_E_BUSY while others run.
inline void set_workers(std::size_t count) { detail::call(confer_runtime_set_workers, count); }
// Sets how many unread bytes all streams may have together. Default: 1 GiB.
inline void set_unread_limit(std::uint64_t bytes) { detail::call(confer_runtime_set_unread_limit, bytes); }
// Returns whether no thread of the library runs, false after the timeout.
inline bool wait(milliseconds timeout = forever) {
    return detail::call(confer_runtime_wait, timeout) == CONFER_OK;
}

}  // namespace runtime

// The trusted parties and values. Immutable.
class policy {
public:
    // The built-in policy for Confer's service.
    static policy production() { return policy(detail::make<confer_policy>(confer_policy_production)); }
    // Like production(), but refuses machines whose firmware needs an update.
    static policy strict() { return policy(detail::make<confer_policy>(confer_policy_strict)); }
    // Reads a policy document, from text or from a file.
    static policy parse(std::string_view json) {
        return policy(detail::make<confer_policy>(confer_policy_parse, json));
    }
    static policy load(std::string_view path) { return policy(detail::make<confer_policy>(confer_policy_load, path)); }

    std::string_view json() const { return detail::view(confer_policy_json, get()).value_or(""); }
    std::string_view name() const { return detail::view(confer_policy_name, get()).value_or(""); }
    std::string_view sha256() const { return detail::view(confer_policy_sha256, get()).value_or(""); }
    const confer_policy *get() const noexcept { return handle_.get(); }

private:
    explicit policy(confer_policy *handle) noexcept : handle_(handle) {}
    detail::owned<confer_policy, confer_policy_free> handle_;
};

// Verifies exported evidence again, offline. `at`: Unix seconds; by default, the time of its
// capture.
inline report verify_evidence(std::string_view evidence, const policy &trusted, std::optional<std::int64_t> at = {}) {
    return report(detail::make<confer_report>(confer_evidence_verify, evidence, trusted.get(), at.value_or(-1)));
}

// Receives a record of the log. It must return quickly.
using log_function = std::function<void(log_level level, std::string_view target, std::string_view message)>;

// The settings of clients. Setters return the configuration, for chaining: to keep one, name it
// before its setters are called.
class config : public detail::settings<config, confer_config, confer_config_free> {
public:
    config() : settings(detail::make<confer_config>(confer_config_new)) {}

    // The WebSocket's URL with its path, without the token. Default: Confer's service.
    config &endpoint(std::string_view url) { return set(confer_config_set_endpoint, url); }
    // The account's token. Never logged.
    config &token(std::string_view token) { return set(confer_config_set_token, token); }
    // "http://[user:password@]host:port" or "socks5://host:port". Empty: none, the default.
    config &proxy(std::string_view url) { return set(confer_config_set_proxy, url); }
    // HTTPS_PROXY, ALL_PROXY and NO_PROXY, at the time of connecting.
    config &proxy_from_environment() { return set(confer_config_set_proxy_from_environment); }
    // The TLS roots: Mozilla's list by default. They do not affect the verification.
    config &roots(confer::roots roots) { return set(confer_config_set_roots, roots); }
    // The application's TLS roots.
    config &roots_pem(std::string_view pem) { return set(confer_config_set_roots_pem, pem); }
    // A file that stores Intel's key sets for other processes. Default: none.
    config &jwks_cache_file(std::string_view path) { return set(confer_config_set_jwks_cache_file, path); }
    // The trusted enclaves. Default: policy::production().
    config &policy(const confer::policy &trusted) { return set(confer_config_set_policy, trusted.get()); }
    // The table of confer_config_set_duration_ms() in confer.h has defaults and bounds. A negative
    // time exceeds every bound, so it is refused.
    config &duration(confer::duration key, milliseconds time) {
        return set(confer_config_set_duration_ms, key, static_cast<std::uint64_t>(time.count()));
    }
    // The table of confer_config_set_limit() in confer.h has defaults and bounds.
    config &limit(confer::limit key, std::uint64_t value) { return set(confer_config_set_limit, key, value); }
    // Also replaces a connection when its evidence expires.
    config &renew_with_evidence(bool renew) { return set(confer_config_set_renew_with_evidence, renew); }
    // The questions that client::watch() or a stream of watch() answers.
    config &ask(confer::ask questions) { return set(confer_config_set_ask, questions); }

    // An empty function turns the log off.
    config &log(log_level level, log_function function) {
        using shared = detail::shared<log_function>;
        const auto call = [](void *data, std::int32_t at, const char *target, const char *message) noexcept {
            try {
                shared::of(data).run(log_level(at), target, message);
            } catch (...) {
            }
        };
        void *data = detail::give(std::move(function));
        return set(confer_config_set_log, level, data ? confer_log_fn(call) : nullptr, data,
                   confer_destroy_fn(shared::destroy));
    }
};

// A history of messages. It exists only in this process: the library stores nothing.
class conversation {
public:
    conversation() : handle_(detail::make<confer_conversation>(confer_conversation_new)) {}
    // Parses the result of json().
    static conversation parse(std::string_view json) {
        return conversation(detail::make<confer_conversation>(confer_conversation_parse, json));
    }

    // Lives until the next call of this function. Contains all messages.
    std::string_view json() const { return detail::view(confer_conversation_json, get()).value_or(""); }
    // Appends a message. A conversation holds at most 32 MiB.
    conversation &message(role from, std::string_view content) {
        detail::call(confer_conversation_add_message, handle_.get(), from, content);
        return *this;
    }
    // Drops all messages after the first `count`.
    void truncate(std::size_t count) { detail::call(confer_conversation_truncate, handle_.get(), count); }
    std::size_t message_count() const noexcept { return confer_conversation_message_count(get()); }
    // At the last completion.
    std::optional<std::int64_t> context_tokens() const {
        return detail::known(confer_conversation_context_tokens(get(), nullptr));
    }
    std::optional<std::int64_t> max_context_tokens() const {
        std::int64_t max = -1;
        confer_conversation_context_tokens(get(), &max);
        return detail::known(max);
    }
    const confer_conversation *get() const noexcept { return handle_.get(); }

private:
    explicit conversation(confer_conversation *handle) noexcept : handle_(handle) {}
    detail::owned<confer_conversation, confer_conversation_free> handle_;
};

// One event of a stream. Streams and callbacks lend it. A copy outlives the loan.
class event {
public:
    event(const event &other) : kept_(other.keep()), handle_(kept_.get()), taken_(other.taken_) {}
    event &operator=(const event &other) {
        kept_ = other.keep();
        handle_ = kept_.get();
        taken_ = other.taken_;
        return *this;
    }

    // Returns the type, which may be one of a later version.
    event_type type() const noexcept { return event_type(confer_event_type(handle_)); }
    // Empty for event_type::body and higher numbers, which have no JSON.
    std::string_view json() const { return detail::view(confer_event_json, handle_).value_or(""); }
    // For event_type::body it need not be text, and may end inside a character.
    detail::text content() const { return detail::view(confer_event_content, handle_); }
    // The whole result of event_type::server_tool_response, for a history of messages.
    detail::text full_content() const { return detail::view(confer_event_full_content, handle_); }
    // For event_type::completion: the model's answer calls tools of the application. With
    // tool_rounds() the stream continues when all are answered; otherwise the next request has the
    // results.
    bool pending_tool_calls() const noexcept { return confer_event_pending_tool_calls(handle_); }
    // For event_type::completion: the tokens that the chat uses, and the maximum.
    std::optional<std::int64_t> context_tokens() const { return detail::known(confer_event_context_tokens(handle_)); }
    std::optional<std::int64_t> max_context_tokens() const {
        return detail::known(confer_event_max_context_tokens(handle_));
    }

    // For event_type::progress and event_type::body: the bytes sent or received so far, and the
    // total.
    std::optional<std::int64_t> sent() const { return detail::known(confer_event_sent(handle_, nullptr)); }
    std::optional<std::int64_t> received() const { return detail::known(confer_event_received(handle_, nullptr)); }
    std::optional<std::int64_t> total() const {
        std::int64_t total = -1;
        if (confer_event_sent(handle_, &total) < 0) confer_event_received(handle_, &total);
        return detail::known(total);
    }
    // For event_type::embeddings: a row for each text, all of one dimension. Otherwise empty.
    std::vector<std::vector<float>> embeddings() const {
        std::size_t rows = 0, columns = 0;
        const float *values = confer_event_embeddings(handle_, &rows, &columns);
        std::vector<std::vector<float>> read;
        if (values == nullptr) return read;
        for (std::size_t row = 0; row < rows; ++row)
            read.emplace_back(values + row * columns, values + (row + 1) * columns);
        return read;
    }
    // For event_type::pong.
    std::optional<std::chrono::microseconds> round_trip() const {
        return detail::known<std::chrono::microseconds>(confer_event_round_trip_us(handle_));
    }

    // Returns whether this is a call or a question that the application must answer. False for a
    // call that a tool's function took.
    bool wants_answer() const noexcept { return !taken_ && confer_event_wants_answer(handle_); }

    // A call of a tool. The arguments are text from the model, which may break the schema.
    detail::text tool_call_id() const { return detail::view(confer_event_tool_call_id, handle_); }
    detail::text tool_name() const { return detail::view(confer_event_tool_name, handle_); }
    detail::text tool_arguments() const { return detail::view(confer_event_tool_arguments, handle_); }
    // Gives the result, or the reason why there is no result. CONFER_E_STALE after an answer.
    void answer_tool(std::string_view content) const { detail::call(confer_event_answer_tool, handle_, content); }
    void fail_tool(std::string_view reason) const { detail::call(confer_event_fail_tool, handle_, reason); }

    // The client's events, see watch(). A stage of connecting.
    std::optional<confer::stage> stage() const { return detail::known<confer::stage>(confer_event_stage(handle_)); }
    // The new connection's report, or the report of the enclave that event_type::ask_release is
    // about, and of the connection before.
    std::optional<confer::report> report() const { return detail::keep(confer_event_report(handle_)); }
    std::optional<confer::report> previous_report() const {
        return detail::keep(confer_event_previous_report(handle_));
    }
    // Whether the release has changed since the last connection that this watch reported.
    bool release_changed() const noexcept { return confer_event_release_changed(handle_); }
    // Why the connection broke, or the attempt before event_type::retry failed.
    std::optional<confer::error> error() const {
        const confer_error *lent = confer_event_error(handle_);
        if (lent == nullptr) return std::nullopt;
        return confer::error(confer_error_status(lent), confer_error_clone(lent));
    }
    // For event_type::retry: the number of the attempt, otherwise 0, and the delay before it.
    std::uint32_t attempt() const noexcept { return confer_event_attempt(handle_); }
    std::optional<milliseconds> delay() const { return detail::known<milliseconds>(confer_event_delay_ms(handle_)); }

    // event_type::ask_token. `reason` appears in errors and the log, so it must not contain
    // secrets.
    std::optional<confer::token_reason> token_reason() const {
        return detail::known<confer::token_reason>(confer_event_token_reason(handle_));
    }
    void answer_token(std::string_view token) const { detail::call(confer_event_answer_token, handle_, token); }
    void refuse_token(std::string_view reason) const { detail::call(confer_event_refuse_token, handle_, reason); }
    // event_type::ask_release.
    void answer_release(bool accept) const { detail::call(confer_event_answer_release, handle_, accept); }

    const confer_event *get() const noexcept { return handle_; }

private:
    friend class stream;
    friend class pull_stream;
    explicit event(const confer_event *lent) noexcept : handle_(lent) {}
    std::shared_ptr<const confer_event> keep() const {
        return kept_ ? kept_ : std::shared_ptr<const confer_event>(confer_event_clone(handle_), confer_event_free);
    }

    std::shared_ptr<const confer_event> kept_;  // null for a loan
    const confer_event *handle_;
    bool taken_ = false;  // by a tool's function, which answers
};

// Returns a tool's result. The arguments live during the call.
using tool_function = std::function<std::string(std::string_view arguments)>;
// Answers the call or a copy of it, at once or later. If the last copy is destroyed unanswered, the
// call fails.
using tool_call_function = std::function<void(const event &call)>;

namespace detail {

// The tools of a request that have a function, by name.
class tools {
public:
    tools() = default;
    tools(const tools &) = default;
    tools(tools &&) = default;
    // A map that is moved to itself may lose its content.
    tools &operator=(tools other) noexcept {
        functions_.swap(other.functions_);
        return *this;
    }

    void add(std::string_view name, tool_call_function function) {
        functions_.emplace(name, std::move(function));
    }
    // Runs the tool that an event calls. Returns whether it has a function.
    bool run(const event &call) const {
        const auto found = call.wants_answer() ? functions_.find(call.tool_name().value_or("")) : functions_.end();
        if (found == functions_.end()) return false;
        const event kept = call;  // the function may destroy the stream, and so end the loan
        std::string failure;
        try {
            found->second(kept);
            return true;
        } catch (const std::exception &exception) {
            failure = exception.what();
        } catch (...) {
        }
        // The text may not be UTF-8. The call may have its answer already.
        if (failure.empty() || confer_event_fail_tool(kept.get(), failure.data(), failure.size(), nullptr) != CONFER_OK)
            (void)confer_event_fail_tool(kept.get(), "the tool failed", CONFER_NTS, nullptr);
        return true;
    }

private:
    std::map<std::string, tool_call_function, std::less<>> functions_;
};

}  // namespace detail

// A chat. Setters return the request, for chaining.
class chat_request : public detail::settings<chat_request, confer_chat_request, confer_chat_request_free> {
public:
    static constexpr auto start = confer_chat_stream;
    chat_request() : settings(detail::make<confer_chat_request>(confer_chat_request_new)) {}

    // Adds a message. The second form sends a JSON object unchanged.
    chat_request &message(role from, std::string_view content) {
        return set(confer_chat_request_add_message, from, content);
    }
    chat_request &message_json(std::string_view json) { return set(confer_chat_request_add_message_json, json); }
    // Default: the service's model.
    chat_request &model(std::string_view name) { return set(confer_chat_request_set_model, name); }
    // Allows the enclave to send search queries to an external search service.
    chat_request &web_search(bool allowed) { return set(confer_chat_request_set_web_search, allowed); }
    // False: the answer is one event_type::body.
    chat_request &streaming(bool in_events) { return set(confer_chat_request_set_streaming, in_events); }
    // Randomness of the choice: 0 or more.
    chat_request &temperature(double value) { return set(confer_chat_request_set_temperature, value); }
    // Samples from tokens with this share of the probability: above 0, up to 1.
    chat_request &top_p(double value) { return set(confer_chat_request_set_top_p, value); }
    // Least probability of a token, relative to the likeliest: 0 to 1.
    chat_request &min_p(double value) { return set(confer_chat_request_set_min_p, value); }
    // Samples from this many most likely tokens: 1 or more, or -1 for all.
    chat_request &top_k(std::int32_t value) { return set(confer_chat_request_set_top_k, value); }
    // Penalties for a token that has occurred, and for each occurrence: -2 to 2.
    chat_request &presence_penalty(double value) { return set(confer_chat_request_set_presence_penalty, value); }
    chat_request &frequency_penalty(double value) { return set(confer_chat_request_set_frequency_penalty, value); }
    // Divides the weight of a token that has occurred: above 0.
    chat_request &repetition_penalty(double value) { return set(confer_chat_request_set_repetition_penalty, value); }
    // Most tokens of the answer: 1 or more.
    chat_request &max_tokens(std::int64_t count) { return set(confer_chat_request_set_max_tokens, count); }
    // The answer must be JSON.
    chat_request &json(bool wanted) { return set(confer_chat_request_set_json, wanted); }
    // The model reasons before it answers, in event_type::thinking.
    chat_request &thinking(bool wanted) { return set(confer_chat_request_set_thinking, wanted); }
    // A stored document, as a JSON object.
    chat_request &document_json(std::string_view json) { return set(confer_chat_request_add_document_json, json); }

    // Adds a tool. The application answers event_type::client_tool_call, on the same stream after
    // tool_rounds(), otherwise with its next request. `parameters`: the JSON Schema of the
    // arguments.
    chat_request &tool(std::string_view name, std::string_view description, std::string_view parameters) {
        return set(confer_chat_request_add_tool, name, description, parameters);
    }
    // Adds a tool with a function, and tool_rounds(16, 5 minutes) unless they are set.
    chat_request &tool(std::string_view name, std::string_view description, std::string_view parameters,
                       tool_call_function function) {
        tool(name, description, parameters);
        if (!function) return *this;
        tools_.add(name, std::move(function));
        return has_rounds_ ? *this : tool_rounds(16, std::chrono::minutes(5));
    }
    chat_request &tool(std::string_view name, std::string_view description, std::string_view parameters,
                       tool_function function) {
        if (!function) return tool(name, description, parameters);
        return tool(name, description, parameters,
                    tool_call_function([function = std::move(function)](const event &call) {
                        call.answer_tool(function(call.tool_arguments().value_or("")));
                    }));
    }
    // Answers calls of tools on the same stream, in at most `max_rounds` rounds, each call within
    // `timeout`. After them the stream fails with CONFER_E_TOOL_ROUNDS.
    chat_request &tool_rounds(std::uint32_t max_rounds, milliseconds timeout) {
        set(confer_chat_request_set_tool_rounds, max_rounds, static_cast<std::uint64_t>(timeout.count()));
        has_rounds_ = true;
        return *this;
    }
    // Sends the conversation's messages first. A complete answer adds the request's messages and
    // the model's.
    chat_request &conversation(const confer::conversation &continued) {
        // For C, NULL means no conversation.
        if (continued.get() == nullptr) throw error(CONFER_E_INVALID_ARGUMENT);
        return set(confer_chat_request_set_conversation, continued.get());
    }
    // A further property, such as one of a later server, with its JSON value.
    chat_request &property(std::string_view name, std::string_view json) {
        return set(confer_chat_request_set_property, name, json);
    }

private:
    friend class stream_base;

    detail::tools tools_;
    bool has_rounds_ = false;
};

// Receives one event_type::embeddings with a row for each of 1 to 64 text()s.
class embeddings_request
    : public detail::settings<embeddings_request, confer_embeddings_request, confer_embeddings_request_free> {
public:
    static constexpr auto start = confer_embeddings_stream;
    embeddings_request() : settings(detail::make<confer_embeddings_request>(confer_embeddings_request_new)) {}

    // Adds a text.
    embeddings_request &text(std::string_view content) { return set(confer_embeddings_request_add_text, content); }
    // Whether the texts are queries, not passages.
    embeddings_request &is_query(bool query) { return set(confer_embeddings_request_set_is_query, query); }
};

// Writes to the start of a buffer and returns the number of bytes, 0 at the end of the document.
using read_function = std::function<std::size_t(std::uint8_t *buffer, std::size_t size)>;

// Uploads a document_…(), with event_type::progress, and receives JSON in pieces, each an
// event_type::body.
class extraction_request
    : public detail::settings<extraction_request, confer_extraction_request, confer_extraction_request_free> {
public:
    static constexpr auto start = confer_extraction_stream;
    explicit extraction_request(std::string_view filename)
        : settings(detail::make<confer_extraction_request>(confer_extraction_request_new, filename)) {}

    // "content_type" or "image_export_mode" (strings), "ocr", "table_structure" or "include_images"
    // (true or false), or an option of a later server, with its JSON value.
    extraction_request &option(std::string_view name, std::string_view json) {
        return set(confer_extraction_request_set_option, name, json);
    }
    // Sends bytes in memory, which are copied.
    extraction_request &document_bytes(const void *bytes, std::size_t size) {
        return set(confer_extraction_request_set_document_bytes, static_cast<const std::uint8_t *>(bytes), size);
    }
    extraction_request &document_bytes(std::string_view bytes) { return document_bytes(bytes.data(), bytes.size()); }
    // Sends a regular file, which is read during the upload.
    extraction_request &document_file(std::string_view path) {
        return set(confer_extraction_request_set_document_file, path);
    }
    // Reads the document with `function` on the client's callback thread. It can be sent only once.
    // An exception ends the stream with CONFER_E_STOPPED. Without `length`, the length is unknown.
    extraction_request &document(read_function function, std::optional<std::int64_t> length = {}) {
        using shared = detail::shared<read_function>;
        const auto call = [](void *data, std::uint8_t *buffer, std::size_t size) noexcept -> std::int64_t {
            try {
                return static_cast<std::int64_t>(shared::of(data).run(buffer, size));
            } catch (...) {
                return -1;
            }
        };
        void *data = detail::give(std::move(function));
        return set(confer_extraction_request_set_document_callback, length.value_or(-1),
                   data ? confer_read_fn(call) : nullptr, data, confer_destroy_fn(shared::destroy));
    }
    // Announces a document for write() or upload() of each stream that this request starts.
    extraction_request &document_stream(std::optional<std::int64_t> length = {}) {
        return set(confer_extraction_request_set_document_stream, length.value_or(-1));
    }
};

// Receives a page's HTML as one event_type::body.
class fetch_request : public detail::settings<fetch_request, confer_fetch_request, confer_fetch_request_free> {
public:
    static constexpr auto start = confer_fetch_stream;
    explicit fetch_request(std::string_view url)
        : settings(detail::make<confer_fetch_request>(confer_fetch_request_new, url)) {}

    // Adds a header. Others can see the fetch, but not its user.
    fetch_request &header(std::string_view name, std::string_view value) {
        return set(confer_fetch_request_set_header, name, value);
    }
};

// A request of any route. Nothing on the wire shows the answer's end.
class raw_request : public detail::settings<raw_request, confer_raw_request, confer_raw_request_free> {
public:
    static constexpr auto start = confer_raw_stream;
    raw_request(std::string_view verb, std::string_view path, ending ending)
        : settings(detail::make<confer_raw_request>(confer_raw_request_new, verb, path, ending)) {}

    // The body, usually JSON. Default: none.
    raw_request &body(std::string_view content) { return set(confer_raw_request_set_body, content); }
};

// Receives one event_type::pong.
struct ping {
    static constexpr auto start = confer_ping_stream;
};

// Receives the client's events and questions, beginning with the present state, until the client
// ends. Fails with the client's error. Does not keep the client alive.
struct watch {
    static constexpr auto start = confer_client_watch;
};

// Whether a stream continues after an event.
enum class flow { go_on, stop };

// The callbacks of a stream. Either may be empty.
struct stream_functions {
    // flow::stop ends the stream with CONFER_E_STOPPED. An exception ends it too.
    std::function<flow(const event &)> on_event;
    // Called once, after the last event. Null if the answer is complete; otherwise a confer::error
    // or the exception of on_event.
    std::function<void(std::exception_ptr)> on_done;
};

// Wakes the application when pull_stream::poll() has something to return.
using ready_function = std::function<void()>;

// The functions of client::watch(). Each may be empty.
struct client_functions {
    // Returns a token. An exception refuses.
    std::function<std::string(token_reason)> token;
    // Returns whether to accept another release. An exception refuses.
    std::function<bool(const report &before, const report &now)> release;
    // Receives all other events, and the questions without a function.
    std::function<void(const event &)> on_event;
    // Called once, when the client has ended: null after client::close(), otherwise its error.
    std::function<void(std::exception_ptr)> on_done;
};

// What pull_stream and stream have in common.
class stream_base {
public:
    // Ends the stream with CONFER_E_CANCELLED, unless it has ended. Allowed on any thread and in a
    // callback.
    void cancel() const noexcept { confer_stream_cancel(handle_.get()); }
    // Returns the number of events that a watch dropped because nobody read them.
    std::uint64_t dropped() const noexcept { return confer_stream_dropped(handle_.get()); }

    // Writes the next bytes of extraction_request::document_stream(). Returns how many were taken:
    // fewer than `size` only after a timeout. One thread at a time.
    std::size_t write(const void *bytes, std::size_t size, milliseconds timeout = forever) const {
        std::size_t taken = 0;
        detail::call(confer_stream_write, handle_.get(), static_cast<const std::uint8_t *>(bytes), size, timeout,
                     &taken);
        return taken;
    }
    std::size_t write(std::string_view bytes, milliseconds timeout = forever) const {
        return write(bytes.data(), bytes.size(), timeout);
    }
    // Ends the document of write().
    void finish() const { detail::call(confer_stream_finish, handle_.get()); }

    // Writes and finishes a whole document. Returns false if the upload ended before: the stream
    // says how. An exception of `read` leaves the document unfinished.
    bool upload(const read_function &read) const {
        std::vector<std::uint8_t> buffer(64 * 1024);
        for (;;) {
            const std::size_t size = read(buffer.data(), buffer.size());
            if (size > buffer.size()) throw std::length_error("confer::upload: the function returned more than `size`");
            try {
                if (size == 0) return finish(), true;
                write(buffer.data(), size);
            } catch (const error &failure) {
                if (failure.status() != CONFER_E_STALE) throw;
                return false;
            }
        }
    }
    // Throws std::ios_base::failure for a stream that failed before, such as a file that could not
    // be opened, and for one that fails now.
    bool upload(std::istream &from) const {
        if (from.fail()) throw std::ios_base::failure("confer::upload: the document's stream has failed before");
        return upload([&](std::uint8_t *buffer, std::size_t size) {
            from.read(reinterpret_cast<char *>(buffer), static_cast<std::streamsize>(size));
            if (from.bad()) throw std::ios_base::failure("confer::upload: cannot read the document");
            return static_cast<std::size_t>(from.gcount());
        });
    }

protected:
    // State shared by the library's thread and the owner.
    struct shared {
        stream_functions functions;  // only the library's thread, until over
        ready_function on_ready;     // the same
        detail::tools tools;         // the same
        std::exception_ptr thrown;   // by on_event
        std::exception_ptr failure;  // under the mutex
        bool over = false;           // under the mutex: the functions are destroyed
        std::mutex mutex;
        std::condition_variable ended;

        void wait() {
            std::unique_lock<std::mutex> lock(mutex);
            ended.wait(lock, [this] { return over; });
        }
    };

    stream_base(stream_base &&) noexcept = default;
    stream_base &operator=(stream_base &&other) noexcept {
        if (this != &other) {
            end();
            shared_ = std::move(other.shared_);
            handle_ = std::move(other.handle_);
        }
        return *this;
    }
    ~stream_base() { end(); }

    // Without `shared`, the application reads the stream.
    template <class Request>
    stream_base(confer_client *client, const Request &request, const confer_stream_callbacks &calls,
                std::shared_ptr<shared> state)
        : shared_(std::move(state)) {
        confer_stream_callbacks table = calls;
        table.size = sizeof table;
        table.destroy = destroy;
        if (shared_) table.user_data = new std::shared_ptr<shared>(shared_);  // destroy() owns it, even on failure
        const confer_stream_callbacks *given = shared_ ? &table : nullptr;
        if constexpr (std::is_empty_v<Request>)
            handle_.reset(detail::make<confer_stream>(Request::start, client, given));
        else handle_.reset(detail::make<confer_stream>(Request::start, client, request.get(), given));
    }

    // Only a chat has tools.
    template <class Request>
    static detail::tools tools_of(const Request &request) {
        if constexpr (std::is_same_v<Request, chat_request>) return request.tools_;
        else return {};
    }
    static shared &of(void *data) noexcept { return **static_cast<std::shared_ptr<shared> *>(data); }

    std::shared_ptr<shared> shared_;
    detail::owned<confer_stream, confer_stream_free> handle_;

private:
    void end() noexcept {
        if (!handle_) return;
        handle_.reset();
        if (shared_ && detail::may_wait() == CONFER_OK) shared_->wait();
    }

    static void destroy(void *data) noexcept {
        const std::unique_ptr<std::shared_ptr<shared>> owned(static_cast<std::shared_ptr<shared> *>(data));
        shared &self = **owned;
        self.functions = {};
        self.on_ready = {};
        self.tools = {};
        const std::lock_guard<std::mutex> lock(self.mutex);
        self.over = true;
        self.ended.notify_all();
    }
};

// An answer delivered to callbacks.
class stream : public stream_base {
public:
    // Waits until the callbacks have finished. Throws the exception that on_done received or threw.
    void wait() const {
        if (const confer_status status = detail::may_wait(); status != CONFER_OK) throw error(status);
        if (!shared_) throw error(CONFER_E_INVALID_ARGUMENT);
        shared_->wait();
        if (shared_->failure) std::rethrow_exception(shared_->failure);
    }

private:
    friend class client;

    template <class Request>
    stream(confer_client *client, const Request &request, stream_functions functions)
        : stream_base(client, request, {0, nullptr, on_event, on_done, nullptr, nullptr}, state(request, functions)) {}

    template <class Request>
    static std::shared_ptr<shared> state(const Request &request, stream_functions &functions) {
        auto made = std::make_shared<shared>();
        made->functions = std::move(functions);
        made->tools = tools_of(request);
        return made;
    }

    static std::int32_t on_event(void *data, confer_stream *, const confer_event *lent) noexcept {
        shared &self = of(data);
        try {
            event received(lent);
            received.taken_ = self.tools.run(received);
            return !self.functions.on_event || self.functions.on_event(received) == flow::go_on ? 0 : 1;
        } catch (...) {
            self.thrown = std::current_exception();
            return 1;
        }
    }

    static void on_done(void *data, confer_stream *, confer_status status, const confer_error *lent) noexcept {
        shared &self = of(data);
        std::exception_ptr failure = std::move(self.thrown);
        try {
            if (!failure && status != CONFER_OK) throw error(status, confer_error_clone(lent));
        } catch (...) {
            failure = std::current_exception();
        }
        try {
            if (self.functions.on_done) self.functions.on_done(failure);
        } catch (...) {
            failure = std::current_exception();
        }
        const std::lock_guard<std::mutex> lock(self.mutex);
        self.failure = std::move(failure);
    }
};

// An answer that the application reads with next() or a range-based for loop, which throws if the
// stream fails. One reader at a time.
class pull_stream : public stream_base {
public:
    // Returns the next event, or null when the answer is complete. Also throws on a timeout. The
    // event lives until the next call of next(), poll() or collect(); a copy of it lives longer.
    const event *next(milliseconds timeout = forever) {
        const event *taken = take(timeout);
        if (taken == nullptr && !ended()) throw error(CONFER_TIMEOUT);
        return taken;
    }
    // Returns the next event, or null if no event waits or the answer is complete: see ended().
    const event *poll() { return take(milliseconds(0)); }
    // Returns whether the last read found the end.
    bool ended() const noexcept { return reader_ && reader_->ended; }

    // Reads the rest, and returns the text of a chat or the bytes of another answer, at most 32
    // MiB. Refuses a chat with tool_rounds() or a tool's function. Throws on a timeout: then call
    // it again.
    std::string collect(milliseconds timeout = forever) {
        const char *bytes = nullptr;
        std::size_t length = 0;
        end_loan();
        if (detail::call(confer_stream_collect, handle_.get(), timeout, &bytes, &length) == CONFER_TIMEOUT)
            throw error(CONFER_TIMEOUT);
        reader_->ended = true;
        return std::string(bytes, length);
    }
    // Returns what collect() has read so far, also after its failure.
    std::string text() const { return std::string(detail::view(confer_stream_text, handle_.get()).value_or("")); }

    // Readable while next() would return at once.
    int fd() const {
        int fd = -1;
        detail::call(confer_stream_fd, handle_.get(), &fd);
        return fd;
    }

    class iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = event;
        using difference_type = std::ptrdiff_t;
        using pointer = const event *;
        using reference = const event &;

        iterator() = default;
        reference operator*() const noexcept { return *event_; }
        pointer operator->() const noexcept { return event_; }
        iterator &operator++() {
            event_ = from_->next();
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(const iterator &a, const iterator &b) noexcept { return a.event_ == b.event_; }
        friend bool operator!=(const iterator &a, const iterator &b) noexcept { return a.event_ != b.event_; }

    private:
        friend class pull_stream;
        explicit iterator(pull_stream *from) : from_(from), event_(from->next()) {}
        pull_stream *from_ = nullptr;
        const event *event_ = nullptr;
    };

    iterator begin() { return iterator(this); }
    iterator end() noexcept { return {}; }

private:
    friend class client;

    template <class Request>
    pull_stream(confer_client *client, const Request &request, ready_function function)
        : stream_base(client, request, {0, nullptr, nullptr, nullptr, nullptr, on_ready}, state(function)),
          reader_(new reader{tools_of(request), event(nullptr)}) {}

    static std::shared_ptr<shared> state(ready_function &function) {
        if (!function) return nullptr;
        auto made = std::make_shared<shared>();
        made->on_ready = std::move(function);
        return made;
    }

    static void on_ready(void *data, confer_stream *) noexcept {
        try {
            of(data).on_ready();
        } catch (...) {
        }
    }

    // Outlives a stream that one of its own tools destroys or moves.
    struct reader {
        detail::tools tools;
        event current;
        bool ended = false;
        bool runs_tool = false;
    };

    const event *take(milliseconds timeout) {
        const std::shared_ptr<reader> self = end_loan();
        const confer_event *lent = nullptr;
        const confer_status status = detail::call(confer_stream_next, handle_.get(), timeout, &lent);
        self->ended = status == CONFER_END;
        if (status != CONFER_OK) return nullptr;
        self->current.handle_ = lent;
        self->runs_tool = true;
        self->current.taken_ = self->tools.run(self->current);
        self->runs_tool = false;
        if (self.use_count() == 1) throw error(CONFER_E_CANCELLED);  // the tool destroyed the stream
        return &self->current;
    }

    // Ends the loan of the event before. A tool still uses it if it reads its own stream. Returns
    // null after a move: C refuses the handle, which is NULL too.
    std::shared_ptr<reader> end_loan() const {
        if (reader_) {
            if (reader_->runs_tool) throw error(CONFER_E_BUSY);
            reader_->current.handle_ = nullptr;
            reader_->current.taken_ = false;
        }
        return reader_;
    }

    std::shared_ptr<reader> reader_;
};

// A client for its whole life: connecting, connected, reconnecting, ended.
class client {
public:
    // Makes one attempt and waits. Needs config::token(). Throws confer::error. For a refused
    // enclave, its status() is CONFER_E_REJECTED and its report() says why.
    static client connect(const config &from) {
        return client(detail::make<confer_client>(confer_connect, from.get()));
    }
    // Begins to connect and returns at once. Retries as limit::attempts says. Requests can be
    // started at once and wait for the connection. close() ends the attempt.
    static client start(const config &from) {
        return client(detail::make<confer_client>(confer_connect_start, from.get()));
    }

    // Returns whether the client is connected, false after the timeout. Throws the error with which
    // it ended, as connect() does.
    bool wait(milliseconds timeout = forever) const {
        return detail::call(confer_client_wait, handle_.get(), timeout) == CONFER_OK;
    }

    // Returns the state now.
    client_state state() const noexcept { return client_state(confer_client_state(handle_.get())); }
    // Throws the error with which the client ended, if it has ended.
    void check() const { detail::call(confer_client_check, handle_.get()); }
    // Returns whether a connection exists now.
    bool connected() const noexcept { return confer_client_state(handle_.get()) == CONFER_CLIENT_CONNECTED; }
    // Returns why the last connection is trusted. Throws before the first one.
    confer::report report() const {
        return confer::report(detail::make<confer_report>(confer_attestation_report, handle_.get()));
    }

    // Gives a fresh token, for an open question or the next attempt.
    void set_token(std::string_view token) const { detail::call(confer_client_set_token, handle_.get(), token); }
    // Call this when the network has changed or the machine has slept. Checks at once whether the
    // connection is alive. Never waits.
    void network_changed() const { detail::call(confer_client_network_changed, handle_.get()); }
    // Returns a number that the client counts, over all its connections.
    std::uint64_t counter(confer::counter key) const noexcept {
        return confer_client_counter(handle_.get(), detail::number(key));
    }

    // Starts a request, ping() or watch() with callbacks.
    template <class Request>
    [[nodiscard]] confer::stream stream(const Request &request, stream_functions functions) const {
        return confer::stream(handle_.get(), request, std::move(functions));
    }
    // Starts a request, ping() or watch() that the application reads. `on_ready` wakes it.
    template <class Request>
    [[nodiscard]] pull_stream pull(const Request &request, ready_function on_ready = {}) const {
        return pull_stream(handle_.get(), request, std::move(on_ready));
    }
    // Gives the client's events to functions. Only questions of config::ask() are asked.
    // stream::wait() waits until the client ends.
    [[nodiscard]] confer::stream watch(client_functions functions) const {
        std::function<void(std::exception_ptr)> on_done = std::move(functions.on_done);
        return stream(confer::watch(), {[functions = std::move(functions)](const event &event) {
                                            deliver(functions, event);
                                            return flow::go_on;
                                        },
                                        std::move(on_done)});
    }

    // Returns whether the client is closed. After a timeout it continues to close in the
    // background.
    bool close(milliseconds timeout = forever) const {
        return detail::call(confer_close, handle_.get(), timeout) == CONFER_OK;
    }

    const confer_client *get() const noexcept { return handle_.get(); }

private:
    explicit client(confer_client *handle) noexcept : handle_(handle) {}

    static void deliver(const client_functions &functions, const event &event) noexcept {
        try {
            if (event.type() == event_type::ask_token && functions.token)
                give_token(functions, event);
            else if (event.type() == event_type::ask_release && functions.release)
                event.answer_release(functions.release(event.previous_report().value(), event.report().value()));
            else if (functions.on_event) functions.on_event(event);
        } catch (...) {
            // Each refuses only its own kind of question, and only an open one.
            if (functions.token)
                (void)confer_event_refuse_token(event.get(), "the token function failed", CONFER_NTS, nullptr);
            if (functions.release) (void)confer_event_answer_release(event.get(), false, nullptr);
        }
    }

    static void give_token(const client_functions &functions, const event &question) {
        const std::string token = functions.token(question.token_reason().value());
        try {
            question.answer_token(token);
        } catch (const error &invalid) {
            // The library's message names the mistake, and never repeats the token.
            (void)confer_event_refuse_token(question.get(), invalid.what(), CONFER_NTS, nullptr);
        }
    }

    detail::owned<confer_client, confer_client_free> handle_;
};

}  // namespace confer

#endif  // CONFER_HPP
