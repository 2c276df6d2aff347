/*
 * common.h: shared code of the examples: exit codes, the last line on standard error, text that grows, and text
 * that is safe to print. For the small examples also the options --url, --policy and --token, and a verified connection.
 */
#ifndef COMMON_H
#define COMMON_H

#include <confer.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ANSWERED = 0, USAGE = 2, REFUSED = 3, NO_CONNECTION = 4, FAILED = 5, INTERRUPTED = 130 };

static const confer_client *verified; /* NULL until its enclave is verified */

static inline int exit_code(confer_status status) {
    bool of_a_request = status == CONFER_E_FILE || status == CONFER_E_TOO_LARGE;
    /* A document's answer can break the protocol without ending the connection. */
    if (status == CONFER_E_PROTOCOL) of_a_request = confer_client_check(verified, NULL) == CONFER_OK;
    if (status == CONFER_OK || status == CONFER_END) return ANSWERED;
    if (status == CONFER_E_REJECTED) return REFUSED;
    if (status == CONFER_E_CANCELLED) return INTERRUPTED;
    if (status == CONFER_E_EVENT || (verified != NULL && of_a_request)) return FAILED;
    if (status < 200) return USAGE;
    return status < 600 ? NO_CONNECTION : FAILED;
}

/* Writes the last line, for scripts, and returns the exit code. */
static inline int last_line(confer_status status, const char *what, const char *why) {
    fprintf(stderr, "confer: %s: %s%s\n", confer_status_name(status), what, why);
    return exit_code(status);
}

/* Text that grows. Begin with {0}, and free `text`, which ends with a NUL. */
struct text {
    char *text; /* NULL: empty */
    size_t len, size;
};

/* Makes room for this many more bytes and the NUL. */
static inline void reserve(struct text *to, size_t len) {
    if (to->size - to->len > len) return;
    to->size = 2 * to->size + len + 128;
    to->text = realloc(to->text, to->size);
    if (to->text == NULL) exit(last_line(CONFER_E_SYSTEM, "memory: ", strerror(ENOMEM)));
}

static inline void add(struct text *to, const char *bytes, size_t len) {
    reserve(to, len);
    memcpy(to->text + to->len, bytes, len);
    to->text[to->len += len] = '\0';
}

/* Adds what printf() would print. */
static inline void add_format(struct text *to, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int len = vsnprintf(NULL, 0, format, arguments);
    if (len >= 0) {
        reserve(to, (size_t)len);
        vsnprintf(to->text + to->len, (size_t)len + 1, format, again);
        to->len += (size_t)len;
    }
    va_end(again);
    va_end(arguments);
}

/* Passes only newline and tab: other control characters of a model could move the cursor, or worse. */
static inline void print_text(FILE *file, const char *text, size_t len) {
    bool terminal = isatty(fileno(file));
    for (size_t at = 0; at < len; at++) {
        unsigned char byte = (unsigned char)text[at], next = at + 1 < len ? (unsigned char)text[at + 1] : 0;
        bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F;
        bool control_of_two = byte == 0xC2 && next >= 0x80 && next < 0xA0; /* U+0080 to U+009F */
        fputc(terminal && (control || control_of_two) ? '?' : byte, file);
        if (terminal && control_of_two) at++;
    }
}

/* Reads the seconds of --timeout, as milliseconds. */
static inline bool read_timeout(const char *text, int64_t *ms) {
    char *end;
    double seconds = strtod(text, &end);
    if (*end != '\0' || !(seconds >= 0.001 && seconds <= 86400)) return false;
    *ms = (int64_t)(seconds * 1000);
    return true;
}

/*
 * --timeout is the limit for connecting. The limits of its parts are shorter, so that the error names the part that
 * hangs: a stage, the key set, or a connection that died during an answer.
 */
static inline confer_status set_limits(confer_config *config, uint64_t ms, confer_error **error) {
    uint64_t keepalive = (ms + 3) / 4, dead_peer = (ms + 1) / 2;
    const struct { int32_t duration; uint64_t ms; } limits[] = {
        {CONFER_DURATION_CONNECT, ms},
        {CONFER_DURATION_IDLE_EVENTS, ms},
        {CONFER_DURATION_IDLE_OTHER, ms},
        {CONFER_DURATION_KEEPALIVE, keepalive < 20000 ? keepalive : 20000},
        {CONFER_DURATION_DEAD_PEER, dead_peer < 20000 ? dead_peer : 20000}};
    confer_status status = CONFER_OK;
    for (int32_t stage = CONFER_DURATION_STAGE_RESOLVE; stage <= CONFER_DURATION_STAGE_PROXY && status == CONFER_OK; stage++)
        status = confer_config_set_duration_ms(config, stage, (3 * ms + 3) / 4, error);
    for (size_t at = 0; at < sizeof limits / sizeof *limits && status == CONFER_OK; at++)
        status = confer_config_set_duration_ms(config, limits[at].duration, limits[at].ms, error);
    return status;
}

/* --- the small examples ------------------------------------------------------------------------------------------- */

struct service {
    const char *url, *policy;
    char *token;
    int64_t timeout_ms;     /* 0: the library's limits */
    char proxy_version[32]; /* of the enclave, from its report; empty if unknown */
};

/* An option of one example. The last entry of a list has no name. */
struct own_option {
    const char *name, **value;
};

/* Reports the end, frees the error, and returns the exit code. */
static inline int end_with(confer_status status, confer_error *error) {
    bool arrived = fflush(stdout) == 0 && !ferror(stdout);
    int output_error = errno;
    const char *peer = confer_error_peer_text(error, NULL), *why = confer_error_message(error, NULL);
    if (peer != NULL) fprintf(stderr, "The enclave says: %s\n", peer);
    int code = exit_code(status);
    if (code == ANSWERED && !arrived) { /* the answer could not be written */
        code = last_line(CONFER_E_FILE, "standard output: ", strerror(output_error));
    } else if (code != ANSWERED) {
        last_line(status, why != NULL ? why : confer_status_description(status), "");
    }
    confer_error_free(error);
    return code;
}

static inline int misused(const char *usage, const char *what, const char *which) {
    fprintf(stderr, "usage: %s\nThe token is better given as CONFER_TOKEN: others on this machine can see command lines.\n",
            usage);
    last_line(CONFER_E_INVALID_ARGUMENT, what, which);
    return -1;
}

/*
 * Reads the options, which come first: --url, --policy, --token, and those of the example. Returns the index of the
 * first argument after them, or -1 after printing what is wrong. The caller frees the token.
 */
static inline int read_service(int argc, char **argv, const char *usage, struct service *service,
                               const struct own_option *own) {
    const char *token = NULL;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--") == 0) { /* later arguments may look like options */
            at++;
            break;
        }
        const char **value = strcmp(argv[at], "--url") == 0      ? &service->url
                             : strcmp(argv[at], "--policy") == 0 ? &service->policy
                             : strcmp(argv[at], "--token") == 0  ? &token
                                                                 : NULL;
        for (const struct own_option *one = own; one->name != NULL && value == NULL; one++)
            if (strcmp(argv[at], one->name) == 0) value = one->value;
        argv[at][strcspn(argv[at], "=")] = '\0'; /* do not repeat the secret of --token=SECRET */
        if (value == NULL) return misused(usage, "unknown option, or one whose value must stand apart: ", argv[at]);
        if (at + 1 == argc) return misused(usage, "a value is missing after ", argv[at]);
        *value = argv[at + 1];
        if (value == &token) { /* remove it, because ps shows command lines */
            free(service->token);
            service->token = strdup(token);
            memset(argv[at + 1], 'x', strlen(argv[at + 1]));
        }
    }
    if (token == NULL && getenv("CONFER_TOKEN") != NULL) service->token = strdup(getenv("CONFER_TOKEN"));
    if (service->token == NULL || *service->token == '\0') return misused(usage, "there is no token: set ", "CONFER_TOKEN");
    return at;
}

/* Makes the settings of the options, without the token. The caller frees them, also after an error. */
static inline confer_status new_config(const struct service *service, confer_config **config, confer_error **error) {
    confer_policy *policy = NULL;
    confer_status status = confer_config_new(config, error);
    if (status == CONFER_OK && service->url != NULL)
        status = confer_config_set_endpoint(*config, service->url, CONFER_NTS, error);
    if (status == CONFER_OK && service->policy != NULL) {
        status = confer_policy_load(service->policy, CONFER_NTS, &policy, error);
        if (status == CONFER_OK) status = confer_config_set_policy(*config, policy, error);
    }
    if (status == CONFER_OK && service->timeout_ms > 0)
        status = set_limits(*config, (uint64_t)service->timeout_ms, error);
    confer_policy_free(policy);
    return status;
}

/* Connects, and prints the verified release in one line. A refusal's error names the failed check. */
static inline confer_status connect_to(struct service *service, confer_client **client, confer_error **error) {
    confer_config *config = NULL;
    confer_report *report = NULL;
    confer_status status = new_config(service, &config, error);
    if (status == CONFER_OK) status = confer_config_set_token(config, service->token, CONFER_NTS, error);
    if (status == CONFER_OK) status = confer_connect(config, client, error);
    if (status == CONFER_OK) status = confer_attestation_report(*client, &report, error);
    if (status == CONFER_OK) {
        const char *image = confer_report_image_version(report, NULL), *signer = confer_report_signer(report, NULL);
        const char *proxy = confer_report_proxy_version(report, NULL);
        snprintf(service->proxy_version, sizeof service->proxy_version, "%s", proxy != NULL ? proxy : "");
        fprintf(stderr, "Verified: image %s, signed by %s\n", image != NULL ? image : "unknown",
                signer != NULL ? signer : "unknown");
    }
    verified = status == CONFER_OK ? *client : NULL;
    confer_report_free(report);
    confer_config_free(config);
    return status;
}

/* Closes the connection, and frees the options and the client. */
static inline void disconnect(struct service *service, confer_client *client) {
    if (client != NULL && confer_close(client, 2000, NULL) != CONFER_OK) fputs("Closing takes a while.\n", stderr);
    confer_client_free(client);
    free(service->token);
}

#endif
