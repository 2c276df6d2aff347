// The promises of confer.hpp, against local enclaves.

#include <confer.hpp>

#include "enclave.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace std::chrono_literals;

#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) throw std::runtime_error(std::string(#condition) + ", line " + std::to_string(__LINE__)); \
    } while (false)

namespace {

confer::config configuration(const enclave &at) {
    confer::config config;
    config.endpoint(at.url).token(at.token).policy(confer::policy::load(at.policy));
    return config;
}

// Without a token: the client asks for one.
confer::config asking(const enclave &at) {
    confer::config config;
    config.endpoint(at.url).policy(confer::policy::load(at.policy)).ask(confer::ask::token);
    return config;
}

confer::client connect(const enclave &to) { return confer::client::connect(configuration(to)); }

confer::chat_request ask(std::string_view prompt) {
    confer::chat_request request;
    request.message(confer::role::user, prompt);
    return request;
}

template <class Exception = confer::error, class Function>
Exception fails(Function function) {
    try {
        function();
    } catch (const Exception &exception) {
        return exception;
    }
    throw std::logic_error("nothing was thrown");
}

std::string text_of(confer::pull_stream stream) {
    std::string text;
    for (const confer::event &event : stream)
        if (event.type() == confer::event_type::token) text += event.content().value();
    return text;
}

static_assert(!std::is_copy_constructible_v<confer::client> && std::is_nothrow_move_constructible_v<confer::client>);
static_assert(!std::is_copy_constructible_v<confer::config> && std::is_nothrow_move_constructible_v<confer::config>);
static_assert(!std::is_copy_constructible_v<confer::stream> && std::is_nothrow_move_constructible_v<confer::stream>);
static_assert(!std::is_copy_constructible_v<confer::pull_stream> &&
              std::is_nothrow_move_constructible_v<confer::pull_stream>);
static_assert(!std::is_copy_constructible_v<confer::chat_request> &&
              std::is_nothrow_move_constructible_v<confer::extraction_request>);
static_assert(std::is_nothrow_copy_constructible_v<confer::error>);

void range_based_for_reads_an_answer() {
    enclave local;
    confer::client client = connect(local);
    CHECK(text_of(client.pull(ask("hello there"))) == "You said: hello there");
    CHECK(text_of(client.pull(ask("/unicode"))).find(std::string("\0\x1f", 2)) != std::string::npos);
    CHECK(client.close(60s));
    CHECK(fails([&] { (void)client.pull(ask("too late")); }).status() == CONFER_E_CLOSED);
}

void two_streams_share_a_connection() {
    enclave local;
    confer::client client = connect(local);
    confer::pull_stream first = client.pull(ask("/tokens 100 4")), second = client.pull(ask("/tokens 100 4"));
    int tokens = 0;
    for (const confer::event *one = first.next(), *two = second.next(); one && two; one = first.next(), two = second.next()) {
        CHECK(one->type() == two->type() && one->content() == two->content());
        tokens += one->type() == confer::event_type::token;
    }
    CHECK(tokens == 100 && first.ended() && client.counter(confer::counter::connections) == 1);
    CHECK(text_of(std::move(second)).empty());
}

void callbacks_receive_an_answer() {
    enclave local;
    confer::client client = connect(local);
    std::string text;
    std::int64_t context = 0;
    int done = 0;
    confer::stream stream = client.stream(ask("hello there"), {[&](const confer::event &event) {
                                              text += event.content().value_or("");
                                              context = event.context_tokens().value_or(context);
                                              return confer::flow::go_on;
                                          },
                                                               [&](std::exception_ptr failure) {
                                                                   CHECK(!failure);
                                                                   ++done;
                                                               }});
    stream.wait();
    CHECK(text == "You said: hello there" && context > 0 && done == 1);
}

void refused_enclave_throws_with_check_and_report() {
    enclave local("binding-other-key");
    const confer::error error = fails([&] { connect(local); });
    CHECK(error.status() == CONFER_E_REJECTED && error.name() == "CONFER_E_REJECTED");
    CHECK(error.check_id() == "tdx.key_binding");
    CHECK(!error.retryable() && error.progress() == confer::progress::not_sent);
    CHECK(error.report() && !error.report()->verified());
    // Copies of the report outlive their error.
    const confer::report kept = *confer::error(error).report();
    std::size_t failed = 0;
    for (std::size_t at = 0; at < kept.check_count(); ++at)
        if (kept.check(at).outcome == confer::outcome::fail) {
            ++failed;
            CHECK(kept.check(at).id == "tdx.key_binding");
        }
    CHECK(failed == 1);
}

void evidence_verifies_again() {
    enclave local;
    confer::report report = [&] { return connect(local).report(); }();
    CHECK(report.verified() && report.platform() == "TDX");
    CHECK(report.endpoint() == local.url && report.signer() && report.log_index());
    CHECK(report.json().find("\"verdict\"") != std::string_view::npos);
    for (const auto &register_ : {report.mrtd(), report.rtmr0(), report.rtmr1(), report.rtmr2(), report.rtmr3()})
        CHECK(register_ && register_->size() == 96);
    CHECK(report.tcb_status() && report.tcb_date() && report.seam_svn() && report.log_integrated_time());
    for (const std::string_view advisory : report.advisories()) CHECK(!advisory.empty());
    CHECK(report.timing(confer::stage::all) >= report.timing(confer::stage::verify).value());
    CHECK(!report.timing(confer::stage::proxy));
    const confer::policy policy = confer::policy::load(local.policy);
    CHECK(report.policy_sha256() == policy.sha256() && report.policy_name() == policy.name());
    const confer::report again = verify_evidence(report.evidence(), policy);
    CHECK(again.verified() && again.check_count() == report.check_count() && !again.timing(confer::stage::verify));
    CHECK(verify_evidence(report.evidence(), policy, report.verified_at()).verified());
    const confer::error late = fails([&] { verify_evidence(report.evidence(), policy, *report.expires_at() + 3600); });
    CHECK(late.status() == CONFER_E_REJECTED && late.check_id() == "ita.time" && !late.report()->verified());
    CHECK(fails([&] { verify_evidence(report.evidence(), confer::policy::production()); }).check_id() == "ita.key");
}

void refused_request_has_its_http_status() {
    enclave local("request-402");
    confer::client client = connect(local);
    const confer::error error = fails([&] { text_of(client.pull(ask("x"))); });
    CHECK(error.status() == CONFER_E_PAYMENT_REQUIRED && error.http_status() == 402);
    confer::stream stream = client.stream(ask("x"), {});
    CHECK(fails([&] { stream.wait(); }).status() == CONFER_E_PAYMENT_REQUIRED);
}

void exception_in_a_callback_reaches_the_owner() {
    enclave local;
    confer::client client = connect(local);
    std::string told;
    confer::stream stream = client.stream(
        ask("/slow 1 100000"), {[](const confer::event &) -> confer::flow { throw std::domain_error("from on_event"); },
                                [&](std::exception_ptr failure) {
                                    told = fails<std::domain_error>([&] { std::rethrow_exception(failure); }).what();
                                }});
    fails<std::domain_error>([&] { stream.wait(); });
    CHECK(told == "from on_event");

    confer::stream second = client.stream(ask("x"), {{}, [](std::exception_ptr) { throw std::range_error("from on_done"); }});
    fails<std::range_error>([&] { second.wait(); });
}

void callback_can_stop_its_stream() {
    enclave local;
    confer::client client = connect(local);
    int events = 0;
    confer::stream stream = client.stream(ask("/slow 1 100000"), {[&](const confer::event &) {
                                                                      return ++events == 3 ? confer::flow::stop
                                                                                           : confer::flow::go_on;
                                                                  },
                                                                  {}});
    CHECK(fails([&] { stream.wait(); }).status() == CONFER_E_STOPPED);
    CHECK(events == 3);
}

void stream_is_cancelled() {
    enclave local;
    confer::client client = connect(local);
    confer::pull_stream pulled = client.pull(ask("/slow 1 100000"));
    CHECK(pulled.next() != nullptr);
    confer::pull_stream silent = client.pull(ask("/silent"));
    CHECK(silent.next() != nullptr && fails([&] { silent.next(1ms); }).status() == CONFER_TIMEOUT);
    std::thread other([&] { pulled.cancel(); });
    const confer::error error = fails([&] { while (pulled.next()) continue; });
    other.join();
    CHECK(error.status() == CONFER_E_CANCELLED && fails([&] { pulled.next(); }).status() == CONFER_E_CANCELLED);

    confer::stream streamed = client.stream(ask("/slow 1 100000"), {});
    streamed.cancel();
    CHECK(fails([&] { streamed.wait(); }).status() == CONFER_E_CANCELLED);
    CHECK(text_of(client.pull(ask("still here"))) == "You said: still here");
}

void destructor_waits_for_its_stream() {
    enclave local;
    confer::client client = connect(local);
    auto alive = std::make_shared<int>(0);
    std::atomic<bool> done = false;
    {
        confer::stream stream = client.stream(ask("/slow 1 100000"), {[alive](const confer::event &) { return confer::flow::go_on; },
                                                                      [&](std::exception_ptr failure) { done = failure != nullptr; }});
        CHECK(alive.use_count() >= 2);
    }
    CHECK(done && alive.use_count() == 1);
}

void failed_start_destroys_its_callbacks_without_calls() {
    enclave local;
    confer::client client = connect(local);
    auto alive = std::make_shared<int>(0);
    const confer::error error = fails([&] {
        (void)client.stream(confer::chat_request(), {{}, [alive](std::exception_ptr) { ++*alive; }});
    });
    CHECK(error.status() == CONFER_E_INVALID_ARGUMENT && *alive == 0 && alive.use_count() == 1);
}

void waiting_in_a_callback_is_refused() {
    enclave local;
    confer::client client = connect(local);
    confer::stream slow = client.stream(ask("/slow 1 100000"), {});
    confer::pull_stream silent = client.pull(ask("/silent"));
    std::vector<confer_status> answers;
    confer::stream stream = client.stream(ask("x"), {{}, [&](std::exception_ptr) {
                                                         answers.push_back(fails([&] { slow.wait(); }).status());
                                                         answers.push_back(fails([&] { client.close(); }).status());
                                                         answers.push_back(fails([&] { client.wait(); }).status());
                                                         answers.push_back(fails([&] { silent.collect(); }).status());
                                                         answers.push_back(fails([&] { connect(local); }).status());
                                                         confer::stream inner = client.stream(ask("y"), {});
                                                     }});
    stream.wait();
    CHECK(answers == std::vector<confer_status>(5, CONFER_E_WOULD_DEADLOCK));
}

void connecting_can_be_watched_and_closed() {
    enclave local, stalled("message1-stall");
    std::atomic<int> records = 0;
    confer::config config = asking(local);
    config.log(confer::log_level::debug, [&](confer::log_level, std::string_view, std::string_view message) {
        if (message.find(local.token) == std::string_view::npos) ++records;
        throw std::runtime_error("nobody hears this");
    });
    confer::client client = confer::client::start(config);
    CHECK(!client.connected() && fails([&] { client.report(); }).status() == CONFER_E_NOT_CONNECTED);
    confer::pull_stream events = client.pull(confer::watch());
    pollfd readable = {events.fd(), POLLIN, 0};
    CHECK(poll(&readable, 1, 60000) == 1);
    const auto until = [&](confer::event_type type) {
        for (;;)
            if (const confer::event &event = *events.next(); event.type() == type) return event;
    };
    // The stages begin after the answer, so the watch has all of them.
    const confer::event question = until(confer::event_type::ask_token);
    CHECK(question.wants_answer() && question.token_reason() == confer::token_reason::first);
    CHECK(fails([&] { question.answer_token(""); }).status() == CONFER_E_INVALID_ARGUMENT);
    question.answer_token(local.token);
    CHECK(fails([&] { question.answer_token(local.token); }).status() == CONFER_E_STALE);
    CHECK(events.next()->type() == confer::event_type::answered);
    std::vector<confer::stage> stages;
    for (const confer::event &event : events) {
        if (event.type() == confer::event_type::connected) {
            CHECK(event.report()->verified() && !event.release_changed() && !event.stage() && !event.error());
            break;
        }
        CHECK(event.type() == confer::event_type::stage);
        stages.push_back(event.stage().value());
    }
    CHECK(stages.size() > 3 && stages.front() == confer::stage::resolve && stages.back() == confer::stage::verify);
    CHECK(client.wait() && client.wait(0ms) && client.state() == confer::client_state::connected);
    CHECK(client.report().verified());
    client.check();
    CHECK(client.close(60s));
    CHECK(events.next() == nullptr && events.ended() && events.dropped() == 0 && records > 0);
    CHECK(client.state() == confer::client_state::ended && fails([&] { client.check(); }).status() == CONFER_E_CLOSED);

    confer::client given_up = confer::client::start(configuration(stalled));
    CHECK(!given_up.wait(1ms) && given_up.state() == confer::client_state::connecting);
    std::thread other([&] { given_up.close(0ms); });
    CHECK(fails([&] { given_up.wait(); }).status() == CONFER_E_CLOSED);
    other.join();

    confer::config hasty = configuration(stalled);
    hasty.duration(confer::duration::stage_handshake, 50ms);
    CHECK(fails([&] { confer::client::connect(hasty); }).status() == CONFER_E_STAGE_TIMEOUT);
    confer::client late = confer::client::start(hasty);
    CHECK(fails([&] { late.wait(); }).status() == CONFER_E_STAGE_TIMEOUT);
    CHECK(fails([&] { late.pull(confer::watch()).next(); }).status() == CONFER_E_STAGE_TIMEOUT);
}

void refused_enclave_ends_a_started_client_with_its_report() {
    enclave local("binding-other-key");
    confer::client client = confer::client::start(configuration(local));
    CHECK(fails([&] { text_of(client.pull(ask("never sent"))); }).progress() == confer::progress::not_sent);
    const confer::error error = fails([&] { client.wait(); });
    CHECK(error.status() == CONFER_E_REJECTED && error.check_id() == "tdx.key_binding" && !error.report()->verified());
}

void copies_outlive_their_loan() {
    enclave local;
    confer::client client = connect(local);
    std::vector<confer::event> kept;
    for (const confer::event &event : client.pull(ask("hello there"))) kept.push_back(event);
    client.stream(ask("hello there"), {[&](const confer::event &event) {
                                           kept.push_back(event);
                                           return confer::flow::go_on;
                                       },
                                       {}})
        .wait();
    kept.push_back(*client.pull(confer::watch()).next());
    CHECK(client.close(60s));
    client = connect(local);
    std::string text;
    for (const confer::event &event : std::vector<confer::event>(kept))
        if (event.type() == confer::event_type::token) text += event.content().value();
    CHECK(text == "You said: hello thereYou said: hello there");
    CHECK(kept.back().type() == confer::event_type::connected && kept.back().report()->verified());
    kept.front() = kept.back();
    CHECK(kept.front().json().empty() && kept.front().report()->platform() == "TDX");
}

void whole_answer_is_collected() {
    enclave local;
    confer::client client = connect(local);
    CHECK(client.pull(ask("hello there")).collect() == "You said: hello there");
    CHECK(client.pull(confer::fetch_request("https://a.test/")).collect().find("https://a.test/") != std::string::npos);
    confer::pull_stream silent = client.pull(ask("/silent"));
    const confer::error late = fails([&] { silent.collect(1ms); });
    CHECK(late.status() == CONFER_TIMEOUT && !late.progress() && !silent.ended());
    silent.cancel();
    CHECK(fails([&] { silent.collect(); }).status() == CONFER_E_CANCELLED);
    confer::pull_stream broken = client.pull(ask("/status-midstream 500"));
    for (int reader = 0; reader < 2; reader++)
        CHECK(fails([&] { broken.collect(); }).status() == CONFER_E_REFUSED && !broken.text().empty());
    for (int reader = 0; reader < 2; reader++)
        CHECK(fails([&] { for (const confer::event &event : broken) CHECK(event.json().empty()); }).status() == CONFER_E_REFUSED);
    CHECK(!broken.ended());
    confer::pull_stream again = client.pull(ask("twice"));
    CHECK(again.collect() == "You said: twice" && again.collect() == again.text() && again.ended());
    confer::pull_stream ping = client.pull(confer::ping());
    CHECK(fails([&] { ping.collect(); }).status() == CONFER_E_INVALID_ARGUMENT);
}

void ready_function_wakes_a_reader() {
    enclave local;
    confer::client client = connect(local);
    std::mutex mutex;
    std::condition_variable changed;
    bool ready = false;
    std::string text;
    auto alive = std::make_shared<int>(0);
    {
        confer::pull_stream stream = client.pull(ask("hello there"), [&, alive] {
            const std::lock_guard<std::mutex> lock(mutex);
            ready = true;
            changed.notify_all();
            throw std::runtime_error("nobody hears this");
        });
        while (!stream.ended()) {
            std::unique_lock<std::mutex> lock(mutex);
            changed.wait(lock, [&] { return ready; });
            ready = false;
            lock.unlock();
            while (const confer::event *event = stream.poll())
                if (event->type() == confer::event_type::token) text += event->content().value();
        }
        CHECK(text == "You said: hello there");
    }
    CHECK(alive.use_count() == 1);
    confer::pull_stream slow = client.pull(ask("/slow 1 100000"), [alive] {});
    slow = client.pull(ask("x"));  // waits until the function was destroyed
    CHECK(alive.use_count() == 1 && text_of(std::move(slow)) == "You said: x");
}

// The message names the argument.
template <class Function>
void refused(confer_status status, std::string_view argument, Function function) {
    const confer::error error = fails(function);
    if (error.status() != status || std::string_view(error.what()).rfind(argument, 0) != 0)
        throw std::runtime_error(std::string(argument) + " got " + std::string(error.name()) + ": " + error.what());
}

void policy_can_be_read_back() {
    const confer::policy production = confer::policy::production();
    const confer::policy again = confer::policy::parse(production.json());
    CHECK(again.json() == production.json() && again.sha256() == production.sha256() && again.sha256().size() == 64);
    CHECK(!again.name().empty() && confer::policy::strict().sha256() != production.sha256());
}

void counters_count() {
    enclave local;
    confer::client client = connect(local);
    using counter = confer::counter;
    const std::uint64_t sent = client.counter(counter::messages_sent), received = client.counter(counter::messages_received);
    for (const confer::event &event : client.pull(confer::ping())) CHECK(event.type() == confer::event_type::pong);
    CHECK(client.counter(counter::messages_sent) == sent + 1 && client.counter(counter::messages_received) == received + 1);
    CHECK(client.counter(counter::connections) == 1 && client.counter(counter::failed_attempts) == 0);
    // Bytes are counted after their content was handled.
    while (client.counter(counter::bytes_sent) == 0 || client.counter(counter::bytes_received) == 0) std::this_thread::yield();
    CHECK(client.counter(counter(-1)) == 0);
}

void log_goes_to_its_function_without_secrets() {
    enclave local;
    std::mutex mutex;
    std::string records;
    confer::config config = configuration(local);
    config.log(confer::log_level::debug, [&](confer::log_level level, std::string_view target, std::string_view message) {
        const std::lock_guard<std::mutex> lock(mutex);
        records.append(name(level)).append(" ").append(target).append(" ").append(message).append("\n");
    });
    confer::client client = confer::client::connect(config);
    CHECK(text_of(client.pull(ask("s3cret"))) == "You said: s3cret" && client.close(60s));
    const std::lock_guard<std::mutex> lock(mutex);
    CHECK(records.find("CONFER_LOG_INFO confer") != std::string::npos && records.find("CONFER_LOG_DEBUG") != std::string::npos);
    CHECK(records.find("s3cret") == std::string::npos && records.find(local.token) == std::string::npos);
}

void arguments_are_refused_by_name() {
    confer::config config;
    refused(CONFER_E_INVALID_URL, "endpoint: ", [&] { config.endpoint("http://example.com"); });
    refused(CONFER_E_INVALID_URL, "proxy: ", [&] { config.proxy("ftp://proxy.test"); });
    refused(CONFER_E_INVALID_ARGUMENT, "roots: ", [&] { config.roots(confer::roots(-1)); });
    refused(CONFER_E_INVALID_ARGUMENT, "pem: ", [&] { config.roots_pem("none"); });
    config.proxy("http://me@proxy.test").proxy("").roots(confer::roots::bundled);
    refused(CONFER_E_INVALID_ARGUMENT, "CONFER_DURATION_IDLE_EVENTS: ",
            [&] { config.duration(confer::duration::idle_events, -1ms); });
    refused(CONFER_E_INVALID_ARGUMENT, "CONFER_LIMIT_REQUESTS: ", [&] { config.limit(confer::limit::requests, 0); });
    refused(CONFER_E_INVALID_ARGUMENT, "questions: ", [&] { config.ask(confer::ask(4)); });
    refused(CONFER_E_INVALID_POLICY, "policy lacks the key", [&] { confer::policy::parse("{}"); });
    refused(CONFER_E_FILE, "path: /nonexistent: ", [&] { confer::policy::load("/nonexistent"); });
    confer::chat_request request;
    refused(CONFER_E_INVALID_UTF8, "content: ", [&] { request.message(confer::role::user, "\xff"); });
    refused(CONFER_E_INVALID_JSON, "json: ", [&] { request.property("temperature", "{"); });
    refused(CONFER_E_INVALID_JSON, "json: ", [&] { request.document_json("[]"); });
    refused(CONFER_E_INVALID_ARGUMENT, "token: ", [&] { confer::client::connect(config); });
    refused(CONFER_E_INVALID_ARGUMENT, "token: ", [&] { confer::client::start(config); });
}

void invalid_texts_are_refused_and_nul_bytes_arrive() {
    enclave local;
    confer::client client = connect(local);
    const std::string nul("a\0b", 3), bad("a\xff");
    CHECK(text_of(client.pull(ask(nul))) == "You said: " + nul);
    CHECK(text_of(client.pull(ask(std::string_view()))) == "You said nothing.");
    refused(CONFER_E_INVALID_UTF8, "content", [&] { ask(bad); });
    refused(CONFER_E_INVALID_UTF8, "token", [&] { client.set_token(bad); });
    refused(CONFER_E_INVALID_ARGUMENT, "token", [&] { client.set_token(nul); });
    refused(CONFER_E_INVALID_ARGUMENT, "path", [&] { confer::config().jwks_cache_file(nul); });
    refused(CONFER_E_INVALID_ARGUMENT, "verb", [&] { confer::raw_request(nul, "/", confer::ending::completion); });
    refused(CONFER_E_INVALID_ARGUMENT, "role", [&] { confer::chat_request().message(confer::role(99), "x"); });
    refused(CONFER_E_INVALID_ARGUMENT, "temperature",
            [&] { confer::chat_request().temperature(std::numeric_limits<double>::quiet_NaN()); });
    refused(CONFER_E_INVALID_ARGUMENT, "timeout_ms", [&] { confer::chat_request().tool_rounds(1, -1ms); });
    refused(CONFER_E_INVALID_ARGUMENT, "bytes", [&] { confer::extraction_request("x").document_bytes(nullptr, 5); });
}

void moved_from_objects_are_refused_and_self_moves_change_nothing() {
    enclave local;
    confer::client client = connect(local);
    const auto gone = [](auto &from) { const auto taken = std::move(from); };
    confer::config config;
    confer::chat_request request;
    confer::conversation conversation;
    confer::policy policy = confer::policy::production();
    confer::report report = client.report();
    confer::client other = connect(local);
    confer::pull_stream pulled = client.pull(ask("x"));
    confer::stream streamed = client.stream(ask("x"), {});
    gone(config), gone(request), gone(conversation), gone(policy), gone(report), gone(other), gone(pulled), gone(streamed);
    refused(CONFER_E_INVALID_ARGUMENT, "config", [&] { config.token("x"); });
    refused(CONFER_E_INVALID_ARGUMENT, "config", [&] { confer::client::connect(config); });
    refused(CONFER_E_INVALID_ARGUMENT, "request", [&] { (void)client.pull(request); });
    refused(CONFER_E_INVALID_ARGUMENT, "conversation", [&] { conversation.message(confer::role::user, "x"); });
    refused(CONFER_E_INVALID_ARGUMENT, "", [&] { ask("x").conversation(conversation); });
    refused(CONFER_E_INVALID_ARGUMENT, "policy", [&] { confer::config().policy(policy); });
    CHECK(policy.json().empty() && report.json().empty() && !report.verified() && report.advisories().empty());
    refused(CONFER_E_INVALID_ARGUMENT, "client", [&] { (void)other.stream(ask("x"), {}); });
    refused(CONFER_E_INVALID_ARGUMENT, "client", [&] { other.close(); });
    CHECK(other.state() == confer::client_state::ended);
    refused(CONFER_E_INVALID_ARGUMENT, "stream", [&] { pulled.next(); });
    refused(CONFER_E_INVALID_ARGUMENT, "stream", [&] { pulled.collect(); });
    CHECK(!pulled.ended() && pulled.text().empty());
    refused(CONFER_E_INVALID_ARGUMENT, "", [&] { streamed.wait(); });
    pulled.cancel(), streamed.cancel();
    pulled = client.pull(ask("again"));
    CHECK(pulled.collect() == "You said: again");

    confer::chat_request tools = ask("/client-tools 1 clock {}");
    tools.tool("clock", "", "{}", [](std::string_view) { return std::string("noon"); });
    const auto to_itself = [](auto &object) {
        auto &same = object;
        object = std::move(same);
    };
    to_itself(tools), to_itself(client);
    confer::pull_stream stream = client.pull(tools);
    to_itself(stream);
    CHECK(text_of(std::move(stream)) == "The tools answered: noon");
}

// An event's loan is not the stream object's, and a tool may do with its stream what it likes.
void pull_stream_can_be_moved_and_destroyed_at_any_time() {
    enclave local;
    confer::client client = connect(local);
    std::optional<confer::pull_stream> stream(client.pull(ask("hello")));
    const confer::event *event = stream->next();
    confer::pull_stream moved = std::move(*stream);
    CHECK(event->content() == "You ");

    std::optional<confer::pull_stream> target;
    confer::chat_request moving = ask("/client-tools 1 clock {}");
    moving.tool("clock", "", "{}", [&](std::string_view) {
        target.emplace(std::move(*stream));
        return std::string("noon");
    });
    stream.emplace(client.pull(moving));
    CHECK(stream->next()->type() == confer::event_type::client_tool_call);
    refused(CONFER_E_INVALID_ARGUMENT, "stream", [&] { stream->next(); });
    CHECK(text_of(std::move(*target)) == "The tools answered: noon");

    confer::chat_request destroying = ask("/client-tools 1 clock {}");
    destroying.tool("clock", "", "{}", [&](std::string_view arguments) {
        stream.reset();
        return std::string(arguments);
    });
    for (const bool polls : {false, true}) {
        stream.emplace(client.pull(destroying));
        const confer::error error = fails([&] {
            if (!polls) stream->next();
            else while (stream->poll() == nullptr) std::this_thread::yield();
        });
        CHECK(error.status() == CONFER_E_CANCELLED && !stream);
    }
}

void callback_can_destroy_its_stream_and_its_client() {
    enclave local;
    auto alive = std::make_shared<int>(0);
    const auto until_over = [&] { while (alive.use_count() > 1) std::this_thread::yield(); };
    confer::client client = connect(local);
    std::mutex starting;
    std::optional<confer::stream> stream;
    const auto start = [&](confer::stream_functions functions) {
        const std::lock_guard<std::mutex> lock(starting);
        stream.emplace(client.stream(ask("/slow 1 100000"), std::move(functions)));
    };
    const auto destroy = [&] {
        const std::lock_guard<std::mutex> lock(starting);
        stream.reset();
    };
    std::atomic<bool> done = false;
    start({[&, alive](const confer::event &) {
               destroy();
               return confer::flow::go_on;
           },
           [&, alive](std::exception_ptr failure) { done = failure != nullptr; }});
    until_over();
    CHECK(done && !stream);
    start({[](const confer::event &) { return confer::flow::stop; }, [&, alive](std::exception_ptr) { destroy(); }});
    until_over();
    CHECK(!stream);
    std::atomic<bool> begun = false;
    {
        confer::pull_stream pulled = client.pull(ask("/slow 1 100000"), [&, alive] { begun = true; });
        while (!begun) std::this_thread::yield();
        CHECK(pulled.next() != nullptr);
    }
    until_over();

    auto last = std::make_shared<confer::client>(connect(local));
    confer::stream outlives = last->stream(ask("x"), {[last](const confer::event &) mutable {
                                                          last.reset();
                                                          return confer::flow::go_on;
                                                      },
                                                      {}});
    last.reset();
    outlives.wait();
    confer::client closing = connect(local);
    CHECK(fails([&] {
              closing.stream(ask("/slow 1 100000"), {[&](const confer::event &) {
                                                         CHECK(!closing.close(0ms));
                                                         return confer::flow::go_on;
                                                     },
                                                     {}})
                  .wait();
          }).status() == CONFER_E_CLOSED);
}

void constants_have_their_names() {
    const std::pair<std::string_view, std::string_view> names[] = {
        {confer::name(confer::event_type::ask_token), "CONFER_EVENT_ASK_TOKEN"},
        {confer::name(confer::role::user), "CONFER_ROLE_USER"},
        {confer::name(confer::ending::completion), "CONFER_ENDING_COMPLETION"},
        {confer::name(confer::progress::not_sent), "CONFER_PROGRESS_NOT_SENT"},
        {confer::name(confer::outcome::skip), "CONFER_OUTCOME_SKIP"},
        {confer::name(confer::stage::key_set), "CONFER_STAGE_KEY_SET"},
        {confer::name(confer::client_state::ended), "CONFER_CLIENT_ENDED"},
        {confer::name(confer::token_reason::refused), "CONFER_TOKEN_REFUSED"},
        {confer::name(confer::roots::system), "CONFER_ROOTS_SYSTEM"},
        {confer::name(confer::duration::longest_retry), "CONFER_DURATION_LONGEST_RETRY"},
        {confer::name(confer::limit::attempts), "CONFER_LIMIT_ATTEMPTS"},
        {confer::name(confer::log_level::warn), "CONFER_LOG_WARN"},
        {confer::name(confer::counter::pings_sent), "CONFER_COUNTER_PINGS_SENT"},
        {confer::name(confer::event_type(9999)), "CONFER_EVENT_UNKNOWN"},
        {confer::status_name(CONFER_E_STALE), "CONFER_E_STALE"},
    };
    for (const auto &[name, expected] : names)
        if (name != expected) throw std::runtime_error(std::string(name) + " is not " + std::string(expected));
}

void request_contains_all_its_fields() {
    enclave local;
    confer::client client = connect(local);
    confer::chat_request request = ask("/echo-request");
    request.temperature(0.5).top_p(0.25).min_p(0.125).top_k(-1).presence_penalty(-1.5).frequency_penalty(1.5);
    request.repetition_penalty(1.25).max_tokens(1000).json(true).thinking(false).property("newer", "[1]");
    request.document_json(R"({"attachmentId":"one","filename":"a.pdf","contentType":"application/pdf",)"
                          R"("sourceBytes":7,"sourceObjectKey":"object","encryptionKey":"key"})");
    request.tool("clock", "tells the time", R"({"type":"object"})");
    const std::string sent = text_of(client.pull(request));
    for (const char *part :
         {R"("temperature":0.5)", R"("topP":0.25)", R"("minP":0.125)", R"("topK":-1)", R"("presencePenalty":-1.5)",
          R"("frequencyPenalty":1.5)", R"("repetitionPenalty":1.25)", R"("maxTokens":1000)", R"("json":true)",
          R"("thinking":false)", R"("newer":[1])", R"({"attachmentId":"one","filename":"a.pdf","contentType":"application/pdf")",
          R"("sourceBytes":7,"sourceObjectKey":"object","encryptionKey":"key"})",
          R"({"name":"clock","description":"tells the time","parameters":{"type":"object"}})"})
        if (sent.find(part) == std::string::npos) throw std::runtime_error(part + (" is not in " + sent));
    CHECK(fails([&] { request.temperature(-1); }).status() == CONFER_E_INVALID_ARGUMENT);

    confer::pull_stream whole = client.pull(ask("hello there").streaming(false));
    const confer::event *event = whole.next();
    CHECK(event && event->type() == confer::event_type::body && event->content() == "You said: hello there");
    CHECK(event->received() == 21 && event->json().empty() && whole.next() == nullptr);
}

void every_route_works() {
    enclave local;
    confer::client client = connect(local);
    std::vector<std::vector<float>> rows;
    std::optional<std::chrono::microseconds> took;
    client.stream(confer::embeddings_request().is_query(true).text("a").text("b").text("a"), {[&](const confer::event &event) {
                                                                                      rows = event.embeddings();
                                                                                      return confer::flow::go_on;
                                                                                  },
                                                                                  {}})
        .wait();
    CHECK(rows.size() == 3 && rows[0].size() == 64 && rows[0] == rows[2] && rows[0] != rows[1]);
    for (const confer::event &event : client.pull(confer::ping())) took = event.round_trip();
    CHECK(took && *took < 60s);

    const auto body_of = [&](const auto &request) {
        std::string body;
        for (const confer::event &event : client.pull(request)) {
            if (event.type() != confer::event_type::body) continue;
            body += event.content().value();
            CHECK(event.received() == static_cast<std::int64_t>(body.size()));
        }
        return body;
    };
    CHECK(body_of(confer::fetch_request("https://a.test/").header("Accept", "text/html")).find("https://a.test/") !=
          std::string::npos);
    const confer::error refused = fails([&] { body_of(confer::fetch_request("http://unreachable.test/")); });
    CHECK(refused.http_status() == 502 && refused.peer_text());
    CHECK(!body_of(confer::raw_request("GET", "/ping", confer::ending::one_response)).empty());
    CHECK(!body_of(confer::raw_request("POST", "/v2/document/extract", confer::ending::content_length)
                       .body(R"({"filename":"a.pdf","total_length":9,"source_object_key":"k","encryption_key":"e"})"))
               .empty());
    CHECK(fails([&] { (void)client.pull(confer::embeddings_request()); }).status() == CONFER_E_INVALID_ARGUMENT);
}

void document_is_uploaded_from_each_source() {
    enclave local;
    confer::client client = connect(local);
    std::string lines;
    for (int line = 0; line < 200000; ++line) lines += "a line of text\n";
    const auto extract = [&](const confer::extraction_request &request, auto write) {
        std::string body;
        std::int64_t sent = 0;
        confer::pull_stream stream = client.pull(request);
        write(stream);
        for (const confer::event &event : stream) {
            if (event.type() == confer::event_type::progress) sent = event.sent().value();
            body += event.content().value_or("");
        }
        CHECK(sent == static_cast<std::int64_t>(lines.size()));
        CHECK(body.find(R"("md_content":"a line of text\na line of text\n)") != std::string::npos && body.size() > lines.size());
    };
    const auto extraction = [] {
        confer::extraction_request request("lines.txt");
        request.option("content_type", R"("text/plain")").option("ocr", "false");
        return request;
    };
    confer::extraction_request from_memory = extraction();
    const auto nothing = [](confer::pull_stream &) {};
    extract(from_memory.document_bytes(lines), nothing);

    char path[] = "/tmp/confer-lines-XXXXXX";
    const int file = mkstemp(path);
    CHECK(file >= 0);
    for (std::size_t at = 0; at < lines.size();) {
        const ssize_t written = write(file, lines.data() + at, lines.size() - at);
        CHECK(written > 0);
        at += static_cast<std::size_t>(written);
    }
    close(file);
    confer::extraction_request from_file = extraction();
    from_file.document_file(path);
    unlink(path);
    extract(from_file, nothing);

    auto alive = std::make_shared<std::size_t>(0);
    {
        confer::extraction_request from_function = extraction();
        from_function.document([&lines, at = alive](std::uint8_t *buffer, std::size_t size) {
            const std::size_t count = lines.copy(reinterpret_cast<char *>(buffer), size, *at);
            *at += count;
            return count;
        }, static_cast<std::int64_t>(lines.size()));
        extract(from_function, nothing);
    }
    // Written by the application: by pieces, from a function and from a std::istream.
    confer::extraction_request written = extraction();
    written.document_stream(static_cast<std::int64_t>(lines.size()));
    extract(written, [&](confer::pull_stream &stream) {
        const std::size_t taken = stream.write(lines, 0ms);
        CHECK(taken > 0);
        const std::string_view rest = std::string_view(lines).substr(taken);
        if (!rest.empty()) CHECK(stream.write(rest) == rest.size());
        stream.finish();
        CHECK(fails([&] { stream.write("x"); }).status() >= CONFER_E_INVALID_ARGUMENT);
    });
    extract(written, [&, at = std::size_t(0)](confer::pull_stream &stream) mutable {
        CHECK(stream.upload([&](std::uint8_t *buffer, std::size_t size) {
            const std::size_t count = lines.copy(reinterpret_cast<char *>(buffer), size, at);
            at += count;
            return count;
        }));
    });
    extract(written, [&](confer::pull_stream &stream) {
        std::istringstream from(lines);
        CHECK(stream.upload(from));
    });
    // A document that ends before its length; a function that fails; a stream that has ended.
    confer::pull_stream shorter = client.pull(written);
    std::istringstream from("short");
    CHECK(fails([&] { shorter.upload(from); }).status() == CONFER_E_INVALID_ARGUMENT);
    fails<std::domain_error>([&] {
        client.pull(written).upload([](std::uint8_t *, std::size_t) -> std::size_t { throw std::domain_error("no more"); });
    });
    fails<std::length_error>(
        [&] { client.pull(written).upload([](std::uint8_t *, std::size_t size) { return size + 1; }); });
    // A file that is not there, and a source that was read before.
    std::ifstream missing("/nonexistent");
    std::istringstream spent(lines);
    spent.ignore(std::numeric_limits<std::streamsize>::max()).get();
    confer::extraction_request endless = extraction();
    endless.document_stream();
    for (std::istream *source : {static_cast<std::istream *>(&missing), static_cast<std::istream *>(&spent)})
        fails<std::ios_base::failure>([&] { client.pull(endless).upload(*source); });
    confer::pull_stream cancelled = client.pull(written);
    cancelled.cancel();
    CHECK(fails([&] { cancelled.next(); }).status() == CONFER_E_CANCELLED);
    std::istringstream whole(lines);
    CHECK(!cancelled.upload(whole));

    confer::extraction_request failing = extraction();
    failing.document([](std::uint8_t *, std::size_t) -> std::size_t { throw std::runtime_error("no more"); }, 100);
    CHECK(fails([&] { for (const confer::event &event : client.pull(failing)) (void)event; }).status() == CONFER_E_STOPPED);
    CHECK(client.close(60s) && alive.use_count() == 1);
}

void tools_run_until_an_answer_calls_none() {
    enclave local;
    confer::client client = connect(local);
    std::vector<std::string> called;
    std::string answer;
    int completions = 0;
    auto alive = std::make_shared<int>(0);
    {
        confer::chat_request request = ask(R"(/client-tools 2 clock {"zone":"UTC"})");
        request.tool("clock", "", "{}", [&, alive](std::string_view arguments) {
            called.emplace_back(arguments);
            return std::string("noon");
        });
        confer::stream stream = client.stream(request, {[&](const confer::event &event) {
                                                            if (event.type() == confer::event_type::token)
                                                                answer += event.content().value();
                                                            completions += event.type() == confer::event_type::completion;
                                                            return confer::flow::go_on;
                                                        },
                                                        {}});
        stream.wait();
        CHECK(alive.use_count() == 2);
    }
    CHECK(called == std::vector<std::string>(2, R"({"zone":"UTC"})"));
    CHECK(answer == "The tools answered: noon | noon" && completions == 2);

    confer::chat_request failing = ask("/client-tools 1 clock {}");
    failing.tool("clock", "", "{}", [](std::string_view) -> std::string { throw std::runtime_error("it stands"); });
    CHECK(text_of(client.pull(failing)) == "The tools answered: Error: it stands");

    // An exception whose text the model cannot read.
    for (const char *text : {"a\xff", ""}) {
        confer::chat_request odd = ask("/client-tools 1 clock {}");
        odd.tool("clock", "", "{}", [text](std::string_view) -> std::string { throw std::runtime_error(text); });
        CHECK(text_of(client.pull(odd)) == "The tools answered: Error: the tool failed");
    }

    // One answers later from another thread, one never.
    std::thread later;
    confer::chat_request patient = ask("/client-tools 1 clock {}");
    patient.tool("clock", "", "{}", [&](const confer::event &call) {
        later = std::thread([call] {
            call.answer_tool(std::string(call.tool_name().value()) + " " + std::string(call.tool_call_id().value()));
        });
    });
    CHECK(text_of(client.pull(patient)) == "The tools answered: clock call-1");
    later.join();
    confer::chat_request forgetful = ask("/client-tools 1 clock {}");
    forgetful.tool("clock", "", "{}", [](const confer::event &) {});
    CHECK(text_of(client.pull(forgetful)).find("Error: ") != std::string::npos);

    confer::chat_request endless = ask("/endless-tool clock {}");
    endless.tool("clock", "", "{}", [](std::string_view) { return std::string(); }).tool_rounds(2, 10s);
    CHECK(fails([&] { text_of(client.pull(endless)); }).status() == CONFER_E_TOOL_ROUNDS);
    CHECK(fails([&] { endless.tool("clock", "", "{}", [alive](std::string_view) { return std::string(); }); }).status() ==
          CONFER_E_INVALID_ARGUMENT);
    // A tool without a function: the application answers its event, here or later.
    confer::chat_request plain = ask("/client-tools 1 clock {}");
    plain.tool("clock", "", "{}").tool_rounds(1, 60s);
    std::string said;
    std::vector<std::thread> answers;
    client.stream(plain, {[&](const confer::event &event) {
                              if (event.wants_answer())
                                  answers.emplace_back([call = event] { call.answer_tool("by hand"); });
                              if (event.type() == confer::event_type::token) said += event.content().value();
                              return confer::flow::go_on;
                          },
                          {}})
        .wait();
    for (std::thread &thread : answers) thread.join();
    CHECK(answers.size() == 1 && said == "The tools answered: by hand");
    CHECK(fails([&] { client.pull(plain).collect(); }).status() == CONFER_E_INVALID_ARGUMENT);
    CHECK(client.close(60s) && alive.use_count() == 1);
}

// Of two tools, one has a function. The application answers the calls of the other.
void call_that_a_function_took_wants_no_answer() {
    enclave local;
    confer::client client = connect(local);
    const auto wanted = [&](std::string_view prompt, bool pulled) {
        confer::chat_request request = ask(prompt);
        std::optional<confer::event> late;
        request.tool("clock", "", "{}", [&](const confer::event &call) {
            CHECK(call.wants_answer());
            late = call;
        });
        request.tool("stove", "", "{}");
        bool wants = false;
        std::string text;
        const auto take = [&](const confer::event &event) {
            if (event.type() == confer::event_type::client_tool_call) {
                const confer::event copy = event;
                wants = event.wants_answer();
                CHECK(copy.wants_answer() == wants && confer::event(copy).wants_answer() == wants);
                // The copy that the function made still wants its answer.
                if (late) CHECK(late->wants_answer());
                (late ? *late : event).answer_tool(late ? "noon" : "hot");
            }
            if (event.type() == confer::event_type::token) text += event.content().value();
            return confer::flow::go_on;
        };
        if (pulled)
            for (const confer::event &event : client.pull(request)) take(event);
        else client.stream(request, {take, {}}).wait();
        CHECK(text == (late ? "The tools answered: noon" : "The tools answered: hot"));
        return wants;
    };
    for (const bool pulled : {false, true}) {
        CHECK(!wanted("/client-tools 1 clock {}", pulled));
        CHECK(wanted("/client-tools 1 stove {}", pulled));
    }
}

void tool_can_use_its_own_request() {
    enclave local;
    confer::client client = connect(local);
    confer::chat_request request = ask("/client-tools 1 clock {}");
    int depth = 0;
    request.tool("clock", "", "{}", [&](std::string_view) {
        return ++depth == 3 ? std::string("noon") : text_of(client.pull(request));
    });
    CHECK(text_of(client.pull(request)) == "The tools answered: The tools answered: The tools answered: noon" && depth == 3);
    // Another thread runs the tool of the inner stream.
    depth = 1;
    confer::chat_request outer = ask("/client-tools 1 clock {}");
    outer.tool("clock", "", "{}", [&](std::string_view) {
        if (++depth == 3) return std::string("noon");
        client.stream(outer, {}).wait();
        return std::string("night");
    });
    CHECK(text_of(client.pull(outer)) == "The tools answered: night" && depth == 3);

    // A tool cannot read its own stream.
    std::optional<confer::pull_stream> own;
    confer_status told = CONFER_OK;
    confer::chat_request circular = ask("/client-tools 1 clock {}");
    circular.tool("clock", "", "{}", [&](std::string_view) {
        told = fails([&] { own->next(); }).status();
        CHECK(fails([&] { own->collect(); }).status() == told);
        return std::string("noon");
    });
    own.emplace(client.pull(circular));
    std::string text;
    for (const confer::event &event : *own)
        if (event.type() == confer::event_type::token) text += event.content().value();
    CHECK(told == CONFER_E_BUSY && text == "The tools answered: noon");
}

void failing_chat_adds_nothing_to_its_conversation() {
    enclave local;
    confer::client client = connect(local);
    confer::conversation conversation;
    CHECK(!conversation.context_tokens() && !conversation.max_context_tokens());
    CHECK(text_of(client.pull(ask("hello").conversation(conversation))) == "You said: hello");
    CHECK(conversation.message_count() == 2 && conversation.context_tokens() && conversation.max_context_tokens());
    const std::string json(conversation.json());
    CHECK(fails([&] { text_of(client.pull(ask("/status-midstream 500").conversation(conversation))); }).status() ==
          CONFER_E_REFUSED);
    CHECK(conversation.json() == json && confer::conversation::parse(json).json() == json);
    conversation.truncate(1);
    CHECK(conversation.message(confer::role::assistant, "hi").message_count() == 2);
    CHECK(fails([&] { confer::conversation::parse("{}"); }).status() == CONFER_E_INVALID_JSON);
}

void broken_connection_is_replaced_with_a_fresh_token() {
    enclave local("stream-drop", {"--fault-until", "1"});
    using type = confer::event_type;
    std::vector<type> changes;
    std::mutex mutex;
    std::condition_variable connected;
    int asked = 0;
    std::thread later;
    confer::config config = asking(local);
    config.limit(confer::limit::attempts, 10).duration(confer::duration::first_retry, 10ms);
    config.duration(confer::duration::longest_retry, 100ms).duration(confer::duration::max_age, 0ms);
    config.renew_with_evidence(true).duration(confer::duration::probe, 5s).limit(confer::limit::requests, 100);
    config.ask(confer::ask::token | confer::ask::release);
    confer::client client = confer::client::start(config);
    confer::client_functions functions;
    functions.on_event = [&](const confer::event &event) {
        const std::lock_guard<std::mutex> lock(mutex);
        bool good = true;
        switch (event.type()) {
            case type::ask_token:
                if (++asked == 1) return event.answer_token(local.token);
                good = event.token_reason() == confer::token_reason::reconnect;
                later = std::thread([&, event] { event.answer_token(local.token); });
                if (good) return;
                break;
            case type::disconnected: good = event.error() && event.error()->status() == CONFER_E_CONNECTION_LOST; break;
            case type::retry: good = event.attempt() == 1 && event.delay() <= 10ms && !event.error(); break;
            case type::connected: good = event.report()->verified() && !event.release_changed(); break;
            default: return;
        }
        changes.push_back(good ? event.type() : type(-1));
        connected.notify_all();
        throw std::runtime_error("nobody hears this");
    };
    functions.release = [](const confer::report &, const confer::report &) { return false; };
    confer::stream watch = client.watch(functions);
    // A watch may leave out a connection that ended before it was read.
    {
        std::unique_lock<std::mutex> lock(mutex);
        connected.wait(lock, [&] { return !changes.empty(); });
    }
    CHECK(client.wait());
    const confer::error lost = fails([&] { text_of(client.pull(ask("x"))); });
    CHECK(lost.status() == CONFER_E_CONNECTION_LOST && lost.progress() != confer::progress::not_sent);
    CHECK(text_of(client.pull(ask("again"))) == "You said: again");
    CHECK(client.connected() && client.counter(confer::counter::connections) == 2);
    client.network_changed();
    {
        std::unique_lock<std::mutex> lock(mutex);
        connected.wait(lock, [&] { return changes.size() >= 4; });
    }
    CHECK(client.close(60s));
    watch.wait();
    later.join();
    const std::vector<type> expected = {type::connected, type::disconnected, type::retry, type::connected};
    CHECK(asked == 2 && std::vector<type>(changes.begin(), changes.begin() + 4) == expected);
}

void token_function_answers_or_refuses() {
    enclave local;
    const auto started = [&](std::function<std::string(confer::token_reason)> token) {
        confer::client client = confer::client::start(asking(local));
        confer::client_functions functions;
        functions.token = std::move(token);
        confer::stream watch = client.watch(std::move(functions));
        client.wait();
        CHECK(client.close(60s));
        watch.wait();
    };
    std::vector<confer::token_reason> reasons;
    started([&](confer::token_reason reason) {
        reasons.push_back(reason);
        return local.token;
    });
    CHECK(reasons == std::vector<confer::token_reason>{confer::token_reason::first});

    const confer::error thrown =
        fails([&] { started([](confer::token_reason) -> std::string { throw std::runtime_error("s3cret"); }); });
    CHECK(thrown.status() == CONFER_E_TOKEN && !thrown.retryable());
    CHECK(std::string_view(thrown.what()).find("s3cret") == std::string_view::npos);
    const confer::error invalid = fails([&] { started([](confer::token_reason) { return std::string("two words"); }); });
    CHECK(invalid.status() == CONFER_E_TOKEN && !invalid.retryable());
    CHECK(std::string_view(invalid.what()).find("words") == std::string_view::npos);
    CHECK(std::string_view(invalid.what()).find("white space") != std::string_view::npos);

    // A refusal through the event, with its reason.
    confer::client client = confer::client::start(asking(local));
    for (confer::pull_stream events = client.pull(confer::watch());;)
        if (const confer::event &event = *events.next(); event.type() == confer::event_type::ask_token) {
            event.refuse_token("nobody is logged in");
            CHECK(fails([&] { while (events.next()) continue; }).status() == CONFER_E_TOKEN);
            break;
        }
    CHECK(std::string_view(fails([&] { client.wait(); }).what()).find("nobody") != std::string_view::npos);

    // A token given unasked, and a configured one.
    confer::client given = confer::client::start(asking(local));
    CHECK(fails([&] { given.set_token("two words"); }).status() == CONFER_E_INVALID_ARGUMENT);
    given.set_token(local.token);
    CHECK(given.wait() && given.close(60s));
    confer::config config = asking(local);
    CHECK(confer::client::connect(config.token(local.token)).close(60s));
}

void changed_release_is_accepted_or_refused() {
    for (const int decision : {0, 1, 2}) {
        std::string port, token;
        bool asked = false, connected = false, changed = false;
        std::mutex mutex;
        std::condition_variable told;
        std::optional<confer_status> end;
        std::optional<confer::client> client;
        std::optional<confer::stream> watch;
        {
            enclave first;
            port = first.url.substr(first.url.rfind(':') + 1);
            port = port.substr(0, port.find('/'));
            confer::config config = configuration(first);
            config.limit(confer::limit::attempts, 1000000).duration(confer::duration::first_retry, 10ms);
            config.duration(confer::duration::longest_retry, 50ms).ask(confer::ask::release);
            client.emplace(confer::client::connect(config));
            confer::client_functions functions;
            functions.release = [&, decision](const confer::report &before, const confer::report &now) -> bool {
                asked = before.verified() && now.verified() && before.manifest_sha256() != now.manifest_sha256();
                if (decision == 2) throw std::runtime_error("a refusal, too");
                return decision == 0;
            };
            functions.on_event = [&](const confer::event &event) {
                if (event.type() != confer::event_type::connected) return;
                const std::lock_guard<std::mutex> lock(mutex);
                (connected ? changed : connected) = true;
                if (changed) changed = event.release_changed();
                told.notify_all();
            };
            functions.on_done = [&](std::exception_ptr failure) {
                const std::lock_guard<std::mutex> lock(mutex);
                end = failure ? fails([&] { std::rethrow_exception(failure); }).status() : CONFER_OK;
                told.notify_all();
            };
            watch.emplace(client->watch(std::move(functions)));
            std::unique_lock<std::mutex> lock(mutex);
            told.wait(lock, [&] { return connected; });
            token = first.token;
        }
        enclave second("none", {"--port", port.c_str(), "--token", token.c_str(), "--release", "9.9.9"});
        {
            std::unique_lock<std::mutex> lock(mutex);
            told.wait(lock, [&] { return changed || end; });
        }
        CHECK(asked);
        if (decision == 0) {
            CHECK(changed && text_of(client->pull(ask("hi"))) == "You said: hi" && client->close(60s));
            watch->wait();
            CHECK(end == CONFER_OK);
        } else {
            CHECK(!changed && end == CONFER_E_RELEASE_REFUSED);
            CHECK(fails([&] { watch->wait(); }).status() == CONFER_E_RELEASE_REFUSED);
            CHECK(fails([&] { client->check(); }).status() == CONFER_E_RELEASE_REFUSED && client->close(60s));
        }
    }
}

void runtime_ends_with_the_last_client() {
    enclave local;
    CHECK(confer::version() == std::to_string(CONFER_VERSION_MAJOR) + '.' + std::to_string(CONFER_VERSION_MINOR) + '.' +
                                   std::to_string(CONFER_VERSION_PATCH));
    CHECK(confer::version_number() == CONFER_VERSION_NUMBER);
    {
        confer::client client = connect(local);
        CHECK(!confer::runtime::wait(0ms));
        CHECK(fails([&] { confer::runtime::set_workers(3); }).status() == CONFER_E_BUSY);
    }
    CHECK(confer::runtime::wait());
    confer::runtime::set_workers(3);
    CHECK(text_of(connect(local).pull(ask("hi"))) == "You said: hi");
    CHECK(confer::runtime::wait());
    confer::runtime::set_workers(2);
    CHECK(fails([&] { confer::runtime::set_workers(0); }).status() == CONFER_E_INVALID_ARGUMENT);
    CHECK(fails([&] { confer::runtime::set_unread_limit(1); }).status() == CONFER_E_INVALID_ARGUMENT);
    confer::runtime::set_unread_limit(1 << 30);
}

void forked_child_gets_an_error_and_never_hangs() {
    enclave local;
    confer::client client = connect(local);
    std::optional<confer::stream> stream(client.stream(ask("/slow 1 100000"), {}));
    int answer[2];
    CHECK(pipe(answer) == 0);
    const pid_t child = fork();
    if (child == 0) {
        alarm(60);
        const bool told = fails([&] { stream->wait(); }).status() == CONFER_E_FORKED;
        stream.reset();
        _exit(write(answer[1], told ? "y" : "n", 1) == 1 ? 0 : 1);
    }
    close(answer[1]);
    // The exit status cannot show this, because valgrind considers memory of the parent's threads a
    // leak.
    char told = 0;
    CHECK(read(answer[0], &told, 1) == 1 && told == 'y');
    close(answer[0]);
    CHECK(waitpid(child, nullptr, 0) == child);
}

}  // namespace

int main(int argc, char **argv) {
    const struct {
        const char *name;
        void (*test)();
    } promises[] = {
#define PROMISE(name) {#name, name}
        PROMISE(range_based_for_reads_an_answer),
        PROMISE(two_streams_share_a_connection),
        PROMISE(callbacks_receive_an_answer),
        PROMISE(refused_enclave_throws_with_check_and_report),
        PROMISE(evidence_verifies_again),
        PROMISE(refused_request_has_its_http_status),
        PROMISE(exception_in_a_callback_reaches_the_owner),
        PROMISE(callback_can_stop_its_stream),
        PROMISE(stream_is_cancelled),
        PROMISE(destructor_waits_for_its_stream),
        PROMISE(failed_start_destroys_its_callbacks_without_calls),
        PROMISE(waiting_in_a_callback_is_refused),
        PROMISE(connecting_can_be_watched_and_closed),
        PROMISE(refused_enclave_ends_a_started_client_with_its_report),
        PROMISE(copies_outlive_their_loan),
        PROMISE(whole_answer_is_collected),
        PROMISE(ready_function_wakes_a_reader),
        PROMISE(policy_can_be_read_back),
        PROMISE(counters_count),
        PROMISE(log_goes_to_its_function_without_secrets),
        PROMISE(arguments_are_refused_by_name),
        PROMISE(invalid_texts_are_refused_and_nul_bytes_arrive),
        PROMISE(moved_from_objects_are_refused_and_self_moves_change_nothing),
        PROMISE(pull_stream_can_be_moved_and_destroyed_at_any_time),
        PROMISE(callback_can_destroy_its_stream_and_its_client),
        PROMISE(constants_have_their_names),
        PROMISE(request_contains_all_its_fields),
        PROMISE(every_route_works),
        PROMISE(document_is_uploaded_from_each_source),
        PROMISE(tools_run_until_an_answer_calls_none),
        PROMISE(call_that_a_function_took_wants_no_answer),
        PROMISE(tool_can_use_its_own_request),
        PROMISE(failing_chat_adds_nothing_to_its_conversation),
        PROMISE(broken_connection_is_replaced_with_a_fresh_token),
        PROMISE(token_function_answers_or_refuses),
        PROMISE(changed_release_is_accepted_or_refused),
        PROMISE(runtime_ends_with_the_last_client),
        PROMISE(forked_child_gets_an_error_and_never_hangs),
    };
    int passed = 0, failed = 0;
    for (const auto &promise : promises) {
        if (argc > 1 && std::string_view(argv[1]) != promise.name) continue;
        try {
            promise.test();
            std::printf("ok     %s\n", promise.name);
            ++passed;
        } catch (const std::exception &error) {
            std::printf("FAILED %s: %s\n", promise.name, error.what());
            ++failed;
        }
        std::fflush(stdout);
    }
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
}
