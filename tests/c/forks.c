/*
 * Forks: the calls that a child may make, and that its parent can continue.
 *
 * A child reports success by one byte in a pipe, because valgrind changes its exit status.
 */
#include "starve.h"

#include "enclave.h"

static struct enclave enclave;

/* Runs `work` in a child. Returns whether it finished there. */
static int in_child(void (*work)(void *), void *data) {
    int report[2];
    char byte = 0;
    CHECK(pipe(report) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        work(data);
        CHECK(write(report[1], "k", 1) == 1);
        _exit(0);
    }
    close(report[1]);
    ssize_t got = read(report[0], &byte, 1);
    close(report[0]);
    CHECK(waitpid(child, NULL, 0) == child);
    return got == 1 && byte == 'k';
}

static void connect_and_chat(void *data) {
    (void)data;
    confer_client *client = enclave_connect(&enclave);
    chat_says(client, "from a child", "You said: from a child");
    enclave_close(client);
}

/* Runs first, when nothing in this process has used the library yet. */
static void child_may_use_a_library_its_parent_did_not(void) {
    enclave_start(&enclave, NULL);
    CHECK(in_child(connect_and_chat, NULL));
    enclave_stop(&enclave);
}

struct handles {
    confer_config *config;
    confer_policy *policy;
    confer_client *client, *connecting;
    confer_report *report;
    confer_chat_request *request;
    confer_stream *stream, *watch;
    const confer_event *event;
    confer_error *refusal;
};

static void count_destroyed(void *user_data) {
    ++*(int *)user_data;
}

static void use_everything(void *data) {
    struct handles *handles = data;
    /* Any value: a handle output is NULL after a failure. */
    confer_config *config = handles->config;
    confer_policy *policy = handles->policy;
    confer_client *client = handles->client, *connecting = handles->connecting;
    confer_report *report = handles->report;
    confer_chat_request *request = handles->request;
    confer_stream *stream = handles->stream;
    const confer_event *event = handles->event;
    int fd = -1, destroyed = 0;
    confer_stream_callbacks table = {sizeof table, &destroyed, NULL, NULL, count_destroyed, NULL};
    CHECK_STATUS(CONFER_E_FORKED, confer_config_new(&config, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_config_set_token(handles->config, "t", 1, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_policy_production(&policy, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_connect(handles->config, &client, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_connect_start(handles->config, &connecting, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_client_wait(handles->connecting, -1, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_client_wait(handles->client, 0, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_client_set_token(handles->client, "t", 1, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_client_network_changed(handles->client, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_client_watch(handles->client, NULL, &stream, &error));
    CHECK(stream == NULL);
    stream = handles->stream;
    CHECK_STATUS(CONFER_E_FORKED, confer_client_watch(handles->client, &table, &stream, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_stream_next(handles->watch, -1, &event, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_stream_fd(handles->watch, &fd, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_attestation_report(handles->client, &report, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_client_check(handles->client, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_chat_request_new(&request, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_chat_request_set_web_search(handles->request, true, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_chat_stream(handles->client, handles->request, NULL, &stream, &error));
    stream = handles->stream;
    CHECK_STATUS(CONFER_E_FORKED, confer_chat_stream(handles->client, handles->request, &table, &stream, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_stream_next(handles->stream, -1, &event, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_stream_fd(handles->stream, &fd, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_close(handles->client, -1, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_runtime_set_workers(2, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_config_set_log(handles->config, CONFER_LOG_WARN, NULL, &destroyed, count_destroyed, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_config_set_ask(handles->config, CONFER_ASK_TOKEN, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_config_set_duration_ms(handles->config, CONFER_DURATION_CONNECT, 1, &error));
    CHECK_STATUS(CONFER_E_FORKED, confer_runtime_wait(-1, &error));
    CHECK(config == NULL && policy == NULL && connecting == NULL && client == NULL && report == NULL);
    CHECK(request == NULL && stream == NULL && event == NULL && fd == -1 && destroyed == 3);

    CHECK(confer_version_number() == CONFER_VERSION_NUMBER);
    CHECK(confer_report_verified(handles->report) && confer_report_json(handles->report, NULL) != NULL);
    CHECK_TEXT("before the silence ", confer_event_content(handles->event, NULL));
    CHECK(confer_error_status(handles->refusal) == CONFER_E_INVALID_ARGUMENT);
    CHECK(confer_policy_json(handles->policy, NULL) != NULL);
    CHECK(confer_client_state(handles->connecting) == CONFER_CLIENT_ENDED);
    CHECK(confer_client_state(handles->client) == CONFER_CLIENT_ENDED);

    confer_stream_cancel(handles->stream);
    confer_stream_cancel(handles->watch);
    confer_stream_free(handles->stream);
    confer_stream_free(handles->watch);
    confer_client_free(handles->connecting);
    confer_client_free(handles->client);
    confer_chat_request_free(handles->request);
    confer_report_free(handles->report);
    confer_error_free(handles->refusal);
    confer_policy_free(handles->policy);
    confer_config_free(handles->config);
    CHECK_TEXT("before the silence ", confer_event_content(handles->event, NULL)); /* freeing did nothing */
}

static void child_may_only_get_and_free_and_parent_continues(void) {
    struct enclave stalls;
    enclave_start(&enclave, NULL);
    enclave_start(&stalls, "message1-stall");
    struct handles handles = {0};
    handles.config = enclave_config(&enclave);
    CHECK_OK(confer_policy_load(enclave.policy, SIZE_MAX, &handles.policy, &error));
    confer_config *stalling = enclave_config(&stalls);
    handles.connecting = client_start(stalling);
    confer_config_free(stalling);
    CHECK_OK(confer_connect(handles.config, &handles.client, &error));
    handles.watch = client_watch(handles.client);
    CHECK_OK(confer_attestation_report(handles.client, &handles.report, &error));
    handles.request = chat_request("/silent");
    CHECK_OK(confer_chat_stream(handles.client, handles.request, NULL, &handles.stream, &error));
    handles.event = chat_next(handles.stream);
    CHECK(confer_config_set_token(handles.config, NULL, 5, &handles.refusal) == CONFER_E_INVALID_ARGUMENT);

    CHECK(in_child(use_everything, &handles));

    chat_says(handles.client, "your parent lives", "You said: your parent lives");
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(handles.stream, 0, &handles.event, &error));
    CHECK_OK(confer_client_check(handles.client, &error));
    CHECK(confer_client_state(handles.client) == CONFER_CLIENT_CONNECTED);
    CHECK(confer_client_state(handles.connecting) == CONFER_CLIENT_CONNECTING);
    watch_until(handles.watch, CONFER_EVENT_CONNECTED);
    confer_stream_free(handles.stream);
    confer_stream_free(handles.watch);
    confer_client_free(handles.connecting);
    confer_chat_request_free(handles.request);
    confer_report_free(handles.report);
    confer_error_free(handles.refusal);
    confer_policy_free(handles.policy);
    confer_config_free(handles.config);
    enclave_close(handles.client);
    enclave_stop(&stalls);
    enclave_stop(&enclave);
}

/* Its exit handlers and destructors run, the library's too. They must not wait for threads that only the parent has. */
static void child_may_exit_normally(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) exit(0);
    CHECK(waitpid(child, NULL, 0) == child);
    chat_says(client, "your child has left", "You said: your child has left");
    enclave_close(client);
    enclave_stop(&enclave);
}

/* The child must not look up a name: the parent's look-up may hold the lock of the C library's resolver. */
static void child_forked_during_a_lookup_is_refused_at_once(void) {
    confer_config *config = NULL;
    confer_client *client = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_config_set_token(config, "token", SIZE_MAX, &error));
    CHECK_OK(confer_config_set_endpoint(config, "wss://" STARVE_HANGING ".test/websocket", SIZE_MAX, &error));
    confer_client *connecting = client_start(config);
    gate_wait(&starve_lookups, 1);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        CHECK_STATUS(CONFER_E_FORKED, confer_connect(config, &client, &error));
        CHECK_STATUS(CONFER_E_FORKED, confer_connect_start(config, &client, &error));
        CHECK_STATUS(CONFER_E_FORKED, confer_client_wait(connecting, -1, &error));
        confer_client_free(connecting);
        confer_config_free(config);
        exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    starve_release_lookups();
    CHECK_STATUS(CONFER_E_RESOLVE, confer_client_wait(connecting, -1, &error));
    confer_client_free(connecting);
    confer_config_free(config);
    CHECK_OK(confer_runtime_wait(-1, &error));
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(child_may_use_a_library_its_parent_did_not),
        PROMISE(child_may_only_get_and_free_and_parent_continues),
        PROMISE(child_may_exit_normally),
        PROMISE(child_forked_during_a_lookup_is_refused_at_once),
    };
    return KEEP_PROMISES(promises);
}
