/*
 * Freeing in every order and during work, and which handles outlive others.
 */
#include "recorder.h"

static struct enclave enclave;

struct handles {
    confer_config *config;
    confer_policy *policy;
    confer_chat_request *request;
    confer_client *client;
    confer_stream *stream;
    confer_report *report;
    confer_error *error;
};

enum { HANDLES = 7 };

static void free_handle(struct handles *handles, int which) {
    switch (which) {
    case 0: confer_config_free(handles->config); break;
    case 1: confer_policy_free(handles->policy); break;
    case 2: confer_chat_request_free(handles->request); break;
    case 3: confer_client_free(handles->client); break;
    case 4: confer_stream_free(handles->stream); break;
    case 5: confer_report_free(handles->report); break;
    default:
        CHECK(confer_error_message(handles->error, NULL) != NULL);
        confer_error_free(handles->error);
    }
}

/* All handles that a program can have at once, during a chat. */
static struct handles make_handles(void) {
    struct handles handles = {0};
    confer_stream *failed = NULL;
    CHECK_OK(confer_policy_load(enclave.policy, SIZE_MAX, &handles.policy, &error));
    handles.config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_policy(handles.config, handles.policy, &error));
    CHECK_OK(confer_connect(handles.config, &handles.client, &error));
    CHECK_OK(confer_attestation_report(handles.client, &handles.report, &error));
    handles.request = chat_request("/tokens 100000 1000");
    CHECK_OK(confer_chat_stream(handles.client, handles.request, NULL, &handles.stream, &error));
    chat_next(handles.stream);
    CHECK(confer_chat_stream(handles.client, NULL, NULL, &failed, &handles.error) == CONFER_E_INVALID_ARGUMENT);
    return handles;
}

static void handles_are_freed_in_any_order_during_a_chat(void) {
    enclave_start(&enclave, NULL);
    for (int turn = 0; turn < 2 * HANDLES; turn++) { /* each handle is first once and last once */
        struct handles handles = make_handles();
        for (int i = 0; i < HANDLES; i++) {
            int step = turn < HANDLES ? i : HANDLES - 1 - i;
            free_handle(&handles, (turn + step) % HANDLES);
        }
    }
    enclave_stop(&enclave);
}

static void freeing_null_is_allowed(void) {
    confer_config_free(NULL);
    confer_policy_free(NULL);
    confer_client_free(NULL);
    confer_chat_request_free(NULL);
    confer_stream_free(NULL);
    confer_report_free(NULL);
    confer_error_free(NULL);
    confer_event_free(NULL);
    confer_stream_cancel(NULL);
}

static void stream_keeps_its_connection_after_freeing_the_client(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_stream *stream = chat_pull(client, "/slow 10 20");
    confer_client_free(client);
    char text[1000];
    chat_read(stream, text, sizeof text);
    CHECK(strstr(text, "slow0 ") != NULL && strstr(text, "slow19 ") != NULL);
    confer_stream_free(stream);
    enclave_stop(&enclave);
}

static void callbacks_continue_after_freeing_client_and_stream(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    struct recorder left = RECORDER, cut = RECORDER;
    recorder_start(&left, client, "/slow 10 20");
    recorder_start(&cut, client, "/silent");
    confer_client_free(client);
    gate_wait(&cut.events, 1);
    confer_stream_free(cut.stream);
    recorder_wait(&cut, CONFER_E_CANCELLED);
    recorder_wait(&left, CONFER_OK); /* not freed, so it keeps the connection until it ends */
    CHECK(gate_count(&left.events) == 21);
    confer_stream_free(left.stream);
    enclave_stop(&enclave);
}

static void error_and_report_outlive_all_other_handles(void) {
    enclave_start(&enclave, "rtmr1-other");
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    confer_error *refusal = NULL;
    CHECK(confer_connect(config, &client, &refusal) == CONFER_E_REJECTED);
    confer_config_free(config);
    enclave_stop(&enclave);
    const confer_report *report = confer_error_report(refusal);
    CHECK_TEXT("tdx.rtmr1", confer_error_check_id(refusal, NULL));
    CHECK(strstr(confer_report_json(report, NULL), "tdx.rtmr1") != NULL);
    CHECK(confer_report_evidence(report, NULL) != NULL);
    confer_error_free(refusal);
}

static void configuration_keeps_its_policy(void) {
    enclave_start(&enclave, NULL);
    confer_policy *policy = NULL;
    CHECK_OK(confer_policy_load(enclave.policy, SIZE_MAX, &policy, &error));
    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_policy(config, policy, &error));
    confer_policy_free(policy);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(freeing_null_is_allowed),
        PROMISE(handles_are_freed_in_any_order_during_a_chat),
        PROMISE(stream_keeps_its_connection_after_freeing_the_client),
        PROMISE(callbacks_continue_after_freeing_client_and_stream),
        PROMISE(error_and_report_outlive_all_other_handles),
        PROMISE(configuration_keeps_its_policy),
    };
    return KEEP_PROMISES(promises);
}
