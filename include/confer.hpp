// confer.hpp: confer.h for C++17 and later, header-only.
//
// Handles are owned (move-only, freed by their destructors), failures are exceptions of type confer::error, callbacks are
// std::function. What each call does, its defaults and bounds stand in confer.h; this file adds no behaviour but what
// C++ needs: no exception ever crosses into C.
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
// Lifetimes   A std::string_view lives as long as the object that returned it; an `event` as long as its callback, or
//             until the next one is pulled. A `report` shares ownership and can be kept.
// Callbacks   Run on the client's callback thread. What an on_event throws stops the stream and arrives in on_done, and
//             in stream::wait(). What a log or stage function throws is dropped: there is nobody to tell. The clients of
//             one `config` share these two, and call each in turns, though from a thread each.
// Destructors That of a `stream` cancels it and waits until its functions have returned and were destroyed, so that they
//             may refer to what the calling function owns; within a callback, and in a forked child, it does not wait.
//             No other destructor waits.

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
#include <utility>

namespace confer {

using std::chrono::milliseconds;

// To wait without a limit of one's own: the configuration's limits hold all the same.
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

// A getter's borrowed text: none for NULL.
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

// Whether a call may wait here, as confer.h has it: CONFER_E_WOULD_DEADLOCK on a thread that runs callbacks, of whichever
// client and face; CONFER_E_FORKED where no callback will ever run; else CONFER_OK.
inline confer_status may_wait() noexcept {
    // Of nothing to close it says so last.
    const confer_status status = confer_close(nullptr, 0, nullptr);
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

// Why an enclave was trusted or refused. Immutable; copies share it.
class report {
public:
    explicit report(std::shared_ptr<const confer_report> handle) noexcept : handle_(std::move(handle)) {}

    bool verified() const noexcept { return confer_report_verified(handle_.get()); }
    // The whole report, and the evidence to be verified again: both JSON.
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

    // For the getters of confer.h that have no name here.
    const confer_report *get() const noexcept { return handle_.get(); }

private:
    std::shared_ptr<const confer_report> handle_;
};

// Why a call or a stream failed. what() is the message.
class error : public std::runtime_error {
public:
    // Takes the error over. `status` is what the call returned.
    error(confer_status status, confer_error *taken)
        : error(status, taken, std::shared_ptr<confer_error>(taken, confer_error_free)) {}

    // Copies what is lent to a callback, where no report can come: only connecting is refused with one.
    static error copied(confer_status status, const confer_error *lent) { return {status, lent, nullptr}; }

    confer_status status() const noexcept { return status_; }
    // The status's constant, such as "CONFER_E_REJECTED".
    std::string_view name() const noexcept { return confer_status_name(status_); }
    const std::optional<std::string> &check_id() const noexcept { return check_id_; }
    std::optional<std::int32_t> http_status() const noexcept { return http_status_; }
    bool retryable() const noexcept { return retryable_; }
    std::optional<milliseconds> retry_delay() const noexcept { return retry_delay_; }
    // One of CONFER_PROGRESS_*.
    std::int32_t progress() const noexcept { return progress_; }
    // The enclave's own words; may repeat parts of the request, so not for a log.
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
        // The report belongs to the error: it keeps it alive.
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

// Calls a function of confer.h, whose last parameter is the error. CONFER_TIMEOUT and CONFER_END are returned.
template <class Function, class... Arguments>
confer_status call(Function function, Arguments... arguments) {
    confer_error *failure = nullptr;
    const confer_status status = function(arguments..., &failure);
    if (status >= CONFER_E_INVALID_ARGUMENT) throw error(status, failure);
    return status;
}

// Makes a handle of type T: `function(arguments..., &handle, &error)`.
template <class T, class Function, class... Arguments>
T *make(Function function, Arguments... arguments) {
    T *handle = nullptr;
    call(function, arguments..., &handle);
    return handle;
}

}  // namespace detail

// What is trusted. Immutable.
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

// Verifies exported evidence again, offline; at the time of its capture unless `at` (Unix seconds) says otherwise.
inline report verify_evidence(std::string_view evidence, const policy &trusted, std::optional<std::int64_t> at = {}) {
    return report({detail::make<confer_report>(confer_evidence_verify, evidence.data(), evidence.size(), trusted.get(),
                                               at.value_or(-1)),
                   confer_report_free});
}

using log_function = std::function<void(std::int32_t level, std::string_view target, std::string_view message)>;
using stage_function = std::function<void(std::int32_t stage)>;

// What clients are made from. Setters return the configuration, to be chained.
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

    config &log(std::int32_t level, log_function function) {
        auto owned = std::make_unique<shared<log_function>>(std::move(function));
        const auto call = [](void *data, std::int32_t at, const char *target, const char *message) noexcept {
            static_cast<shared<log_function> *>(data)->run(at, target, message);
        };
        return set(confer_config_set_log, level, confer_log_fn(call), static_cast<void *>(owned.release()),
                   confer_destroy_fn(destroy<shared<log_function>>));
    }
    config &on_stage(stage_function function) {
        auto owned = std::make_unique<shared<stage_function>>(std::move(function));
        const auto call = [](void *data, std::int32_t stage) noexcept {
            static_cast<shared<stage_function> *>(data)->run(stage);
        };
        return set(confer_config_set_stage_callback, confer_stage_fn(call), static_cast<void *>(owned.release()),
                   confer_destroy_fn(destroy<shared<stage_function>>));
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
    // A negative time becomes a number beyond every bound, which the setter refuses by name.
    static std::uint64_t count(milliseconds time) noexcept { return static_cast<std::uint64_t>(time.count()); }
    // A function that the clients of this configuration call, each from a thread of its own.
    template <class Function>
    struct shared {
        explicit shared(Function from) : function(std::move(from)) {}
        template <class... Arguments>
        void run(Arguments... arguments) noexcept {
            try {
                const std::lock_guard<std::mutex> lock(mutex);
                function(arguments...);
            } catch (...) {
            }
        }
        Function function;
        std::mutex mutex;
    };
    template <class T>
    static void destroy(void *data) noexcept {
        delete static_cast<T *>(data);
    }

    detail::owned<confer_config, confer_config_free> handle_;
};

// A chat request. Setters return the request, to be chained.
class chat_request {
public:
    chat_request() : handle_(detail::make<confer_chat_request>(confer_chat_request_new)) {}

    // `role`: one of CONFER_ROLE_*.
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

    detail::owned<confer_chat_request, confer_chat_request_free> handle_;
};

// One event of an answer: lent, so it can't be copied.
class event {
public:
    event(const event &) = delete;
    event &operator=(const event &) = delete;

    std::int32_t type() const noexcept { return confer_event_type(handle_); }  // CONFER_EVENT_*
    std::string_view json() const { return detail::view(confer_event_json, handle_).value(); }
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

private:
    friend class stream;
    friend class pull_stream;
    explicit event(const confer_event *handle) noexcept : handle_(handle) {}

    const confer_event *handle_ = nullptr;
};

enum class flow { go_on, stop };

// What a stream calls. Either may be empty.
struct stream_functions {
    // Returning flow::stop ends the stream with CONFER_E_STOPPED; what it throws ends the stream, too.
    std::function<flow(const event &)> on_event;
    // Once, after the last event. Null when the answer is complete; else a confer::error, or what on_event threw.
    std::function<void(std::exception_ptr)> on_done;
};

// An answer that is streamed to functions.
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

    // Any thread, also in a callback.
    void cancel() const noexcept { confer_stream_cancel(handle_.get()); }

    // Waits until the functions have run to their end, then throws what on_done was given, or what it threw itself.
    void wait() const {
        if (const confer_status status = detail::may_wait(); status != CONFER_OK) throw error(status, nullptr);
        if (!shared_) throw error(CONFER_E_INVALID_ARGUMENT, nullptr);
        std::unique_lock<std::mutex> lock(shared_->mutex);
        shared_->ended.wait(lock, [this] { return shared_->over; });
        if (shared_->failure) std::rethrow_exception(shared_->failure);
    }

private:
    friend class client;

    // What the library's thread and the owner share.
    struct shared {
        stream_functions functions;   // the library's thread alone, until it is over
        std::exception_ptr thrown;    // by on_event
        std::exception_ptr failure;   // under the mutex
        bool over = false;            // under the mutex: the functions are destroyed
        std::mutex mutex;
        std::condition_variable ended;
    };

    stream(const confer_client *client, const chat_request &request, stream_functions functions)
        : shared_(std::make_shared<shared>()) {
        shared_->functions = std::move(functions);
        auto data = std::make_unique<std::shared_ptr<shared>>(shared_);
        const confer_stream_callbacks table = {sizeof(confer_stream_callbacks), data.get(), on_event, on_done, destroy};
        confer_stream *handle = nullptr;
        data.release();  // to destroy(), which runs also when the call fails
        detail::call(confer_chat_stream, client, request.get(), &table, &handle);
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

// An answer that is pulled: with next(), or by a range-based for loop, which throws if the stream fails. One reader at a
// time; any thread may cancel.
class pull_stream {
public:
    // The next event; null when the answer is complete. Throws also when none came within `timeout`.
    const event *next(milliseconds timeout = forever) {
        const confer_event *lent = nullptr;
        const confer_status status =
            detail::call(confer_stream_next, handle_.get(), std::int64_t{timeout.count()}, &lent);
        if (status == CONFER_TIMEOUT) throw error(CONFER_TIMEOUT, nullptr);
        current_.handle_ = lent;
        return status == CONFER_OK ? &current_ : nullptr;
    }

    void cancel() const noexcept { confer_stream_cancel(handle_.get()); }

    // Readable while next() has something to return at once.
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

// Lets another thread give up a client::connect().
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
    // Throws confer::error; for a refused enclave its status() is CONFER_E_REJECTED and report() says why.
    static client connect(const config &from, const canceller *cancel = nullptr) {
        return client(detail::make<confer_client>(confer_connect, from.get(), cancel ? cancel->get() : nullptr));
    }

    confer::report report() const {
        return confer::report({detail::make<confer_report>(confer_attestation_report, handle_.get()), confer_report_free});
    }

    // Throws the error with which the connection ended, if it did.
    void check() const { detail::call(confer_client_check, handle_.get()); }

    [[nodiscard]] confer::stream stream(const chat_request &request, stream_functions functions) const {
        return confer::stream(handle_.get(), request, std::move(functions));
    }

    [[nodiscard]] pull_stream pull(const chat_request &request) const {
        return pull_stream(detail::make<confer_stream>(confer_chat_pull, handle_.get(), request.get()));
    }

    // Whether it is closed: false if `timeout` ended first, and it goes on closing behind.
    bool close(milliseconds timeout = forever) {
        return detail::call(confer_close, handle_.get(), std::int64_t{timeout.count()}) == CONFER_OK;
    }

    const confer_client *get() const noexcept { return handle_.get(); }

private:
    friend class connecting;
    explicit client(confer_client *handle) noexcept : handle_(handle) {}
    detail::owned<confer_client, confer_client_free> handle_;
};

// A connection under way.
class connecting {
public:
    explicit connecting(const config &from)
        : handle_(detail::make<confer_connecting>(confer_connect_start, from.get())) {}

    // The client, once; nothing if `timeout` ended first. Throws what client::connect() throws.
    std::optional<client> wait(milliseconds timeout = forever) {
        confer_client *connected = nullptr;
        const confer_status status =
            detail::call(confer_connecting_wait, handle_.get(), std::int64_t{timeout.count()}, &connected);
        return status == CONFER_OK ? std::optional<client>(client(connected)) : std::nullopt;
    }

    std::int32_t stage() const noexcept { return confer_connecting_stage(handle_.get()); }
    void cancel() const noexcept { confer_connecting_cancel(handle_.get()); }

    // Readable when wait() has an outcome.
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
