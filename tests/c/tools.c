/*
 * Tools that the model calls: their calls, answers and limits, and the lifetime of the
 * application's data.
 */
#include "recorder.h"

static struct enclave enclave;

#define REFUSES(name, call) CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, name, call)
#define SCHEMA "{\"type\": \"object\"}"

/* A tool of the application, and a record of its calls. */
struct tool {
    struct gate calls, destroyed;
    void (*react)(struct tool *tool, confer_tool_call *call); /* owns the call */
    atomic_int *inside; /* running calls on the callback thread; NULL: not counted */
    confer_tool_call *held[64];
    confer_client *client; /* for `react` */
    confer_stream *stream;
    confer_chat_request *request;
    struct gate may_go;
};

#define TOOL(reaction) {.calls = GATE, .destroyed = GATE, .react = (reaction), .may_go = GATE}

static void run_tool(void *user_data, confer_tool_call *call) {
    struct tool *tool = user_data;
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    CHECK(gate_count(&tool->destroyed) == 0 && call != NULL);
    CHECK(tool->inside == NULL || atomic_fetch_add(tool->inside, 1) == 0);
    tool->react(tool, call);
    if (tool->inside != NULL) atomic_fetch_sub(tool->inside, 1);
    gate_raise(&tool->calls);
}

static void on_tool_destroyed(void *user_data) {
    gate_raise(&((struct tool *)user_data)->destroyed);
}

static void add_tool(confer_chat_request *request, struct tool *tool) {
    CHECK_OK(confer_chat_request_add_tool(request, "look", SIZE_MAX, "Looks.", SIZE_MAX, SCHEMA, SIZE_MAX, run_tool, tool,
                                          on_tool_destroyed, &error));
}

static confer_stream *pull(const confer_client *client, const confer_chat_request *request) {
    confer_stream *stream = NULL;
    CHECK_OK(confer_chat_pull(client, request, &stream, &error));
    return stream;
}

static confer_stream *ask(const confer_client *client, struct tool *tool, const char *prompt) {
    confer_chat_request *request = chat_request(prompt);
    add_tool(request, tool);
    confer_stream *stream = pull(client, request);
    confer_chat_request_free(request);
    return stream;
}

/* Sends a prompt that makes the model call the tool, and checks the answer. */
static void tool_says(struct tool *tool, const char *prompt, const char *answer) {
    char text[4096];
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = ask(client, tool, prompt);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT(answer, text);
    confer_stream_free(stream);
    gate_wait(&tool->destroyed, 1);
    enclave_close(client);
    CHECK(gate_count(&tool->destroyed) == 1);
    enclave_stop(&enclave);
}

/* ---- answering a call ------------------------------------------------------------------------ */

static void answer_at_once(struct tool *tool, confer_tool_call *call) {
    size_t len = 7;
    (void)tool;
    CHECK_TEXT("look", confer_tool_call_name(call, &len));
    CHECK(len == 4 && confer_tool_call_id(call, &len) != NULL && len > 0);
    CHECK_TEXT("{\"at\": \"it\"}", confer_tool_call_arguments(call, NULL));
    CHECK_OK(confer_tool_call_answer(call, "seen\0", 5, &error));
    confer_tool_call_free(call);
}

static void tool_answers_in_its_callback(void) {
    struct tool tool = TOOL(answer_at_once);
    tool_says(&tool, "/client-tool look {\"at\": \"it\"}", "The tool answered: seen"); /* the answer contains a NUL */
    CHECK(gate_count(&tool.calls) == 1);
}

static void fail_at_once(struct tool *tool, confer_tool_call *call) {
    (void)tool;
    CHECK_OK(confer_tool_call_fail(call, "it is dark", SIZE_MAX, &error));
    confer_tool_call_free(call);
}

static void failed_tool_gives_the_model_the_reason(void) {
    struct tool tool = TOOL(fail_at_once);
    tool_says(&tool, "/client-tool look {}", "The tool answered: Error: it is dark");
}

static void free_at_once(struct tool *tool, confer_tool_call *call) {
    (void)tool;
    confer_tool_call_free(call);
}

static void call_freed_unanswered_gives_the_model_an_error(void) {
    struct tool tool = TOOL(free_at_once);
    tool_says(&tool, "/client-tool look {}", "The tool answered: Error: the tool gave no answer");
}

static void answer_wrongly_and_twice(struct tool *tool, confer_tool_call *call) {
    (void)tool;
    REFUSES("content", confer_tool_call_answer(call, NULL, 1, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "content", confer_tool_call_answer(call, "a\xff", 2, &error));
    CHECK_ERROR(CONFER_E_INVALID_UTF8, "reason", confer_tool_call_fail(call, "a\xff", 2, &error));
    CHECK_OK(confer_tool_call_answer(call, "", 0, &error)); /* an empty answer is valid */
    REFUSES("already answered", confer_tool_call_answer(call, "again", SIZE_MAX, &error));
    REFUSES("already answered", confer_tool_call_fail(call, "again", SIZE_MAX, &error));
    CHECK_TEXT("look", confer_tool_call_name(call, NULL));
    confer_tool_call_free(call);
}

static void call_takes_one_answer_and_refuses_invalid_ones(void) {
    struct tool tool = TOOL(answer_wrongly_and_twice);
    tool_says(&tool, "/client-tool look {}", "The tool answered: ");
}

static void hold(struct tool *tool, confer_tool_call *call) {
    CHECK(gate_count(&tool->calls) < 64);
    tool->held[gate_count(&tool->calls)] = call;
}

/* Answers the last call first. */
static void *answer_held(void *data) {
    struct tool *tool = data;
    char content[16];
    gate_wait(&tool->calls, 3);
    for (int at = 2; at >= 0; at--) {
        snprintf(content, sizeof content, "answer %d", at);
        CHECK_OK(confer_tool_call_answer(tool->held[at], content, SIZE_MAX, &error));
        confer_tool_call_free(tool->held[at]);
    }
    return NULL;
}

static void another_thread_answers_calls_later_in_any_order(void) {
    struct tool tool = TOOL(hold);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, answer_held, &tool) == 0);
    tool_says(&tool, "/client-tools 3 look {}", "The tools answered: answer 0 | answer 1 | answer 2");
    CHECK(pthread_join(thread, NULL) == 0);
}

static void tool_timeout_is_a_failure_and_late_answers_ignored(void) {
    char text[200];
    struct tool tool = TOOL(hold);
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("/client-tool look {}");
    add_tool(request, &tool);
    CHECK_OK(confer_chat_request_set_tool_limits(request, 16, 50, &error));
    confer_stream *stream = pull(client, request);
    confer_chat_request_free(request);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT("The tool answered: Error: no answer within 50 ms", text);
    CHECK_OK(confer_tool_call_answer(tool.held[0], "late", SIZE_MAX, &error));
    confer_stream_free(stream);
    enclave_close(client);
    CHECK(gate_count(&tool.destroyed) == 1);
    CHECK_TEXT("look", confer_tool_call_name(tool.held[0], NULL)); /* the application still owns the call */
    confer_tool_call_free(tool.held[0]);
    enclave_stop(&enclave);
}

static void answer_ok(struct tool *tool, confer_tool_call *call) {
    (void)tool;
    CHECK_OK(confer_tool_call_answer(call, "ok", 2, &error));
    confer_tool_call_free(call);
}

static void endless_tool_calls_stop_at_the_round_limit(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    for (uint32_t rounds = 0; rounds < 3; rounds++) {
        struct tool tool = TOOL(answer_ok);
        confer_chat_request *request = chat_request("/endless-tool look {}");
        add_tool(request, &tool);
        CHECK_OK(confer_chat_request_set_tool_limits(request, rounds, 60000, &error));
        confer_stream *stream = pull(client, request);
        confer_chat_request_free(request);
        const confer_event *event = NULL;
        confer_error *error = NULL;
        confer_status status;
        while ((status = confer_stream_next(stream, -1, &event, &error)) == CONFER_OK)
            if (confer_event_type(event) == CONFER_EVENT_COMPLETION) CHECK(confer_event_pending_tool_calls(event));
        gate_wait(&tool.destroyed, 1);
        CHECK(status == CONFER_E_TOOL_ROUNDS && gate_count(&tool.calls) == (int)rounds);
        CHECK(confer_error_progress(error) == CONFER_PROGRESS_PARTLY_ANSWERED);
        confer_error_free(error);
        confer_stream_free(stream);
    }
    enclave_close(client);
    enclave_stop(&enclave);
}

static void application_runs_a_tool_without_callback(void) {
    char text[200] = "", call[200];
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct tool data = TOOL(NULL);
    confer_chat_request *request = chat_request("/client-tool look {}");
    CHECK_OK(confer_chat_request_add_tool(request, "look", 4, "", 0, SCHEMA, SIZE_MAX, NULL, &data, on_tool_destroyed,
                                          &error));
    confer_stream *stream = pull(client, request);
    bool called = false, pending = false;
    const confer_event *event = NULL;
    while (confer_stream_next(stream, -1, &event, NULL) == CONFER_OK) {
        pending = confer_event_pending_tool_calls(event);
        if (confer_event_type(event) != CONFER_EVENT_CLIENT_TOOL_CALL) continue;
        CHECK_TEXT("look", confer_event_tool_name(event, NULL));
        CHECK_TEXT("{}", confer_event_tool_arguments(event, NULL));
        snprintf(call, sizeof call, "{\"toolCallId\": \"%s\", \"toolName\": \"look\", \"toolArguments\": \"{}\"}",
                 confer_event_tool_call_id(event, NULL));
        snprintf(text, sizeof text, "{\"toolCallId\": \"%s\", \"toolName\": \"look\", \"content\": \"mine\"}",
                 confer_event_tool_call_id(event, NULL));
        called = true;
    }
    CHECK(called && pending);
    confer_stream_free(stream);
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_TOOL_CALL, call, SIZE_MAX, &error));
    CHECK_OK(confer_chat_request_add_message(request, CONFER_ROLE_TOOL_RESPONSE, text, SIZE_MAX, &error));
    stream = pull(client, request);
    chat_read(stream, text, sizeof text);
    CHECK_TEXT("The tool answered: mine", text);
    confer_stream_free(stream);
    confer_chat_request_free(request);
    CHECK(gate_count(&data.destroyed) == 1 && check_count_named("confer-callback") == 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void conversation_has_tool_calls_and_results(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct tool tool = TOOL(answer_ok);
    confer_conversation *conversation = NULL;
    confer_chat_request *request = chat_request("/client-tool look {}");
    CHECK_OK(confer_conversation_new(&conversation, &error));
    CHECK_OK(confer_chat_request_set_conversation(request, conversation, &error));
    add_tool(request, &tool);
    confer_stream *stream = pull(client, request);
    confer_chat_request_free(request);
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    const char *json = confer_conversation_json(conversation, NULL);
    CHECK(confer_conversation_message_count(conversation) == 4);
    CHECK(strstr(json, "\"tool_call\"") != NULL && strstr(json, "\"tool_response\"") != NULL);
    CHECK(strstr(json, "The tool answered: ok") != NULL);
    confer_conversation_free(conversation);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* ---- lifetime of the application's data ------------------------------------------------------ */

static void destroy_runs_once_after_last_stream_and_request(void) {
    char text[200];
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct tool tool = TOOL(answer_ok);
    confer_chat_request *request = chat_request("/client-tool look {}");
    add_tool(request, &tool);
    confer_stream *streams[3];
    for (int at = 0; at < 3; at++) streams[at] = pull(client, request);
    for (int at = 0; at < 3; at++) {
        if (at == 1) confer_chat_request_free(request);
        CHECK(at > 0 || gate_count(&tool.destroyed) == 0);
        chat_read(streams[at], text, sizeof text);
        CHECK_TEXT("The tool answered: ok", text);
        confer_stream_free(streams[at]);
    }
    gate_wait(&tool.destroyed, 1);
    enclave_close(client);
    CHECK(gate_count(&tool.destroyed) == 1 && gate_count(&tool.calls) == 3);

    struct tool unused = TOOL(answer_ok);
    request = chat_request("nothing");
    add_tool(request, &unused);
    CHECK(gate_count(&unused.destroyed) == 0);
    confer_chat_request_free(request);
    CHECK(gate_count(&unused.destroyed) == 1);
    enclave_stop(&enclave);
}

static void wait_in_the_callback(struct tool *tool, confer_tool_call *call) {
    tool->held[0] = call;
    gate_raise(&tool->calls);
    gate_wait(&tool->may_go, 1);
    CHECK_OK(confer_tool_call_answer(call, "too late", SIZE_MAX, &error)); /* nobody waits, but it is no error */
    confer_tool_call_free(call);
}

enum { STREAM, CLIENT, REQUEST, CALL };

/* Makes permutation `which` of `count` items: 0 to 5 for 3 items. */
static void nth_order(int which, int count, int order[4]) {
    int left[4] = {0, 1, 2, 3};
    for (int at = 0; at < count; at++) {
        int choice = which % (count - at);
        which /= count - at;
        order[at] = left[choice];
        for (int i = choice; i + 1 < count - at; i++) left[i] = left[i + 1];
    }
}

static void free_one(int what, struct tool *tool) {
    if (what == STREAM) confer_stream_free(tool->stream);
    if (what == CLIENT) confer_client_free(tool->client);
    if (what == REQUEST) confer_chat_request_free(tool->request);
    if (what == CALL) confer_tool_call_free(tool->held[0]);
}

static void start(struct tool *tool) {
    tool->client = enclave_connect(&enclave);
    tool->request = chat_request("/client-tool look {}");
    add_tool(tool->request, tool);
    tool->stream = pull(tool->client, tool->request);
    gate_wait(&tool->calls, 1);
}

static void handles_are_freed_in_any_order_during_a_tool(void) {
    enclave_start(&enclave, NULL);
    for (int which = 0; which < 6; which++) {
        struct tool tool = TOOL(wait_in_the_callback);
        int order[4];
        start(&tool);
        nth_order(which, 3, order);
        for (int at = 0; at < 3; at++) free_one(order[at], &tool);
        CHECK(gate_count(&tool.destroyed) == 0);
        gate_raise(&tool.may_go);
        gate_wait(&tool.destroyed, 1);
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&tool.destroyed) == 1);
    }
    enclave_stop(&enclave);
}

static void handles_are_freed_in_any_order_during_a_call(void) {
    enclave_start(&enclave, NULL);
    for (int which = 0; which < 24; which++) {
        struct tool tool = TOOL(hold);
        int order[4];
        start(&tool);
        nth_order(which, 4, order);
        for (int at = 0; at < 4; at++) {
            if (order[at] == CALL && which % 2 == 0) CHECK_OK(confer_tool_call_answer(tool.held[0], "x", 1, &error));
            free_one(order[at], &tool);
        }
        gate_wait(&tool.destroyed, 1);
        CHECK_OK(confer_runtime_wait(-1, &error));
        CHECK(gate_count(&tool.destroyed) == 1 && gate_count(&tool.calls) == 1);
    }
    enclave_stop(&enclave);
}

static void cancel_and_close_work_during_a_tool_call(void) {
    enclave_start(&enclave, NULL);
    for (int closes = 0; closes < 2; closes++) {
        struct tool tool = TOOL(hold);
        start(&tool);
        if (closes) CHECK_OK(confer_close(tool.client, -1, &error));
        else confer_stream_cancel(tool.stream);
        const confer_event *event = NULL;
        confer_error *error = NULL;
        confer_status status;
        while ((status = confer_stream_next(tool.stream, -1, &event, &error)) == CONFER_OK) continue;
        CHECK(status == (closes ? CONFER_E_CLOSED : CONFER_E_CANCELLED));
        CHECK(confer_error_progress(error) == CONFER_PROGRESS_PARTLY_ANSWERED);
        confer_error_free(error);
        confer_stream_free(tool.stream);
        confer_chat_request_free(tool.request);
        gate_wait(&tool.destroyed, 1);
        CHECK_OK(confer_close(tool.client, -1, &error));
        confer_client_free(tool.client);
        CHECK_OK(confer_tool_call_answer(tool.held[0], "nobody hears it", SIZE_MAX, &error));
        confer_tool_call_free(tool.held[0]);
    }
    enclave_stop(&enclave);
}

static void free_all(struct tool *tool, confer_tool_call *call) {
    confer_client_free(tool->client);
    confer_stream_free(tool->stream);
    confer_chat_request_free(tool->request);
    CHECK_OK(confer_tool_call_answer(call, "x", 1, &error));
    confer_tool_call_free(call);
}

static void tool_frees_all_handles(void) {
    enclave_start(&enclave, NULL);
    struct tool tool = TOOL(free_all);
    tool.client = enclave_connect(&enclave);
    tool.request = chat_request("/client-tool look {}");
    add_tool(tool.request, &tool);
    CHECK_OK(confer_chat_pull(tool.client, tool.request, &tool.stream, &error));
    confer_chat_request_free(chat_request("meanwhile"));
    gate_wait(&tool.destroyed, 1);
    CHECK_OK(confer_runtime_wait(-1, &error));
    CHECK(gate_count(&tool.calls) == 1 && gate_count(&tool.destroyed) == 1);
    enclave_stop(&enclave);
}

static void tools_and_other_callbacks_never_overlap(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    atomic_int inside = 0;
    struct tool tool = TOOL(answer_ok);
    struct recorder recorders[2] = {RECORDER, RECORDER};
    confer_chat_request *request = chat_request("/tool-rounds 5 look {}");
    tool.inside = &inside;
    add_tool(request, &tool);
    for (int at = 0; at < 2; at++) {
        confer_stream_callbacks table = recorder_table(&recorders[at]);
        recorders[at].inside = &inside;
        CHECK_OK(confer_chat_stream(client, request, &table, &recorders[at].stream, &error));
    }
    confer_chat_request_free(request);
    for (int at = 0; at < 2; at++) {
        recorder_wait(&recorders[at], CONFER_OK);
        confer_stream_free(recorders[at].stream);
    }
    CHECK(gate_count(&tool.calls) == 10);
    enclave_close(client);
    CHECK(gate_count(&tool.destroyed) == 1);
    enclave_stop(&enclave);
}

/* ---- invalid calls --------------------------------------------------------------------------- */

static void invalid_tool_is_refused_and_its_data_destroyed(void) {
    confer_chat_request *request = chat_request("hi");
    struct tool kept = TOOL(answer_ok);
    add_tool(request, &kept);
    static const struct { const char *name, *description, *parameters; confer_status status; const char *words; } bad[] = {
        {NULL, "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "name"},   {"a", NULL, SCHEMA, CONFER_E_INVALID_ARGUMENT, "description"},
        {"a", "d", NULL, CONFER_E_INVALID_ARGUMENT, "parameters"}, {"", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "name"},
        {"look", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "name"}, {"a", "d", "{", CONFER_E_INVALID_JSON, "line 1"},
        {" ", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "blank"},   {"page_fetch", "d", SCHEMA, CONFER_E_INVALID_ARGUMENT, "server"},
        {"a", "d", "[]", CONFER_E_INVALID_JSON, "object"},        {"a\xff", "d", SCHEMA, CONFER_E_INVALID_UTF8, "name"}};
    for (size_t at = 0; at < sizeof bad / sizeof *bad; at++) {
        struct tool tool = TOOL(answer_ok);
        CHECK_ERROR(bad[at].status, bad[at].words,
                    confer_chat_request_add_tool(request, bad[at].name, SIZE_MAX, bad[at].description, SIZE_MAX,
                                                 bad[at].parameters, SIZE_MAX, run_tool, &tool, on_tool_destroyed, &error));
        CHECK(gate_count(&tool.destroyed) == 1);
    }
    struct tool tool = TOOL(answer_ok);
    REFUSES("request", confer_chat_request_add_tool(NULL, "a", 1, "d", 1, SCHEMA, SIZE_MAX, run_tool, &tool,
                                                    on_tool_destroyed, &error));
    CHECK(gate_count(&tool.destroyed) == 1 && gate_count(&kept.destroyed) == 0);
    REFUSES("request", confer_chat_request_set_tool_limits(NULL, 1, 1, &error));
    REFUSES("max_rounds", confer_chat_request_set_tool_limits(request, 1001, 1, &error));
    REFUSES("timeout_ms", confer_chat_request_set_tool_limits(request, 1, 0, &error));
    REFUSES("timeout_ms", confer_chat_request_set_tool_limits(request, 1, 86400001, &error));
    confer_chat_request_free(request);
    CHECK(gate_count(&kept.destroyed) == 1);
}

static void null_tool_call_is_refused(void) {
    size_t len = 7;
    REFUSES("call", confer_tool_call_answer(NULL, "x", 1, &error));
    REFUSES("call", confer_tool_call_fail(NULL, "x", 1, &error));
    CHECK(confer_tool_call_id(NULL, &len) == NULL && len == 0);
    CHECK(confer_tool_call_name(NULL, NULL) == NULL && confer_tool_call_arguments(NULL, NULL) == NULL);
    confer_tool_call_free(NULL);
}

static confer_chat_request *used_by_destroy;

static void use_the_request(void *user_data) {
    CHECK_OK(confer_chat_request_set_thinking(used_by_destroy, true, &error));
    on_tool_destroyed(user_data);
}

static void destroy_may_use_the_refusing_request(void) {
    confer_chat_request *request = used_by_destroy = chat_request("hi");
    struct tool kept = TOOL(answer_ok), refused = TOOL(answer_ok);
    add_tool(request, &kept);
    REFUSES("name", confer_chat_request_add_tool(request, "look", 4, "d", 1, SCHEMA, SIZE_MAX, run_tool, &refused,
                                                 use_the_request, &error));
    CHECK(gate_count(&refused.destroyed) == 1);
    confer_chat_request_free(request);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(tool_answers_in_its_callback),
        PROMISE(failed_tool_gives_the_model_the_reason),
        PROMISE(call_freed_unanswered_gives_the_model_an_error),
        PROMISE(call_takes_one_answer_and_refuses_invalid_ones),
        PROMISE(another_thread_answers_calls_later_in_any_order),
        PROMISE(tool_timeout_is_a_failure_and_late_answers_ignored),
        PROMISE(endless_tool_calls_stop_at_the_round_limit),
        PROMISE(application_runs_a_tool_without_callback),
        PROMISE(conversation_has_tool_calls_and_results),
        PROMISE(destroy_runs_once_after_last_stream_and_request),
        PROMISE(handles_are_freed_in_any_order_during_a_tool),
        PROMISE(handles_are_freed_in_any_order_during_a_call),
        PROMISE(cancel_and_close_work_during_a_tool_call),
        PROMISE(tool_frees_all_handles),
        PROMISE(tools_and_other_callbacks_never_overlap),
        PROMISE(invalid_tool_is_refused_and_its_data_destroyed),
        PROMISE(null_tool_call_is_refused),
        PROMISE(destroy_may_use_the_refusing_request),
    };
    return KEEP_PROMISES(promises);
}
