// What confer.hpp promises, against local enclaves.

#include <confer.hpp>

#include "enclave.hpp"

#include <atomic>
#include <cstdio>
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

confer::client connect(const enclave &to) { return confer::client::connect(configuration(to)); }

confer::chat_request ask(std::string_view prompt) {
    confer::chat_request request;
    request.message(CONFER_ROLE_USER, prompt);
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
        if (event.type() == CONFER_EVENT_TOKEN) text += event.content().value();
    return text;
}

static_assert(!std::is_copy_constructible_v<confer::client> && std::is_nothrow_move_constructible_v<confer::client>);
static_assert(!std::is_copy_constructible_v<confer::config> && std::is_nothrow_move_constructible_v<confer::config>);
static_assert(!std::is_copy_constructible_v<confer::stream> && std::is_nothrow_move_constructible_v<confer::stream>);
static_assert(!std::is_copy_constructible_v<confer::pull_stream> && !std::is_copy_constructible_v<confer::event>);

void an_answer_is_pulled_by_a_range_based_for() {
    enclave local;
    confer::client client = connect(local);
    CHECK(text_of(client.pull(ask("hello there"))) == "You said: hello there");
    CHECK(text_of(client.pull(ask("/unicode"))).find(std::string("\0\x1f", 2)) != std::string::npos);
    CHECK(client.close(10s));
    CHECK(fails([&] { (void)client.pull(ask("too late")); }).status() == CONFER_E_CLOSED);
}

void an_answer_is_streamed_to_functions_and_waited_for() {
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

void a_refused_enclave_is_an_exception_with_check_and_report() {
    enclave local("binding-other-key");
    const confer::error error = fails([&] { connect(local); });
    CHECK(error.status() == CONFER_E_REJECTED && error.name() == "CONFER_E_REJECTED");
    CHECK(error.check_id() == "tdx.key_binding");
    CHECK(!error.retryable() && error.progress() == CONFER_PROGRESS_NOT_SENT);
    CHECK(error.report() && !error.report()->verified());
    // The report outlives the error it came with, in copies.
    const confer::report kept = *confer::error(error).report();
    std::size_t failed = 0;
    for (std::size_t at = 0; at < kept.check_count(); ++at)
        if (kept.check(at).outcome == CONFER_OUTCOME_FAIL) {
            ++failed;
            CHECK(kept.check(at).id == "tdx.key_binding");
        }
    CHECK(failed == 1);
}

void a_report_can_be_read_and_its_evidence_verified_again() {
    enclave local;
    confer::report report = [&] { return connect(local).report(); }();
    CHECK(report.verified() && report.platform() == "TDX");
    CHECK(report.endpoint() == local.url && report.signer() && report.log_index());
    CHECK(report.json().find("\"verdict\"") != std::string_view::npos);
    const confer::policy policy = confer::policy::load(local.policy);
    CHECK(report.policy_sha256() == policy.sha256());
    CHECK(fails([&] { verify_evidence(report.evidence(), confer::policy::production()); }).status() == CONFER_E_REJECTED);
}

void a_refused_request_says_so_with_its_http_status() {
    enclave local("request-402");
    confer::client client = connect(local);
    const confer::error error = fails([&] { text_of(client.pull(ask("x"))); });
    CHECK(error.status() == CONFER_E_PAYMENT_REQUIRED && error.http_status() == 402);
    confer::stream stream = client.stream(ask("x"), {});
    CHECK(fails([&] { stream.wait(); }).status() == CONFER_E_PAYMENT_REQUIRED);
}

void what_a_function_throws_stops_the_stream_and_reaches_its_owner() {
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

void a_stream_stops_when_its_function_says_so() {
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

void a_stream_is_cancelled_in_its_midst() {
    enclave local;
    confer::client client = connect(local);
    confer::pull_stream pulled = client.pull(ask("/slow 1 100000"));
    CHECK(pulled.next() != nullptr);
    confer::pull_stream silent = client.pull(ask("/silent"));
    CHECK(silent.next() != nullptr && fails([&] { silent.next(1ms); }).status() == CONFER_TIMEOUT);
    std::thread other([&] { pulled.cancel(); });
    const confer::error error = fails([&] { while (pulled.next()) continue; });
    other.join();
    CHECK(error.status() == CONFER_E_CANCELLED && pulled.next() == nullptr);

    confer::stream streamed = client.stream(ask("/slow 1 100000"), {});
    streamed.cancel();
    CHECK(fails([&] { streamed.wait(); }).status() == CONFER_E_CANCELLED);
    CHECK(text_of(client.pull(ask("still here"))) == "You said: still here");
}

void a_stream_that_is_left_is_over_when_its_destructor_returns() {
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

void a_start_that_fails_destroys_its_functions_and_calls_none() {
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
    std::vector<confer_status> answers;
    confer::stream stream = client.stream(ask("x"), {{}, [&](std::exception_ptr) {
                                                         answers.push_back(fails([&] { slow.wait(); }).status());
                                                         answers.push_back(fails([&] { client.close(); }).status());
                                                         confer::stream inner = client.stream(ask("y"), {});
                                                     }});
    stream.wait();
    CHECK(answers == std::vector<confer_status>(2, CONFER_E_WOULD_DEADLOCK));
}

void connecting_is_watched_waited_for_and_cancelled() {
    enclave local, stalled("message1-stall");
    std::vector<std::int32_t> stages;
    std::atomic<int> records = 0;
    std::atomic<bool> ended = false;
    confer::config config = configuration(local);
    config.on_stage([&](std::int32_t stage) {
        stages.push_back(stage);
        ended = stage == CONFER_STAGE_ENDED;
        throw std::runtime_error("nobody hears this");
    });
    config.log(CONFER_LOG_DEBUG, [&](std::int32_t, std::string_view, std::string_view message) {
        if (message.find(local.token) == std::string_view::npos) ++records;
        throw std::runtime_error("nor this");
    });
    confer::connecting connecting(config);
    pollfd readable = {connecting.descriptor(), POLLIN, 0};
    CHECK(poll(&readable, 1, 60000) == 1);
    std::optional<confer::client> client = connecting.wait(0ms);
    CHECK(client && client->report().verified());
    CHECK(client->close(10s));
    CHECK(ended && stages.size() > 3 && records > 0);

    confer::connecting given_up(configuration(stalled));
    CHECK(!given_up.wait(1ms));
    given_up.cancel();
    CHECK(fails([&] { given_up.wait(); }).status() == CONFER_E_CANCELLED);

    const confer::canceller cancel;
    std::thread other([&] { cancel.trigger(); });
    CHECK(fails([&] { confer::client::connect(configuration(stalled), &cancel); }).status() == CONFER_E_CANCELLED);
    other.join();

    confer::config hasty = configuration(stalled);
    hasty.stage_timeout(CONFER_STAGE_HANDSHAKE, 50ms);
    CHECK(fails([&] { confer::client::connect(hasty); }).status() == CONFER_E_STAGE_TIMEOUT);
}

void arguments_are_refused_by_name() {
    confer::config config;
    CHECK(fails([&] { config.endpoint("http://example.com"); }).status() == CONFER_E_INVALID_URL);
    CHECK(fails([&] { config.proxy("ftp://proxy.test"); }).status() == CONFER_E_INVALID_URL);
    CHECK(fails([&] { config.roots(-1); }).status() == CONFER_E_INVALID_ARGUMENT);
    CHECK(fails([&] { config.roots_pem("none"); }).status() == CONFER_E_INVALID_ARGUMENT);
    config.proxy("http://me@proxy.test").proxy("").roots(CONFER_ROOTS_BUNDLED);
    CHECK(fails([&] { config.idle_timeout(-1ms); }).status() == CONFER_E_INVALID_ARGUMENT);
    CHECK(fails([&] { confer::policy::parse("{}"); }).status() == CONFER_E_INVALID_POLICY);
    CHECK(fails([&] { confer::policy::load("/nonexistent"); }).status() == CONFER_E_FILE);
    confer::chat_request request;
    CHECK(fails([&] { request.message(CONFER_ROLE_USER, "\xff"); }).status() == CONFER_E_INVALID_UTF8);
    CHECK(fails([&] { request.property("temperature", "{"); }).status() == CONFER_E_INVALID_JSON);
    CHECK(fails([&] { confer::client::connect(config); }).status() == CONFER_E_INVALID_ARGUMENT);
}

void a_forked_child_is_told_and_does_not_hang() {
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
    // Not the exit status: what the parent's threads owned is a leak in a child, for valgrind.
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
        PROMISE(an_answer_is_pulled_by_a_range_based_for),
        PROMISE(an_answer_is_streamed_to_functions_and_waited_for),
        PROMISE(a_refused_enclave_is_an_exception_with_check_and_report),
        PROMISE(a_report_can_be_read_and_its_evidence_verified_again),
        PROMISE(a_refused_request_says_so_with_its_http_status),
        PROMISE(what_a_function_throws_stops_the_stream_and_reaches_its_owner),
        PROMISE(a_stream_stops_when_its_function_says_so),
        PROMISE(a_stream_is_cancelled_in_its_midst),
        PROMISE(a_stream_that_is_left_is_over_when_its_destructor_returns),
        PROMISE(a_start_that_fails_destroys_its_functions_and_calls_none),
        PROMISE(waiting_in_a_callback_is_refused),
        PROMISE(connecting_is_watched_waited_for_and_cancelled),
        PROMISE(arguments_are_refused_by_name),
        PROMISE(a_forked_child_is_told_and_does_not_hang),
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
