/*
 * extract: uploads a document and prints what the enclave extracted from it, as JSON, on standard output.
 *
 *     extract [--url URL] [--policy FILE] [--token TOKEN] [--type CONTENT_TYPE] [--timeout SECONDS] FILE
 *     extract --type application/pdf report.pdf >report.json
 *
 * Standard error shows the progress in both directions (a bar on a terminal, otherwise a line for each quarter), and the
 * time that the enclave works. Without --type the enclave judges by the file's name and content. --timeout is the limit of
 * connecting and of each wait for more of the answer. Exit codes and last line are those of chat.
 */

#define _POSIX_C_SOURCE 200809L

#include "terminal.h"

#include <inttypes.h>
#include <sys/stat.h>

/* --- progress ------------------------------------------------------------------------------------------------- */

/* One direction. */
struct progress {
    const char *verb;
    int shown; /* in steps of the bar, or in quarters; -1: nothing shown */
};

static bool in_mid_line; /* of standard error */

static void end_line(void) {
    if (in_mid_line) fputc('\n', stderr);
    in_mid_line = false;
}

/* Shows progress if the output changes. `total` is negative if unknown. */
static void show(struct progress *progress, int64_t done, int64_t total) {
    enum { WIDTH = 40, QUARTERS = 4 };
    int steps = live ? WIDTH : QUARTERS;
    int reached = total > 0 ? (int)(done * steps / total) : done == total ? steps : 0;
    if (reached == progress->shown) return;
    progress->shown = reached;
    if (!live) {
        fprintf(stderr, "%s %" PRId64 " of %" PRId64 " bytes\n", progress->verb, done, total);
        return;
    }
    fprintf(stderr, "\r%-8s [", progress->verb);
    for (int step = 0; step < WIDTH; step++) fputc(step < reached ? '#' : ' ', stderr);
    fprintf(stderr, "] %3d %%  %.1f MiB", reached * 100 / WIDTH, (double)total / (1 << 20));
    in_mid_line = true;
    if (reached == WIDTH) end_line();
}

/* --- the document -------------------------------------------------------------------------------------------------- */

/* Options are JSON, so this refuses a text that cannot be a content type, such as one with a quotation mark. */
static confer_status set_type(confer_extraction_request *request, const char *type, confer_error **error) {
    char json[300];
    int len = snprintf(json, sizeof json, "\"%s\"", type);
    if (len >= (int)sizeof json) len = (int)sizeof json - 1;
    return confer_extraction_request_set_option(request, "content_type", CONFER_NTS, json, (size_t)len, error);
}

static confer_status extraction_of(const char *path, const char *type, confer_extraction_request **request,
                                   confer_error **error) {
    confer_status status = confer_extraction_request_new(name_of_file(path), CONFER_NTS, request, error);
    if (status == CONFER_OK) status = confer_extraction_request_set_document_file(*request, path, CONFER_NTS, error);
    if (status == CONFER_OK && type != NULL) status = set_type(*request, type, error);
    return status;
}

/*
 * Returns the largest document that a server of this version takes: 50 MiB up to 0.1.16, and 256 MiB later. Returns the
 * larger one for an unknown version.
 */
static int64_t most_bytes(const char *version) {
    int major, minor, patch;
    bool known = sscanf(version, "%d.%d.%d", &major, &minor, &patch) == 3;
    bool old = known && major == 0 && (minor < 1 || (minor == 1 && patch <= 16));
    return (old ? INT64_C(50) : INT64_C(256)) << 20;
}

/* Writes to `why` if no such server takes the file. Only a regular file has a known size. */
static confer_status check_size(const char *path, const char *version, char *why, size_t why_size) {
    struct stat file;
    int64_t most = most_bytes(version);
    if (stat(path, &file) != 0 || !S_ISREG(file.st_mode) || file.st_size <= most) return CONFER_OK;
    int len = snprintf(why, why_size, "the document has %" PRId64 " bytes; ", (int64_t)file.st_size);
    if (*version == '\0') snprintf(why + len, why_size - len, "no server takes more than %" PRId64 " MiB", most >> 20);
    else snprintf(why + len, why_size - len, "this server, version %s, takes at most %" PRId64 " MiB", version, most >> 20);
    return CONFER_E_TOO_LARGE;
}

/* Waits for an event, and shows the waiting time: each second on a terminal, otherwise each minute. */
static confer_status next_event(confer_stream *stream, const confer_event **event, confer_error **error) {
    int64_t since = now_ms();
    for (;;) {
        confer_status status = confer_stream_next(stream, live ? until_next_second(since, -1) : 60000, event, error);
        if (status != CONFER_TIMEOUT) {
            hide_waiting();
            return status;
        }
        if (live) show_waiting(since);
        else fprintf(stderr, "still waiting after %d s\n", (int)((now_ms() - since) / 1000));
    }
}

/* Sends the document, and collects the answer in `kept`, because half a JSON text is useless. */
static confer_status extract(confer_client *client, const confer_extraction_request *request, struct text *kept,
                             confer_error **error) {
    struct progress up = {"sent", -1}, down = {"received", -1};
    confer_stream *stream = NULL;
    const confer_event *event = NULL;
    confer_status status = confer_extraction_stream(client, request, NULL, &stream, error);
    while (status == CONFER_OK && (status = next_event(stream, &event, error)) == CONFER_OK) {
        int32_t type = confer_event_type(event);
        int64_t total;
        size_t len;
        if (type == CONFER_EVENT_PROGRESS) {
            int64_t sent = confer_event_sent(event, &total);
            show(&up, sent, total);
            if (sent == total && !live) fputs("all is sent; the enclave is at work\n", stderr);
        } else if (type == CONFER_EVENT_BODY) {
            const char *piece = confer_event_content(event, &len);
            int64_t received = confer_event_received(event, &total);
            add(kept, piece, len);
            show(&down, received, total);
        }
    }
    end_line();
    confer_stream_free(stream);
    return status;
}

int main(int argc, char **argv) {
    const char *usage = "extract [--url URL] [--policy FILE] [--token TOKEN] [--type CONTENT_TYPE] [--timeout SECONDS] FILE";
    const char *type = NULL, *timeout = NULL;
    const struct own_option own[] = {{"--type", &type}, {"--timeout", &timeout}, {NULL, NULL}};
    struct service service = {0};
    confer_client *client = NULL;
    confer_extraction_request *request = NULL;
    confer_error *error = NULL;
    struct text json = {0};
    char why[256] = "";
    int at = read_service(argc, argv, usage, &service, own), code = USAGE;
    if (at >= 0 && at + 1 != argc) at = misused(usage, "there must be one file", "");
    if (at >= 0 && timeout != NULL && !read_timeout(timeout, &service.timeout_ms))
        at = misused(usage, "--timeout takes 0.001 to 86400 seconds, and not ", timeout);
    if (at >= 0) {
        use_terminal();
        confer_status status = extraction_of(argv[at], type, &request, &error); /* before connecting, in case the path is wrong */
        if (status == CONFER_OK) status = check_size(argv[at], "", why, sizeof why);
        if (status == CONFER_OK) status = connect_to(&service, &client, &error);
        if (status == CONFER_OK) status = check_size(argv[at], service.proxy_version, why, sizeof why);
        if (status == CONFER_OK) status = extract(client, request, &json, &error);
        if (status == CONFER_END) {
            print_text(stdout, json.text, json.len);
            putchar('\n');
        }
        code = *why != '\0' ? last_line(status, why, "") : end_with(status, error);
    }
    free(json.text);
    confer_extraction_request_free(request);
    disconnect(&service, client);
    return code;
}
