/*
 * recorder.h: a callback table that records its calls and checks the promises of confer.h for each:
 * the handle is stored, the thread is the client's callback thread, calls do not overlap, and none
 * follows `destroy`. A test adds its own checks with `react`.
 */
#ifndef RECORDER_H
#define RECORDER_H

#include "enclave.h"

#include <stdatomic.h>

struct recorder {
    confer_stream *stream; /* where the start call stores the handle */
    int detached;          /* the start call stores none */
    struct gate events, done, destroyed;
    confer_status status;
    char text[4096];
    size_t used;
    pthread_t thread;
    int has_thread;
    atomic_int *inside; /* running calls of all streams of a client; NULL for a single stream */
    /* Called for each event, may be NULL. on_event returns its result. */
    int32_t (*react)(struct recorder *recorder, const confer_event *event);
    /* Called by on_done, may be NULL. */
    void (*react_done)(struct recorder *recorder);
    /* Called by destroy, may be NULL. */
    void (*react_destroy)(struct recorder *recorder);
    /* Data of the functions above. */
    confer_client *client;
    void *data;
};

#define RECORDER {.events = GATE, .done = GATE, .destroyed = GATE, .status = -1}

static inline void recorder_enter(struct recorder *recorder, confer_stream *stream) {
    CHECK(gate_count(&recorder->destroyed) == 0);
    CHECK(recorder->inside == NULL || atomic_fetch_add(recorder->inside, 1) == 0);
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    if (recorder->detached && recorder->stream == NULL) recorder->stream = stream;
    if (!recorder->has_thread) recorder->thread = pthread_self();
    recorder->has_thread = 1;
    CHECK(pthread_equal(recorder->thread, pthread_self()));
}

static inline void recorder_leave(struct recorder *recorder) {
    if (recorder->inside != NULL) atomic_fetch_sub(recorder->inside, 1);
}

static inline int32_t recorder_on_event(void *user_data, confer_stream *stream, const confer_event *event) {
    struct recorder *recorder = user_data;
    recorder_enter(recorder, stream);
    CHECK(stream != NULL && stream == recorder->stream);
    CHECK(event != NULL && gate_count(&recorder->done) == 0);
    size_t len = 0;
    const char *content = confer_event_content(event, &len);
    if (content != NULL && recorder->used + len < sizeof recorder->text) {
        memcpy(recorder->text + recorder->used, content, len);
        recorder->used += len;
    }
    int32_t answer = recorder->react != NULL ? recorder->react(recorder, event) : 0;
    gate_raise(&recorder->events);
    recorder_leave(recorder);
    return answer;
}

static inline void recorder_on_done(void *user_data, confer_stream *stream, confer_status status,
                                    const confer_error *error) {
    struct recorder *recorder = user_data;
    recorder_enter(recorder, stream);
    CHECK(stream != NULL && stream == recorder->stream);
    CHECK(gate_count(&recorder->done) == 0);
    check_status(__FILE__, __LINE__, "on_done", status, "", status, error);
    recorder->status = status;
    gate_raise(&recorder->done);
    if (recorder->react_done != NULL) recorder->react_done(recorder);
    recorder_leave(recorder);
}

static inline void recorder_destroy(void *user_data) {
    struct recorder *recorder = user_data;
    CHECK(gate_count(&recorder->destroyed) == 0);
    if (recorder->react_destroy != NULL) recorder->react_destroy(recorder);
    gate_raise(&recorder->destroyed);
}

static inline confer_stream_callbacks recorder_table(struct recorder *recorder) {
    return (confer_stream_callbacks){sizeof(confer_stream_callbacks), recorder, recorder_on_event, recorder_on_done,
                                     recorder_destroy, NULL};
}

static inline void recorder_start(struct recorder *recorder, confer_client *client, const char *prompt) {
    confer_chat_request *request = chat_request(prompt);
    confer_stream_callbacks table = recorder_table(recorder);
    recorder->client = client;
    CHECK_OK(confer_chat_stream(client, request, &table, &recorder->stream, &error));
    confer_chat_request_free(request);
}

/* Opens a watch. It needs no handle, so none is stored. */
static inline void recorder_watch(struct recorder *recorder, confer_client *client) {
    confer_stream_callbacks table = recorder_table(recorder);
    recorder->client = client;
    recorder->detached = 1;
    CHECK_OK(confer_client_watch(client, &table, NULL, &error));
}

static inline void recorder_wait(struct recorder *recorder, confer_status expected) {
    gate_wait(&recorder->destroyed, 1);
    CHECK(gate_count(&recorder->done) == 1 && recorder->status == expected);
}

#endif
