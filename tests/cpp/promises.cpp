// The promises of confer.hpp, against local enclaves.

#include <confer.hpp>

#include "enclave.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
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

void range_based_for_reads_an_answer() {
    enclave local;
    confer::client client = connect(local);
    CHECK(text_of(client.pull(ask("hello there"))) == "You said: hello there");
    CHECK(text_of(client.pull(ask("/unicode"))).find(std::string("\0\x1f", 2)) != std::string::npos);
    CHECK(client.close(10s));
    CHECK(fails([&] { (void)client.pull(ask("too late")); }).status() == CONFER_E_CLOSED);
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
    CHECK(!error.retryable() && error.progress() == CONFER_PROGRESS_NOT_SENT);
    CHECK(error.report() && !error.report()->verified());
    // Copies of the report outlive their error.
    const confer::report kept = *confer::error(error).report();
    std::size_t failed = 0;
    for (std::size_t at = 0; at < kept.check_count(); ++at)
        if (kept.check(at).outcome == CONFER_OUTCOME_FAIL) {
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
    const confer::policy policy = confer::policy::load(local.policy);
    CHECK(report.policy_sha256() == policy.sha256());
    CHECK(fails([&] { verify_evidence(report.evidence(), confer::policy::production()); }).status() == CONFER_E_REJECTED);
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
    CHECK(error.status() == CONFER_E_CANCELLED && pulled.next() == nullptr);

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
    std::vector<confer_status> answers;
    confer::stream stream = client.stream(ask("x"), {{}, [&](std::exception_ptr) {
                                                         answers.push_back(fails([&] { slow.wait(); }).status());
                                                         answers.push_back(fails([&] { client.close(); }).status());
                                                         confer::stream inner = client.stream(ask("y"), {});
                                                     }});
    stream.wait();
    CHECK(answers == std::vector<confer_status>(2, CONFER_E_WOULD_DEADLOCK));
}

void connecting_can_be_watched_and_cancelled() {
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

void request_contains_all_its_fields() {
    enclave local;
    confer::client client = connect(local);
    confer::chat_request request = ask("/echo-request");
    request.temperature(0.5).top_p(0.25).min_p(0.125).top_k(-1).presence_penalty(-1.5).frequency_penalty(1.5);
    request.repetition_penalty(1.25).max_tokens(1000).json(true).thinking(false).property("newer", "[1]");
    const confer::stored_document document{"one", "a.pdf", "application/pdf", 7, "object", "key"};
    request.document(document).tool("clock", "tells the time", R"({"type":"object"})");
    const std::string sent = text_of(client.pull(request));
    for (const char *part :
         {R"("temperature":0.5)", R"("topP":0.25)", R"("minP":0.125)", R"("topK":-1)", R"("presencePenalty":-1.5)",
          R"("frequencyPenalty":1.5)", R"("repetitionPenalty":1.25)", R"("maxTokens":1000)", R"("json":true)",
          R"("thinking":false)", R"("newer":[1])", R"({"attachmentId":"one","filename":"a.pdf","contentType":"application/pdf")",
          R"("sourceBytes":7,"sourceObjectKey":"object","encryptionKey":"key"})",
          R"({"name":"clock","description":"tells the time","parameters":{"type":"object"}})"})
        if (sent.find(part) == std::string::npos) throw std::runtime_error(part + (" is not in " + sent));
    CHECK(fails([&] { request.temperature(-1); }).status() == CONFER_E_INVALID_ARGUMENT);

    confer::pull_stream whole = client.pull(ask("hello there").stream(false));
    const confer::event *event = whole.next();
    CHECK(event && event->type() == CONFER_EVENT_BODY && event->content() == "You said: hello there");
    CHECK(event->received() == 21 && event->json().empty() && whole.next() == nullptr);
}

void every_route_works() {
    enclave local;
    confer::client client = connect(local);
    std::vector<std::vector<float>> rows;
    std::optional<std::chrono::microseconds> took;
    client.stream(confer::request::embeddings(true).text("a").text("b").text("a"), {[&](const confer::event &event) {
                                                                                      rows = event.embeddings();
                                                                                      return confer::flow::go_on;
                                                                                  },
                                                                                  {}})
        .wait();
    CHECK(rows.size() == 3 && rows[0].size() == 64 && rows[0] == rows[2] && rows[0] != rows[1]);
    for (const confer::event &event : client.pull(confer::request::ping())) took = event.round_trip();
    CHECK(took && *took < 60s);

    const auto body_of = [&](const confer::request &request) {
        std::string body;
        for (const confer::event &event : client.pull(request)) {
            if (event.type() != CONFER_EVENT_BODY) continue;
            body += event.content().value();
            CHECK(event.received() == static_cast<std::int64_t>(body.size()));
        }
        return body;
    };
    CHECK(body_of(confer::request::fetch("https://a.test/").header("Accept", "text/html")).find("https://a.test/") !=
          std::string::npos);
    const confer::error refused = fails([&] { body_of(confer::request::fetch("http://unreachable.test/")); });
    CHECK(refused.http_status() == 502 && refused.peer_text());
    CHECK(!body_of(confer::request("GET", "/ping", CONFER_ENDING_ONE_RESPONSE)).empty());
    CHECK(!body_of(confer::request("POST", "/v2/document/extract", CONFER_ENDING_CONTENT_LENGTH)
                       .body(R"({"filename":"a.pdf","total_length":9,"source_object_key":"k","encryption_key":"e"})"))
               .empty());
    CHECK(fails([&] { confer::request::ping().text("x"); }).status() == CONFER_E_INVALID_ARGUMENT);
}

void document_is_uploaded_from_memory_file_and_function() {
    enclave local;
    confer::client client = connect(local);
    std::string lines;
    for (int line = 0; line < 200000; ++line) lines += "a line of text\n";
    const auto extract = [&](const confer::request &request) {
        std::string body;
        std::int64_t sent = 0;
        for (const confer::event &event : client.pull(request)) {
            if (event.type() == CONFER_EVENT_PROGRESS) sent = event.sent().value();
            body += event.content().value_or("");
        }
        CHECK(sent == static_cast<std::int64_t>(lines.size()));
        CHECK(body.find(R"("md_content":"a line of text\na line of text\n)") != std::string::npos && body.size() > lines.size());
    };
    const auto extraction = [] {
        confer::request request = confer::request::extraction("lines.txt");
        request.option("content_type", R"("text/plain")").option("ocr", "false");
        return request;
    };
    confer::request from_memory = extraction();
    extract(from_memory.document_bytes(lines));

    char path[] = "/tmp/confer-lines-XXXXXX";
    const int file = mkstemp(path);
    CHECK(file >= 0);
    for (std::size_t at = 0; at < lines.size();) {
        const ssize_t written = write(file, lines.data() + at, lines.size() - at);
        CHECK(written > 0);
        at += static_cast<std::size_t>(written);
    }
    close(file);
    confer::request from_file = extraction();
    from_file.document_file(path);
    unlink(path);
    extract(from_file);

    auto alive = std::make_shared<std::size_t>(0);
    {
        confer::request from_function = extraction();
        from_function.document([&lines, at = alive](std::uint8_t *buffer, std::size_t size) {
            const std::size_t count = lines.copy(reinterpret_cast<char *>(buffer), size, *at);
            *at += count;
            return count;
        }, static_cast<std::int64_t>(lines.size()));
        extract(from_function);
    }
    confer::request failing = extraction();
    failing.document([](std::uint8_t *, std::size_t) -> std::size_t { throw std::runtime_error("no more"); }, 100);
    CHECK(fails([&] { for (const confer::event &event : client.pull(failing)) (void)event; }).status() == CONFER_E_STOPPED);
    CHECK(client.close(10s) && alive.use_count() == 1);
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
                                                            if (event.type() == CONFER_EVENT_TOKEN)
                                                                answer += event.content().value();
                                                            completions += event.type() == CONFER_EVENT_COMPLETION;
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

    // One answers later from another thread, one never.
    std::thread later;
    confer::chat_request patient = ask("/client-tools 1 clock {}");
    patient.tool("clock", "", "{}", [&](confer::tool_call call) {
        later = std::thread([call = std::move(call)] { call.answer(std::string(call.name()) + " " + std::string(call.id())); });
    });
    CHECK(text_of(client.pull(patient)) == "The tools answered: clock call-1");
    later.join();
    confer::chat_request forgetful = ask("/client-tools 1 clock {}");
    forgetful.tool("clock", "", "{}", [](confer::tool_call) {});
    CHECK(text_of(client.pull(forgetful)).find("Error: ") != std::string::npos);

    confer::chat_request endless = ask("/endless-tool clock {}");
    endless.tool("clock", "", "{}", [](std::string_view) { return std::string(); }).tool_limits(2, 10s);
    CHECK(fails([&] { text_of(client.pull(endless)); }).status() == CONFER_E_TOOL_ROUNDS);
    CHECK(fails([&] { endless.tool("clock", "", "{}", [alive](std::string_view) { return std::string(); }); }).status() ==
          CONFER_E_INVALID_ARGUMENT);
    CHECK(client.close(10s) && alive.use_count() == 1);
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
    CHECK(conversation.message(CONFER_ROLE_ASSISTANT, "hi").message_count() == 2);
    CHECK(fails([&] { confer::conversation::parse("{}"); }).status() == CONFER_E_INVALID_JSON);
}

void broken_connection_is_replaced_with_a_fresh_token() {
    enclave local("stream-drop", {"--fault-until", "1"});
    std::vector<std::int32_t> changes;
    std::mutex mutex;
    std::condition_variable connected;
    int asked = 0;
    std::thread later;
    confer::config config;
    config.endpoint(local.url).policy(confer::policy::load(local.policy)).reconnect(10, 10ms, 100ms).max_age(0ms, true);
    config.probe_timeout(5s).limit(CONFER_LIMIT_REQUESTS, 100);
    config.token_provider([&](confer::token_request request) {
        if (++asked == 1) return request.answer(local.token);
        later = std::thread([&, request = std::move(request)] { request.answer(local.token); });
    });
    config.on_connection([&](const confer::connection_event &event) {
        const std::lock_guard<std::mutex> lock(mutex);
        bool good = true;
        switch (event.type()) {
            case CONFER_CONNECTION_LOST: good = event.error() && event.error()->status() == CONFER_E_CONNECTION_LOST; break;
            case CONFER_CONNECTION_ATTEMPT: good = event.attempt() == 1 && event.delay() <= 10ms; break;
            case CONFER_CONNECTION_CONNECTED: good = event.report()->verified() && !event.release_changed(); break;
        }
        changes.push_back(good ? event.type() : -1);
        connected.notify_all();
        throw std::runtime_error("nobody hears this");
    });
    config.on_release([](const confer::report &, const confer::report &) { return false; });
    confer::client client = confer::client::connect(config);
    const confer::error lost = fails([&] { text_of(client.pull(ask("x"))); });
    CHECK(lost.status() == CONFER_E_CONNECTION_LOST && lost.progress() != CONFER_PROGRESS_NOT_SENT);
    CHECK(text_of(client.pull(ask("again"))) == "You said: again");
    CHECK(client.connected() && client.counter(CONFER_COUNTER_CONNECTIONS) == 2);
    client.network_changed();
    {
        std::unique_lock<std::mutex> lock(mutex);
        connected.wait(lock, [&] { return changes.size() >= 3; });
    }
    CHECK(client.close(10s));
    later.join();
    const std::vector<std::int32_t> expected = {CONFER_CONNECTION_LOST, CONFER_CONNECTION_ATTEMPT, CONFER_CONNECTION_CONNECTED};
    CHECK(asked == 2 && std::vector<std::int32_t>(changes.begin(), changes.begin() + 3) == expected);
}

void changed_release_can_be_refused_and_a_provider_can_fail() {
    std::string port, token;
    confer::config config;
    std::optional<confer::client> client;
    bool asked = false;
    std::mutex mutex;
    std::condition_variable told;
    std::optional<confer_status> end;
    {
        enclave first;
        port = first.url.substr(first.url.rfind(':') + 1);
        port = port.substr(0, port.find('/'));
        config.endpoint(first.url).token(first.token).policy(confer::policy::load(first.policy)).reconnect(1000, 10ms, 50ms);
        config.on_release([&](const confer::report &before, const confer::report &now) -> bool {
            asked = before.verified() && now.verified() && before.manifest_sha256() != now.manifest_sha256();
            throw std::runtime_error("a refusal, too");
        });
        config.on_connection([&](const confer::connection_event &event) {
            if (event.type() != CONFER_CONNECTION_ENDED) return;
            const std::lock_guard<std::mutex> lock(mutex);
            end = event.error()->status();
            told.notify_all();
        });
        client.emplace(confer::client::connect(config));
        token = first.token;
    }
    enclave second("none", {"--port", port.c_str(), "--token", token.c_str(), "--release", "9.9.9"});
    {
        std::unique_lock<std::mutex> lock(mutex);
        told.wait(lock, [&] { return end.has_value(); });
    }
    CHECK(asked && end == CONFER_E_RELEASE_REFUSED && fails([&] { client->check(); }).status() == CONFER_E_RELEASE_REFUSED);
    CHECK(client->close(10s));

    config.token_provider([](confer::token_request) { throw std::runtime_error("s3cret"); });
    const confer::error none = fails([&] { confer::client::connect(config); });
    CHECK(none.status() == CONFER_E_TOKEN && std::string_view(none.what()).find("s3cret") == std::string_view::npos);
    config.token_provider([](confer::token_request request) { request.fail("nobody is logged in"); });
    CHECK(std::string_view(fails([&] { confer::client::connect(config); }).what()).find("nobody") != std::string_view::npos);
    config.token_provider({});
    CHECK(confer::client::connect(config).close(10s));
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
        PROMISE(connecting_can_be_watched_and_cancelled),
        PROMISE(arguments_are_refused_by_name),
        PROMISE(request_contains_all_its_fields),
        PROMISE(every_route_works),
        PROMISE(document_is_uploaded_from_memory_file_and_function),
        PROMISE(tools_run_until_an_answer_calls_none),
        PROMISE(failing_chat_adds_nothing_to_its_conversation),
        PROMISE(broken_connection_is_replaced_with_a_fresh_token),
        PROMISE(changed_release_can_be_refused_and_a_provider_can_fail),
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
