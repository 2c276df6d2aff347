/*
 * Callbacks: their order, thread and number, the callback table, and a start that fails.
 */
#include "recorder.h"

#include <stddef.h>

static struct enclave enclave;

static void events_come_in_order_on_one_named_thread_then_done_then_destroy(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    recorder_start(&recorder, client, "one two three four five");
    recorder_wait(&recorder, CONFER_OK);
    CHECK_TEXT("You said: one two three four five", recorder.text);
    CHECK(!pthread_equal(recorder.thread, pthread_self()));
    enclave_close(client);
    CHECK(gate_count(&recorder.done) == 1 && gate_count(&recorder.destroyed) == 1);
    confer_stream_free(recorder.stream);
    CHECK(gate_count(&recorder.destroyed) == 1);
    enclave_stop(&enclave);
}

static void the_streams_of_a_client_share_one_thread_and_take_turns(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    atomic_int inside = 0;
    struct recorder recorders[4] = {RECORDER, RECORDER, RECORDER, RECORDER};
    for (int i = 0; i < 4; i++) {
        recorders[i].inside = &inside;
        recorder_start(&recorders[i], client, "/tokens 300 20");
    }
    for (int i = 0; i < 4; i++) {
        recorder_wait(&recorders[i], CONFER_OK);
        CHECK(gate_count(&recorders[i].events) == 301);
        CHECK(pthread_equal(recorders[i].thread, recorders[0].thread));
        confer_stream_free(recorders[i].stream);
    }
    CHECK(check_count_named("confer-callback") == 1);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_client_without_callbacks_costs_no_thread(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    chat_says(client, "hi", "You said: hi");
    CHECK(check_count_named("confer-callback") == 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

static struct gate slow_entered = GATE, slow_may_go = GATE;

static int32_t be_slow(struct recorder *recorder, const confer_event *event) {
    (void)event;
    if (gate_count(&recorder->events) == 0) {
        gate_raise(&slow_entered);
        gate_wait(&slow_may_go, 1);
    }
    return 0;
}

static void a_slow_callback_holds_up_no_other_client(void) {
    enclave_start(&enclave, NULL);
    confer_client *slow = enclave_connect(&enclave), *quick = enclave_connect(&enclave);
    struct recorder waits = RECORDER, runs = RECORDER;
    waits.react = be_slow;
    recorder_start(&waits, slow, "/tokens 10 10");
    gate_wait(&slow_entered, 1);
    recorder_start(&runs, quick, "quick");
    recorder_wait(&runs, CONFER_OK);
    CHECK(gate_count(&waits.events) == 0);
    CHECK_STATUS(CONFER_TIMEOUT, confer_close(slow, 20, &error)); /* a callback is at work */
    gate_raise(&slow_may_go);
    gate_wait(&waits.destroyed, 1);
    confer_stream_free(waits.stream);
    confer_stream_free(runs.stream);
    enclave_close(slow);
    enclave_close(quick);
    enclave_stop(&enclave);
}

static int32_t stop_at_the_second(struct recorder *recorder, const confer_event *event) {
    (void)event;
    return gate_count(&recorder->events) == 1 ? -7 : 0;
}

static void a_callback_stops_its_stream_by_what_it_returns(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    recorder.react = stop_at_the_second;
    recorder_start(&recorder, client, "/tokens 1000 10");
    recorder_wait(&recorder, CONFER_E_STOPPED);
    CHECK(gate_count(&recorder.events) == 2);
    confer_stream_free(recorder.stream);
    chat_says(client, "go on", "You said: go on");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void streams_that_are_open_when_their_client_closes_end_with_closed(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    recorder_start(&recorder, client, "/silent");
    gate_wait(&recorder.events, 1);
    CHECK_OK(confer_close(client, -1, &error));
    CHECK(gate_count(&recorder.destroyed) == 1 && recorder.status == CONFER_E_CLOSED);
    confer_client_free(client);
    confer_stream_free(recorder.stream);
    enclave_stop(&enclave);
}

struct holdup {
    struct gate entered, may_go;
};

static int32_t be_held_up(struct recorder *recorder, const confer_event *event) {
    (void)event;
    struct holdup *holdup = recorder->data;
    if (gate_count(&recorder->events) == 0) {
        gate_raise(&holdup->entered);
        gate_wait(&holdup->may_go, 1);
    }
    return 0;
}

static void closing_delivers_no_backlog(void) {
    enum { TOKENS = 1000 };
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct holdup holdup = {GATE, GATE};
    struct recorder complete = RECORDER, open = RECORDER;
    complete.react = be_held_up;
    complete.data = &holdup;
    recorder_start(&complete, client, "/tokens 1000 10");
    gate_wait(&holdup.entered, 1);
    recorder_start(&open, client, "/silent");
    confer_stream *pulled = chat_pull(client, "/tokens 1000 10");
    chat_next(pulled);
    /* Both answers have arrived and wait for delivery: each token and each completion is a message. */
    while (confer_client_counter(client, CONFER_COUNTER_MESSAGES_RECEIVED) < 2 * (TOKENS + 1) + 1) check_pause();
    CHECK_STATUS(CONFER_TIMEOUT, confer_close(client, 20, &error)); /* a callback is at work */
    gate_raise(&holdup.may_go);
    CHECK_OK(confer_close(client, -1, &error));
    CHECK(gate_count(&complete.events) == 1 && gate_count(&open.events) == 0);
    CHECK(gate_count(&complete.destroyed) == 1 && complete.status == CONFER_E_CLOSED);
    CHECK(gate_count(&open.destroyed) == 1 && open.status == CONFER_E_CLOSED);
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_E_CLOSED, confer_stream_next(pulled, 0, &event, &error));
    CHECK_STATUS(CONFER_E_CLOSED, confer_stream_next(pulled, 0, &event, &error));
    confer_stream_free(complete.stream);
    confer_stream_free(open.stream);
    confer_stream_free(pulled);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void any_callback_may_be_absent(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("a few words to say");
    struct recorder done = RECORDER, destroyed = RECORDER, event = RECORDER;
    confer_stream *streams[3] = {NULL, NULL, NULL};
    confer_stream_callbacks table = recorder_table(&done);
    table.on_event = NULL;
    CHECK_OK(confer_chat_stream(client, request, &table, &done.stream, &error));
    table = recorder_table(&event);
    table.on_done = NULL;
    table.destroy = NULL;
    CHECK_OK(confer_chat_stream(client, request, &table, &event.stream, &error));
    table = recorder_table(&destroyed);
    table.on_event = NULL;
    table.on_done = NULL;
    CHECK_OK(confer_chat_stream(client, request, &table, &destroyed.stream, &error));
    table = (confer_stream_callbacks){sizeof table, NULL, NULL, NULL, NULL, NULL};
    CHECK_OK(confer_chat_stream(client, request, &table, &streams[0], &error));
    gate_wait(&done.destroyed, 1);
    gate_wait(&destroyed.destroyed, 1);
    gate_wait(&event.events, 7); /* "You said: " and five words, and the completion */
    CHECK(gate_count(&done.events) == 0 && gate_count(&done.done) == 1 && gate_count(&destroyed.done) == 0);
    confer_chat_request_free(request);
    enclave_close(client);
    confer_stream_free(done.stream);
    confer_stream_free(event.stream);
    confer_stream_free(destroyed.stream);
    confer_stream_free(streams[0]);
    enclave_stop(&enclave);
}

static void a_table_of_an_older_header_is_accepted(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hi");
    struct recorder recorder = RECORDER;
    confer_stream_callbacks table = recorder_table(&recorder);
    table.size = offsetof(confer_stream_callbacks, destroy);
    CHECK_OK(confer_chat_stream(client, request, &table, &recorder.stream, &error));
    gate_wait(&recorder.done, 1);
    confer_chat_request_free(request);
    enclave_close(client);
    CHECK(recorder.status == CONFER_OK && gate_count(&recorder.destroyed) == 0);
    confer_stream_free(recorder.stream);
    enclave_stop(&enclave);
}

struct newer_table {
    confer_stream_callbacks known;
    void (*unknown)(void);
};

static void do_nothing(void) {}

static void a_table_of_a_newer_header_is_accepted_if_its_tail_is_zero_and_refused_otherwise(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hi");
    struct recorder accepted = RECORDER, refused = RECORDER;
    struct newer_table table = {recorder_table(&accepted), NULL};
    table.known.size = sizeof table;
    CHECK_OK(confer_chat_stream(client, request, &table.known, &accepted.stream, &error));
    recorder_wait(&accepted, CONFER_OK);
    table = (struct newer_table){recorder_table(&refused), do_nothing};
    table.known.size = sizeof table;
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "callbacks",
                confer_chat_stream(client, request, &table.known, &refused.stream, &error));
    CHECK(refused.stream == NULL);
    confer_chat_request_free(request);
    enclave_close(client);
    CHECK(gate_count(&refused.events) == 0 && gate_count(&refused.done) == 0 && gate_count(&refused.destroyed) == 1);
    confer_stream_free(accepted.stream);
    enclave_stop(&enclave);
}

static void a_missing_table_and_one_of_unknown_size_destroy_nothing(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hi");
    struct recorder recorder = RECORDER;
    confer_stream_callbacks table = recorder_table(&recorder);
    recorder.stream = (confer_stream *)&recorder; /* an old value */
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "stream", confer_chat_stream(client, request, NULL, NULL, &error));
    const size_t sizes[] = {0, 1, sizeof(size_t), SIZE_MAX, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        table.size = sizes[i];
        CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "callbacks",
                    confer_chat_stream(client, request, &table, &recorder.stream, &error));
    }
    CHECK(recorder.stream == NULL);
    confer_chat_request_free(request);
    enclave_close(client);
    CHECK(gate_count(&recorder.destroyed) == 0);
    enclave_stop(&enclave);
}

static void destroy_here(struct recorder *recorder) {
    recorder->thread = pthread_self();
}

static void a_start_that_fails_destroys_once_before_it_returns_and_calls_nothing_else(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hi"), *empty = NULL;
    CHECK_OK(confer_chat_request_new(&empty, &error));
    for (int i = 0; i < 4; i++) {
        struct recorder recorder = RECORDER;
        recorder.react_destroy = destroy_here;
        confer_stream_callbacks table = recorder_table(&recorder);
        confer_stream **stream = &recorder.stream;
        switch (i) {
        case 0:
            CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "client", confer_chat_stream(NULL, request, &table, stream, &error));
            break;
        case 1:
            CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "request", confer_chat_stream(client, NULL, &table, stream, &error));
            break;
        case 2:
            CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "message", confer_chat_stream(client, empty, &table, stream, &error));
            break;
        default:
            CHECK_OK(confer_close(client, -1, &error));
            CHECK_STATUS(CONFER_E_CLOSED, confer_chat_stream(client, request, &table, stream, &error));
        }
        CHECK(recorder.stream == NULL && gate_count(&recorder.destroyed) == 1);
        CHECK(pthread_equal(recorder.thread, pthread_self()));
        CHECK(gate_count(&recorder.events) == 0 && gate_count(&recorder.done) == 0);
    }
    confer_chat_request_free(empty);
    confer_chat_request_free(request);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void a_stream_with_callbacks_cannot_be_pulled(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    recorder_start(&recorder, client, "hi");
    const confer_event *event = NULL;
    int fd = -7;
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_stream_next(recorder.stream, 0, &event, &error));
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_stream_fd(recorder.stream, &fd, &error));
    CHECK(fd == -7);
    recorder_wait(&recorder, CONFER_OK);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_refused_request_reaches_done_with_the_enclaves_words(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    recorder_start(&recorder, client, "/status 402");
    recorder_wait(&recorder, CONFER_E_PAYMENT_REQUIRED);
    CHECK(gate_count(&recorder.events) == 0);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

struct closing {
    confer_client *client;
    struct gate go;
};

static void *close_when_told(void *data) {
    struct closing *closing = data;
    gate_wait(&closing->go, 1);
    CHECK_OK(confer_close(closing->client, -1, &error));
    return NULL;
}

/* In any order, a started stream gets its end, and a failed start destroys the user data. */
static void a_start_that_races_a_close_comes_to_its_end_on_every_path(void) {
    enum { ROUNDS = 40, STARTS = 20 };
    enclave_start(&enclave, NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct closing closing = {enclave_connect(&enclave), GATE};
        struct recorder recorders[STARTS];
        confer_chat_request *request = chat_request("/silent");
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, close_when_told, &closing) == 0);
        for (int i = 0; i < STARTS; i++) {
            recorders[i] = (struct recorder)RECORDER;
            confer_stream_callbacks table = recorder_table(&recorders[i]);
            if (i == round % STARTS) gate_raise(&closing.go);
            confer_status status = confer_chat_stream(closing.client, request, &table, &recorders[i].stream, NULL);
            CHECK(status == CONFER_OK || status == CONFER_E_CLOSED);
            CHECK((status == CONFER_OK) == (recorders[i].stream != NULL));
        }
        CHECK(pthread_join(thread, NULL) == 0);
        for (int i = 0; i < STARTS; i++) {
            int started = recorders[i].stream != NULL;
            CHECK(gate_count(&recorders[i].destroyed) == 1 && gate_count(&recorders[i].done) == started);
            CHECK(!started || recorders[i].status == CONFER_E_CLOSED);
            confer_stream_free(recorders[i].stream);
        }
        confer_chat_request_free(request);
        confer_client_free(closing.client);
    }
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(events_come_in_order_on_one_named_thread_then_done_then_destroy),
        PROMISE(the_streams_of_a_client_share_one_thread_and_take_turns),
        PROMISE(a_client_without_callbacks_costs_no_thread),
        PROMISE(a_slow_callback_holds_up_no_other_client),
        PROMISE(a_callback_stops_its_stream_by_what_it_returns),
        PROMISE(streams_that_are_open_when_their_client_closes_end_with_closed),
        PROMISE(closing_delivers_no_backlog),
        PROMISE(any_callback_may_be_absent),
        PROMISE(a_table_of_an_older_header_is_accepted),
        PROMISE(a_table_of_a_newer_header_is_accepted_if_its_tail_is_zero_and_refused_otherwise),
        PROMISE(a_missing_table_and_one_of_unknown_size_destroy_nothing),
        PROMISE(a_start_that_fails_destroys_once_before_it_returns_and_calls_nothing_else),
        PROMISE(a_stream_with_callbacks_cannot_be_pulled),
        PROMISE(a_refused_request_reaches_done_with_the_enclaves_words),
        PROMISE(a_start_that_races_a_close_comes_to_its_end_on_every_path),
    };
    return KEEP_PROMISES(promises);
}
