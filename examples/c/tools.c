/*
 * tools: lets a model call functions of this program.
 *
 *     tools [--url URL] [--policy FILE] [--token TOKEN] [--model MODEL] PROMPT
 *     tools "What time is it, and how much is 12.5 % of 1840?"
 *
 * The model may call two functions: current_time and calculate. The answer goes to standard output, and a line for each
 * call, with its arguments and result, to standard error. For the local enclave the prompt names the call:
 * tools … '/client-tool calculate {"expression": "6 * 7"}'. Exit codes and last line are those of chat.
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <ctype.h>
#include <time.h>

/* --- the tools: each reads its arguments and writes a result or an error for the model ------------------- */

/* The local time and its offset from UTC, in ISO 8601. */
static bool current_time(const char *arguments, char *result, size_t size) {
    struct tm local;
    time_t now = time(NULL);
    (void)arguments;
    if (localtime_r(&now, &local) != NULL && strftime(result, size, "%Y-%m-%dT%H:%M:%S%z", &local) != 0) return true;
    snprintf(result, size, "the clock cannot be read");
    return false;
}

/* A sum, as people write it: its rest, and whether it is wrong. */
struct sum {
    const char *rest;
    bool wrong;
};

static char next_sign(struct sum *sum) {
    while (isspace((unsigned char)*sum->rest)) sum->rest++;
    return *sum->rest;
}

static double add(struct sum *sum);

static double number(struct sum *sum) {
    char sign = next_sign(sum);
    if (sign == '-') return sum->rest++, -number(sum);
    if (sign == '(') {
        sum->rest++;
        double value = add(sum);
        if (next_sign(sum) == ')') sum->rest++;
        else sum->wrong = true;
        return value;
    }
    char *end = (char *)sum->rest;
    double value = isdigit((unsigned char)sign) || sign == '.' ? strtod(sum->rest, &end) : 0;
    if (end == sum->rest) sum->wrong = true;
    sum->rest = end;
    return value;
}

static double multiply(struct sum *sum) {
    double value = number(sum);
    for (char sign; !sum->wrong && ((sign = next_sign(sum)) == '*' || sign == '/');) {
        sum->rest++;
        double other = number(sum);
        value = sign == '*' ? value * other : value / other;
    }
    return value;
}

static double add(struct sum *sum) {
    double value = multiply(sum);
    for (char sign; !sum->wrong && ((sign = next_sign(sum)) == '+' || sign == '-');) {
        sum->rest++;
        double other = multiply(sum);
        value = sign == '+' ? value + other : value - other;
    }
    return value;
}

/*
 * Finds the argument in {"expression": "…"}. This needs no JSON parser, because \/ is the only escape in a sum. Anything
 * else is an error, which the model reads and can correct. The limit of the length also limits the depth of parentheses.
 */
static bool calculate(const char *arguments, char *result, size_t size) {
    char expression[200];
    size_t len = 0;
    const char *at = strstr(arguments, "\"expression\"");
    if (at != NULL) at += strlen("\"expression\"");
    if (at != NULL) at += strspn(at, " \t\r\n:");
    if (at != NULL && *at == '"') {
        for (at++; *at != '"' && *at != '\0' && len + 1 < sizeof expression; at++)
            if (at[0] != '\\' || at[1] != '/') expression[len++] = *at;
    }
    expression[len] = '\0';
    struct sum sum = {expression, false};
    double value = add(&sum);
    bool good = at != NULL && *at == '"' && !sum.wrong && next_sign(&sum) == '\0' && value - value == 0; /* finite */
    if (good) snprintf(result, size, "%.12g", value);
    else snprintf(result, size, "\"expression\" must be a sum of numbers with + - * / ( ), of finite value");
    return good;
}

static const struct tool {
    const char *name, *description, *parameters; /* for the model */
    bool (*run)(const char *arguments, char *result, size_t size);
} tools[] = {
    {"current_time", "The user's local date and time.", "{\"type\": \"object\", \"properties\": {}}", current_time},
    {"calculate", "Works out a sum.",
     "{\"type\": \"object\", \"properties\": {\"expression\": {\"type\": \"string\","
     " \"description\": \"numbers, + - * / and parentheses\"}}, \"required\": [\"expression\"]}",
     calculate},
};

static bool in_mid_answer; /* the cursor is in a line of standard output; the lock of `stderr` guards this */

/*
 * A confer_tool_fn: the library calls it on a thread of its own when the model calls the tool. It answers at once; a
 * tool that takes its time would hand `call` to a thread that answers and frees it later.
 */
static void run_tool(void *user_data, confer_tool_call *call) {
    const struct tool *tool = user_data;
    char result[120];
    size_t len;
    const char *arguments = confer_tool_call_arguments(call, &len);
    bool done = tool->run(arguments, result, sizeof result);
    flockfile(stderr); /* keeps the line together, which is written in parts */
    if (in_mid_answer && isatty(STDOUT_FILENO)) {
        fputc('\n', stderr);
        in_mid_answer = false;
    }
    fprintf(stderr, "[%s ", tool->name);
    print_text(stderr, arguments, len);
    fprintf(stderr, " → %s%s]\n", done ? "" : "error: ", result);
    funlockfile(stderr);
    if (done) confer_tool_call_answer(call, result, SIZE_MAX, NULL);
    else confer_tool_call_fail(call, result, SIZE_MAX, NULL);
    confer_tool_call_free(call);
}

/* --- the chat ------------------------------------------------------------------------------------------------------ */

/* Asks, and prints the answer. The library runs the rounds of tools in between. */
static confer_status ask(confer_client *client, const char *model, const char *prompt, confer_error **error) {
    confer_chat_request *request = NULL;
    confer_stream *stream = NULL;
    const confer_event *event = NULL;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK && model != NULL) status = confer_chat_request_set_model(request, model, SIZE_MAX, error);
    for (size_t at = 0; at < sizeof tools / sizeof *tools && status == CONFER_OK; at++)
        status = confer_chat_request_add_tool_callback(request, tools[at].name, SIZE_MAX, tools[at].description, SIZE_MAX,
                                              tools[at].parameters, SIZE_MAX, run_tool, (void *)&tools[at], NULL, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_message(request, CONFER_ROLE_USER, prompt, SIZE_MAX, error);
    if (status == CONFER_OK) status = confer_chat_stream(client, request, NULL, &stream, error);
    while (status == CONFER_OK && (status = confer_stream_next(stream, -1, &event, error)) == CONFER_OK) {
        size_t len;
        const char *content = confer_event_content(event, &len);
        if (confer_event_type(event) != CONFER_EVENT_TOKEN || len == 0) continue;
        flockfile(stderr);
        print_text(stdout, content, len);
        fflush(stdout);
        in_mid_answer = content[len - 1] != '\n';
        funlockfile(stderr);
    }
    if (in_mid_answer) putchar('\n');
    confer_stream_free(stream);
    confer_chat_request_free(request);
    return status;
}

int main(int argc, char **argv) {
    const char *usage = "tools [--url URL] [--policy FILE] [--token TOKEN] [--model MODEL] PROMPT", *model = NULL;
    const struct own_option own[] = {{"--model", &model}, {NULL, NULL}};
    struct service service = {0};
    confer_client *client = NULL;
    confer_error *error = NULL;
    int at = read_service(argc, argv, usage, &service, own), code = USAGE;
    if (at >= 0 && at + 1 != argc) at = misused(usage, "there must be one prompt", "");
    if (at >= 0) {
        confer_status status = connect_to(&service, &client, &error);
        if (status == CONFER_OK) status = ask(client, model, argv[at], &error);
        code = end_with(status, error);
    }
    disconnect(&service, client);
    return code;
}
