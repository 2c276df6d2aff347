// enclave.hpp: starts a local enclave for a test. It is a process that ends when its stdin closes.
//
// CONFER_ENCLAVE is the program, CONFER_ENCLAVE_STATE the folder of its trust world.

#ifndef ENCLAVE_HPP
#define ENCLAVE_HPP

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

class enclave {
public:
    std::string url, token, policy;

    explicit enclave(const char *fault = "none", std::initializer_list<const char *> options = {}) {
        int in[2], out[2];
        if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
        const std::string program = variable("CONFER_ENCLAVE"), state = variable("CONFER_ENCLAVE_STATE");
        std::vector<const char *> arguments = {program.c_str(), "--exit-with-stdin", "--state", state.c_str(), "--fault", fault};
        arguments.insert(arguments.end(), options);
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, in[0], 0);
        posix_spawn_file_actions_adddup2(&actions, out[1], 1);
        const int failed = posix_spawn(&pid_, program.c_str(), &actions, nullptr, const_cast<char *const *>(arguments.data()), environ);
        posix_spawn_file_actions_destroy(&actions);
        close(in[0]);
        close(out[1]);
        stdin_ = in[1];
        if (failed) throw std::runtime_error("cannot start " + program);
        std::string line;
        for (char byte; read(out[0], &byte, 1) == 1 && byte != '\n';) line += byte;
        close(out[0]);
        url = value(line, "url");
        token = value(line, "token");
        policy = value(line, "policy");
    }
    enclave(const enclave &) = delete;
    enclave &operator=(const enclave &) = delete;
    ~enclave() { end(); }
    // Ends the enclave and returns whether it succeeded: it fails if a client left its script.
    bool succeeds() { return end() == 0; }

private:
    int end() {
        int status = -1;
        if (pid_ == 0) return status;
        close(stdin_);
        waitpid(pid_, &status, 0);
        pid_ = 0;
        return status;
    }
    static std::string variable(const char *name) {
        const char *value = std::getenv(name);
        if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
        return value;
    }
    // The enclave prints a flat object of strings without escapes.
    static std::string value(const std::string &line, const std::string &key) {
        const std::string wanted = '"' + key + "\":\"";
        const std::size_t at = line.find(wanted);
        if (at == std::string::npos) throw std::runtime_error("the enclave did not start: " + line);
        const std::size_t start = at + wanted.size();
        return line.substr(start, line.find('"', start) - start);
    }

    pid_t pid_ = 0;
    int stdin_ = -1;
};

#endif
