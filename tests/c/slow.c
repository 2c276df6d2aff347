/*
 * A reader slower than the network: as the only stream it loses nothing, and with others it has a
 * limit.
 */
#include "enclave.h"

static struct enclave enclave;

/* Reads events to the end. Returns the number of tokens. Each must have `size` bytes. */
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

static void slow_reader_of_the_only_stream_loses_nothing(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_KEEPALIVE, 50, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_DEAD_PEER, 2000, &error));
    enclave_set_idle(config, 2000);
    CHECK_OK(confer_connect(config, &client, &error));
    /* 40 MiB: more than the stream's limit of 16 MiB plus the sockets' buffers. */
    confer_stream *stream = chat_pull(client, "/tokens 2560 16384");
    chat_next(stream);
    /* Pauses longer than the timeouts, which must not run during the pause. */
    nanosleep(&(struct timespec){4, 500000000}, NULL);
    CHECK_OK(confer_client_check(client, &error));
    CHECK(count_tokens(stream, 16384, CONFER_END) == 2559);
    confer_stream_free(stream);
    chat_says(client, "go on", "You said: go on");
    confer_config_free(config);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void event_may_be_larger_than_the_queue(void) {
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

static void only_the_unread_stream_fails_at_its_limit(void) {
    enum { SIZE = 1 << 20, CAP = 16 << 20, ENOUGH = CAP + 4 * SIZE };
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *beside = chat_pull(client, "/silent");
    chat_next(beside);
    confer_stream *unread = chat_pull(client, "/tokens 64 1048576");
    /* All answers share a socket, so each chat lets the enclave send more of the unread one. */
    while (confer_client_counter(client, CONFER_COUNTER_BYTES_RECEIVED) < ENOUGH)
        chat_says(client, "a turn", "You said: a turn");
    int tokens = count_tokens(unread, SIZE, CONFER_E_SLOW_CONSUMER);
    /* An event's size is that of its JSON. An event that starts below the limit is kept whole. */
    CHECK(SIZE * tokens >= CAP - SIZE && SIZE * tokens <= CAP + SIZE);
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_E_SLOW_CONSUMER, confer_stream_next(unread, -1, &event, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(beside, 0, &event, &error));
    chat_says(client, "go on", "You said: go on");
    confer_stream_free(unread);
    confer_stream_free(beside);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void second_request_resumes_a_connection_paused_by_another(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *full = chat_pull(client, "/tokens 200 16384"); /* 3 MiB: full, but below the limit */
    chat_next(full);
    chat_says(client, "am I heard?", "You said: am I heard?");
    CHECK(count_tokens(full, 16384, CONFER_END) == 199);
    confer_stream_free(full);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(slow_reader_of_the_only_stream_loses_nothing),
        PROMISE(event_may_be_larger_than_the_queue),
        PROMISE(only_the_unread_stream_fails_at_its_limit),
        PROMISE(second_request_resumes_a_connection_paused_by_another),
    };
    return KEEP_PROMISES(promises);
}
