/*
 * A process without free descriptors: every call that needs one fails with CONFER_E_SYSTEM and the name of the limit,
 * and succeeds once descriptors are free again.
 */
#include "enclave.h"

#include <errno.h>
#include <sys/resource.h>

static struct enclave enclave;

enum { TABLE = 256 }; /* descriptors of the process during the shortage */

static struct rlimit before;
static int fillers[TABLE], filled;

/* Fills the table of descriptors, except for `left` of them. */
static void starve(int left) {
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    struct rlimit small = before;
    small.rlim_cur = TABLE;
    CHECK(setrlimit(RLIMIT_NOFILE, &small) == 0);
    for (int fd; (fd = dup(0)) >= 0;) fillers[filled++] = fd;
    CHECK(errno == EMFILE && filled > left);
    while (left-- > 0) close(fillers[--filled]);
}

static void feed(void) {
    while (filled > 0) close(fillers[--filled]);
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

/* Checks the error of a call without a descriptor. */
static void check_shortage(const char *what, confer_status status, confer_error *error) {
    check_status(__FILE__, __LINE__, what, CONFER_E_SYSTEM, "RLIMIT_NOFILE", status, error);
    CHECK(confer_error_retryable(error) && confer_error_report(error) == NULL);
    confer_error_free(error);
}

/* `call` passes `&error`. The first time it has no descriptor. */
#define CHECK_NEEDS_DESCRIPTOR(call)          \
    do {                                      \
        confer_error *error = NULL;           \
        starve(0);                            \
        confer_status status = (call);        \
        feed();                               \
        check_shortage(#call, status, error); \
        CHECK_OK(call);                       \
    } while (0)

/*
 * Connects with one more descriptor each time, until it succeeds. So each descriptor of connecting is refused once.
 * Returns the number of refusals.
 */
static int connect_with_ever_more(const confer_config *config) {
    for (int left = 0;; left++) {
        confer_client *client = NULL;
        confer_error *error = NULL;
        starve(left);
        int64_t began = check_now_ms();
        confer_status status = confer_connect(config, &client, &error);
        int64_t took = check_now_ms() - began;
        feed();
        CHECK(took < 30000);
        if (status == CONFER_OK) {
            chat_says(client, "at last", "You said: at last");
            enclave_close(client);
            CHECK(error == NULL);
            return left;
        }
        CHECK(client == NULL);
        check_shortage("confer_connect", status, error);
    }
}

/* The enclave's URL with a name, which needs a look-up. */
static void set_endpoint_by_name(confer_config *config) {
    char url[140];
    int port;
    CHECK(sscanf(enclave.url, "ws://127.0.0.1:%d/", &port) == 1);
    snprintf(url, sizeof url, "ws://localhost:%d/websocket", port);
    CHECK_OK(confer_config_set_endpoint(config, url, SIZE_MAX, &error));
}

static void refused_descriptors_of_connecting_are_told(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    set_endpoint_by_name(config);
    int refused = connect_with_ever_more(config);
    CHECK(refused >= 4); /* the runtime, the look-up, and the sockets to the enclave and to the key server */
    confer_config_free(config);
    enclave_stop(&enclave);
}

/* The runtime and the keys exist from an earlier connection, so only the look-up and the socket remain. */
static void refused_descriptors_of_second_connection_are_told(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *first = enclave_connect(&enclave);
    int refused = connect_with_ever_more(config);
    CHECK(refused >= 1);
    set_endpoint_by_name(config);
    CHECK(connect_with_ever_more(config) >= refused);
    chat_says(first, "still here", "You said: still here");
    enclave_close(first);
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void refused_descriptors_of_proxy_are_told(void) {
    static const char *const proxies[] = {"http://localhost:9", "http://127.0.0.1:9", "socks5://localhost:9"};
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++) {
        confer_config *config = NULL;
        confer_client *client = NULL;
        confer_error *error = NULL;
        CHECK_OK(confer_config_new(&config, &error));
        CHECK_OK(confer_config_set_token(config, "token", SIZE_MAX, &error));
        CHECK_OK(confer_config_set_proxy(config, proxies[i], SIZE_MAX, &error));
        for (int left = 0;; left++) {
            starve(left);
            confer_status status = confer_connect(config, &client, &error);
            feed();
            if (status != CONFER_E_CONNECT) {
                check_shortage(proxies[i], status, error);
                continue;
            }
            CHECK(left >= 1); /* nothing listens there */
            confer_error_free(error);
            break;
        }
        confer_config_free(config);
        CHECK_OK(confer_runtime_wait(-1, &error));
    }
}

static void unknown_name_is_still_a_resolve_error(void) {
    confer_config *config = NULL;
    confer_client *client = NULL;
    CHECK_OK(confer_config_new(&config, &error));
    CHECK_OK(confer_config_set_token(config, "token", SIZE_MAX, &error));
    CHECK_OK(confer_config_set_endpoint(config, "wss://no-such-host.invalid/websocket", SIZE_MAX, &error));
    CHECK_STATUS(CONFER_E_RESOLVE, confer_connect(config, &client, &error));
    confer_config_free(config);
    CHECK_OK(confer_runtime_wait(-1, &error));
}

/* An existing cache file, which is read before anything is sent. */
static void refused_files_are_told(void) {
    enclave_start(&enclave, NULL);
    char cache[300], roots[] = "/etc/ssl/certs/ca-certificates.crt";
    snprintf(cache, sizeof cache, "%s/keys.json", getenv("CONFER_ENCLAVE_STATE"));
    FILE *file = fopen(cache, "w");
    CHECK(file != NULL && fclose(file) == 0);

    confer_policy *policy = NULL;
    CHECK_NEEDS_DESCRIPTOR(confer_policy_load(enclave.policy, SIZE_MAX, &policy, &error));
    confer_policy_free(policy);

    confer_config *config = enclave_config(&enclave);
    CHECK_OK(confer_config_set_jwks_cache_file(config, cache, SIZE_MAX, &error));
    CHECK(connect_with_ever_more(config) >= 4);
    confer_config_free(config);

    confer_extraction_request *request = NULL;
    CHECK_OK(confer_extraction_request_new("text/plain", SIZE_MAX, &request, &error));
    CHECK_NEEDS_DESCRIPTOR(confer_extraction_request_set_document_file(request, enclave.policy, SIZE_MAX, &error));
    confer_extraction_request_free(request);

    if (access(roots, R_OK) == 0) {
        CHECK(setenv("SSL_CERT_FILE", roots, 1) == 0 && unsetenv("SSL_CERT_DIR") == 0);
        CHECK_OK(confer_config_new(&config, &error));
        CHECK_NEEDS_DESCRIPTOR(confer_config_set_roots(config, CONFER_ROOTS_SYSTEM, &error));
        confer_config_free(config);
    }
    CHECK(unlink(cache) == 0);
    enclave_stop(&enclave);
}

static void refused_event_loop_descriptors_are_told(void) {
    enclave_start(&enclave, NULL);
    int fd = -1;
    confer_config *config = enclave_config(&enclave);
    confer_client *client = client_start(config);
    confer_stream *watch = client_watch(client);
    CHECK_OK(confer_client_wait(client, -1, &error));
    CHECK_NEEDS_DESCRIPTOR(confer_stream_fd(watch, &fd, &error));
    CHECK(fd >= 0);
    confer_stream_free(watch);
    confer_stream *stream = chat_pull(client, "Hello");
    CHECK_NEEDS_DESCRIPTOR(confer_stream_fd(stream, &fd, &error));
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    enclave_close(client);
    confer_config_free(config);
    enclave_stop(&enclave);
}

struct failures {
    struct gate shortages, destroyed;
};

/* Counts attempts that failed because no descriptor was free. Others failed before the shortage, without an enclave. */
static int32_t on_client(void *user_data, confer_stream *stream, const confer_event *event) {
    struct failures *failures = user_data;
    const confer_error *error = confer_event_error(event);
    (void)stream;
    if (confer_event_type(event) != CONFER_EVENT_RETRY || confer_error_status(error) != CONFER_E_SYSTEM) return 0;
    CHECK(confer_error_retryable(error) && strstr(confer_error_message(error, NULL), "RLIMIT_NOFILE") != NULL);
    gate_raise(&failures->shortages);
    return 0;
}

static void on_destroyed(void *user_data) {
    gate_raise(&((struct failures *)user_data)->destroyed);
}

static void reconnecting_client_outlives_a_shortage(void) {
    enum { ATTEMPTS = 1000, SHORTEST_MS = 1, LONGEST_MS = 50 };
    struct failures failures = {GATE, GATE};
    confer_stream_callbacks watch = {sizeof watch, &failures, on_client, NULL, on_destroyed, NULL};
    struct enclave again;
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    set_endpoint_by_name(config);
    enclave_set_retries(config, ATTEMPTS, SHORTEST_MS, LONGEST_MS);
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    CHECK_OK(confer_client_watch(client, &watch, NULL, &error));
    starve(0);
    CHECK(kill(enclave.pid, SIGKILL) == 0);
    while (gate_count(&failures.shortages) < 3) { /* the lost connection has closed its descriptors */
        int fd = dup(0);
        if (fd >= 0) fillers[filled++] = fd;
        check_pause();
    }
    CHECK_OK(confer_client_check(client, &error)); /* it lives */
    feed();
    enclave_kill(&enclave);
    enclave_start_again(&again, &enclave, NULL, NULL);
    chat_says(client, "with descriptors again", "You said: with descriptors again");
    enclave_close(client);
    CHECK(gate_count(&failures.destroyed) == 1);
    enclave_stop(&again);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(refused_descriptors_of_connecting_are_told),
        PROMISE(refused_descriptors_of_second_connection_are_told),
        PROMISE(refused_descriptors_of_proxy_are_told),
        PROMISE(unknown_name_is_still_a_resolve_error),
        PROMISE(refused_files_are_told),
        PROMISE(refused_event_loop_descriptors_are_told),
        PROMISE(reconnecting_client_outlives_a_shortage),
    };
    return KEEP_PROMISES(promises);
}
