/*
 * Clocks that jump, and a machine that sleeps.
 *
 * This program replaces the wall clock: the library calls the function below instead of the system's.
 * A sleep is a stopped process that continues later. Its sockets fill while it stands still, and all of its
 * time limits pass at once.
 */
#define _GNU_SOURCE
#include "enclave.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

static struct enclave enclave, again;
static _Atomic long ahead_s; /* of the real wall clock */

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += ahead_s;
    return result;
}

/* Short limits, so that a stopped process exceeds them by far. But a busy machine may stop a process for a second. */
enum { KEEPALIVE_MS = 200, DEAD_PEER_MS = 2000 };

static confer_client *connect_with(uint32_t attempts, bool with_evidence) {
    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_KEEPALIVE, KEEPALIVE_MS, &error));
    CHECK_OK(confer_config_set_duration_ms(config, CONFER_DURATION_DEAD_PEER, DEAD_PEER_MS, &error));
    enclave_set_retries(config, attempts, 50, 500);
    CHECK_OK(confer_config_set_renew_with_evidence(config, with_evidence, &error));
    CHECK_OK(confer_connect(config, &client, &error));
    confer_config_free(config);
    return client;
}

static void a_clock_that_jumps_ends_no_connection(void) {
    const long jumps[] = {3600, -3600, 86400 * 365 * 10, -86400 * 365 * 10};
    enclave_start(&enclave, NULL);
    confer_client *client = connect_with(0, false);
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        confer_stream *stream = chat_pull(client, "/repeat 10 20 word");
        chat_next(stream);
        ahead_s = jumps[i];
        chat_read(stream, NULL, 0);
        confer_stream_free(stream);
        chat_says(client, "still there", "You said: still there");
    }
    ahead_s = 0;
    enclave_close(client);
    enclave_stop(&enclave);
}

/* The evidence is in time by the first clock only. After the jump the library asks for new evidence, which fails
 * by the new clock. It keeps the working connection, because the clock may be wrong. */
static void evidence_that_expired_by_a_clock_that_jumped_is_not_relied_on(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = connect_with(3, true);
    chat_says(client, "in time", "You said: in time");
    ahead_s = 7200;
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    confer_stream *stream = chat_pull(client, "a prompt that must not leave");
    CHECK(confer_stream_next(stream, -1, &event, &failure) == CONFER_E_REJECTED);
    CHECK_TEXT("ita.time", confer_error_check_id(failure, NULL));
    CHECK(confer_error_progress(failure) == CONFER_PROGRESS_NOT_SENT && confer_error_retryable(failure));
    confer_error_free(failure);
    confer_stream_free(stream);
    CHECK_OK(confer_client_check(client, &error));
    CHECK(enclave_count(&enclave, "/v1/vllm/chat/completions") == 1);
    ahead_s = 0;
    chat_says(client, "right again", "You said: right again");
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) == 1);
    enclave_close(client);
    enclave_stop(&enclave);
}

/* With a wrong clock nothing verifies, but a client retries that. */
static void a_connection_that_breaks_while_the_clock_is_wrong_is_made_again_when_it_is_right(void) {
    const long jumps[] = {7200, -7200, 86400 * 400, -86400 * 400, 86400L * 365 * 30, -86400L * 365 * 30};
    for (size_t i = 0; i < sizeof jumps / sizeof *jumps; i++) {
        enclave_start(&enclave, NULL);
        confer_client *client = connect_with(1000, false);
        ahead_s = jumps[i];
        confer_config *config = enclave_config(&enclave);
        confer_client *none = NULL;
        confer_error *failure = NULL;
        CHECK(confer_connect(config, &none, &failure) == CONFER_E_REJECTED);
        CHECK(confer_error_retryable(failure));
        confer_error_free(failure);
        confer_config_free(config);
        enclave_kill(&enclave);
        while (is_connected(client)) check_pause();
        confer_stream *waiting = chat_pull(client, "patience");
        enclave_start_again(&again, &enclave, NULL, NULL);
        while (confer_client_counter(client, CONFER_COUNTER_FAILED_ATTEMPTS) < 20) check_pause();
        ahead_s = 0;
        char text[100];
        chat_read(waiting, text, sizeof text);
        CHECK_TEXT("You said: patience", text);
        confer_stream_free(waiting);
        enclave_close(client);
        enclave_stop(&again);
    }
}

/* Forks a child that soon stops process `whom`, and continues it after four seconds. */
static pid_t sleep_soon(pid_t whom) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        nanosleep(&(struct timespec){0, 300000000}, NULL);
        kill(whom, SIGSTOP);
        nanosleep(&(struct timespec){4, 0}, NULL);
        kill(whom, SIGCONT);
        _exit(0);
    }
    return child;
}

static void a_machine_that_slept_loses_nothing_while_its_peer_was_awake(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = connect_with(0, false);
    confer_stream *stream = chat_pull(client, "/repeat 100 50 word"); /* 5 s, so it spans the sleep */
    pid_t child = sleep_soon(getpid());
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    CHECK(waitpid(child, NULL, 0) == child);
    CHECK_OK(confer_client_network_changed(client, &error));
    chat_says(client, "awake", "You said: awake");
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) == 1);
    enclave_close(client);
    enclave_stop(&enclave);
}

static void a_peer_that_sleeps_is_dead_within_the_limits_and_found_again(void) {
    enclave_start(&enclave, NULL);
    confer_client *client = connect_with(50, false);
    chat_says(client, "hello", "You said: hello");
    CHECK(kill(enclave.pid, SIGSTOP) == 0 && waitpid(enclave.pid, NULL, WUNTRACED) == enclave.pid); /* all its threads */
    const confer_event *event = NULL;
    confer_error *failure = NULL;
    int64_t began = check_now_ms();
    confer_stream *stream = chat_pull(client, "into the silence");
    CHECK(confer_stream_next(stream, -1, &event, &failure) == CONFER_E_DEAD_PEER);
    CHECK(check_now_ms() - began < KEEPALIVE_MS + DEAD_PEER_MS + 5000); /* 5 s for a busy machine */
    CHECK(confer_error_progress(failure) == CONFER_PROGRESS_MAYBE_SENT);
    confer_error_free(failure);
    confer_stream_free(stream);
    stream = chat_pull(client, "/repeat 1 0 again"); /* waits for a connection */
    CHECK(kill(enclave.pid, SIGCONT) == 0);
    chat_read(stream, NULL, 0);
    confer_stream_free(stream);
    CHECK(confer_client_counter(client, CONFER_COUNTER_CONNECTIONS) >= 2);
    enclave_close(client);
    enclave_stop(&enclave);
}

int main(void) {
    const struct promise promises[] = {
        PROMISE(a_clock_that_jumps_ends_no_connection),
        PROMISE(evidence_that_expired_by_a_clock_that_jumped_is_not_relied_on),
        PROMISE(a_connection_that_breaks_while_the_clock_is_wrong_is_made_again_when_it_is_right),
        PROMISE(a_machine_that_slept_loses_nothing_while_its_peer_was_awake),
        PROMISE(a_peer_that_sleeps_is_dead_within_the_limits_and_found_again),
    };
    return KEEP_PROMISES(promises);
}
