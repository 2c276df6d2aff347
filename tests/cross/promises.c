/*
 * The main promises of the C API on every platform that can run a program: verification, refusal, streams in each way of
 * reading, upload from a file, and what differs between platforms.
 *
 *     promises URL TOKEN POLICY_FILE DOCUMENT      of a local enclave; DOCUMENT is a file of more than 2 MiB
 *
 * Uses standard C and pthreads, which mingw has too.
 */
#include <confer.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef _WIN32
#include <poll.h>
#endif

static const char *url, *token, *policy_file, *document;

static void fail(int line, const char *what, const char *why) {
    printf("\n%s:%d: %s: %s\n", __FILE__, line, what, why);
    exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : fail(__LINE__, #condition, "does not hold"))
/* The call passes `&error`. */
#define CHECK_STATUS(expected, call)                                                                              \
    do {                                                                                                          \
        confer_error *error = NULL;                                                                               \
        confer_status status = (call);                                                                            \
        const char *message = confer_error_message(error, NULL);                                                  \
        if (status != (expected)) fail(__LINE__, confer_status_name(status), message != NULL ? message : #call);  \
        CHECK(confer_error_status(error) == (error != NULL ? status : CONFER_OK));                                \
        confer_error_free(error);                                                                                 \
    } while (0)
#define CHECK_OK(call) CHECK_STATUS(CONFER_OK, call)

/* ---- helpers --------------------------------------------------------------------------------------------------- */

static confer_config *configuration(bool production_policy) {
    confer_config *config = NULL;
    confer_policy *policy = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_config_set_endpoint(config, url, CONFER_NTS, &error));
    CHECK_OK(confer_config_set_token(config, token, CONFER_NTS, &error));
    if (!production_policy) {
        CHECK_OK(confer_policy_load(policy_file, CONFER_NTS, &policy, &error));
        CHECK_OK(confer_config_set_policy(config, policy, &error));
        confer_policy_free(policy);
    }
    return config;
}

static confer_client *connect_client(void) {
    confer_config *config = configuration(false);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    return client;
}

static void close_client(confer_client *client) {
    CHECK_OK(confer_close(client, -1, &error));
    confer_client_free(client);
}

static confer_stream *chat(confer_client *client, const char *prompt, const confer_stream_callbacks *callbacks) {
    confer_chat_request *request = NULL;
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_request_new(&request, &error));
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_USER, prompt, CONFER_NTS, &error));
    CHECK_OK(confer_chat_stream(client, request, callbacks, &stream, &error));
    confer_chat_request_free(request);
    return stream;
}

static void collects(confer_stream *stream, const char *expected) {
    const char *text = NULL;
    CHECK_OK(confer_stream_collect(stream, -1, &text, NULL, &error));
    CHECK(strcmp(text, expected) == 0);
    confer_stream_free(stream);
}

/* Counts what callbacks report. */
struct counter {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int events, done, destroyed;
    confer_status status;
};

#define COUNTER {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, CONFER_OK}

static void raise_count(struct counter *counter, int *count) {
    pthread_mutex_lock(&counter->mutex);
    ++*count;
    pthread_cond_broadcast(&counter->changed);
    pthread_mutex_unlock(&counter->mutex);
}

static void wait_for(struct counter *counter, const int *count, int wanted) {
    pthread_mutex_lock(&counter->mutex);
    while (*count < wanted) pthread_cond_wait(&counter->changed, &counter->mutex);
    pthread_mutex_unlock(&counter->mutex);
}

static int on_event(void *data, confer_stream *stream, const confer_event *event) {
    struct counter *counter = data;
    (void)stream;
    if (confer_event_type(event) == CONFER_EVENT_TOKEN) raise_count(counter, &counter->events);
    return 0;
}

static void on_done(void *data, confer_stream *stream, confer_status status, const confer_error *error) {
    struct counter *counter = data;
    (void)stream, (void)error;
    counter->status = status;
    raise_count(counter, &counter->done);
}

static void on_ready(void *data, confer_stream *stream) {
    struct counter *counter = data;
    (void)stream;
    raise_count(counter, &counter->events);
}

static void on_destroy(void *data) {
    struct counter *counter = data;
    raise_count(counter, &counter->destroyed);
}

/* ---- promises -------------------------------------------------------------------------------------------------- */

static void header_and_library_have_one_version(void) {
    CHECK(confer_version_number() == CONFER_VERSION_NUMBER);
}

static void enclave_is_verified_and_answers(void) {
    confer_client *client = connect_client();
    confer_report *report = NULL;
    CHECK_OK(confer_attestation_report(client, &report, &error));
    CHECK(confer_report_verified(report));
    confer_report_free(report);
    collects(chat(client, "hi", NULL), "You said: hi");
    close_client(client);
}

static void refused_enclave_names_its_check(void) {
    confer_config *config = configuration(true);
    confer_client *client = NULL;
    confer_error *error = NULL;
    CHECK(confer_connect(config, &client, &error) == CONFER_E_REJECTED && client == NULL);
    CHECK(confer_error_check_id(error, NULL) != NULL && confer_error_report(error) != NULL);
    confer_error_free(error);
    confer_config_free(config);
}

static void callbacks_receive_a_whole_answer(void) {
    confer_client *client = connect_client();
    struct counter counter = COUNTER;
    confer_stream_callbacks table = {.size = sizeof table, .user_data = &counter, .on_event = on_event,
                                     .on_done = on_done, .destroy = on_destroy};
    confer_stream *stream = chat(client, "/tokens 1000 10", &table);
    wait_for(&counter, &counter.destroyed, 1);
    CHECK(counter.events == 1000 && counter.done == 1 && counter.status == CONFER_OK);
    confer_stream_free(stream);
    close_client(client);
}

static void on_ready_says_when_to_read(void) {
    confer_client *client = connect_client();
    struct counter counter = COUNTER;
    confer_stream_callbacks table = {.size = sizeof table, .user_data = &counter, .on_ready = on_ready, .destroy = on_destroy};
    confer_stream *stream = chat(client, "/tokens 1000 10", &table);
    confer_status status = CONFER_TIMEOUT;
    int calls = 0, tokens = 0;
    while (status == CONFER_TIMEOUT) {
        wait_for(&counter, &counter.events, ++calls);
        const confer_event *event = NULL;
        while ((status = confer_stream_next(stream, 0, &event, NULL)) == CONFER_OK)
            tokens += confer_event_type(event) == CONFER_EVENT_TOKEN;
    }
    CHECK(status == CONFER_END && tokens == 1000);
    confer_stream_free(stream);
    wait_for(&counter, &counter.destroyed, 1);
    close_client(client);
}

static void cancel_ends_one_stream_only(void) {
    confer_client *client = connect_client();
    confer_stream *silent = chat(client, "/silent", NULL), *other = chat(client, "hi", NULL);
    const confer_event *event = NULL;
    CHECK_OK(confer_stream_next(silent, -1, &event, &error));
    confer_stream_cancel(silent);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(silent, -1, &event, &error));
    confer_stream_free(silent);
    collects(other, "You said: hi");
    close_client(client);
}

static void file_is_uploaded_whole(void) {
    confer_client *client = connect_client();
    confer_extraction_request *request = NULL;
    confer_stream *streams[2];
    const char *texts[2];
    char wanted[64];
    FILE *file = fopen(document, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0 && ftell(file) > 2 << 20);
    snprintf(wanted, sizeof wanted, "note.pdf: %ld bytes, SHA-256 ", ftell(file));
    fclose(file);
    CHECK_OK(confer_extraction_request_new("note.pdf", CONFER_NTS, &request, &error));
    CHECK_OK(confer_extraction_request_set_document_file(request, document, CONFER_NTS, &error));
    /* Two at once read one file at different positions. */
    for (int i = 0; i < 2; i++) CHECK_OK(confer_extraction_stream(client, request, NULL, &streams[i], &error));
    for (int i = 0; i < 2; i++) CHECK_OK(confer_stream_collect(streams[i], -1, &texts[i], NULL, &error));
    CHECK(strstr(texts[0], wanted) != NULL && strcmp(texts[0], texts[1]) == 0);
    printf("(%s) ", strstr(texts[0], "SHA-256"));
    for (int i = 0; i < 2; i++) confer_stream_free(streams[i]);
    confer_extraction_request_free(request);
    close_client(client);
}

static void descriptor_serves_poll_except_on_windows(void) {
    confer_client *client = connect_client();
    confer_stream *stream = chat(client, "hi", NULL);
    int fd = -1;
#ifdef _WIN32
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_stream_fd(stream, &fd, &error));
    CHECK(fd == -1);
#else
    CHECK_OK(confer_stream_fd(stream, &fd, &error));
    struct pollfd descriptor = {.fd = fd, .events = POLLIN};
    CHECK(poll(&descriptor, 1, -1) == 1 && descriptor.revents == POLLIN);
#endif
    collects(stream, "You said: hi");
    close_client(client);
}

static void missing_file_and_refused_connection_are_errors(void) {
    confer_config *config = configuration(false);
    confer_policy *policy = NULL;
    confer_client *client = NULL;
    CHECK_STATUS(CONFER_E_FILE, confer_policy_load("no-such-file", CONFER_NTS, &policy, &error));
    CHECK_OK(confer_config_set_endpoint(config, "ws://127.0.0.1:1/websocket", CONFER_NTS, &error));
    CHECK_STATUS(CONFER_E_CONNECT, confer_connect(config, &client, &error));
    confer_config_free(config);
}

static void system_roots_are_read_or_refused(void) {
    confer_config *config = configuration(false);
    confer_error *error = NULL;
    confer_status status = confer_config_set_roots(config, CONFER_ROOTS_SYSTEM, &error);
    CHECK(status == CONFER_OK || status == CONFER_E_FILE);
    printf("(%s) ", status == CONFER_OK ? "read" : confer_error_message(error, NULL));
    confer_error_free(error);
    confer_config_free(config);
}

static void no_thread_is_left(void) {
    CHECK_OK(confer_runtime_wait(-1, &error));
}

static const struct {
    const char *name;
    void (*keep)(void);
} promises[] = {
#define PROMISE(function) {#function, function}
    PROMISE(header_and_library_have_one_version),
    PROMISE(enclave_is_verified_and_answers),
    PROMISE(refused_enclave_names_its_check),
    PROMISE(callbacks_receive_a_whole_answer),
    PROMISE(on_ready_says_when_to_read),
    PROMISE(cancel_ends_one_stream_only),
    PROMISE(file_is_uploaded_whole),
    PROMISE(descriptor_serves_poll_except_on_windows),
    PROMISE(missing_file_and_refused_connection_are_errors),
    PROMISE(system_roots_are_read_or_refused),
    PROMISE(no_thread_is_left),
};

int main(int argc, char **argv) {
    if (argc != 5) {
        fputs("usage: promises URL TOKEN POLICY_FILE DOCUMENT\n", stderr);
        return 2;
    }
    url = argv[1], token = argv[2], policy_file = argv[3], document = argv[4];
    for (size_t i = 0; i < sizeof promises / sizeof *promises; i++) {
        printf("  %s ", promises[i].name);
        fflush(stdout);
        promises[i].keep();
        puts("ok");
    }
    return 0;
}
