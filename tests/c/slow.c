/*
 * A reader that is slower than the network: nothing is lost while it is alone, and what it may cost others is bounded.
 */
#include "enclave.h"

static struct enclave enclave;

/* Takes events up to the end; returns how many tokens there were, each of which must have `size` bytes. */
static int count_tokens(confer_stream *stream, size_t size, confer_status expected) {
    const confer_event *event = NULL;
    int count = 0;
    for (;;) {
        confer_error *error = NULL;
        confer_status status = confer_stream_next(stream, -1, &event, &error);
        if (status != CONFER_OK) {
            check_status(__FILE__, __LINE__, "confer_stream_next", expected, "", status, error);
            confer_error_free(error);
            return count;
        }
        size_t len = 0;
        if (confer_event_type(event) != CONFER_EVENT_TOKEN) continue;
        CHECK(confer_event_content(event, &len) != NULL && len == size);
        count++;
    }
}

static void a_sole_reader_may_rest_longer_than_every_limit_and_loses_nothing(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_keepalive_ms(config, 50, &error));
    CHECK_OK(confer_config_set_dead_peer_ms(config, 1000, &error));
    CHECK_OK(confer_config_set_idle_timeout_ms(config, 1000, &error));
    CHECK_OK(confer_connect(config, NULL, &client, &error));
    /* 40 MiB: more than the stream's cap of 16 MiB and the sockets' buffers together. */
    confer_stream *stream = chat_pull(client, "/tokens 2560 16384");
    chat_next(stream);
    /* The rest is the subject: it has to outlast the limits, which stand still meanwhile. */
    nanosleep(&(struct timespec){2, 500000000}, NULL);
    CHECK_OK(confer_client_check(client, &error));
    CHECK(count_tokens(stream, 16384, CONFER_END) == 2559);
    confer_stream_free(stream);
    chat_says(client, "go on", "You said: go on");
    confer_config_free(config);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void one_event_may_be_larger_than_the_queue(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/big 2000000");
    size_t len = 0;
    confer_event_json(chat_next(stream), &len);
    CHECK(len == 2000000);
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void an_unread_stream_beside_others_fails_at_its_cap_and_they_do_not(void) {
    enum { SIZE = 1 << 20, CAP = 16 << 20, TURNS = 200 };
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *beside = chat_pull(client, "/silent");
    chat_next(beside);
    confer_stream *unread = chat_pull(client, "/tokens 64 1048576");
    /* The enclave writes all answers to one socket, so each turn lets it send more of the unread one. */
    for (int i = 0; i < TURNS; i++) chat_says(client, "a turn", "You said: a turn");
    int tokens = count_tokens(unread, SIZE, CONFER_E_SLOW_CONSUMER);
    /* An event counts by its JSON, and the one that comes below the cap is taken whole. */
    CHECK(SIZE * tokens >= CAP - SIZE && SIZE * tokens <= CAP + SIZE);
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_END, confer_stream_next(unread, -1, &event, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(beside, 0, &event, &error));
    chat_says(client, "go on", "You said: go on");
    confer_stream_free(unread);
    confer_stream_free(beside);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_second_request_wakes_a_connection_that_rests_for_a_full_stream(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *full = chat_pull(client, "/tokens 200 16384"); /* 3 MiB: full, and below the cap */
    chat_next(full);
    chat_says(client, "am I heard?", "You said: am I heard?");
    CHECK(count_tokens(full, 16384, CONFER_END) == 199);
    confer_stream_free(full);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(a_sole_reader_may_rest_longer_than_every_limit_and_loses_nothing),
        PROMISE(one_event_may_be_larger_than_the_queue),
        PROMISE(an_unread_stream_beside_others_fails_at_its_cap_and_they_do_not),
        PROMISE(a_second_request_wakes_a_connection_that_rests_for_a_full_stream),
    };
    return KEEP_PROMISES(promises);
}
