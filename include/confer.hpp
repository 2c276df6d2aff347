// confer.hpp: confer.h for C++17 and later, header-only.
//
// Handles are move-only and freed by their destructors. Failures are exceptions of type
// confer::error. Callbacks are std::function. confer.h documents each call with its defaults and
// bounds; this file only adds what C++ needs. No exception ever crosses into C.
//
//     #include <confer.hpp>
//     #include <cstdlib>
//     #include <iostream>
//
//     int main() try {
//         const char *token = std::getenv("CONFER_TOKEN");
//         auto client = confer::client::connect(confer::config().token(token ? token : ""));
//         auto answer = client.pull(confer::chat_request().message(CONFER_ROLE_USER, "Hello!"));
//         for (const confer::event &event : answer)
//             if (event.type() == CONFER_EVENT_TOKEN) std::cout << event.content().value_or("") << std::flush;
//     } catch (const confer::error &error) {
//         std::cerr << error.name() << ": " << error.what() << '\n';
//         return 1;
//     }
//
//     c++ -std=c++17 hello.cpp $(pkg-config --cflags --libs confer) -o hello
//
// More        Any other route is a confer::request, such as
//             confer::request::embeddings(true).text("…"); client::pull() and client::stream()
//             accept it like a chat. When the model calls a chat_request::tool() that has a
//             function, the library runs it: std::string(std::string_view arguments) answers at
//             once, void(confer::tool_call) at any time. A chat_request with a conversation
//             continues it. config::reconnect() reconnects after a broken connection, with a token
//             from config::token_provider(); config::on_connection() receives both.
// Lifetimes   A std::string_view lives as long as the object that returned it. An `event` lives
//             during its callback, or until the next one is pulled. A `report` shares ownership and
//             can be kept, except one lent by a connection_event or to a release function.
// Callbacks   Run on the client's callback thread. An exception in on_event stops the stream and
//             arrives in on_done and stream::wait(). The model receives a tool's exception as the
//             result. An exception in a token provider makes connecting fail, without its text. An
//             exception in a release function refuses the release. All other exceptions are
//             dropped. The clients of one `config` share its functions and call each in turns, but
//             on different threads.
// Destructors The destructor of a `stream` cancels it and waits until its functions have returned
//             and were destroyed, so they may refer to local variables. It does not wait in a
//             callback or a forked child. No other destructor waits: tools, documents that a
//             function reads, and functions of a `config` may run until client::close() has
//             returned true.

#ifndef CONFER_HPP
#define CONFER_HPP

#include <confer.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace confer {

using std::chrono::milliseconds;

// Waits without a limit. The configuration's limits still apply.
inline constexpr milliseconds forever{-1};

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

inline std::optional<std::string> copy(text borrowed) {
    return borrowed ? std::optional<std::string>(*borrowed) : std::nullopt;
}

inline std::optional<std::int64_t> known(std::int64_t value) {
    return value < 0 ? std::nullopt : std::optional<std::int64_t>(value);
}

// Returns whether a call may wait here: CONFER_E_WOULD_DEADLOCK on a callback thread of any client,
// CONFER_E_FORKED in a forked child, where no callback will run, otherwise CONFER_OK.
inline confer_status may_wait() noexcept {
    // confer_close() checks its handle last.
    const confer_status status = confer_close(nullptr, 1, nullptr);
    return status == CONFER_E_INVALID_ARGUMENT ? CONFER_OK : status;
}

}  // namespace detail

inline std::string_view status_name(confer_status status) { return confer_status_name(status); }

// One verification check of a report.
struct check {
    std::string_view id;
    std::int32_t outcome;  // CONFER_OUTCOME_*
    std::string_view detail;
    detail::text expected;
    detail::text observed;
};

// Why an enclave was trusted or refused. Immutable. Copies share the handle.
class report {
public:
    explicit report(std::shared_ptr<const confer_report> handle) noexcept : handle_(std::move(handle)) {}

    bool verified() const noexcept { return confer_report_verified(handle_.get()); }
    // The report, and the evidence for verify_evidence(), as JSON.
    std::string_view json() const { return detail::view(confer_report_json, get()).value(); }
    std::string_view evidence() const { return detail::view(confer_report_evidence, get()).value(); }

    std::size_t check_count() const noexcept { return confer_report_check_count(get()); }
    confer::check check(std::size_t index) const {
        if (index >= check_count()) throw std::out_of_range("confer::report::check");
        return {detail::view(confer_report_check_id, get(), index).value_or(""),
                confer_report_check_outcome(get(), index),
                detail::view(confer_report_check_detail, get(), index).value_or(""),
                detail::view(confer_report_check_expected, get(), index),
                detail::view(confer_report_check_observed, get(), index)};
    }

    detail::text platform() const { return detail::view(confer_report_platform, get()); }
    detail::text policy_name() const { return detail::view(confer_report_policy_name, get()); }
    detail::text policy_sha256() const { return detail::view(confer_report_policy_sha256, get()); }
    detail::text endpoint() const { return detail::view(confer_report_endpoint, get()); }
    detail::text server_key() const { return detail::view(confer_report_server_key, get()); }
    detail::text manifest_sha256() const { return detail::view(confer_report_manifest_sha256, get()); }
    detail::text image_version() const { return detail::view(confer_report_image_version, get()); }
    detail::text proxy_version() const { return detail::view(confer_report_proxy_version, get()); }
    detail::text signer() const { return detail::view(confer_report_signer, get()); }
    detail::text issuer() const { return detail::view(confer_report_issuer, get()); }
    detail::text log_url() const { return detail::view(confer_report_log_url, get()); }
    std::optional<std::int64_t> log_index() const { return detail::known(confer_report_log_index(get())); }
    std::optional<std::int64_t> verified_at() const { return detail::known(confer_report_verified_at(get())); }
    std::optional<std::int64_t> expires_at() const { return detail::known(confer_report_expires_at(get())); }

    // For getters of confer.h that this class does not have.
    const confer_report *get() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<const confer_report> handle_;
};

// Why a call or a stream failed. what() is the message.
class error : public std::runtime_error {
public:
    // Owns `taken`. `status` is the result of the call.
    error(confer_status status, confer_error *taken)
        : error(status, taken, std::shared_ptr<confer_error>(taken, confer_error_free)) {}

    // Copies an error that a callback lends. It has no report: only errors of connecting have one.
    static error copied(confer_status status, const confer_error *lent) { return {status, lent, nullptr}; }

    confer_status status() const noexcept { return status_; }
    // The constant's name, such as "CONFER_E_REJECTED".
    std::string_view name() const noexcept { return confer_status_name(status_); }
    const std::optional<std::string> &check_id() const noexcept { return check_id_; }
    std::optional<std::int32_t> http_status() const noexcept { return http_status_; }
    bool retryable() const noexcept { return retryable_; }
    std::optional<milliseconds> retry_delay() const noexcept { return retry_delay_; }
    // CONFER_PROGRESS_*.
    std::int32_t progress() const noexcept { return progress_; }
    // The enclave's reason. Do not log it: it may repeat parts of the request.
    const std::optional<std::string> &peer_text() const noexcept { return peer_text_; }
    const std::optional<confer::report> &report() const noexcept { return report_; }

private:
    error(confer_status status, const confer_error *from, const std::shared_ptr<confer_error> &owner)
        : std::runtime_error(from ? std::string(detail::view(confer_error_message, from).value_or(""))
                                  : std::string(confer_status_description(status))),
          status_(status),
          check_id_(detail::copy(detail::view(confer_error_check_id, from))),
          peer_text_(detail::copy(detail::view(confer_error_peer_text, from))),
          retryable_(confer_error_retryable(from)),
          progress_(confer_error_progress(from)) {
        if (const std::int32_t http = confer_error_http_status(from)) http_status_ = http;
        if (const auto delay = detail::known(confer_error_retry_delay_ms(from))) retry_delay_ = milliseconds(*delay);
        // The report belongs to the error, so it shares the error's ownership.
        const confer_report *refused = owner ? confer_error_report(from) : nullptr;
        if (refused) report_.emplace(std::shared_ptr<const confer_report>(owner, refused));
    }

    confer_status status_;
    std::optional<std::string> check_id_;
    std::optional<std::string> peer_text_;
    std::optional<std::int32_t> http_status_;
    std::optional<milliseconds> retry_delay_;
    std::optional<confer::report> report_;
    bool retryable_;
    std::int32_t progress_;
};

namespace detail {

// Calls a function of confer.h whose last parameter is the error. Returns CONFER_TIMEOUT and
// CONFER_END, and throws any other failure.
template <class Function, class... Arguments>
confer_status call(Function function, Arguments... arguments) {
    confer_error *failure = nullptr;
    const confer_status status = function(arguments..., &failure);
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

}  // namespace detail

namespace detail {

// A function that C calls, one thread at a time. C owns it until it calls destroy().
template <class Function>
struct shared {
    explicit shared(Function from) : function(std::move(from)) {}

    template <class... Arguments>
    auto run(Arguments &&...arguments) {
        const std::lock_guard<std::mutex> lock(mutex);
        return function(std::forward<Arguments>(arguments)...);
    }
    // Drops exceptions.
    template <class... Arguments>
    void try_run(Arguments &&...arguments) noexcept {
        try {
            run(std::forward<Arguments>(arguments)...);
        } catch (...) {
        }
    }
    static shared &of(void *data) noexcept { return *static_cast<shared *>(data); }
    static void destroy(void *data) noexcept { delete static_cast<shared *>(data); }

    Function function;
    std::mutex mutex;
};

// Passes a function to C, which always calls destroy(). Returns NULL for an empty function.
template <class Function>
void *give(Function &&function) {
    using T = std::decay_t<Function>;
    return function ? new shared<T>(std::forward<Function>(function)) : nullptr;
}

}  // namespace detail

// The trusted parties and values. Immutable.
class policy {
public:
    static policy production() { return policy(detail::make<confer_policy>(confer_policy_production)); }
    static policy strict() { return policy(detail::make<confer_policy>(confer_policy_strict)); }
    static policy parse(std::string_view json) {
        return policy(detail::make<confer_policy>(confer_policy_parse, json.data(), json.size()));
    }
    static policy load(std::string_view path) {
        return policy(detail::make<confer_policy>(confer_policy_load, path.data(), path.size()));
    }

    std::string_view json() const { return detail::view(confer_policy_json, get()).value(); }
    std::string_view name() const { return detail::view(confer_policy_name, get()).value(); }
    std::string_view sha256() const { return detail::view(confer_policy_sha256, get()).value(); }
    const confer_policy *get() const noexcept { return handle_.get(); }

private:
    explicit policy(confer_policy *handle) noexcept : handle_(handle) {}
    detail::owned<confer_policy, confer_policy_free> handle_;
};

// Verifies exported evidence again, offline. `at`: Unix seconds; by default, the time of its
// capture.
inline report verify_evidence(std::string_view evidence, const policy &trusted, std::optional<std::int64_t> at = {}) {
    return report({detail::make<confer_report>(confer_evidence_verify, evidence.data(), evidence.size(), trusted.get(),
                                               at.value_or(-1)),
                   confer_report_free});
}

// A connection event. Lent, so it can't be copied.
class connection_event {
public:
    connection_event(const connection_event &) = delete;
    connection_event &operator=(const connection_event &) = delete;

    std::int32_t type() const noexcept { return confer_connection_event_type(handle_); }  // CONFER_CONNECTION_*
    // Why the connection broke, the attempt failed or the client ended. Has no report.
    std::optional<confer::error> error() const {
        const confer_error *lent = confer_connection_event_error(handle_);
        return lent ? std::optional<confer::error>(confer::error::copied(confer_error_status(lent), lent)) : std::nullopt;
    }
    // Why the new connection is trusted. Lives as long as the event; confer::client::report()
    // returns one to keep.
    std::optional<confer::report> report() const {
        const confer_report *lent = confer_connection_event_report(handle_);
        if (lent == nullptr) return std::nullopt;
        return confer::report(std::shared_ptr<const confer_report>(std::shared_ptr<void>(), lent));
    }
    bool release_changed() const noexcept { return confer_connection_event_release_changed(handle_); }
    // For CONFER_CONNECTION_ATTEMPT: the number of the attempt, from 1, and the pause before it.
    std::uint32_t attempt() const noexcept { return confer_connection_event_attempt(handle_); }
    std::optional<milliseconds> delay() const {
        const auto ms = detail::known(confer_connection_event_delay_ms(handle_));
        return ms ? std::optional<milliseconds>(*ms) : std::nullopt;
    }

private:
    friend class config;
    explicit connection_event(const confer_connection_event *handle) noexcept : handle_(handle) {}

    const confer_connection_event *handle_;
};

// A question for a token. Answer it once, from any thread. Destroying it unanswered means no token.
class token_request {
public:
    void answer(std::string_view token) const {
        detail::call(confer_token_request_answer, handle_.get(), token.data(), token.size());
    }
    // `reason` appears in errors and the log, so it must not contain secrets.
    void fail(std::string_view reason) const {
        detail::call(confer_token_request_fail, handle_.get(), reason.data(), reason.size());
    }

private:
    friend class config;
    explicit token_request(confer_token_request *handle) noexcept : handle_(handle) {}

    detail::owned<confer_token_request, confer_token_request_free> handle_;
};

using log_function = std::function<void(std::int32_t level, std::string_view target, std::string_view message)>;
using stage_function = std::function<void(std::int32_t stage)>;
// May keep the request and answer later. An exception means no token.
using token_function = std::function<void(token_request)>;
using connection_function = std::function<void(const connection_event &)>;
// Returns whether to accept a changed release. Both reports are lent during the call.
using release_function = std::function<bool(const report &before, const report &now)>;

// The settings of clients. Setters return the configuration, for chaining.
class config {
public:
    config() : handle_(detail::make<confer_config>(confer_config_new)) {}

    config &endpoint(std::string_view url) { return text(confer_config_set_endpoint, url); }
    config &token(std::string_view token) { return text(confer_config_set_token, token); }
    config &proxy(std::string_view url) { return text(confer_config_set_proxy, url); }
    config &proxy_from_environment() { return set(confer_config_set_proxy_from_environment); }
    config &roots(std::int32_t roots) { return set(confer_config_set_roots, roots); }
    config &roots_pem(std::string_view pem) { return text(confer_config_set_roots_pem, pem); }
    config &jwks_cache_file(std::string_view path) { return text(confer_config_set_jwks_cache_file, path); }
    config &policy(const confer::policy &trusted) { return set(confer_config_set_policy, trusted.get()); }
    config &stage_timeout(std::int32_t stage, milliseconds limit) {
        return set(confer_config_set_stage_timeout_ms, stage, count(limit));
    }
    config &connect_timeout(milliseconds limit) { return set(confer_config_set_connect_timeout_ms, count(limit)); }
    config &keepalive(milliseconds interval) { return set(confer_config_set_keepalive_ms, count(interval)); }
    config &dead_peer(milliseconds limit) { return set(confer_config_set_dead_peer_ms, count(limit)); }
    config &idle_timeout(milliseconds limit) { return set(confer_config_set_idle_timeout_ms, count(limit)); }

    config &probe_timeout(milliseconds limit) { return set(confer_config_set_probe_timeout_ms, count(limit)); }
    // The number of failed attempts in a row after which the client ends, 0 for no reconnecting,
    // and the pauses before attempts.
    config &reconnect(std::uint32_t max_attempts, milliseconds first_delay = milliseconds(500),
                      milliseconds max_delay = milliseconds(30000)) {
        return set(confer_config_set_reconnect, max_attempts, count(first_delay), count(max_delay));
    }
    // 0: any age. `with_evidence`: also replaces a connection when its evidence expires.
    config &max_age(milliseconds age, bool with_evidence = false) {
        return set(confer_config_set_max_age, count(age), with_evidence);
    }
    // `limit`: CONFER_LIMIT_*.
    config &limit(std::int32_t limit, std::uint64_t value) { return set(confer_config_set_limit, limit, value); }

    // An empty function turns the log off.
    config &log(std::int32_t level, log_function function) {
        using shared = detail::shared<log_function>;
        const auto call = [](void *data, std::int32_t at, const char *target, const char *message) noexcept {
            shared::of(data).try_run(at, target, message);
        };
        return on(confer_config_set_log, confer_log_fn(call), std::move(function), level);
    }
    config &on_stage(stage_function function) {
        const auto call = [](void *data, std::int32_t stage) noexcept {
            detail::shared<stage_function>::of(data).try_run(stage);
        };
        return on(confer_config_set_stage_callback, confer_stage_fn(call), std::move(function));
    }
    // Provides a token for each connection, instead of token().
    config &token_provider(token_function function) {
        const auto call = [](void *data, confer_token_request *lent) noexcept {
            detail::shared<token_function>::of(data).try_run(token_request(lent));
        };
        return on(confer_config_set_token_provider, confer_token_fn(call), std::move(function));
    }
    config &on_connection(connection_function function) {
        const auto call = [](void *data, const confer_connection_event *lent) noexcept {
            detail::shared<connection_function>::of(data).try_run(connection_event(lent));
        };
        return on(confer_config_set_connection_callback, confer_connection_fn(call), std::move(function));
    }
    config &on_release(release_function function) {
        const auto call = [](void *data, const confer_report *before, const confer_report *now) noexcept -> std::int32_t {
            try {
                const std::shared_ptr<void> nobody;
                return detail::shared<release_function>::of(data).run(report({nobody, before}), report({nobody, now})) ? 0 : 1;
            } catch (...) {
                return 1;
            }
        };
        return on(confer_config_set_release_callback, confer_release_fn(call), std::move(function));
    }

    const confer_config *get() const noexcept { return handle_.get(); }

private:
    template <class Setter>
    config &text(Setter setter, std::string_view value) {
        return set(setter, value.data(), value.size());
    }
    template <class Setter, class... Arguments>
    config &set(Setter setter, Arguments... arguments) {
        detail::call(setter, handle_.get(), arguments...);
        return *this;
    }
    // Calls a setter with a function: `setter(handle, arguments..., call, data, destroy, &error)`.
    template <class Setter, class Call, class Function, class... Arguments>
    config &on(Setter setter, Call call, Function function, Arguments... arguments) {
        void *data = detail::give(std::move(function));
        return set(setter, arguments..., data ? call : nullptr, data,
                   data ? confer_destroy_fn(detail::shared<Function>::destroy) : nullptr);
    }
    // Makes a negative time exceed every bound, so that the setter refuses it.
    static std::uint64_t count(milliseconds time) noexcept { return static_cast<std::uint64_t>(time.count()); }

    detail::owned<confer_config, confer_config_free> handle_;
};

// A history of messages. It exists only in this process: the library stores nothing.
class conversation {
public:
    conversation() : handle_(detail::make<confer_conversation>(confer_conversation_new)) {}
    // Parses the result of json().
    static conversation parse(std::string_view json) {
        return conversation(detail::make<confer_conversation>(confer_conversation_parse, json.data(), json.size()));
    }

    // Lives until the next call of this function. Contains all messages.
    std::string_view json() const { return detail::view(confer_conversation_json, get()).value_or(""); }
    conversation &message(std::int32_t role, std::string_view content) {
        detail::call(confer_conversation_add_message, handle_.get(), role, content.data(), content.size());
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

// A tool call of the model. Answer it once, from any thread. Destroying it unanswered gives the
// model an error.
class tool_call {
public:
    std::string_view id() const { return detail::view(confer_tool_call_id, get()).value_or(""); }
    std::string_view name() const { return detail::view(confer_tool_call_name, get()).value_or(""); }
    // Text from the model. It should be JSON according to the tool's schema, but may not be.
    std::string_view arguments() const { return detail::view(confer_tool_call_arguments, get()).value_or(""); }

    void answer(std::string_view content) const {
        detail::call(confer_tool_call_answer, handle_.get(), content.data(), content.size());
    }
    void fail(std::string_view reason) const {
        detail::call(confer_tool_call_fail, handle_.get(), reason.data(), reason.size());
    }

private:
    friend class chat_request;
    explicit tool_call(confer_tool_call *handle) noexcept : handle_(handle) {}
    const confer_tool_call *get() const noexcept { return handle_.get(); }

    detail::owned<confer_tool_call, confer_tool_call_free> handle_;
};

// Returns a tool's result. The arguments live during the call. The model receives the what() of an
// exception.
using tool_function = std::function<std::string(std::string_view arguments)>;
// May keep the call and answer later. An exception leaves the call unanswered.
using tool_call_function = std::function<void(tool_call)>;

// A stored document for a chat. Servers need all fields.
struct stored_document {
    std::string_view attachment_id;
    std::string_view filename = {};
    std::string_view content_type = {};
    std::optional<std::int64_t> source_bytes = {};
    std::string_view source_object_key = {};
    std::string_view encryption_key = {};  // only for the enclave
};

// A chat request. Setters return the request, for chaining.
class chat_request {
public:
    chat_request() : handle_(detail::make<confer_chat_request>(confer_chat_request_new)) {}

    // `role`: CONFER_ROLE_*.
    chat_request &message(std::int32_t role, std::string_view content) {
        return set(confer_chat_request_add_message, role, content.data(), content.size());
    }
    chat_request &message_json(std::string_view json) {
        return set(confer_chat_request_add_message_json, json.data(), json.size());
    }
    chat_request &model(std::string_view name) {
        return set(confer_chat_request_set_model, name.data(), name.size());
    }
    chat_request &web_search(bool allowed) { return set(confer_chat_request_set_web_search, allowed); }
    // False: the answer is one CONFER_EVENT_BODY.
    chat_request &stream(bool in_events) { return set(confer_chat_request_set_stream, in_events); }
    chat_request &temperature(double value) { return set(confer_chat_request_set_temperature, value); }
    chat_request &top_p(double value) { return set(confer_chat_request_set_top_p, value); }
    chat_request &min_p(double value) { return set(confer_chat_request_set_min_p, value); }
    chat_request &top_k(std::int32_t value) { return set(confer_chat_request_set_top_k, value); }
    chat_request &presence_penalty(double value) { return set(confer_chat_request_set_presence_penalty, value); }
    chat_request &frequency_penalty(double value) { return set(confer_chat_request_set_frequency_penalty, value); }
    chat_request &repetition_penalty(double value) { return set(confer_chat_request_set_repetition_penalty, value); }
    chat_request &max_tokens(std::int64_t count) { return set(confer_chat_request_set_max_tokens, count); }
    chat_request &json(bool wanted) { return set(confer_chat_request_set_json, wanted); }
    chat_request &thinking(bool wanted) { return set(confer_chat_request_set_thinking, wanted); }
    chat_request &document(const stored_document &named) {
        return set(confer_chat_request_add_document, named.attachment_id.data(), named.attachment_id.size(),
                   named.filename.data(), named.filename.size(), named.content_type.data(), named.content_type.size(),
                   named.source_bytes.value_or(-1), named.source_object_key.data(), named.source_object_key.size(),
                   named.encryption_key.data(), named.encryption_key.size());
    }

    // Adds a tool that the library runs on the client's callback thread. A slow tool should be of
    // the second kind, because it blocks that thread. `parameters`: the JSON Schema of the
    // arguments. Parallel streams call a function in turns.
    chat_request &tool(std::string_view name, std::string_view description, std::string_view parameters,
                       tool_function function) {
        if (!function) return tool(name, description, parameters);
        return tool(name, description, parameters, tool_call_function([function = std::move(function)](tool_call call) {
            std::string failure = "the tool failed";
            try {
                const std::string content = function(call.arguments());
                call.answer(content);
                return;
            } catch (const std::exception &exception) {
                failure = exception.what();
            } catch (...) {
            }
            call.fail(failure);
        }));
    }
    chat_request &tool(std::string_view name, std::string_view description, std::string_view parameters,
                       tool_call_function function) {
        if (!function) return tool(name, description, parameters);
        const auto call = [](void *data, confer_tool_call *lent) noexcept {
            detail::shared<tool_call_function>::of(data).try_run(tool_call(lent));
        };
        return add_tool(name, description, parameters, call, detail::give(std::move(function)),
                        detail::shared<tool_call_function>::destroy);
    }
    // Adds a tool that the application runs itself when it receives CONFER_EVENT_CLIENT_TOOL_CALL.
    chat_request &tool(std::string_view name, std::string_view description, std::string_view parameters) {
        return add_tool(name, description, parameters, nullptr, nullptr, nullptr);
    }
    chat_request &tool_limits(std::uint32_t max_rounds, milliseconds timeout) {
        return set(confer_chat_request_set_tool_limits, max_rounds, static_cast<std::uint64_t>(timeout.count()));
    }
    // Sends the conversation's messages first. A complete answer adds the request's messages and
    // the model's.
    chat_request &conversation(const confer::conversation &continued) {
        return set(confer_chat_request_set_conversation, continued.get());
    }
    chat_request &property(std::string_view name, std::string_view json) {
        return set(confer_chat_request_set_property, name.data(), name.size(), json.data(), json.size());
    }

    const confer_chat_request *get() const noexcept { return handle_.get(); }

private:
    template <class Setter, class... Arguments>
    chat_request &set(Setter setter, Arguments... arguments) {
        detail::call(setter, handle_.get(), arguments...);
        return *this;
    }
    chat_request &add_tool(std::string_view name, std::string_view description, std::string_view parameters,
                           confer_tool_fn function, void *data, confer_destroy_fn destroy) {
        return set(confer_chat_request_add_tool_callback, name.data(), name.size(), description.data(), description.size(),
                   parameters.data(), parameters.size(), function, data, destroy);
    }

    detail::owned<confer_chat_request, confer_chat_request_free> handle_;
};

// Writes to the start of a buffer and returns the number of bytes, 0 at the end of the document. An
// exception ends the stream with CONFER_E_STOPPED.
using read_function = std::function<std::size_t(std::uint8_t *buffer, std::size_t size)>;

// A request of any route except the chat. Setters return the request, for chaining.
class request {
public:
    // `ending`: CONFER_ENDING_*. Nothing on the wire shows it.
    request(std::string_view verb, std::string_view path, std::int32_t ending)
        : handle_(detail::make<confer_request>(confer_request_new, verb.data(), verb.size(), path.data(), path.size(),
                                               ending)) {}
    // Receives one CONFER_EVENT_PONG.
    static request ping() { return request(detail::make<confer_request>(confer_request_new_ping)); }
    // Receives one CONFER_EVENT_EMBEDDINGS with a row for each of 1 to 64 text()s.
    static request embeddings(bool is_query) {
        return request(detail::make<confer_request>(confer_request_new_embeddings, is_query));
    }
    // Receives a page's HTML as one CONFER_EVENT_BODY.
    static request fetch(std::string_view url) {
        return request(detail::make<confer_request>(confer_request_new_fetch, url.data(), url.size()));
    }
    // Uploads a document_…(), with CONFER_EVENT_PROGRESS, and receives JSON in pieces, each a
    // CONFER_EVENT_BODY.
    static request extraction(std::string_view filename) {
        return request(detail::make<confer_request>(confer_request_new_extraction, filename.data(), filename.size()));
    }

    // For a request with a verb.
    request &body(std::string_view content) { return set(confer_request_set_body, content.data(), content.size()); }
    // For embeddings.
    request &text(std::string_view content) { return set(confer_request_add_text, content.data(), content.size()); }
    // For a page.
    request &header(std::string_view name, std::string_view value) {
        return set(confer_request_set_header, name.data(), name.size(), value.data(), value.size());
    }
    // For an extraction, like the following.
    request &option(std::string_view name, std::string_view json) {
        return set(confer_request_set_option, name.data(), name.size(), json.data(), json.size());
    }
    request &document_bytes(const void *bytes, std::size_t size) {
        return set(confer_request_set_document_bytes, static_cast<const std::uint8_t *>(bytes), size);
    }
    request &document_bytes(std::string_view bytes) { return document_bytes(bytes.data(), bytes.size()); }
    request &document_file(std::string_view path) {
        return set(confer_request_set_document_file, path.data(), path.size());
    }
    // Reads the document with `function` on the client's callback thread. It can be sent only once.
    // Without `length`, the length is unknown.
    request &document(read_function function, std::optional<std::int64_t> length = {}) {
        const auto call = [](void *data, std::uint8_t *buffer, std::size_t size) noexcept -> std::int64_t {
            try {
                return static_cast<std::int64_t>(detail::shared<read_function>::of(data).run(buffer, size));
            } catch (...) {
                return -1;
            }
        };
        void *data = detail::give(std::move(function));
        return set(confer_request_set_document_callback, length.value_or(-1), data ? confer_read_fn(call) : nullptr, data,
                   data ? confer_destroy_fn(detail::shared<read_function>::destroy) : nullptr);
    }

    const confer_request *get() const noexcept { return handle_.get(); }

private:
    explicit request(confer_request *handle) noexcept : handle_(handle) {}
    template <class Setter, class... Arguments>
    request &set(Setter setter, Arguments... arguments) {
        detail::call(setter, handle_.get(), arguments...);
        return *this;
    }

    detail::owned<confer_request, confer_request_free> handle_;
};

// One event of an answer. Lent, so it can't be copied.
class event {
public:
    event(const event &) = delete;
    event &operator=(const event &) = delete;

    std::int32_t type() const noexcept { return confer_event_type(handle_); }  // CONFER_EVENT_*
    // Empty for CONFER_EVENT_BODY and higher numbers, which have no JSON.
    std::string_view json() const { return detail::view(confer_event_json, handle_).value_or(""); }
    // For CONFER_EVENT_BODY it may not be text, and may end inside a character.
    detail::text content() const { return detail::view(confer_event_content, handle_); }
    detail::text full_content() const { return detail::view(confer_event_full_content, handle_); }
    detail::text tool_call_id() const { return detail::view(confer_event_tool_call_id, handle_); }
    detail::text tool_name() const { return detail::view(confer_event_tool_name, handle_); }
    detail::text tool_arguments() const { return detail::view(confer_event_tool_arguments, handle_); }
    bool pending_tool_calls() const noexcept { return confer_event_pending_tool_calls(handle_); }
    std::optional<std::int64_t> context_tokens() const { return detail::known(confer_event_context_tokens(handle_)); }
    std::optional<std::int64_t> max_context_tokens() const {
        return detail::known(confer_event_max_context_tokens(handle_));
    }

    // For CONFER_EVENT_PROGRESS and CONFER_EVENT_BODY: the bytes sent or received so far, and the
    // total.
    std::optional<std::int64_t> sent() const { return detail::known(confer_event_sent(handle_, nullptr)); }
    std::optional<std::int64_t> received() const { return detail::known(confer_event_received(handle_, nullptr)); }
    std::optional<std::int64_t> total() const {
        std::int64_t total = -1;
        if (confer_event_sent(handle_, &total) < 0) confer_event_received(handle_, &total);
        return detail::known(total);
    }
    // For CONFER_EVENT_EMBEDDINGS: a row for each text, all of one dimension. Otherwise empty.
    std::vector<std::vector<float>> embeddings() const {
        std::size_t rows = 0, columns = 0;
        const float *values = confer_event_embeddings(handle_, &rows, &columns);
        std::vector<std::vector<float>> read;
        if (values == nullptr) return read;
        for (std::size_t row = 0; row < rows; ++row)
            read.emplace_back(values + row * columns, values + (row + 1) * columns);
        return read;
    }
    // For CONFER_EVENT_PONG.
    std::optional<std::chrono::microseconds> round_trip() const {
        const auto us = detail::known(confer_event_round_trip_us(handle_));
        return us ? std::optional<std::chrono::microseconds>(*us) : std::nullopt;
    }

private:
    friend class stream;
    friend class pull_stream;
    explicit event(const confer_event *handle) noexcept : handle_(handle) {}

    const confer_event *handle_ = nullptr;
};

enum class flow { go_on, stop };

// The callbacks of a stream. Either may be empty.
struct stream_functions {
    // flow::stop ends the stream with CONFER_E_STOPPED. An exception ends it too.
    std::function<flow(const event &)> on_event;
    // Called once, after the last event. Null if the answer is complete; otherwise a confer::error
    // or the exception of on_event.
    std::function<void(std::exception_ptr)> on_done;
};

// An answer delivered to callbacks.
class stream {
public:
    stream(stream &&) noexcept = default;
    stream &operator=(stream &&other) noexcept {
        if (this != &other) {
            end();
            shared_ = std::move(other.shared_);
            handle_ = std::move(other.handle_);
        }
        return *this;
    }
    ~stream() { end(); }

    // Any thread, even in a callback.
    void cancel() const noexcept { confer_stream_cancel(handle_.get()); }

    // Waits until the callbacks have finished. Throws the exception that on_done received or threw.
    void wait() const {
        if (const confer_status status = detail::may_wait(); status != CONFER_OK) throw error(status, nullptr);
        if (!shared_) throw error(CONFER_E_INVALID_ARGUMENT, nullptr);
        std::unique_lock<std::mutex> lock(shared_->mutex);
        shared_->ended.wait(lock, [this] { return shared_->over; });
        if (shared_->failure) std::rethrow_exception(shared_->failure);
    }

private:
    friend class client;

    // State shared by the library's thread and the owner.
    struct shared {
        stream_functions functions;   // only the library's thread, until over
        std::exception_ptr thrown;    // by on_event
        std::exception_ptr failure;   // under the mutex
        bool over = false;            // under the mutex: the functions are destroyed
        std::mutex mutex;
        std::condition_variable ended;
    };

    template <class Start, class Request>
    stream(Start start, confer_client *client, const Request *request, stream_functions functions)
        : shared_(std::make_shared<shared>()) {
        shared_->functions = std::move(functions);
        auto data = std::make_unique<std::shared_ptr<shared>>(shared_);
        const confer_stream_callbacks table = {sizeof(confer_stream_callbacks), data.get(), on_event, on_done, destroy, nullptr};
        confer_stream *handle = nullptr;
        data.release();  // destroy() owns it, even if the call fails
        detail::call(start, client, request, &table, &handle);
        handle_.reset(handle);
    }

    void end() noexcept {
        if (!handle_) return;
        handle_.reset();
        if (detail::may_wait() != CONFER_OK) return;
        std::unique_lock<std::mutex> lock(shared_->mutex);
        shared_->ended.wait(lock, [this] { return shared_->over; });
    }

    static std::int32_t on_event(void *data, confer_stream *, const confer_event *lent) noexcept {
        shared &self = **static_cast<std::shared_ptr<shared> *>(data);
        if (!self.functions.on_event) return 0;
        try {
            return self.functions.on_event(event(lent)) == flow::go_on ? 0 : 1;
        } catch (...) {
            self.thrown = std::current_exception();
            return 1;
        }
    }

    static void on_done(void *data, confer_stream *, confer_status status, const confer_error *lent) noexcept {
        shared &self = **static_cast<std::shared_ptr<shared> *>(data);
        std::exception_ptr failure = std::move(self.thrown);
        try {
            if (!failure && status != CONFER_OK) throw error::copied(status, lent);
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

    static void destroy(void *data) noexcept {
        const std::unique_ptr<std::shared_ptr<shared>> owned(static_cast<std::shared_ptr<shared> *>(data));
        shared &self = **owned;
        self.functions = {};
        const std::lock_guard<std::mutex> lock(self.mutex);
        self.over = true;
        self.ended.notify_all();
    }

    std::shared_ptr<shared> shared_;
    detail::owned<confer_stream, confer_stream_free> handle_;
};

// An answer that the application reads with next() or a range-based for loop, which throws if the
// stream fails. One reader at a time. Any thread may cancel.
class pull_stream {
public:
    // Returns the next event, or null when the answer is complete. Also throws on a timeout.
    const event *next(milliseconds timeout = forever) {
        const confer_event *lent = nullptr;
        const confer_status status =
            detail::call(confer_stream_next, handle_.get(), std::int64_t{timeout.count()}, &lent);
        if (status == CONFER_TIMEOUT) throw error(CONFER_TIMEOUT, nullptr);
        current_.handle_ = lent;
        return status == CONFER_OK ? &current_ : nullptr;
    }

    void cancel() const noexcept { confer_stream_cancel(handle_.get()); }

    // Readable while next() would return at once.
    int descriptor() const {
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

    pull_stream(pull_stream &&other) noexcept : handle_(std::move(other.handle_)), current_(other.current_.handle_) {}
    pull_stream &operator=(pull_stream &&other) noexcept {
        handle_ = std::move(other.handle_);
        current_.handle_ = other.current_.handle_;
        return *this;
    }

private:
    friend class client;
    explicit pull_stream(confer_stream *handle) noexcept : handle_(handle), current_(nullptr) {}

    detail::owned<confer_stream, confer_stream_free> handle_;
    event current_;
};

// Lets another thread cancel client::connect().
class canceller {
public:
    canceller() : handle_(detail::make<confer_cancel>(confer_cancel_new)) {}
    void trigger() const noexcept { confer_cancel_trigger(handle_.get()); }
    confer_cancel *get() const noexcept { return handle_.get(); }

private:
    detail::owned<confer_cancel, confer_cancel_free> handle_;
};

// A connection to a verified enclave.
class client {
public:
    // Throws confer::error. For a refused enclave, its status() is CONFER_E_REJECTED and its
    // report() says why.
    static client connect(const config &from, const canceller *cancel = nullptr) {
        return client(detail::make<confer_client>(confer_connect, from.get(), cancel ? cancel->get() : nullptr));
    }

    confer::report report() const {
        return confer::report({detail::make<confer_report>(confer_attestation_report, handle_.get()), confer_report_free});
    }

    // Throws the error with which the connection ended, if it has ended.
    void check() const { detail::call(confer_client_check, handle_.get()); }

    // Returns whether a connection exists now. With config::reconnect(), a client also lives
    // between connections.
    bool connected() const noexcept { return confer_client_connected(handle_.get()); }

    // Call this when the network has changed or the machine has slept. Checks at once whether the
    // connection is alive. Never waits.
    void network_changed() { detail::call(confer_client_network_changed, handle_.get()); }

    // Returns a counter, CONFER_COUNTER_*.
    std::uint64_t counter(std::int32_t counter) const noexcept { return confer_client_counter(handle_.get(), counter); }

    [[nodiscard]] confer::stream stream(const chat_request &request, stream_functions functions) const {
        return confer::stream(confer_chat_stream, handle_.get(), request.get(), std::move(functions));
    }
    [[nodiscard]] confer::stream stream(const request &request, stream_functions functions) const {
        return confer::stream(confer_request_stream, handle_.get(), request.get(), std::move(functions));
    }

    [[nodiscard]] pull_stream pull(const chat_request &request) const {
        return pull_stream(detail::make<confer_stream>(confer_chat_pull, handle_.get(), request.get()));
    }
    [[nodiscard]] pull_stream pull(const request &request) const {
        return pull_stream(detail::make<confer_stream>(confer_request_pull, handle_.get(), request.get()));
    }

    // Returns whether the client is closed. After a timeout it continues to close in the
    // background.
    bool close(milliseconds timeout = forever) {
        return detail::call(confer_close, handle_.get(), std::int64_t{timeout.count()}) == CONFER_OK;
    }

    const confer_client *get() const noexcept { return handle_.get(); }

private:
    friend class connecting;
    explicit client(confer_client *handle) noexcept : handle_(handle) {}
    detail::owned<confer_client, confer_client_free> handle_;
};

// An attempt to connect.
class connecting {
public:
    explicit connecting(const config &from)
        : handle_(detail::make<confer_connecting>(confer_connecting_start, from.get())) {}

    // Returns the client once, or nullopt after a timeout. Throws like client::connect().
    std::optional<client> wait(milliseconds timeout = forever) {
        confer_client *connected = nullptr;
        const confer_status status =
            detail::call(confer_connecting_wait, handle_.get(), std::int64_t{timeout.count()}, &connected);
        return status == CONFER_OK ? std::optional<client>(client(connected)) : std::nullopt;
    }

    std::int32_t stage() const noexcept { return confer_connecting_stage(handle_.get()); }
    void cancel() const noexcept { confer_connecting_cancel(handle_.get()); }

    // Readable when wait() would return at once.
    int descriptor() const {
        int fd = -1;
        detail::call(confer_connecting_fd, handle_.get(), &fd);
        return fd;
    }

private:
    detail::owned<confer_connecting, confer_connecting_free> handle_;
};

}  // namespace confer

#endif  // CONFER_HPP
