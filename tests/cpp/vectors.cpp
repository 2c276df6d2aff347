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
#include <optional>
#include <string>
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

// Runs a function and returns its result.
json result(const std::function<void()> &run, std::optional<confer::report> *refused = nullptr) {
    try {
        run();
        return {{"status", "CONFER_OK"}, {"check", nullptr},     {"http_status", nullptr},
                {"progress", nullptr},   {"retryable", nullptr}, {"peer_text", nullptr}};
    } catch (const confer::error &error) {
        if (refused != nullptr) *refused = error.report();
        return {{"status", error.name()},
                {"check", or_null(error.check_id())},
                {"http_status", or_null(error.http_status())},
                {"progress", confer::name(error.progress())},
                {"retryable", error.retryable()},
                {"peer_text", or_null(error.peer_text())}};
    }
}

// Adds an event in the normal form.
void add(json &events, const confer::event &event) {
    const auto text = [](confer::detail::text value) { return std::string(value.value_or("")); };
    const confer::event_type type = event.type();
    json shown = {{"type", confer::name(type)}};
    switch (type) {
    case confer::event_type::progress: return;
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

confer::config config_of(const enclave &enclave) {
    confer::config config;
    config.endpoint(enclave.url).token(enclave.token).policy(confer::policy::load(enclave.policy));
    return config;
}

confer::chat_request chat(const json &asked) {
    confer::chat_request request;
    for (const json &message : asked["messages"]) request.message_json(message.dump());
    for (const json &tool : asked.value("tools", json::array()))
        request.tool(tool["name"].get<std::string>(), tool["description"].get<std::string>(), tool["parameters"].dump());
    if (asked.contains("tool_rounds")) request.tool_rounds(asked["tool_rounds"], std::chrono::minutes(1));
    if (asked.contains("streaming")) request.streaming(asked["streaming"]);
    const json properties = asked.value("properties", json::object());
    for (const auto &property : properties.items())
        request.property(property.key(), property.value().dump());
    return request;
}

confer::pull_stream start(const confer::client &client, const json &asked) {
    const auto text = [&](const char *key) { return asked[key].get<std::string>(); };
    const std::string kind = text("kind");
    if (kind == "chat") return client.pull(chat(asked));
    if (kind == "embeddings") {
        confer::embeddings_request request;
        for (const json &content : asked["texts"]) request.text(content.get<std::string>());
        return client.pull(request.is_query(asked["is_query"]));
    }
    if (kind == "extraction") {
        confer::extraction_request request(text("filename"));
        for (const auto &option : asked["options"].items()) request.option(option.key(), option.value().dump());
        return client.pull(request.document_bytes(text("document")));
    }
    if (kind == "fetch") {
        confer::fetch_request request(text("url"));
        for (const auto &header : asked["headers"].items()) request.header(header.key(), header.value().get<std::string>());
        return client.pull(request);
    }
    if (kind == "raw") {
        confer::ending ending{};
        while (confer::name(ending) != text("ending")) ending = confer::ending(static_cast<std::int32_t>(ending) + 1);
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
            add(events, *event);
            if (event->wants_answer()) {
                const std::string id(event->tool_call_id().value());
                event->answer_tool(asked["answers"][id].get<std::string>());
            }
            if (asked.value("cancel_after", -1) == static_cast<int>(events.size())) stream.cancel();
        }
    });
    shown["events"] = std::move(events);
    return shown;
}

json exchange(const std::string &file, const json &vector) {
    enclave enclave("none", {"--script", file.c_str()});
    confer::config config = config_of(enclave);
    if (vector.contains("idle_ms"))
        for (const confer::duration idle : {confer::duration::idle_events, confer::duration::idle_other})
            config.duration(idle, confer::milliseconds(vector["idle_ms"].get<std::int64_t>()));
    if (vector.contains("unfinished_bytes")) config.limit(confer::limit::unfinished, vector["unfinished_bytes"]);
    const confer::client client = confer::client::connect(config);

    const bool together = vector.value("together", false);
    const json &requests = vector["requests"];
    std::vector<std::optional<confer::pull_stream>> streams(requests.size());
    json results = json::array();
    const auto begin = [&](std::size_t at) {
        results.push_back(result([&] { streams[at].emplace(start(client, requests[at])); }));
        results.back()["events"] = json::array();
    };
    const auto end = [&](std::size_t at) {
        if (streams[at]) results[at] = finish(*streams[at], requests[at]);
    };
    for (std::size_t at = 0; at < requests.size(); ++at) {
        begin(at);
        if (!together) end(at);
    }
    for (std::size_t at = 0; at < requests.size() && together; ++at) end(at);
    client.close();
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
        std::cout << argv[at] << ": these results are not those of the vector: " << results.dump(1) << std::endl;
    }
    std::cout << argc - 1 - failed << " vectors pass" << std::endl;
    return failed != 0;
}
