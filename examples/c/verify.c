/*
 * verify: replays the verification of an enclave from a file that `chat --evidence FILE` wrote, offline.
 *
 *     verify EVIDENCE_FILE [--policy FILE] [--at UNIX_SECONDS]
 *
 * Defaults: the production policy, and the time that the file gives for its evidence. (The file is not authenticated.)
 * Prints the report's JSON on standard output. Exit: 0 verified, 3 rejected, 2 usage or unreadable. After a failure the
 * last line on standard error is "confer: STATUS_NAME: message".
 */

#include <confer.h>

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERIFIED = 0, UNREADABLE = 2, REJECTED = 3 };

/* The limit of an export, which has one key set and one handshake message. */
#define MAX_FILE ((size_t)4 << 20)

/* Writes the last line, for scripts, and returns the exit code. */
static int fail(int code, confer_status status, const char *what, const char *why) {
    fprintf(stderr, "confer: %s: %s%s\n", confer_status_name(status), what, why);
    return code;
}

static int wrong_usage(const char *what, const char *which) {
    fputs("usage: verify EVIDENCE_FILE [--policy FILE] [--at UNIX_SECONDS]\n", stderr);
    return fail(UNREADABLE, CONFER_E_INVALID_ARGUMENT, what, which);
}

/* Reads a whole file, which the caller frees. Returns NULL with errno if it is unreadable or larger than an export. */
static char *read_file(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    char *data = malloc(MAX_FILE + 1);
    if (data != NULL) *len = fread(data, 1, MAX_FILE + 1, file);
    int problem = data == NULL || ferror(file) ? errno : *len > MAX_FILE ? EFBIG : 0;
    fclose(file);
    if (problem == 0) return data;
    free(data);
    errno = problem;
    return NULL;
}

/* Prints the report of a good or bad verdict, or the reason for a missing report. */
static int verify(const char *evidence, size_t len, const char *policy_path, int64_t at) {
    confer_policy *policy = NULL;
    confer_report *report = NULL;
    confer_error *error = NULL;
    confer_status status = policy_path != NULL ? confer_policy_load(policy_path, CONFER_NTS, &policy, &error)
                                               : confer_policy_production(&policy, &error);
    if (status == CONFER_OK) status = confer_evidence_verify(evidence, len, policy, at, &report, &error);

    const confer_report *either = report != NULL ? report : confer_error_report(error); /* a refusal owns its report */
    int code = VERIFIED;
    if (either != NULL && (puts(confer_report_json(either, NULL)) == EOF || fflush(stdout) != 0))
        code = fail(UNREADABLE, CONFER_E_FILE, "standard output: ", strerror(errno)); /* the verdict could not be written */
    else if (status != CONFER_OK)
        code = fail(status == CONFER_E_REJECTED ? REJECTED : UNREADABLE, status, confer_error_message(error, NULL), "");
    confer_report_free(report);
    confer_policy_free(policy);
    confer_error_free(error);
    return code;
}

int main(int argc, char **argv) {
    const char *path = NULL, *policy = NULL, *at_text = NULL;
    int64_t at = -1;
    for (int index = 1; index < argc; index++) {
        const char **option = strcmp(argv[index], "--policy") == 0 ? &policy
                              : strcmp(argv[index], "--at") == 0   ? &at_text
                                                                   : NULL;
        if (option != NULL && index + 1 == argc) return wrong_usage("a value is missing after ", argv[index]);
        bool unknown = option == NULL && (path != NULL || strncmp(argv[index], "--", 2) == 0);
        if (unknown) return wrong_usage("unknown argument ", argv[index]);
        if (option != NULL) *option = argv[++index];
        else path = argv[index];
    }
    if (path == NULL) return wrong_usage("there is no evidence file", "");
    if (at_text != NULL) {
        char *end;
        errno = 0;
        at = strtoimax(at_text, &end, 10);
        if (end == at_text || *end != '\0' || errno != 0 || at < 0)
            return wrong_usage("--at takes seconds since 1970, and not ", at_text);
    }
    size_t len = 0;
    char *evidence = read_file(path, &len);
    if (evidence == NULL) return fail(UNREADABLE, CONFER_E_FILE, "the evidence file: ", strerror(errno));
    int code = verify(evidence, len, policy, at);
    free(evidence);
    return code;
}
