/*
 * Connecting: client, report and export of a verified enclave, the error for a refused one, and
 * connecting without waiting.
 */
#define _GNU_SOURCE /* syscall */
#include "recorder.h"

#include <poll.h>
#include <sys/syscall.h>

static void verified_enclave_gives_a_report_and_an_answer(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    CHECK_OK(confer_client_check(client, &error));

    confer_report *report = NULL;
    CHECK_OK(confer_attestation_report(client, &report, &error));
    CHECK(confer_report_verified(report));
    size_t checks = confer_report_check_count(report), len = 0;
    CHECK(checks >= 19);
    for (size_t i = 0; i < checks; i++) {
        int32_t outcome = confer_report_check_outcome(report, i);
        CHECK(outcome == CONFER_OUTCOME_PASS || outcome == CONFER_OUTCOME_WARN);
        CHECK(confer_report_check_id(report, i, &len) != NULL && len > 0);
        CHECK(confer_report_check_detail(report, i, &len) != NULL && len > 0);
    }
    CHECK(confer_report_check_outcome(report, checks) == -1 && confer_report_check_id(report, checks, &len) == NULL);
    CHECK(len == 0 && confer_report_check_detail(report, checks, NULL) == NULL);
    CHECK_TEXT("TDX", confer_report_platform(report, NULL));
    CHECK_TEXT(enclave.url, confer_report_endpoint(report, NULL));
    CHECK(confer_report_server_key(report, &len) != NULL && len == 64);
    CHECK(confer_report_policy_sha256(report, &len) != NULL && len == 64);
    CHECK(confer_report_manifest_sha256(report, &len) != NULL && len == 64);
    CHECK(confer_report_mrtd(report, &len) != NULL && len == 96);
    CHECK(confer_report_rtmr0(report, &len) != NULL && len == 96);
    CHECK(confer_report_rtmr1(report, &len) != NULL && len == 96);
    CHECK(confer_report_rtmr2(report, &len) != NULL && len == 96);
    CHECK(confer_report_rtmr3(report, &len) != NULL && len == 96);
    CHECK(confer_report_image_version(report, NULL) != NULL && confer_report_proxy_version(report, NULL) != NULL);
    CHECK_TEXT("local-enclave", confer_report_policy_name(report, NULL));
    CHECK(confer_report_signer(report, NULL) != NULL && confer_report_issuer(report, NULL) != NULL);
    CHECK(confer_report_log_url(report, NULL) != NULL && confer_report_log_index(report) >= 0);
    CHECK(confer_report_log_integrated_time(report) > 0 && confer_report_tcb_date(report, NULL) != NULL);
    CHECK(confer_report_timing_us(report, CONFER_STAGE_TCP) > 0 && confer_report_timing_us(report, CONFER_STAGE_PROXY) == -1);
    CHECK(confer_report_timing_us(report, CONFER_STAGE_ALL) >= confer_report_timing_us(report, CONFER_STAGE_TCP));
    CHECK(confer_report_timing_us(report, 11) == -1 && confer_report_timing_us(NULL, CONFER_STAGE_TCP) == -1);
    CHECK(confer_report_seam_svn(report) >= 0 && confer_report_tcb_status(report, NULL) != NULL);
    CHECK(confer_report_expires_at(report) > confer_report_verified_at(report));
    CHECK(confer_report_advisory(report, confer_report_advisory_count(report), NULL) == NULL);
    CHECK(strstr(confer_report_json(report, NULL), "\"verdict\":\"verified\"") != NULL);
    CHECK(strstr(confer_report_json(report, NULL), enclave.token) == NULL);

    chat_says(client, "how are you", "You said: how are you");

    CHECK_OK(confer_close(client, -1, &error));
    CHECK_OK(confer_close(client, -1, &error));
    confer_chat_request *request = chat_request("still there?");
    confer_stream *stream = NULL;
    CHECK_STATUS(CONFER_E_CLOSED, confer_chat_stream(client, request, NULL, &stream, &error));
    CHECK(stream == NULL);
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_check(client, &error));
    confer_client_free(client);
    CHECK(confer_report_verified(report)); /* it does not need the client */
    confer_report_free(report);
    confer_chat_request_free(request);
    enclave_stop(&enclave);
}

static void replay_verifies_only_with_same_policy_and_time(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_report *report = NULL, *again = NULL;
    CHECK_OK(confer_attestation_report(client, &report, &error));
    enclave_close(client);
    confer_policy *policy = NULL;
    CHECK_OK(confer_policy_load(enclave.policy, SIZE_MAX, &policy, &error));
    size_t len = 0;
    const char *evidence = confer_report_evidence(report, &len);
    CHECK(evidence != NULL && strlen(evidence) == len && strstr(evidence, enclave.token) == NULL);

    CHECK_OK(confer_evidence_verify(evidence, len, policy, -1, &again, &error));
    CHECK(confer_report_verified(again));
    CHECK_TEXT(confer_report_server_key(report, NULL), confer_report_server_key(again, NULL));
    CHECK(confer_report_endpoint(again, NULL) == NULL);
    confer_report_free(again);

    confer_error *late = NULL;
    int64_t at = confer_report_expires_at(report) + 3600;
    CHECK(confer_evidence_verify(evidence, len, policy, at, &again, &late) == CONFER_E_REJECTED && again == NULL);
    CHECK_TEXT("ita.time", confer_error_check_id(late, NULL));
    CHECK(confer_error_report(late) != NULL && !confer_report_verified(confer_error_report(late)));
    confer_error_free(late);

    CHECK_STATUS(CONFER_E_REJECTED, confer_evidence_verify(evidence, len, NULL, -1, &again, &error));
    CHECK_STATUS(CONFER_E_INVALID_JSON, confer_evidence_verify(evidence, len - 1, policy, -1, &again, &error));
    CHECK_STATUS(CONFER_E_INVALID_JSON, confer_evidence_verify("{}", SIZE_MAX, policy, -1, &again, &error));
    CHECK_ERROR(CONFER_E_INVALID_ARGUMENT, "at", confer_evidence_verify(evidence, len, policy, -2, &again, &error));
    confer_policy_free(policy);
    confer_report_free(report);
    enclave_stop(&enclave);
}

static void refused_enclave_gives_an_error_with_its_report(void) {
    struct enclave enclave;
    enclave_start(&enclave, "binding-other-key");
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    confer_error *refusal = NULL;
    confer_status status = confer_connect(config, &client, &refusal);
    confer_config_free(config);
    check_status(__FILE__, __LINE__, "confer_connect", CONFER_E_REJECTED, "tdx.key_binding", status, refusal);
    CHECK(client == NULL && !confer_error_retryable(refusal));
    CHECK_TEXT("tdx.key_binding", confer_error_check_id(refusal, NULL));
    const confer_report *report = confer_error_report(refusal);
    CHECK(report != NULL && !confer_report_verified(report));
    int failed = 0;
    for (size_t i = 0; i < confer_report_check_count(report); i++)
        if (confer_report_check_outcome(report, i) == CONFER_OUTCOME_FAIL) {
            failed++;
            CHECK_TEXT("tdx.key_binding", confer_report_check_id(report, i, NULL));
            CHECK(confer_report_check_expected(report, i, NULL) != NULL);
            CHECK(confer_report_check_observed(report, i, NULL) != NULL);
        }
    CHECK(failed == 1);
    CHECK(strstr(confer_report_json(report, NULL), "\"verdict\":\"rejected\"") != NULL);
    confer_error_free(refusal);
    enclave_stop(&enclave);
}

static void refused_enclave_never_sees_message_three(void) {
    struct enclave enclave;
    enclave_start(&enclave, "mrtd-other");
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_ERROR(CONFER_E_REJECTED, "tdx.mrtd", confer_connect(config, &client, &error));
    while (!enclave_logged(&enclave, "ended")) check_pause();
    CHECK(enclave_logged(&enclave, "message-2") && !enclave_logged(&enclave, "message-3"));
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void started_client_tells_a_descriptor_that_it_is_connected(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = client_start(config);
    confer_stream *watch = client_watch(client);
    struct pollfd ready = {.events = POLLIN};
    CHECK_OK(confer_stream_fd(watch, &ready.fd, &error));
    int32_t stage = -1;
    for (int32_t type = CONFER_EVENT_STAGE; type != CONFER_EVENT_CONNECTED;) {
        const confer_event *event = NULL;
        CHECK(poll(&ready, 1, -1) == 1 && ready.revents == POLLIN);
        CHECK_OK(confer_stream_next(watch, 0, &event, &error));
        type = confer_event_type(event);
        if (type == CONFER_EVENT_STAGE) stage = confer_event_stage(event);
    }
    CHECK(stage == -1 || stage == CONFER_STAGE_VERIFY); /* none if it was connected before it was watched */
    CHECK_OK(confer_client_wait(client, 0, &error));
    confer_stream_free(watch);
    chat_says(client, "hello", "You said: hello");
    enclave_close(client);
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void wait_for_a_connection_ends_at_its_timeout(void) {
    struct enclave enclave;
    enclave_start(&enclave, "message1-stall");
    confer_config *config = enclave_config(&enclave);
    confer_client *client = client_start(config);
    CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(client, 0, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(client, 20, &error));
    CHECK(confer_client_state(client) == CONFER_CLIENT_CONNECTING);
    confer_client_free(client);
    confer_config_free(config);
    enclave_stop(&enclave);
}

/* The question for the token comes before the stages, so a watch that answers it sees all of them. */
struct stages {
    const struct enclave *enclave;
    int32_t stages[16];
    int count;
    struct gate connected;
};

static int32_t keep_stage(struct recorder *recorder, const confer_event *event) {
    struct stages *stages = recorder->data;
    int32_t type = confer_event_type(event), stage = confer_event_stage(event);
    CHECK((type == CONFER_EVENT_STAGE) == (stage >= 0));
    if (type == CONFER_EVENT_ASK_TOKEN)
        CHECK_OK(confer_event_answer_token(event, stages->enclave->token, SIZE_MAX, &error));
    if (type == CONFER_EVENT_STAGE) {
        CHECK(stages->count < 16 && gate_count(&stages->connected) == 0);
        stages->stages[stages->count++] = stage;
    }
    if (type == CONFER_EVENT_CONNECTED) gate_raise(&stages->connected);
    return 0;
}

static void watch_gets_each_stage_and_one_end(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    struct stages stages = {&enclave, {0}, 0, GATE};
    struct recorder recorder = RECORDER;
    recorder.react = keep_stage;
    recorder.data = &stages;
    confer_config *config = enclave_config_without_token(&enclave);
    CHECK_OK(confer_config_set_ask(config, CONFER_ASK_TOKEN, &error));
    confer_client *client = client_start(config);
    confer_config_free(config);
    recorder_watch(&recorder, client);
    gate_wait(&stages.connected, 1);
    CHECK(gate_count(&recorder.done) == 0);
    enclave_close(client);
    const int32_t expected[] = {CONFER_STAGE_RESOLVE, CONFER_STAGE_TCP,     CONFER_STAGE_TLS,   CONFER_STAGE_UPGRADE,
                                CONFER_STAGE_HANDSHAKE, CONFER_STAGE_KEY_SET, CONFER_STAGE_VERIFY};
    CHECK(stages.count == sizeof expected / sizeof *expected);
    CHECK(memcmp(stages.stages, expected, sizeof expected) == 0);
    CHECK(gate_count(&stages.connected) == 1 && gate_count(&recorder.destroyed) == 1);
    recorder_wait(&recorder, CONFER_OK);
    enclave_stop(&enclave);
}

static int32_t use_when_connected(struct recorder *recorder, const confer_event *event) {
    confer_report *report = NULL;
    if (confer_event_type(event) != CONFER_EVENT_CONNECTED) return 0;
    CHECK_OK(confer_client_wait(recorder->client, 0, &error));
    CHECK(confer_client_state(recorder->client) == CONFER_CLIENT_CONNECTED);
    CHECK_OK(confer_attestation_report(recorder->client, &report, &error));
    CHECK_TEXT(confer_report_server_key(report, NULL), confer_report_server_key(confer_event_report(event), NULL));
    confer_report_free(report);
    gate_raise(recorder->data);
    return 0;
}

static void client_is_connected_when_its_watch_says_so(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    for (int i = 0; i < 20; i++) {
        struct gate connected = GATE;
        struct recorder recorder = RECORDER;
        recorder.react = use_when_connected;
        recorder.data = &connected;
        confer_config *config = enclave_config(&enclave);
        confer_client *client = client_start(config);
        confer_config_free(config);
        recorder_watch(&recorder, client);
        gate_wait(&connected, 1);
        enclave_close(client);
        recorder_wait(&recorder, CONFER_OK);
    }
    enclave_stop(&enclave);
}

static void one_configuration_serves_clients_that_end_separately(void) {
    struct enclave enclave, drops;
    enclave_start(&enclave, NULL);
    enclave_start(&drops, "accept-drop");
    confer_config *config = enclave_config(&enclave), *dropping = enclave_config(&drops);
    confer_client *clients[2] = {NULL, NULL}, *none = (confer_client *)&enclave;
    CHECK_OK(confer_connect(config, &clients[0], &error));
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_connect(dropping, &none, &error));
    CHECK(none == NULL);
    CHECK_OK(confer_connect(config, &clients[1], &error));
    confer_client *closed = client_start(config);
    enclave_close(closed);
    chat_says(clients[0], "still here", "You said: still here");
    enclave_close(clients[0]);
    chat_says(clients[1], "here too", "You said: here too");
    enclave_close(clients[1]);
    confer_config_free(config);
    confer_config_free(dropping);
    enclave_stop(&drops);
    enclave_stop(&enclave);
}

static void *wait_for_the_client(void *data) {
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(data, -1, &error));
    return NULL;
}

static void all_threads_that_wait_for_a_client_wake(void) {
    struct enclave enclave;
    enclave_start(&enclave, "message1-stall");
    confer_config *config = enclave_config(&enclave);
    confer_client *client = client_start(config);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, wait_for_the_client, client) == 0);
    for (int i = 0; i < 20; i++) CHECK_STATUS(CONFER_TIMEOUT, confer_client_wait(client, i % 2 * 5, &error));
    CHECK_OK(confer_close(client, -1, &error));
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    confer_client_free(client);
    confer_config_free(config);
    CHECK_OK(confer_runtime_wait(-1, &error));
    enclave_stop(&enclave);
}

struct waiter {
    confer_client *client;
    _Atomic(pid_t) thread;
};

static void *wait_until_freed(void *data) {
    struct waiter *waiter = data;
    waiter->thread = (pid_t)syscall(SYS_gettid);
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(waiter->client, -1, &error));
    return NULL;
}

/* Whether a thread sleeps. */
static bool is_asleep(pid_t thread) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    FILE *stat = fopen(path, "r");
    if (stat == NULL) return false;
    CHECK(fscanf(stat, "%*d (%*[^)]) %c", &state) == 1 && fclose(stat) == 0);
    return state == 'S';
}

static void freeing_a_client_ends_a_wait_for_it(void) {
    struct enclave enclave;
    enclave_start(&enclave, "message1-stall");
    confer_config *config = enclave_config(&enclave);
    struct waiter waiter = {.client = client_start(config)};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_until_freed, &waiter) == 0);
    for (int looks = 0; looks < 3; looks += waiter.thread != 0 && is_asleep(waiter.thread)) check_pause();
    confer_client_free(waiter.client);
    CHECK(pthread_join(thread, NULL) == 0);
    confer_config_free(config);
    CHECK_OK(confer_runtime_wait(-1, &error));
    enclave_stop(&enclave);
}

static void later_configuration_changes_do_not_affect_a_client(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = client_start(config);
    CHECK_OK(confer_config_set_endpoint(config, "ws://127.0.0.1:1/", SIZE_MAX, &error));
    CHECK_OK(confer_config_set_token(config, "another", SIZE_MAX, &error));
    confer_config_free(config);
    CHECK_OK(confer_client_wait(client, -1, &error));
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(verified_enclave_gives_a_report_and_an_answer),
        PROMISE(replay_verifies_only_with_same_policy_and_time),
        PROMISE(refused_enclave_gives_an_error_with_its_report),
        PROMISE(refused_enclave_never_sees_message_three),
        PROMISE(started_client_tells_a_descriptor_that_it_is_connected),
        PROMISE(wait_for_a_connection_ends_at_its_timeout),
        PROMISE(watch_gets_each_stage_and_one_end),
        PROMISE(later_configuration_changes_do_not_affect_a_client),
        PROMISE(client_is_connected_when_its_watch_says_so),
        PROMISE(one_configuration_serves_clients_that_end_separately),
        PROMISE(all_threads_that_wait_for_a_client_wake),
        PROMISE(freeing_a_client_ends_a_wait_for_it),
    };
    return KEEP_PROMISES(promises);
}
