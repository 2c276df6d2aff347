/*
 * Threads: the stack that an application's thread needs for calls, and the signals that the library's threads leave to
 * the application.
 */
#include "recorder.h"

#include <dirent.h>

static struct enclave enclave;

/* ---- stacks ---------------------------------------------------------------------------------------------------------*/

enum { SMALLEST_STACK = 64 << 10 }; /* the header's promise */

/* CONFER_TEST_STACK: measures the smallest stack that works here. */
static size_t stack_size(void) {
    const char *other = getenv("CONFER_TEST_STACK");
    return other != NULL ? (size_t)atol(other) : SMALLEST_STACK;
}

static void on_small_stack(void *(*work)(void *), void *data) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstacksize(&attributes, stack_size()) == 0);
    CHECK(pthread_create(&thread, &attributes, work, data) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0 && pthread_join(thread, NULL) == 0);
}

/* Makes the first call of the process too, so that one-time work runs on the small stack. */
static void *connect_and_chat(void *data) {
    confer_report **report = data;
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_connect(config, &client, &error));
    confer_stream *stream = chat_pull(client, "Hello");
    while (true) {
        const confer_event *event = NULL;
        confer_error *error = NULL;
        confer_status status = confer_stream_next(stream, -1, &event, &error);
        if (status == CONFER_END) break;
        CHECK(status == CONFER_OK && confer_event_json(event, NULL) != NULL);
    }
    confer_stream_free(stream);
    CHECK_OK(confer_attestation_report(client, report, &error));
    CHECK(confer_report_json(*report, NULL) != NULL);
    confer_client *started = client_start(config);
    confer_config_free(config);
    confer_stream_free(client_watch(started));
    confer_client_free(started);
    enclave_close(client);
    CHECK_OK(confer_runtime_wait(-1, &error));
    return NULL;
}

struct offline {
    const char *evidence, *policy;
};

static void *verify(void *data) {
    struct offline *offline = data;
    confer_policy *policy = NULL;
    confer_report *report = NULL;
    CHECK_OK(confer_policy_parse(offline->policy, SIZE_MAX, &policy, &error));
    CHECK_OK(confer_evidence_verify(offline->evidence, SIZE_MAX, policy, -1, &report, &error));
    CHECK(confer_report_verified(report));
    confer_report_free(report);
    confer_policy_free(policy);
    return NULL;
}

static void small_stack_suffices_for_connection(void) {
    static char policy[1 << 20];
    confer_report *report = NULL;
    enclave_start(&enclave, NULL);
    on_small_stack(connect_and_chat, &report);
    FILE *file = fopen(enclave.policy, "r");
    CHECK(file != NULL && fread(policy, 1, sizeof policy - 1, file) > 0 && fclose(file) == 0);
    struct offline offline = {confer_report_evidence(report, NULL), policy};
    on_small_stack(verify, &offline);
    confer_report_free(report);
    enclave_stop(&enclave);
}

/* Runs first, so that it is the first call of the process. The evidence comes from a child. */
static void small_stack_suffices_for_first_verification(void) {
    static char evidence[1 << 20], policy[1 << 20];
    int report[2];
    size_t len = 0;
    enclave_start(&enclave, NULL);
    CHECK(pipe(report) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        confer_report *mine = NULL;
        connect_and_chat(&mine);
        const char *text = confer_report_evidence(mine, &len);
        while (len > 0) {
            ssize_t written = write(report[1], text, len);
            CHECK(written > 0);
            text += written, len -= (size_t)written;
        }
        _exit(0);
    }
    close(report[1]);
    for (ssize_t got; (got = read(report[0], evidence + len, sizeof evidence - 1 - len)) > 0;) len += (size_t)got;
    close(report[0]);
    CHECK(len > 0 && waitpid(child, NULL, 0) == child);
    FILE *file = fopen(enclave.policy, "r");
    CHECK(file != NULL && fread(policy, 1, sizeof policy - 1, file) > 0 && fclose(file) == 0);
    struct offline offline = {evidence, policy};
    on_small_stack(verify, &offline);
    enclave_stop(&enclave);
}

/* ---- signals --------------------------------------------------------------------------------------------------------*/

/* Signals that a thread causes itself. Their handlers must run there, and the kernel ends a process that blocks them. */
static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};

/* Checks that all other threads block every signal except those. Returns the number of these threads. */
static int check_masks_of_other_threads(void) {
    unsigned long long expected = ~0ULL;
    for (size_t i = 0; i < sizeof own_faults / sizeof *own_faults; i++) expected &= ~(1ULL << (own_faults[i] - 1));
    for (int signal = 32; signal < SIGRTMIN; signal++) expected &= ~(1ULL << (signal - 1)); /* the C library's */
    expected &= ~(1ULL << (SIGKILL - 1)) & ~(1ULL << (SIGSTOP - 1));
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir != NULL);
    int others = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[300], line[200];
        unsigned long long blocked = 0;
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == (int)getpid()) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        if (file == NULL) continue; /* it has ended */
        while (fgets(line, sizeof line, file) != NULL) sscanf(line, "SigBlk: %llx", &blocked);
        fclose(file);
        if (blocked != expected) {
            fprintf(stderr, "\nthread %s: SigBlk %llx, expected %llx", entry->d_name, blocked, expected);
            check_failed(__FILE__, __LINE__, "signal mask", "differs");
        }
        others++;
    }
    closedir(dir);
    return others;
}

static int32_t check_masks_in_callback(struct recorder *recorder, const confer_event *event) {
    (void)event;
    recorder->data = recorder; /* it ran here */
    CHECK(check_masks_of_other_threads() >= 2);
    sigset_t blocked;
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &blocked) == 0);
    CHECK(sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGPROF) && !sigismember(&blocked, SIGSEGV));
    return 0;
}

/* Threads of every kind: workers, helpers (for a look-up and a cache file), and a client's callback thread. */
static void library_threads_block_the_applications_signals(void) {
    char url[140], cache[300];
    int port;
    sigset_t before, after;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    struct recorder recorder = RECORDER;
    recorder.react = check_masks_in_callback;
    CHECK(sscanf(enclave.url, "ws://127.0.0.1:%d/", &port) == 1);
    snprintf(url, sizeof url, "ws://localhost:%d/websocket", port);
    snprintf(cache, sizeof cache, "%s/keys.json", getenv("CONFER_ENCLAVE_STATE"));
    CHECK_OK(confer_config_set_endpoint(config, url, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_jwks_cache_file(config, cache, SIZE_MAX, &error));
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &before) == 0);
    CHECK_OK(confer_connect(config, &client, &error));
    CHECK(check_masks_of_other_threads() >= 2);
    recorder_start(&recorder, client, "masks");
    recorder_wait(&recorder, CONFER_OK);
    CHECK(recorder.data != NULL && check_masks_of_other_threads() >= 3);
    /* The application's thread is unchanged. */
    CHECK(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
    for (int signal = 1; signal < SIGRTMIN; signal++) CHECK(sigismember(&before, signal) == sigismember(&after, signal));
    confer_stream_free(recorder.stream);
    confer_config_free(config);
    enclave_close(client);
    CHECK(unlink(cache) == 0);
    enclave_stop(&enclave);
}

static void signal_waits_for_the_applications_thread(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    sigset_t waited, before;
    struct timespec long_enough = {10, 0};
    CHECK(sigemptyset(&waited) == 0 && sigaddset(&waited, SIGTERM) == 0);
    /* Blocked after the library's threads started, and not handled: a thread that receives it ends the process. */
    CHECK(pthread_sigmask(SIG_BLOCK, &waited, &before) == 0);
    CHECK(kill(getpid(), SIGTERM) == 0);
    chat_says(client, "a signal is pending", "You said: a signal is pending");
    CHECK(sigtimedwait(&waited, NULL, &long_enough) == SIGTERM);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(small_stack_suffices_for_first_verification),
        PROMISE(small_stack_suffices_for_connection),
        PROMISE(library_threads_block_the_applications_signals),
        PROMISE(signal_waits_for_the_applications_thread),
    };
    return KEEP_PROMISES(promises);
}
