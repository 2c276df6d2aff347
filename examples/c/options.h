/*
 * options.h: the command line of chat.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "messages.h"

static struct {
    const char *url, *policy, *jwks_cache, *model, *timeout, *report, *evidence, *once;
    char *token;
    bool json;
    int64_t timeout_ms; /* of connecting, and of the wait for any one event; -1: the library's own limits */
} options = {.timeout_ms = -1};

static inline int wrong_usage(const char *what, const char *which) {
    fputs("usage: chat [--url URL] [--token TOKEN] [--policy FILE] [--jwks-cache FILE] [--model MODEL]\n"
          "            [--timeout SECONDS] [--report FILE] [--evidence FILE] [--json] [--once PROMPT]\n"
          "The token is better given as CONFER_TOKEN: others on this machine can see command lines.\n", stderr);
    return say_last_line(CONFER_E_INVALID_ARGUMENT, "%s%s", what, which);
}

static inline int read_options(int argc, char **argv) {
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

#endif
