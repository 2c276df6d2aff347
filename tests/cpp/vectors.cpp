// vectors.cpp: runs the conformance vectors of tests/vectors through confer.hpp. Their README
// defines the form of the results.
//
// vectors FILE... compares each vector's results with those in its file.

#include <confer.hpp>

#include "enclave.hpp"

#include <nlohmann/json.hpp>

#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace {

using nlohmann::json;

std::string read(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

template <class T>
json or_null(const std::optional<T> &value) {
    return value ? json(*value) : json();
}

// The constant of a name in confer.h. Those of an enumeration are below 1,000.
template <class Enum>
Enum constant(const std::string &wanted) {
    for (std::int32_t value = 0; value < 1000; ++value)
        if (confer::name(Enum(value)) == wanted) return Enum(value);
    throw std::runtime_error("unknown constant " + wanted);
}

// A text, or a list of texts and repeated texts, joined.
std::string joined(const json &parts) {
    if (parts.is_string()) return parts;
    std::string text;
    for (const json &part : parts) {
        const bool once = part.is_string();
        for (std::size_t left = once ? 1 : part["times"].get<std::size_t>(); left > 0; --left)
            text += (once ? part : part["repeat"]).get<std::string>();
    }
    return text;
}

json describe(const confer::error &error) {
    return {{"status", error.name()},
            {"check", or_null(error.check_id())},
            {"http_status", or_null(error.http_status())},
            {"progress", confer::name(error.progress().value())},
            {"retryable", error.retryable()},
            {"peer_text", or_null(error.peer_text())}};
}

// Runs a function and returns its result.
json result(const std::function<void()> &run, std::optional<confer::report> *refused = nullptr) {
    try {
        run();
        return {{"status", "CONFER_OK"}, {"check", nullptr},     {"http_status", nullptr},
                {"progress", nullptr},   {"retryable", nullptr}, {"peer_text", nullptr}};
    } catch (const confer::error &error) {
        if (refused != nullptr) *refused = error.report();
        return describe(error);
    }
}

// Adds an event in the normal form.
void add(json &events, const confer::event &event) {
    const auto text = [](confer::detail::text value) { return std::string(value.value_or("")); };
    const confer::event_type type = event.type();
    json shown = {{"type", confer::name(type)}};
    switch (type) {
    case confer::event_type::progress:
        if (!events.empty() && events.back()["type"] == shown["type"]) events.erase(events.size() - 1);
        shown["sent"] = or_null(event.sent());
        shown["total"] = or_null(event.total());
        break;
    case confer::event_type::body:
        if (!events.empty() && events.back()["type"] == shown["type"]) {
            events.back()["content"] = events.back()["content"].get<std::string>() + text(event.content());
            return;
        }
        if (text(event.content()).empty()) return;
        [[fallthrough]];
    case confer::event_type::token:
    case confer::event_type::thinking: shown["content"] = text(event.content()); break;
    case confer::event_type::server_tool_response:
        shown["content"] = text(event.content());
        shown["full_content"] = text(event.full_content());
        break;
    case confer::event_type::client_tool_call: shown["wants_answer"] = event.wants_answer(); [[fallthrough]];
    case confer::event_type::server_tool_call: shown["tool_arguments"] = text(event.tool_arguments()); break;
    case confer::event_type::completion:
        shown["pending_tool_calls"] = event.pending_tool_calls();
        shown["context_tokens"] = or_null(event.context_tokens());
        shown["max_context_tokens"] = or_null(event.max_context_tokens());
        break;
    case confer::event_type::embeddings: shown["values"] = event.embeddings(); break;
    case confer::event_type::pong: break;
    default: shown["json"] = json::parse(event.json());
    }
    if (event.tool_call_id()) {
        shown["tool_call_id"] = text(event.tool_call_id());
        shown["tool_name"] = text(event.tool_name());
    }
    events.push_back(std::move(shown));
}

json verify(const std::string &folder, const json &evidence) {
    std::optional<confer::report> report;
    json shown = result(
        [&] {
            const confer::policy policy = confer::policy::parse(read(folder + evidence["policy"].get<std::string>()));
            std::optional<std::int64_t> at;
            if (!evidence["at"].is_null()) at = evidence["at"];
            report = confer::verify_evidence(read(folder + evidence["export"].get<std::string>()), policy, at);
        },
        &report);
    shown["report"] = report ? json::parse(report->json()) : json();
    if (report)
        for (json &check : shown["report"]["checks"])
            for (const char *text : {"detail", "expected", "observed"}) check.erase(text);
    return shown;
}

confer::config config_of(const enclave &enclave, const json &vector = json::object()) {
    confer::config config;
    config.endpoint(enclave.url).policy(confer::policy::load(enclave.policy));
    const json token = vector.value("token", json(enclave.token));
    if (token.is_string()) config.token(token.get<std::string>());
    const auto settings = [&](const char *key) { return vector.value(key, json::object()).get<std::map<std::string, std::int64_t>>(); };
    for (const auto &[name, time] : settings("durations_ms"))
        config.duration(constant<confer::duration>(name), confer::milliseconds(time));
    for (const auto &[name, value] : settings("limits"))
        config.limit(constant<confer::limit>(name), static_cast<std::uint64_t>(value));
    confer::ask ask{};
    for (const json &question : vector.value("ask", json::array()))
        ask = ask | (question == "CONFER_ASK_TOKEN" ? confer::ask::token : confer::ask::release);
    config.ask(ask);
    return config;
}

using conversation = std::optional<confer::conversation>;

confer::chat_request chat(const json &asked, const conversation &continued) {
    confer::chat_request request;
    for (const json &message : asked["messages"]) request.message_json(message.dump());
    for (const json &tool : asked.value("tools", json::array()))
        request.tool(tool["name"].get<std::string>(), tool["description"].get<std::string>(), tool["parameters"].dump());
    if (asked.contains("tool_rounds")) request.tool_rounds(asked["tool_rounds"], std::chrono::minutes(1));
    if (asked.contains("streaming")) request.streaming(asked["streaming"]);
    const json properties = asked.value("properties", json::object());
    for (const auto &property : properties.items())
        request.property(property.key(), property.value().dump());
    if (continued) request.conversation(*continued);
    return request;
}

confer::pull_stream start(const confer::client &client, const json &asked, const conversation &continued) {
    const auto text = [&](const char *key) { return asked[key].get<std::string>(); };
    const std::string kind = text("kind");
    if (kind == "chat") return client.pull(chat(asked, continued));
    if (kind == "embeddings") {
        confer::embeddings_request request;
        for (const json &content : asked["texts"]) request.text(content.get<std::string>());
        return client.pull(request.is_query(asked["is_query"]));
    }
    if (kind == "extraction") {
        confer::extraction_request request(text("filename"));
        for (const auto &option : asked["options"].items()) request.option(option.key(), option.value().dump());
        return client.pull(request.document_bytes(joined(asked["document"])));
    }
    if (kind == "fetch") {
        confer::fetch_request request(text("url"));
        for (const auto &header : asked["headers"].items()) request.header(header.key(), header.value().get<std::string>());
        return client.pull(request);
    }
    if (kind == "raw") {
        const auto ending = constant<confer::ending>(text("ending"));
        return client.pull(confer::raw_request(text("verb"), text("path"), ending).body(text("body")));
    }
    if (kind == "ping") return client.pull(confer::ping());
    throw std::runtime_error("unknown kind " + kind);
}

// Reads a stream to its end, or cancels it where the vector says so.
json finish(confer::pull_stream &stream, const json &asked) {
    json events = json::array();
    json shown = result([&] {
        while (const confer::event *event = stream.next()) {
            if (event->type() != confer::event_type::progress || asked.contains("progress")) add(events, *event);
            if (event->wants_answer()) {
                const json answers = asked.value("answers", json::object());
                const auto found = answers.find(std::string(event->tool_call_id().value()));
                if (found != answers.end()) event->answer_tool(found->get<std::string>());
                else event->fail_tool("no answer");
            }
            if (asked.value("cancel_after", -1) == static_cast<int>(events.size())) stream.cancel();
        }
    });
    shown["events"] = std::move(events);
    return shown;
}

// The watch of a client, read on a thread until the vector closes the client.
class watch {
public:
    watch(const confer::client &client, const json &vector)
        : vector_(vector), stream_(client.pull(confer::watch())), thread_([this] {
              const json &count = vector_["close_after"];
              read(count.is_null() ? SIZE_MAX : count.get<std::size_t>());
          }) {}
    // Waits for the events before the close.
    void wait() { thread_.join(); }
    // Reads the rest, after the close.
    json finish() {
        read(SIZE_MAX);
        shown_["events"] = std::move(events_);
        return shown_;
    }

private:
    void read(std::size_t count) {
        if (ended_) return;
        shown_ = result([&] {
            while (events_.size() < count && !ended_) {
                const confer::event *event = stream_.next();
                if (event != nullptr) add(*event);
                else ended_ = true;
            }
        });
        ended_ = ended_ || shown_["status"] != "CONFER_OK";
    }
    void add(const confer::event &event) {
        const confer::event_type type = event.type();
        json shown = {{"type", confer::name(type)}};
        if (type == confer::event_type::stage) return;
        if (type == confer::event_type::connected) shown["release_changed"] = event.release_changed();
        if (type == confer::event_type::retry) shown["attempt"] = event.attempt();
        if (type == confer::event_type::retry || type == confer::event_type::disconnected)
            shown["error"] = event.error() ? describe(*event.error()) : json();
        if (event.token_reason()) shown["reason"] = confer::name(*event.token_reason());
        if (event.wants_answer()) shown["replies"] = reply_to(event);
        events_.push_back(std::move(shown));
    }
    // Replies to a question, and returns the status of each reply.
    json reply_to(const confer::event &question) {
        const json all = vector_.value("replies", json::array());
        json statuses = json::array();
        for (const json &reply : asked_ < all.size() ? all[asked_] : json::array())
            statuses.push_back(result([&] {
                if (reply.contains("token")) question.answer_token(reply["token"].get<std::string>());
                else if (reply.contains("refuse")) question.refuse_token(reply["refuse"].get<std::string>());
                else question.answer_release(reply["accept"]);
            })["status"]);
        ++asked_;
        return statuses;
    }

    const json vector_;
    confer::pull_stream stream_;
    json events_ = json::array(), shown_;
    std::size_t asked_ = 0;
    bool ended_ = false;
    std::thread thread_;
};

json exchange(const std::string &file, const json &vector) {
    enclave enclave("none", {"--script", file.c_str()});
    const confer::config config = config_of(enclave, vector);
    const bool watched = vector.contains("watch"), together = vector.value("together", false);
    const confer::client client = watched ? confer::client::start(config) : confer::client::connect(config);
    std::optional<watch> watching;
    if (watched) watching.emplace(client, vector["watch"]);
    conversation continued;
    if (vector.contains("conversation")) {
        const json &begun = vector["conversation"];
        continued = begun.is_null() ? confer::conversation() : confer::conversation::parse(begun.dump());
    }

    const json &requests = vector["requests"];
    std::vector<std::optional<confer::pull_stream>> streams(requests.size());
    json results = json::array();
    const auto begin = [&](std::size_t at) {
        results.push_back(result([&] { streams[at].emplace(start(client, requests[at], continued)); }));
        results.back()["events"] = json::array();
    };
    const auto end = [&](std::size_t at) {
        if (streams[at]) results[at] = finish(*streams[at], requests[at]);
        if (continued && requests[at]["kind"] == "chat") results[at]["conversation"] = json::parse(continued->json());
    };
    for (std::size_t at = 0; at < requests.size(); ++at) {
        begin(at);
        if (!together) end(at);
    }
    for (std::size_t at = 0; at < requests.size() && together; ++at) end(at);
    if (watching) watching->wait();
    client.close();
    if (watching) results.push_back(watching->finish());
    if (!enclave.succeeds()) results.push_back("the script failed");
    return results;
}

json run(const std::string &file, const json &vector) {
    if (vector.contains("evidence")) return json::array({verify(file.substr(0, file.rfind('/') + 1), vector["evidence"])});
    if (!vector.contains("connect")) return exchange(file, vector["exchange"]);
    const enclave enclave(vector["connect"]["fault"].get<std::string>().c_str());
    return json::array({result([&] { confer::client::connect(config_of(enclave)).close(); })});
}

}  // namespace

int main(int argc, char **argv) {
    int failed = 0;
    for (int at = 1; at < argc; ++at) {
        const json vector = json::parse(read(argv[at]));
        const json results = run(argv[at], vector);
        if (results == vector["results"]) continue;
        ++failed;
        std::cout << argv[at] << ": expected " << vector["results"].dump(1) << "\nactual " << results.dump(1) << std::endl;
    }
    std::cout << argc - 1 - failed << " vectors pass" << std::endl;
    return failed != 0;
}
