/*
 * A client as a state machine: its states, its watch, and the questions that it asks.
 */
#include "recorder.h"

#define REFUSES(words, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, words, call)

static struct enclave enclave, again;

/* Makes a configuration that retries, and asks `questions`. Without a token if it asks for one. */
static confer_config *asking(uint32_t questions) {
    bool has_token = (questions & CONFER_ASK_TOKEN) == 0;
    confer_config *config = has_token ? enclave_config(&enclave) : enclave_config_without_token(&enclave);
    CHECK_OK(confer_config_set_ask(config, questions, &error));
    enclave_set_retries(config, 1000, 1, 20);
    return config;
}

static confer_client *started(confer_config *config) {
    confer_client *client = client_start(config);
    confer_config_free(config);
    return client;
}

static void says(confer_client *client, const char *prompt) {
    char wanted[256], text[256];
    snprintf(wanted, sizeof wanted, "You said: %s", prompt);
    confer_stream *stream = chat_pull(client, prompt);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT(wanted, text);
    confer_stream_free(stream);
}

static void a_client_starts_at_once_and_its_requests_wait_for_the_enclave(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = started(asking(0));
    confer_stream *events = client_watch(client);
    says(client, "before it was connected");
    CHECK_OK(confer_client_wait(client, -1, &error));
    CHECK_OK(confer_client_wait(client, 0, &error));
    CHECK(confer_client_state(client) == CONFER_CLIENT_CONNECTED);
    CHECK_OK(confer_client_check(client, &error));
    const confer_event *event = watch_until(events, CONFER_EVENT_CONNECTED);
    CHECK(confer_report_verified(confer_event_report(event)) && !confer_event_release_changed(event));
    CHECK(confer_event_report(event) == confer_event_report(event) && confer_event_error(event) == NULL);
    CHECK(confer_event_previous_report(event) == NULL && confer_event_stage(event) == -1);
    CHECK(confer_event_token_reason(event) == -1 && confer_event_delay_ms(event) == -1);
    CHECK(!confer_event_wants_answer(event));
    CHECK_TEXT("CONFER_EVENT_CONNECTED", confer_event_type_name(confer_event_type(event)));
    /* A watch that is opened late begins with the state. */
    confer_stream *late = client_watch(client);
    CHECK(confer_event_type(chat_next(late)) == CONFER_EVENT_CONNECTED);
    CHECK_OK(confer_close(client, -1, &error));
    CHECK(stream_end(events, NULL) == CONFER_END && stream_end(late, NULL) == CONFER_END);
    CHECK(confer_client_state(client) == CONFER_CLIENT_ENDED);
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(client, -1, &error));
    /* One of an ended client brings its end. */
    confer_stream *last = client_watch(client);
    CHECK(stream_end(last, NULL) == CONFER_END && confer_stream_dropped(last) == 0);
    confer_stream_free(last);
    confer_stream_free(late);
    confer_stream_free(events);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void stages_are_events_and_a_lost_connection_is_made_again(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = started(asking(CONFER_ASK_TOKEN));
    confer_stream *events = client_watch(client);
    /* The stages begin after the answer, so that this watch sees all of them. */
    CHECK_OK(confer_event_answer_token(watch_until(events, CONFER_EVENT_ASK_TOKEN), enclave.token, SIZE_MAX, &error));
    CHECK(confer_event_type(chat_next(events)) == CONFER_EVENT_ANSWERED);
    int32_t last = -1;
    for (;;) {
        const confer_event *event = chat_next(events);
        if (confer_event_type(event) == CONFER_EVENT_CONNECTED) break;
        CHECK(confer_event_type(event) == CONFER_EVENT_STAGE);
        CHECK(confer_event_stage(event) > last);
        last = confer_event_stage(event);
    }
    CHECK(last == CONFER_STAGE_VERIFY);
    enclave_kill(&enclave);
    const confer_event *event = watch_until(events, CONFER_EVENT_DISCONNECTED);
    CHECK(confer_error_status(confer_event_error(event)) == CONFER_E_CONNECTION_LOST);
    event = watch_until(events, CONFER_EVENT_RETRY);
    CHECK(confer_event_attempt(event) == 1 && confer_event_delay_ms(event) >= 0 && confer_event_error(event) == NULL);
    CHECK_OK(confer_event_answer_token(watch_until(events, CONFER_EVENT_ASK_TOKEN), enclave.token, SIZE_MAX, &error));
    event = watch_until(events, CONFER_EVENT_RETRY);
    CHECK(confer_event_attempt(event) == 2 && confer_error_status(confer_event_error(event)) == CONFER_E_CONNECT);
    confer_event *kept = confer_event_clone(event);
    CHECK(confer_client_state(client) == CONFER_CLIENT_RECONNECTING);
    CHECK_TEXT("CONFER_CLIENT_RECONNECTING", confer_client_state_name(confer_client_state(client)));
    CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(client, 0, &error));
    enclave_start_again(&again, &enclave, NULL, NULL);
    /* Each attempt asks; this answers an open question, or serves the attempt that comes next. */
    CHECK_OK(confer_client_set_token(client, enclave.token, SIZE_MAX, &error));
    CHECK_OK(confer_client_wait(client, -1, &error));
    CHECK(!confer_event_release_changed(watch_until(events, CONFER_EVENT_CONNECTED)));
    CHECK(confer_error_status(confer_event_error(kept)) == CONFER_E_CONNECT);
    confer_event_free(kept);
    /* Freeing or cancelling a watch ends the watch and nothing else. */
    confer_stream *other = client_watch(client);
    confer_stream_cancel(other);
    CHECK(stream_end(other, NULL) == CONFER_E_CANCELLED);
    confer_stream_free(other);
    confer_stream_free(events);
    says(client, "still here");
    enclave_close(client);
    enclave_stop(&again);
}

static void a_token_question_is_answered_through_its_event(void) {
    enclave_start(&enclave, NULL);
    check_keep_secret(enclave.token);
    confer_client *client = started(asking(CONFER_ASK_TOKEN));
    confer_stream *events = client_watch(client);
    const confer_event *event = watch_until(events, CONFER_EVENT_ASK_TOKEN);
    CHECK(confer_event_wants_answer(event) && confer_event_token_reason(event) == CONFER_TOKEN_FIRST);
    CHECK_TEXT("CONFER_TOKEN_FIRST", confer_token_reason_name(CONFER_TOKEN_FIRST));
    confer_event *question = confer_event_clone(event);
    CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(client, 20, &error));
    CHECK_STATUS(CONFER_E_NOT_CONNECTED, confer_attestation_report(client, &(confer_report *){NULL}, &error));
    /* A watch that is opened now sees the question too. */
    confer_stream *late = client_watch(client);
    watch_until(late, CONFER_EVENT_ASK_TOKEN);
    REFUSES("white space", confer_event_answer_token(question, "a b", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "token", confer_event_answer_token(question, "a\xff", 2, &error));
    REFUSES("event", confer_event_answer_token(NULL, "a", SIZE_MAX, &error));
    REFUSES("ASK_RELEASE", confer_event_answer_release(question, true, &error));
    REFUSES("event", confer_event_answer_tool(question, "a", SIZE_MAX, &error));
    CHECK_OK(confer_event_answer_token(question, enclave.token, SIZE_MAX, &error));
    CHECK_STATUS(CONFER_E_STALE, confer_event_answer_token(question, enclave.token, SIZE_MAX, &error));
    CHECK_STATUS(CONFER_E_STALE, confer_event_refuse_token(question, "late", SIZE_MAX, &error));
    watch_until(events, CONFER_EVENT_ANSWERED);
    watch_until(late, CONFER_EVENT_ANSWERED);
    CHECK_OK(confer_client_wait(client, -1, &error));
    /* The next connection asks again. A token that is given unasked answers too. */
    enclave_kill(&enclave);
    CHECK(confer_event_token_reason(watch_until(events, CONFER_EVENT_ASK_TOKEN)) == CONFER_TOKEN_RECONNECT);
    enclave_start_again(&again, &enclave, NULL, NULL);
    CHECK_OK(confer_client_set_token(client, enclave.token, SIZE_MAX, &error));
    REFUSES("empty", confer_client_set_token(client, "", 0, &error));
    watch_until(events, CONFER_EVENT_CONNECTED);
    says(client, "with a fresh token");
    CHECK_OK(confer_close(client, -1, &error));
    CHECK_STATUS(CONFER_E_STALE, confer_event_answer_token(question, enclave.token, SIZE_MAX, &error));
    confer_event_free(question);
    confer_stream_free(late);
    confer_stream_free(events);
    confer_client_free(client);
    enclave_stop(&again);
}

static void a_refused_token_question_ends_the_client(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = started(asking(CONFER_ASK_TOKEN));
    confer_stream *waiting = chat_pull(client, "never sent"), *events = client_watch(client);
    const confer_event *event = watch_until(events, CONFER_EVENT_ASK_TOKEN);
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "reason", confer_event_refuse_token(event, "\xff", 1, &error));
    CHECK_OK(confer_event_refuse_token(event, "signed out", SIZE_MAX, &error));
    CHECK(stream_end(events, NULL) == CONFER_E_TOKEN && stream_end(waiting, NULL) == CONFER_E_TOKEN);
    CHECK_ERROR(CONFER_E_TOKEN, "signed out", confer_client_wait(client, -1, &error));
    CHECK_ERROR(CONFER_E_TOKEN, "signed out", confer_client_check(client, &error));
    confer_stream_free(waiting);
    confer_stream_free(events);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void an_unanswered_token_question_is_asked_anew(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = asking(CONFER_ASK_TOKEN);
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_ANSWER, 500, &error));
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, 2, &error));
    confer_client *client = started(config);
    confer_stream *events = client_watch(client);
    confer_event *first = confer_event_clone(watch_until(events, CONFER_EVENT_ASK_TOKEN));
    watch_until(events, CONFER_EVENT_ANSWERED);
    CHECK(confer_error_status(confer_event_error(watch_until(events, CONFER_EVENT_RETRY))) == CONFER_E_TOKEN);
    watch_until(events, CONFER_EVENT_ASK_TOKEN);
    CHECK_STATUS(CONFER_E_STALE, confer_event_answer_token(first, enclave.token, SIZE_MAX, &error));
    CHECK(stream_end(events, NULL) == CONFER_E_TOKEN);
    confer_event_free(first);
    confer_stream_free(events);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void another_release_waits_for_its_answer(void) {
    for (int accept = 0; accept <= 1; accept++) {
        enclave_start(&enclave, NULL);
        confer_client *client = started(asking(CONFER_ASK_RELEASE));
        confer_stream *events = client_watch(client);
        watch_until(events, CONFER_EVENT_CONNECTED);
        enclave_kill(&enclave);
        watch_until(events, CONFER_EVENT_DISCONNECTED);
        confer_stream *waiting = chat_pull(client, "waits");
        enclave_start_again(&again, &enclave, "--release", "9.9.9");
        const confer_event *event = watch_until(events, CONFER_EVENT_ASK_RELEASE);
        CHECK(confer_event_wants_answer(event));
        const confer_report *before = confer_event_previous_report(event), *now = confer_event_report(event);
        CHECK_TEXT("9.9.9", confer_report_image_version(now, NULL));
        CHECK(strcmp(confer_report_manifest_sha256(before, NULL), confer_report_manifest_sha256(now, NULL)) != 0);
        CHECK(!enclave_logged(&again, "message-3"));
        REFUSES("ASK_TOKEN", confer_event_answer_token(event, "t", SIZE_MAX, &error));
        CHECK_OK(confer_event_answer_release(event, accept, &error));
        CHECK_STATUS(CONFER_E_STALE, confer_event_answer_release(event, true, &error));
        if (accept) {
            CHECK(confer_event_release_changed(watch_until(events, CONFER_EVENT_CONNECTED)));
            CHECK(stream_end(waiting, NULL) == CONFER_END);
        } else {
            CHECK(stream_end(events, NULL) == CONFER_E_RELEASE_REFUSED && stream_end(waiting, NULL) == CONFER_E_RELEASE_REFUSED);
            CHECK(!enclave_logged(&again, "message-3"));
        }
        confer_stream_free(waiting);
        confer_stream_free(events);
        enclave_close(client);
        enclave_stop(&again);
    }
}

/* Answers questions and counts connections in callbacks. */
struct answering {
    struct recorder recorder;
    struct gate connected;
};

static int32_t answer_in_callback(struct recorder *recorder, const confer_event *event) {
    struct answering *answering = recorder->data;
    if (confer_event_type(event) == CONFER_EVENT_ASK_TOKEN)
        CHECK_OK(confer_event_answer_token(event, enclave.token, SIZE_MAX, &error));
    if (confer_event_type(event) == CONFER_EVENT_CONNECTED) gate_raise(&answering->connected);
    CHECK_STATUS(CONFER_E_WOULD_DEADLOCK, confer_client_wait(recorder->client, 1, &error));
    return 0;
}

static int32_t close_in_callback(struct recorder *recorder, const confer_event *event) {
    (void)event;
    confer_status status = confer_close(recorder->client, 0, NULL);
    CHECK(status == CONFER_TIMEOUT || status == CONFER_OK);
    return 0;
}

static void a_watch_with_callbacks_answers_and_a_callback_may_begin_the_end(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = started(asking(CONFER_ASK_TOKEN));
    struct answering answering = {.recorder = RECORDER, .connected = GATE};
    struct recorder *recorder = &answering.recorder;
    recorder->react = answer_in_callback;
    recorder->data = &answering;
    recorder->client = client;
    confer_stream_callbacks table = recorder_table(recorder);
    CHECK_OK(confer_client_watch(client, &table, &recorder->stream, &error));
    gate_wait(&answering.connected, 1);
    struct recorder chat = RECORDER;
    chat.react = close_in_callback;
    recorder_start(&chat, client, "the end");
    recorder_wait(&chat, CONFER_E_CLOSED);
    recorder_wait(recorder, CONFER_OK);
    confer_stream_free(chat.stream);
    confer_stream_free(recorder->stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_close_ends_questions_and_waits_in_any_state(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = started(asking(CONFER_ASK_TOKEN));
    confer_stream *events = client_watch(client), *waiting = chat_pull(client, "never sent");
    confer_event *question = confer_event_clone(watch_until(events, CONFER_EVENT_ASK_TOKEN));
    CHECK_OK(confer_close(client, -1, &error));
    CHECK(stream_end(events, NULL) == CONFER_END && stream_end(waiting, NULL) == CONFER_E_CLOSED);
    CHECK_STATUS(CONFER_E_STALE, confer_event_answer_token(question, enclave.token, SIZE_MAX, &error));
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(client, 0, &error));
    confer_event_free(question);
    confer_stream_free(waiting);
    confer_stream_free(events);
    confer_client_free(client);
    /* Freeing a client that connects ends it; a watch does not keep it alive. */
    client = started(asking(CONFER_ASK_TOKEN));
    events = client_watch(client);
    watch_until(events, CONFER_EVENT_ASK_TOKEN);
    confer_client_free(client);
    CHECK(stream_end(events, NULL) == CONFER_END);
    confer_stream_free(events);
    enclave_stop(&enclave);
}

static void mistakes_are_named(void) {
    confer_config *config = NULL;
    confer_client *client = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    REFUSES("questions", confer_config_set_ask(config, 4, &error));
    REFUSES("config", confer_config_set_ask(NULL, 1, &error));
    REFUSES("token", confer_connect_start(config, &client, &error));
    CHECK(client == NULL);
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN, &error));
    REFUSES("token", confer_connect(config, &client, &error)); /* nobody could answer */
    REFUSES("client", confer_connect_start(config, NULL, &error));
    REFUSES("client", confer_client_wait(NULL, 0, &error));
    REFUSES("client", confer_client_watch(NULL, NULL, &(confer_stream *){NULL}, &error));
    REFUSES("client", confer_client_set_token(NULL, "t", SIZE_MAX, &error));
    CHECK(confer_client_state(NULL) == CONFER_CLIENT_ENDED && confer_event_stage(NULL) == -1);
    CHECK(confer_event_report(NULL) == NULL && confer_event_error(NULL) == NULL && confer_event_attempt(NULL) == 0);
    CHECK(confer_stream_dropped(NULL) == 0 && !confer_event_release_changed(NULL));
    confer_config_free(config);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(a_client_starts_at_once_and_its_requests_wait_for_the_enclave),
        PROMISE(stages_are_events_and_a_lost_connection_is_made_again),
        PROMISE(a_token_question_is_answered_through_its_event),
        PROMISE(a_refused_token_question_ends_the_client),
        PROMISE(an_unanswered_token_question_is_asked_anew),
        PROMISE(another_release_waits_for_its_answer),
        PROMISE(a_watch_with_callbacks_answers_and_a_callback_may_begin_the_end),
        PROMISE(a_close_ends_questions_and_waits_in_any_state),
        PROMISE(mistakes_are_named),
    };
    return KEEP_PROMISES(promises);
}
