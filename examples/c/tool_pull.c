/*
 * tool_pull: a chat whose model calls a function of this program. tool_callbacks.c does the same by callbacks.
 *
 *     tool_pull [--url URL] [--policy FILE] [--token TOKEN]
 *
 * Each line of the input is a prompt. The client reconnects after a failure. The local enclave makes the call that a prompt
 * names: /client-tool fahrenheit {"celsius": 21.5}. Exit codes are those of chat.
 */
#define _POSIX_C_SOURCE 200809L

#include "common.h"
#include "portable.h"

static struct service service;
static confer_stream *watch; /* the client's own events */
static const confer_stream_callbacks waking = {sizeof waking, NULL, NULL, NULL, NULL, on_ready};

/* CONFER_E_STALE means that the answer came too late. That changes nothing. */
static confer_status answered(confer_status status) { return status == CONFER_E_STALE ? CONFER_OK : status; }

/* Gives the only token of this program. Your own provider would fetch a fresh one, or answer a clone later. */
static confer_status give_token(const confer_event *event) {
    int32_t reason = confer_event_token_reason(event);
    confer_status status = CONFER_E_TOKEN;
    if (reason == CONFER_TOKEN_FIRST || reason == CONFER_TOKEN_RECONNECT)
        status = confer_event_answer_token(event, service.token, CONFER_NTS, NULL);
    if (status != CONFER_OK && status != CONFER_E_STALE) /* the question is still open */
        status = confer_event_refuse_token(event, "CONFER_TOKEN is malformed or no longer good", CONFER_NTS, NULL);
    return answered(status);
}

static confer_status on_client(const confer_event *event) {
    const char *why = confer_error_message(confer_event_error(event), NULL);
    if (confer_event_type(event) == CONFER_EVENT_ASK_TOKEN) return give_token(event);
    if (confer_event_type(event) == CONFER_EVENT_DISCONNECTED) fprintf(stderr, "The connection is lost: %s\n", why);
    if (confer_event_type(event) == CONFER_EVENT_RETRY && why != NULL) fprintf(stderr, "Trying again: %s\n", why);
    if (confer_event_type(event) == CONFER_EVENT_CONNECTED) fputs("Connected to a verified enclave.\n", stderr);
    return CONFER_OK;
}

/* Runs the tool. A slow tool clones the event and answers the clone later, also from another thread. */
static confer_status run_tool(const confer_event *event) {
    const char *arguments = confer_event_tool_arguments(event, NULL);
    double celsius;
    char result[40];
    if (arguments == NULL || sscanf(arguments, " { \"celsius\" : %lf }", &celsius) != 1)
        return answered(confer_event_fail_tool(event, "\"celsius\" must be a number", CONFER_NTS, NULL));
    snprintf(result, sizeof result, "%.6g", celsius * 9 / 5 + 32);
    return answered(confer_event_answer_tool(event, result, CONFER_NTS, NULL));
}

static confer_status on_chat(const confer_event *event) {
    size_t len;
    const char *text = confer_event_content(event, &len);
    if (confer_event_wants_answer(event)) return run_tool(event); /* it is a CONFER_EVENT_CLIENT_TOOL_CALL */
    if (confer_event_type(event) == CONFER_EVENT_TOKEN) print_text(stdout, text, len), fflush(stdout);
    return CONFER_OK;
}

/* Takes the events that are ready. For later ones the library calls on_ready(), which ends the next pause_for(). */
static confer_status take_all(confer_stream *stream, confer_status on_event(const confer_event *), confer_error **error) {
    const confer_event *event = NULL;
    confer_status status = CONFER_OK;
    while (status == CONFER_OK && (status = confer_stream_next(stream, 0, &event, error)) == CONFER_OK)
        status = on_event(event);
    return status == CONFER_TIMEOUT ? CONFER_OK : status;
}

/* Reads a line, and handles the watch's events in between. Returns CONFER_END at the end of the input. */
static confer_status read_line(struct text *line, confer_error **error) {
    confer_status status = CONFER_OK;
    line->len = 0;
    while ((status = take_all(watch, on_client, error)) == CONFER_OK) {
        if (pause_for(true, -1) != READABLE) continue;
        int byte = read_byte();
        if (byte == EOF && line->len == 0) return CONFER_END;
        add(line, &(char){(char)byte}, byte != EOF && byte != '\n');
        if (byte == EOF || byte == '\n') return CONFER_OK;
    }
    return status;
}

/* Begins to connect. The watch reports each step, and asks for the token. */
static confer_status start(confer_client **client, confer_error **error) {
    confer_config *config = NULL;
    confer_status status = new_config(&service, &config, error);
    if (status == CONFER_OK) status = confer_config_set_ask(config, CONFER_ASK_TOKEN, error);
    if (status == CONFER_OK) status = confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, 20, error);
    if (status == CONFER_OK) status = confer_config_set_duration_ms(config, CONFER_DURATION_LONGEST_RETRY, 2000, error);
    if (status == CONFER_OK) status = confer_connect_start(config, client, error);
    if (status == CONFER_OK) status = confer_client_watch(*client, &waking, &watch, error);
    confer_config_free(config);
    return status;
}

/* Asks, and prints the answer as it comes. Without a connection the request waits for one. */
static confer_status ask(confer_client *client, const char *text, confer_error **error) {
    static const char parameters[] = "{\"type\": \"object\", \"properties\": {\"celsius\": {\"type\": \"number\"}}}";
    confer_stream *chat = NULL;
    confer_chat_request *request = NULL;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK) status = confer_chat_request_add_message(request, CONFER_ROLE_USER, text, CONFER_NTS, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_tool(request, "fahrenheit", CONFER_NTS, "Converts a temperature.", CONFER_NTS,
                                              parameters, CONFER_NTS, error);
    if (status == CONFER_OK) status = confer_chat_request_set_tool_rounds(request, 16, 300000, error);
    if (status == CONFER_OK) status = confer_chat_stream(client, request, &waking, &chat, error);
    while (status == CONFER_OK && (status = take_all(chat, on_chat, error)) == CONFER_OK) {
        pause_for(false, -1);
        status = take_all(watch, on_client, error);
    }
    if (status == CONFER_END) putchar('\n'), fflush(stdout);
    confer_stream_free(chat);
    confer_chat_request_free(request);
    return status == CONFER_END ? CONFER_OK : status;
}

int main(int argc, char **argv) {
    confer_client *client = NULL;
    confer_error *error = NULL;
    struct text line = {0};
    int at = read_service(argc, argv, "tool_pull [--url URL] [--policy FILE] [--token TOKEN]", &service,
                          &(struct own_option){NULL, NULL});
    if (at != argc) return at < 0 ? USAGE : last_line(CONFER_E_INVALID_ARGUMENT, "prompts come from the input", "");
    confer_status status = prepare_to_wait() ? start(&client, &error) : CONFER_E_SYSTEM;
    while (status == CONFER_OK && (status = read_line(&line, &error)) == CONFER_OK) status = ask(client, line.text, &error);
    verified = confer_client_state(client) == CONFER_CLIENT_CONNECTED ? client : NULL;
    int code = end_with(status, error);
    if (client != NULL && confer_close(client, 2000, NULL) != CONFER_OK) fputs("Closing takes a while.\n", stderr);
    confer_stream_free(watch);
    confer_client_free(client);
    free(service.token);
    free(line.text);
    return code;
}
