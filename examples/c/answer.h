/*
 * answer.h: one question of chat, and its answer.
 */
#ifndef ANSWER_H
#define ANSWER_H

#include "connecting.h"

/* Prints an event on one line. JSON allows a raw line break only where a space is allowed too. */
static inline void print_json(const char *json, size_t len) {
    for (size_t at = 0; at < len; at++) putchar(json[at] == '\n' || json[at] == '\r' ? ' ' : json[at]);
    putchar('\n');
}

static inline void print_done(confer_status status) {
    printf("{\"type\":\"done\",\"status\":\"%s\"}\n", confer_status_name(status));
    fflush(stdout);
}

static inline void show_event(const confer_event *event) {
    size_t len, json_len;
    const char *content = confer_event_content(event, &len), *json = confer_event_json(event, &json_len);
    int32_t type = confer_event_type(event);
    flockfile(stderr);
    hide_waiting();
    if (options.json) {
        print_json(json, json_len);
    } else if (type == CONFER_EVENT_TOKEN && len > 0) {
        end_line();
        print_text(stdout, content, len);
        in_mid_answer = content[len - 1] != '\n';
    } else if (type == CONFER_EVENT_THINKING && len > 0) {
        end_answer();
        fputs(dim, stderr);
        print_text(stderr, content, len);
        fputs(plain, stderr);
        in_mid_line = content[len - 1] != '\n';
    } else if (type == CONFER_EVENT_SERVER_TOOL_CALL || type == CONFER_EVENT_CLIENT_TOOL_CALL) {
        const char *name = confer_event_tool_name(event, &len);
        end_answer();
        end_line();
        fputs(type == CONFER_EVENT_SERVER_TOOL_CALL ? "[the enclave runs its tool " : "[left undone: the tool ", stderr);
        if (name != NULL) print_text(stderr, name, len);
        fputs("]\n", stderr);
    }
    funlockfile(stderr);
}

/* Waits for an event. Returns CONFER_TIMEOUT if that takes too long. */
static inline confer_status next_event(confer_stream *stream, const confer_event **event, confer_error **error) {
    int64_t since = now_ms();
    for (;;) {
        if (interrupted) confer_stream_cancel(stream); /* checked here too, because events may come without a pause */
        confer_status status = confer_stream_next(stream, 0, event, error);
        if (status != CONFER_TIMEOUT) return status;
        if (fflush(stdout) != 0) return CONFER_E_FILE; /* show the received text before waiting for more */
        if (wait_for(false, options.timeout_ms, since) == TIMED_OUT) return CONFER_TIMEOUT;
    }
}

/* Asks. A complete answer becomes part of the conversation, with its question. */
static inline confer_status start_answer(confer_client *client, const confer_conversation *conversation,
                                  const char *question, size_t question_len, confer_stream **stream,
                                  confer_error **error) {
    const confer_stream_callbacks waking = {sizeof waking, NULL, NULL, NULL, NULL, on_ready};
    confer_chat_request *request = NULL;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK && options.model != NULL)
        status = confer_chat_request_set_model(request, options.model, CONFER_NTS, error);
    if (status == CONFER_OK) status = confer_chat_request_set_conversation(request, conversation, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_message(request, CONFER_ROLE_USER, question, question_len, error);
    if (status == CONFER_OK) status = confer_chat_stream(client, request, &waking, stream, error);
    confer_chat_request_free(request);
    return status;
}

/*
 * Asks, and shows the answer or the error. `lives`: receives whether the client still lives; NULL for a single question.
 */
static inline int ask(confer_client *client, const confer_conversation *conversation, const char *question,
               size_t question_len, bool *lives) {
    confer_stream *stream = NULL;
    confer_error *error = NULL;
    const confer_event *event = NULL;
    int output_error = 0;

    confer_status status = start_answer(client, conversation, question, question_len, &stream, &error);
    while (status == CONFER_OK && (status = next_event(stream, &event, &error)) == CONFER_OK) {
        show_event(event);
        if (ferror(stdout)) status = CONFER_E_FILE;
    }
    if (status == CONFER_E_FILE) output_error = errno;
    if (status == CONFER_END) status = CONFER_OK;
    if (status == CONFER_TIMEOUT) status = CONFER_E_STREAM_IDLE;
    confer_stream_free(stream);

    flockfile(stderr);
    hide_waiting();
    if (options.json) print_done(status);
    else if (in_mid_answer) putchar('\n');
    in_mid_answer = false;
    funlockfile(stderr);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CONFER_OK) output_error = errno;
    if (output_error != 0) {
        confer_error_free(error); /* the answer could not be written */
        return say_last_line(CONFER_E_FILE, "standard output: %s", strerror(output_error));
    }
    if (lives != NULL) *lives = confer_client_check(client, NULL) == CONFER_OK;
    if (lives != NULL && !*lives) take_client_events(true);
    bool lost = status == CONFER_E_CONNECTION_LOST && lives != NULL && *lives && isatty(STDIN_FILENO);
    if (status == CONFER_E_CANCELLED || lost) { /* the caller or show_client_event() shows the reason */
        confer_error_free(error);
        return exit_code(status);
    }
    if (error != NULL) return say_error(error);
    return status == CONFER_OK ? ANSWERED : say_last_line(status, "no event came within %s s", options.timeout);
}

#endif
