/*
 * A system that refuses threads, and one that does not answer look-ups: calls fail with CONFER_E_SYSTEM in time, nothing
 * is printed, and everything works again after the shortage.
 */
#include "starve.h"

#include "recorder.h"

static struct enclave enclave;

enum {
    LEN = 1100000,   /* of the document: two chunks */
    SOON_MS = 20000, /* far below any time limit of the library that could end a hang */
    MOST_LOOKUPS = 32
};

/* ---- calls that need a thread ---------------------------------------------------------------------------------------*/

static char cache[600], document[600];

static void setup(void) {
    enclave_start(&enclave, NULL);
    check_keep_secret(enclave.token);
    snprintf(cache, sizeof cache, "%s/starved-keys.%d", getenv("CONFER_ENCLAVE_STATE"), (int)getpid());
    snprintf(document, sizeof document, "%s/starved-document.%d", getenv("CONFER_ENCLAVE_STATE"), (int)getpid());
    FILE *file = fopen(document, "w");
    CHECK(file != NULL);
    for (int i = 0; i < LEN; i++) fputc('a' + i % 23, file);
    CHECK(fclose(file) == 0);
}

static void teardown(void) {
    unlink(cache);
    unlink(document);
    enclave_stop(&enclave);
}

/* Success, or CONFER_E_SYSTEM with an error that says what to do. */
static bool came_through(const char *what, confer_status status, confer_error *error) {
    if (status == CONFER_OK || status == CONFER_END) return true;
    const char *message = confer_error_message(error, NULL);
    check_status(__FILE__, __LINE__, what, CONFER_E_SYSTEM, "the system refused a thread", status, error);
    CHECK(confer_error_retryable(error));
    CHECK(strstr(message, ".rs") == NULL && strstr(message, "/src/") == NULL);
    confer_error_free(error);
    return false;
}

static confer_config *by_name(const char *name) {
    char url[200];
    confer_config *config = enclave_config(&enclave);
    snprintf(url, sizeof url, "ws://%s%s", name, strrchr(enclave.url, ':'));
    CHECK_OK(confer_config_set_endpoint(config, url, SIZE_MAX, &error));
    return config;
}

static void ignore_record(void *user_data, int32_t level, const char *target, const char *message) {
    (void)user_data, (void)level, (void)target;
    check_holds_no_secret(message);
}

static confer_status end_of(confer_stream *stream, confer_error **error) {
    const confer_event *event = NULL;
    confer_status status = CONFER_OK;
    while (status == CONFER_OK) status = confer_stream_next(stream, -1, &event, error);
    confer_stream_free(stream);
    return status;
}

static confer_stream *upload(confer_client *client) {
    confer_extraction_request *request = NULL;
    confer_stream *stream = NULL;
    CHECK_OK(confer_extraction_request_new("note.txt", SIZE_MAX, &request, &error));
    CHECK_OK(confer_extraction_request_set_document_file(request, document, SIZE_MAX, &error));
    CHECK_OK(confer_extraction_stream(client, request, NULL, &stream, &error));
    confer_extraction_request_free(request);
    return stream;
}

/* A chat with callbacks. */
static bool chat_with_callbacks(confer_client *client) {
    struct recorder recorder = RECORDER;
    confer_chat_request *request = chat_request("called back");
    confer_stream_callbacks table = recorder_table(&recorder);
    confer_error *error = NULL;
    confer_status status = confer_chat_stream(client, request, &table, &recorder.stream, &error);
    confer_chat_request_free(request);
    if (!came_through("confer_chat_stream", status, error)) {
        CHECK(recorder.stream == NULL && gate_count(&recorder.destroyed) == 1 && gate_count(&recorder.done) == 0);
        return false;
    }
    gate_wait(&recorder.destroyed, 1);
    CHECK(recorder.status == CONFER_OK);
    CHECK_TEXT("You said: called back", recorder.text);
    confer_stream_free(recorder.stream);
    return true;
}

/* Uses each kind of thread: connects by name with a cache file, chats, uploads a file, closes. Returns true if all succeeded. */
static bool use_everything(bool with_log) {
    confer_config *config = by_name("localhost");
    confer_client *client = NULL;
    confer_error *error = NULL;
    unlink(cache);
    CHECK_OK(confer_config_set_jwks_cache_file(config, cache, SIZE_MAX, &error));
    if (with_log) CHECK_OK(confer_config_set_log(config, CONFER_LOG_DEBUG, ignore_record, NULL, NULL, &error));
    confer_status status = confer_connect(config, &client, &error);
    confer_config_free(config);
    if (!came_through("confer_connect", status, error)) {
        CHECK(client == NULL);
        CHECK_OK(confer_runtime_wait(SOON_MS, &error));
        return false;
    }
    confer_stream *beside = chat_pull(client, "/repeat 20 5 word");
    bool well = chat_with_callbacks(client);
    error = NULL;
    status = end_of(upload(client), &error);
    well = came_through("the upload", status, error) && well;
    chat_read(beside, NULL, 0); /* lives, even if the upload failed */
    confer_stream_free(beside);
    CHECK_OK(confer_close(client, SOON_MS, &error));
    confer_client_free(client);
    return well;
}

static void *look_for_threads(void *data) {
    struct gate *end = data;
    while (gate_count(end) == 0) {
        confer_status status = confer_runtime_wait(0, NULL);
        CHECK(status == CONFER_OK || status == CONFER_TIMEOUT);
        check_pause();
    }
    return NULL;
}

/* Refuses the n-th thread, or (`more`) all from the n-th on. A client with a log starts its callback thread first. */
static void refuse_each(bool more, bool with_log) {
    setup();
    struct gate end = GATE;
    pthread_t other;
    int refused = 0, failed = 0;
    CHECK(pthread_create(&other, NULL, look_for_threads, &end) == 0); /* no lock is held during the refusals */
    FILE *caught = starve_catch_stderr();
    for (int n = 1; n <= 12; n++) {
        int64_t began = check_now_ms();
        refuse(&starve_threads, n, more ? INT_MAX : n);
        failed += !use_everything(with_log);
        refuse_nothing(&starve_threads);
        refused += atomic_load(&starve_threads.refused) > 0;
        CHECK(check_now_ms() - began < SOON_MS);
        CHECK(use_everything(with_log));
        check_no_library_thread();
    }
    CHECK(refused >= 5 && failed >= 4); /* otherwise the test proves nothing */
    starve_stderr_is_empty(caught);
    gate_raise(&end);
    CHECK(pthread_join(other, NULL) == 0);
    teardown();
}

static void refused_thread_is_an_error_and_the_next_try_succeeds(void) {
    refuse_each(false, false);
}

static void refused_threads_are_an_error_and_the_next_try_succeeds(void) {
    refuse_each(true, true);
}

static void one_worker_is_enough_and_the_next_connection_asks_for_more(void) {
    setup();
    refuse(&starve_threads, 2, INT_MAX);
    confer_client *first = enclave_connect(&enclave);
    chat_says(first, "alone", "You said: alone");
    CHECK(check_count_named(CHECK_WORKER) == 1);
    refuse_nothing(&starve_threads);
    confer_client *second = enclave_connect(&enclave);
    while (check_count_named(CHECK_WORKER) < 2) check_pause(); /* a thread names itself */
    chat_says(first, "still", "You said: still");
    chat_says(second, "too", "You said: too");
    enclave_close(first);
    enclave_close(second);
    teardown();
}

static void refused_file_thread_ends_its_upload_alone(void) {
    setup();
    confer_client *client = enclave_connect(&enclave);
    confer_stream *beside = chat_pull(client, "/repeat 50 10 word");
    confer_error *error = NULL;
    chat_next(beside);
    refuse(&starve_threads, 1, INT_MAX);
    confer_status status = end_of(upload(client), &error);
    CHECK(!came_through("the upload", status, error));
    refuse_nothing(&starve_threads);
    chat_read(beside, NULL, 0);
    confer_stream_free(beside);
    CHECK(end_of(upload(client), &error) == CONFER_END);
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) == 1);
    enclave_close(client);
    teardown();
}

static void reconnecting_goes_on_while_threads_are_refused(void) {
    struct enclave again;
    setup();
    confer_config *config = by_name("localhost");
    confer_client *client = NULL;
    enclave_set_retries(config, 1000, 5, 20);
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    refuse(&starve_threads, 1, INT_MAX);
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    while (atomic_load(&starve_threads.refused) < 5) check_pause(); /* each attempt looks the name up */
    CHECK_OK(confer_client_check(client, &error));
    refuse_nothing(&starve_threads);
    chat_says(client, "again", "You said: again");
    CHECK(confer_client_counter(client, CONFER_COUNTER_FAILED_ATTEMPTS) >= 5);
    enclave_close(client);
    enclave = again;
    teardown();
}

/* ---- look-ups that hang ---------------------------------------------------------------------------------------------*/

/* Starts a client whose look-up hangs, and ends it then. */
static void hang_one(int nth) {
    confer_config *config = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_config_set_token(config, enclave.token, SIZE_MAX, &error));
    CHECK_OK(confer_config_set_endpoint(config, "wss://" STARVE_HANGING ".test/websocket", SIZE_MAX, &error));
    confer_client *client = client_start(config);
    confer_config_free(config);
    gate_wait(&starve_lookups, nth);
    confer_status status = confer_close(client, 0, NULL);
    CHECK(status == CONFER_TIMEOUT || status == CONFER_OK);
    CHECK_STATUS(CONFER_E_CLOSED, confer_client_wait(client, -1, &error));
    confer_client_free(client);
}

static void hanging_lookups_delay_no_file_and_no_other_name(void) {
    setup();
    confer_client *client = enclave_connect(&enclave);
    confer_error *error = NULL;
    for (int n = 1; n < MOST_LOOKUPS; n++) hang_one(n);
    int64_t began = check_now_ms();
    CHECK(end_of(upload(client), &error) == CONFER_END);
    CHECK(use_everything(false));
    CHECK(check_now_ms() - began < SOON_MS);

    /* The last place. After it a connection by name fails at once, but a file can still be read. */
    hang_one(MOST_LOOKUPS);
    confer_config *config = by_name("localhost");
    confer_client *other = NULL;
    confer_status status;
    /* The last look-up counts as given up a moment after its attempt has failed. Until then others queue behind it. */
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_STAGE_RESOLVE, 50, &error));
    do status = confer_connect(config, &other, NULL);
    while (status == CONFER_E_STAGE_TIMEOUT);
    CHECK(status == CONFER_E_SYSTEM);
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_STAGE_RESOLVE, 10000, &error));
    began = check_now_ms();
    status = confer_connect(config, &other, &error);
    CHECK(check_now_ms() - began < 5000); /* below the stage's time limit */
    check_status(__FILE__, __LINE__, "confer_connect", CONFER_E_SYSTEM, "32 name look-ups", status, error);
    CHECK(confer_error_retryable(error));
    confer_error_free(error);
    error = NULL;
    CHECK(end_of(upload(client), &error) == CONFER_END);
    confer_client *numeric = enclave_connect(&enclave);
    enclave_close(numeric);

    /* A client can be closed, but a wait for all threads times out. */
    CHECK_STATUS(CONFER_TIMEOUT, confer_close(client, 100, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_runtime_wait(0, &error));
    starve_release_lookups();
    CHECK_OK(confer_close(client, SOON_MS, &error));
    CHECK_OK(confer_runtime_wait(0, &error));
    check_no_library_thread();
    confer_client_free(client);
    CHECK_OK(confer_connect(config, &other, &error));
    confer_config_free(config);
    chat_says(other, "by name", "You said: by name");
    enclave_close(other);
    teardown();
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(refused_thread_is_an_error_and_the_next_try_succeeds),
        PROMISE(refused_threads_are_an_error_and_the_next_try_succeeds),
        PROMISE(one_worker_is_enough_and_the_next_connection_asks_for_more),
        PROMISE(refused_file_thread_ends_its_upload_alone),
        PROMISE(reconnecting_goes_on_while_threads_are_refused),
        PROMISE(hanging_lookups_delay_no_file_and_no_other_name),
    };
    return KEEP_PROMISES(promises);
}
