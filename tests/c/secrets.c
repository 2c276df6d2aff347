/*
 * Secrets: no log record and no error contains a token, prompt or answer, and nothing is printed to
 * stdout or stderr. check.h searches every error for the secrets. This file also searches the log
 * records.
 */
#include "recorder.h"

#include <sys/stat.h>

#define PROMPT "ThePromptThatNobodyMayRead"
#define TOKEN "tok~en/With+Every&Odd=Letter?%23#\xc3\xa9"

static struct enclave enclave;

struct records {
    struct gate destroyed;
    int count, at_level[CONFER_LOG_DEBUG + 1];
};

static void on_record(void *user_data, int32_t level, const char *target, const char *message) {
    struct records *records = user_data;
    char name[32];
    check_thread_name(name);
    CHECK_TEXT("confer-callback", name);
    CHECK(level >= CONFER_LOG_ERROR && level <= CONFER_LOG_DEBUG && strncmp(target, "confer", 6) == 0);
    CHECK(*message != '\0');
    check_holds_no_secret(message);
    check_holds_no_secret(target);
    records->count++;
    records->at_level[level]++;
}

static void on_records_destroyed(void *user_data) {
    gate_raise(&((struct records *)user_data)->destroyed);
}

/* An unusual token, and parts of it that could appear if it were encoded. */
static void keep_secrets(void) {
    check_keep_secret(PROMPT);
    check_keep_secret("With+Every");
    check_keep_secret("With%2BEvery");
}

static confer_config *logging_config(struct records *records) {
    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_log(config, CONFER_LOG_DEBUG, on_record, records, on_records_destroyed, &error));
    return config;
}

static void no_log_record_of_a_session_has_secrets(void) {
    keep_secrets();
    enclave_start_with(&enclave, NULL, "--token", TOKEN);
    struct records records = {.destroyed = GATE};
    confer_config *config = logging_config(&records);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    chat_says(client, PROMPT, "You said: " PROMPT);
    confer_report *report = NULL;
    CHECK_OK(confer_attestation_report(client, &report, &error));
    check_holds_no_secret(confer_report_json(report, NULL));
    check_holds_no_secret(confer_report_evidence(report, NULL));
    confer_report_free(report);
    struct recorder recorder = RECORDER;
    recorder_start(&recorder, client, PROMPT);
    recorder_wait(&recorder, CONFER_OK);
    confer_stream_free(recorder.stream);
    enclave_close(client);
    gate_wait(&records.destroyed, 1);
    CHECK(records.at_level[CONFER_LOG_DEBUG] >= 7 && records.at_level[CONFER_LOG_INFO] >= 2);
    CHECK(records.at_level[CONFER_LOG_ERROR] == 0 && records.at_level[CONFER_LOG_WARN] == 0);
    enclave_stop(&enclave);
}

static void connection_errors_have_no_secrets(void) {
    static const char *const faults[] = {"upgrade-401",   "upgrade-500",    "upgrade-redirect", "upgrade-garbage",
                                         "accept-reset",  "open-close",     "message2-altered", "evidence-not-json",
                                         "message2-text", "key-server-500", "mrtd-other"};
    keep_secrets();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        enclave_start_with(&enclave, faults[i], "--token", TOKEN);
        struct records records = {.destroyed = GATE};
        confer_config *config = logging_config(&records);
        confer_client *client = NULL;
        confer_error *failure = NULL;
        confer_status status = confer_connect(config, &client, &failure);
        CHECK(status != CONFER_OK && client == NULL);
        check_status(__FILE__, __LINE__, faults[i], status, "", status, failure);
        if (confer_error_report(failure) != NULL) check_holds_no_secret(confer_report_json(confer_error_report(failure), NULL));
        confer_error_free(failure);
        confer_config_free(config);
        gate_wait(&records.destroyed, 1);
        CHECK(records.at_level[CONFER_LOG_ERROR] == 1);
        enclave_stop(&enclave);
    }
}

static void stream_errors_have_no_secrets(void) {
    static const char *const faults[] = {"event-not-json",  "event-text",  "event-not-utf8", "midstream-500",
                                         "noise-altered",   "stream-drop", "stream-close",   "response-undecodable",
                                         "response-no-id"};
    keep_secrets();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        enclave_start_with(&enclave, faults[i], "--token", TOKEN);
        struct records records = {.destroyed = GATE};
        confer_config *config = logging_config(&records);
        confer_client *client = NULL;
        CHECK_OK(confer_connect(config, &client, &error));
        confer_config_free(config);
        confer_stream *stream = chat_pull(client, PROMPT);
        confer_error *failure = NULL;
        const confer_event *event = NULL;
        confer_status status;
        while ((status = confer_stream_next(stream, -1, &event, &failure)) == CONFER_OK) CHECK(event != NULL);
        CHECK(status >= CONFER_E_CONNECTION_LOST);
        check_status(__FILE__, __LINE__, faults[i], status, "", status, failure);
        confer_error_free(failure);
        confer_stream_free(stream);
        enclave_close(client);
        gate_wait(&records.destroyed, 1);
        enclave_stop(&enclave);
    }
}

/* The enclave's text may repeat the request, so the message must not contain it. */
static void error_message_omits_the_enclaves_text(void) {
    keep_secrets();
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/status 415");
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    CHECK(confer_stream_next(stream, -1, &event, &failure) == CONFER_E_REFUSED);
    CHECK_TEXT("status 415 as asked", confer_error_peer_text(failure, NULL));
    CHECK(strstr(confer_error_message(failure, NULL), "as asked") == NULL);
    confer_error_free(failure);
    confer_stream_free(stream);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void library_prints_nothing(void) {
    keep_secrets();
    char path[] = "/tmp/confer-output.XXXXXX";
    int file = mkstemp(path), out = dup(1), err = dup(2);
    CHECK(file >= 0 && out >= 0 && err >= 0);
    unlink(path);
    fflush(stdout);
    enclave_start(&enclave, "midstream-500");
    CHECK(dup2(file, 1) == 1 && dup2(file, 2) == 2);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, PROMPT);
    const confer_event *event = NULL;
    while (confer_stream_next(stream, -1, &event, NULL) == CONFER_OK) CHECK(event != NULL);
    confer_stream_free(stream);
    CHECK_STATUS(CONFER_E_INVALID_ARGUMENT, confer_chat_stream(client, NULL, NULL, &stream, &error));
    enclave_close(client);
    CHECK(dup2(out, 1) == 1 && dup2(err, 2) == 2);
    struct stat printed;
    CHECK(fstat(file, &printed) == 0 && printed.st_size == 0);
    close(file);
    close(out);
    close(err);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(no_log_record_of_a_session_has_secrets),
        PROMISE(connection_errors_have_no_secrets),
        PROMISE(stream_errors_have_no_secrets),
        PROMISE(error_message_omits_the_enclaves_text),
        PROMISE(library_prints_nothing),
    };
    return KEEP_PROMISES(promises);
}
