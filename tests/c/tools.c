/*
 * Tools that the model calls: events that want an answer, the rounds that follow, and who may answer
 * when.
 */
#include "recorder.h"

static struct enclave enclave;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)
#define IS_STALE(call) CHECK_STATUS(CONFER_E_STALE, call)
#define ANSWER(event, text) confer_event_answer_tool(event, text, SIZE_MAX, &error)
#define SCHEMA "{\"type\": \"object\"}"
#define CALL "/client-tool look {\"at\": \"it\"}"

enum { ROUNDS = 16, PATIENT_MS = 60000, SHORT_MS = 2000 };

static void add_tool(confer_chat_request *request, const char *name) {
    CHECK_OK(confer_chat_request_add_tool(request, name, SIZE_MAX, "Looks.", SIZE_MAX, SCHEMA, SIZE_MAX, &error));
}

/* A request whose calls of "look" want an answer. */
static confer_chat_request *asking(const char *prompt, uint32_t rounds, uint64_t timeout_ms) {
    confer_chat_request *request = chat_request(prompt);
    add_tool(request, "look");
    CHECK_OK(confer_chat_request_set_tool_rounds(request, rounds, timeout_ms, &error));
    return request;
}

static confer_stream *pull(confer_client *client, confer_chat_request *request) {
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    confer_chat_request_free(request);
    return stream;
}

static confer_stream *ask(confer_client *client, const char *prompt) {
    return pull(client, asking(prompt, ROUNDS, PATIENT_MS));
}

/* Reads up to the next tool call. The stream lends it. */
static const confer_event *next_call(confer_stream *stream) {
    const confer_event *event = chat_next(stream);
    while (confer_event_type(event) != CONFER_EVENT_CLIENT_TOOL_CALL) event = chat_next(stream);
    return event;
}

/* Reads up to the next tool call, which wants an answer, and returns a clone. */
static confer_event *keep_call(confer_stream *stream) {
    const confer_event *event = next_call(stream);
    CHECK(confer_event_wants_answer(event));
    confer_event *kept = confer_event_clone(event);
    CHECK(kept != NULL && confer_event_wants_answer(kept));
    return kept;
}

static void says(confer_stream *stream, const char *answer) {
    char text[4096];
    chat_read(stream, text, sizeof text);
    CHECK_TEXT(answer, text);
    confer_stream_free(stream);
}

/* Reads to the end, which is a failure, and checks how far the request had come. */
static void fails(confer_stream *stream, confer_status expected) {
    const confer_event *event = NULL;
    confer_error *error = NULL;
    confer_status status;
    while ((status = confer_stream_next(stream, -1, &event, &error)) == CONFER_OK) continue;
    check_status(__FILE__, __LINE__, "confer_stream_next", expected, "", status, error);
    CHECK(confer_error_progress(error) == CONFER_PROGRESS_PARTLY_ANSWERED);
    confer_error_free(error);
}

static confer_client *open_enclave(void) {
    enclave_start(&enclave, NULL);
    return enclave_connect(&enclave);
}

static void close_enclave(confer_client *client) {
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- answering a call ------------------------------------------------------------------------ */

static void lent_call_is_answered(void) {
    size_t len = 7;
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, CALL);
    const confer_event *call = next_call(stream);
    CHECK(confer_event_wants_answer(call));
    CHECK_TEXT("look", confer_event_tool_name(call, &len));
    CHECK(len == 4 && confer_event_tool_call_id(call, &len) != NULL && len > 0);
    CHECK_TEXT("{\"at\": \"it\"}", confer_event_tool_arguments(call, NULL));
    CHECK_OK(confer_event_answer_tool(call, "seen\0", 5, &error));
    CHECK(confer_event_type(chat_next(stream)) == CONFER_EVENT_COMPLETION);
    says(stream, "The tool answered: seen"); /* the answer contains a NUL */
    close_enclave(client);
}

static void failed_tool_gives_the_model_the_reason(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, CALL);
    CHECK_OK(confer_event_fail_tool(next_call(stream), "it is dark", SIZE_MAX, &error));
    says(stream, "The tool answered: Error: it is dark");
    close_enclave(client);
}

static void call_takes_one_answer_and_refuses_invalid_ones(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, "/tool-rounds 2 look {}");
    confer_event *call = keep_call(stream);
    REFUSES("content", confer_event_answer_tool(call, NULL, 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "content", confer_event_answer_tool(call, "a\xff", 2, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "reason", confer_event_fail_tool(call, "a\xff", 2, &error));
    char *large = malloc(20000001);
    CHECK(large != NULL);
    memset(large, 'x', 20000001);
    CHECK_STATUS(CONFER_E_TOO_LARGE, confer_event_answer_tool(call, large, 20000001, &error));
    free(large);
    CHECK_OK(confer_event_answer_tool(call, "", 0, &error)); /* an empty answer is valid */
    IS_STALE(ANSWER(call, "again"));
    confer_event *second = keep_call(stream);
    IS_STALE(confer_event_fail_tool(call, "again", SIZE_MAX, &error));
    CHECK_OK(ANSWER(second, "two"));
    says(stream, "The tools answered:  | two");
    IS_STALE(ANSWER(call, "again"));
    CHECK_TEXT("look", confer_event_tool_name(call, NULL));
    confer_event_free(call);
    confer_event_free(second);
    close_enclave(client);
}

static void lent_call_fails_when_the_next_event_is_read(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, CALL);
    next_call(stream);
    says(stream, "The tool answered: Error: the tool gave no answer");
    close_enclave(client);
}

static void last_clone_freed_unanswered_fails_the_call(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, CALL);
    confer_event *first = keep_call(stream), *second = confer_event_clone(first);
    CHECK(confer_event_type(chat_next(stream)) == CONFER_EVENT_COMPLETION);
    confer_event_free(first);
    const confer_event *event = NULL;
    CHECK_STATUS(CONFER_TIMEOUT, confer_stream_next(stream, 0, &event, &error)); /* the other one may still answer */
    confer_event_free(second);
    says(stream, "The tool answered: Error: the tool gave no answer");
    close_enclave(client);
}

struct answers {
    confer_event *calls[64];
    int count, threads;
    atomic_int next;
};

/* Answers calls, the last one first. */
static void *answer_calls(void *data) {
    struct answers *answers = data;
    char content[16];
    for (int at; (at = answers->count - 1 - atomic_fetch_add(&answers->next, 1)) >= 0;) {
        snprintf(content, sizeof content, "%d", at);
        CHECK_OK(ANSWER(answers->calls[at], content));
        confer_event_free(answers->calls[at]);
    }
    return NULL;
}

static void parallel_calls_are_answered_by_other_threads(void) {
    static const struct { const char *prompt, *answer; int count, threads; } sizes[] = {
        {"/client-tools 3 look {}", "The tools answered: 0 | 1 | 2", 3, 1}, {"/client-tools 64 look {}", NULL, 64, 4}};
    confer_client *client = open_enclave();
    for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
        struct answers answers = {.count = sizes[size].count};
        pthread_t threads[4];
        char text[4096];
        confer_stream *stream = ask(client, sizes[size].prompt);
        for (int at = 0; at < answers.count; at++) answers.calls[at] = keep_call(stream);
        for (int at = 0; at < sizes[size].threads; at++)
            CHECK(pthread_create(&threads[at], NULL, answer_calls, &answers) == 0);
        chat_read(stream, text, sizeof text); /* waits for them */
        if (sizes[size].answer != NULL) CHECK_TEXT(sizes[size].answer, text);
        else CHECK(strstr(text, "answered: 0 | 1 | 2 | 3") != NULL && strstr(text, "| 62 | 63") != NULL);
        for (int at = 0; at < sizes[size].threads; at++) CHECK(pthread_join(threads[at], NULL) == 0);
        confer_stream_free(stream);
    }
    close_enclave(client);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void late_call_fails_and_its_answer_is_stale(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = pull(client, asking("/tool-rounds 2 look {}", ROUNDS, SHORT_MS));
    confer_event *late = keep_call(stream);
    const confer_event *next = next_call(stream);
    IS_STALE(ANSWER(late, "late")); /* before the stream can end: then it would be dropped */
    CHECK_OK(ANSWER(next, "in time"));
    confer_event_free(late);
    says(stream, "The tools answered: Error: no answer within 2000 ms | in time");
    close_enclave(client);
}

static void time_limit_begins_with_the_delivery(void) {
    confer_client *client = open_enclave();
    confer_stream *slow = chat_pull(client, "/slow 50 80"); /* takes 4 s, twice as long as the limit */
    confer_stream *stream = pull(client, asking(CALL, ROUNDS, SHORT_MS));
    chat_read(slow, NULL, 0);
    confer_stream_free(slow);
    CHECK_OK(ANSWER(next_call(stream), "in time"));
    says(stream, "The tool answered: in time");
    close_enclave(client);
}

static void idle_limit_rests_while_answers_are_owed(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    enclave_set_idle(config, 2000);
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    confer_stream *silent = chat_pull(client, "/silent"), *stream = ask(client, CALL);
    confer_event *call = keep_call(stream);
    const confer_event *event = NULL;
    chat_next(silent);
    CHECK_STATUS(CONFER_E_STREAM_IDLE, confer_stream_next(silent, -1, &event, &error)); /* that long */
    CHECK_OK(ANSWER(call, "ok"));
    says(stream, "The tool answered: ok");
    confer_event_free(call);
    confer_stream_free(silent);
    close_enclave(client);
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static void endless_calls_stop_at_the_round_limit(void) {
    confer_client *client = open_enclave();
    for (uint32_t rounds = 0; rounds < 3; rounds++) {
        confer_stream *stream = pull(client, asking("/endless-tool look {}", rounds, PATIENT_MS));
        for (uint32_t round = 0; round < rounds; round++) CHECK_OK(ANSWER(next_call(stream), "ok"));
        const confer_event *call = next_call(stream);
        CHECK(!confer_event_wants_answer(call)); /* one that the application must not run */
        REFUSES("wants no answer", ANSWER(call, "x"));
        CHECK(confer_event_pending_tool_calls(chat_next(stream)));
        fails(stream, CONFER_E_TOOL_ROUNDS);
        confer_stream_free(stream);
    }
    close_enclave(client);
}

/* Each round begins when the one before has ended: together they take one place. */
static void rounds_take_one_place_of_the_requests(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_limit(config, CONFER_LIMIT_REQUESTS, 1, &error));
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    confer_stream *stream = pull(client, asking("/tool-rounds 100 look {}", 100, PATIENT_MS));
    for (int round = 0; round < 100; round++) CHECK_OK(ANSWER(next_call(stream), "x"));
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    close_enclave(client);
}

static void call_of_an_unknown_tool_fails_by_itself(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, "/client-tools 2 other {}");
    CHECK(!confer_event_wants_answer(next_call(stream)) && !confer_event_wants_answer(next_call(stream)));
    says(stream, "The tools answered: Error: there is no tool of this name | Error: there is no tool of this name");
    close_enclave(client);
}

static void tools_given_as_json_are_asked_for_too(void) {
    confer_client *client = open_enclave();
    confer_chat_request *request = chat_request(CALL);
    const char *tools = "[{\"name\": \"look\", \"description\": \"Looks.\", \"parameters\": {\"type\": \"object\"}}]";
    CHECK_OK(confer_chat_request_set_property(request, "clientTools", SIZE_MAX, tools, SIZE_MAX, &error));
    CHECK_OK(confer_chat_request_set_tool_rounds(request, ROUNDS, PATIENT_MS, &error));
    confer_stream *stream = pull(client, request);
    CHECK_OK(ANSWER(next_call(stream), "ok"));
    says(stream, "The tool answered: ok");
    close_enclave(client);
}

static void chat_whose_tools_want_answers_is_not_collected(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, CALL);
    const char *text = NULL;
    REFUSES("want answers", confer_stream_collect(stream, -1, &text, NULL, &error));
    CHECK(text == NULL);
    CHECK_OK(ANSWER(next_call(stream), "ok"));
    says(stream, "The tool answered: ok");
    close_enclave(client);
}

static void application_continues_by_itself_without_rounds(void) {
    char text[200] = "", call[200];
    confer_client *client = open_enclave();
    confer_chat_request *request = chat_request("/client-tool look {}");
    confer_stream *stream = NULL;
    add_tool(request, "look");
    CHECK_OK(confer_chat_stream(client, request, NULL, &stream, &error));
    const confer_event *event = next_call(stream);
    CHECK(!confer_event_wants_answer(event));
    REFUSES("wants no answer", ANSWER(event, "x"));
    REFUSES("wants no answer", confer_event_fail_tool(event, "x", 1, &error));
    CHECK_TEXT("{}", confer_event_tool_arguments(event, NULL));
    const char *id = confer_event_tool_call_id(event, NULL);
    snprintf(call, sizeof call, "{\"toolCallId\": \"%s\", \"toolName\": \"look\", \"toolArguments\": \"{}\"}", id);
    snprintf(text, sizeof text, "{\"toolCallId\": \"%s\", \"toolName\": \"look\", \"content\": \"mine\"}", id);
    CHECK(confer_event_pending_tool_calls(chat_next(stream)));
    CHECK_STATUS(CONFER_END, confer_stream_next(stream, -1, &event, &error));
    confer_stream_free(stream);
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_TOOL_CALL, call, SIZE_MAX, &error));
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_TOOL_RESPONSE, text, SIZE_MAX, &error));
    says(pull(client, request), "The tool answered: mine");
    CHECK(check_count_named("confer-callback") == 0);
    close_enclave(client);
}

static void conversation_has_tool_calls_and_results(void) {
    confer_client *client = open_enclave();
    confer_conversation *conversation = NULL;
    confer_chat_request *request = asking(CALL, ROUNDS, PATIENT_MS);
    CHECK_OK(confer_conversation_new(&conversation, &error));
    CHECK_OK(confer_chat_request_set_conversation(request, conversation, &error));
    confer_stream *stream = pull(client, request);
    CHECK_OK(ANSWER(next_call(stream), "ok"));
    says(stream, "The tool answered: ok");
    const char *json = confer_conversation_json(conversation, NULL);
    CHECK(confer_conversation_message_count(conversation) == 4);
    CHECK(strstr(json, "\"tool_call\"") != NULL && strstr(json, "\"tool_response\"") != NULL);
    CHECK(strstr(json, "The tool answered: ok") != NULL);
    confer_conversation_free(conversation);
    close_enclave(client);
}

/* ---- callbacks ------------------------------------------------------------------------------- */

static int32_t answer_at_once(struct recorder *recorder, const confer_event *event) {
    (void)recorder;
    if (confer_event_wants_answer(event)) CHECK_OK(ANSWER(event, "ok"));
    return 0;
}

static void callbacks_answer_round_after_round(void) {
    confer_client *client = open_enclave();
    atomic_int inside = 0;
    struct recorder recorders[2] = {RECORDER, RECORDER};
    for (int at = 0; at < 2; at++) {
        confer_chat_request *request = asking("/tool-rounds 5 look {}", 5, PATIENT_MS);
        confer_stream_callbacks table = recorder_table(&recorders[at]);
        recorders[at].inside = &inside;
        recorders[at].react = answer_at_once;
        CHECK_OK(confer_chat_stream(client, request, &table, &recorders[at].stream, &error));
        confer_chat_request_free(request);
    }
    for (int at = 0; at < 2; at++) {
        recorder_wait(&recorders[at], CONFER_OK);
        recorders[at].text[recorders[at].used] = '\0';
        CHECK_TEXT("The tools answered: ok | ok | ok | ok | ok", recorders[at].text);
        confer_stream_free(recorders[at].stream);
    }
    close_enclave(client);
}

static void call_fails_when_on_event_returns(void) {
    confer_client *client = open_enclave();
    struct recorder recorder = RECORDER;
    confer_chat_request *request = asking(CALL, ROUNDS, PATIENT_MS);
    confer_stream_callbacks table = recorder_table(&recorder);
    CHECK_OK(confer_chat_stream(client, request, &table, &recorder.stream, &error));
    confer_chat_request_free(request);
    recorder_wait(&recorder, CONFER_OK);
    recorder.text[recorder.used] = '\0';
    CHECK_TEXT("The tool answered: Error: the tool gave no answer", recorder.text);
    confer_stream_free(recorder.stream);
    close_enclave(client);
}

static int32_t keep_and_free_all(struct recorder *recorder, const confer_event *event) {
    if (!confer_event_wants_answer(event)) return 0;
    recorder->data = confer_event_clone(event);
    confer_stream_free(recorder->stream);
    confer_client_free(recorder->client);
    return 0;
}

static void on_event_frees_all_handles_during_a_call(void) {
    enclave_start(&enclave, NULL);
    struct recorder recorder = RECORDER;
    confer_chat_request *request = asking(CALL, ROUNDS, PATIENT_MS);
    confer_stream_callbacks table = recorder_table(&recorder);
    recorder.client = enclave_connect(&enclave);
    recorder.react = keep_and_free_all;
    CHECK_OK(confer_chat_stream(recorder.client, request, &table, &recorder.stream, &error));
    confer_chat_request_free(request);
    recorder_wait(&recorder, CONFER_E_CANCELLED);
    CHECK_OK(confer_runtime_wait(-1, &error));
    CHECK_OK(ANSWER(recorder.data, "nobody needs it"));
    confer_event_free(recorder.data);
    enclave_stop(&enclave);
}

/* ---- lifetime -------------------------------------------------------------------------------- */

enum { STREAM, CLIENT, CALL_EVENT, HANDLES };

/* Makes permutation `which` of the handles. */
static void nth_order(int which, int order[HANDLES]) {
    int left[HANDLES] = {STREAM, CLIENT, CALL_EVENT};
    for (int at = 0; at < HANDLES; at++) {
        int choice = which % (HANDLES - at);
        which /= HANDLES - at;
        order[at] = left[choice];
        for (int i = choice; i + 1 < HANDLES - at; i++) left[i] = left[i + 1];
    }
}

static void handles_are_freed_in_any_order_during_a_call(void) {
    enclave_start(&enclave, NULL);
    for (int which = 0; which < 12; which++) {
        int order[HANDLES];
        confer_client *client = enclave_connect(&enclave);
        confer_stream *stream = ask(client, CALL);
        confer_event *call = keep_call(stream);
        nth_order(which % 6, order);
        for (int at = 0; at < HANDLES; at++) {
            if (order[at] == CALL_EVENT && which < 6) CHECK_OK(ANSWER(call, "x"));
            if (order[at] == STREAM) confer_stream_free(stream);
            if (order[at] == CLIENT) confer_client_free(client);
            if (order[at] == CALL_EVENT) confer_event_free(call);
        }
        CHECK_OK(confer_runtime_wait(-1, &error));
    }
    enclave_stop(&enclave);
}

static void cancel_and_close_end_a_stream_in_mid_round(void) {
    enclave_start(&enclave, NULL);
    for (int closes = 0; closes < 2; closes++) {
        confer_client *client = enclave_connect(&enclave);
        confer_stream *stream = ask(client, "/client-tools 2 look {}");
        confer_event *first = keep_call(stream), *second = keep_call(stream);
        CHECK_OK(ANSWER(first, "x"));
        if (closes) CHECK_OK(confer_close(client, -1, &error));
        else confer_stream_cancel(stream);
        fails(stream, closes ? CONFER_E_CLOSED : CONFER_E_CANCELLED);
        CHECK_OK(ANSWER(second, "nobody needs it"));
        IS_STALE(ANSWER(second, "again"));
        confer_stream_free(stream);
        enclave_close(client);
        IS_STALE(ANSWER(first, "again"));
        confer_event_free(first);
        confer_event_free(second);
    }
    enclave_stop(&enclave);
}

static void cancelled_stream_sends_no_further_round(void) {
    confer_client *client = open_enclave();
    confer_stream *stream = ask(client, CALL);
    confer_event *call = keep_call(stream);
    confer_stream_cancel(stream);
    confer_event_free(call);
    confer_stream_free(stream);
    chat_says(client, "hi", "You said: hi");
    CHECK(enclave_count(&enclave, "/v1/vllm/chat/completions") == 2);
    close_enclave(client);
}

/* ---- invalid calls --------------------------------------------------------------------------- */

static void invalid_tool_is_refused(void) {
    confer_chat_request *request = chat_request("hi");
    add_tool(request, "look");
    static const struct { const char *name, *description, *parameters; confer_status status; const char *words; } bad[] = {
        {NULL, "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "name"},   {"a", NULL, SCHEMA, CONFER_E_INVALID_ARGUMENT, "description"},
        {"a", "d", NULL, CONFER_E_INVALID_ARGUMENT, "parameters"}, {"", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "name"},
        {"look", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "name"}, {"a", "d", "{", CONFER_E_INVALID_JSON, "line 1"},
        {" ", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "blank"},   {"page_fetch", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "server"},
        {"a", "d", "[]", CONFER_E_INVALID_JSON, "object"},        {"a\xff", "d", SCHEMA, CONFER_E_INVALID_UTF8, "name"}};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++)
        CHECK_ERROR(bad[at].status, bad[at].words,
                    confer_chat_request_add_tool(request, bad[at].name, SIZE_MAX, bad[at].description, SIZE_MAX,
                                                 bad[at].parameters, SIZE_MAX, &error));
    REFUSES("request", confer_chat_request_add_tool(NULL, "a", 1, "d", 1, SCHEMA, SIZE_MAX, &error));
    REFUSES("request", confer_chat_request_set_tool_rounds(NULL, 1, 1, &error));
    REFUSES("max_rounds", confer_chat_request_set_tool_rounds(request, 1001, 1, &error));
    REFUSES("timeout_ms", confer_chat_request_set_tool_rounds(request, 1, 0, &error));
    REFUSES("timeout_ms", confer_chat_request_set_tool_rounds(request, 1, 86400001, &error));
    confer_chat_request_free(request);
    REFUSES("event", ANSWER(NULL, "x"));
    REFUSES("event", confer_event_fail_tool(NULL, "x", 1, &error));
    CHECK(!confer_event_wants_answer(NULL) && confer_event_clone(NULL) == NULL);
    confer_event_free(NULL);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(lent_call_is_answered),
        PROMISE(failed_tool_gives_the_model_the_reason),
        PROMISE(call_takes_one_answer_and_refuses_invalid_ones),
        PROMISE(lent_call_fails_when_the_next_event_is_read),
        PROMISE(last_clone_freed_unanswered_fails_the_call),
        PROMISE(parallel_calls_are_answered_by_other_threads),
        PROMISE(late_call_fails_and_its_answer_is_stale),
        PROMISE(time_limit_begins_with_the_delivery),
        PROMISE(idle_limit_rests_while_answers_are_owed),
        PROMISE(endless_calls_stop_at_the_round_limit),
        PROMISE(rounds_take_one_place_of_the_requests),
        PROMISE(call_of_an_unknown_tool_fails_by_itself),
        PROMISE(tools_given_as_json_are_asked_for_too),
        PROMISE(chat_whose_tools_want_answers_is_not_collected),
        PROMISE(application_continues_by_itself_without_rounds),
        PROMISE(conversation_has_tool_calls_and_results),
        PROMISE(callbacks_answer_round_after_round),
        PROMISE(call_fails_when_on_event_returns),
        PROMISE(on_event_frees_all_handles_during_a_call),
        PROMISE(handles_are_freed_in_any_order_during_a_call),
        PROMISE(cancel_and_close_end_a_stream_in_mid_round),
        PROMISE(cancelled_stream_sends_no_further_round),
        PROMISE(invalid_tool_is_refused),
    };
    return KEEP_PROMISES(promises);
}
