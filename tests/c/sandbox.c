/*
 * A sandbox that refuses randomness: each call returns CONFER_E_SYSTEM, and nothing aborts, panics, hangs or prints.
 *
 * A filter stays for ever, so each one is set in a child. The parent never uses the library, so that its children can.
 */
#include "enclave.h"
#include "sandbox.h"

static struct enclave enclave;
static char policy[1 << 20], evidence[1 << 20];

static void read_file(const char *path, char *content, size_t size) {
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    size_t len = fread(content, 1, size - 1, file);
    content[len] = '\0';
    CHECK(len > 0 && len < size - 1 && fclose(file) == 0);
}

/* Runs `work` in a child, which must end in time and write nothing except failed checks. */
static void in_child(void (*work)(void)) {
    int out[2], status;
    char said[2000];
    size_t used = 0;
    CHECK(pipe(out) == 0);
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        dup2(out[1], 1);
        dup2(out[1], 2);
        alarm(60);
        work();
        _exit(0);
    }
    close(out[1]);
    for (ssize_t got; used < sizeof said - 1 && (got = read(out[0], said + used, sizeof said - 1 - used)) > 0;)
        used += (size_t)got;
    said[used] = '\0';
    close(out[0]);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_TEXT("", said);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#define CHECK_REFUSED(call) CHECK_ERROR(CONFER_E_SYSTEM, "randomness", call)

static void every_call_is_refused(bool passing) {
    confer_policy *trusted = NULL;
    confer_config *config = NULL;
    confer_client *client = NULL;
    confer_chat_request *request = NULL;
    confer_conversation *conversation = NULL;
    confer_report *report = NULL;
    confer_error *error = NULL;
    CHECK(confer_policy_parse(policy, SIZE_MAX, &trusted, &error) == CONFER_E_SYSTEM);
    CHECK(confer_error_retryable(error) == passing);
    confer_error_free(error);
    CHECK_REFUSED(confer_policy_production(&trusted, &error));
    CHECK_REFUSED(confer_evidence_verify(evidence, SIZE_MAX, NULL, -1, &report, &error));
    CHECK_REFUSED(confer_config_new(&config, &error));
    CHECK_REFUSED(confer_connect(config, &client, &error));
    CHECK_REFUSED(confer_connect_start(config, &client, &error));
    CHECK_REFUSED(confer_chat_request_new(&request, &error));
    CHECK_REFUSED(confer_conversation_new(&conversation, &error));
    CHECK_REFUSED(confer_runtime_wait(0, &error));
    CHECK(trusted == NULL && report == NULL && config == NULL && client == NULL);
    CHECK(confer_version_number() == CONFER_VERSION_NUMBER);
    confer_config_free(NULL);
}

/* Connects, chats, and verifies evidence offline. */
static void everything_works(void) {
    confer_policy *trusted = NULL;
    confer_config *config = NULL;
    confer_client *client = NULL;
    confer_report *report = NULL;
    CHECK_OK(confer_policy_parse(policy, SIZE_MAX, &trusted, &error));
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_config_set_endpoint(config, enclave.url, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_token(config, enclave.token, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_policy(config, trusted, &error));
    CHECK_OK(confer_connect(config, &client, &error));
    chat_says(client, "in a sandbox", "You said: in a sandbox");
    CHECK_OK(confer_attestation_report(client, &report, &error));
    FILE *file = fopen(getenv("CONFER_EVIDENCE"), "w"); /* for the next children */
    CHECK(file != NULL && fputs(confer_report_evidence(report, NULL), file) >= 0 && fclose(file) == 0);
    confer_report_free(report);
    enclave_close(client);
    confer_config_free(config);
    confer_policy_free(trusted);
}

static void eperm(void) {
    sandbox_refuse(SYS_getrandom, EPERM);
    every_call_is_refused(false);
}

static void enosys(void) {
    sandbox_refuse(SYS_getrandom, ENOSYS);
    everything_works();
}

static void enosys_and_no_device(void) {
    sandbox_refuse(SYS_getrandom, ENOSYS);
    sandbox_refuse_open(ENOENT);
    every_call_is_refused(false);
}

static void enosys_and_no_answer_of_the_device(void) {
    sandbox_refuse(SYS_getrandom, ENOSYS);
    sandbox_refuse(SYS_ioctl, EPERM);
    every_call_is_refused(false);
}

static void enosys_and_no_descriptor(void) {
    sandbox_refuse(SYS_getrandom, ENOSYS);
    sandbox_refuse_open(EMFILE);
    every_call_is_refused(true);
}

static void eagain(void) {
    sandbox_refuse(SYS_getrandom, EAGAIN);
    every_call_is_refused(true);
}

static void setup(void) {
    static char path[300];
    snprintf(path, sizeof path, "%s/evidence.json", getenv("CONFER_ENCLAVE_STATE"));
    CHECK(setenv("CONFER_EVIDENCE", path, 1) == 0);
    enclave_start(&enclave, NULL);
    read_file(enclave.policy, policy, sizeof policy);
    in_child(everything_works);
    read_file(path, evidence, sizeof evidence);
    CHECK(unlink(path) == 0);
}

static void refused(void (*work)(void)) {
    setup();
    in_child(work);
    in_child(everything_works); /* without a filter */
    CHECK(unlink(getenv("CONFER_EVIDENCE")) == 0);
    enclave_stop(&enclave);
}

static void refused_getrandom_is_told_by_every_call(void) {
    refused(eperm);
}

static void missing_getrandom_and_device_are_told(void) {
    refused(enosys_and_no_device);
    refused(enosys_and_no_answer_of_the_device);
}

static void shortage_of_descriptors_passes(void) {
    refused(enosys_and_no_descriptor);
}

static void system_without_entropy_yet_is_told(void) {
    refused(eagain);
}

static void device_serves_without_getrandom(void) {
    refused(enosys);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(refused_getrandom_is_told_by_every_call),
        PROMISE(missing_getrandom_and_device_are_told),
        PROMISE(shortage_of_descriptors_passes),
        PROMISE(system_without_entropy_yet_is_told),
        PROMISE(device_serves_without_getrandom),
    };
    return KEEP_PROMISES(promises);
}
