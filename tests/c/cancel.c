/*
 * Ends a client at each stage of connecting, in each way; and the stages' timeouts.
 *
 * An enclave on loopback cannot delay resolving and verifying. Two other promises end a client before
 * the first and after the last stage.
 */
#include "enclave.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Ways to stall, and the stage at which connecting then waits. */
struct stall {
    const char *fault; /* NULL: a listener that accepts no TCP connection */
    const char *scheme;
    int32_t stage;
};

static const struct stall stalls[] = {
    {NULL, "ws", CONFER_STAGE_TCP},
    {"accept-stall", "wss", CONFER_STAGE_TLS},
    {"accept-stall", "ws", CONFER_STAGE_UPGRADE},
    {"upgrade-stall", "ws", CONFER_STAGE_UPGRADE},
    {"upgrade-half-stall", "ws", CONFER_STAGE_UPGRADE},
    {"open-stall", "ws", CONFER_STAGE_HANDSHAKE},
    {"message1-stall", "ws", CONFER_STAGE_HANDSHAKE},
    {"key-server-stall", "ws", CONFER_STAGE_KEY_SET},
    {"key-server-half", "ws", CONFER_STAGE_KEY_SET},
};

enum { STALLS = sizeof stalls / sizeof *stalls, BACKLOG = 4 };

/* A place at which connecting stalls. */
struct place {
    struct enclave enclave;
    confer_config *config;
    int32_t stage;
    int listener, fillers[BACKLOG];
};

/* Makes a listener with a full queue, so that a new connection gets no answer. */
static void fill_listener(struct place *place, char *url, size_t size) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    place->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(place->listener, (struct sockaddr *)&address, len) == 0 && listen(place->listener, 0) == 0);
    CHECK(getsockname(place->listener, (struct sockaddr *)&address, &len) == 0);
    for (int i = 0; i < BACKLOG; i++) {
        place->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(fcntl(place->fillers[i], F_SETFL, O_NONBLOCK) == 0);
        (void)!connect(place->fillers[i], (struct sockaddr *)&address, len);
    }
    snprintf(url, size, "ws://127.0.0.1:%d/websocket", ntohs(address.sin_port));
}

static void place_open(struct place *place, const struct stall *stall) {
    char url[256];
    *place = (struct place){.stage = stall->stage, .listener = -1};
    enclave_start(&place->enclave, stall->fault);
    place->config = enclave_config(&place->enclave);
    if (stall->fault == NULL)
        fill_listener(place, url, sizeof url);
    else
        snprintf(url, sizeof url, "%s%s", stall->scheme, strstr(place->enclave.url, "://"));
    CHECK_OK(confer_config_set_endpoint(place->config, url, SIZE_MAX, &error));
}

static void place_close(struct place *place) {
    confer_config_free(place->config);
    if (place->listener >= 0) {
        close(place->listener);
        for (int i = 0; i < BACKLOG; i++) close(place->fillers[i]);
    }
    enclave_stop(&place->enclave);
}

/* A client that stalls at a place, its watch, and a thread that waits for it. */
struct attempt {
    confer_client *client;
    confer_stream *watch;
    pthread_t thread;
};

static void *wait_for_the_client(void *data) {
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(data, -1, &error));
    return NULL;
}

/* Starts a client and waits until it stalls. */
static void attempt_start(struct attempt *attempt, const struct place *place) {
    attempt->client = client_start(place->config);
    attempt->watch = client_watch(attempt->client);
    watch_until_stage(attempt->watch, place->stage);
    CHECK(confer_client_state(attempt->client) == CONFER_CLIENT_CONNECTING);
    CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(attempt->client, 0, &error));
}

static void attempt_wait(struct attempt *attempt) {
    CHECK(pthread_create(&attempt->thread, NULL, wait_for_the_client, attempt->client) == 0);
}

/* Checks that the client has ended without an error. */
static void attempt_ended(struct attempt *attempt) {
    CHECK(pthread_join(attempt->thread, NULL) == 0);
    CHECK(stream_end(attempt->watch, NULL) == CONFER_END);
    CHECK(confer_client_state(attempt->client) == CONFER_CLIENT_ENDED);
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_check(attempt->client, &error));
    confer_stream_free(attempt->watch);
    confer_client_free(attempt->client);
}

static void client_is_closed_at_each_stage(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        struct attempt attempt;
        place_open(&place, &stalls[i]);
        attempt_start(&attempt, &place);
        attempt_wait(&attempt);
        CHECK_OK(confer_close(attempt.client, -1, &error));
        CHECK_OK(confer_close(attempt.client, -1, &error));
        check_no_library_thread();
        attempt_ended(&attempt);
        place_close(&place);
    }
}

static void close_without_waiting_ends_a_client_at_each_stage(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        struct attempt attempt;
        place_open(&place, &stalls[i]);
        attempt_start(&attempt, &place);
        attempt_wait(&attempt);
        confer_status status = confer_close(attempt.client, 0, NULL);
        CHECK(status == CONFER_TIMEOUT || status == CONFER_OK);
        attempt_ended(&attempt);
        CHECK_OK(confer_runtime_wait(-1, &error));
        place_close(&place);
    }
}

static void freed_client_ends_at_each_stage(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        struct attempt attempt;
        place_open(&place, &stalls[i]);
        attempt_start(&attempt, &place);
        confer_client_free(attempt.client); /* its watch does not keep it */
        CHECK(stream_end(attempt.watch, NULL) == CONFER_END);
        confer_stream_free(attempt.watch);
        CHECK_OK(confer_runtime_wait(-1, &error));
        place_close(&place);
    }
}

static void request_keeps_a_freed_client_until_it_is_freed(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        struct attempt attempt;
        place_open(&place, &stalls[i]);
        attempt_start(&attempt, &place);
        confer_stream *request = chat_pull(attempt.client, "never sent");
        confer_client_free(attempt.client);
        CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(request, 0, &(const confer_event *){NULL}, &error));
        CHECK_STATUS(CONFER_TIMEOUT, confer_runtime_wait(0, &error));
        confer_stream_free(request);
        CHECK(stream_end(attempt.watch, NULL) == CONFER_END);
        confer_stream_free(attempt.watch);
        CHECK_OK(confer_runtime_wait(-1, &error));
        place_close(&place);
    }
}

/* A question for the token holds the client there. */
static void client_closed_before_the_first_stage_connects_nowhere(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config_without_token(&enclave);
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN, &error));
    confer_client *client = client_start(config);
    confer_stream *watch = client_watch(client);
    watch_until(watch, CONFER_EVENT_ASK_TOKEN);
    CHECK_OK(confer_close(client, -1, &error));
    for (int i = 0; i < 3; i++) CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(client, -1, &error));
    CHECK(stream_end(watch, NULL) == CONFER_END);
    confer_stream_free(watch);
    confer_client_free(client);
    confer_config_free(config);
    CHECK(!enclave_logged(&enclave, "accepted") && !enclave_logged(&enclave, "upgraded"));
    enclave_stop(&enclave);
}

static void client_freed_after_the_last_stage_is_closed(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = client_start(config);
    while (!enclave_logged(&enclave, "message-3")) check_pause();
    confer_client_free(client);
    while (!enclave_logged(&enclave, "ended")) check_pause();
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void each_stage_has_a_timeout_named_in_its_error(void) {
    static const char *const names[] = {"resolve", "tcp", "tls", "upgrade", "handshake"};
    for (int i = 0; i < STALLS; i++) {
        if (stalls[i].stage == CONFER_STAGE_KEY_SET) continue; /* this ends in a refusal, see below */
        struct place place;
        place_open(&place, &stalls[i]);
        confer_client *client = NULL;
        CHECK_OK(confer_config_set_duration_ms(place.config, stalls[i].stage, 100, &error));
        char message[64];
        snprintf(message, sizeof message, "%s: no result within 100 ms", names[stalls[i].stage]);
        CHECK_ERROR(CONFER_E_STAGE_TIMEOUT, message, confer_connect(place.config, &client, &error));
        CHECK(client == NULL);
        place_close(&place);
    }
}

static void key_set_timeout_is_a_retryable_refusal(void) {
    struct place place;
    place_open(&place, &(struct stall){"key-server-stall", "ws", CONFER_STAGE_KEY_SET});
    confer_client *client = NULL;
    confer_error *refusal = NULL;
    CHECK_OK(confer_config_set_duration_ms(place.config, CONFER_DURATION_STAGE_KEY_SET, 100, &error));
    confer_status status = confer_connect(place.config, &client, &refusal);
    check_status(__FILE__, __LINE__, "confer_connect", CONFER_E_REJECTED, "ita.key", status, refusal);
    CHECK_TEXT("ita.key", confer_error_check_id(refusal, NULL));
    CHECK(confer_error_retryable(refusal) && confer_error_report(refusal) != NULL);
    confer_error_free(refusal);
    place_close(&place);
}

static void all_stages_together_have_a_timeout(void) {
    struct place place;
    place_open(&place, &(struct stall){"message1-stall", "ws", CONFER_STAGE_HANDSHAKE});
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_duration_ms(place.config, CONFER_DURATION_CONNECT, 300, &error));
    CHECK_ERROR(CONFER_E_STAGE_TIMEOUT, "no result within 300 ms", confer_connect(place.config, &client, &error));
    place_close(&place);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(client_is_closed_at_each_stage),
        PROMISE(close_without_waiting_ends_a_client_at_each_stage),
        PROMISE(freed_client_ends_at_each_stage),
        PROMISE(request_keeps_a_freed_client_until_it_is_freed),
        PROMISE(client_closed_before_the_first_stage_connects_nowhere),
        PROMISE(client_freed_after_the_last_stage_is_closed),
        PROMISE(each_stage_has_a_timeout_named_in_its_error),
        PROMISE(key_set_timeout_is_a_retryable_refusal),
        PROMISE(all_stages_together_have_a_timeout),
    };
    return KEEP_PROMISES(promises);
}
