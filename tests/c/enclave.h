/*
 * enclave.h: starts a local enclave for a promise, connects to it, and asks it.
 *
 * The enclave is the program of tests/enclave. It ends when its stdin closes, so killing the
 * test ends it too. CONFER_ENCLAVE is the program, CONFER_ENCLAVE_STATE the folder of its
 * trust world, CONFER_ENCLAVE_SERVER the server that it stands for ("newer" if not set).
 */
#ifndef ENCLAVE_H
#define ENCLAVE_H

#include "check.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

struct enclave {
    pid_t pid;
    int stdin_fd;
    char url[128], token[2048], policy[512], log[600];
};

static inline void enclave_read(const char *line, const char *key, char *value, size_t size) {
    char wanted[32];
    snprintf(wanted, sizeof wanted, "\"%s\":\"", key);
    const char *start = strstr(line, wanted);
    CHECK(start != NULL);
    start += strlen(wanted);
    size_t len = strcspn(start, "\"");
    CHECK(len < size);
    memcpy(value, start, len);
    value[len] = '\0';
}

/* The server that enclaves stand for. */
static inline const char *enclave_server(void) {
    const char *server = getenv("CONFER_ENCLAVE_SERVER");
    return server != NULL ? server : "newer";
}

static inline int enclave_is_newer(void) {
    return strcmp(enclave_server(), "newer") == 0;
}

/* Starts an enclave with more arguments. The last of `more` is NULL. */
static inline void enclave_launch(struct enclave *enclave, const char *const *more) {
    const char *program = getenv("CONFER_ENCLAVE"), *state = getenv("CONFER_ENCLAVE_STATE");
    CHECK(program != NULL && state != NULL);
    static int count;
    snprintf(enclave->log, sizeof enclave->log, "%s/log.%d.%d", state, (int)getpid(), ++count);
    const char *arguments[18] = {program,        "--exit-with-stdin", "--state",        state, "--log",
                                 enclave->log, "--server",          enclave_server()};
    for (int n = 8; *more != NULL; n++, more++) {
        CHECK(n + 1 < (int)(sizeof arguments / sizeof *arguments));
        arguments[n] = *more;
    }

    int in[2], out[2];
    CHECK(pipe(in) == 0 && pipe(out) == 0);
    CHECK(fcntl(in[1], F_SETFD, FD_CLOEXEC) == 0 && fcntl(out[0], F_SETFD, FD_CLOEXEC) == 0);
    enclave->pid = fork();
    CHECK(enclave->pid >= 0);
    if (enclave->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[0]);
        close(out[1]);
        execv(program, (char *const *)arguments);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    enclave->stdin_fd = in[1];
    char line[4096];
    FILE *file = fdopen(out[0], "r");
    CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
    fclose(file);
    enclave_read(line, "url", enclave->url, sizeof enclave->url);
    enclave_read(line, "token", enclave->token, sizeof enclave->token);
    enclave_read(line, "policy", enclave->policy, sizeof enclave->policy);
}

/* Starts an enclave with a fault, and an option with its value. Fault and option may be NULL. */
static inline void enclave_start_with(struct enclave *enclave, const char *fault, const char *option, const char *value) {
    const char *more[] = {option, value, NULL, NULL, NULL};
    if (fault != NULL) more[option != NULL ? 2 : 0] = "--fault", more[option != NULL ? 3 : 1] = fault;
    enclave_launch(enclave, more);
}

static inline void enclave_start(struct enclave *enclave, const char *fault) {
    enclave_start_with(enclave, fault, NULL, NULL);
}

/* Restarts `first`, which has ended: the new enclave has the same port, token and keys. */
static inline void enclave_start_again(struct enclave *enclave, const struct enclave *first, const char *option,
                                       const char *value) {
    char port[8];
    CHECK(sscanf(first->url, "ws://127.0.0.1:%7[0-9]", port) == 1);
    const char *more[] = {"--port", port, "--token", first->token, option, value, NULL};
    enclave_launch(enclave, more);
}

static inline void enclave_stop(struct enclave *enclave) {
    close(enclave->stdin_fd);
    CHECK(waitpid(enclave->pid, NULL, 0) == enclave->pid);
    unlink(enclave->log);
}

/* Kills an enclave, as in a crash. The next one removes the files that it leaves. */
static inline void enclave_kill(struct enclave *enclave) {
    CHECK(kill(enclave->pid, SIGKILL) == 0);
    enclave_stop(enclave);
}

/* Counts the lines of the enclave's log that contain a text. */
static inline int enclave_count(const struct enclave *enclave, const char *text) {
    char line[4096];
    FILE *file = fopen(enclave->log, "r");
    CHECK(file != NULL);
    int found = 0;
    while (fgets(line, sizeof line, file) != NULL) found += strstr(line, text) != NULL;
    fclose(file);
    return found;
}

/* Returns whether the enclave has logged an event. */
static inline int enclave_logged(const struct enclave *enclave, const char *event) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"event\":\"%s\"", event);
    return enclave_count(enclave, wanted) > 0;
}

/* Turns reconnecting on, with delays in milliseconds. */
static inline void enclave_set_retries(confer_config *config, uint32_t attempts, uint64_t first, uint64_t longest) {
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, attempts, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_FIRST_RETRY, first, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_LONGEST_RETRY, longest, &error));
}

/* Sets both idle limits. */
static inline void enclave_set_idle(confer_config *config, uint64_t ms) {
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_IDLE_EVENTS, ms, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_IDLE_OTHER, ms, &error));
}

/* Makes a configuration for an enclave, without a token. */
static inline confer_config *enclave_config_without_token(const struct enclave *enclave) {
    confer_config *config = NULL;
    confer_policy *policy = NULL;
    CHECK_OK(confer_policy_load(enclave->policy, SIZE_MAX, &policy, &error));
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_config_set_endpoint(config, enclave->url, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_policy(config, policy, &error));
    confer_policy_free(policy);
    return config;
}

/* Makes a configuration that connects to an enclave. */
static inline confer_config *enclave_config(const struct enclave *enclave) {
    confer_config *config = enclave_config_without_token(enclave);
    CHECK_OK(confer_config_set_token(config, enclave->token, SIZE_MAX, &error));
    return config;
}

static inline confer_client *enclave_connect(const struct enclave *enclave) {
    confer_config *config = enclave_config(enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    return client;
}

static inline void enclave_close(confer_client *client) {
    CHECK_OK(confer_close(client, -1, &error));
    confer_client_free(client);
}

static inline bool is_connected(const confer_client *client) {
    return confer_client_state(client) == CONFER_CLIENT_CONNECTED;
}

/* Begins to connect. */
static inline confer_client *client_start(const confer_config *config) {
    confer_client *client = NULL;
    CHECK_OK(confer_connect_start(config, &client, &error));
    CHECK(client != NULL);
    return client;
}

/* Opens a watch that is pulled. */
static inline confer_stream *client_watch(confer_client *client) {
    confer_stream *watch = NULL;
    CHECK_OK(confer_client_watch(client, NULL, &watch, &error));
    CHECK(watch != NULL);
    return watch;
}

static inline confer_chat_request *chat_request(const char *prompt) {
    confer_chat_request *request = NULL;
    CHECK_OK(confer_chat_request_new(&request, &error));
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_USER, prompt, SIZE_MAX, &error));
    return request;
}

static inline confer_stream *chat_pull(confer_client *client, const char *prompt) {
    confer_chat_request *request = chat_request(prompt);
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    confer_chat_request_free(request);
    return stream;
}

/* Waits for the next event. */
static inline const confer_event *chat_next(confer_stream *stream) {
    const confer_event *event = NULL;
    CHECK_OK(confer_stream_next(stream, -1, &event, &error));
    CHECK(event != NULL);
    return event;
}

/* Reads a watch up to an event of a type, which is lent. */
static inline const confer_event *watch_until(confer_stream *watch, int32_t type) {
    for (;;) {
        const confer_event *event = chat_next(watch);
        if (confer_event_type(event) == type) return event;
    }
}

/* Reads a watch up to a stage of connecting. */
static inline void watch_until_stage(confer_stream *watch, int32_t stage) {
    while (confer_event_stage(watch_until(watch, CONFER_EVENT_STAGE)) != stage) continue;
}

/* Reads to the end. `progress` receives how far a failed request had come; may be NULL. */
static inline confer_status stream_end(confer_stream *stream, int32_t *progress) {
    for (;;) {
        const confer_event *event = NULL;
        confer_error *error = NULL;
        confer_status status = confer_stream_next(stream, -1, &event, &error);
        check_status(__FILE__, __LINE__, "confer_stream_next", status, "", status, error);
        if (progress != NULL) *progress = confer_error_progress(error);
        confer_error_free(error);
        if (status != CONFER_OK) return status;
    }
}

/* Reads an answer to its end. Copies its text to `text`, unless that is NULL. */
static inline void chat_read(confer_stream *stream, char *text, size_t size) {
    const confer_event *event = NULL;
    size_t used = 0;
    confer_status status = CONFER_OK;
    int32_t type = CONFER_EVENT_OTHER;
    for (;;) {
        confer_error *error = NULL;
        status = confer_stream_next(stream, -1, &event, &error);
        if (status == CONFER_END) break;
        check_status(__FILE__, __LINE__, "confer_stream_next", CONFER_OK, "", status, error);
        type = confer_event_type(event);
        size_t len = 0;
        const char *content = confer_event_content(event, &len);
        if (type == CONFER_EVENT_TOKEN && text != NULL) {
            CHECK(content != NULL && used + len < size);
            memcpy(text + used, content, len);
            used += len;
        }
    }
    CHECK(type == CONFER_EVENT_COMPLETION);
    if (text != NULL) text[used] = '\0';
}

/* Sends a prompt and checks the answer. */
static inline void chat_says(confer_client *client, const char *prompt, const char *answer) {
    char text[4096];
    confer_stream *stream = chat_pull(client, prompt);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT(answer, text);
    confer_stream_free(stream);
}

#endif
