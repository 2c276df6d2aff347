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
 * This file has the conversation. options.h reads the command line, connecting.h makes the first connection, watch.h shows
 * its changes, answer.h asks, waiting.h waits and handles Ctrl-C, messages.h and terminal.h write to the terminal,
 * checklist.h writes the report, common.h has the shared code of the examples, and portable.h differs on Windows.
 *
 * Exit: 0 answered, 2 usage, 3 enclave refused, 4 could not connect or connection lost, 5 request refused or failed, 130
 * interrupted. A request that is too large and an answer that cannot be written exit with 5, too. After a failure the last
 * line on standard error is "confer: STATUS_NAME: message".
 */

#define _POSIX_C_SOURCE 200809L

#include "answer.h"

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
 * Reads a line, without its end. It waits before each byte, so that Ctrl-C works in an unfinished line. Returns false at the
 * end of the input, after Ctrl-C, and when the client ends.
 */
static bool read_line(struct text *line) {
    line->len = 0;
    for (;;) {
        if (phase == ENDED || wait_for(true, -1, -1) != READABLE) return false;
        int byte = read_byte();
        if (byte == EOF) return line->len > 0;
        add(line, &(char){(char)byte}, byte != '\n');
        if (byte == '\n') return true;
    }
}

/* Asks line by line. */
static int converse(confer_client *client, const confer_conversation *conversation) {
    bool terminal = isatty(STDIN_FILENO);
    struct text line = {0};
    int code = ANSWERED;
    if (terminal) fprintf(stderr, "%sAsk anything. Ctrl-C stops an answer; /quit or Ctrl-D ends.%s\n", dim, plain);
    while (code == ANSWERED) {
        if (terminal) set_prompt(true);
        bool lives = false;
        bool read = read_line(&line);
        if (terminal) set_prompt(false);
        if (terminal && !read) fputc('\n', stderr);
        if (interrupted) code = INTERRUPTED;
        else if (phase == ENDED) code = say_end_of_client();
        if (code != ANSWERED || !read || strcmp(line.text, "/quit") == 0) break;
        if (line.len == 0) continue;
        code = ask(client, conversation, line.text, line.len, &lives);
        if ((code != ANSWERED || interrupted) && goes_on(lives, terminal)) code = ANSWERED;
    }
    free(line.text);
    return code;
}

int main(int argc, char **argv) {
    confer_client *client = NULL;
    confer_conversation *conversation = NULL;
    confer_error *error = NULL;

    if (!fill_standard_descriptors()) return FAILED;
    use_terminal();
    int code = read_options(argc, argv);
    if (code == 0 && !(prepare_to_wait() && catch_ctrl_c(on_interrupt)))
        code = say_last_line(CONFER_E_SYSTEM, "signals: %s", strerror(errno));
    if (code == 0 && confer_conversation_new(&conversation, &error) != CONFER_OK) code = say_error(error);
    if (code == 0) {
        confer_status status = connect_and_verify(&client);
        if (status != CONFER_OK && options.json) print_done(status);
        code = exit_code(status);
    }
    if (code == 0 && options.once != NULL) code = ask(client, NULL, options.once, CONFER_NTS, NULL);
    else if (code == 0) code = converse(client, conversation);
    if (code == INTERRUPTED && !last_line_written) say_last_line(CONFER_E_CANCELLED, "interrupted");
    if (client != NULL && confer_close(client, 2000, NULL) != CONFER_OK) fputs("Closing takes a while.\n", stderr);
    stop_watching();
    confer_client_free(client);
    confer_conversation_free(conversation);
    free(options.token);
    return code;
}
