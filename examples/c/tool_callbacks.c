/*
 * tool_callbacks: a chat whose model calls a function of this program. tool_pull.c does the same without callbacks.
 *
 *     tool_callbacks [--url URL] [--policy FILE] [--token TOKEN]
 *
 * Each line of the input is a prompt. The client reconnects after a failure. The local enclave makes the call that a prompt
 * names: /client-tool fahrenheit {"celsius": 21.5}. Exit codes are those of chat.
 */
#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <pthread.h>

static struct service service;

/* Returns 0 to continue the stream. CONFER_E_STALE means that the answer came too late, which changes nothing. */
static int32_t answered(confer_status status) { return status != CONFER_OK && status != CONFER_E_STALE; }

/* Gives the only token of this program. Your own provider would fetch a fresh one, or answer a clone later. */
static int32_t give_token(const confer_event *event) {
    int32_t reason = confer_event_token_reason(event);
    confer_status status = CONFER_E_TOKEN;
    if (reason == CONFER_TOKEN_FIRST || reason == CONFER_TOKEN_RECONNECT)
        status = confer_event_answer_token(event, service.token, CONFER_NTS, NULL);
    if (status != CONFER_OK && status != CONFER_E_STALE) /* the question is still open */
        status = confer_event_refuse_token(event, "CONFER_TOKEN is malformed or no longer good", CONFER_NTS, NULL);
    return answered(status);
}

static int32_t on_client(void *user_data, confer_stream *stream, const confer_event *event) {
    const char *why = confer_error_message(confer_event_error(event), NULL);
    (void)user_data, (void)stream;
    if (confer_event_type(event) == CONFER_EVENT_ASK_TOKEN) return give_token(event);
    if (confer_event_type(event) == CONFER_EVENT_DISCONNECTED) fprintf(stderr, "The connection is lost: %s\n", why);
    if (confer_event_type(event) == CONFER_EVENT_RETRY && why != NULL) fprintf(stderr, "Trying again: %s\n", why);
    if (confer_event_type(event) == CONFER_EVENT_CONNECTED) fputs("Connected to a verified enclave.\n", stderr);
    return 0;
}

/* Runs the tool. A slow tool clones the event and answers the clone later, also from another thread. */
static int32_t run_tool(const confer_event *event) {
    const char *arguments = confer_event_tool_arguments(event, NULL);
    double celsius;
    char result[40];
    if (arguments == NULL || sscanf(arguments, " { \"celsius\" : %lf }", &celsius) != 1)
        return answered(confer_event_fail_tool(event, "\"celsius\" must be a number", CONFER_NTS, NULL));
    snprintf(result, sizeof result, "%.6g", celsius * 9 / 5 + 32);
    return answered(confer_event_answer_tool(event, result, CONFER_NTS, NULL));
}

static int32_t on_chat(void *user_data, confer_stream *stream, const confer_event *event) {
    size_t len;
    const char *text = confer_event_content(event, &len);
    (void)user_data, (void)stream;
    if (confer_event_wants_answer(event)) return run_tool(event); /* it is a CONFER_EVENT_CLIENT_TOOL_CALL */
    if (confer_event_type(event) == CONFER_EVENT_TOKEN) print_text(stdout, text, len), fflush(stdout);
    return 0;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool done; /* the end of an answer, for the main thread */
static confer_error *failure;

static void on_chat_done(void *user_data, confer_stream *stream, confer_status status, const confer_error *error) {
    (void)user_data, (void)stream, (void)status;
    pthread_mutex_lock(&lock);
    done = true;
    failure = confer_error_clone(error); /* it is only lent, and NULL after success */
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

/* Begins to connect, and waits for the first connection. The watch's callback gives the token. */
static confer_status start(confer_client **client, confer_error **error) {
    const confer_stream_callbacks watch = {sizeof watch, NULL, on_client, NULL, NULL, NULL};
    confer_config *config = NULL;
    confer_status status = new_config(&service, &config, error);
    if (status == CONFER_OK) status = confer_config_set_ask(config, CONFER_ASK_TOKEN, error);
    if (status == CONFER_OK) status = confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, 20, error);
    if (status == CONFER_OK) status = confer_config_set_duration_ms(config, CONFER_DURATION_LONGEST_RETRY, 2000, error);
    if (status == CONFER_OK) status = confer_connect_start(config, client, error);
    if (status == CONFER_OK) status = confer_client_watch(*client, &watch, NULL, error);
    if (status == CONFER_OK) status = confer_client_wait(*client, -1, error);
    verified = status == CONFER_OK ? *client : NULL;
    confer_config_free(config);
    return status;
}

/* Asks, and waits for the end of the answer. */
static confer_status ask(confer_client *client, const char *text, confer_error **error) {
    static const char parameters[] = "{\"type\": \"object\", \"properties\": {\"celsius\": {\"type\": \"number\"}}}";
    const confer_stream_callbacks chat = {sizeof chat, NULL, on_chat, on_chat_done, NULL, NULL};
    confer_chat_request *request = NULL;
    done = false;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK) status = confer_chat_request_add_message(request, CONFER_ROLE_USER, text, CONFER_NTS, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_tool(request, "fahrenheit", CONFER_NTS, "Converts a temperature.", CONFER_NTS,
                                              parameters, CONFER_NTS, error);
    if (status == CONFER_OK) status = confer_chat_request_set_tool_rounds(request, 16, 300000, error);
    if (status == CONFER_OK) status = confer_chat_stream(client, request, &chat, NULL, error);
    confer_chat_request_free(request);
    if (status != CONFER_OK) return status;
    pthread_mutex_lock(&lock);
    while (!done) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    putchar('\n'), fflush(stdout);
    *error = failure;
    return confer_error_status(failure);
}

int main(int argc, char **argv) {
    confer_client *client = NULL;
    confer_error *error = NULL;
    char line[4096];
    int at = read_service(argc, argv, "tool_callbacks [--url URL] [--policy FILE] [--token TOKEN]", &service,
                          &(struct own_option){NULL, NULL});
    if (at != argc) return at < 0 ? USAGE : last_line(CONFER_E_INVALID_ARGUMENT, "prompts come from the input", "");
    confer_status status = start(&client, &error);
    while (status == CONFER_OK && fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        status = ask(client, line, &error);
    }
    int code = end_with(status, error);
    if (client != NULL && confer_close(client, 2000, NULL) != CONFER_OK) fputs("Closing takes a while.\n", stderr);
    confer_client_free(client);
    free(service.token);
    return code;
}
