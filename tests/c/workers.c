/*
 * Workers that die or hang: waiting calls fail in time, nothing is printed, and other workers continue.
 */
#include "starve.h"

#include "enclave.h"

#include <sys/epoll.h>

static struct enclave enclave;

enum { SOON_MS = 20000 }; /* far below any time limit of the library that could end a hang */

/* Waiting for events fails. tokio cannot continue then, and the thread dies. */
static struct refusal waits = {0, 0, INT_MAX, 0};
/* Waiting does not return until the gate is open. */
static atomic_bool stuck;
static struct gate unstuck = GATE;

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    static int (*real)(int, struct epoll_event *, int, int);
    if (refuses(&waits)) return errno = EBADF, -1;
    if (atomic_load(&stuck)) gate_wait(&unstuck, 1);
    if (real == NULL) STARVE_REAL("epoll_wait", real);
    return real(epoll, events, most, timeout);
}

static void connecting_ends_when_its_worker_dies(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    FILE *caught = starve_catch_stderr();
    for (int n = 1; n <= 10; n++) {
        confer_client *client = NULL;
        confer_error *error = NULL;
        int64_t began = check_now_ms();
        refuse(&waits, n, INT_MAX);
        confer_status status = confer_connect(config, &client, &error);
        refuse_nothing(&waits);
        CHECK(check_now_ms() - began < SOON_MS);
        if (status != CONFER_OK) {
            check_status(__FILE__, __LINE__, "confer_connect", CONFER_E_SYSTEM, "worker", status, error);
            CHECK(confer_error_retryable(error));
            confer_error_free(error);
        } else {
            enclave_close(client);
        }
        client = enclave_connect(&enclave);
        chat_says(client, "alive", "You said: alive");
        enclave_close(client);
    }
    starve_stderr_is_empty(caught);
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void connecting_ends_in_time_when_no_worker_answers(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_CONNECT, 500, &error));
    int64_t began = check_now_ms();
    atomic_store(&stuck, true);
    CHECK_ERROR(CONFER_E_STAGE_TIMEOUT, "does not answer", confer_connect(config, &client, &error));
    CHECK(client == NULL && check_now_ms() - began < SOON_MS);
    CHECK_STATUS(CONFER_TIMEOUT, confer_runtime_wait(0, &error));
    atomic_store(&stuck, false);
    gate_raise(&unstuck);
    confer_config_free(config);
    client = enclave_connect(&enclave);
    chat_says(client, "answers", "You said: answers");
    enclave_close(client);
    enclave_stop(&enclave);
}

static void requests_end_when_their_worker_dies_and_reconnecting_goes_on(void) {
    enclave_start(&enclave, NULL);
    FILE *caught = starve_catch_stderr();
    for (int reconnecting = 0; reconnecting <= 1; reconnecting++) {
        confer_config *config = enclave_config(&enclave);
        confer_client *client = NULL;
        confer_error *error = NULL;
        if (reconnecting) enclave_set_retries(config, 100, 5, 20);
        CHECK_OK(confer_connect(config, &client, &error));
        confer_config_free(config);
        confer_stream *stream = chat_pull(client, "/repeat 1000 10 word");
        chat_next(stream);
        refuse(&waits, 1, 2); /* it is in use every 10 ms; the idle one may die too */
        confer_status status = CONFER_OK;
        const confer_event *event = NULL;
        while (status == CONFER_OK) status = confer_stream_next(stream, -1, &event, &error);
        confer_stream_free(stream);
        check_status(__FILE__, __LINE__, "the stream", CONFER_E_CONNECTION_LOST, "worker", status, error);
        CHECK(confer_error_progress(error) == CONFER_PROGRESS_PARTLY_ANSWERED);
        confer_error_free(error);
        refuse_nothing(&waits);
        if (reconnecting) chat_says(client, "again", "You said: again");
        else CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_client_check(client, &error));
        CHECK_OK(confer_close(client, SOON_MS, &error));
        confer_client_free(client);
        check_no_library_thread();
    }
    starve_stderr_is_empty(caught);
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(connecting_ends_when_its_worker_dies),
        PROMISE(connecting_ends_in_time_when_no_worker_answers),
        PROMISE(requests_end_when_their_worker_dies_and_reconnecting_goes_on),
    };
    return KEEP_PROMISES(promises);
}
