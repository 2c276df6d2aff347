/*
 * Streams of every kind of request: with callbacks, with a wake-up, and pulled. A stream without a handle runs to its
 * end.
 */
#include "recorder.h"

static struct enclave enclave;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)

/* 100 MB, so it cannot end before the first event is read. */
#define ENDLESS "/tokens 100000 1000"

/* ---- every kind of request ------------------------------------------------------------------------------------------ */

static confer_status start_chat(confer_client *client, const confer_stream_callbacks *callbacks, confer_stream **stream,
                                confer_error **error) {
    confer_chat_request *request = chat_request("hello");
    confer_status status = confer_chat_stream(client, request, callbacks, stream, error);
    confer_chat_request_free(request);
    return status;
}

static confer_status start_embeddings(confer_client *client, const confer_stream_callbacks *callbacks,
                                      confer_stream **stream, confer_error **out) {
    confer_embeddings_request *request = NULL;
    CHECK_OK(confer_embeddings_request_new(&request, &error));
    CHECK_OK(confer_embeddings_request_set_is_query(request, true, &error));
    CHECK_OK(confer_embeddings_request_add_text(request, "one", SIZE_MAX, &error));
    confer_status status = confer_embeddings_stream(client, request, callbacks, stream, out);
    confer_embeddings_request_free(request);
    return status;
}

static confer_status start_extraction(confer_client *client, const confer_stream_callbacks *callbacks,
                                      confer_stream **stream, confer_error **out) {
    confer_extraction_request *request = NULL;
    CHECK_OK(confer_extraction_request_new("note.txt", SIZE_MAX, &request, &error));
    CHECK_OK(confer_extraction_request_set_document_bytes(request, (const uint8_t *)"plain words", 11, &error));
    CHECK_OK(confer_extraction_request_set_option(request, "content_type", SIZE_MAX, "\"text/plain\"", SIZE_MAX, &error));
    confer_status status = confer_extraction_stream(client, request, callbacks, stream, out);
    confer_extraction_request_free(request);
    return status;
}

static confer_status start_fetch(confer_client *client, const confer_stream_callbacks *callbacks, confer_stream **stream,
                                 confer_error **out) {
    confer_fetch_request *request = NULL;
    CHECK_OK(confer_fetch_request_new("http://example.test/", SIZE_MAX, &request, &error));
    CHECK_OK(confer_fetch_request_set_header(request, "accept", SIZE_MAX, "text/html", SIZE_MAX, &error));
    confer_status status = confer_fetch_stream(client, request, callbacks, stream, out);
    confer_fetch_request_free(request);
    return status;
}

static confer_status start_raw(confer_client *client, const confer_stream_callbacks *callbacks, confer_stream **stream,
                               confer_error **out) {
    confer_raw_request *request = NULL;
    CHECK_OK(confer_raw_request_new("POST", SIZE_MAX, "/v1/vllm/chat/completions", SIZE_MAX, CONFER_ENDING_COMPLETION,
                                    &request, &error));
    CHECK_OK(confer_raw_request_set_body(request, "{\"model\": \"m\", \"stream\": true, \"webSearch\": false, \"messages\": "
                                                  "[{\"role\": \"user\", \"content\": \"raw\"}]}", SIZE_MAX, &error));
    confer_status status = confer_raw_stream(client, request, callbacks, stream, out);
    confer_raw_request_free(request);
    return status;
}

static const struct kind {
    confer_status (*start)(confer_client *, const confer_stream_callbacks *, confer_stream **, confer_error **);
    int32_t last;
    const char *text; /* of the whole answer; NULL if it is not a text */
} kinds[] = {
    {start_chat, CONFER_EVENT_COMPLETION, "You said: hello"},
    {start_embeddings, CONFER_EVENT_EMBEDDINGS, NULL},
    {start_extraction, CONFER_EVENT_BODY, "plain words"},
    {start_fetch, CONFER_EVENT_BODY, "<html"},
    {start_raw, CONFER_EVENT_COMPLETION, "You said: raw"},
    {confer_ping_stream, CONFER_EVENT_PONG, NULL},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

/* Reads a stream to its end and returns the type of its last event. */
static int32_t last_event(confer_stream *stream) {
    int32_t type = -1;
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    confer_status status;
    while ((status = confer_stream_next(stream, -1, &event, &failure)) == CONFER_OK) type = confer_event_type(event);
    check_status(__FILE__, __LINE__, "confer_stream_next", CONFER_END, "", status, failure);
    return type;
}

static void stream_of_every_kind_is_pulled_without_callbacks(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (int kind = 0; kind < KINDS; kind++) {
        confer_stream *stream = NULL;
        CHECK_OK(kinds[kind].start(client, NULL, &stream, &error));
        CHECK(last_event(stream) == kinds[kind].last);
        confer_stream_free(stream);
        REFUSES("stream", kinds[kind].start(client, NULL, NULL, &error));
    }
    CHECK(check_count_named("confer-callback") == 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

static int32_t note_type(struct recorder *recorder, const confer_event *event) {
    *(int32_t *)recorder->data = confer_event_type(event);
    return 0;
}

static void stream_of_every_kind_is_delivered_to_callbacks(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (int kind = 0; kind < KINDS; kind++) {
        struct recorder recorder = RECORDER, refused = RECORDER;
        int32_t type = -1;
        recorder.react = note_type;
        recorder.data = &type;
        confer_stream_callbacks table = recorder_table(&recorder);
        CHECK_OK(kinds[kind].start(client, &table, &recorder.stream, &error));
        recorder_wait(&recorder, CONFER_OK);
        CHECK(type == kinds[kind].last);
        confer_stream_free(recorder.stream);
        table = recorder_table(&refused);
        REFUSES("client", kinds[kind].start(NULL, &table, &refused.stream, &error));
        CHECK(refused.stream == NULL && gate_count(&refused.destroyed) == 1 && gate_count(&refused.done) == 0);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

static void missing_request_is_named(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = NULL;
    REFUSES("request", confer_chat_stream(client, NULL, NULL, &stream, &error));
    REFUSES("request", confer_embeddings_stream(client, NULL, NULL, &stream, &error));
    REFUSES("request", confer_extraction_stream(client, NULL, NULL, &stream, &error));
    REFUSES("request", confer_fetch_stream(client, NULL, NULL, &stream, &error));
    REFUSES("request", confer_raw_stream(client, NULL, NULL, &stream, &error));
    CHECK(stream == NULL);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- without a handle ----------------------------------------------------------------------------------------------- */

static void stream_without_a_handle_runs_to_its_end_by_itself(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (int kind = 0; kind < KINDS; kind++) {
        struct recorder recorder = RECORDER;
        recorder.detached = 1;
        confer_stream_callbacks table = recorder_table(&recorder);
        CHECK_OK(kinds[kind].start(client, &table, NULL, &error));
        recorder_wait(&recorder, CONFER_OK);
    }
    /* The client can be freed: the stream keeps it until its end. */
    struct recorder last = RECORDER;
    last.detached = 1;
    confer_stream_callbacks table = recorder_table(&last);
    CHECK_OK(start_chat(client, &table, NULL, &error));
    confer_client_free(client);
    recorder_wait(&last, CONFER_OK);
    CHECK_TEXT("You said: hello", last.text);
    CHECK_OK(confer_runtime_wait(-1, &error));
    enclave_stop(&enclave);
}

static int32_t cancel_it(struct recorder *recorder, const confer_event *event) {
    (void)event;
    confer_stream_cancel(recorder->stream);
    return 0;
}

static void stream_without_a_handle_is_cancelled_in_its_callback_or_by_closing(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder cancelled = RECORDER, closed = RECORDER;
    confer_chat_request *endless = chat_request(ENDLESS), *silent = chat_request("/silent");
    cancelled.detached = closed.detached = 1;
    cancelled.react = cancel_it;
    confer_stream_callbacks table = recorder_table(&cancelled);
    CHECK_OK(confer_chat_stream(client, endless, &table, NULL, &error));
    recorder_wait(&cancelled, CONFER_E_CANCELLED);
    CHECK(gate_count(&cancelled.events) == 1);
    table = recorder_table(&closed);
    CHECK_OK(confer_chat_stream(client, silent, &table, NULL, &error));
    gate_wait(&closed.events, 1);
    CHECK_OK(confer_close(client, -1, &error));
    CHECK(gate_count(&closed.destroyed) == 1 && closed.status == CONFER_E_CLOSED);
    confer_chat_request_free(endless);
    confer_chat_request_free(silent);
    confer_client_free(client);
    enclave_stop(&enclave);
}

/* ---- with a wake-up ------------------------------------------------------------------------------------------------- */

/* A recorder with `on_ready`: it counts the calls in `events`. */
static void recorder_on_ready(void *user_data, confer_stream *stream) {
    struct recorder *recorder = user_data;
    recorder_enter(recorder, stream);
    CHECK(stream == recorder->stream && gate_count(&recorder->done) == 0);
    if (recorder->react != NULL) recorder->react(recorder, NULL);
    gate_raise(&recorder->events);
    recorder_leave(recorder);
}

static confer_stream_callbacks waking_table(struct recorder *recorder) {
    confer_stream_callbacks table = recorder_table(recorder);
    table.on_event = NULL;
    table.on_ready = recorder_on_ready;
    return table;
}

static void start_waking(struct recorder *recorder, confer_client *client, const char *prompt) {
    confer_chat_request *request = chat_request(prompt);
    confer_stream_callbacks table = waking_table(recorder);
    CHECK_OK(confer_chat_stream(client, request, &table, &recorder->stream, &error));
    confer_chat_request_free(request);
}

/* Takes all waiting events. Returns CONFER_TIMEOUT, or the stream's end. */
static confer_status take_all(confer_stream *stream, int *events) {
    for (;;) {
        const confer_event *event = NULL;
        confer_error *failure = NULL;
        confer_status status = confer_stream_next(stream, 0, &event, &failure);
        check_status(__FILE__, __LINE__, "confer_stream_next", status, "", status, failure);
        confer_error_free(failure);
        if (status != CONFER_OK) return status;
        ++*events;
    }
}

static void event_loop_reads_an_answer_by_wake_ups(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    int events = 0, wakes = 0;
    confer_status status;
    start_waking(&recorder, client, "/tokens 2000 50");
    do {
        gate_wait(&recorder.events, ++wakes); /* never too few, because everything was taken */
        status = take_all(recorder.stream, &events);
    } while (status == CONFER_TIMEOUT);
    CHECK(status == CONFER_END && events == 2001);
    recorder_wait(&recorder, CONFER_OK);
    CHECK_STATUS(CONFER_END, confer_stream_next(recorder.stream, 0, &(const confer_event *){NULL}, &error));
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static int32_t take_here(struct recorder *recorder, const confer_event *event) {
    (void)event;
    int *events = recorder->data;
    take_all(recorder->stream, events);
    return 0;
}

static void woken_application_reads_in_the_callback_too(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    int events = 0;
    recorder.react = take_here;
    recorder.data = &events;
    recorder.detached = 1;
    confer_chat_request *request = chat_request("/tokens 2000 50");
    confer_stream_callbacks table = waking_table(&recorder);
    CHECK_OK(confer_chat_stream(client, request, &table, NULL, &error));
    confer_chat_request_free(request);
    recorder_wait(&recorder, CONFER_OK);
    CHECK(events == 2001);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void wake_up_comes_once_for_what_waits_and_once_for_the_end(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    const confer_event *event = NULL;
    start_waking(&recorder, client, "a few words that wait");
    recorder_wait(&recorder, CONFER_OK); /* the end comes although nothing was taken */
    int wakes = gate_count(&recorder.events);
    CHECK(wakes == 1 || wakes == 2);
    char text[100];
    chat_read(recorder.stream, text, sizeof text);
    CHECK_TEXT("You said: a few words that wait", text);
    CHECK_STATUS(CONFER_END, confer_stream_next(recorder.stream, 0, &event, &error));
    CHECK(gate_count(&recorder.events) == wakes);
    confer_stream_free(recorder.stream);

    /* Here the end comes after the call for the event has returned, so there are two. */
    struct recorder broken = RECORDER;
    start_waking(&broken, client, "/silent");
    gate_wait(&broken.events, 1);
    enclave_kill(&enclave);
    recorder_wait(&broken, CONFER_E_CONNECTION_LOST);
    CHECK(gate_count(&broken.events) == 2);
    CHECK_TEXT("before the silence ", confer_event_content(chat_next(broken.stream), NULL));
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_stream_next(broken.stream, 0, &event, &error));
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_stream_next(broken.stream, 0, &event, &error));
    CHECK(gate_count(&broken.events) == 2);
    confer_stream_free(broken.stream);
    enclave_close(client);
}

static void failure_is_told_and_then_taken(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    const confer_event *event = NULL;
    start_waking(&recorder, client, "/status 503");
    recorder_wait(&recorder, CONFER_E_REFUSED);
    CHECK_STATUS(CONFER_E_REFUSED, confer_stream_next(recorder.stream, 0, &event, &error));
    CHECK_STATUS(CONFER_E_REFUSED, confer_stream_next(recorder.stream, 0, &event, &error));
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void cancelling_wakes_and_freeing_does_not(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder cancelled = RECORDER, freed = RECORDER;
    const confer_event *event = NULL;
    int events = 0;
    start_waking(&cancelled, client, "/silent");
    gate_wait(&cancelled.events, 1);
    CHECK(take_all(cancelled.stream, &events) == CONFER_TIMEOUT && events == 1);
    confer_stream_cancel(cancelled.stream);
    recorder_wait(&cancelled, CONFER_E_CANCELLED);
    CHECK(gate_count(&cancelled.events) >= 2);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(cancelled.stream, -1, &event, &error));
    confer_stream_free(cancelled.stream);
    start_waking(&freed, client, "/silent");
    gate_wait(&freed.events, 1);
    CHECK(take_all(freed.stream, &events) == CONFER_TIMEOUT);
    int wakes = gate_count(&freed.events);
    confer_stream_free(freed.stream);
    recorder_wait(&freed, CONFER_E_CANCELLED);
    CHECK(gate_count(&freed.events) == wakes);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void closing_ends_a_stream_that_nobody_reads(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    const confer_event *event = NULL;
    start_waking(&recorder, client, ENDLESS);
    gate_wait(&recorder.events, 1);
    CHECK_OK(confer_close(client, -1, &error)); /* it does not wait for a reader */
    CHECK(gate_count(&recorder.destroyed) == 1 && recorder.status == CONFER_E_CLOSED);
    CHECK_STATUS(CONFER_E_CLOSED, confer_stream_next(recorder.stream, 0, &event, &error));
    CHECK_STATUS(CONFER_E_CLOSED, confer_stream_next(recorder.stream, 0, &event, &error));
    confer_stream_free(recorder.stream);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void table_has_either_events_or_wake_ups(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder both = RECORDER, waking = RECORDER, alone = RECORDER;
    confer_stream_callbacks table = recorder_table(&both);
    table.on_ready = recorder_on_ready;
    REFUSES("on_ready", start_chat(client, &table, &both.stream, &error));
    CHECK(both.stream == NULL && gate_count(&both.destroyed) == 1 && gate_count(&both.done) == 0);
    start_waking(&waking, client, "hi");
    int fd = -1;
    REFUSES("on_ready", confer_stream_fd(waking.stream, &fd, &error));
    recorder_wait(&waking, CONFER_OK);
    confer_stream_free(waking.stream);
    table = waking_table(&alone); /* the others may be absent */
    table.on_done = NULL;
    CHECK_OK(start_chat(client, &table, &alone.stream, &error));
    gate_wait(&alone.destroyed, 1);
    CHECK(last_event(alone.stream) == CONFER_EVENT_COMPLETION && gate_count(&alone.done) == 0);
    confer_stream_free(alone.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- the whole answer ----------------------------------------------------------------------------------------------- */

static void answer_is_collected_or_is_no_text(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (int kind = 0; kind < KINDS; kind++) {
        confer_stream *stream = NULL;
        const char *text = "before", *again = NULL;
        size_t len = 7, length = 7;
        CHECK_OK(kinds[kind].start(client, NULL, &stream, &error));
        CHECK_TEXT("", confer_stream_text(stream, &len));
        CHECK(len == 0);
        if (kinds[kind].text == NULL) {
            REFUSES("no text", confer_stream_collect(stream, -1, &text, &len, &error));
            CHECK(text == NULL && last_event(stream) == kinds[kind].last);
        } else {
            CHECK_OK(confer_stream_collect(stream, -1, &text, &len, &error));
            CHECK(strstr(text, kinds[kind].text) != NULL && strlen(text) == len);
            CHECK(confer_stream_text(stream, &length) == text && length == len && confer_stream_text(stream, NULL) == text);
            CHECK_OK(confer_stream_collect(stream, 0, &again, NULL, &error)); /* again */
            CHECK(strlen(again) == len);
            CHECK_STATUS(CONFER_END, confer_stream_next(stream, -1, &(const confer_event *){NULL}, &error));
        }
        confer_stream_free(stream);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

static void collecting_goes_on_after_a_timeout(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    const char *text = NULL;
    size_t len = 0;
    int64_t before = check_now_ms();
    while (*confer_stream_text(stream, NULL) == '\0')
        CHECK_STATUS(CONFER_TIMEOUT, confer_stream_collect(stream, 80, &text, &len, &error));
    CHECK(text == NULL && len == 0 && check_now_ms() - before >= 79);
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_collect(stream, 0, &text, &len, &error));
    CHECK_TEXT("before the silence ", confer_stream_text(stream, &len));
    CHECK(len == strlen("before the silence "));
    confer_stream_cancel(stream);
    for (int turn = 0; turn < 2; turn++) {
        CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_collect(stream, -1, &text, &len, &error));
        CHECK_TEXT("before the silence ", confer_stream_text(stream, NULL));
    }
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, 0, &(const confer_event *){NULL}, &error));
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void failed_answer_keeps_what_came(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/status-midstream 500");
    const char *text = NULL;
    CHECK_STATUS(CONFER_E_REFUSED, confer_stream_collect(stream, -1, &text, NULL, &error));
    CHECK(text == NULL && *confer_stream_text(stream, NULL) != '\0');
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void collected_text_has_no_reasoning_and_may_hold_nul(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    const char *text = NULL;
    size_t len = 0;
    confer_stream *stream = chat_pull(client, "/thinking");
    CHECK_OK(confer_stream_collect(stream, -1, &text, &len, &error));
    confer_stream *read = chat_pull(client, "/thinking");
    char tokens[1000];
    chat_read(read, tokens, sizeof tokens);
    CHECK_TEXT(tokens, text);
    confer_stream_free(read);
    confer_stream_free(stream);
    stream = chat_pull(client, "/unicode");
    CHECK_OK(confer_stream_collect(stream, -1, &text, &len, &error));
    CHECK(len > strlen(text) && text[len] == '\0');
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void collecting_begins_behind_what_was_taken_before(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "one two");
    const char *text = NULL;
    const confer_event *event = chat_next(stream);
    char first[100];
    snprintf(first, sizeof first, "%s", confer_event_content(event, NULL));
    CHECK_OK(confer_stream_collect(stream, -1, &text, NULL, &error));
    CHECK(strncmp("You said: one two", first, strlen(first)) == 0);
    CHECK_TEXT(&"You said: one two"[strlen(first)], text);
    confer_stream_free(stream);
    stream = chat_pull(client, "one two");
    CHECK(last_event(stream) == CONFER_EVENT_COMPLETION);
    CHECK_OK(confer_stream_collect(stream, 0, &text, NULL, &error)); /* the end was taken, and nothing remains */
    CHECK_TEXT("", text);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void too_long_answer_is_not_collected(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    /* 67 MB; the bound is 32 MiB. The rest does not fit into socket buffers, so the stream cannot have ended. */
    confer_stream *stream = chat_pull(client, "/tokens 4100 16384");
    const char *text = NULL;
    size_t len = 0;
    for (int call = 0; call < 2; call++) { /* a later call fails in the same way */
        confer_error *failure = NULL;
        CHECK(confer_stream_collect(stream, -1, &text, &len, &failure) == CONFER_E_TOO_LARGE && text == NULL);
        CHECK_TEXT("the answer is larger than 33554432 bytes; read its events one by one", confer_error_message(failure, NULL));
        CHECK(confer_error_progress(failure) == CONFER_PROGRESS_PARTLY_ANSWERED && !confer_error_retryable(failure));
        confer_error_free(failure);
        CHECK(confer_stream_text(stream, &len) != NULL && len > (31 << 20) && len <= (32 << 20));
    }
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, -1, &(const confer_event *){NULL}, &error));
    confer_stream_free(stream);
    chat_says(client, "still here", "You said: still here");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void *collect_silence(void *data) {
    const char *text = NULL;
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_collect(data, -1, &text, NULL, &error));
    return NULL;
}

static int32_t collect_here(struct recorder *recorder, const confer_event *event) {
    (void)event;
    const char *text = NULL;
    if (gate_count(&recorder->events) > 0) return 0;
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_collect(recorder->data, -1, &text, NULL, &error));
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_stream_collect(recorder->data, 1, &text, NULL, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_collect(recorder->data, 0, &text, NULL, &error));
    REFUSES("callbacks", confer_stream_collect(recorder->stream, 0, &text, NULL, &error));
    CHECK(confer_stream_text(recorder->stream, NULL) == NULL);
    return 0;
}

static void misuse_of_collecting_is_refused(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    const char *text = NULL;
    size_t len = 7;
    chat_next(stream);
    REFUSES("stream", confer_stream_collect(NULL, -1, &text, &len, &error));
    REFUSES("text", confer_stream_collect(stream, -1, NULL, &len, &error));
    CHECK(confer_stream_text(NULL, &len) == NULL && len == 0);
    struct recorder recorder = RECORDER;
    recorder.react = collect_here;
    recorder.data = stream;
    recorder_start(&recorder, client, "hi");
    recorder_wait(&recorder, CONFER_OK);
    confer_stream_free(recorder.stream);

    /* A chat whose tools want answers, without a call. */
    confer_chat_request *request = chat_request("hello");
    confer_stream *asking = NULL;
    CHECK_OK(confer_chat_request_add_tool(request, "look", SIZE_MAX, "Looks.", SIZE_MAX, "{}", SIZE_MAX, &error));
    CHECK_OK(confer_chat_request_set_tool_rounds(request, 16, 60000, &error));
    CHECK_OK(confer_chat_stream(client, request, NULL, &asking, &error));
    REFUSES("tools", confer_stream_collect(asking, -1, &text, &len, &error));
    CHECK(last_event(asking) == CONFER_EVENT_COMPLETION);
    confer_stream_free(asking);
    confer_chat_request_free(request);

    /* One reader at a time. */
    pthread_t reader;
    CHECK(pthread_create(&reader, NULL, collect_silence, stream) == 0);
    while (confer_stream_text(stream, &len) != NULL) check_pause();
    CHECK(len == 0);
    CHECK_STATUS(CONFER_E_BUSY, confer_stream_collect(stream, 0, &text, NULL, &error));
    CHECK_STATUS(CONFER_E_BUSY, confer_stream_next(stream, 0, &(const confer_event *){NULL}, &error));
    confer_stream_cancel(stream);
    CHECK(pthread_join(reader, NULL) == 0);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void woken_application_collects(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    const char *text = NULL;
    int wakes = 0;
    confer_status status;
    start_waking(&recorder, client, "hello");
    do {
        gate_wait(&recorder.events, ++wakes);
        status = confer_stream_collect(recorder.stream, 0, &text, NULL, NULL);
    } while (status == CONFER_TIMEOUT);
    CHECK(status == CONFER_OK);
    CHECK_TEXT("You said: hello", text);
    gate_wait(&recorder.destroyed, 1);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- clones --------------------------------------------------------------------------------------------------------- */

static void clones_outlive_what_they_were_made_from(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_event *clones[4], *twice;
    confer_stream *stream = chat_pull(client, "/client-tool clock {\"zone\":\"UTC\"}");
    clones[0] = confer_event_clone(chat_next(stream));
    confer_stream_free(stream);
    CHECK_OK(start_embeddings(client, NULL, &stream, &error));
    clones[1] = confer_event_clone(chat_next(stream));
    confer_stream_free(stream);
    CHECK_OK(start_extraction(client, NULL, &stream, &error));
    const confer_event *event = chat_next(stream);
    while (confer_event_type(event) != CONFER_EVENT_BODY) event = chat_next(stream);
    char piece[4096];
    snprintf(piece, sizeof piece, "%s", confer_event_content(event, NULL)); /* read before and after the clone */
    clones[2] = confer_event_clone(event);
    confer_stream_free(stream);
    stream = chat_pull(client, "/tokens 1 20000"); /* too large to be copied */
    clones[3] = confer_event_clone(chat_next(stream));
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);

    size_t len = 0, rows = 0, columns = 0;
    CHECK_TEXT("clock", confer_event_tool_name(clones[0], NULL));
    CHECK(strstr(confer_event_json(clones[0], NULL), "client_tool_call") != NULL);
    const float *values = confer_event_embeddings(clones[1], &rows, &columns);
    CHECK(values != NULL && rows == 1 && columns == 64);
    twice = confer_event_clone(clones[1]);
    CHECK(confer_event_embeddings(twice, NULL, NULL) == values); /* shared */
    CHECK_TEXT(piece, confer_event_content(clones[2], NULL));
    CHECK(confer_event_content(clones[3], &len) != NULL && len == 20000);
    for (int at = 0; at < 4; at++) confer_event_free(clones[at]);
    CHECK(confer_event_embeddings(twice, NULL, NULL) == values && values[0] == values[0]);
    confer_event_free(twice);
    confer_event_free(NULL);
    CHECK(confer_event_clone(NULL) == NULL);
}

/* Clones with more bytes than may wait unread on a stream. */
static void clones_do_not_count_as_unread(void) {
    enum { COUNT = 400 };
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_STREAM_REST, 64 << 10, &error));
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_STREAM_UNREAD, 128 << 10, &error));
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    confer_event *clones[COUNT];
    confer_stream *stream = chat_pull(client, "/tokens 400 10000"); /* 4 MB */
    for (int at = 0; at < COUNT; at++) clones[at] = confer_event_clone(chat_next(stream));
    CHECK(last_event(stream) == CONFER_EVENT_COMPLETION);
    confer_stream_free(stream);
    for (int at = 0; at < COUNT; at++) {
        size_t len = 0;
        CHECK(confer_event_content(clones[at], &len) != NULL && len == 10000);
        confer_event_free(clones[at]);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

struct kept {
    confer_error *error;
    struct gate done;
};

static void keep_error(void *user_data, confer_stream *stream, confer_status status, const confer_error *error) {
    struct kept *kept = user_data;
    (void)stream;
    CHECK(status == CONFER_E_REFUSED);
    kept->error = confer_error_clone(error);
    gate_raise(&kept->done);
}

static void errors_and_reports_are_kept_by_clones(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("/status 503");
    struct kept kept = {NULL, GATE};
    confer_stream_callbacks table = {sizeof table, &kept, NULL, keep_error, NULL, NULL};
    CHECK_OK(confer_chat_stream(client, request, &table, NULL, &error));
    confer_chat_request_free(request);
    gate_wait(&kept.done, 1);
    confer_report *report = NULL;
    CHECK_OK(confer_attestation_report(client, &report, &error));
    confer_report *copy = confer_report_clone(report);
    const char *json = confer_report_json(report, NULL);
    confer_report_free(report);
    CHECK(confer_report_json(copy, NULL) == json && confer_report_verified(copy)); /* shared */
    confer_report_free(copy);
    enclave_close(client);
    enclave_stop(&enclave);
    CHECK(confer_error_status(kept.error) == CONFER_E_REFUSED && confer_error_http_status(kept.error) == 503);
    confer_error *again = confer_error_clone(kept.error);
    const char *message = confer_error_message(kept.error, NULL);
    confer_error_free(kept.error);
    CHECK(confer_error_message(again, NULL) == message);
    confer_error_free(again);
    CHECK(confer_error_clone(NULL) == NULL && confer_report_clone(NULL) == NULL);
}

static void report_of_a_refused_enclave_outlives_its_error(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = NULL;
    confer_client *client = NULL;
    confer_error *refused = NULL;
    CHECK_OK(confer_config_new(&config, &error)); /* the production policy does not trust the local enclave */
    CHECK_OK(confer_config_set_endpoint(config, enclave.url, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_token(config, enclave.token, SIZE_MAX, &error));
    CHECK(confer_connect(config, &client, &refused) == CONFER_E_REJECTED);
    confer_config_free(config);
    confer_report *report = confer_report_clone(confer_error_report(refused));
    confer_error_free(refused);
    CHECK(report != NULL && !confer_report_verified(report) && confer_report_check_count(report) > 0);
    confer_report_free(report);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(stream_of_every_kind_is_pulled_without_callbacks),
        PROMISE(stream_of_every_kind_is_delivered_to_callbacks),
        PROMISE(missing_request_is_named),
        PROMISE(stream_without_a_handle_runs_to_its_end_by_itself),
        PROMISE(stream_without_a_handle_is_cancelled_in_its_callback_or_by_closing),
        PROMISE(event_loop_reads_an_answer_by_wake_ups),
        PROMISE(woken_application_reads_in_the_callback_too),
        PROMISE(wake_up_comes_once_for_what_waits_and_once_for_the_end),
        PROMISE(failure_is_told_and_then_taken),
        PROMISE(cancelling_wakes_and_freeing_does_not),
        PROMISE(closing_ends_a_stream_that_nobody_reads),
        PROMISE(table_has_either_events_or_wake_ups),
        PROMISE(answer_is_collected_or_is_no_text),
        PROMISE(collecting_goes_on_after_a_timeout),
        PROMISE(failed_answer_keeps_what_came),
        PROMISE(collected_text_has_no_reasoning_and_may_hold_nul),
        PROMISE(collecting_begins_behind_what_was_taken_before),
        PROMISE(too_long_answer_is_not_collected),
        PROMISE(misuse_of_collecting_is_refused),
        PROMISE(woken_application_collects),
        PROMISE(clones_outlive_what_they_were_made_from),
        PROMISE(clones_do_not_count_as_unread),
        PROMISE(errors_and_reports_are_kept_by_clones),
        PROMISE(report_of_a_refused_enclave_outlives_its_error),
    };
    return KEEP_PROMISES(promises);
}
