// Asks Confer one question: chat [--url URL] [--policy FILE] PROMPT, with the token in CONFER_TOKEN. The verification goes
// to stderr, only the answer to stdout. Exit status: 0 answered, 2 usage, 3 enclave refused, 1 anything else.

#include <confer.hpp>

#include <cstdlib>
#include <iostream>
#include <string_view>

namespace {

void checklist(const confer::report &report) {
    const char *const marks[] = {"✓", "!", "✗", "–"};  // by confer::outcome
    for (std::size_t at = 0; at < report.check_count(); ++at) {
        const confer::check check = report.check(at);
        std::cerr << marks[static_cast<int>(check.outcome)] << ' ' << check.id << ": " << check.detail << '\n';
    }
}

int chat(const confer::config &config, std::string_view prompt) {
    confer::client client = confer::client::connect(config);
    checklist(client.report());
    confer::stream_functions functions;
    functions.on_event = [](const confer::event &event) {
        if (event.type() == confer::event_type::token) std::cout << event.content().value_or("") << std::flush;
        return confer::flow::go_on;
    };
    client.stream(confer::chat_request().message(confer::role::user, prompt), functions).wait();
    std::cout << '\n';
    client.close();
    return 0;
}

}  // namespace

int main(int argc, char **argv) try {
    const char *token = std::getenv("CONFER_TOKEN"), *prompt = nullptr;
    confer::config config;
    if (token != nullptr) config.token(token);
    for (int at = 1; at < argc; ++at) {
        const std::string_view argument = argv[at];
        if (argument == "--url" && at + 1 < argc)
            config.endpoint(argv[++at]);
        else if (argument == "--policy" && at + 1 < argc)
            config.policy(confer::policy::load(argv[++at]));
        else
            prompt = argv[at];
    }
    if (prompt == nullptr) {
        std::cerr << "usage: chat [--url URL] [--policy FILE] PROMPT\n";
        return 2;
    }
    return chat(config, prompt);
} catch (const confer::error &error) {
    if (error.report()) checklist(*error.report());
    std::cerr << "confer: " << error.name() << ": " << error.what() << '\n';
    return error.status() == CONFER_E_REJECTED ? 3 : 1;
}
