/*
 * vectors.c: runs the conformance vectors of tests/vectors through the C API.
 *
 * vectors [--print] FILE... compares each vector's results with those in its file. --print writes
 * the results instead. tests/vectors/README.md defines their form.
 */
#include "enclave.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <pthread.h>

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

/* The constant of a name. Those of an enumeration are below 1,000. */
static int32_t constant_of(const char *(*name_of)(int32_t), const char *name) {
    int32_t value = 0;
    while (value < 1000 && strcmp(name_of(value), name) != 0) value++;
    CHECK(value < 1000);
    return value;
}

/* A text, or a list of texts and repeated texts, joined. */
static char *joined(const cJSON *parts) {
    const cJSON *part;
    size_t len = 0;
    if (!cJSON_IsArray(parts)) return strdup(parts->valuestring);
    cJSON_ArrayForEach(part, parts)
        len += cJSON_IsString(part) ? strlen(part->valuestring)
                                    : strlen(text_of(part, "repeat")) * (size_t)of(part, "times")->valuedouble;
    char *text = malloc(len + 1), *end = text;
    CHECK(text != NULL);
    *text = '\0';
    cJSON_ArrayForEach(part, parts) {
        int times = cJSON_IsString(part) ? 1 : of(part, "times")->valueint;
        for (const char *once = cJSON_IsString(part) ? part->valuestring : text_of(part, "repeat"); times > 0; times--)
            end = stpcpy(end, once);
    }
    return text;
}

/* ---- results --------------------------------------------------------------------------------- */

static cJSON *result_of(confer_status status, const confer_error *error) {
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

/* Adds an event to a list. Joins neighbouring pieces of a body, and leaves out empty ones. Keeps the last of neighbouring
 * progress. */
static void add_event(cJSON *events, const confer_event *event) {
    const char *content = confer_event_content(event, NULL);
    size_t rows = 0, columns = 0;
    int64_t total = -1;
    const float *values;
    int32_t type = confer_event_type(event);
    const cJSON *last = cJSON_GetArrayItem(events, cJSON_GetArraySize(events) - 1);
    if (type == CONFER_EVENT_BODY && *content == '\0') return;
    if (type == CONFER_EVENT_PROGRESS && last != NULL && strcmp(text_of(last, "type"), "CONFER_EVENT_PROGRESS") == 0)
        cJSON_DeleteItemFromArray(events, cJSON_GetArraySize(events) - 1);
    if (type == CONFER_EVENT_BODY && last != NULL && strcmp(text_of(last, "type"), "CONFER_EVENT_BODY") == 0) {
        const char *before = text_of(last, "content");
        char *longer = malloc(strlen(before) + strlen(content) + 1);
        CHECK(longer != NULL);
        strcpy(stpcpy(longer, before), content);
        cJSON_SetValuestring(cJSON_GetObjectItemCaseSensitive(last, "content"), longer);
        free(longer);
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
    case CONFER_EVENT_PROGRESS:
        add_count(to, "sent", confer_event_sent(event, &total));
        add_count(to, "total", total);
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
    confer_error_free(error);
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
    confer_error_free(error);
    return results;
}

/* ---- exchanges ------------------------------------------------------------------------------- */

/* Calls the next function of a request only if the ones before succeeded. */
#define THEN(call) (status = status == CONFER_OK ? (call) : status)

/* The conversation of all chats, if the vector has one. */
static confer_conversation *conversation;

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
    THEN(confer_chat_request_set_conversation(request, conversation, error));
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
    char *document = joined(of(asked, "document"));
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
    free(document);
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
    confer_raw_request *request = NULL;
    const char *body = cJSON_GetStringValue(of(asked, "body"));
    confer_status status = confer_raw_request_new(text_of(asked, "verb"), CONFER_NTS, text_of(asked, "path"), CONFER_NTS,
                                                  constant_of(confer_ending_name, text_of(asked, "ending")), &request, error);
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
    else CHECK_OK(confer_event_fail_tool(event, "no answer", CONFER_NTS, &error));
}

/* Reads a stream to its end, or cancels it where the vector says so. */
static cJSON *finish(struct exchange exchange, const cJSON *asked) {
    cJSON *events = cJSON_CreateArray();
    const cJSON *cancel = of(asked, "cancel_after");
    bool progress = cJSON_IsTrue(of(asked, "progress"));
    confer_status status = exchange.status;
    while (status == CONFER_OK) {
        const confer_event *event = NULL;
        if (cancel != NULL && cJSON_GetArraySize(events) == cancel->valueint) confer_stream_cancel(exchange.stream);
        status = confer_stream_next(exchange.stream, -1, &event, &exchange.error);
        if (status != CONFER_OK) break;
        if (progress || confer_event_type(event) != CONFER_EVENT_PROGRESS) add_event(events, event);
        answer(event, of(asked, "answers"));
    }
    cJSON *result = result_of(status == CONFER_END ? CONFER_OK : status, exchange.error);
    cJSON_AddItemToObject(result, "events", events);
    if (conversation != NULL && strcmp(text_of(asked, "kind"), "chat") == 0)
        cJSON_AddItemToObject(result, "conversation", cJSON_Parse(confer_conversation_json(conversation, NULL)));
    confer_error_free(exchange.error);
    confer_stream_free(exchange.stream);
    return result;
}

/* ---- watches --------------------------------------------------------------------------------- */

struct watch {
    const cJSON *vector; /* the vector's `watch`, or NULL */
    cJSON *events;
    int questions;
    struct exchange of;
    pthread_t thread;
};

/* Replies to a question, and adds the status of each reply to its event. */
static void reply_to(struct watch *watch, const confer_event *event, cJSON *to) {
    cJSON *statuses = cJSON_AddArrayToObject(to, "replies");
    const cJSON *reply, *replies = cJSON_GetArrayItem(of(watch->vector, "replies"), watch->questions++);
    cJSON_ArrayForEach(reply, replies) {
        const char *token = cJSON_GetStringValue(of(reply, "token")), *reason = cJSON_GetStringValue(of(reply, "refuse"));
        confer_status status = token != NULL    ? confer_event_answer_token(event, token, CONFER_NTS, NULL)
                               : reason != NULL ? confer_event_refuse_token(event, reason, CONFER_NTS, NULL)
                                                : confer_event_answer_release(event, cJSON_IsTrue(of(reply, "accept")), NULL);
        cJSON_AddItemToArray(statuses, cJSON_CreateString(confer_status_name(status)));
    }
}

static void add_client_event(struct watch *watch, const confer_event *event) {
    int32_t type = confer_event_type(event);
    const confer_error *error = confer_event_error(event);
    if (type == CONFER_EVENT_STAGE) return;
    cJSON *to = cJSON_CreateObject();
    cJSON_AddStringToObject(to, "type", confer_event_type_name(type));
    switch (type) {
    case CONFER_EVENT_CONNECTED: cJSON_AddBoolToObject(to, "release_changed", confer_event_release_changed(event)); break;
    case CONFER_EVENT_RETRY: cJSON_AddNumberToObject(to, "attempt", confer_event_attempt(event)); /* fallthrough */
    case CONFER_EVENT_DISCONNECTED:
        cJSON_AddItemToObject(to, "error", error != NULL ? result_of(confer_error_status(error), error) : cJSON_CreateNull());
        break;
    case CONFER_EVENT_ASK_TOKEN:
        cJSON_AddStringToObject(to, "reason", confer_token_reason_name(confer_event_token_reason(event)));
        reply_to(watch, event, to);
        break;
    case CONFER_EVENT_ASK_RELEASE: reply_to(watch, event, to); break;
    default: break;
    }
    cJSON_AddItemToArray(watch->events, to);
}

/* Reads the watch up to so many events, or to its end. */
static void watch_read(struct watch *watch, int count) {
    const confer_event *event = NULL;
    while (watch->of.status == CONFER_OK && cJSON_GetArraySize(watch->events) < count) {
        watch->of.status = confer_stream_next(watch->of.stream, -1, &event, &watch->of.error);
        if (watch->of.status == CONFER_OK) add_client_event(watch, event);
    }
}

static void *watch_run(void *data) {
    struct watch *watch = data;
    const cJSON *count = of(watch->vector, "close_after");
    watch_read(watch, cJSON_IsNumber(count) ? count->valueint : INT_MAX);
    return NULL;
}

static void watch_begin(struct watch *watch, confer_client *client) {
    watch->events = cJSON_CreateArray();
    watch->of.stream = client_watch(client);
    CHECK(pthread_create(&watch->thread, NULL, watch_run, watch) == 0);
}

/* Reads the rest, after the client was closed. */
static cJSON *watch_finish(struct watch *watch) {
    watch_read(watch, INT_MAX);
    cJSON *result = result_of(watch->of.status == CONFER_END ? CONFER_OK : watch->of.status, watch->of.error);
    cJSON_AddItemToObject(result, "events", watch->events);
    confer_error_free(watch->of.error);
    confer_stream_free(watch->of.stream);
    return result;
}

/* ---- an exchange ----------------------------------------------------------------------------- */

static confer_config *config_of(const struct enclave *enclave, const cJSON *vector) {
    const cJSON *token = of(vector, "token"), *item;
    confer_config *config = token != NULL ? enclave_config_without_token(enclave) : enclave_config(enclave);
    if (cJSON_IsString(token)) CHECK_OK(confer_config_set_token(config, token->valuestring, CONFER_NTS, &error));
    cJSON_ArrayForEach(item, of(vector, "durations_ms"))
        CHECK_OK(confer_config_set_duration_ms(config, constant_of(confer_duration_name, item->string),
                                               (uint64_t)item->valuedouble, &error));
    cJSON_ArrayForEach(item, of(vector, "limits"))
        CHECK_OK(confer_config_set_limit(config, constant_of(confer_limit_name, item->string), (uint64_t)item->valuedouble,
                                         &error));
    uint32_t ask = 0;
    cJSON_ArrayForEach(item, of(vector, "ask"))
        ask |= strcmp(item->valuestring, "CONFER_ASK_TOKEN") == 0 ? CONFER_ASK_TOKEN : CONFER_ASK_RELEASE;
    CHECK_OK(confer_config_set_ask(config, ask, &error));
    return config;
}

static confer_conversation *conversation_of(const cJSON *vector) {
    const cJSON *begun = of(vector, "conversation");
    confer_conversation *made = NULL;
    char *json = cJSON_IsObject(begun) ? cJSON_PrintUnformatted(begun) : NULL;
    if (json != NULL) CHECK_OK(confer_conversation_parse(json, CONFER_NTS, &made, &error));
    else if (begun != NULL) CHECK_OK(confer_conversation_new(&made, &error));
    free(json);
    return made;
}

static cJSON *exchange(const char *file, const cJSON *vector) {
    const cJSON *requests = of(vector, "requests");
    bool together = cJSON_IsTrue(of(vector, "together"));
    struct enclave enclave;
    struct exchange exchanges[16];
    struct watch watch = {.vector = of(vector, "watch")};
    int count = cJSON_GetArraySize(requests), ended = -1;
    CHECK(count <= 16);
    enclave_start_with(&enclave, NULL, "--script", file);
    confer_config *config = config_of(&enclave, vector);
    confer_client *client = NULL;
    if (watch.vector == NULL) CHECK_OK(confer_connect(config, &client, &error));
    else CHECK_OK(confer_connect_start(config, &client, &error));
    confer_config_free(config);
    if (watch.vector != NULL) watch_begin(&watch, client);
    conversation = conversation_of(vector);

    cJSON *results = cJSON_CreateArray();
    for (int n = 0; n < count && together; n++) exchanges[n] = start(client, cJSON_GetArrayItem(requests, n));
    for (int n = 0; n < count; n++) {
        const cJSON *asked = cJSON_GetArrayItem(requests, n);
        cJSON_AddItemToArray(results, finish(together ? exchanges[n] : start(client, asked), asked));
    }
    if (watch.vector != NULL) CHECK(pthread_join(watch.thread, NULL) == 0);
    enclave_close(client);
    if (watch.vector != NULL) cJSON_AddItemToArray(results, watch_finish(&watch));
    confer_conversation_free(conversation);
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
            char *expected = cJSON_Print(of(vector, "results")), *actual = cJSON_Print(results);
            if (print) printf("%s\n", actual);
            else printf("%s: expected %s\nactual %s\n", argv[n], expected, actual);
            failed += !print;
            free(expected);
            free(actual);
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
