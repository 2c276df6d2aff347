/*
 * Reconnecting: the events and questions, in their order, and closing and freeing during an attempt, after which nothing
 * remains. The enclave is killed and restarted at its port.
 */
#include "recorder.h"

static struct enclave enclave, again;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)

/* ---- what the application sees ----------------------------------------------------------------------------------- */

/* The changes of a client's connection, each compared with the previous one. */
struct line {
    struct gate lost, attempts, failed, connected, ended, destroyed;
    int32_t last; /* CONFER_CONNECTION_*; 0: connected, without an event */
    uint32_t last_attempt;
    confer_status why; /* of the end */
    bool release_changed;
    void (*react)(struct line *line, int32_t type);
    confer_client *client; /* for the reactions */
    void *data;
};

#define LINE {.lost = GATE, .attempts = GATE, .failed = GATE, .connected = GATE, .ended = GATE, .destroyed = GATE}

static void on_change(void *user_data, const confer_connection_event *event) {
    struct line *line = user_data;
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    int32_t type = confer_connection_event_type(event), last = line->last;
    const confer_error *error = confer_connection_event_error(event);
    const confer_report *report = confer_connection_event_report(event);
    bool has_error = type == CONFER_CONNECTION_LOST || type == CONFER_CONNECTION_FAILED || type == CONFER_CONNECTION_ENDED;
    CHECK(gate_count(&line->destroyed) == 0 && gate_count(&line->ended) == 0);
    CHECK((error != NULL) == has_error && (report != NULL) == (type == CONFER_CONNECTION_CONNECTED));
    CHECK((confer_connection_event_attempt(event) > 0) == (type == CONFER_CONNECTION_ATTEMPT));
    CHECK((confer_connection_event_delay_ms(event) >= 0) == (type == CONFER_CONNECTION_ATTEMPT));
    if (has_error) check_holds_no_secret(confer_error_message(error, NULL));
    line->last = type;
    switch (type) {
    case CONFER_CONNECTION_LOST:
        CHECK(last == 0 || last == CONFER_CONNECTION_CONNECTED);
        gate_raise(&line->lost);
        break;
    case CONFER_CONNECTION_ATTEMPT:
        CHECK(last == CONFER_CONNECTION_LOST || last == CONFER_CONNECTION_FAILED);
        CHECK(last == CONFER_CONNECTION_LOST || confer_connection_event_attempt(event) == line->last_attempt + 1);
        line->last_attempt = confer_connection_event_attempt(event);
        gate_raise(&line->attempts);
        break;
    case CONFER_CONNECTION_FAILED:
        CHECK(last == CONFER_CONNECTION_ATTEMPT);
        gate_raise(&line->failed);
        break;
    case CONFER_CONNECTION_CONNECTED:
        CHECK(last == CONFER_CONNECTION_ATTEMPT && confer_report_verified(report));
        line->release_changed = confer_connection_event_release_changed(event);
        gate_raise(&line->connected);
        break;
    default:
        CHECK(type == CONFER_CONNECTION_ENDED);
        line->why = confer_error_status(error);
        gate_raise(&line->ended);
    }
    if (line->react != NULL) line->react(line, type);
}

static void on_line_destroyed(void *user_data) {
    gate_raise(&((struct line *)user_data)->destroyed);
}

static confer_config *reconnecting(struct line *line, uint32_t attempts) {
    confer_config *config = enclave_config(&enclave);
    check_keep_secret(enclave.token);
    enclave_set_retries(config, attempts, 20, 200);
    CHECK_OK(confer_config_set_connection_callback(config, on_change, line, on_line_destroyed, &error));
    return config;
}

static confer_client *connect_with(confer_config *config) {
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, NULL, &client, &error));
    confer_config_free(config);
    return client;
}

/* Reads a stream to its end, and frees it. */
static confer_status end_of(confer_stream *stream, int32_t *progress) {
    const confer_event *event = NULL;
    confer_error *error = NULL;
    confer_status status;
    while ((status = confer_stream_next(stream, -1, &event, &error)) == CONFER_OK) continue;
    check_status(__FILE__, __LINE__, "confer_stream_next", status, "", status, error);
    if (progress != NULL) *progress = confer_error_progress(error);
    confer_error_free(error);
    confer_stream_free(stream);
    return status;
}

static void a_client_survives_a_killed_enclave_and_tells_so_in_order(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(&line, 1000));
    char text[100];
    int32_t progress;
    chat_says(client, "one", "You said: one");
    CHECK(confer_client_connected(client) && gate_count(&line.lost) == 0);
    confer_stream *open = chat_pull(client, "/silent");
    chat_next(open);
    enclave_kill(&enclave);
    CHECK(end_of(open, &progress) == CONFER_E_CONNECTION_LOST && progress == CONFER_PROGRESS_PARTLY_ANSWERED);
    gate_wait(&line.failed, 2);
    CHECK(!confer_client_connected(client));
    CHECK_OK(confer_client_check(client, &error)); /* it lives */
    confer_stream *waiting = chat_pull(client, "two");
    enclave_start_again(&again, &enclave, NULL, NULL);
    chat_read(waiting, text, sizeof text);
    CHECK_TEXT("You said: two", text);
    confer_stream_free(waiting);
    gate_wait(&line.connected, 1);
    CHECK(!line.release_changed && gate_count(&line.lost) == 1 && confer_client_connected(client));
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) == 2);
    CHECK(confer_client_counter(client, CONFER_COUNTER_FAILED_ATTEMPTS) == (uint64_t)gate_count(&line.failed));
    CHECK(enclave_count(&again, "/v1/vllm/chat/completions") == 1); /* nothing is sent twice */
    enclave_close(client);
    CHECK(gate_count(&line.ended) == 1 && line.why == CONFER_E_CLOSED && gate_count(&line.destroyed) == 1);
    check_no_library_thread();
    enclave_stop(&again);
}

static void without_reconnecting_a_client_ends_with_its_connection_and_says_so(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(&line, 0));
    enclave_kill(&enclave);
    gate_wait(&line.ended, 1);
    CHECK(line.why == CONFER_E_CONNECTION_LOST && gate_count(&line.attempts) == 0 && gate_count(&line.lost) == 0);
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_client_check(client, &error));
    CHECK(!confer_client_connected(client));
    enclave_close(client);
    CHECK(gate_count(&line.destroyed) == 1);
}

static void a_client_that_gives_up_tells_all_who_wait_why(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(&line, 3));
    int32_t progress;
    enclave_kill(&enclave);
    gate_wait(&line.lost, 1);
    confer_chat_request *request = chat_request("waits");
    confer_stream *stream = NULL;
    confer_status status = confer_chat_stream(client, request, NULL, &stream, NULL); /* unless it has ended already */
    CHECK(status == CONFER_OK ? end_of(stream, &progress) == CONFER_E_CONNECT && progress == CONFER_PROGRESS_NOT_SENT
                              : status == CONFER_E_CONNECT);
    gate_wait(&line.ended, 1);
    CHECK(line.why == CONFER_E_CONNECT && gate_count(&line.attempts) == 3 && gate_count(&line.failed) == 3);
    CHECK_STATUS(CONFER_E_CONNECT, confer_chat_stream(client, request, NULL, &stream, &error));
    CHECK_STATUS(CONFER_E_CONNECT, confer_client_check(client, &error));
    confer_chat_request_free(request);
    enclave_close(client);
    check_no_library_thread();
}

static void an_enclave_that_the_policy_refuses_ends_the_client(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_client *client = connect_with(reconnecting(&line, 1000));
    confer_error *error = NULL;
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, "--fault", "debug-debuggable");
    gate_wait(&line.ended, 1);
    CHECK(line.why == CONFER_E_REJECTED && confer_client_check(client, &error) == CONFER_E_REJECTED);
    CHECK_TEXT("tdx.debug", confer_error_check_id(error, NULL));
    CHECK(confer_error_report(error) != NULL && !enclave_logged(&again, "message-3"));
    confer_error_free(error);
    enclave_close(client);
    enclave_stop(&again);
}

static void a_pause_is_cut_short_when_the_network_changed(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    confer_config *config = reconnecting(&line, 1000);
    enclave_set_retries(config, 1000, 86400000, 86400000);
    confer_client *client = connect_with(config);
    CHECK_OK(confer_client_network_changed(client, &error)); /* a live connection answers the probe */
    chat_says(client, "still here", "You said: still here");
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    gate_wait(&line.attempts, 1);
    CHECK_OK(confer_client_network_changed(client, &error));
    gate_wait(&line.connected, 1);
    chat_says(client, "and now", "You said: and now");
    enclave_close(client);
    enclave_stop(&again);
}

/* ---- the release ---------------------------------------------------------------------------------------------------- */

struct judge {
    struct gate asked, destroyed;
    int32_t answer;
};

static int32_t on_release(void *user_data, const confer_report *before, const confer_report *now) {
    struct judge *judge = user_data;
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    CHECK(gate_count(&judge->destroyed) == 0 && confer_report_verified(before));
    CHECK_TEXT("9.9.9", confer_report_image_version(now, NULL));
    CHECK(strcmp(confer_report_manifest_sha256(before, NULL), confer_report_manifest_sha256(now, NULL)) != 0);
    gate_raise(&judge->asked);
    return judge->answer;
}

static void on_judge_destroyed(void *user_data) {
    gate_raise(&((struct judge *)user_data)->destroyed);
}

static void another_release_is_told_and_can_be_refused(void) {
    for (int32_t answer = -1; answer <= 0; answer++) {
        enclave_start(&enclave, NULL);
        struct line line = LINE;
        struct judge judge = {GATE, GATE, answer};
        confer_config *config = reconnecting(&line, 1000);
        CHECK_OK(confer_config_set_release_callback(config, on_release, &judge, on_judge_destroyed, &error));
        confer_client *client = connect_with(config);
        CHECK(gate_count(&judge.asked) == 0); /* nothing to ask before the first one */
        enclave_kill(&enclave);
        gate_wait(&line.lost, 1);
        confer_stream *waiting = chat_pull(client, "waits");
        enclave_start_again(&again, &enclave, "--release", "9.9.9");
        if (answer == 0) {
            CHECK(end_of(waiting, NULL) == CONFER_END);
            gate_wait(&line.connected, 1);
            CHECK(line.release_changed);
        } else {
            CHECK(end_of(waiting, NULL) == CONFER_E_RELEASE_REFUSED);
            gate_wait(&line.ended, 1);
            CHECK(line.why == CONFER_E_RELEASE_REFUSED && !enclave_logged(&again, "message-3"));
        }
        CHECK(gate_count(&judge.asked) == 1);
        enclave_close(client);
        CHECK(gate_count(&judge.destroyed) == 1 && gate_count(&line.destroyed) == 1);
        enclave_stop(&again);
    }
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

struct provider {
    struct gate asked, destroyed;
    void (*react)(struct provider *provider, confer_token_request *request); /* owns the request */
    confer_token_request *held;
};

#define PROVIDER(reaction) {.asked = GATE, .destroyed = GATE, .react = (reaction)}

static void on_token(void *user_data, confer_token_request *request) {
    struct provider *provider = user_data;
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    CHECK(request != NULL && gate_count(&provider->destroyed) == 0);
    provider->react(provider, request);
    gate_raise(&provider->asked);
}

static void on_provider_destroyed(void *user_data) {
    gate_raise(&((struct provider *)user_data)->destroyed);
}

static confer_config *providing(struct provider *provider) {
    confer_config *config = enclave_config(&enclave);
    check_keep_secret(enclave.token);
    CHECK_OK(confer_config_set_token_provider(config, on_token, provider, on_provider_destroyed, &error));
    return config;
}

static void give_token(struct provider *provider, confer_token_request *request) {
    (void)provider;
    CHECK_OK(confer_token_request_answer(request, enclave.token, SIZE_MAX, &error));
    REFUSES("answered", confer_token_request_answer(request, enclave.token, SIZE_MAX, &error));
    REFUSES("answered", confer_token_request_fail(request, "twice", SIZE_MAX, &error));
    confer_token_request_free(request);
}

static void give_token_at_last(struct provider *provider, confer_token_request *request) {
    (void)provider;
    REFUSES("token", confer_token_request_answer(request, "", 0, &error));
    REFUSES("white space", confer_token_request_answer(request, "a b", 3, &error));
    REFUSES("`Bearer `", confer_token_request_answer(request, "Bearer a", SIZE_MAX, &error));
    REFUSES("token", confer_token_request_answer(request, NULL, 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "token", confer_token_request_answer(request, "a\xff", 2, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "reason", confer_token_request_fail(request, "a\xff", 2, &error));
    char *large = malloc(8193);
    CHECK(large != NULL);
    memset(large, 'a', 8193);
    CHECK_ERROR(CONFER_E_TOO_LARGE, "token", confer_token_request_answer(request, large, 8193, &error));
    free(large);
    CHECK_OK(confer_token_request_answer(request, enclave.token, SIZE_MAX, &error));
    confer_token_request_free(request);
}

static void a_provider_is_asked_for_each_connection(void) {
    void (*const reactions[])(struct provider *, confer_token_request *) = {give_token, give_token_at_last};
    for (int at = 0; at < 2; at++) {
        enclave_start(&enclave, NULL);
        struct line line = LINE;
        struct provider provider = PROVIDER(reactions[at]);
        confer_config *config = providing(&provider);
        CHECK_OK(confer_config_set_token(config, "not-this-one", SIZE_MAX, &error)); /* the provider replaces it */
        enclave_set_retries(config, 1000, 20, 200);
        CHECK_OK(confer_config_set_connection_callback(config, on_change, &line, on_line_destroyed, &error));
        confer_client *client = connect_with(config);
        CHECK(gate_count(&provider.asked) == 1);
        enclave_kill(&enclave);
        gate_wait(&line.failed, 1);
        enclave_start_again(&again, &enclave, NULL, NULL);
        gate_wait(&line.connected, 1);
        chat_says(client, "hi", "You said: hi");
        CHECK(gate_count(&provider.asked) == 1 + gate_count(&line.attempts));
        enclave_close(client);
        CHECK(gate_count(&provider.destroyed) == 1);
        enclave_stop(&again);
    }
}

static void fail_token(struct provider *provider, confer_token_request *request) {
    (void)provider;
    CHECK_OK(confer_token_request_fail(request, "the account is asleep", SIZE_MAX, &error));
    REFUSES("answered", confer_token_request_answer(request, "t", 1, &error));
    confer_token_request_free(request);
}

static void free_token(struct provider *provider, confer_token_request *request) {
    (void)provider;
    confer_token_request_free(request);
}

static void hold_token(struct provider *provider, confer_token_request *request) {
    provider->held = request;
}

static void without_a_token_there_is_no_connection(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = NULL;
    struct provider fails = PROVIDER(fail_token), frees = PROVIDER(free_token), is_late = PROVIDER(hold_token);
    confer_config *config = providing(&fails);
    CHECK_ERROR(CONFER_E_TOKEN, "the account is asleep", confer_connect(config, NULL, &client, &error));
    CHECK_OK(confer_config_set_token_provider(config, on_token, &frees, on_provider_destroyed, &error)); /* replaces */
    gate_wait(&fails.destroyed, 1); /* not at once: the failed attempt may still need it for a moment */
    CHECK_STATUS(CONFER_E_TOKEN, confer_connect(config, NULL, &client, &error));
    CHECK_OK(confer_config_set_token_provider(config, on_token, &is_late, on_provider_destroyed, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_ANSWER, 50, &error));
    CHECK_ERROR(CONFER_E_TOKEN, "no token within 50 ms", confer_connect(config, NULL, &client, &error));
    CHECK_OK(confer_token_request_answer(is_late.held, enclave.token, SIZE_MAX, &error)); /* too late */
    confer_token_request_free(is_late.held);
    confer_config_free(config);
    gate_wait(&frees.destroyed, 1);
    gate_wait(&is_late.destroyed, 1);
    CHECK_OK(confer_runtime_wait(-1, &error));
    CHECK(client == NULL && gate_count(&frees.destroyed) == 1 && gate_count(&is_late.destroyed) == 1);
    CHECK(!enclave_logged(&enclave, "accepted"));
    check_no_library_thread();
    enclave_stop(&enclave);
}

static void *give_held_token(void *data) {
    struct provider *provider = data;
    gate_wait(&provider->asked, 1);
    CHECK_OK(confer_token_request_answer(provider->held, enclave.token, SIZE_MAX, &error));
    confer_token_request_free(provider->held);
    return NULL;
}

static void a_provider_can_answer_later_from_another_thread(void) {
    enclave_start(&enclave, NULL);
    struct provider provider = PROVIDER(hold_token);
    pthread_t thread;
    confer_config *config = providing(&provider);
    CHECK(pthread_create(&thread, NULL, give_held_token, &provider) == 0);
    confer_client *client = connect_with(config);
    CHECK(pthread_join(thread, NULL) == 0);
    chat_says(client, "hi", "You said: hi");
    enclave_close(client);
    CHECK(gate_count(&provider.destroyed) == 1);
    enclave_stop(&enclave);
}

static void connecting_can_be_given_up_while_a_provider_thinks(void) {
    enclave_start(&enclave, NULL);
    struct provider provider = PROVIDER(hold_token);
    confer_config *config = providing(&provider);
    confer_connecting *connecting = NULL;
    confer_client *client = NULL;
    CHECK_OK(confer_connecting_start(config, &connecting, &error));
    confer_config_free(config);
    gate_wait(&provider.asked, 1);
    CHECK(confer_connecting_stage(connecting) == CONFER_STAGE_TOKEN);
    confer_connecting_cancel(connecting);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_connecting_wait(connecting, -1, &client, &error));
    confer_connecting_free(connecting);
    gate_wait(&provider.destroyed, 1);
    CHECK_OK(confer_runtime_wait(-1, &error)); /* an open question keeps no thread */
    CHECK(gate_count(&provider.destroyed) == 1);
    CHECK_OK(confer_token_request_answer(provider.held, "t", 1, &error));
    confer_token_request_free(provider.held);
    check_no_library_thread();
    enclave_stop(&enclave);
}

/* ---- the end, during an attempt ------------------------------------------------------------------------- */

/* A client during an attempt, which stalls in a stage or pauses for a day. */
static confer_client *attempting(struct line *line, bool paused) {
    enclave_start(&enclave, NULL);
    confer_config *config = reconnecting(line, 1000);
    if (paused) enclave_set_retries(config, 1000, 86400000, 86400000);
    confer_client *client = connect_with(config);
    enclave_kill(&enclave);
    if (paused) {
        gate_wait(&line->attempts, 1);
    } else {
        enclave_start_again(&again, &enclave, "--fault", "message1-stall");
        while (!enclave_logged(&again, "message-1")) check_pause();
    }
    return client;
}

static void a_close_ends_an_attempt_and_all_who_wait_and_leaves_no_thread(void) {
    for (int paused = 0; paused < 2; paused++) {
        struct line line = LINE;
        int32_t progress;
        confer_client *client = attempting(&line, paused);
        confer_stream *waiting = chat_pull(client, "waits");
        int64_t began = check_now_ms();
        CHECK_OK(confer_close(client, -1, &error));
        CHECK(check_now_ms() - began < 8000); /* less than the stage's 15 s */
        CHECK(end_of(waiting, &progress) == CONFER_E_CLOSED && progress == CONFER_PROGRESS_NOT_SENT);
        CHECK(gate_count(&line.ended) == 1 && line.why == CONFER_E_CLOSED && gate_count(&line.destroyed) == 1);
        check_no_library_thread();
        confer_client_free(client);
        if (!paused) enclave_stop(&again);
    }
}

static void freeing_all_handles_ends_an_attempt_in_either_order(void) {
    for (int which = 0; which < 4; which++) {
        struct line line = LINE;
        confer_client *client = attempting(&line, which % 2);
        confer_stream *waiting = chat_pull(client, "waits");
        if (which < 2) confer_client_free(client);
        confer_stream_free(waiting);
        if (which >= 2) confer_client_free(client);
        gate_wait(&line.destroyed, 1);
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&line.destroyed) == 1);
        check_no_library_thread();
        if (which % 2 == 0) enclave_stop(&again);
    }
}

static void linger_at_the_end(struct line *line, int32_t type) {
    if (type == CONFER_CONNECTION_ENDED) gate_wait(line->data, 1);
}

static void *open_later(void *data) {
    nanosleep(&(struct timespec){0, 300000000}, NULL);
    gate_raise(data);
    return NULL;
}

static void waiting_for_the_runtime_waits_for_a_callback_that_lingers(void) {
    for (int paused = 0; paused < 2; paused++) {
        struct line line = LINE;
        struct gate may_end = GATE;
        pthread_t thread;
        line.react = linger_at_the_end;
        line.data = &may_end;
        confer_client *client = attempting(&line, paused);
        confer_client_free(client);
        CHECK(pthread_create(&thread, NULL, open_later, &may_end) == 0);
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&line.destroyed) == 1 && check_count_named("confer-callback") == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        if (!paused) enclave_stop(&again);
    }
}

static void free_the_client(struct line *line, int32_t type) {
    if (type != CONFER_CONNECTION_FAILED || line->client == NULL) return;
    confer_client_free(line->client);
    line->client = NULL;
}

static void the_client_can_be_freed_in_its_connection_callback(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    line.react = free_the_client;
    line.client = connect_with(reconnecting(&line, 1000));
    enclave_kill(&enclave);
    gate_wait(&line.destroyed, 1);
    CHECK_OK(confer_runtime_wait(-1, &error));
    CHECK(line.client == NULL && gate_count(&line.destroyed) == 1 && gate_count(&line.connected) == 0);
    check_no_library_thread();
}

static void ask_again(struct line *line, int32_t type) {
    if (type == CONFER_CONNECTION_LOST) recorder_start(line->data, line->client, "asked in the callback");
}

static void a_chat_can_be_started_in_the_connection_callback_and_waits(void) {
    enclave_start(&enclave, NULL);
    struct line line = LINE;
    struct recorder recorder = RECORDER;
    line.react = ask_again;
    line.data = &recorder;
    confer_config *config = reconnecting(&line, 1000);
    CHECK_OK(confer_connect(config, NULL, &line.client, &error)); /* before anything can be lost */
    confer_config_free(config);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    recorder_wait(&recorder, CONFER_OK);
    CHECK_TEXT("You said: asked in the callback", recorder.text);
    confer_stream_free(recorder.stream);
    enclave_close(line.client);
    enclave_stop(&again);
}

/* ---- mistakes of a caller --------------------------------------------------------------------------------------- */

static void what_cannot_be_is_refused(void) {
    confer_config *config = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    REFUSES("config", confer_config_set_reconnect(NULL, 1, 1, 1, &error));
    REFUSES("first_delay_ms", confer_config_set_reconnect(config, 1, 0, 1, &error));
    REFUSES("max_delay_ms", confer_config_set_reconnect(config, 1, 1, 0, &error));
    REFUSES("first_delay_ms", confer_config_set_reconnect(config, 1, 86400001, 1, &error));
    REFUSES("max_delay_ms", confer_config_set_reconnect(config, 1, 1, 86400001, &error));
    CHECK_OK(confer_config_set_reconnect(config, UINT32_MAX, 86400000, 1, &error)); /* the longest delay limits the first */
    REFUSES("config", confer_config_set_max_age(NULL, 0, false, &error));
    REFUSES("max_age_ms", confer_config_set_max_age(config, 9999, false, &error));
    REFUSES("max_age_ms", confer_config_set_max_age(config, 86400001, true, &error));
    CHECK_OK(confer_config_set_max_age(config, 10000, true, &error));
    CHECK_OK(confer_config_set_max_age(config, 0, true, &error));
    REFUSES("config", confer_config_set_probe_timeout_ms(NULL, 1, &error));
    REFUSES("ms", confer_config_set_probe_timeout_ms(config, 0, &error));
    REFUSES("ms", confer_config_set_probe_timeout_ms(config, 86400001, &error));
    REFUSES("client", confer_client_network_changed(NULL, &error));
    REFUSES("request", confer_token_request_answer(NULL, "t", 1, &error));
    REFUSES("request", confer_token_request_fail(NULL, "r", 1, &error));
    confer_token_request_free(NULL);
    confer_config_free(config);
}

static void a_callback_that_finds_no_place_or_is_replaced_is_destroyed_at_once(void) {
    confer_config *config = NULL;
    struct line line = LINE, other = LINE;
    struct judge judge = {GATE, GATE, 0};
    struct provider provider = PROVIDER(give_token);
    CHECK_OK(confer_config_new(&config, &error));
    REFUSES("config", confer_config_set_connection_callback(NULL, on_change, &line, on_line_destroyed, &error));
    REFUSES("config", confer_config_set_release_callback(NULL, on_release, &judge, on_judge_destroyed, &error));
    REFUSES("config", confer_config_set_token_provider(NULL, on_token, &provider, on_provider_destroyed, &error));
    CHECK(gate_count(&line.destroyed) == 1 && gate_count(&judge.destroyed) == 1 && gate_count(&provider.destroyed) == 1);
    CHECK_OK(confer_config_set_connection_callback(config, on_change, &line, on_line_destroyed, &error));
    CHECK_OK(confer_config_set_connection_callback(config, NULL, &other, on_line_destroyed, &error));
    CHECK(gate_count(&line.destroyed) == 2);
    CHECK_OK(confer_config_set_release_callback(config, on_release, &judge, on_judge_destroyed, &error));
    CHECK_OK(confer_config_set_token_provider(config, on_token, &provider, on_provider_destroyed, &error));
    confer_config_free(config);
    CHECK(gate_count(&other.destroyed) == 1 && gate_count(&judge.destroyed) == 2 && gate_count(&provider.destroyed) == 2);
}

static void getters_of_nothing_answer_nothing(void) {
    CHECK(confer_connection_event_type(NULL) == 0 && confer_connection_event_error(NULL) == NULL);
    CHECK(confer_connection_event_report(NULL) == NULL && !confer_connection_event_release_changed(NULL));
    CHECK(confer_connection_event_attempt(NULL) == 0 && confer_connection_event_delay_ms(NULL) == -1);
    CHECK(!confer_client_connected(NULL) && confer_client_counter(NULL, CONFER_COUNTER_PINGS_SENT) == 0);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(a_client_survives_a_killed_enclave_and_tells_so_in_order),
        PROMISE(without_reconnecting_a_client_ends_with_its_connection_and_says_so),
        PROMISE(a_client_that_gives_up_tells_all_who_wait_why),
        PROMISE(an_enclave_that_the_policy_refuses_ends_the_client),
        PROMISE(a_pause_is_cut_short_when_the_network_changed),
        PROMISE(another_release_is_told_and_can_be_refused),
        PROMISE(a_provider_is_asked_for_each_connection),
        PROMISE(without_a_token_there_is_no_connection),
        PROMISE(a_provider_can_answer_later_from_another_thread),
        PROMISE(connecting_can_be_given_up_while_a_provider_thinks),
        PROMISE(a_close_ends_an_attempt_and_all_who_wait_and_leaves_no_thread),
        PROMISE(freeing_all_handles_ends_an_attempt_in_either_order),
        PROMISE(waiting_for_the_runtime_waits_for_a_callback_that_lingers),
        PROMISE(the_client_can_be_freed_in_its_connection_callback),
        PROMISE(a_chat_can_be_started_in_the_connection_callback_and_waits),
        PROMISE(what_cannot_be_is_refused),
        PROMISE(a_callback_that_finds_no_place_or_is_replaced_is_destroyed_at_once),
        PROMISE(getters_of_nothing_answer_nothing),
    };
    return KEEP_PROMISES(promises);
}
