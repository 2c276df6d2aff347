/*
 * Many clients and many threads share a configuration, a client, and the runtime.
 */
#include "enclave.h"

enum { THREADS = 8, TURNS = 5 };

static struct enclave enclave;

static void *connect_and_chat(void *data) {
    for (int i = 0; i < 2; i++) {
        confer_client *client = NULL;
        CHECK_OK(confer_connect(data, &client, &error));
        chat_says(client, "one of many", "You said: one of many");
        enclave_close(client);
    }
    return NULL;
}

static void *chat_often(void *data) {
    for (int i = 0; i < TURNS; i++) {
        char prompt[64], answer[80];
        snprintf(prompt, sizeof prompt, "turn %d of thread %lu", i, (unsigned long)pthread_self());
        snprintf(answer, sizeof answer, "You said: %s", prompt);
        chat_says(data, prompt, answer);
    }
    return NULL;
}

static void run_in_threads(void *(*work)(void *), void *data) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, work, data) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void threads_share_a_configuration(void) {
    enclave_start(&enclave, NULL);
    confer_config *config = enclave_config(&enclave);
    run_in_threads(connect_and_chat, config);
    confer_config_free(config);
    enclave_stop(&enclave);
}

static void threads_that_share_a_client_get_their_answers(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    run_in_threads(chat_often, client);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void closing_one_client_leaves_another_open(void) {
    struct enclave other;
    enclave_start(&enclave, NULL);
    enclave_start(&other, NULL);
    confer_client *first = enclave_connect(&enclave), *second = enclave_connect(&other);
    enclave_close(first);
    CHECK(check_count_named(CHECK_WORKER) > 0);
    chat_says(second, "and I?", "You said: and I?");
    enclave_close(second);
    enclave_stop(&other);
    enclave_stop(&enclave);
}

static void *close_it(void *data) {
    CHECK_OK(confer_close(data, -1, &error));
    return NULL;
}

static void several_threads_close_a_client_at_once(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    run_in_threads(close_it, client);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void no_library_thread_runs_after_close_returned(void) {
    enclave_start(&enclave, NULL);
    confer_client *clients[3];
    for (int i = 0; i < 3; i++) clients[i] = enclave_connect(&enclave);
    for (int i = 0; i < 3; i++) CHECK_OK(confer_close(clients[i], -1, &error));
    check_no_library_thread();
    for (int i = 0; i < 3; i++) confer_client_free(clients[i]);
    enclave_stop(&enclave);
}

static void polled_close_is_done_when_it_returns_ok(void) {
    enclave_start(&enclave, NULL);
    for (int i = 0; i < 10; i++) {
        confer_client *client = enclave_connect(&enclave);
        confer_status status;
        while ((status = confer_close(client, 0, NULL)) == CONFER_TIMEOUT) check_pause();
        CHECK(status == CONFER_OK);
        check_no_library_thread();
        confer_client_free(client);
    }
    enclave_stop(&enclave);
}

static void runtime_wait_works_without_a_client(void) {
    struct enclave drops;
    enclave_start(&enclave, NULL);
    enclave_start(&drops, "accept-drop");
    CHECK_OK(confer_runtime_wait(-1, &error));
    confer_client *client = enclave_connect(&enclave);
    CHECK_STATUS(CONFER_TIMEOUT, confer_runtime_wait(0, &error));
    CHECK_STATUS(CONFER_TIMEOUT, confer_runtime_wait(10, &error));
    confer_client_free(client);
    CHECK_OK(confer_runtime_wait(-1, &error));
    check_no_library_thread();
    confer_config *config = enclave_config(&drops);
    CHECK_STATUS(CONFER_E_CONNECTION_LOST, confer_connect(config, &client, &error));
    confer_config_free(config);
    CHECK_OK(confer_runtime_wait(-1, &error));
    check_no_library_thread();
    enclave_stop(&drops);
    enclave_stop(&enclave);
}

static void closed_client_always_fails_with_closed(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = enclave_connect(&enclave);
    confer_chat_request *request = chat_request("hi");
    confer_stream *stream = NULL;
    CHECK_OK(confer_close(client, -1, &error));
    for (int i = 0; i < 5000; i++) CHECK_STATUS(CONFER_E_CLOSED, confer_chat_stream(client, request, NULL, &stream, &error));
    confer_chat_request_free(request);
    confer_client_free(client);
    enclave_stop(&enclave);
}

static void worker_count_is_set_while_no_client_exists(void) {
    enclave_start(&enclave, NULL);
    CHECK_OK(confer_runtime_set_workers(3, &error));
    confer_client *client = enclave_connect(&enclave);
    chat_says(client, "hi", "You said: hi");
    while (check_count_named(CHECK_WORKER) < 3) check_pause(); /* a thread names itself */
    CHECK(check_count_named(CHECK_WORKER) == 3);
    CHECK_STATUS(CONFER_E_BUSY, confer_runtime_set_workers(1, &error));
    CHECK_OK(confer_runtime_set_workers(3, &error));
    enclave_close(client);
    CHECK_OK(confer_runtime_set_workers(1, &error));
    client = enclave_connect(&enclave);
    chat_says(client, "alone", "You said: alone");
    enclave_close(client);
    CHECK_OK(confer_runtime_set_workers(2, &error));
    enclave_stop(&enclave);
}

int main(void) {
    static const struct promise promises[] = {
        PROMISE(threads_share_a_configuration),
        PROMISE(threads_that_share_a_client_get_their_answers),
        PROMISE(closing_one_client_leaves_another_open),
        PROMISE(several_threads_close_a_client_at_once),
        PROMISE(no_library_thread_runs_after_close_returned),
        PROMISE(polled_close_is_done_when_it_returns_ok),
        PROMISE(runtime_wait_works_without_a_client),
        PROMISE(closed_client_always_fails_with_closed),
        PROMISE(worker_count_is_set_while_no_client_exists),
    };
    return KEEP_PROMISES(promises);
}
