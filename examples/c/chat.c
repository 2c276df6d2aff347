/*
 * chat: a small terminal chat with Confer's service, and a tour of confer.h.
 *
 * It connects, shows as a checklist what was verified of the enclave, and streams answers: these go to standard output,
 * everything else to standard error, and the token nowhere. A conversation outlives its connection: that is made again,
 * verified anew, and what was asked meanwhile is then sent. --report and --evidence keep those of the first one.
 *
 *     export CONFER_TOKEN=...
 *     chat                               a conversation; /quit or Ctrl-D ends it
 *     chat --once "What is a quine?"     one answer
 *
 * Exit: 0 answered, 2 usage, 3 enclave refused, 4 could not connect or connection lost, 5 request refused or failed,
 * 130 interrupted. After a failure the last line on standard error is "confer: STATUS_NAME: message".
 */

#define _POSIX_C_SOURCE 200809L

#include "common.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <time.h>

static struct {
    const char *url, *policy, *jwks_cache, *model, *timeout, *report, *evidence, *once;
    char *token;
    bool json;
    int64_t timeout_ms; /* of connecting, and of the wait for any one event; -1: the library's own limits */
} options = {.timeout_ms = -1};

/* --- standard error ----------------------------------------------------------------------------------------------- */

static const char *bold = "", *dim = "", *red = "", *green = "", *yellow = "", *plain = "";

/*
 * Who writes here holds the lock of `stderr`, which guards these too: say_warning() and say_connection() run on a thread
 * of the library.
 */
static bool last_line_written; /* nothing may follow it */
static bool in_mid_line;       /* of standard error, as behind the prompt */
static bool in_mid_answer;     /* of a line of standard output */
static bool at_prompt;

static void use_colours_on_a_terminal(void) {
    if (!isatty(STDERR_FILENO) || getenv("NO_COLOR") != NULL) return;
    bold = "\033[1m", dim = "\033[2m", red = "\033[31m", green = "\033[32m", yellow = "\033[33m", plain = "\033[0m";
}

/* What is said next begins a line of its own, also behind thoughts that broke off. */
static void end_line(void) {
    if (in_mid_line) fputc('\n', stderr);
    in_mid_line = false;
}

/* The same for what is said at any moment: instead of the prompt, or behind an answer on the same screen. */
static void interrupt_line(void) {
    if (at_prompt && *bold != '\0') fputs("\r\033[K", stderr), in_mid_line = false;
    if (in_mid_answer && isatty(STDOUT_FILENO)) in_mid_line = true, in_mid_answer = false;
    end_line();
}

/* Shows the prompt, or notes that it was answered. */
static void set_prompt(bool shown) {
    flockfile(stderr);
    if (shown) fprintf(stderr, "%s>%s ", bold, plain);
    at_prompt = in_mid_line = shown;
    funlockfile(stderr);
}

/* Writes the line that scripts rely on, and gives the exit code. */
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

/* A confer_log_fn. Errors are reported where they happen; a warning, as of a cache that is not kept, is here alone. */
static void say_warning(void *user_data, int32_t level, const char *target, const char *message) {
    (void)user_data, (void)target;
    flockfile(stderr);
    if (level == CONFER_LOG_WARN && !last_line_written) {
        interrupt_line();
        fprintf(stderr, "%s!%s %s\n", yellow, plain, message);
        if (at_prompt) set_prompt(true);
    }
    funlockfile(stderr);
}

/* --- Ctrl-C ------------------------------------------------------------------------------------------------------- */

/*
 * The signal can arrive on any thread, also on one of the library's, and no function of the library may be called in
 * its handler. So the handler writes to a pipe, which the main thread polls beside whatever it waits for.
 */
static int interrupt_pipe[2];
static volatile sig_atomic_t interrupted;
static atomic_bool client_ended; /* say_connection() writes to the pipe, too */

static void on_interrupt(int number) {
    int saved = errno;
    ssize_t written = write(interrupt_pipe[1], "", 1);
    (void)written, (void)number;
    interrupted = 1;
    errno = saved;
}

static bool watch_for_interrupts(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    action.sa_flags = (int)SA_RESETHAND; /* a second Ctrl-C ends the program at once */
    signal(SIGPIPE, SIG_IGN);            /* a closed pipe is then an error of write(), and is reported */
    return pipe(interrupt_pipe) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

enum wait { READY, TIMED_OUT, STOP };

/* Waits until `fd` is readable, the time is over (negative: never), or Ctrl-C. */
static enum wait wait_for(int fd, int64_t timeout_ms) {
    struct pollfd watched[] = {{.fd = interrupt_pipe[0], .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    int ready;
    do ready = poll(watched, 2, timeout_ms < 0 ? -1 : (int)timeout_ms);
    while (ready < 0 && errno == EINTR && !interrupted);
    return interrupted ? STOP : ready == 0 ? TIMED_OUT : READY;
}

/* --- the report --------------------------------------------------------------------------------------------------- */

static const char *or_unknown(const char *text) {
    return text != NULL ? text : "unknown";
}

static void show_time(const char *before, int64_t seconds) {
    char text[32];
    struct tm utc;
    time_t when = (time_t)seconds;
    if (seconds >= 0 && gmtime_r(&when, &utc) != NULL && strftime(text, sizeof text, "%F %T UTC", &utc) != 0)
        fprintf(stderr, "%s%s", before, text);
}

/* Mark, id, sentence, and what was found; a digest is cut where all is well, for --report has it whole. */
static void show_check(const confer_report *report, size_t index) {
    const char *marks[] = {"✓", "!", "✗", "–"}, *colours[] = {green, yellow, red, dim}; /* by CONFER_OUTCOME_* */
    int32_t outcome = confer_report_check_outcome(report, index);
    const char *expected = confer_report_check_expected(report, index, NULL);
    const char *observed = confer_report_check_observed(report, index, NULL);
    bool passed = outcome == CONFER_OUTCOME_PASS;

    fprintf(stderr, "  %s%s%s %-17s %s", colours[outcome], marks[outcome], plain,
            confer_report_check_id(report, index, NULL), confer_report_check_detail(report, index, NULL));
    if (passed && observed != NULL && *observed != '\0') {
        bool is_short = strlen(observed) < 64;
        fprintf(stderr, " %s%.*s%s%s", dim, is_short ? 64 : 24, observed, is_short ? "" : "…", plain);
    }
    if (!passed && expected != NULL) fprintf(stderr, "\n%22sexpected %s", "", expected);
    if (!passed && observed != NULL) fprintf(stderr, "\n%22sfound    %s", "", observed);
    fputc('\n', stderr);
}

static void show_release(const confer_report *report) {
    fprintf(stderr, "%sRelease%s  image %s, proxy %s\n         signed by %s, as %s vouches\n", bold, plain,
            or_unknown(confer_report_image_version(report, NULL)),
            or_unknown(confer_report_proxy_version(report, NULL)),
            or_unknown(confer_report_signer(report, NULL)), or_unknown(confer_report_issuer(report, NULL)));
    fprintf(stderr, "         logged at %s as entry %" PRId64, or_unknown(confer_report_log_url(report, NULL)),
            confer_report_log_index(report));
    show_time(" on ", confer_report_log_integrated_time(report));
    fputc('\n', stderr);
}

static void show_report(const confer_report *report) {
    fprintf(stderr, "\n%sVerification%s of %s by the policy %s\n", bold, plain,
            or_unknown(confer_report_endpoint(report, NULL)), or_unknown(confer_report_policy_name(report, NULL)));
    for (size_t index = 0; index < confer_report_check_count(report); index++) show_check(report, index);
    if (!confer_report_verified(report)) {
        fprintf(stderr, "\n%s%sRefused.%s No question goes to this enclave.\n", bold, red, plain);
        return;
    }
    fputc('\n', stderr);
    show_release(report);
    fprintf(stderr, "%sMachine%s  Intel TDX, patch level %s", bold, plain,
            or_unknown(confer_report_tcb_status(report, NULL)));
    show_time("; Intel's word holds until ", confer_report_expires_at(report));
    fprintf(stderr, "\n\n%s%sVerified.%s\n\n", bold, green, plain);
}

static bool write_file(const char *path, const char *data, size_t len) {
    FILE *file = fopen(path, "w");
    bool written = file != NULL && fwrite(data, 1, len, file) == len;
    return file != NULL && fclose(file) == 0 && written;
}

/* Shows the report and writes the files that were asked for; gives the name of one that could not be written. */
static const char *keep_report(const confer_report *report) {
    size_t json_len, evidence_len;
    const char *json = confer_report_json(report, &json_len);
    const char *evidence = confer_report_evidence(report, &evidence_len);
    show_report(report);
    if (options.report != NULL && !write_file(options.report, json, json_len)) return options.report;
    if (options.evidence != NULL && !write_file(options.evidence, evidence, evidence_len)) return options.evidence;
    return NULL;
}

/* --- the connection ----------------------------------------------------------------------------------------------- */

/*
 * A confer_connection_fn: what becomes of the connection of a conversation, said at any moment. Why an attempt failed
 * is a warning in the log, and so is said already.
 */
static void say_connection(void *user_data, const confer_connection_event *event) {
    const confer_error *error = confer_connection_event_error(event);
    const confer_report *report = confer_connection_event_report(event);
    int32_t type = confer_connection_event_type(event);
    (void)user_data;
    if (confer_error_status(error) == CONFER_E_CLOSED) return; /* by main() */
    flockfile(stderr);
    if (!last_line_written && type != CONFER_CONNECTION_FAILED) {
        interrupt_line();
        if (type == CONFER_CONNECTION_LOST)
            fprintf(stderr, "%s!%s The connection is lost: %s\n", yellow, plain, confer_error_message(error, NULL));
        if (type == CONFER_CONNECTION_ATTEMPT)
            fprintf(stderr, "%sConnecting again in %.1f s, attempt %" PRIu32 "%s\n", dim,
                    (double)confer_connection_event_delay_ms(event) / 1000, confer_connection_event_attempt(event), plain);
        if (type == CONFER_CONNECTION_CONNECTED && !confer_connection_event_release_changed(event))
            fprintf(stderr, "%s✓%s Connected again, and verified: the same release as before\n", green, plain);
        if (type == CONFER_CONNECTION_CONNECTED && confer_connection_event_release_changed(event)) {
            fprintf(stderr, "%s!%s Connected again, and verified: another release than before\n", yellow, plain);
            show_release(report);
        }
        if (type == CONFER_CONNECTION_ENDED) {
            if (confer_error_report(error) != NULL) show_report(confer_error_report(error));
            fprintf(stderr, "%s✗%s There will be no other connection.\n", red, plain);
        }
        if (at_prompt) set_prompt(true);
    }
    funlockfile(stderr);
    if (type != CONFER_CONNECTION_ENDED) return;
    client_ended = true;
    ssize_t written = write(interrupt_pipe[1], "", 1); /* for a wait at the prompt */
    (void)written;
}

/*
 * --timeout bounds connecting as a whole. The limits inside are shorter, so that what hangs is called by its name: the
 * stage, the key set that does not come, the connection that died under an answer.
 */
static confer_status set_limits(confer_config *config, uint64_t ms, confer_error **error) {
    uint64_t keepalive = (ms + 3) / 4, dead_peer = (ms + 1) / 2;
    confer_status status = confer_config_set_connect_timeout_ms(config, ms, error);
    for (int32_t stage = CONFER_STAGE_RESOLVE; stage <= CONFER_STAGE_PROXY && status == CONFER_OK; stage++)
        status = confer_config_set_stage_timeout_ms(config, stage, (3 * ms + 3) / 4, error);
    if (status == CONFER_OK) status = confer_config_set_idle_timeout_ms(config, ms, error);
    if (status == CONFER_OK && keepalive < 20000) status = confer_config_set_keepalive_ms(config, keepalive, error);
    if (status == CONFER_OK && dead_peer < 20000) status = confer_config_set_dead_peer_ms(config, dead_peer, error);
    return status;
}

/* One to two minutes in all; a laptop that was closed for longer is no conversation that waits. */
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

/* Connects, shows and keeps the report; or says why not. */
static confer_status connect_and_verify(confer_client **client) {
    confer_config *config = NULL;
    confer_connecting *connecting = NULL;
    confer_report *report = NULL;
    confer_error *error = NULL;
    const char *unwritten = NULL;
    int fd = -1;

    confer_status status = confer_config_new(&config, &error);
    if (status == CONFER_OK) status = configure(config, &error);
    if (status == CONFER_OK) status = confer_connect_start(config, &connecting, &error);
    if (status == CONFER_OK) status = confer_connecting_fd(connecting, &fd, &error);
    if (status == CONFER_OK) {
        fputs("Connecting …\n", stderr);
        if (wait_for(fd, -1) == STOP) confer_connecting_cancel(connecting);
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
    confer_report_free(report);
    confer_connecting_free(connecting);
    confer_config_free(config);
    return status;
}

/* --- one answer --------------------------------------------------------------------------------------------------- */

/* An event on one line. A raw line break can only stand between its parts, where a space does as well. */
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
    if (options.json) {
        print_json(json, json_len);
    } else if (type == CONFER_EVENT_TOKEN && len > 0) {
        end_line();
        print_text(stdout, content, len);
        in_mid_answer = content[len - 1] != '\n';
    } else if (type == CONFER_EVENT_THINKING && len > 0) {
        fputs(dim, stderr);
        print_text(stderr, content, len);
        fputs(plain, stderr);
        in_mid_line = content[len - 1] != '\n';
    } else if (type == CONFER_EVENT_TOOL_CALL || type == CONFER_EVENT_CLIENT_TOOL_CALL) {
        const char *name = confer_event_tool_name(event, &len);
        end_line();
        fputs(type == CONFER_EVENT_TOOL_CALL ? "[the enclave runs its tool " : "[left undone: the tool ", stderr);
        if (name != NULL) print_text(stderr, name, len);
        fputs("]\n", stderr);
    }
    funlockfile(stderr);
}

/* Takes an event, and waits for it if need be. CONFER_TIMEOUT: it took too long. */
static confer_status next_event(confer_stream *stream, int fd, const confer_event **event, confer_error **error) {
    for (;;) {
        if (interrupted) confer_stream_cancel(stream); /* asked here too: events may come without a pause */
        confer_status status = confer_stream_next(stream, 0, event, error);
        if (status != CONFER_TIMEOUT) return status;
        if (fflush(stdout) != 0) return CONFER_E_FILE; /* all that came is shown before the wait for more */
        if (wait_for(fd, options.timeout_ms) == TIMED_OUT) return CONFER_TIMEOUT;
    }
}

/* Asks. When its answer is complete, both are part of the conversation, if there is one. */
static confer_status start_answer(const confer_client *client, const confer_conversation *conversation,
                                  const char *question, size_t question_len, confer_stream **stream,
                                  confer_error **error) {
    confer_chat_request *request = NULL;
    confer_status status = confer_chat_request_new(&request, error);
    if (status == CONFER_OK && options.model != NULL)
        status = confer_chat_request_set_model(request, options.model, SIZE_MAX, error);
    if (status == CONFER_OK) status = confer_chat_request_set_conversation(request, conversation, error);
    if (status == CONFER_OK)
        status = confer_chat_request_add_message(request, CONFER_ROLE_USER, question, question_len, error);
    if (status == CONFER_OK) status = confer_chat_pull(client, request, stream, error);
    confer_chat_request_free(request);
    return status;
}

/* Asks, and shows the answer as it comes; or says why there is none. */
static int ask(const confer_client *client, const confer_conversation *conversation, const char *question,
               size_t question_len) {
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
    if (options.json) print_done(status);
    else if (in_mid_answer) putchar('\n');
    in_mid_answer = false;
    funlockfile(stderr);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == CONFER_OK) output_error = errno;
    if (output_error != 0) {
        say_last_line(CONFER_E_FILE, "standard output: %s", strerror(output_error));
        return FAILED; /* an answer that does not arrive is none */
    }
    if (error != NULL) return say_error(error);
    return status == CONFER_OK ? ANSWERED : say_last_line(status, "no event came within %s s", options.timeout);
}

/* Asks line by line. On a terminal a failed answer ends nothing while the client lives; a script learns at once. */
static int converse(const confer_client *client, const confer_conversation *conversation) {
    bool terminal = isatty(STDIN_FILENO);
    confer_error *error = NULL;
    char *line = NULL;
    size_t size = 0;
    int code = ANSWERED;
    setvbuf(stdin, NULL, _IONBF, 0); /* poll() does not see what waits in a buffer */
    if (terminal) fprintf(stderr, "%sAsk anything. /quit or Ctrl-D ends.%s\n", dim, plain);
    for (;;) {
        if (terminal) set_prompt(true);
        enum wait came = wait_for(STDIN_FILENO, -1);
        ssize_t len = came == STOP || client_ended ? -1 : getline(&line, &size, stdin);
        if (terminal) set_prompt(false);
        if (terminal && len < 0) fputc('\n', stderr);
        if (interrupted) code = say_last_line(CONFER_E_CANCELLED, "interrupted");
        else if (client_ended && confer_client_check(client, &error) != CONFER_OK) code = say_error(error);
        if (len > 0 && line[len - 1] == '\n') line[--len] = '\0';
        if (len < 0 || strcmp(line, "/quit") == 0) break;
        if (len == 0) continue;
        code = ask(client, conversation, line, (size_t)len);
        if (code != ANSWERED && (!terminal || interrupted || confer_client_check(client, NULL) != CONFER_OK)) break;
        flockfile(stderr);
        last_line_written = false; /* it was that of an answer, not of the program */
        funlockfile(stderr);
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
        if (which == count) { /* --token=SECRET is a likely slip: what stands behind the name is not repeated */
            argv[at][strcspn(argv[at], "=")] = '\0';
            return wrong_usage("unknown argument, or one whose value must stand apart: ",
                               strncmp(argv[at], "--", 2) == 0 ? argv[at] : "(not an option)");
        }
        if (at + 1 == argc) return wrong_usage("a value is missing after ", argv[at]);
        *named[which].value = argv[++at];
        if (named[which].value == &token) { /* ps shows command lines: take it from there */
            options.token = strdup(token);
            memset(argv[at], 'x', strlen(argv[at]));
        }
    }
    if (options.timeout != NULL) {
        char *end;
        double seconds = strtod(options.timeout, &end);
        if (*end != '\0' || !(seconds >= 0.001 && seconds <= 86400))
            return wrong_usage("--timeout takes 0.001 to 86400 seconds, and not ", options.timeout);
        options.timeout_ms = (int64_t)(seconds * 1000);
    }
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
    use_colours_on_a_terminal();
    int code = read_options(argc, argv);
    if (code == 0 && !watch_for_interrupts()) code = say_last_line(CONFER_E_SYSTEM, "signals: %s", strerror(errno));
    if (code == 0 && confer_conversation_new(&conversation, &error) != CONFER_OK) code = say_error(error);
    if (code == 0) {
        confer_status status = connect_and_verify(&client);
        if (status != CONFER_OK && options.json) print_done(status);
        code = exit_code(status);
    }
    if (code == 0 && options.once != NULL) code = ask(client, NULL, options.once, SIZE_MAX);
    else if (code == 0) code = converse(client, conversation);
    if (client != NULL) confer_close(client, 2000, NULL);
    confer_client_free(client);
    confer_conversation_free(conversation);
    free(options.token);
    return code;
}
