/*
 * All work of an application (connect by name, chat, upload a file, close) on a system that refuses the n-th
 * thread, the n-th descriptor, or randomness. Every call returns in time with success or CONFER_E_SYSTEM, and
 * nothing is printed. The same process works again once the shortage is over.
 */
#include "starve.h"

#include "enclave.h"
#include "sandbox.h"

#include <sys/resource.h>

static struct enclave enclave;
static char policy[1 << 20], url[140], document[600];

enum { THREADS = 12, LIMIT_MS = 60000 };

static void setup(void) {
    int port;
    char bytes[100000];
    enclave_start(&enclave, NULL);
    CHECK(sscanf(enclave.url, "ws://127.0.0.1:%d/", &port) == 1);
    snprintf(url, sizeof url, "ws://localhost:%d/websocket", port);
    snprintf(document, sizeof document, "%s/document.txt", getenv("CONFER_ENCLAVE_STATE"));
    FILE *file = fopen(document, "w");
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < 10; i++) CHECK(file != NULL && fwrite(bytes, sizeof bytes, 1, file) == 1);
    CHECK(fclose(file) == 0);
    file = fopen(enclave.policy, "r");
    CHECK(file != NULL && fread(policy, 1, sizeof policy - 1, file) > 0 && fclose(file) == 0);
}

static void teardown(void) {
    CHECK(unlink(document) == 0);
    enclave_stop(&enclave);
}

/* ---- the work -------------------------------------------------------------------------------------------------------*/

/* The steps that succeeded, in order. */
enum { CONNECTED = 1, CHATTED, CALLED_BACK, UPLOADED, CLOSED };

static const char *shortage; /* the shortage, in the words that errors must contain */
static bool lasting;          /* the shortage never ends */

/* Returns 1 for success and 0 if the system refused something. Anything else fails the test. */
static int allowed(const char *call, confer_status status, confer_error *error) {
    if (status == CONFER_OK || status == CONFER_END) {
        CHECK(error == NULL);
        return 1;
    }
    check_status(__FILE__, __LINE__, call, CONFER_E_SYSTEM, shortage, status, error);
    CHECK(confer_error_retryable(error) == !lasting && strstr(confer_error_message(error, NULL), ".rs") == NULL);
    confer_error_free(error);
    return 0;
}

#define STEP(call) (error = NULL, status = (call), allowed(#call, status, error))

/* Reads a stream to its end. It must end in success if the stream was started. */
static int finish(confer_stream *stream, const char *wanted) {
    char text[4096];
    size_t used = 0;
    const confer_event *event = NULL;
    confer_error *error = NULL;
    confer_status status;
    while ((status = confer_stream_next(stream, LIMIT_MS, &event, &error)) == CONFER_OK) {
        size_t len = 0;
        const char *content = confer_event_content(event, &len);
        if (content != NULL && used + len < sizeof text) memcpy(text + used, content, len), used += len;
    }
    text[used] = '\0';
    confer_stream_free(stream);
    if (!allowed("confer_stream_next", status, error)) return 0;
    if (strstr(text, wanted) == NULL) check_failed(__FILE__, __LINE__, wanted, text);
    return 1;
}

struct calls {
    struct gate destroyed;
    confer_status end;
    confer_stream *stream;
};

static int32_t on_event(void *user_data, confer_stream *stream, const confer_event *event) {
    (void)user_data, (void)stream, (void)event;
    return 0;
}

static void on_done(void *user_data, confer_stream *stream, confer_status status, const confer_error *error) {
    struct calls *calls = user_data;
    (void)stream;
    calls->end = status;
    CHECK(status == CONFER_OK || status == CONFER_E_SYSTEM);
    CHECK((error == NULL) == (status == CONFER_OK));
}

static void on_destroyed(void *user_data) {
    gate_raise(&((struct calls *)user_data)->destroyed);
}

static int chat_with_callbacks(confer_client *client, const confer_chat_request *request) {
    struct calls calls = {.destroyed = GATE, .end = -1};
    confer_stream_callbacks table = {sizeof table, &calls, on_event, on_done, on_destroyed, NULL};
    confer_status status;
    confer_error *error;
    int done = 0;
    if (STEP(confer_chat_stream(client, request, &table, &calls.stream, &error))) {
        gate_wait(&calls.destroyed, 1);
        done = calls.end == CONFER_OK;
        confer_stream_free(calls.stream);
    }
    CHECK(gate_count(&calls.destroyed) == 1);
    return done;
}

static confer_config *configuration(void) {
    confer_status status;
    confer_error *error;
    confer_policy *trusted = NULL;
    confer_config *config = NULL;
    if (!STEP(confer_policy_parse(policy, SIZE_MAX, &trusted, &error))) return NULL;
    if (!STEP(confer_config_new(&config, &error))) return NULL;
    CHECK(STEP(confer_config_set_endpoint(config, url, SIZE_MAX, &error)));
    CHECK(STEP(confer_config_set_token(config, enclave.token, SIZE_MAX, &error)));
    CHECK(STEP(confer_config_set_policy(config, trusted, &error)));
    confer_policy_free(trusted);
    return config;
}

/* Works until the system refuses a step, and returns the last step. */
static int work(const confer_config *config) {
    confer_status status;
    confer_error *error;
    confer_client *client = NULL;
    confer_stream *stream = NULL;
    confer_chat_request *chat = NULL;
    confer_extraction_request *extraction = NULL;
    if (!STEP(confer_connect(config, &client, &error))) return 0;
    int step = CONNECTED;
    CHECK(STEP(confer_chat_request_new(&chat, &error)));
    CHECK(STEP(confer_chat_request_add_message(chat, CONFER_ROLE_USER, "Hello", SIZE_MAX, &error)));
    CHECK(STEP(confer_extraction_request_new("note.pdf", SIZE_MAX, &extraction, &error)));
    if (STEP(confer_chat_stream(client, chat, NULL, &stream, &error)) && finish(stream, "You said: Hello")) step = CHATTED;
    if (step == CHATTED && chat_with_callbacks(client, chat)) step = CALLED_BACK;
    if (step == CALLED_BACK && STEP(confer_extraction_request_set_document_file(extraction, document, SIZE_MAX, &error)) &&
        STEP(confer_extraction_stream(client, extraction, NULL, &stream, &error)) && finish(stream, "note.pdf: 1000000 bytes"))
        step = UPLOADED;
    confer_chat_request_free(chat);
    confer_extraction_request_free(extraction);
    CHECK(STEP(confer_close(client, LIMIT_MS, &error))); /* always: closing needs nothing from the system */
    confer_client_free(client);
    return step == UPLOADED ? CLOSED : step;
}

/* The same, in time, with an empty stderr. */
static int timed_work(void) {
    FILE *caught = starve_catch_stderr();
    int64_t began = check_now_ms();
    confer_config *config = configuration();
    int step = config != NULL ? work(config) : 0;
    confer_config_free(config);
    CHECK(check_now_ms() - began < LIMIT_MS);
    starve_stderr_is_empty(caught);
    return step;
}

/* Ends the shortage. */
static void check_that_it_works(void) {
    shortage = "nothing is short";
    CHECK(timed_work() == CLOSED);
    check_no_library_thread();
}

/* ---- randomness -----------------------------------------------------------------------------------------------------*/

/* Runs first, in a child of a process that did not use the library, because a filter stays for ever. */
static void without_randomness(int reason) {
    int status;
    setup();
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        sandbox_refuse(SYS_getrandom, reason);
        shortage = "randomness";
        lasting = reason != EAGAIN;
        int step = timed_work();
        CHECK(step == (reason == ENOSYS ? CLOSED : 0));
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_that_it_works();
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    teardown();
}

static void refused_randomness_is_told_and_fresh_process_works(void) {
    without_randomness(EPERM);
    without_randomness(EAGAIN);
    without_randomness(ENOSYS); /* there is /dev/urandom */
}

/* ---- threads --------------------------------------------------------------------------------------------------------*/

static void refused_thread_is_told_and_process_recovers(void) {
    int refusals = 0;
    setup();
    for (int n = 1; n <= THREADS; n++)
        for (int all = 0; all <= 1; all++) { /* only the n-th; then the n-th and all later ones */
            shortage = "thread";
            refuse(&starve_threads, n, all ? INT_MAX : n);
            int step = timed_work();
            refuse_nothing(&starve_threads);
            refusals += starve_threads.refused;
            CHECK(starve_threads.refused > 0 || step == CLOSED);
            check_that_it_works();
        }
    CHECK(refusals >= 6); /* workers, look-ups, callbacks, files */
    teardown();
}

/* ---- descriptors ----------------------------------------------------------------------------------------------------*/

enum { TABLE = 256 };

/* Refuses new descriptors from the n-th on. */
static void refused_descriptor_is_told_and_process_recovers(void) {
    static int fillers[TABLE];
    struct rlimit before, small;
    setup();
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    small = before;
    small.rlim_cur = TABLE;
    int step = 0, n;
    for (n = 1; step < CLOSED; n++) {
        CHECK(n < 100);
        shortage = "RLIMIT_NOFILE";
        FILE *caught = starve_catch_stderr();
        confer_config *config = configuration();
        CHECK(config != NULL && setrlimit(RLIMIT_NOFILE, &small) == 0);
        int filled = 0, fd;
        while ((fd = dup(0)) >= 0) fillers[filled++] = fd;
        CHECK(errno == EMFILE && filled > n);
        for (int free = 1; free < n; free++) close(fillers[--filled]);
        int64_t began = check_now_ms();
        step = work(config);
        CHECK(check_now_ms() - began < LIMIT_MS);
        while (filled > 0) close(fillers[--filled]);
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        confer_config_free(config);
        starve_stderr_is_empty(caught);
        check_that_it_works();
    }
    CHECK(n > 6); /* refused for each smaller n: the runtime, the look-up, sockets, the document */
    teardown();
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(refused_randomness_is_told_and_fresh_process_works),
        PROMISE(refused_thread_is_told_and_process_recovers),
        PROMISE(refused_descriptor_is_told_and_process_recovers),
    };
    return KEEP_PROMISES(promises);
}
