/*
 * Cancels a connection at each stage, in each way, from another thread; and the stages' timeouts.
 *
 * An enclave on loopback cannot delay resolving and verifying. Two other promises cancel before the
 * first and after the last stage.
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
    struct gate reached, destroyed;
    int listener, fillers[BACKLOG];
};

static void on_stage(void *user_data, int32_t stage) {
    struct place *place = user_data;
    if (stage == place->stage) gate_raise(&place->reached);
}

static void on_place_destroyed(void *user_data) {
    gate_raise(&((struct place *)user_data)->destroyed);
}

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
    *place = (struct place){.stage = stall->stage, .reached = GATE, .destroyed = GATE, .listener = -1};
    enclave_start(&place->enclave, stall->fault);
    place->config = enclave_config(&place->enclave);
    if (stall->fault == NULL)
        fill_listener(place, url, sizeof url);
    else
        snprintf(url, sizeof url, "%s%s", stall->scheme, strstr(place->enclave.url, "://"));
    CHECK_OK(confer_config_set_endpoint(place->config, url, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_stage_callback(place->config, on_stage, place, on_place_destroyed, &error));
}

static void place_close(struct place *place) {
    confer_config_free(place->config);
    gate_wait(&place->destroyed, 1); /* cancel does not wait for the last callback */
    if (place->listener >= 0) {
        close(place->listener);
        for (int i = 0; i < BACKLOG; i++) close(place->fillers[i]);
    }
    enclave_stop(&place->enclave);
}

/* A thread that connects and waits, and its result. */
struct attempt {
    const confer_config *config;
    confer_cancel *cancel;
    confer_connecting *connecting; /* if set, the thread waits for this one */
    pthread_t thread;
    confer_status status;
};

static void *attempt_run(void *data) {
    struct attempt *attempt = data;
    confer_client *client = NULL;
    confer_error *error = NULL;
    attempt->status = attempt->connecting != NULL
                          ? confer_connecting_wait(attempt->connecting, -1, &client, &error)
                          : confer_connect(attempt->config, attempt->cancel, &client, &error);
    check_status(__FILE__, __LINE__, "connecting", CONFER_E_CANCELLED, "", attempt->status, error);
    CHECK(client == NULL);
    confer_error_free(error);
    return NULL;
}

static void attempt_start(struct attempt *attempt) {
    CHECK(pthread_create(&attempt->thread, NULL, attempt_run, attempt) == 0);
}

static void attempt_join(struct attempt *attempt) {
    CHECK(pthread_join(attempt->thread, NULL) == 0);
}

static void blocking_connect_is_cancelled_at_each_stage(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        place_open(&place, &stalls[i]);
        struct attempt attempt = {.config = place.config};
        CHECK_OK(confer_cancel_new(&attempt.cancel, &error));
        attempt_start(&attempt);
        gate_wait(&place.reached, 1);
        confer_cancel_trigger(attempt.cancel);
        confer_cancel_trigger(attempt.cancel);
        attempt_join(&attempt);
        confer_cancel_free(attempt.cancel);
        place_close(&place);
    }
}

static void started_connection_is_cancelled_at_each_stage(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        place_open(&place, &stalls[i]);
        struct attempt attempt = {0};
        CHECK_OK(confer_connecting_start(place.config, &attempt.connecting, &error));
        attempt_start(&attempt);
        gate_wait(&place.reached, 1);
        CHECK(confer_connecting_stage(attempt.connecting) == place.stage);
        confer_connecting_cancel(attempt.connecting);
        attempt_join(&attempt);
        confer_connecting_cancel(attempt.connecting);
        confer_connecting_free(attempt.connecting);
        place_close(&place);
    }
}

static void freeing_a_started_connection_cancels_it_at_each_stage(void) {
    for (int i = 0; i < STALLS; i++) {
        struct place place;
        place_open(&place, &stalls[i]);
        confer_connecting *alone = NULL;
        CHECK_OK(confer_connecting_start(place.config, &alone, &error));
        gate_wait(&place.reached, 1);
        confer_connecting_free(alone);
        place_close(&place);
    }
}

static void cancelling_before_the_first_stage_cancels_immediately(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_cancel *cancel = NULL;
    confer_client *client = NULL;
    CHECK_OK(confer_cancel_new(&cancel, &error));
    confer_cancel_trigger(cancel);
    for (int i = 0; i < 3; i++) CHECK_STATUS(CONFER_E_CANCELLED, confer_connect(config, cancel, &client, &error));
    CHECK(client == NULL);
    confer_cancel_free(cancel);
    confer_config_free(config);
    CHECK(!enclave_logged(&enclave, "upgraded"));
    enclave_stop(&enclave);
}

static void cancelling_after_the_last_stage_keeps_the_client(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_cancel *cancel = NULL;
    confer_client *client = NULL;
    CHECK_OK(confer_cancel_new(&cancel, &error));
    CHECK_OK(confer_connect(config, cancel, &client, &error));
    confer_cancel_trigger(cancel);
    confer_cancel_free(cancel);
    chat_says(client, "still here", "You said: still here");
    enclave_close(client);
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void client_that_nobody_takes_is_closed(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_connecting *connecting = NULL;
    CHECK_OK(confer_connecting_start(config, &connecting, &error));
    while (!enclave_logged(&enclave, "message-3")) check_pause();
    confer_connecting_free(connecting);
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
        CHECK_ERROR(CONFER_E_STAGE_TIMEOUT, names[stalls[i].stage], confer_connect(place.config, NULL, &client, &error));
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
    confer_status status = confer_connect(place.config, NULL, &client, &refusal);
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
    CHECK_STATUS(CONFER_E_STAGE_TIMEOUT, confer_connect(place.config, NULL, &client, &error));
    place_close(&place);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(blocking_connect_is_cancelled_at_each_stage),
        PROMISE(started_connection_is_cancelled_at_each_stage),
        PROMISE(freeing_a_started_connection_cancels_it_at_each_stage),
        PROMISE(cancelling_before_the_first_stage_cancels_immediately),
        PROMISE(cancelling_after_the_last_stage_keeps_the_client),
        PROMISE(client_that_nobody_takes_is_closed),
        PROMISE(each_stage_has_a_timeout_named_in_its_error),
        PROMISE(key_set_timeout_is_a_retryable_refusal),
        PROMISE(all_stages_together_have_a_timeout),
    };
    return KEEP_PROMISES(promises);
}
