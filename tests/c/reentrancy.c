/*
 * The table of confer.h: which calls work in a callback, and which fail with
 * CONFER_E_WOULD_DEADLOCK.
 */
#include "recorder.h"

static struct enclave enclave;

/* 100 MB, so it cannot end before the first event is read. */
#define ENDLESS "/tokens 100000 1000"

static int32_t cancel_it(struct recorder *recorder, const confer_event *event) {
    (void)event;
    confer_stream_cancel(recorder->stream);
    confer_stream_cancel(recorder->stream);
    return 0;
}

static void stream_is_cancelled_from_its_callback(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    recorder.react = cancel_it;
    recorder_start(&recorder, client, ENDLESS);
    recorder_wait(&recorder, CONFER_E_CANCELLED);
    CHECK(gate_count(&recorder.events) == 1);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static int32_t free_all(struct recorder *recorder, const confer_event *event) {
    if (recorder->client == NULL) return 0;
    confer_client_free(recorder->client);
    confer_stream_free(recorder->stream);
    recorder->client = NULL;
    CHECK(confer_event_json(event, NULL) != NULL); /* valid during the call, even after freeing */
    return 0;
}

static void client_and_stream_are_freed_from_a_callback(void) {
    enclave_start(&enclave, NULL);
    struct recorder recorder = RECORDER;
    recorder.react = free_all;
    recorder_start(&recorder, enclave_connect(&enclave), ENDLESS);
    recorder_wait(&recorder, CONFER_E_CANCELLED);
    CHECK(gate_count(&recorder.events) == 1);
    enclave_stop(&enclave);
}

static void free_client_and_stream(struct recorder *recorder) {
    confer_stream_free(recorder->stream);
    confer_client_free(recorder->client);
}

static void last_handles_are_freed_in_destroy(void) {
    enclave_start(&enclave, NULL);
    struct recorder recorder = RECORDER;
    recorder.react_destroy = free_client_and_stream;
    recorder_start(&recorder, enclave_connect(&enclave), "bye");
    recorder_wait(&recorder, CONFER_OK);
    enclave_stop(&enclave);
}

struct waiting {
    confer_config *config;
    confer_stream *other;
    confer_connecting *connecting;
};

static int32_t wait_for_everything(struct recorder *recorder, const confer_event *event) {
    (void)event;
    if (gate_count(&recorder->events) > 0) return 0;
    struct waiting *waiting = recorder->data;
    confer_client *client = NULL;
    const confer_event *other = NULL;
    CHECK_ERROR(CONFER_E_WOULD_DEADLOCK, "confer_close", confer_close(recorder->client, 1000, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_close(recorder->client, -1, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connect(waiting->config, NULL, &client, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_next(waiting->other, -1, &other, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_next(waiting->other, 1, &other, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connecting_wait(waiting->connecting, -1, &client, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connecting_wait(waiting->connecting, 1, &client, &error));
    CHECK(client == NULL && other == NULL);
    /* A timeout of 0 is allowed. */
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(waiting->other, 0, &other, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_connecting_wait(waiting->connecting, 0, &client, &error));
    CHECK_OK(confer_client_check(recorder->client, &error));
    return 0;
}

static void waiting_calls_fail_with_would_deadlock(void) {
    struct enclave stalls;
    enclave_start(&enclave, NULL);
    enclave_start(&stalls, "message1-stall");
    confer_client *client = enclave_connect(&enclave);
    struct waiting waiting = {.config = enclave_config(&enclave)};
    confer_config *stalling = enclave_config(&stalls);
    CHECK_OK(confer_connecting_start(stalling, &waiting.connecting, &error));
    waiting.other = chat_pull(client, "/silent");
    chat_next(waiting.other);
    struct recorder recorder = RECORDER;
    recorder.react = wait_for_everything;
    recorder.data = &waiting;
    recorder_start(&recorder, client, "/tokens 20 10");
    recorder_wait(&recorder, CONFER_OK);
    CHECK(gate_count(&recorder.events) == 21);
    confer_stream_free(recorder.stream);
    confer_stream_free(waiting.other);
    confer_connecting_free(waiting.connecting);
    confer_config_free(waiting.config);
    confer_config_free(stalling);
    enclave_close(client);
    enclave_stop(&stalls);
    enclave_stop(&enclave);
}

static void ask_again(struct recorder *recorder) {
    struct recorder *next = recorder->data;
    recorder_start(next, recorder->client, "the second question");
    confer_config *config = enclave_config(&enclave);
    confer_connecting *connecting = NULL;
    CHECK_OK(confer_connecting_start(config, &connecting, &error));
    confer_config_free(config);
    confer_connecting_cancel(connecting);
    confer_connecting_free(connecting);
    confer_stream *pulled = chat_pull(recorder->client, "unread");
    confer_stream_free(pulled);
}

static void callback_starts_a_chat_and_a_connection(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder first = RECORDER, second = RECORDER;
    first.react_done = ask_again;
    first.data = &second;
    recorder_start(&first, client, "the first question");
    recorder_wait(&first, CONFER_OK);
    recorder_wait(&second, CONFER_OK);
    CHECK_TEXT("You said: the second question", second.text);
    CHECK(pthread_equal(first.thread, second.thread));
    confer_stream_free(first.stream);
    confer_stream_free(second.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

struct telling {
    confer_config *config;
    int count;
};

static void connect_in_a_stage(void *user_data, int32_t stage) {
    (void)stage;
    struct telling *telling = user_data;
    confer_client *client = NULL;
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connect(telling->config, NULL, &client, &error));
    telling->count++;
}

static void connect_in_a_record(void *user_data, int32_t level, const char *target, const char *message) {
    (void)target;
    (void)message;
    connect_in_a_stage(user_data, level);
}

static void callback_rules_hold_for_stage_and_log(void) {
    enclave_start(&enclave, NULL);
    struct telling telling = {enclave_config(&enclave), 0};
    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_stage_callback(config, connect_in_a_stage, &telling, NULL, &error));
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_DEBUG, connect_in_a_record, &telling, NULL, &error));
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, NULL, &client, &error));
    enclave_close(client);
    CHECK(telling.count >= 14);
    confer_config_free(config);
    confer_config_free(telling.config);
    enclave_stop(&enclave);
}

/* ---- the same table in callbacks that must answer -------------------------------------------- */

/* Called once in each kind of callback. `client` is NULL before there is one. */
struct refusal {
    struct gate tried;
    confer_config *config;
    confer_client *client;
    confer_stream *silent;
};

static void try_to_wait(struct refusal *refusal) {
    confer_client *client = NULL;
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connect(refusal->config, NULL, &client, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_runtime_wait(0, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_runtime_wait(-1, &error));
    if (refusal->client != NULL) {
        CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_close(refusal->client, 1000, &error));
        CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_next(refusal->silent, -1, &event, &error));
        CHECK_OK(confer_client_network_changed(refusal->client, &error));
        (void)confer_client_connected(refusal->client);
        CHECK(confer_client_counter(refusal->client, CONFER_COUNTER_CONNECTIONS) >= 1);
        /* A callback may start another request. */
        confer_stream *stream = NULL;
        CHECK_OK(confer_ping_stream(refusal->client, NULL, &stream, &error));
        confer_stream_free(stream);
    }
    CHECK(client == NULL && event == NULL);
    gate_raise(&refusal->tried);
}

static void wait_in_a_tool(void *user_data, confer_tool_call *call) {
    try_to_wait(user_data);
    CHECK_OK(confer_tool_call_answer(call, "done", SIZE_MAX, &error));
    confer_tool_call_free(call);
}

static int64_t wait_in_a_read(void *user_data, uint8_t *buffer, size_t size) {
    (void)buffer, (void)size;
    try_to_wait(user_data);
    return 0;
}

/* Runs on the callback thread, unless freeing a handle released the data. */
static void wait_in_a_destroy(void *user_data) {
    struct refusal *refusal = user_data;
    char name[32];
    check_thread_name(name);
    if (strcmp(name, "confer-callback") == 0) try_to_wait(refusal);
    else gate_raise(&refusal->tried);
}

static void callback_rules_hold_for_tools_and_documents(void) {
    char text[100];
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct refusal refusal = {GATE, enclave_config(&enclave), client, chat_pull(client, "/silent")};
    chat_next(refusal.silent);
    confer_chat_request *chat = chat_request("/client-tool look {}");
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_request_add_tool_callback(chat, "look", 4, "", 0, "{}", 2, wait_in_a_tool, &refusal, wait_in_a_destroy,
                                          &error));
    CHECK_OK(confer_chat_stream(client, chat, NULL, &stream, &error));
    confer_chat_request_free(chat);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT("The tool answered: done", text);
    confer_stream_free(stream);
    gate_wait(&refusal.tried, 2);
    confer_extraction_request *request = NULL;
    CHECK_OK(confer_extraction_request_new("empty", 5, &request, &error));
    CHECK_OK(confer_extraction_request_set_document_callback(request, -1, wait_in_a_read, &refusal, wait_in_a_destroy, &error));
    CHECK_OK(confer_extraction_stream(client, request, NULL, &stream, &error));
    confer_extraction_request_free(request);
    gate_wait(&refusal.tried, 4);
    confer_stream_free(stream);
    confer_stream_free(refusal.silent);
    enclave_close(client);
    confer_config_free(refusal.config);
    enclave_stop(&enclave);
}

static void wait_in_a_provider(void *user_data, confer_token_request *request) {
    try_to_wait(user_data);
    CHECK_OK(confer_token_request_answer(request, enclave.token, SIZE_MAX, &error));
    confer_token_request_free(request);
}

static void wait_in_a_change(void *user_data, const confer_connection_event *event) {
    if (confer_connection_event_type(event) == CONFER_CONNECTION_LOST) try_to_wait(user_data);
}

static int32_t wait_in_a_release(void *user_data, const confer_report *before, const confer_report *now) {
    (void)before, (void)now;
    try_to_wait(user_data);
    return 0;
}

static void callback_rules_hold_for_connection_callbacks(void) {
    struct enclave again;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    struct refusal provider = {GATE, config, NULL, NULL}, change = provider, release = provider;
    CHECK_OK(confer_config_set_token_provider(config, wait_in_a_provider, &provider, NULL, &error));
    CHECK_OK(confer_config_set_connection_callback(config, wait_in_a_change, &change, NULL, &error));
    CHECK_OK(confer_config_set_release_callback(config, wait_in_a_release, &release, NULL, &error));
    enclave_set_retries(config, 1000, 20, 200);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, NULL, &client, &error));
    change.client = release.client = client; /* before the connection breaks */
    change.silent = release.silent = chat_pull(client, "/silent");
    chat_next(change.silent);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, "--release", "9.9.9");
    gate_wait(&release.tried, 1);
    chat_says(client, "hi", "You said: hi");
    CHECK(gate_count(&provider.tried) >= 2 && gate_count(&change.tried) == 1);
    confer_stream_free(change.silent);
    enclave_close(client);
    confer_config_free(config);
    enclave_stop(&again);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(stream_is_cancelled_from_its_callback),
        PROMISE(client_and_stream_are_freed_from_a_callback),
        PROMISE(last_handles_are_freed_in_destroy),
        PROMISE(waiting_calls_fail_with_would_deadlock),
        PROMISE(callback_starts_a_chat_and_a_connection),
        PROMISE(callback_rules_hold_for_stage_and_log),
        PROMISE(callback_rules_hold_for_tools_and_documents),
        PROMISE(callback_rules_hold_for_connection_callbacks),
    };
    return KEEP_PROMISES(promises);
}
