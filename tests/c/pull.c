/*
 * Pulling: timeouts, one reader at a time, the descriptor, the properties of events and errors.
 */
#include "enclave.h"

#include <poll.h>

static struct enclave enclave;

static int readable(int fd, int timeout_ms) {
    struct pollfd descriptor = {.fd = fd, .events = POLLIN};
    int count = poll(&descriptor, 1, timeout_ms);
    CHECK(count >= 0 && (count == 0 || descriptor.revents == POLLIN));
    return count;
}

static void wait_lasts_its_timeout_and_ends_nothing(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    const confer_event *event = chat_next(stream);
    CHECK_TEXT("before the silence ", confer_event_content(event, NULL));
    int64_t before = check_now_ms();
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(stream, 80, &event, &error));
    CHECK(event == NULL && check_now_ms() - before >= 79);
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(stream, 0, &event, &error));
    confer_stream_cancel(stream);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, -1, &event, &error));
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, -1, &event, &error));
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, 0, &event, &error));
    CHECK(event == NULL);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void cancelling_drops_unread_events_and_is_idempotent(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/tokens 100000 1000"), *other = chat_pull(client, "the other stays");
    const confer_event *event = chat_next(stream);
    for (int i = 0; i < 3; i++) confer_stream_cancel(stream);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, -1, &event, &error));
    confer_stream_cancel(stream);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, -1, &event, &error));
    char text[100];
    chat_read(other, text, sizeof text);
    CHECK_TEXT("You said: the other stays", text);
    confer_stream_cancel(other); /* it has ended */
    CHECK_STATUS(CONFER_END, confer_stream_next(other, -1, &event, &error));
    confer_stream_free(stream);
    confer_stream_free(other);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* A thread that reads a silent stream. */
struct reader {
    confer_stream *stream;
    pthread_t thread;
    confer_status status;
};

static void *read_for_ever(void *data) {
    struct reader *reader = data;
    const confer_event *event = NULL;
    confer_error *error = NULL;
    do { /* the other thread may be in the call */
        confer_error_free(error);
        reader->status = confer_stream_next(reader->stream, -1, &event, &error);
    } while (reader->status == CONFER_E_BUSY);
    check_status(__FILE__, __LINE__, "confer_stream_next", reader->status, "", reader->status, error);
    confer_error_free(error);
    return NULL;
}

/* Waits until the thread is in the call, when another caller gets CONFER_E_BUSY. */
static void reader_start(struct reader *reader, confer_stream *stream) {
    const confer_event *event = NULL;
    reader->stream = stream;
    CHECK(pthread_create(&reader->thread, NULL, read_for_ever, reader) == 0);
    for (;;) {
        confer_error *error = NULL;
        confer_status status = confer_stream_next(stream, 0, &event, &error);
        confer_error_free(error);
        if (status == CONFER_E_BUSY) break;
        CHECK(status == CONFER_TIMEOUT);
        check_pause();
    }
}

static void reader_join(struct reader *reader, confer_status expected) {
    CHECK(pthread_join(reader->thread, NULL) == 0);
    if (reader->status != expected) check_failed(__FILE__, __LINE__, confer_status_name(reader->status), "woke so");
}

static void second_reader_gets_busy(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    chat_next(stream);
    struct reader reader;
    reader_start(&reader, stream);
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_E_BUSY, confer_stream_next(stream, -1, &event, &error));
    CHECK_STATUS(CONFER_E_BUSY, confer_stream_next(stream, 10, &event, &error));
    confer_stream_cancel(stream);
    reader_join(&reader, CONFER_E_CANCELLED);
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, -1, &event, &error));
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void waiting_reader_wakes_when_the_client_closes(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    chat_next(stream);
    struct reader reader;
    reader_start(&reader, stream);
    CHECK_OK(confer_close(client, -1, &error));
    reader_join(&reader, CONFER_E_CLOSED);
    confer_client_free(client);
    confer_stream_free(stream);
    enclave_stop(&enclave);
}

static void waiting_reader_wakes_when_the_stream_is_freed(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    chat_next(stream);
    struct reader reader;
    reader_start(&reader, stream);
    confer_stream_free(stream);
    reader_join(&reader, CONFER_E_CANCELLED);
    chat_says(client, "still here", "You said: still here");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void descriptor_is_readable_only_while_events_wait(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/silent");
    const confer_event *event = NULL;
    int fd = -1, again = -1;
    CHECK_OK(confer_stream_fd(stream, &fd, &error));
    CHECK_OK(confer_stream_fd(stream, &again, &error));
    CHECK(fd == again);
    CHECK(readable(fd, -1) && readable(fd, 0));
    CHECK_OK(confer_stream_next(stream, 0, &event, &error));
    CHECK(!readable(fd, 0));
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(stream, 0, &event, &error));
    CHECK(!readable(fd, 0));
    confer_stream_cancel(stream);
    CHECK(readable(fd, -1));
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, 0, &event, &error));
    CHECK(readable(fd, 0)); /* the end is ready, any number of times */
    CHECK_STATUS(CONFER_E_CANCELLED, confer_stream_next(stream, 0, &event, &error));
    CHECK(readable(fd, 0));
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void event_loop_reads_an_answer_by_descriptor(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/tokens 2000 50");
    int fd = -1, events = 0;
    confer_status status = CONFER_OK;
    CHECK_OK(confer_stream_fd(stream, &fd, &error));
    while (status != CONFER_END) {
        CHECK(readable(fd, -1));
        const confer_event *event = NULL;
        confer_error *error = NULL;
        status = confer_stream_next(stream, 0, &event, &error); /* one event each time: the descriptor stays readable for the rest */
        CHECK((status == CONFER_OK && event != NULL) || status == CONFER_END);
        events += status == CONFER_OK;
    }
    CHECK(events == 2001);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void late_descriptor_is_readable_for_waiting_events(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "one two three");
    chat_next(stream);
    int fd = -1;
    CHECK_OK(confer_stream_fd(stream, &fd, &error));
    CHECK(readable(fd, -1));
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    stream = chat_pull(client, "short");
    chat_read(stream, NULL, 0);
    CHECK_OK(confer_stream_fd(stream, &fd, &error));
    CHECK(readable(fd, 0)); /* the end is ready */
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void getters_return_each_property_of_an_event(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/client-tool clock {\"zone\":\"UTC\"}");
    const confer_event *event = chat_next(stream);
    size_t len = 0;
    CHECK(confer_event_type(event) == CONFER_EVENT_CLIENT_TOOL_CALL);
    CHECK_TEXT("call-1", confer_event_tool_call_id(event, &len));
    CHECK(len == 6);
    CHECK_TEXT("clock", confer_event_tool_name(event, NULL));
    CHECK_TEXT("{\"zone\":\"UTC\"}", confer_event_tool_arguments(event, NULL));
    CHECK(confer_event_content(event, &len) == NULL && len == 0);
    CHECK(confer_event_context_tokens(event) == -1);
    event = chat_next(stream);
    CHECK(confer_event_type(event) == CONFER_EVENT_COMPLETION && confer_event_pending_tool_calls(event));
    CHECK(confer_event_context_tokens(event) > 0 && confer_event_max_context_tokens(event) > 0);
    CHECK(strstr(confer_event_json(event, &len), "\"completion\"") != NULL && strlen(confer_event_json(event, NULL)) == len);
    confer_stream_free(stream);

    stream = chat_pull(client, "/server-tool");
    event = chat_next(stream);
    CHECK(confer_event_type(event) == CONFER_EVENT_SERVER_TOOL_CALL);
    event = chat_next(stream);
    CHECK(confer_event_type(event) == CONFER_EVENT_SERVER_TOOL_RESPONSE);
    CHECK_TEXT("clear sky", confer_event_content(event, NULL));
    CHECK_TEXT("clear sky, 21 degrees", confer_event_full_content(event, NULL));
    confer_stream_free(stream);

    stream = chat_pull(client, "/unknown-event");
    chat_next(stream);
    event = chat_next(stream);
    CHECK(confer_event_type(event) == CONFER_EVENT_OTHER);
    CHECK(strstr(confer_event_json(event, NULL), "\"weather\"") != NULL);
    confer_stream_free(stream);

    stream = chat_pull(client, "/thinking");
    CHECK(confer_event_type(chat_next(stream)) == CONFER_EVENT_THINKING);
    confer_stream_free(stream);

    stream = chat_pull(client, "/unicode");
    chat_next(stream);
    event = chat_next(stream);
    CHECK(confer_event_content(event, &len) != NULL && len > 3 && confer_event_content(event, NULL)[0] == '\0');
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void web_search_is_always_sent_and_off_by_default(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    chat_says(client, "/websearch", "webSearch=false");
    confer_chat_request *request = chat_request("/websearch");
    CHECK_OK(confer_chat_request_set_web_search(request, true, &error));
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    char text[100];
    chat_read(stream, text, sizeof text);
    CHECK_TEXT("webSearch=true", text);
    confer_stream_free(stream);
    confer_chat_request_free(request);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void expect_end(confer_client *client, const char *prompt, confer_status expected, int32_t http_status,
                       int32_t progress) {
    confer_stream *stream = chat_pull(client, prompt);
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    confer_status status;
    while ((status = confer_stream_next(stream, -1, &event, &failure)) == CONFER_OK) CHECK(event != NULL);
    check_status(__FILE__, __LINE__, prompt, expected, "", status, failure);
    CHECK(confer_error_http_status(failure) == http_status && confer_error_progress(failure) == progress);
    CHECK(confer_error_report(failure) == NULL && confer_error_check_id(failure, NULL) == NULL);
    confer_error_free(failure);
    CHECK_STATUS(expected, confer_stream_next(stream, -1, &event, &error));
    confer_stream_free(stream);
}

static void refused_request_ends_only_its_stream_with_progress(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    expect_end(client, "/status 401", CONFER_E_UNAUTHORIZED, 401, CONFER_PROGRESS_PARTLY_ANSWERED);
    expect_end(client, "/status 402", CONFER_E_PAYMENT_REQUIRED, 402, CONFER_PROGRESS_PARTLY_ANSWERED);
    expect_end(client, "/status 503", CONFER_E_REFUSED, 503, CONFER_PROGRESS_PARTLY_ANSWERED);
    expect_end(client, "/status-midstream 500", CONFER_E_REFUSED, 500, CONFER_PROGRESS_PARTLY_ANSWERED);
    chat_says(client, "and now", "You said: and now");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void silent_stream_ends_at_its_idle_timeout(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    enclave_set_idle(config, 2000);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    expect_end(client, "/silent", CONFER_E_STREAM_IDLE, 0, CONFER_PROGRESS_PARTLY_ANSWERED);
    CHECK_OK(confer_client_check(client, &error));
    confer_config_free(config);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* Starts a turn of a conversation and returns the error with which it fails. */
static confer_error *failed_turn(confer_client *client, const char *conversation, const char *prompt) {
    confer_conversation *history = NULL;
    confer_chat_request *request = chat_request(prompt);
    confer_stream *stream = NULL;
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    CHECK_OK(confer_conversation_parse(conversation, SIZE_MAX, &history, &error));
    CHECK_OK(confer_chat_request_set_conversation(request, history, &error));
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    while (confer_stream_next(stream, -1, &event, &failure) == CONFER_OK) continue;
    CHECK(failure != NULL);
    confer_stream_free(stream);
    confer_chat_request_free(request);
    confer_conversation_free(history);
    return failure;
}

#define CONVERSATION(tokens) \
    "{\"version\":1,\"messages\":[],\"context_tokens\":" tokens ",\"max_context_tokens\":32768}"

static void silent_stream_says_what_may_have_happened(void) {
    static const char *const conversations[] = {CONVERSATION("26000"), CONVERSATION("27000")};
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    enclave_set_idle(config, 2000);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    for (int full = 0; full < 2; full++) {
        confer_error *failure = failed_turn(client, conversations[full], "/silent");
        const char *message = confer_error_message(failure, NULL);
        CHECK(confer_error_status(failure) == CONFER_E_STREAM_IDLE);
        CHECK(strstr(message, "2000 ms (CONFER_DURATION_IDLE_EVENTS)") != NULL);
        CHECK(strstr(message, "without a word") != NULL);
        CHECK((strstr(message, "27000 of the model's 32768 context tokens") != NULL) == full);
        confer_error_free(failure);
    }
    confer_config_free(config);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void too_long_answer_is_partly_answered(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_error *failure = failed_turn(client, CONVERSATION("0"), "/tokens 2100 16384"); /* 34 MB; the bound is 32 MiB */
    CHECK(confer_error_status(failure) == CONFER_E_TOO_LARGE);
    CHECK(confer_error_progress(failure) == CONFER_PROGRESS_PARTLY_ANSWERED);
    confer_error_free(failure);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void lost_connection_ends_all_streams_and_later_requests(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *streams[2];
    for (int i = 0; i < 2; i++) {
        streams[i] = chat_pull(client, "/silent");
        chat_next(streams[i]);
    }
    enclave_stop(&enclave);
    const confer_event *event = NULL;
    for (int i = 0; i < 2; i++) {
        confer_error *failure = NULL;
        CHECK(confer_stream_next(streams[i], -1, &event, &failure) == CONFER_E_CONNECTION_LOST && event == NULL);
        CHECK(confer_error_retryable(failure) && confer_error_progress(failure) == CONFER_PROGRESS_PARTLY_ANSWERED);
        confer_error_free(failure);
        CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_stream_next(streams[i], -1, &event, &error));
        confer_stream_free(streams[i]);
    }
    confer_chat_request *request = chat_request("again");
    confer_stream *stream = NULL;
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_chat_stream(client, request, NULL, &stream, &error));
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_client_check(client, &error));
    confer_chat_request_free(request);
    enclave_close(client);
}

static void silent_peer_is_detected_as_dead(void) {
    enclave_start(&enclave, "stream-stall");
    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_KEEPALIVE, 50, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_DEAD_PEER, 1000, &error));
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_stream *stream = chat_pull(client, "a question");
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    while (confer_stream_next(stream, -1, &event, &failure) == CONFER_OK) CHECK(event != NULL);
    CHECK(confer_error_status(failure) == CONFER_E_DEAD_PEER);
    confer_error_free(failure);
    confer_stream_free(stream);
    confer_config_free(config);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(wait_lasts_its_timeout_and_ends_nothing),
        PROMISE(cancelling_drops_unread_events_and_is_idempotent),
        PROMISE(second_reader_gets_busy),
        PROMISE(waiting_reader_wakes_when_the_client_closes),
        PROMISE(waiting_reader_wakes_when_the_stream_is_freed),
        PROMISE(descriptor_is_readable_only_while_events_wait),
        PROMISE(event_loop_reads_an_answer_by_descriptor),
        PROMISE(late_descriptor_is_readable_for_waiting_events),
        PROMISE(getters_return_each_property_of_an_event),
        PROMISE(web_search_is_always_sent_and_off_by_default),
        PROMISE(refused_request_ends_only_its_stream_with_progress),
        PROMISE(silent_stream_ends_at_its_idle_timeout),
        PROMISE(silent_stream_says_what_may_have_happened),
        PROMISE(too_long_answer_is_partly_answered),
        PROMISE(lost_connection_ends_all_streams_and_later_requests),
        PROMISE(silent_peer_is_detected_as_dead),
    };
    return KEEP_PROMISES(promises);
}
