/*
 * Reconnecting: the events and questions, in their order, and closing and freeing during an attempt, after which nothing
 * remains. The enclave is killed and restarted at its port.
 */
#include "recorder.h"

static struct enclave enclave, again;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)
#define IS_STALE(call) CHECK_STATUS(CONFER_E_STALE, call)

/* ---- what the application sees ----------------------------------------------------------------------------------- */

/* The watch of a client: each event is compared with the previous one. Stages are left out. */
struct line {
    struct recorder recorder;
    struct gate lost, attempts, failed, connected, token_asked, release_asked;
    int32_t last; /* CONFER_EVENT_*; 0 before the first */
    uint32_t last_attempt;
    bool release_changed;
    void (*react)(struct line *line, const confer_event *event);
    confer_client *client; /* for the reactions */
    void *data;
};

#define LINE                                                                                                         \
    {.recorder = RECORDER, .lost = GATE, .attempts = GATE, .failed = GATE, .connected = GATE, .token_asked = GATE, \
     .release_asked = GATE}

static int32_t on_line_event(struct recorder *recorder, const confer_event *event) {
    struct line *line = recorder->data;
    int32_t type = confer_event_type(event), last = line->last;
    const confer_error *error = confer_event_error(event);
    bool asks = type == CONFER_EVENT_ASK_TOKEN || type == CONFER_EVENT_ASK_RELEASE;
    bool has_report = type == CONFER_EVENT_CONNECTED || type == CONFER_EVENT_ASK_RELEASE;
    bool has_error = type == CONFER_EVENT_DISCONNECTED || (type == CONFER_EVENT_RETRY && last != CONFER_EVENT_DISCONNECTED);
    CHECK((error != NULL) == has_error && (confer_event_report(event) != NULL) == has_report);
    CHECK((confer_event_attempt(event) > 0) == (type == CONFER_EVENT_RETRY));
    CHECK((confer_event_delay_ms(event) >= 0) == (type == CONFER_EVENT_RETRY));
    CHECK((confer_event_token_reason(event) >= 0) == (type == CONFER_EVENT_ASK_TOKEN));
    CHECK(confer_event_wants_answer(event) == asks);
    if (error != NULL) check_holds_no_secret(confer_error_message(error, NULL));
    if (line->react != NULL) line->react(line, event); /* before the gates, which say that it has returned */
    switch (type) {
    case CONFER_EVENT_STAGE:
    case CONFER_EVENT_ANSWERED:
        break;
    case CONFER_EVENT_ASK_TOKEN:
        gate_raise(&line->token_asked);
        break;
    case CONFER_EVENT_ASK_RELEASE:
        gate_raise(&line->release_asked);
        break;
    case CONFER_EVENT_DISCONNECTED:
        CHECK(last == CONFER_EVENT_CONNECTED);
        gate_raise(&line->lost);
        break;
    case CONFER_EVENT_RETRY:
        CHECK(last == CONFER_EVENT_DISCONNECTED || last == CONFER_EVENT_RETRY);
        CHECK(last == CONFER_EVENT_DISCONNECTED || confer_event_attempt(event) == line->last_attempt + 1);
        line->last_attempt = confer_event_attempt(event);
        if (error != NULL) gate_raise(&line->failed);
        gate_raise(&line->attempts);
        break;
    default:
        CHECK(type == CONFER_EVENT_CONNECTED && (last == 0 || last == CONFER_EVENT_RETRY));
        CHECK(confer_report_verified(confer_event_report(event)));
        line->release_changed = confer_event_release_changed(event);
        gate_raise(&line->connected);
    }
    if (type >= CONFER_EVENT_CONNECTED && type <= CONFER_EVENT_RETRY) line->last = type;
    return 0;
}

/* Watches a client. */
static void line_open(struct line *line, confer_client *client) {
    line->client = client;
    line->recorder.react = on_line_event;
    line->recorder.data = line;
    recorder_watch(&line->recorder, client);
}

/* Waits for the client's end. */
static void line_ends(struct line *line, confer_status expected) {
    recorder_wait(&line->recorder, expected);
}

static confer_config *reconnecting(uint32_t attempts) {
    confer_config *config = enclave_config(&enclave);
    check_keep_secret(enclave.token);
    enclave_set_retries(config, attempts, 20, 200);
    return config;
}

/* Connects, and watches the client. */
static confer_client *connect_with(confer_config *config, struct line *line) {
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    line_open(line, client);
    gate_wait(&line->connected, 1); /* the watch begins with the state */
    return client;
}

/* Reads a stream to its end, and frees it. */
static confer_status end_of(confer_stream *stream, int32_t *progress) {
    confer_status status = stream_end(stream, progress);
    confer_stream_free(stream);
    return status;
}

static void client_survives_a_killed_enclave_and_says_so(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(1000), &line);
    char text[100];
    int32_t progress;
    chat_says(client, "one", "You said: one");
    CHECK(is_connected(client) && gate_count(&line.lost) == 0);
    confer_stream *open = chat_pull(client, "/silent");
    chat_next(open);
    enclave_kill(&enclave);
    CHECK(end_of(open, &progress) == CONFER_E_CONNECTION_LOST && progress == CONFER_PROGRESS_PARTLY_ANSWERED);
    gate_wait(&line.failed, 2);
    CHECK(!is_connected(client));
    CHECK_OK(confer_client_check(client, &error)); /* it lives */
    confer_stream *waiting = chat_pull(client, "two");
    enclave_start_again(&again, &enclave, NULL, NULL);
    chat_read(waiting, text, sizeof text);
    CHECK_TEXT("You said: two", text);
    confer_stream_free(waiting);
    gate_wait(&line.connected, 2);
    CHECK(!line.release_changed && gate_count(&line.lost) == 1 && is_connected(client));
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) == 2);
    CHECK(confer_client_counter(client, CONFER_COUNTER_FAILED_ATTEMPTS) == (uint64_t)gate_count(&line.failed));
    CHECK(enclave_count(&again, "/v1/vllm/chat/completions") == 1); /* nothing is sent twice */
    enclave_close(client);
    CHECK(gate_count(&line.recorder.destroyed) == 1);
    line_ends(&line, CONFER_OK);
    check_no_library_thread();
    enclave_stop(&again);
}

static void client_without_retries_ends_with_its_connection(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(0), &line);
    enclave_kill(&enclave);
    line_ends(&line, CONFER_E_CONNECTION_LOST);
    CHECK(gate_count(&line.attempts) == 0 && gate_count(&line.lost) == 0);
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_client_check(client, &error));
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_client_wait(client, -1, &error));
    CHECK(confer_client_state(client) == CONFER_CLIENT_ENDED);
    enclave_close(client);
}

static void client_that_gives_up_tells_all_who_wait(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(3), &line);
    int32_t progress;
    enclave_kill(&enclave);
    gate_wait(&line.lost, 1);
    confer_chat_request *request = chat_request("waits");
    confer_stream *stream = NULL;
    confer_status status = confer_chat_stream(client, request, NULL, &stream, NULL); /* unless it has ended already */
    CHECK(status == CONFER_OK ? end_of(stream, &progress) == CONFER_E_CONNECT && progress == CONFER_PROGRESS_NOT_SENT
                              : status == CONFER_E_CONNECT);
    line_ends(&line, CONFER_E_CONNECT);
    CHECK(gate_count(&line.attempts) == 3 && gate_count(&line.failed) == 2); /* the third failure is the error of the end */
    CHECK(confer_client_counter(client, CONFER_COUNTER_FAILED_ATTEMPTS) == 3);
    CHECK_STATUS(CONFER_E_CONNECT, confer_chat_stream(client, request, NULL, &stream, &error));
    CHECK_STATUS(CONFER_E_CONNECT, confer_client_check(client, &error));
    confer_chat_request_free(request);
    enclave_close(client);
    check_no_library_thread();
}

static void enclave_that_the_policy_refuses_ends_the_client(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(1000), &line);
    confer_error *error = NULL;
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, "--fault", "debug-debuggable");
    line_ends(&line, CONFER_E_REJECTED);
    CHECK(confer_client_check(client, &error) == CONFER_E_REJECTED);
    CHECK_TEXT("tdx.debug", confer_error_check_id(error, NULL));
    CHECK(confer_error_report(error) != NULL && !enclave_logged(&again, "message-3"));
    confer_error_free(error);
    enclave_close(client);
    enclave_stop(&again);
}

static void network_change_cuts_a_delay_short(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_config *config = reconnecting(1000);
    enclave_set_retries(config, 1000, 86400000, 86400000);
    confer_client *client = connect_with(config, &line);
    CHECK_OK(confer_client_network_changed(client, &error)); /* a live connection answers the probe */
    chat_says(client, "still here", "You said: still here");
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    gate_wait(&line.attempts, 1);
    CHECK_OK(confer_client_network_changed(client, &error));
    gate_wait(&line.connected, 2);
    chat_says(client, "and now", "You said: and now");
    enclave_close(client);
    enclave_stop(&again);
}

/* ---- the release ---------------------------------------------------------------------------------------------------- */

static void judge_release(struct line *line, const confer_event *event) {
    if (confer_event_type(event) != CONFER_EVENT_ASK_RELEASE) return;
    const confer_report *before = confer_event_previous_report(event), *now = confer_event_report(event);
    CHECK(confer_report_verified(before));
    CHECK_TEXT("9.9.9", confer_report_image_version(now, NULL));
    CHECK(strcmp(confer_report_manifest_sha256(before, NULL), confer_report_manifest_sha256(now, NULL)) != 0);
    CHECK_OK(confer_event_answer_release(event, *(bool *)line->data, &error));
}

static void another_release_is_accepted_or_refused_in_a_callback(void) {
    for (int accept = 0; accept <= 1; accept++) {
        enclave_start(&enclave, NULL);
        struct line line = LINE;
        bool answer = accept;
        line.react = judge_release;
        line.data = &answer;
        confer_config *config = reconnecting(1000);
        CHECK_OK(confer_config_set_ask(config, CONFER_ASK_RELEASE, &error));
        confer_client *client = connect_with(config, &line);
        CHECK(gate_count(&line.release_asked) == 0); /* nothing to ask before the first one */
        enclave_kill(&enclave);
        gate_wait(&line.lost, 1);
        confer_stream *waiting = chat_pull(client, "waits");
        enclave_start_again(&again, &enclave, "--release", "9.9.9");
        if (accept) {
            CHECK(end_of(waiting, NULL) == CONFER_END);
            gate_wait(&line.connected, 2);
            CHECK(line.release_changed);
        } else {
            CHECK(end_of(waiting, NULL) == CONFER_E_RELEASE_REFUSED);
            line_ends(&line, CONFER_E_RELEASE_REFUSED);
            CHECK(!enclave_logged(&again, "message-3"));
        }
        CHECK(gate_count(&line.release_asked) == 1);
        enclave_close(client);
        CHECK(gate_count(&line.recorder.destroyed) == 1);
        enclave_stop(&again);
    }
}

static void another_release_is_told_when_nobody_is_asked(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(1000), &line);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, "--release", "9.9.9");
    gate_wait(&line.connected, 2);
    CHECK(line.release_changed && gate_count(&line.release_asked) == 0);
    enclave_close(client);
    enclave_stop(&again);
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

/* Starts a client that asks for its tokens, and watches it. */
static confer_client *start_asking(struct line *line, uint32_t attempts, uint64_t answer_ms) {
    confer_config *config = enclave_config_without_token(&enclave);
    check_keep_secret(enclave.token);
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_ANSWER, answer_ms, &error));
    enclave_set_retries(config, attempts, 20, 200);
    confer_client *client = client_start(config);
    confer_config_free(config);
    line_open(line, client);
    return client;
}

enum { PATIENT_MS = 60000 };

static bool asks_token(const confer_event *event) {
    return confer_event_type(event) == CONFER_EVENT_ASK_TOKEN;
}

static void give_token(struct line *line, const confer_event *event) {
    (void)line;
    if (!asks_token(event)) return;
    CHECK_OK(confer_event_answer_token(event, enclave.token, SIZE_MAX, &error));
    IS_STALE(confer_event_answer_token(event, enclave.token, SIZE_MAX, &error));
    IS_STALE(confer_event_refuse_token(event, "twice", SIZE_MAX, &error));
}

static void give_token_at_last(struct line *line, const confer_event *event) {
    (void)line;
    if (!asks_token(event)) return;
    REFUSES("token", confer_event_answer_token(event, "", 0, &error));
    REFUSES("white space", confer_event_answer_token(event, "a b", 3, &error));
    REFUSES("`Bearer `", confer_event_answer_token(event, "Bearer a", SIZE_MAX, &error));
    REFUSES("token", confer_event_answer_token(event, NULL, 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "token", confer_event_answer_token(event, "a\xff", 2, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "reason", confer_event_refuse_token(event, "a\xff", 2, &error));
    char *large = malloc(8193);
    CHECK(large != NULL);
    memset(large, 'a', 8193);
    CHECK_ERROR(CONFER_E_TOO_LARGE, "token", confer_event_answer_token(event, large, 8193, &error));
    free(large);
    CHECK_OK(confer_event_answer_token(event, enclave.token, SIZE_MAX, &error));
}

static void each_connection_asks_for_a_token(void) {
    void (*const reactions[])(struct line *, const confer_event *) = {give_token, give_token_at_last};
    for (int at = 0; at < 2; at++) {
        enclave_start(&enclave, NULL);
        struct line line = LINE;
        line.react = reactions[at];
        confer_client *client = start_asking(&line, 1000, PATIENT_MS);
        gate_wait(&line.connected, 1);
        CHECK(gate_count(&line.token_asked) == 1);
        enclave_kill(&enclave);
        gate_wait(&line.failed, 1);
        enclave_start_again(&again, &enclave, NULL, NULL);
        gate_wait(&line.connected, 2);
        chat_says(client, "hi", "You said: hi");
        CHECK(gate_count(&line.token_asked) == 1 + gate_count(&line.attempts));
        enclave_close(client);
        CHECK(gate_count(&line.recorder.destroyed) == 1);
        enclave_stop(&again);
    }
}

static void configured_token_serves_the_first_connection_only(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    line.react = give_token;
    confer_config *config = reconnecting(1000);
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN, &error));
    confer_client *client = connect_with(config, &line);
    CHECK(gate_count(&line.token_asked) == 0);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    gate_wait(&line.connected, 2);
    CHECK(gate_count(&line.token_asked) == gate_count(&line.attempts));
    enclave_close(client);
    enclave_stop(&again);
}

static void refuse_token(struct line *line, const confer_event *event) {
    (void)line;
    if (!asks_token(event)) return;
    CHECK_OK(confer_event_refuse_token(event, "the account is asleep", SIZE_MAX, &error));
    IS_STALE(confer_event_answer_token(event, "t", 1, &error));
}

static void keep_question(struct line *line, const confer_event *event) {
    if (!asks_token(event)) return;
    confer_event **kept = line->data;
    *kept = confer_event_clone(event);
    CHECK(*kept != NULL && confer_event_wants_answer(*kept));
}

/* A clone that is freed answers nothing: others may still answer. */
static void free_question(struct line *line, const confer_event *event) {
    (void)line;
    if (asks_token(event)) confer_event_free(confer_event_clone(event));
}

static void without_a_token_there_is_no_connection(void) {
    enclave_start(&enclave, NULL);
    confer_event *late = NULL;
    struct line refuses = LINE, frees = LINE, keeps = LINE;
    refuses.react = refuse_token;
    confer_client *client = start_asking(&refuses, 1000, PATIENT_MS); /* a refusal is not retried */
    CHECK_ERROR(CONFER_E_TOKEN, "the account is asleep", confer_client_wait(client, -1, &error));
    line_ends(&refuses, CONFER_E_TOKEN);
    CHECK(gate_count(&refuses.token_asked) == 1 && gate_count(&refuses.attempts) == 0);
    enclave_close(client);
    frees.react = free_question;
    client = start_asking(&frees, 0, 50);
    CHECK_ERROR(CONFER_E_TOKEN, "gave no token within 50 ms", confer_client_wait(client, -1, &error));
    line_ends(&frees, CONFER_E_TOKEN);
    enclave_close(client);
    keeps.react = keep_question;
    keeps.data = &late;
    client = start_asking(&keeps, 0, 50);
    CHECK_ERROR(CONFER_E_TOKEN, "gave no token within 50 ms", confer_client_wait(client, -1, &error));
    line_ends(&keeps, CONFER_E_TOKEN);
    IS_STALE(confer_event_answer_token(late, enclave.token, SIZE_MAX, &error));
    enclave_close(client);
    confer_event_free(late);
    CHECK_OK(confer_runtime_wait(-1, &error));
    CHECK(!enclave_logged(&enclave, "accepted"));
    check_no_library_thread();
    enclave_stop(&enclave);
}

static void *give_kept_token(void *data) {
    CHECK_OK(confer_event_answer_token(data, enclave.token, SIZE_MAX, &error));
    confer_event_free(data);
    return NULL;
}

static void token_is_given_later_from_another_thread(void) {
    enclave_start(&enclave, NULL);
    confer_event *kept = NULL;
    struct line line = LINE;
    pthread_t thread;
    line.react = keep_question;
    line.data = &kept;
    confer_client *client = start_asking(&line, 0, PATIENT_MS);
    gate_wait(&line.token_asked, 1);
    CHECK(pthread_create(&thread, NULL, give_kept_token, kept) == 0);
    CHECK_OK(confer_client_wait(client, -1, &error));
    CHECK(pthread_join(thread, NULL) == 0);
    chat_says(client, "hi", "You said: hi");
    enclave_close(client);
    line_ends(&line, CONFER_OK);
    enclave_stop(&enclave);
}

static void kept_question_keeps_no_thread_and_no_client(void) {
    enclave_start(&enclave, NULL);
    confer_event *kept = NULL;
    struct line line = LINE;
    line.react = keep_question;
    line.data = &kept;
    confer_client *client = start_asking(&line, 1000, PATIENT_MS);
    gate_wait(&line.token_asked, 1);
    CHECK(confer_client_state(client) == CONFER_CLIENT_CONNECTING);
    confer_client_free(client);
    line_ends(&line, CONFER_OK);
    CHECK_OK(confer_runtime_wait(-1, &error));
    IS_STALE(confer_event_answer_token(kept, "t", 1, &error));
    confer_event_free(kept);
    check_no_library_thread();
    enclave_stop(&enclave);
}

/* ---- the end, during an attempt ------------------------------------------------------------------------- */

/* A client during an attempt, which stalls in a stage or waits for a day. */
static confer_client *attempting(struct line *line, bool delayed) {
    enclave_start(&enclave, NULL);
    confer_config *config = reconnecting(1000);
    if (delayed) enclave_set_retries(config, 1000, 86400000, 86400000);
    confer_client *client = connect_with(config, line);
    enclave_kill(&enclave);
    if (delayed) {
        gate_wait(&line->attempts, 1);
    } else {
        enclave_start_again(&again, &enclave, "--fault", "message1-stall");
        while (!enclave_logged(&again, "message-1")) check_pause();
    }
    return client;
}

static void close_ends_an_attempt_and_leaves_no_thread(void) {
    for (int delayed = 0; delayed < 2; delayed++) {
        struct line line = LINE;
        int32_t progress;
        confer_client *client = attempting(&line, delayed);
        confer_stream *waiting = chat_pull(client, "waits");
        int64_t began = check_now_ms();
        CHECK_OK(confer_close(client, -1, &error));
        CHECK(check_now_ms() - began < 8000); /* less than the stage's 15 s */
        CHECK(end_of(waiting, &progress) == CONFER_E_CLOSED && progress == CONFER_PROGRESS_NOT_SENT);
        CHECK(gate_count(&line.recorder.destroyed) == 1);
        line_ends(&line, CONFER_OK);
        check_no_library_thread();
        confer_client_free(client);
        if (!delayed) enclave_stop(&again);
    }
}

static void freeing_all_handles_ends_an_attempt(void) {
    for (int which = 0; which < 4; which++) { /* in either order */
        struct line line = LINE;
        confer_client *client = attempting(&line, which % 2);
        confer_stream *waiting = chat_pull(client, "waits");
        if (which < 2) confer_client_free(client);
        confer_stream_free(waiting);
        if (which >= 2) confer_client_free(client);
        line_ends(&line, CONFER_OK);
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&line.recorder.destroyed) == 1);
        check_no_library_thread();
        if (which % 2 == 0) enclave_stop(&again);
    }
}

static void linger_at_the_end(struct recorder *recorder) {
    struct line *line = recorder->data;
    gate_wait(line->data, 1);
}

static void wait_for_the_runtime_waits_for_a_lingering_callback(void) {
    for (int delayed = 0; delayed < 2; delayed++) {
        struct line line = LINE;
        struct gate may_end = GATE;
        line.recorder.react_done = linger_at_the_end;
        line.data = &may_end;
        confer_client *client = attempting(&line, delayed);
        confer_client_free(client);
        gate_wait(&line.recorder.done, 1); /* it lingers */
        CHECK_STATUS(CONFER_TIMEOUT, confer_runtime_wait(20, &error));
        CHECK(gate_count(&line.recorder.destroyed) == 0);
        gate_raise(&may_end);
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&line.recorder.destroyed) == 1);
        check_no_library_thread();
        if (!delayed) enclave_stop(&again);
    }
}

static void free_the_client(struct line *line, const confer_event *event) {
    if (confer_event_type(event) != CONFER_EVENT_RETRY || confer_event_error(event) == NULL || line->client == NULL) return;
    confer_client_free(line->client);
    line->client = NULL;
}

static void client_is_freed_in_its_watch(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    line.react = free_the_client;
    connect_with(reconnecting(1000), &line);
    enclave_kill(&enclave);
    line_ends(&line, CONFER_OK);
    CHECK_OK(confer_runtime_wait(-1, &error));
    CHECK(line.client == NULL && gate_count(&line.connected) == 1);
    check_no_library_thread();
}

static void ask_again(struct line *line, const confer_event *event) {
    if (confer_event_type(event) == CONFER_EVENT_DISCONNECTED)
        recorder_start(line->data, line->client, "asked in the callback");
}

static void chat_started_in_the_watch_waits_for_a_connection(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    struct recorder recorder = RECORDER;
    line.react = ask_again;
    line.data = &recorder;
    confer_client *client = connect_with(reconnecting(1000), &line);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    recorder_wait(&recorder, CONFER_OK);
    CHECK_TEXT("You said: asked in the callback", recorder.text);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    enclave_stop(&again);
}

/* ---- mistakes of a caller --------------------------------------------------------------------------------------- */

static void watch_that_cannot_start_is_destroyed_at_once(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder nowhere = RECORDER, closed = RECORDER;
    confer_stream_callbacks table = recorder_table(&nowhere);
    confer_stream *stream = (confer_stream *)&nowhere;
    REFUSES("client", confer_client_watch(NULL, &table, &stream, &error));
    CHECK(stream == NULL && gate_count(&nowhere.destroyed) == 1 && gate_count(&nowhere.done) == 0);
    CHECK_OK(confer_close(client, -1, &error));
    table = recorder_table(&closed);
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_watch(client, &table, NULL, &error));
    CHECK(gate_count(&closed.destroyed) == 1 && gate_count(&closed.done) == 0);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void null_is_named_and_has_no_event(void) {
    REFUSES("client", confer_client_network_changed(NULL, &error));
    REFUSES("event", confer_event_answer_token(NULL, "t", 1, &error));
    REFUSES("event", confer_event_refuse_token(NULL, "r", 1, &error));
    REFUSES("event", confer_event_answer_release(NULL, true, &error));
    CHECK(confer_event_error(NULL) == NULL && confer_event_report(NULL) == NULL);
    CHECK(confer_event_previous_report(NULL) == NULL && !confer_event_release_changed(NULL));
    CHECK(confer_event_attempt(NULL) == 0 && confer_event_delay_ms(NULL) == -1 && confer_event_token_reason(NULL) == -1);
    CHECK(confer_client_state(NULL) == CONFER_CLIENT_ENDED && confer_client_counter(NULL, CONFER_COUNTER_PINGS_SENT) == 0);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(client_survives_a_killed_enclave_and_says_so),
        PROMISE(client_without_retries_ends_with_its_connection),
        PROMISE(client_that_gives_up_tells_all_who_wait),
        PROMISE(enclave_that_the_policy_refuses_ends_the_client),
        PROMISE(network_change_cuts_a_delay_short),
        PROMISE(another_release_is_accepted_or_refused_in_a_callback),
        PROMISE(another_release_is_told_when_nobody_is_asked),
        PROMISE(each_connection_asks_for_a_token),
        PROMISE(configured_token_serves_the_first_connection_only),
        PROMISE(without_a_token_there_is_no_connection),
        PROMISE(token_is_given_later_from_another_thread),
        PROMISE(kept_question_keeps_no_thread_and_no_client),
        PROMISE(close_ends_an_attempt_and_leaves_no_thread),
        PROMISE(freeing_all_handles_ends_an_attempt),
        PROMISE(wait_for_the_runtime_waits_for_a_lingering_callback),
        PROMISE(client_is_freed_in_its_watch),
        PROMISE(chat_started_in_the_watch_waits_for_a_connection),
        PROMISE(watch_that_cannot_start_is_destroyed_at_once),
        PROMISE(null_is_named_and_has_no_event),
    };
    return KEEP_PROMISES(promises);
}
