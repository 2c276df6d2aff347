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
    confer_client *connecting;
};

static int32_t wait_for_everything(struct recorder *recorder, const confer_event *event) {
    (void)event;
    if (gate_count(&recorder->events) > 0) return 0;
    struct waiting *waiting = recorder->data;
    confer_client *client = NULL;
    const confer_event *other = NULL;
    CHECK_ERROR(CONFER_E_WOULD_DEADLOCK, "confer_close", confer_close(recorder->client, 1000, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_close(recorder->client, -1, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connect(waiting->config, &client, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_next(waiting->other, -1, &other, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_next(waiting->other, 1, &other, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_client_wait(waiting->connecting, -1, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_client_wait(waiting->connecting, 1, &error));
    CHECK(client == NULL && other == NULL);
    /* A timeout of 0 is allowed. */
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(waiting->other, 0, &other, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(waiting->connecting, 0, &error));
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
    waiting.connecting = client_start(stalling);
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
    confer_client_free(waiting.connecting);
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
    confer_client *client = client_start(config);
    confer_config_free(config);
    confer_stream_free(client_watch(client));
    confer_status status = confer_close(client, 0, NULL);
    CHECK(status == CONFER_TIMEOUT || status == CONFER_OK);
    confer_client_free(client);
    confer_stream *pulled = chat_pull(recorder->client, "unread");
    confer_stream_free(pulled);
}

static void callback_starts_a_chat_and_a_client(void) {
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
    struct gate connected;
};

static void connect_in_a_callback(struct telling *telling) {
    confer_client *client = NULL;
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connect(telling->config, &client, &error));
    telling->count++;
}

/* The question comes before the stages, so that the watch sees all of them. */
static int32_t connect_in_a_stage(struct recorder *recorder, const confer_event *event) {
    struct telling *telling = recorder->data;
    if (confer_event_type(event) == CONFER_EVENT_STAGE) connect_in_a_callback(telling);
    if (confer_event_type(event) == CONFER_EVENT_CONNECTED) gate_raise(&telling->connected);
    if (confer_event_type(event) == CONFER_EVENT_ASK_TOKEN)
        CHECK_OK(confer_event_answer_token(event, enclave.token, SIZE_MAX, &error));
    return 0;
}

static void connect_in_a_record(void *user_data, int32_t level, const char *target, const char *message) {
    (void)level, (void)target, (void)message;
    connect_in_a_callback(user_data);
}

static void callback_rules_hold_for_stage_and_log(void) {
    enclave_start(&enclave, NULL);
    struct telling stages = {enclave_config(&enclave), 0, GATE}, records = stages;
    struct recorder recorder = RECORDER;
    recorder.react = connect_in_a_stage;
    recorder.data = &stages;
    confer_config *config = enclave_config_without_token(&enclave);
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN, &error));
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_DEBUG, connect_in_a_record, &records, NULL, &error));
    confer_client *client = client_start(config);
    recorder_watch(&recorder, client);
    gate_wait(&stages.connected, 1); /* a close drops the events that still wait */
    enclave_close(client);
    recorder_wait(&recorder, CONFER_OK);
    CHECK(stages.count >= 7 && records.count >= 7);
    confer_config_free(config);
    confer_config_free(stages.config);
    enclave_stop(&enclave);
}

/* ---- the same table in the callbacks of tools and documents ---------------------------------- */

/* The data of a callback that makes the calls of the table. `client` is NULL before it exists. */
struct refusal {
    struct gate tried;
    confer_config *config;
    confer_client *client;
    confer_stream *silent;
};

static void try_to_wait(struct refusal *refusal) {
    confer_client *client = NULL;
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_connect(refusal->config, &client, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_runtime_wait(0, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_runtime_wait(-1, &error));
    if (refusal->client != NULL) {
        CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_close(refusal->client, 1000, &error));
        CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_next(refusal->silent, -1, &event, &error));
        CHECK_OK(confer_client_network_changed(refusal->client, &error));
        (void)confer_client_state(refusal->client);
        CHECK(confer_client_counter(refusal->client, CONFER_COUNTER_CONNECTIONS) >= 1);
        /* A callback may start another request. */
        confer_stream *stream = NULL;
        CHECK_OK(confer_ping_stream(refusal->client, NULL, &stream, &error));
        confer_stream_free(stream);
    }
    CHECK(client == NULL && event == NULL);
    gate_raise(&refusal->tried);
}

static int32_t wait_in_a_tool(struct recorder *recorder, const confer_event *event) {
    if (!confer_event_wants_answer(event)) return 0;
    try_to_wait(recorder->data);
    CHECK_OK(confer_event_answer_tool(event, "done", SIZE_MAX, &error));
    return 0;
}

static void wait_at_the_end(struct recorder *recorder) {
    try_to_wait(recorder->data);
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
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct refusal refusal = {GATE, enclave_config(&enclave), client, chat_pull(client, "/silent")};
    chat_next(refusal.silent);
    confer_chat_request *chat = chat_request("/client-tool look {}");
    confer_stream *stream = NULL;
    struct recorder recorder = RECORDER;
    recorder.react = wait_in_a_tool;
    recorder.react_done = recorder.react_destroy = wait_at_the_end;
    recorder.data = &refusal;
    confer_stream_callbacks table = recorder_table(&recorder);
    CHECK_OK(confer_chat_request_add_tool(chat, "look", 4, "", 0, "{}", 2, &error));
    CHECK_OK(confer_chat_request_set_tool_rounds(chat, 16, 60000, &error));
    CHECK_OK(confer_chat_stream(client, chat, &table, &recorder.stream, &error));
    confer_chat_request_free(chat);
    recorder_wait(&recorder, CONFER_OK);
    CHECK_TEXT("The tool answered: done", recorder.text);
    confer_stream_free(recorder.stream);
    CHECK(gate_count(&refusal.tried) == 3);
    confer_extraction_request *request = NULL;
    CHECK_OK(confer_extraction_request_new("empty", 5, &request, &error));
    CHECK_OK(confer_extraction_request_set_document_callback(request, -1, wait_in_a_read, &refusal, wait_in_a_destroy, &error));
    CHECK_OK(confer_extraction_stream(client, request, NULL, &stream, &error));
    confer_extraction_request_free(request);
    gate_wait(&refusal.tried, 5);
    confer_stream_free(stream);
    confer_stream_free(refusal.silent);
    enclave_close(client);
    confer_config_free(refusal.config);
    enclave_stop(&enclave);
}

/* A watch that tries in each kind of its callbacks. */
struct watching {
    struct refusal token, change, release;
};

static int32_t wait_in_a_watch(struct recorder *recorder, const confer_event *event) {
    struct watching *watching = recorder->data;
    switch (confer_event_type(event)) {
    case CONFER_EVENT_ASK_TOKEN:
        try_to_wait(&watching->token);
        CHECK_OK(confer_event_answer_token(event, enclave.token, SIZE_MAX, &error));
        break;
    case CONFER_EVENT_DISCONNECTED:
        try_to_wait(&watching->change);
        break;
    case CONFER_EVENT_ASK_RELEASE:
        try_to_wait(&watching->release);
        CHECK_OK(confer_event_answer_release(event, true, &error));
        break;
    }
    return 0;
}

static void callback_rules_hold_for_a_watch(void) {
    struct enclave again;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config_without_token(&enclave);
    struct refusal refusal = {GATE, config, NULL, NULL};
    struct watching watching = {refusal, refusal, refusal};
    struct recorder recorder = RECORDER;
    recorder.react = wait_in_a_watch;
    recorder.data = &watching;
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN | CONFER_ASK_RELEASE, &error));
    enclave_set_retries(config, 1000, 20, 200);
    confer_client *client = client_start(config);
    recorder_watch(&recorder, client);
    CHECK_OK(confer_client_wait(client, -1, &error));
    watching.change.client = watching.release.client = client; /* before the connection breaks */
    watching.change.silent = watching.release.silent = chat_pull(client, "/silent");
    chat_next(watching.change.silent);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, "--release", "9.9.9");
    gate_wait(&watching.release.tried, 1);
    chat_says(client, "hi", "You said: hi");
    CHECK(gate_count(&watching.token.tried) >= 2 && gate_count(&watching.change.tried) == 1);
    confer_stream_free(watching.change.silent);
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
        PROMISE(callback_starts_a_chat_and_a_client),
        PROMISE(callback_rules_hold_for_stage_and_log),
        PROMISE(callback_rules_hold_for_tools_and_documents),
        PROMISE(callback_rules_hold_for_a_watch),
    };
    return KEEP_PROMISES(promises);
}
