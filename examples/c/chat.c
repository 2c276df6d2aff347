/*
 * chat: a small terminal chat with Confer's service, and a tour of confer.h.
 *
 * It connects, shows the checks of the enclave, and streams answers. Answers go to standard output, everything else to
 * standard error, and the token nowhere. A conversation outlives its connection: the library reconnects, verifies again,
 * and then sends a waiting question. --report and --evidence save those of the first connection.
 *
 *     export CONFER_TOKEN=...
 *     chat                               a conversation; Ctrl-C stops an answer, /quit or Ctrl-D ends the program
 *     chat --once "What is a quine?"     one answer
 *
 * checklist.h shows the report, terminal.h moves the cursor, common.h has the shared code of the examples.
 *
 * Exit: 0 answered, 2 usage, 3 enclave refused, 4 could not connect or connection lost, 5 request refused or failed, 130
 * interrupted. A request that is too large and an answer that cannot be written exit with 5, too. After a failure the last
 * line on standard error is "confer: STATUS_NAME: message".
 */

#define _POSIX_C_SOURCE 200809L

#include "checklist.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>

static struct {
    const char *url, *policy, *jwks_cache, *model, *timeout, *report, *evidence, *once;
    char *token;
    bool json;
    int64_t timeout_ms; /* of connecting, and of the wait for any one event; -1: the library's own limits */
} options = {.timeout_ms = -1};

/* --- standard error ----------------------------------------------------------------------------------------------- */

/*
 * Every writer holds the lock of `stderr`, which guards these variables too: say_warning() and say_connection() run on a
 * thread of the library.
 */
static bool last_line_written; /* nothing may follow the last line */
static bool in_mid_line;       /* the cursor is in a line of standard error, for example after the prompt */
static bool in_mid_answer;     /* the cursor is in a line of standard output */
static bool at_prompt;

/* Ends an unfinished line. */
static void end_line(void) {
    hide_waiting();
    if (in_mid_line) fputc('\n', stderr);
    in_mid_line = false;
}

/* Ends the line of an unfinished answer if the terminal shows standard error too. */
static void end_answer(void) {
    hide_waiting();
    if (!in_mid_answer || !isatty(STDOUT_FILENO) || !isatty(STDERR_FILENO)) return;
    fflush(stdout);
    fputc('\n', stderr);
    in_mid_answer = false;
}

/* Shows the prompt, or notes that it was answered. */
static void set_prompt(bool shown) {
    flockfile(stderr);
    if (shown) fprintf(stderr, "%s>%s ", bold, plain);
    at_prompt = in_mid_line = shown;
    funlockfile(stderr);
}

/* Writes lines that can come at any time: above the prompt, or below an unfinished answer. */
static void interject(const char *lines) {
    if (at_prompt && live) {
        write_above(lines);
        return;
    }
    end_answer();
    end_line();
    fputs(lines, stderr);
    if (at_prompt) set_prompt(true);
}

/* Writes the last line, for scripts, and returns the exit code. */
static int say_last_line(confer_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    flockfile(stderr);
    end_line();
    fprintf(stderr, "confer: %s: ", confer_status_name(status));
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    last_line_written = true;
    funlockfile(stderr);
    va_end(arguments);
    return exit_code(status);
}

/* Says why a call failed, and frees the error. */
static int say_error(confer_error *error) {
    const char *peer = confer_error_peer_text(error, NULL);
    flockfile(stderr);
    if (peer != NULL) {
        end_line();
        fprintf(stderr, "The enclave says: %s\n", peer);
    }
    funlockfile(stderr);
    int code = say_last_line(confer_error_status(error), "%s", confer_error_message(error, NULL));
    confer_error_free(error);
    return code;
}

/*
 * A confer_log_fn. It shows warnings that nothing else shows, such as a cache file that cannot be written. Errors are
 * reported where they happen, failed attempts to connect by say_connection().
 */
static void say_warning(void *user_data, int32_t level, const char *target, const char *message) {
    char line[1024];
    (void)user_data;
    flockfile(stderr);
    if (level == CONFER_LOG_WARN && strcmp(target, "confer::connect") != 0 && !last_line_written) {
        snprintf(line, sizeof line - 1, "%s!%s %s", yellow, plain, message);
        interject(strcat(line, "\n")); /* also after a truncated message */
    }
    funlockfile(stderr);
}

/* --- Ctrl-C and waiting ------------------------------------------------------------------------------------------- */

/*
 * A signal handler must not call the library. So the handler writes to a pipe, which the main thread polls in every wait.
 * A second Ctrl-C before the main thread has handled the first one ends the program at once.
 */
static int wake_pipe[2];
static volatile sig_atomic_t interrupted;
static atomic_bool client_ended; /* say_connection() writes to the pipe, too */

static void wake(void) {
    ssize_t written = write(wake_pipe[1], "", 1);
    (void)written;
}

static void on_interrupt(int number) {
    static const char reset[] = "\033[0m\033[K", last_line[] = "\nconfer: CONFER_E_CANCELLED: interrupted\n";
    int saved = errno;
    (void)number;
    if (interrupted) {
        ssize_t written = live ? write(STDERR_FILENO, reset, sizeof reset - 1) : 0; /* resets colours, and removes "… 5 s" */
        written = write(STDERR_FILENO, last_line, sizeof last_line - 1);
        (void)written;
        _exit(INTERRUPTED);
    }
    interrupted = 1;
    wake();
    errno = saved;
}

static bool watch_for_interrupts(void) {
    /* A write() continues after the signal, because stdio treats EINTR as an error. poll() returns in any case. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe becomes an error of write() */
    return pipe(wake_pipe) == 0 && fcntl(wake_pipe[0], F_SETFL, O_NONBLOCK) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

enum wait { READY, TIMED_OUT, WOKEN };

/*
 * Waits until `fd` is readable, the time is over (negative: no limit), or Ctrl-C or the end of the client wakes it. On a
 * terminal shows the time since `since_ms` (not if negative).
 */
static enum wait wait_for(int fd, int64_t timeout_ms, int64_t since_ms) {
    struct pollfd watched[] = {{.fd = wake_pipe[0], .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    int64_t end = now_ms() + timeout_ms;
    char drained[16];
    for (;;) {
        int64_t left = timeout_ms < 0 ? -1 : end > now_ms() ? end - now_ms() : 0;
        int ready = poll(watched, 2, (int)(since_ms < 0 ? left : until_next_second(since_ms, left)));
        bool woken = ready > 0 && watched[0].revents != 0;
        while (woken && read(wake_pipe[0], drained, sizeof drained) > 0) continue;
        if (interrupted || (woken && client_ended)) return WOKEN;
        if (ready > 0 && !woken) return READY;
        if (ready == 0 && left == 0) return TIMED_OUT;
        if (since_ms < 0) continue;
        flockfile(stderr);
        show_waiting(since_ms);
        funlockfile(stderr);
    }
}

/* --- the report --------------------------------------------------------------------------------------------------- */

static bool write_file(const char *path, const char *data, size_t len) {
    FILE *file = fopen(path, "w");
    bool written = file != NULL && fwrite(data, 1, len, file) == len;
    return file != NULL && fclose(file) == 0 && written;
}

/* Shows the report and writes the requested files. Returns the name of a file that could not be written. */
static const char *keep_report(const confer_report *report) {
    size_t json_len, evidence_len;
    const char *json = confer_report_json(report, &json_len);
    const char *evidence = confer_report_evidence(report, &evidence_len);
    show_report(stderr, report);
    if (options.report != NULL && !write_file(options.report, json, json_len)) return options.report;
    if (options.evidence != NULL && !write_file(options.evidence, evidence, evidence_len)) return options.evidence;
    return NULL;
}

/* --- the connection ----------------------------------------------------------------------------------------------- */

/* Writes the message for an event of the connection. */
static void describe(FILE *out, const confer_connection_event *event) {
    const confer_error *error = confer_connection_event_error(event);
    switch (confer_connection_event_type(event)) {
    case CONFER_CONNECTION_LOST:
        fprintf(out, "%s!%s The connection is lost: %s\n", yellow, plain, confer_error_message(error, NULL));
        break;
    case CONFER_CONNECTION_ATTEMPT:
        fprintf(out, "%sConnecting again in %.1f s, attempt %" PRIu32 "%s\n", dim,
                (double)confer_connection_event_delay_ms(event) / 1000, confer_connection_event_attempt(event), plain);
        break;
    case CONFER_CONNECTION_FAILED:
        fprintf(out, "%s!%s That failed: %s\n", yellow, plain, confer_error_message(error, NULL));
        break;
    case CONFER_CONNECTION_CONNECTED:
        if (!confer_connection_event_release_changed(event)) {
            fprintf(out, "%s✓%s Connected again, and verified: the same release as before\n", green, plain);
        } else {
            fprintf(out, "%s!%s Connected again, and verified: another release than before\n", yellow, plain);
            show_release(out, confer_connection_event_report(event));
        }
        break;
    case CONFER_CONNECTION_ENDED: /* the last line gives the reason */
        if (confer_error_report(error) != NULL) show_report(out, confer_error_report(error));
        break;
    }
}

/* A confer_connection_fn. Shows what happens to the connection of a conversation. */
static void say_connection(void *user_data, const confer_connection_event *event) {
    char *lines = NULL;
    size_t len;
    (void)user_data;
    if (confer_error_status(confer_connection_event_error(event)) == CONFER_E_CLOSED) return; /* by main() */
    FILE *out = open_memstream(&lines, &len);
    if (out != NULL) describe(out, event);
    if (out != NULL && fclose(out) == 0 && len > 0) {
        flockfile(stderr);
        if (!last_line_written) interject(lines);
        funlockfile(stderr);
    }
    free(lines);
    if (confer_connection_event_type(event) != CONFER_CONNECTION_ENDED) return;
    client_ended = true;
    wake(); /* a wait at the prompt */
}

/* One to two minutes in all. A longer sleep of the machine ends the conversation. */
enum { MAX_ATTEMPTS = 20, FIRST_PAUSE_MS = 250, MAX_PAUSE_MS = 10000 };

static confer_status configure(confer_config *config, confer_error **error) {
    confer_policy *policy = NULL;
    confer_status status = confer_config_set_token(config, options.token, SIZE_MAX, error);
    if (status == CONFER_OK) status = confer_config_set_log(config, CONFER_LOG_WARN, say_warning, NULL, NULL, error);
    if (status == CONFER_OK && options.url != NULL)
        status = confer_config_set_endpoint(config, options.url, SIZE_MAX, error);
    if (status == CONFER_OK && options.jwks_cache != NULL)
        status = confer_config_set_jwks_cache_file(config, options.jwks_cache, SIZE_MAX, error);
    if (status == CONFER_OK && options.timeout_ms > 0) status = set_limits(config, (uint64_t)options.timeout_ms, error);
    if (status == CONFER_OK && options.once == NULL) /* who wants one answer wants to know that it broke */
        status = confer_config_set_reconnect(config, MAX_ATTEMPTS, FIRST_PAUSE_MS, MAX_PAUSE_MS, error);
    if (status == CONFER_OK && options.once == NULL)
        status = confer_config_set_connection_callback(config, say_connection, NULL, NULL, error);
    if (status == CONFER_OK && options.policy != NULL) {
        status = confer_policy_load(options.policy, SIZE_MAX, &policy, error);
        if (status == CONFER_OK) status = confer_config_set_policy(config, policy, error);
        confer_policy_free(policy);
    }
    return status;
}

/* Connects, and shows and saves the report; or prints the error. */
static confer_status connect_and_verify(confer_client **client) {
    confer_config *config = NULL;
    confer_connecting *connecting = NULL;
    confer_report *report = NULL;
    confer_error *error = NULL;
    const char *unwritten = NULL;
    int fd = -1;

    confer_status status = confer_config_new(&config, &error);
    if (status == CONFER_OK) status = configure(config, &error);
    if (status == CONFER_OK) status = confer_connecting_start(config, &connecting, &error);
    if (status == CONFER_OK) status = confer_connecting_fd(connecting, &fd, &error);
    if (status == CONFER_OK) {
        fputs("Connecting …\n", stderr);
        if (wait_for(fd, -1, now_ms()) == WOKEN) confer_connecting_cancel(connecting);
        hide_waiting();
        status = confer_connecting_wait(connecting, -1, client, &error);
    }
    if (status == CONFER_OK) status = confer_attestation_report(*client, &report, &error);

    const confer_report *either = report != NULL ? report : confer_error_report(error); /* a refusal owns its report */
    if (either != NULL) unwritten = keep_report(either);
    if (unwritten != NULL && status == CONFER_OK) {
        status = CONFER_E_FILE;
        say_last_line(status, "%s: %s", unwritten, strerror(errno));
    } else if (status != CONFER_OK) {
        if (unwritten != NULL) fprintf(stderr, "%s: %s\n", unwritten, strerror(errno));
        say_error(error);
    }
    verified = status == CONFER_OK ? *client : NULL;
    confer_report_free(report);
    confer_connecting_free(connecting);
    confer_config_free(config);
    return status;
}

/* --- one answer --------------------------------------------------------------------------------------------------- */

/* Prints an event on one line. JSON allows a raw line break only where a space is allowed too. */
static void print_json(const char *json, size_t len) {
    for (size_t at = 0; at < len; at++) putchar(json[at] == '\n' || json[at] == '\r' ? ' ' : json[at]);
    putchar('\n');
}

static void print_done(confer_status status) {
    printf("{\"type\":\"done\",\"status\":\"%s\"}\n", confer_status_name(status));
    fflush(stdout);
}

static void show_event(const confer_event *event) {
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
static confer_status next_event(confer_stream *stream, int fd, const confer_event **event, confer_error **error) {
    int64_t since = now_ms();
    for (;;) {
        if (interrupted) confer_stream_cancel(stream); /* checked here too, because events may come without a pause */
        confer_status status = confer_stream_next(stream, 0, event, error);
        if (status != CONFER_TIMEOUT) return status;
        if (fflush(stdout) != 0) return CONFER_E_FILE; /* show the received text before waiting for more */
        if (wait_for(fd, options.timeout_ms, since) == TIMED_OUT) return CONFER_TIMEOUT;
    }
}

/* Asks. A complete answer becomes part of the conversation, with its question. */
static confer_status start_answer(confer_client *client, const confer_conversation *conversation,
                                  const char *question, size_t question_len, confer_stream **stream,
                                  confer_error **error) {
    confer_chat_request *request = NULL;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK && options.model != NULL)
        status = confer_chat_request_set_model(request, options.model, SIZE_MAX, error);
    if (status == CONFER_OK) status = confer_chat_request_set_conversation(request, conversation, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_message(request, CONFER_ROLE_USER, question, question_len, error);
    if (status == CONFER_OK) status = confer_chat_stream(client, request, NULL, stream, error);
    confer_chat_request_free(request);
    return status;
}

/*
 * Asks, and shows the answer or the error. `lives`: receives whether the client still lives; NULL for a single question.
 */
static int ask(confer_client *client, const confer_conversation *conversation, const char *question,
               size_t question_len, bool *lives) {
    confer_stream *stream = NULL;
    confer_error *error = NULL;
    const confer_event *event = NULL;
    int fd = -1, output_error = 0;

    confer_status status = start_answer(client, conversation, question, question_len, &stream, &error);
    if (status == CONFER_OK) status = confer_stream_fd(stream, &fd, &error);
    while (status == CONFER_OK && (status = next_event(stream, fd, &event, &error)) == CONFER_OK) {
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
    bool lost = status == CONFER_E_CONNECTION_LOST && lives != NULL && *lives && isatty(STDIN_FILENO);
    if (status == CONFER_E_CANCELLED || lost) { /* the caller and say_connection() show the reason */
        confer_error_free(error);
        return exit_code(status);
    }
    if (error != NULL) return say_error(error);
    return status == CONFER_OK ? ANSWERED : say_last_line(status, "no event came within %s s", options.timeout);
}

/* Whether the conversation continues after a failed or stopped answer. A script ends at its first failure. */
static bool goes_on(bool lives, bool terminal) {
    if (!terminal || !lives || ferror(stdout)) return false;
    flockfile(stderr);
    last_line_written = false; /* it belonged to an answer, not to the program */
    if (interrupted) fprintf(stderr, "%sStopped. Ctrl-C again quits.%s\n", dim, plain);
    funlockfile(stderr);
    interrupted = 0;
    return true;
}

/*
 * Reads a line like getline(), and polls before each byte, so that Ctrl-C works in an unfinished line. Returns -1 at the end
 * of the input, and when it is woken.
 */
static ssize_t read_line(char **line, size_t *size) {
    size_t len = 0;
    for (int byte = 0; byte != '\n';) {
        char *larger = len + 2 > *size ? realloc(*line, *size = 2 * len + 128) : *line;
        if (larger == NULL || client_ended) return -1;
        *line = larger;
        if (wait_for(STDIN_FILENO, -1, -1) != READY) return -1;
        if ((byte = getchar()) == EOF) break;
        (*line)[len++] = (char)byte;
    }
    (*line)[len] = '\0';
    return len > 0 ? (ssize_t)len : -1;
}

/* Asks line by line. */
static int converse(confer_client *client, const confer_conversation *conversation) {
    bool terminal = isatty(STDIN_FILENO);
    confer_error *error = NULL;
    char *line = NULL;
    size_t size = 0;
    int code = ANSWERED;
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() does not see buffered input */
    if (terminal) fprintf(stderr, "%sAsk anything. Ctrl-C stops an answer; /quit or Ctrl-D ends.%s\n", dim, plain);
    while (code == ANSWERED) {
        if (terminal) set_prompt(true);
        bool lives = false;
        ssize_t len = read_line(&line, &size);
        if (terminal) set_prompt(false);
        if (terminal && len < 0) fputc('\n', stderr);
        if (interrupted) code = INTERRUPTED;
        else if (client_ended && confer_client_check(client, &error) != CONFER_OK) code = say_error(error);
        if (len > 0 && line[len - 1] == '\n') line[--len] = '\0';
        if (code != ANSWERED || len < 0 || strcmp(line, "/quit") == 0) break;
        if (len == 0) continue;
        code = ask(client, conversation, line, (size_t)len, &lives);
        if ((code != ANSWERED || interrupted) && goes_on(lives, terminal)) code = ANSWERED;
    }
    free(line);
    return code;
}

/* --- command line ------------------------------------------------------------------------------------------------- */

static int wrong_usage(const char *what, const char *which) {
    fputs("usage: chat [--url URL] [--token TOKEN] [--policy FILE] [--jwks-cache FILE] [--model MODEL]\n"
          "            [--timeout SECONDS] [--report FILE] [--evidence FILE] [--json] [--once PROMPT]\n"
          "The token is better given as CONFER_TOKEN: others on this machine can see command lines.\n", stderr);
    return say_last_line(CONFER_E_INVALID_ARGUMENT, "%s%s", what, which);
}

static int read_options(int argc, char **argv) {
    const char *token = NULL;
    const struct { const char *name; const char **value; } named[] = {
        {"--url", &options.url},           {"--token", &token},           {"--policy", &options.policy},
        {"--model", &options.model},       {"--timeout", &options.timeout}, {"--jwks-cache", &options.jwks_cache},
        {"--report", &options.report},     {"--evidence", &options.evidence}, {"--once", &options.once}};
    const size_t count = sizeof named / sizeof named[0];
    for (int at = 1; at < argc; at++) {
        size_t which = 0;
        if (strcmp(argv[at], "--json") == 0) {
            options.json = true;
            continue;
        }
        while (which < count && strcmp(argv[at], named[which].name) != 0) which++;
        if (which == count) { /* do not repeat the secret of --token=SECRET */
            argv[at][strcspn(argv[at], "=")] = '\0';
            return wrong_usage("unknown argument, or one whose value must stand apart: ",
                               strncmp(argv[at], "--", 2) == 0 ? argv[at] : "(not an option)");
        }
        if (at + 1 == argc) return wrong_usage("a value is missing after ", argv[at]);
        *named[which].value = argv[++at];
        if (named[which].value == &token) { /* remove it, because ps shows command lines */
            options.token = strdup(token);
            memset(argv[at], 'x', strlen(argv[at]));
        }
    }
    if (options.timeout != NULL && !read_timeout(options.timeout, &options.timeout_ms))
        return wrong_usage("--timeout takes 0.001 to 86400 seconds, and not ", options.timeout);
    if (token == NULL && getenv("CONFER_TOKEN") != NULL) options.token = strdup(getenv("CONFER_TOKEN"));
    if (options.token == NULL || *options.token == '\0') return wrong_usage("there is no token: set ", "CONFER_TOKEN");
    return 0;
}

/* A closed standard descriptor would become the number of a socket: fill the gap with one that refuses its use. */
static void fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) exit(FAILED);
}

int main(int argc, char **argv) {
    confer_client *client = NULL;
    confer_conversation *conversation = NULL;
    confer_error *error = NULL;

    fill_standard_descriptors();
    use_terminal();
    int code = read_options(argc, argv);
    if (code == 0 && !watch_for_interrupts()) code = say_last_line(CONFER_E_SYSTEM, "signals: %s", strerror(errno));
    if (code == 0 && confer_conversation_new(&conversation, &error) != CONFER_OK) code = say_error(error);
    if (code == 0) {
        confer_status status = connect_and_verify(&client);
        if (status != CONFER_OK && options.json) print_done(status);
        code = exit_code(status);
    }
    if (code == 0 && options.once != NULL) code = ask(client, NULL, options.once, SIZE_MAX, NULL);
    else if (code == 0) code = converse(client, conversation);
    if (code == INTERRUPTED && !last_line_written) say_last_line(CONFER_E_CANCELLED, "interrupted");
    if (client != NULL) confer_close(client, 2000, NULL);
    confer_client_free(client);
    confer_conversation_free(conversation);
    free(options.token);
    return code;
}
