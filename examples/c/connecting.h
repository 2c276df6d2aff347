/*
 * connecting.h: makes the first connection of chat, and keeps its report.
 */
#ifndef CONNECTING_H
#define CONNECTING_H

#include "options.h"
#include "waiting.h"

/* The attempts take one to two minutes in all. If the network is gone for longer, the conversation ends. */
enum { MAX_ATTEMPTS = 20, FIRST_DELAY_MS = 250, LONGEST_DELAY_MS = 10000 };

static inline confer_status set_retries(confer_config *config, confer_error **error) {
    confer_status status = confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, MAX_ATTEMPTS, error);
    if (status == CONFER_OK)
        status = confer_config_set_duration_ms(config, CONFER_DURATION_FIRST_RETRY, FIRST_DELAY_MS, error);
    if (status == CONFER_OK)
        status = confer_config_set_duration_ms(config, CONFER_DURATION_LONGEST_RETRY, LONGEST_DELAY_MS, error);
    return status;
}

static inline confer_status configure(confer_config *config, confer_error **error) {
    confer_policy *policy = NULL;
    confer_status status = confer_config_set_token(config, options.token, CONFER_NTS, error);
    if (status == CONFER_OK) status = confer_config_set_log(config, CONFER_LOG_WARN, say_warning, NULL, NULL, error);
    if (status == CONFER_OK && options.url != NULL)
        status = confer_config_set_endpoint(config, options.url, CONFER_NTS, error);
    if (status == CONFER_OK && options.jwks_cache != NULL)
        status = confer_config_set_jwks_cache_file(config, options.jwks_cache, CONFER_NTS, error);
    if (status == CONFER_OK && options.timeout_ms > 0) status = set_limits(config, (uint64_t)options.timeout_ms, error);
    if (status == CONFER_OK && options.once == NULL) /* with --once, a lost connection is a failure */
        status = set_retries(config, error);
    if (status == CONFER_OK && options.policy != NULL) {
        status = confer_policy_load(options.policy, CONFER_NTS, &policy, error);
        if (status == CONFER_OK) status = confer_config_set_policy(config, policy, error);
        confer_policy_free(policy);
    }
    return status;
}

/* Waits for the first connection, its failure or Ctrl-C. */
static inline confer_status wait_until_connected(confer_error **error) {
    int64_t since = now_ms();
    fputs("Connecting …\n", stderr);
    while (phase == CONNECTING && !interrupted) wait_for(false, -1, since);
    hide_waiting();
    if (phase == CONNECTED) return CONFER_OK;
    if (phase == CONNECTING) return CONFER_E_CANCELLED;
    *error = end_of_client;
    end_of_client = NULL;
    return confer_error_status(*error);
}

static inline bool write_file(const char *path, const char *data, size_t len) {
    FILE *file = fopen(path, "wb");
    bool written = file != NULL && fwrite(data, 1, len, file) == len;
    return file != NULL && fclose(file) == 0 && written;
}

/* Shows the report and writes the requested files. Returns the name of a file that could not be written. */
static inline const char *keep_report(const confer_report *report) {
    size_t json_len, evidence_len;
    const char *json = confer_report_json(report, &json_len);
    const char *evidence = confer_report_evidence(report, &evidence_len);
    struct text lines = {0};
    show_report(&lines, report);
    fwrite(lines.text, 1, lines.len, stderr);
    free(lines.text);
    if (options.report != NULL && !write_file(options.report, json, json_len)) return options.report;
    if (options.evidence != NULL && !write_file(options.evidence, evidence, evidence_len)) return options.evidence;
    return NULL;
}

/* Connects, and shows and saves the report; or prints the error. */
static inline confer_status connect_and_verify(confer_client **client) {
    confer_config *config = NULL;
    confer_report *report = NULL;
    confer_error *error = NULL;
    const char *unwritten = NULL;

    confer_status status = confer_config_new(&config, &error);
    if (status == CONFER_OK) status = configure(config, &error);
    if (status == CONFER_OK) status = confer_connect_start(config, client, &error);
    if (status == CONFER_OK) status = watch_client(*client, &error);
    if (status == CONFER_OK) status = wait_until_connected(&error);
    if (status == CONFER_OK) status = confer_attestation_report(*client, &report, &error);

    const confer_report *either = report != NULL ? report : confer_error_report(error); /* a refusal owns its report */
    if (either != NULL) unwritten = keep_report(either);
    if (unwritten != NULL && status == CONFER_OK) {
        status = CONFER_E_FILE;
        say_last_line(status, "%s: %s", unwritten, strerror(errno));
    } else if (error != NULL) {
        if (unwritten != NULL) fprintf(stderr, "%s: %s\n", unwritten, strerror(errno));
        say_error(error);
    }
    verified = status == CONFER_OK ? *client : NULL;
    if (options.once != NULL) stop_watching();
    confer_report_free(report);
    confer_config_free(config);
    return status;
}

#endif
