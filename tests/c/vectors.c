/*
 * vectors.c: runs the conformance vectors of tests/vectors through the C API.
 *
 * vectors [--print] FILE... compares each vector's results with those in its file. --print writes
 * the results instead. tests/vectors/README.md defines their form.
 */
#include "enclave.h"

#include <cjson/cJSON.h>

/* ---- reading a vector ------------------------------------------------------------------------ */

static char *read_file(const char *folder, const char *name, size_t *len) {
    char path[1024];
    snprintf(path, sizeof path, "%s%s%s", folder, *folder != '\0' ? "/" : "", name);
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    *len = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*len + 1);
    CHECK(text != NULL && fread(text, 1, *len, file) == *len);
    text[*len] = '\0';
    fclose(file);
    return text;
}

static const cJSON *of(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static const char *text_of(const cJSON *object, const char *key) {
    const char *text = cJSON_GetStringValue(of(object, key));
    CHECK(text != NULL);
    return text;
}

/* The number of a name in a list that ends with NULL. */
static int32_t index_of(const char *const *names, const char *name) {
    int32_t at = 0;
    while (names[at] != NULL && strcmp(names[at], name) != 0) at++;
    CHECK(names[at] != NULL);
    return at;
}

/* ---- results --------------------------------------------------------------------------------- */

/* A result. Frees the error. */
static cJSON *result_of(confer_status status, confer_error *error) {
    cJSON *result = cJSON_CreateObject();
    bool failed = error != NULL;
    const char *check = confer_error_check_id(error, NULL), *text = confer_error_peer_text(error, NULL);
    int32_t http = confer_error_http_status(error);
    cJSON_AddStringToObject(result, "status", confer_status_name(status));
    cJSON_AddItemToObject(result, "check", check != NULL ? cJSON_CreateString(check) : cJSON_CreateNull());
    cJSON_AddItemToObject(result, "http_status", http != 0 ? cJSON_CreateNumber(http) : cJSON_CreateNull());
    cJSON_AddItemToObject(result, "progress",
                          failed ? cJSON_CreateString(confer_progress_name(confer_error_progress(error))) : cJSON_CreateNull());
    cJSON_AddItemToObject(result, "retryable", failed ? cJSON_CreateBool(confer_error_retryable(error)) : cJSON_CreateNull());
    cJSON_AddItemToObject(result, "peer_text", text != NULL ? cJSON_CreateString(text) : cJSON_CreateNull());
    confer_error_free(error);
    return result;
}

static cJSON *report_of(const confer_report *report) {
    if (report == NULL) return cJSON_CreateNull();
    cJSON *json = cJSON_Parse(confer_report_json(report, NULL)), *check;
    CHECK(json != NULL);
    cJSON_ArrayForEach(check, of(json, "checks")) {
        cJSON_DeleteItemFromObject(check, "detail");
        cJSON_DeleteItemFromObject(check, "expected");
        cJSON_DeleteItemFromObject(check, "observed");
    }
    return json;
}

static void add_text(cJSON *object, const char *key, const char *text) {
    cJSON_AddStringToObject(object, key, text != NULL ? text : "");
}

static void add_count(cJSON *object, const char *key, int64_t count) {
    cJSON_AddItemToObject(object, key, count >= 0 ? cJSON_CreateNumber((double)count) : cJSON_CreateNull());
}

static void add_tool(cJSON *to, const confer_event *event) {
    add_text(to, "tool_call_id", confer_event_tool_call_id(event, NULL));
    add_text(to, "tool_name", confer_event_tool_name(event, NULL));
}

/* Adds an event to a list. Joins neighbouring pieces of a body. Leaves out empty ones, and progress. */
static void add_event(cJSON *events, const confer_event *event) {
    const char *content = confer_event_content(event, NULL);
    size_t rows = 0, columns = 0;
    const float *values;
    int32_t type = confer_event_type(event);
    const cJSON *last = cJSON_GetArrayItem(events, cJSON_GetArraySize(events) - 1);
    if (type == CONFER_EVENT_PROGRESS || (type == CONFER_EVENT_BODY && *content == '\0')) return;
    if (type == CONFER_EVENT_BODY && last != NULL && strcmp(text_of(last, "type"), "CONFER_EVENT_BODY") == 0) {
        const char *before = text_of(last, "content");
        char *joined = malloc(strlen(before) + strlen(content) + 1);
        CHECK(joined != NULL);
        strcpy(stpcpy(joined, before), content);
        cJSON_SetValuestring(cJSON_GetObjectItemCaseSensitive(last, "content"), joined);
        free(joined);
        return;
    }
    cJSON *to = cJSON_CreateObject(), *row;
    cJSON_AddStringToObject(to, "type", confer_event_type_name(type));
    switch (type) {
    case CONFER_EVENT_TOKEN:
    case CONFER_EVENT_THINKING:
    case CONFER_EVENT_BODY: add_text(to, "content", content); break;
    case CONFER_EVENT_SERVER_TOOL_RESPONSE:
        add_tool(to, event);
        add_text(to, "content", content);
        add_text(to, "full_content", confer_event_full_content(event, NULL));
        break;
    case CONFER_EVENT_SERVER_TOOL_CALL:
    case CONFER_EVENT_CLIENT_TOOL_CALL:
        add_tool(to, event);
        add_text(to, "tool_arguments", confer_event_tool_arguments(event, NULL));
        if (type == CONFER_EVENT_CLIENT_TOOL_CALL)
            cJSON_AddBoolToObject(to, "wants_answer", confer_event_wants_answer(event));
        break;
    case CONFER_EVENT_COMPLETION:
        cJSON_AddBoolToObject(to, "pending_tool_calls", confer_event_pending_tool_calls(event));
        add_count(to, "context_tokens", confer_event_context_tokens(event));
        add_count(to, "max_context_tokens", confer_event_max_context_tokens(event));
        break;
    case CONFER_EVENT_EMBEDDINGS:
        values = confer_event_embeddings(event, &rows, &columns);
        cJSON *list = cJSON_AddArrayToObject(to, "values");
        for (size_t n = 0; n < rows; n++) {
            cJSON_AddItemToArray(list, row = cJSON_CreateArray());
            for (size_t m = 0; m < columns; m++) cJSON_AddItemToArray(row, cJSON_CreateNumber(values[n * columns + m]));
        }
        break;
    case CONFER_EVENT_PONG: break;
    default: cJSON_AddItemToObject(to, "json", cJSON_Parse(confer_event_json(event, NULL)));
    }
    cJSON_AddItemToArray(events, to);
}

/* ---- evidence -------------------------------------------------------------------------------- */

static cJSON *verify(const char *folder, const cJSON *evidence) {
    size_t policy_len, export_len;
    char *policy_text = read_file(folder, text_of(evidence, "policy"), &policy_len);
    char *export_text = read_file(folder, text_of(evidence, "export"), &export_len);
    const cJSON *at = of(evidence, "at");
    confer_policy *policy = NULL;
    confer_report *report = NULL;
    confer_error *error = NULL;
    confer_status status = confer_policy_parse(policy_text, policy_len, &policy, &error);
    if (status == CONFER_OK)
        status = confer_evidence_verify(export_text, export_len, policy, cJSON_IsNumber(at) ? (int64_t)at->valuedouble : -1,
                                        &report, &error);
    cJSON *shown = report_of(report != NULL ? report : confer_error_report(error));
    cJSON *result = result_of(status, error);
    cJSON_AddItemToObject(result, "report", shown);
    confer_report_free(report);
    confer_policy_free(policy);
    free(policy_text);
    free(export_text);
    cJSON *results = cJSON_CreateArray();
    cJSON_AddItemToArray(results, result);
    return results;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static cJSON *connect_to(const cJSON *vector) {
    struct enclave enclave;
    confer_client *client = NULL;
    confer_error *error = NULL;
    enclave_start(&enclave, text_of(vector, "fault"));
    confer_config *config = enclave_config(&enclave);
    confer_status status = confer_connect(config, &client, &error);
    confer_config_free(config);
    if (client != NULL) enclave_close(client);
    enclave_stop(&enclave);
    cJSON *results = cJSON_CreateArray();
    cJSON_AddItemToArray(results, result_of(status, error));
    return results;
}

/* ---- exchanges ------------------------------------------------------------------------------- */

/* Calls the next function of a request only if the ones before succeeded. */
#define THEN(call) (status = status == CONFER_OK ? (call) : status)

static confer_status start_chat(confer_client *client, const cJSON *asked, confer_stream **stream, confer_error **error) {
    confer_chat_request *request = NULL;
    confer_status status = confer_chat_request_new(&request, error);
    const cJSON *item, *rounds = of(asked, "tool_rounds"), *streaming = of(asked, "streaming");
    char *json;
    cJSON_ArrayForEach(item, of(asked, "messages")) {
        json = cJSON_PrintUnformatted(item);
        THEN(confer_chat_request_add_message_json(request, json, CONFER_NTS, error));
        free(json);
    }
    cJSON_ArrayForEach(item, of(asked, "tools")) {
        json = cJSON_PrintUnformatted(of(item, "parameters"));
        THEN(confer_chat_request_add_tool(request, text_of(item, "name"), CONFER_NTS, text_of(item, "description"), CONFER_NTS,
                                          json, CONFER_NTS, error));
        free(json);
    }
    if (rounds != NULL) THEN(confer_chat_request_set_tool_rounds(request, (uint32_t)rounds->valueint, 60000, error));
    if (streaming != NULL) THEN(confer_chat_request_set_streaming(request, cJSON_IsTrue(streaming), error));
    cJSON_ArrayForEach(item, of(asked, "properties")) {
        json = cJSON_PrintUnformatted(item);
        THEN(confer_chat_request_set_property(request, item->string, CONFER_NTS, json, CONFER_NTS, error));
        free(json);
    }
    THEN(confer_chat_stream(client, request, NULL, stream, error));
    confer_chat_request_free(request);
    return status;
}

static confer_status start_embeddings(confer_client *client, const cJSON *asked, confer_stream **stream, confer_error **error) {
    confer_embeddings_request *request = NULL;
    confer_status status = confer_embeddings_request_new(&request, error);
    const cJSON *text;
    cJSON_ArrayForEach(text, of(asked, "texts"))
        THEN(confer_embeddings_request_add_text(request, text->valuestring, CONFER_NTS, error));
    THEN(confer_embeddings_request_set_is_query(request, cJSON_IsTrue(of(asked, "is_query")), error));
    THEN(confer_embeddings_stream(client, request, NULL, stream, error));
    confer_embeddings_request_free(request);
    return status;
}

static confer_status start_extraction(confer_client *client, const cJSON *asked, confer_stream **stream, confer_error **error) {
    confer_extraction_request *request = NULL;
    const char *document = text_of(asked, "document");
    const cJSON *option;
    confer_status status = confer_extraction_request_new(text_of(asked, "filename"), CONFER_NTS, &request, error);
    cJSON_ArrayForEach(option, of(asked, "options")) {
        char *json = cJSON_PrintUnformatted(option);
        THEN(confer_extraction_request_set_option(request, option->string, CONFER_NTS, json, CONFER_NTS, error));
        free(json);
    }
    THEN(confer_extraction_request_set_document_bytes(request, (const uint8_t *)document, strlen(document), error));
    THEN(confer_extraction_stream(client, request, NULL, stream, error));
    confer_extraction_request_free(request);
    return status;
}

static confer_status start_fetch(confer_client *client, const cJSON *asked, confer_stream **stream, confer_error **error) {
    confer_fetch_request *request = NULL;
    const cJSON *header;
    confer_status status = confer_fetch_request_new(text_of(asked, "url"), CONFER_NTS, &request, error);
    cJSON_ArrayForEach(header, of(asked, "headers"))
        THEN(confer_fetch_request_set_header(request, header->string, CONFER_NTS, header->valuestring, CONFER_NTS, error));
    THEN(confer_fetch_stream(client, request, NULL, stream, error));
    confer_fetch_request_free(request);
    return status;
}

static confer_status start_raw(confer_client *client, const cJSON *asked, confer_stream **stream, confer_error **error) {
    static const char *const endings[] = {"CONFER_ENDING_ONE_RESPONSE", "CONFER_ENDING_COMPLETION",
                                          "CONFER_ENDING_CONTENT_LENGTH", NULL};
    confer_raw_request *request = NULL;
    const char *body = cJSON_GetStringValue(of(asked, "body"));
    confer_status status = confer_raw_request_new(text_of(asked, "verb"), CONFER_NTS, text_of(asked, "path"), CONFER_NTS,
                                                  index_of(endings, text_of(asked, "ending")), &request, error);
    if (body != NULL) THEN(confer_raw_request_set_body(request, body, CONFER_NTS, error));
    THEN(confer_raw_stream(client, request, NULL, stream, error));
    confer_raw_request_free(request);
    return status;
}

static confer_status start_ping(confer_client *client, const cJSON *asked, confer_stream **stream, confer_error **error) {
    (void)asked;
    return confer_ping_stream(client, NULL, stream, error);
}

struct exchange {
    confer_stream *stream;
    confer_status status;
    confer_error *error;
};

static struct exchange start(confer_client *client, const cJSON *asked) {
    static const char *const kinds[] = {"chat", "embeddings", "extraction", "fetch", "raw", "ping", NULL};
    static confer_status (*const starts[])(confer_client *, const cJSON *, confer_stream **, confer_error **) = {
        start_chat, start_embeddings, start_extraction, start_fetch, start_raw, start_ping};
    struct exchange exchange = {0};
    exchange.status = starts[index_of(kinds, text_of(asked, "kind"))](client, asked, &exchange.stream, &exchange.error);
    return exchange;
}

static void answer(const confer_event *event, const cJSON *answers) {
    if (!confer_event_wants_answer(event)) return;
    const char *content = cJSON_GetStringValue(of(answers, confer_event_tool_call_id(event, NULL)));
    if (content != NULL) CHECK_OK(confer_event_answer_tool(event, content, CONFER_NTS, &error));
    else CHECK_OK(confer_event_fail_tool(event, "the vector has no answer", CONFER_NTS, &error));
}

/* Reads a stream to its end, or cancels it where the vector says so. */
static cJSON *finish(struct exchange exchange, const cJSON *asked) {
    cJSON *events = cJSON_CreateArray();
    const cJSON *cancel = of(asked, "cancel_after");
    confer_status status = exchange.status;
    while (status == CONFER_OK) {
        const confer_event *event = NULL;
        if (cancel != NULL && cJSON_GetArraySize(events) == cancel->valueint) confer_stream_cancel(exchange.stream);
        status = confer_stream_next(exchange.stream, -1, &event, &exchange.error);
        if (status != CONFER_OK) break;
        add_event(events, event);
        answer(event, of(asked, "answers"));
    }
    cJSON *result = result_of(status == CONFER_END ? CONFER_OK : status, exchange.error);
    cJSON_AddItemToObject(result, "events", events);
    confer_stream_free(exchange.stream);
    return result;
}

static cJSON *exchange(const char *file, const cJSON *vector) {
    const cJSON *requests = of(vector, "requests"), *idle = of(vector, "idle_ms"), *unfinished = of(vector, "unfinished_bytes");
    bool together = cJSON_IsTrue(of(vector, "together"));
    struct enclave enclave;
    struct exchange exchanges[16];
    int count = cJSON_GetArraySize(requests), ended = -1;
    CHECK(count <= 16);
    enclave_start_with(&enclave, NULL, "--script", file);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    if (idle != NULL) enclave_set_idle(config, (uint64_t)idle->valuedouble);
    if (unfinished != NULL)
        CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_UNFINISHED, (uint64_t)unfinished->valuedouble, &error));
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);

    cJSON *results = cJSON_CreateArray();
    for (int n = 0; n < count && together; n++) exchanges[n] = start(client, cJSON_GetArrayItem(requests, n));
    for (int n = 0; n < count; n++) {
        const cJSON *asked = cJSON_GetArrayItem(requests, n);
        cJSON_AddItemToArray(results, finish(together ? exchanges[n] : start(client, asked), asked));
    }
    enclave_close(client);
    close(enclave.stdin_fd);
    CHECK(waitpid(enclave.pid, &ended, 0) == enclave.pid);
    unlink(enclave.log);
    /* The enclave has written to stderr how the client left the script. */
    if (ended != 0) cJSON_AddItemToArray(results, cJSON_CreateString("the script failed"));
    return results;
}

int main(int argc, char **argv) {
    bool print = argc > 1 && strcmp(argv[1], "--print") == 0;
    int failed = 0;
    for (int n = print ? 2 : 1; n < argc; n++) {
        char folder[1024] = "";
        const char *slash = strrchr(argv[n], '/');
        if (slash != NULL) snprintf(folder, sizeof folder, "%.*s", (int)(slash - argv[n]), argv[n]);
        size_t len;
        char *text = read_file("", argv[n], &len);
        cJSON *vector = cJSON_Parse(text);
        CHECK(vector != NULL);
        alarm(CHECK_PROMISE_S);
        cJSON *results = of(vector, "evidence") != NULL  ? verify(folder, of(vector, "evidence"))
                         : of(vector, "connect") != NULL ? connect_to(of(vector, "connect"))
                                                         : exchange(argv[n], of(vector, "exchange"));
        if (print || !cJSON_Compare(of(vector, "results"), results, true)) {
            char *shown = cJSON_Print(results);
            printf(print ? "%s%s\n" : "%s: these results are not those of the vector: %s\n", print ? "" : argv[n], shown);
            failed += !print;
            free(shown);
        } else {
            printf("  %s ok\n", slash != NULL ? slash + 1 : argv[n]);
        }
        fflush(stdout);
        cJSON_Delete(results);
        cJSON_Delete(vector);
        free(text);
    }
    alarm(0);
    CHECK_OK(confer_runtime_wait(-1, &error));
    return failed != 0;
}
