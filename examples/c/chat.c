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
 * checklist.h shows the report, and common.h has the shared code of the examples.
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
 * Reads a line like getline(), and polls before each byte, so that Ctrl-C works in an unfinished line. Returns -1 at the end
 * of the input, after Ctrl-C, and when the client ends.
 */
static ssize_t read_line(char **line, size_t *size) {
    size_t len = 0;
    for (int byte = 0; byte != '\n';) {
        char *larger = len + 2 > *size ? realloc(*line, *size = 2 * len + 128) : *line;
        if (larger == NULL || phase == ENDED) return -1;
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
        else if (phase == ENDED) code = say_end_of_client();
        if (len > 0 && line[len - 1] == '\n') line[--len] = '\0';
        if (code != ANSWERED || len < 0 || strcmp(line, "/quit") == 0) break;
        if (len == 0) continue;
        code = ask(client, conversation, line, (size_t)len, &lives);
        if ((code != ANSWERED || interrupted) && goes_on(lives, terminal)) code = ANSWERED;
    }
    free(line);
    return code;
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
    if (code == 0 && !catch_interrupts()) code = say_last_line(CONFER_E_SYSTEM, "signals: %s", strerror(errno));
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
