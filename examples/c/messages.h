/*
 * messages.h: the messages of chat on standard error: prompts, messages that come at any time, and the last line.
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "terminal.h"

/*
 * Every writer holds the lock of `stderr`, which guards these variables too: say_warning() runs on a thread of the library.
 */
static bool last_line_written; /* nothing may follow the last line */
static bool in_mid_line;       /* the cursor is in a line of standard error, for example after the prompt */
static bool in_mid_answer;     /* the cursor is in a line of standard output */
static bool at_prompt;

/* Ends an unfinished line. */
static inline void end_line(void) {
    hide_waiting();
    if (in_mid_line) fputc('\n', stderr);
    in_mid_line = false;
}

/* Ends the line of an unfinished answer if the terminal shows standard error too. */
static inline void end_answer(void) {
    hide_waiting();
    if (!in_mid_answer || !isatty(STDOUT_FILENO) || !isatty(STDERR_FILENO)) return;
    fflush(stdout);
    fputc('\n', stderr);
    in_mid_answer = false;
}

/* Shows the prompt, or notes that it was answered. */
static inline void set_prompt(bool shown) {
    flockfile(stderr);
    if (shown) fprintf(stderr, "%s>%s ", bold, plain);
    at_prompt = in_mid_line = shown;
    funlockfile(stderr);
}

/* Writes lines that can come at any time: above the prompt, or below an unfinished answer. */
static inline void interject(const char *lines) {
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
static inline int say_last_line(confer_status status, const char *format, ...) {
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
static inline int say_error(confer_error *error) {
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
 * reported where they happen, and failed attempts to connect by show_client_event().
 */
static inline void say_warning(void *user_data, int32_t level, const char *target, const char *message) {
    char line[1024];
    (void)user_data;
    flockfile(stderr);
    if (level == CONFER_LOG_WARN && strcmp(target, "confer::connect") != 0 && !last_line_written) {
        snprintf(line, sizeof line - 1, "%s!%s %s", yellow, plain, message);
        interject(strcat(line, "\n")); /* also after a truncated message */
    }
    funlockfile(stderr);
}

#endif
