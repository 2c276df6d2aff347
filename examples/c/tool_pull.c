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

#include <poll.h>

static struct service service;
static confer_stream *watch; /* the client's own events */

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

/* Takes one event, if there is one. A descriptor stays readable until all of its stream's events are taken. */
static confer_status take(confer_stream *stream, confer_status on_event(const confer_event *), confer_error **error) {
    const confer_event *event = NULL;
    confer_status status = confer_stream_next(stream, 0, &event, error);
    return status == CONFER_OK ? on_event(event) : status == CONFER_TIMEOUT ? CONFER_OK : status;
}

/* Waits until `fd` is readable, and handles the watch's events during the wait. */
static confer_status wait_for(int fd, confer_error **error) {
    struct pollfd polled[] = {{fd, POLLIN, 0}, {-1, POLLIN, 0}};
    confer_status status = confer_stream_fd(watch, &polled[1].fd, error);
    while (status == CONFER_OK && polled[0].revents == 0) {
        if (poll(polled, 2, -1) < 0 && errno != EINTR) return CONFER_E_SYSTEM;
        status = take(watch, on_client, error);
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
    if (status == CONFER_OK) status = confer_client_watch(*client, NULL, &watch, error);
    confer_config_free(config);
    return status;
}

/* Asks, and prints the answer as it comes. Without a connection the request waits for one. */
static confer_status ask(confer_client *client, const char *text, confer_error **error) {
    static const char parameters[] = "{\"type\": \"object\", \"properties\": {\"celsius\": {\"type\": \"number\"}}}";
    confer_stream *chat = NULL;
    confer_chat_request *request = NULL;
    int fd = -1;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK) status = confer_chat_request_add_message(request, CONFER_ROLE_USER, text, CONFER_NTS, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_tool(request, "fahrenheit", CONFER_NTS, "Converts a temperature.", CONFER_NTS,
                                              parameters, CONFER_NTS, error);
    if (status == CONFER_OK) status = confer_chat_request_set_tool_rounds(request, 16, 300000, error);
    if (status == CONFER_OK) status = confer_chat_stream(client, request, NULL, &chat, error);
    if (status == CONFER_OK) status = confer_stream_fd(chat, &fd, error);
    while (status == CONFER_OK && (status = wait_for(fd, error)) == CONFER_OK) status = take(chat, on_chat, error);
    if (status == CONFER_END) putchar('\n'), fflush(stdout);
    confer_stream_free(chat);
    confer_chat_request_free(request);
    return status == CONFER_END ? CONFER_OK : status;
}

int main(int argc, char **argv) {
    confer_client *client = NULL;
    confer_error *error = NULL;
    char line[4096];
    int at = read_service(argc, argv, "tool_pull [--url URL] [--policy FILE] [--token TOKEN]", &service,
                          &(struct own_option){NULL, NULL});
    if (at != argc) return at < 0 ? USAGE : last_line(CONFER_E_INVALID_ARGUMENT, "prompts come from the input", "");
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() does not see what waits in a buffer */
    confer_status status = start(&client, &error);
    while (status == CONFER_OK && (status = wait_for(STDIN_FILENO, &error)) == CONFER_OK) {
        if (fgets(line, sizeof line, stdin) == NULL) break;
        line[strcspn(line, "\n")] = '\0';
        status = ask(client, line, &error);
    }
    verified = confer_client_state(client) == CONFER_CLIENT_CONNECTED ? client : NULL;
    int code = end_with(status, error);
    if (client != NULL && confer_close(client, 2000, NULL) != CONFER_OK) fputs("Closing takes a while.\n", stderr);
    confer_stream_free(watch);
    confer_client_free(client);
    free(service.token);
    return code;
}
