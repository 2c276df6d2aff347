/*
 * Requests of all kinds, and the content of a chat request: ping, embeddings, a page, documents, any route,
 * conversations. Checks their answers, and mistakes of callers.
 */
#include "recorder.h"

static struct enclave enclave;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)
#define BAD_UTF8 "ab\xff"

/* ---- the answer to a request ---------------------------------------------------------------------------------------- */

/* The events of a stream, to its end. */
struct outcome {
    confer_status status;
    int32_t http_status;
    int bodies, progresses, others;
    int64_t sent, received;
    char text[8192];
    size_t used;
};

static void outcome_note(struct outcome *outcome, const confer_event *event) {
    int64_t total = -7;
    size_t len = 7;
    const char *content = confer_event_content(event, &len);
    switch (confer_event_type(event)) {
    case CONFER_EVENT_BODY:
        outcome->bodies++;
        outcome->received += (int64_t)len;
        CHECK(confer_event_received(event, &total) == outcome->received && total >= -1);
        CHECK(total == -1 || outcome->received <= total);
        CHECK(content != NULL && content[len] == '\0' && confer_event_json(event, NULL) == NULL);
        if (outcome->used + len < sizeof outcome->text) {
            memcpy(outcome->text + outcome->used, content, len);
            outcome->used += len;
        }
        break;
    case CONFER_EVENT_PROGRESS:
        outcome->progresses++;
        CHECK(confer_event_sent(event, &total) >= outcome->sent && total >= -1 && content == NULL);
        outcome->sent = confer_event_sent(event, NULL);
        CHECK(outcome->bodies == 0);
        break;
    default:
        outcome->others++;
        CHECK(confer_event_sent(event, &total) == -1 && confer_event_received(event, &total) == -1);
    }
}

static void receive(confer_stream *stream, struct outcome *outcome) {
    *outcome = (struct outcome){.status = CONFER_OK};
    while (outcome->status == CONFER_OK) {
        const confer_event *event = NULL;
        confer_error *error = NULL;
        outcome->status = confer_stream_next(stream, -1, &event, &error);
        check_status(__FILE__, __LINE__, "confer_stream_next", outcome->status, "", outcome->status, error);
        outcome->http_status = confer_error_http_status(error);
        confer_error_free(error);
        if (outcome->status == CONFER_OK) outcome_note(outcome, event);
    }
    outcome->text[outcome->used] = '\0';
    confer_stream_free(stream);
}

/* For each kind of request: pull_KIND() starts it without callbacks; send_KIND() also frees it and reads its answer. */
#define KIND(kind)                                                                                                    \
    static inline confer_stream *pull_##kind(confer_client *client, const confer_##kind##_request *request) {         \
        confer_stream *stream = NULL;                                                                                 \
        CHECK_OK(confer_##kind##_stream(client, request, NULL, &stream, &error));                                     \
        return stream;                                                                                                \
    }                                                                                                                 \
    __attribute__((unused)) static void send_##kind(confer_client *client, confer_##kind##_request *request,          \
                                                    struct outcome *outcome) {                                        \
        confer_stream *stream = pull_##kind(client, request);                                                         \
        confer_##kind##_request_free(request);                                                                        \
        receive(stream, outcome);                                                                                     \
    }

KIND(embeddings)
KIND(extraction)
KIND(fetch)
KIND(raw)

static confer_stream *ping(confer_client *client) {
    confer_stream *stream = NULL;
    CHECK_OK(confer_ping_stream(client, NULL, &stream, &error));
    return stream;
}

static confer_embeddings_request *embeddings(void) {
    confer_embeddings_request *request = NULL;
    CHECK_OK(confer_embeddings_request_new(&request, &error));
    CHECK_OK(confer_embeddings_request_set_is_query(request, true, &error));
    return request;
}

static confer_fetch_request *page(const char *url) {
    confer_fetch_request *request = NULL;
    CHECK_OK(confer_fetch_request_new(url, SIZE_MAX, &request, &error));
    return request;
}

static confer_extraction_request *extraction(void) {
    confer_extraction_request *request = NULL;
    CHECK_OK(confer_extraction_request_new("note.pdf", SIZE_MAX, &request, &error));
    return request;
}

static confer_raw_request *raw(const char *verb, const char *path, int32_t ending) {
    confer_raw_request *request = NULL;
    CHECK_OK(confer_raw_request_new(verb, SIZE_MAX, path, SIZE_MAX, ending, &request, &error));
    return request;
}

/* ---- mistakes of a caller --------------------------------------------------------------------------------------- */

static void a_missing_pointer_is_named(void) {
    confer_raw_request *request = raw("GET", "/ping", CONFER_ENDING_ONE_RESPONSE), *raw_out = request;
    confer_embeddings_request *text = embeddings();
    confer_fetch_request *fetch = page("http://example.test/"), *fetch_out = fetch;
    confer_extraction_request *document = extraction(), *document_out = document;
    confer_stream *stream = (confer_stream *)document;
    confer_stream_callbacks table = {sizeof table, NULL, NULL, NULL, NULL, NULL};
    REFUSES("verb", confer_raw_request_new(NULL, 1, "/x", 2, CONFER_ENDING_ONE_RESPONSE, &raw_out, &error));
    CHECK(raw_out == NULL);
    REFUSES("path", confer_raw_request_new("GET", 3, NULL, SIZE_MAX, CONFER_ENDING_ONE_RESPONSE, &raw_out, &error));
    REFUSES("request", confer_raw_request_new("GET", 3, "/x", 2, CONFER_ENDING_ONE_RESPONSE, NULL, &error));
    REFUSES("request", confer_embeddings_request_new(NULL, &error));
    REFUSES("url", confer_fetch_request_new(NULL, 3, &fetch_out, &error));
    CHECK(fetch_out == NULL);
    REFUSES("request", confer_fetch_request_new("http://a/", SIZE_MAX, NULL, &error));
    REFUSES("filename", confer_extraction_request_new(NULL, SIZE_MAX, &document_out, &error));
    CHECK(document_out == NULL);
    REFUSES("request", confer_extraction_request_new("a", 1, NULL, &error));
    REFUSES("request", confer_raw_request_set_body(NULL, "x", 1, &error));
    REFUSES("body", confer_raw_request_set_body(request, NULL, 1, &error));
    REFUSES("request", confer_embeddings_request_add_text(NULL, "x", 1, &error));
    REFUSES("content", confer_embeddings_request_add_text(text, NULL, 1, &error));
    REFUSES("request", confer_embeddings_request_set_is_query(NULL, true, &error));
    REFUSES("request", confer_fetch_request_set_header(NULL, "a", 1, "b", 1, &error));
    REFUSES("name", confer_fetch_request_set_header(fetch, NULL, 1, "b", 1, &error));
    REFUSES("value", confer_fetch_request_set_header(fetch, "a", 1, NULL, 1, &error));
    REFUSES("request", confer_extraction_request_set_option(NULL, "ocr", 3, "true", 4, &error));
    REFUSES("name", confer_extraction_request_set_option(document, NULL, 3, "true", 4, &error));
    REFUSES("json", confer_extraction_request_set_option(document, "ocr", 3, NULL, 4, &error));
    REFUSES("request", confer_extraction_request_set_document_bytes(NULL, (const uint8_t *)"x", 1, &error));
    REFUSES("bytes", confer_extraction_request_set_document_bytes(document, NULL, 1, &error));
    REFUSES("request", confer_extraction_request_set_document_file(NULL, "/proc/self/exe", SIZE_MAX, &error));
    REFUSES("path", confer_extraction_request_set_document_file(document, NULL, 1, &error));
    REFUSES("client", confer_raw_stream(NULL, request, NULL, &stream, &error));
    CHECK(stream == NULL);
    REFUSES("client", confer_raw_stream(NULL, request, &table, &stream, &error));
    CHECK(confer_embeddings_request_new(NULL, NULL) == CONFER_E_INVALID_ARGUMENT); /* the error output is optional */
    confer_raw_request_free(request);
    confer_embeddings_request_free(text);
    confer_fetch_request_free(fetch);
    confer_extraction_request_free(document);
    confer_raw_request_free(NULL);
    confer_embeddings_request_free(NULL);
    confer_fetch_request_free(NULL);
    confer_extraction_request_free(NULL);
}

static void incomplete_request_is_refused_at_its_start(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_embeddings_request *no_text = embeddings();
    confer_extraction_request *no_document = extraction();
    confer_stream *stream = NULL;
    confer_stream_callbacks table = {sizeof table, NULL, NULL, NULL, NULL, NULL};
    REFUSES("text", confer_embeddings_stream(client, no_text, NULL, &stream, &error));
    REFUSES("document", confer_extraction_stream(client, no_document, &table, &stream, &error));
    CHECK(stream == NULL);
    confer_embeddings_request_free(no_text);
    confer_extraction_request_free(no_document);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void values_that_cannot_be_are_refused(void) {
    char name[16], *large = malloc((32 << 20) + 1);
    CHECK(large != NULL);
    memset(large, 'a', (32 << 20) + 1);
    confer_raw_request *request = NULL;
    confer_fetch_request *fetch = NULL;
    confer_extraction_request *document = NULL;
    static const char *const bad[][2] = {{"", "/x"}, {"GET", ""}, {"GET", "/x\r\n"}, {"G\nET", "/x"}};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_raw_request_new(bad[at][0], SIZE_MAX, bad[at][1], SIZE_MAX,
                                                                       CONFER_ENDING_ONE_RESPONSE, &request, &error));
    REFUSES("verb", confer_raw_request_new(large, 33, "/x", 2, CONFER_ENDING_ONE_RESPONSE, &request, &error));
    REFUSES("path", confer_raw_request_new("GET", 3, large, 2049, CONFER_ENDING_ONE_RESPONSE, &request, &error));
    REFUSES("path", confer_raw_request_new("GET", 3, "/\0x", 3, CONFER_ENDING_ONE_RESPONSE, &request, &error));
    REFUSES("ending", confer_raw_request_new("GET", 3, "/x", 2, 3, &request, &error));
    REFUSES("ending", confer_raw_request_new("GET", 3, "/x", 2, -1, &request, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_raw_request_new("GET", 3, BAD_UTF8, 3, 0, &request, &error));
    REFUSES("url", confer_fetch_request_new("", 0, &fetch, &error));
    REFUSES("filename", confer_extraction_request_new(NULL, 0, &document, &error));
    CHECK(request == NULL && fetch == NULL && document == NULL);

    request = raw("POST", "/x", CONFER_ENDING_ONE_RESPONSE);
    CHECK_STATUS(CONFER_E_TOO_LARGE, confer_raw_request_set_body(request, large, (32 << 20) + 1, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_raw_request_set_body(request, BAD_UTF8, 3, &error));
    for (int turn = 0; turn < 3; turn++) CHECK_OK(confer_raw_request_set_body(request, large, 20 << 20, &error)); /* replaces */
    confer_raw_request_free(request);

    confer_embeddings_request *texts = embeddings();
    for (int turn = 0; turn < 64; turn++) CHECK_OK(confer_embeddings_request_add_text(texts, "x", 1, &error));
    CHECK_ERROR(CONFER_E_TOO_LARGE, "64", confer_embeddings_request_add_text(texts, "x", 1, &error));
    confer_embeddings_request_free(texts);

    fetch = page("http://example.test/");
    REFUSES("name", confer_fetch_request_set_header(fetch, "", 0, "x", 1, &error));
    for (int turn = 0; turn < 64; turn++) {
        snprintf(name, sizeof name, "x-%d", turn);
        CHECK_OK(confer_fetch_request_set_header(fetch, name, SIZE_MAX, "x", 1, &error));
    }
    CHECK_ERROR(CONFER_E_TOO_LARGE, "64", confer_fetch_request_set_header(fetch, "x-64", 4, "x", 1, &error));
    CHECK_OK(confer_fetch_request_set_header(fetch, "x-0", 3, "another", SIZE_MAX, &error)); /* replaces */
    confer_fetch_request_free(fetch);

    document = extraction();
    CHECK_ERROR(CONFER_E_INVALID_JSON, "line 1", confer_extraction_request_set_option(document, "ocr", 3, "yes", 3, &error));
    CHECK_STATUS(CONFER_E_INVALID_JSON, confer_extraction_request_set_option(document, "ocr", 3, "true,", 5, &error));
    REFUSES("name", confer_extraction_request_set_option(document, "filename", SIZE_MAX, "\"x\"", 3, &error));
    REFUSES("name", confer_extraction_request_set_option(document, "total_length", SIZE_MAX, "1", 1, &error));
    REFUSES("name", confer_extraction_request_set_option(document, "", 0, "1", 1, &error));
    REFUSES("len", confer_extraction_request_set_document_bytes(document, (const uint8_t *)large, SIZE_MAX, &error));
    REFUSES("path", confer_extraction_request_set_document_file(document, "", 0, &error));
    REFUSES("path", confer_extraction_request_set_document_file(document, "a\0b", 3, &error));
    CHECK_ERROR(CONFER_E_FILE, "no-such", confer_extraction_request_set_document_file(document, "/no-such", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_FILE, "regular", confer_extraction_request_set_document_file(document, "/", SIZE_MAX, &error));
    CHECK_ERROR(CONFER_E_FILE, "regular", confer_extraction_request_set_document_file(document, "/dev/null", SIZE_MAX, &error));
    confer_extraction_request_free(document);
    free(large);
}

static void limits_of_memory_have_bounds(void) {
    confer_config *config = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    for (int32_t limit = CONFER_LIMIT_STREAM_REST; limit <= CONFER_LIMIT_REQUESTS; limit++) {
        bool of_bytes = limit != CONFER_LIMIT_REQUESTS;
        uint64_t least = of_bytes ? 64 << 10 : 1, most = of_bytes ? (uint64_t)1 << 40 : 1000000;
        CHECK_OK(confer_config_set_limit(config, limit, least, &error));
        CHECK_OK(confer_config_set_limit(config, limit, most, &error));
        REFUSES("value", confer_config_set_limit(config, limit, least - 1, &error));
        REFUSES("value", confer_config_set_limit(config, limit, most + 1, &error));
        REFUSES("config", confer_config_set_limit(NULL, limit, least, &error));
    }
    REFUSES("limit", confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS + 1, 100000, &error));
    REFUSES("limit", confer_config_set_limit(config, -1, 100000, &error));
    confer_config_free(config);
    REFUSES("bytes", confer_runtime_set_unread_limit((64 << 10) - 1, &error));
    REFUSES("bytes", confer_runtime_set_unread_limit(((uint64_t)1 << 40) + 1, &error));
    CHECK_OK(confer_runtime_set_unread_limit((uint64_t)1 << 30, &error));
}

static void a_limit_of_requests_holds(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    confer_stream *second = NULL;
    struct outcome outcome;
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_REQUESTS, 1, &error));
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    confer_stream *first = chat_pull(client, "/silent");
    chat_next(first);
    CHECK_STATUS(CONFER_E_TOO_MANY, confer_ping_stream(client, NULL, &second, &error));
    confer_stream_free(first);
    while (confer_ping_stream(client, NULL, &second, NULL) == CONFER_E_TOO_MANY) check_pause(); /* freeing never waits */
    receive(second, &outcome);
    CHECK(outcome.status == CONFER_END);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void getters_of_nothing_answer_nothing(void) {
    int64_t total = 7;
    size_t rows = 7, columns = 7, len = 7;
    CHECK(confer_event_sent(NULL, &total) == -1 && total == -1 && confer_event_sent(NULL, NULL) == -1);
    total = 7;
    CHECK(confer_event_received(NULL, &total) == -1 && total == -1 && confer_event_received(NULL, NULL) == -1);
    CHECK(confer_event_embeddings(NULL, &rows, &columns) == NULL && rows == 0 && columns == 0);
    CHECK(confer_event_embeddings(NULL, NULL, NULL) == NULL && confer_event_round_trip_us(NULL) == -1);
    total = 7;
    CHECK(confer_conversation_context_tokens(NULL, &total) == -1 && total == -1);
    CHECK(confer_conversation_message_count(NULL) == 0 && confer_conversation_json(NULL, &len) == NULL && len == 0);
    confer_conversation_free(NULL);
}

/* Setters of the chat: values that they accept and refuse. */
static void what_a_chat_request_takes_is_within_its_bounds(void) {
    confer_chat_request *request = chat_request("hi");
    typedef confer_status (*set_number)(confer_chat_request *, double, confer_error **);
    static const struct { set_number set; double least, most; } numbers[] = {
        {confer_chat_request_set_temperature, 0, 1e9},        {confer_chat_request_set_top_p, 1e-9, 1},
        {confer_chat_request_set_min_p, 0, 1},                {confer_chat_request_set_presence_penalty, -2, 2},
        {confer_chat_request_set_frequency_penalty, -2, 2},   {confer_chat_request_set_repetition_penalty, 1e-9, 1e9}};
    for (size_t at = 0; at < sizeof numbers / sizeof *numbers; at++) {
        const double zero = 0, bad[] = {-2.1, zero / zero, 1 / zero, -1 / zero};
        CHECK_OK(numbers[at].set(request, numbers[at].least, &error));
        CHECK_OK(numbers[at].set(request, numbers[at].most, &error));
        REFUSES("request", numbers[at].set(NULL, numbers[at].most, &error));
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, numbers[at].set(request, bad[i], &error));
        if (numbers[at].most <= 2) CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, numbers[at].set(request, 2.1, &error));
    }
    CHECK_OK(confer_chat_request_set_top_k(request, -1, &error));
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_chat_request_set_top_k(request, 0, &error));
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_chat_request_set_top_k(request, -2, &error));
    CHECK_OK(confer_chat_request_set_max_tokens(request, 1, &error));
    CHECK_OK(confer_chat_request_set_max_tokens(request, 2147483647, &error));
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_chat_request_set_max_tokens(request, 0, &error));
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_chat_request_set_max_tokens(request, 2147483648, &error));
    REFUSES("request", confer_chat_request_set_top_k(NULL, 1, &error));
    REFUSES("request", confer_chat_request_set_max_tokens(NULL, 1, &error));
    REFUSES("request", confer_chat_request_set_streaming(NULL, false, &error));
    REFUSES("request", confer_chat_request_set_json(NULL, true, &error));
    REFUSES("request", confer_chat_request_set_thinking(NULL, true, &error));
    REFUSES("request", confer_chat_request_set_conversation(NULL, NULL, &error));
    confer_chat_request_free(request);
}

#define DOCUMENT_JSON(id, filename, type, bytes, key, secret)                                                        \
    "{\"attachmentId\": " id ", \"filename\": " filename ", \"contentType\": " type ", \"sourceBytes\": " bytes          \
    ", \"sourceObjectKey\": " key ", \"encryptionKey\": " secret "}"
#define SECRET "the-documents-key"

static void document_of_a_chat_is_checked_and_never_quoted(void) {
    static const struct {
        const char *json, *words;
    } bad[] = {
        {DOCUMENT_JSON("\"\"", "\"f\"", "\"t\"", "1", "\"k\"", "\"" SECRET "\""), "attachmentId"},
        {DOCUMENT_JSON("\"a b\"", "\"f\"", "\"t\"", "1", "\"k\"", "\"" SECRET "\""), "attachmentId"},
        {DOCUMENT_JSON("\"a\"", "\" \"", "\"t\"", "1", "\"k\"", "\"" SECRET "\""), "filename: it is blank"},
        {DOCUMENT_JSON("\"a\"", "7", "\"t\"", "1", "\"k\"", "\"" SECRET "\""), "filename: invalid (expected a text)"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"\"", "1", "\"k\"", "\"" SECRET "\""), "contentType"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"t\"", "0", "\"k\"", "\"" SECRET "\""), "sourceBytes: invalid value 0"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"t\"", "268435457", "\"k\"", "\"" SECRET "\""), "268435456"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"t\"", "1.5", "\"k\"", "\"" SECRET "\""), "sourceBytes: invalid"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"t\"", "1", "\"\\t\"", "\"" SECRET "\""), "sourceObjectKey"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"t\"", "1", "\"k\"", "\"\""), "encryptionKey"},
        {DOCUMENT_JSON("\"a\"", "\"f\"", "\"t\"", "1", "\"k\"", "[\"" SECRET "\"]"), "encryptionKey: invalid"},
        {"{\"attachmentId\": \"a\", \"attachmentId\": \"" SECRET "\"}", "twice"},
        {"{\"encryptionKey\": \"" SECRET "\"}", "attachmentId: it is missing"},
    };
    check_keep_secret(SECRET);
    confer_chat_request *request = chat_request("hi");
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        REFUSES(bad[at].words, confer_chat_request_add_document_json(request, bad[at].json, SIZE_MAX, &error));
    const char *good = DOCUMENT_JSON("\"a-1_B\"", "\"f\"", "\"t\"", "268435456", "\"k\"", "\"" SECRET "\", \"later\": {}");
    CHECK_ERROR(CONFER_E_INVALID_JSON, "line 1", confer_chat_request_add_document_json(request, good, 40, &error));
    CHECK_ERROR(CONFER_E_INVALID_JSON, "object", confer_chat_request_add_document_json(request, "[]", 2, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_chat_request_add_document_json(request, BAD_UTF8, 3, &error));
    REFUSES("request", confer_chat_request_add_document_json(NULL, good, SIZE_MAX, &error));
    REFUSES("json", confer_chat_request_add_document_json(request, NULL, 1, &error));
    for (int count = 0; count < 1000; count++)
        CHECK_OK(confer_chat_request_add_document_json(request, good, SIZE_MAX, &error));
    REFUSES("1000", confer_chat_request_add_document_json(request, good, SIZE_MAX, &error));
    confer_chat_request_free(request);
}

/* ---- each route ----------------------------------------------------------------------------------------------------- */

static void a_ping_tells_its_round_trip(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (int turn = 0; turn < 2; turn++) {
        confer_stream *stream = ping(client);
        const confer_event *event = chat_next(stream);
        CHECK(confer_event_type(event) == CONFER_EVENT_PONG && confer_event_round_trip_us(event) >= 0);
        CHECK(confer_event_embeddings(event, NULL, NULL) == NULL && confer_event_content(event, NULL) == NULL);
        CHECK_STATUS(CONFER_END, confer_stream_next(stream, -1, &event, &error));
        CHECK_STATUS(CONFER_END, confer_stream_next(stream, 0, &event, &error));
        confer_stream_free(stream);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

static void embeddings_come_a_row_for_each_text(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_embeddings_request *request = embeddings();
    static const char *const texts[] = {"one", "two", "one", ""};
    for (size_t at = 0; at < 4; at++) CHECK_OK(confer_embeddings_request_add_text(request, texts[at], SIZE_MAX, &error));
    confer_stream *stream = pull_embeddings(client, request);
    confer_embeddings_request_free(request);
    const confer_event *event = chat_next(stream);
    size_t rows = 0, columns = 0;
    const float *values = confer_event_embeddings(event, &rows, &columns);
    CHECK(confer_event_type(event) == CONFER_EVENT_EMBEDDINGS && values != NULL && rows == 4 && columns == 64);
    CHECK(memcmp(values, values + 2 * columns, columns * sizeof *values) == 0);
    CHECK(memcmp(values, values + columns, columns * sizeof *values) != 0);
    CHECK(confer_event_round_trip_us(event) == -1);
    CHECK_STATUS(CONFER_END, confer_stream_next(stream, -1, &event, &error));
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_page_is_one_body_and_a_refusal_says_why(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct outcome outcome;
    confer_fetch_request *request = page("http://example.test/");
    CHECK_OK(confer_fetch_request_set_header(request, "accept", SIZE_MAX, "text/html", SIZE_MAX, &error));
    send_fetch(client, request, &outcome);
    if (enclave_is_newer())
        CHECK(outcome.status == CONFER_END && outcome.bodies == 1 && strstr(outcome.text, "<html") != NULL);
    send_fetch(client, page("http://unreachable.test/"), &outcome);
    CHECK(outcome.status == CONFER_E_REFUSED && outcome.http_status == (enclave_is_newer() ? 502 : 404) && outcome.bodies == 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void any_route_can_be_asked_with_its_ending(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct outcome outcome;
    send_raw(client, raw("GET", "/ping", CONFER_ENDING_ONE_RESPONSE), &outcome);
    CHECK(outcome.status == CONFER_END && outcome.bodies == 1);
    CHECK_TEXT("PONG", outcome.text);
    confer_raw_request *request = raw("POST", "/v1/vllm/chat/completions", CONFER_ENDING_COMPLETION);
    CHECK_OK(confer_raw_request_set_body(request, "{\"model\": \"m\", \"stream\": true, \"webSearch\": false, \"messages\": "
                                                  "[{\"role\": \"user\", \"content\": \"raw\"}]}", SIZE_MAX, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_raw_request_set_body(request, BAD_UTF8, 3, &error)); /* the old one stays */
    confer_stream *stream = pull_raw(client, request);
    char text[100];
    chat_read(stream, text, sizeof text);
    CHECK_TEXT("You said: raw", text);
    confer_stream_free(stream);
    confer_raw_request_free(request);
    request = raw("POST", "/v2/document/extract", CONFER_ENDING_CONTENT_LENGTH);
    CHECK_OK(confer_raw_request_set_body(request, "{\"filename\": \"a.pdf\", \"total_length\": 9, \"source_object_key\": \"k\", "
                                                  "\"encryption_key\": \"e\"}", SIZE_MAX, &error));
    send_raw(client, request, &outcome);
    if (enclave_is_newer())
        CHECK(outcome.status == CONFER_END && strstr(outcome.text, "A stored document.") != NULL);
    else
        CHECK(outcome.status == CONFER_E_REFUSED && outcome.http_status == 404);
    send_raw(client, raw("GET", "/no/route", CONFER_ENDING_ONE_RESPONSE), &outcome);
    CHECK(outcome.status == CONFER_E_REFUSED && outcome.http_status == 404);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void requests_go_to_callbacks_as_chats_do(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder recorder = RECORDER;
    confer_stream_callbacks table = recorder_table(&recorder);
    confer_fetch_request *request = page("http://example.test/");
    confer_embeddings_request *incomplete = embeddings();
    CHECK_OK(confer_fetch_stream(client, request, &table, &recorder.stream, &error));
    confer_fetch_request_free(request);
    recorder_wait(&recorder, enclave_is_newer() ? CONFER_OK : CONFER_E_REFUSED);
    if (enclave_is_newer()) CHECK(gate_count(&recorder.events) == 1 && strstr(recorder.text, "<html") != NULL);
    confer_stream_free(recorder.stream);
    struct recorder failed = RECORDER;
    table = recorder_table(&failed);
    REFUSES("text", confer_embeddings_stream(client, incomplete, &table, &failed.stream, &error));
    CHECK(failed.stream == NULL && gate_count(&failed.destroyed) == 1 && gate_count(&failed.done) == 0);
    confer_embeddings_request_free(incomplete);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void the_counters_count(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct outcome outcome;
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) == 1);
    CHECK(confer_client_counter(client, CONFER_COUNTER_FAILED_ATTEMPTS) == 0);
    uint64_t sent = confer_client_counter(client, CONFER_COUNTER_MESSAGES_SENT);
    uint64_t bytes = confer_client_counter(client, CONFER_COUNTER_BYTES_RECEIVED);
    send_fetch(client, page("http://example.test/"), &outcome);
    CHECK(confer_client_counter(client, CONFER_COUNTER_MESSAGES_SENT) > sent);
    CHECK(confer_client_counter(client, CONFER_COUNTER_MESSAGES_RECEIVED) > 0);
    /* The connection's task may count bytes a moment after their event. */
    while (confer_client_counter(client, CONFER_COUNTER_BYTES_SENT) == 0) check_pause();
    while (confer_client_counter(client, CONFER_COUNTER_BYTES_RECEIVED) < bytes + outcome.used) check_pause();
    CHECK(confer_client_counter(client, -1) == 0 && confer_client_counter(client, 999) == 0);
    CHECK(confer_client_counter(NULL, CONFER_COUNTER_CONNECTIONS) == 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- documents ------------------------------------------------------------------------------------------------------ */

/* An application's document of `len` bytes, which encode their position. */
struct document {
    int64_t len, at;
    int64_t total;      /* total_length of its request */
    int64_t give_up_at; /* position at which a read returns -1; negative: never */
    size_t most;        /* bytes of one call */
    struct gate *entered, *may_go; /* NULL, or a read reports its start and waits */
    struct gate reads, destroyed;
    pthread_t destroyed_by;
};

#define DOCUMENT(length) {.len = (length), .total = -1, .give_up_at = -1, .most = 100000, .reads = GATE, .destroyed = GATE}

static uint8_t byte_at(int64_t at) {
    return (uint8_t)('a' + at % 23);
}

static int64_t read_document(void *user_data, uint8_t *buffer, size_t size) {
    struct document *document = user_data;
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    CHECK(gate_count(&document->destroyed) == 0 && size > 0);
    CHECK(size <= 1 << 20 && (document->total < 0 || (int64_t)size <= document->total - document->at));
    gate_raise(&document->reads);
    if (document->entered != NULL) gate_raise(document->entered);
    if (document->may_go != NULL) gate_wait(document->may_go, 1);
    if (document->give_up_at >= 0 && document->at >= document->give_up_at) return -1;
    size_t most = document->most < size ? document->most : size, count = 0;
    while (count < most && document->at < document->len) buffer[count++] = byte_at(document->at++);
    return (int64_t)count;
}

static void on_document_destroyed(void *user_data) {
    struct document *document = user_data;
    document->destroyed_by = pthread_self();
    gate_raise(&document->destroyed);
}

static confer_extraction_request *extraction_of(struct document *document, int64_t total) {
    confer_extraction_request *request = extraction();
    document->total = total;
    CHECK_OK(confer_extraction_request_set_document_callback(request, total, read_document, document, on_document_destroyed, &error));
    return request;
}

static void check_extracted(const struct outcome *outcome, int64_t len) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "note.pdf: %lld bytes, SHA-256 ", (long long)len);
    CHECK(outcome->status == CONFER_END && outcome->received == (int64_t)strlen(outcome->text));
    CHECK(strstr(outcome->text, wanted) != NULL);
}

static void a_document_is_given_from_memory_a_file_or_a_callback_and_arrives_the_same(void) {
    enum { LEN = 2500000 };
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct outcome outcomes[4];
    struct document known = DOCUMENT(LEN), unknown = DOCUMENT(LEN);
    char path[] = "/tmp/confer-test-XXXXXX";
    uint8_t *bytes = malloc(LEN);
    int fd = mkstemp(path);
    CHECK(bytes != NULL && fd >= 0);
    for (int at = 0; at < LEN; at++) bytes[at] = byte_at(at);
    CHECK(write(fd, bytes, LEN) == LEN && close(fd) == 0);

    confer_extraction_request *request = extraction();
    CHECK_OK(confer_extraction_request_set_document_bytes(request, bytes, LEN, &error));
    memset(bytes, 0, LEN); /* it was copied */
    free(bytes);
    send_extraction(client, request, &outcomes[0]);
    request = extraction();
    CHECK_OK(confer_extraction_request_set_document_file(request, path, SIZE_MAX, &error));
    CHECK(unlink(path) == 0); /* it was opened */
    send_extraction(client, request, &outcomes[1]);
    send_extraction(client, extraction_of(&known, LEN), &outcomes[2]);
    send_extraction(client, extraction_of(&unknown, -1), &outcomes[3]);
    for (int at = 0; at < 4; at++) {
        if (at == 3 && enclave_is_newer()) { /* it demands the length */
            CHECK(outcomes[at].status == CONFER_E_REFUSED && outcomes[at].http_status == 400);
            continue;
        }
        check_extracted(&outcomes[at], LEN);
        CHECK(outcomes[at].progresses >= 1 && outcomes[at].sent == LEN);
        CHECK_TEXT(outcomes[0].text, outcomes[at].text); /* same digest */
    }
    gate_wait(&known.destroyed, 1);
    gate_wait(&unknown.destroyed, 1);
    enclave_close(client);
    CHECK(gate_count(&known.destroyed) == 1 && gate_count(&unknown.destroyed) == 1);
    enclave_stop(&enclave);
}

/* Newer servers demand a length, of at least one byte. */
static void check_empty(const struct outcome *outcome) {
    if (enclave_is_newer())
        CHECK(outcome->status == CONFER_E_REFUSED && outcome->http_status == 400);
    else
        check_extracted(outcome, 0);
}

static void an_empty_document_is_extracted_or_refused(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct document known = DOCUMENT(0), unknown = DOCUMENT(0);
    struct outcome outcome;
    confer_extraction_request *request = extraction();
    CHECK_OK(confer_extraction_request_set_document_bytes(request, NULL, 0, &error));
    send_extraction(client, request, &outcome);
    check_empty(&outcome);
    send_extraction(client, extraction_of(&known, 0), &outcome);
    check_empty(&outcome);
    send_extraction(client, extraction_of(&unknown, -1), &outcome);
    check_empty(&outcome);
    enclave_close(client);
    CHECK(gate_count(&known.destroyed) == 1 && gate_count(&unknown.destroyed) == 1);
    enclave_stop(&enclave);
}

static void options_reach_the_enclave(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct outcome outcome;
    confer_extraction_request *request = extraction();
    CHECK_OK(confer_extraction_request_set_document_bytes(request, (const uint8_t *)"plain words", 11, &error));
    CHECK_OK(confer_extraction_request_set_option(request, "content_type", SIZE_MAX, "\"text/plain\"", SIZE_MAX, &error));
    CHECK_OK(confer_extraction_request_set_option(request, "ocr", SIZE_MAX, "false", SIZE_MAX, &error));
    send_extraction(client, request, &outcome);
    CHECK(outcome.status == CONFER_END && strstr(outcome.text, "\"md_content\":\"plain words\"") != NULL);
    request = extraction();
    CHECK_OK(confer_extraction_request_set_document_bytes(request, (const uint8_t *)"x", 1, &error));
    CHECK_OK(confer_extraction_request_set_option(request, "content_type", SIZE_MAX, "\"a/b\"", SIZE_MAX, &error));
    send_extraction(client, request, &outcome);
    if (enclave_is_newer())
        CHECK(outcome.status == CONFER_E_REFUSED && outcome.http_status == 415);
    else
        check_extracted(&outcome, 1); /* it takes every type */
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_callbacks_document_is_sent_once_and_others_as_often_as_wanted(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct document document = DOCUMENT(1000);
    struct outcome outcome;
    confer_stream *stream = NULL;
    confer_extraction_request *request = extraction_of(&document, 1000);
    receive(pull_extraction(client, request), &outcome);
    check_extracted(&outcome, 1000);
    REFUSES("earlier start", confer_extraction_stream(client, request, NULL, &stream, &error));
    CHECK_OK(confer_extraction_request_set_document_bytes(request, (const uint8_t *)"other", 5, &error));
    for (int turn = 0; turn < 2; turn++) {
        receive(pull_extraction(client, request), &outcome);
        check_extracted(&outcome, 5);
    }
    confer_extraction_request_free(request);
    gate_wait(&document.destroyed, 1);
    enclave_close(client);
    CHECK(gate_count(&document.destroyed) == 1);
    enclave_stop(&enclave);
}

static void a_document_that_is_never_sent_is_destroyed_in_the_call_that_lets_go_of_it(void) {
    struct document documents[5];
    for (int at = 0; at < 5; at++) documents[at] = (struct document)DOCUMENT(10);
    confer_extraction_request *request = extraction_of(&documents[0], 10);
    CHECK_OK(confer_extraction_request_set_document_callback(request, -1, read_document, &documents[1], on_document_destroyed, &error));
    CHECK(gate_count(&documents[0].destroyed) == 1 && gate_count(&documents[1].destroyed) == 0);
    REFUSES("total_length", confer_extraction_request_set_document_callback(request, -2, read_document, &documents[4], on_document_destroyed,
                                                                               &error));
    REFUSES("total_length", confer_extraction_request_set_document_stream(request, -2, &error));
    REFUSES("total_length", confer_extraction_request_set_document_stream(request, INT64_MIN, &error));
    REFUSES("read", confer_extraction_request_set_document_callback(request, 1, NULL, &documents[2], on_document_destroyed, &error));
    REFUSES("request", confer_extraction_request_set_document_callback(NULL, 1, read_document, &documents[3], on_document_destroyed,
                                                                       &error));
    CHECK(gate_count(&documents[1].destroyed) == 0);
    confer_extraction_request_free(request);
    for (int at = 0; at < 5; at++) {
        CHECK(gate_count(&documents[at].destroyed) == 1 && gate_count(&documents[at].reads) == 0);
        CHECK(pthread_equal(documents[at].destroyed_by, pthread_self()));
    }
}

static void reading_that_gives_up_lies_or_ends_early_ends_the_stream(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct document gives_up = DOCUMENT(3000000), ends_early = DOCUMENT(1000);
    struct outcome outcome;
    gives_up.give_up_at = 1500000;
    send_extraction(client, extraction_of(&gives_up, 3000000), &outcome);
    CHECK(outcome.status == CONFER_E_STOPPED && outcome.bodies == 0);
    send_extraction(client, extraction_of(&ends_early, 1001), &outcome);
    CHECK(outcome.status == CONFER_E_INVALID_ARGUMENT);
    chat_says(client, "still here", "You said: still here");
    enclave_close(client);
    CHECK(gate_count(&gives_up.destroyed) == 1 && gate_count(&ends_early.destroyed) == 1);
    enclave_stop(&enclave);
}

static void a_file_that_becomes_shorter_ends_the_stream(void) {
    enum { LEN = 3000000 };
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct outcome outcome;
    char path[] = "/tmp/confer-test-XXXXXX";
    int fd = mkstemp(path);
    CHECK(fd >= 0 && ftruncate(fd, LEN) == 0);
    confer_extraction_request *request = extraction();
    CHECK_OK(confer_extraction_request_set_document_file(request, path, SIZE_MAX, &error));
    CHECK(ftruncate(fd, 10) == 0 && close(fd) == 0 && unlink(path) == 0);
    send_extraction(client, request, &outcome);
    CHECK(outcome.status == CONFER_E_FILE);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* In every order, during a read on the callback thread. */
static void handles_can_be_freed_in_every_order_while_a_document_is_read(void) {
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    enclave_start(&enclave, NULL);
    for (size_t order = 0; order < sizeof orders / sizeof *orders; order++) {
        struct gate entered = GATE, may_go = GATE;
        struct document document = DOCUMENT(3000000);
        document.entered = &entered;
        document.may_go = &may_go;
        confer_client *client = enclave_connect(&enclave);
        confer_extraction_request *request = extraction_of(&document, -1);
        confer_stream *stream = pull_extraction(client, request);
        gate_wait(&entered, 1);
        for (int at = 0; at < 3; at++) {
            if (orders[order][at] == 0) confer_stream_free(stream);
            if (orders[order][at] == 1) confer_extraction_request_free(request);
            if (orders[order][at] == 2) confer_client_free(client);
        }
        CHECK(gate_count(&document.destroyed) == 0);
        gate_raise(&may_go);
        gate_wait(&document.destroyed, 1);
        CHECK(!pthread_equal(document.destroyed_by, pthread_self()));
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&document.destroyed) == 1);
    }
    enclave_stop(&enclave);
}

static void a_cancelled_upload_reads_no_further(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct gate entered = GATE, may_go = GATE;
    struct document document = DOCUMENT(INT64_MAX);
    struct outcome outcome;
    document.entered = &entered;
    document.may_go = &may_go;
    confer_extraction_request *request = extraction_of(&document, -1);
    confer_stream *stream = pull_extraction(client, request);
    confer_extraction_request_free(request);
    gate_wait(&entered, 1);
    confer_stream_cancel(stream);
    gate_raise(&may_go);
    gate_wait(&document.destroyed, 1);
    receive(stream, &outcome);
    CHECK(outcome.status == CONFER_E_CANCELLED);
    chat_says(client, "next", "You said: next");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void the_eleventh_upload_waits_for_a_place(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct gate may_go = GATE;
    struct document waiting = DOCUMENT(1000);
    confer_stream *streams[10], *eleventh = NULL;
    struct outcome outcome;
    waiting.may_go = &may_go;
    confer_extraction_request *first = extraction_of(&waiting, 1000), *request = extraction();
    CHECK_OK(confer_extraction_request_set_document_bytes(request, (const uint8_t *)"x", 1, &error));
    struct document others[9];
    for (int at = 0; at < 10; at++) {
        if (at > 0) others[at - 1] = (struct document)DOCUMENT(1000);
        confer_extraction_request *one = at == 0 ? first : extraction_of(&others[at - 1], 1000);
        streams[at] = pull_extraction(client, one); /* all wait for the callback thread */
        confer_extraction_request_free(one);
    }
    eleventh = pull_extraction(client, request);
    const confer_event *event = NULL;
    chat_says(client, "after it", "You said: after it");
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(eleventh, 0, &event, &error)); /* otherwise its progress would come */
    gate_raise(&may_go);
    for (int at = 0; at < 10; at++) {
        receive(streams[at], &outcome);
        check_extracted(&outcome, 1000);
    }
    confer_extraction_request_free(request);
    receive(eleventh, &outcome);
    check_extracted(&outcome, 1);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_start_that_fails_leaves_a_callbacks_document_to_be_sent(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct document document = DOCUMENT(1000);
    struct outcome outcome;
    confer_stream *stream = NULL;
    confer_extraction_request *request = extraction_of(&document, 1000);
    CHECK_OK(confer_close(client, -1, &error));
    CHECK_STATUS(CONFER_E_CLOSED, confer_extraction_stream(client, request, NULL, &stream, &error));
    confer_client_free(client);
    CHECK(stream == NULL && gate_count(&document.reads) == 0 && gate_count(&document.destroyed) == 0);
    client = enclave_connect(&enclave);
    send_extraction(client, request, &outcome);
    check_extracted(&outcome, 1000);
    enclave_close(client);
    CHECK(gate_count(&document.destroyed) == 1);
    enclave_stop(&enclave);
}

/* ---- conversations -------------------------------------------------------------------------------------------------- */

static confer_conversation *conversation(void) {
    confer_conversation *it = NULL;
    CHECK_OK(confer_conversation_new(&it, &error));
    return it;
}

static void what_a_conversation_cannot_take_is_refused(void) {
    confer_conversation *it = conversation(), *out = it;
    REFUSES("conversation", confer_conversation_new(NULL, &error));
    REFUSES("json", confer_conversation_parse(NULL, 2, &out, &error));
    CHECK(out == NULL);
    REFUSES("conversation", confer_conversation_parse("{}", 2, NULL, &error));
    REFUSES("conversation", confer_conversation_add_message(NULL, CONFER_ROLE_USER, "x", 1, &error));
    REFUSES("content", confer_conversation_add_message(it, CONFER_ROLE_USER, NULL, 1, &error));
    REFUSES("role", confer_conversation_add_message(it, 6, "x", 1, &error));
    REFUSES("role", confer_conversation_add_message(it, -1, "x", 1, &error));
    CHECK_STATUS(CONFER_E_INVALID_UTF8, confer_conversation_add_message(it, CONFER_ROLE_USER, BAD_UTF8, 3, &error));
    REFUSES("conversation", confer_conversation_truncate(NULL, 0, &error));
    static const char *const bad[] = {"", "{", "[]", "{}", "{\"version\": 2, \"messages\": []}",
                                      "{\"version\": 1, \"messages\": [], \"more\": 1}",
                                      "{\"version\": 1, \"messages\": [1]}"};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        CHECK_STATUS(CONFER_E_INVALID_JSON, confer_conversation_parse(bad[at], SIZE_MAX, &out, &error));
    CHECK(out == NULL && confer_conversation_message_count(it) == 0);
    confer_conversation_free(it);
}

/* Asks within a conversation. */
static confer_stream *ask(confer_client *client, const confer_conversation *it, const char *prompt) {
    confer_chat_request *request = chat_request(prompt);
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_request_set_conversation(request, it, &error));
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    confer_chat_request_free(request);
    return stream;
}

static void a_conversation_grows_by_what_was_answered_and_by_nothing_else(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_conversation *it = conversation(), *copy = NULL;
    struct outcome outcome;
    char text[4096];
    int64_t most = 7;
    size_t len = 0;
    CHECK(confer_conversation_context_tokens(it, &most) == -1 && most == -1);
    CHECK_OK(confer_conversation_add_message(it, CONFER_ROLE_SYSTEM, "Be brief.", SIZE_MAX, &error));
    confer_stream *stream = ask(client, it, "one");
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    CHECK(confer_conversation_message_count(it) == 3 && confer_conversation_context_tokens(it, &most) > 0 && most > 0);
    receive(ask(client, it, "/status 503"), &outcome);
    CHECK(outcome.status == CONFER_E_REFUSED && confer_conversation_message_count(it) == 3);
    stream = ask(client, it, "/silent");
    chat_next(stream);
    confer_stream_free(stream);
    CHECK(confer_conversation_message_count(it) == 3);

    /* Written, parsed, and continued. */
    const char *json = confer_conversation_json(it, &len);
    CHECK(json != NULL && strlen(json) == len && strstr(json, "You said: one") != NULL);
    CHECK_OK(confer_conversation_parse(json, len, &copy, &error));
    CHECK_TEXT(json, confer_conversation_json(copy, NULL));
    stream = ask(client, copy, "/echo-messages");
    chat_read(stream, text, sizeof text);
    confer_stream_free(stream);
    CHECK_TEXT("[{\"content\":\"Be brief.\",\"role\":\"system\"},{\"content\":\"one\",\"role\":\"user\"},"
               "{\"content\":\"You said: one\",\"role\":\"assistant\"},{\"content\":\"/echo-messages\",\"role\":\"user\"}]",
               text);
    CHECK(confer_conversation_message_count(copy) == 5 && confer_conversation_message_count(it) == 3);
    CHECK_OK(confer_conversation_truncate(copy, 1, &error));
    CHECK_OK(confer_conversation_truncate(copy, 100, &error));
    CHECK(confer_conversation_message_count(copy) == 1);
    confer_conversation_free(copy);

    /* Freed during an answer, which still completes. */
    stream = ask(client, it, "last words");
    confer_conversation_free(it);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT("You said: last words", text);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_chat_that_is_not_streamed_is_one_body(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hello there");
    confer_stream *stream = NULL;
    struct outcome outcome;
    CHECK_OK(confer_chat_request_set_streaming(request, false, &error));
    CHECK_OK(confer_chat_request_set_json(request, true, &error));
    CHECK_OK(confer_chat_request_set_thinking(request, false, &error));
    CHECK_OK(confer_chat_request_add_document_json(
        request, DOCUMENT_JSON("\"a\"", "\"b.md\"", "\"text/markdown\"", "1", "\"k\"", "\"e\""), SIZE_MAX, &error));
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    confer_chat_request_free(request);
    receive(stream, &outcome);
    CHECK(outcome.status == CONFER_END && outcome.bodies == 1);
    CHECK_TEXT("You said: hello there", outcome.text);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(a_missing_pointer_is_named),
        PROMISE(incomplete_request_is_refused_at_its_start),
        PROMISE(values_that_cannot_be_are_refused),
        PROMISE(limits_of_memory_have_bounds),
        PROMISE(a_limit_of_requests_holds),
        PROMISE(getters_of_nothing_answer_nothing),
        PROMISE(what_a_chat_request_takes_is_within_its_bounds),
        PROMISE(document_of_a_chat_is_checked_and_never_quoted),
        PROMISE(a_ping_tells_its_round_trip),
        PROMISE(embeddings_come_a_row_for_each_text),
        PROMISE(a_page_is_one_body_and_a_refusal_says_why),
        PROMISE(any_route_can_be_asked_with_its_ending),
        PROMISE(requests_go_to_callbacks_as_chats_do),
        PROMISE(the_counters_count),
        PROMISE(a_document_is_given_from_memory_a_file_or_a_callback_and_arrives_the_same),
        PROMISE(an_empty_document_is_extracted_or_refused),
        PROMISE(options_reach_the_enclave),
        PROMISE(a_callbacks_document_is_sent_once_and_others_as_often_as_wanted),
        PROMISE(a_document_that_is_never_sent_is_destroyed_in_the_call_that_lets_go_of_it),
        PROMISE(reading_that_gives_up_lies_or_ends_early_ends_the_stream),
        PROMISE(a_file_that_becomes_shorter_ends_the_stream),
        PROMISE(handles_can_be_freed_in_every_order_while_a_document_is_read),
        PROMISE(a_cancelled_upload_reads_no_further),
        PROMISE(the_eleventh_upload_waits_for_a_place),
        PROMISE(a_start_that_fails_leaves_a_callbacks_document_to_be_sent),
        PROMISE(what_a_conversation_cannot_take_is_refused),
        PROMISE(a_conversation_grows_by_what_was_answered_and_by_nothing_else),
        PROMISE(a_chat_that_is_not_streamed_is_one_body),
    };
    return KEEP_PROMISES(promises);
}
