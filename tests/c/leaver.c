/*
 * A program that ends while the library connects. leave.c starts it, delays the connection, and continues it only
 * when the process ends. Compiles as C and as C++.
 *
 *     leaver SCENARIO URL TOKEN POLICY_FILE, with pipes to leave.c on the descriptors 3 (in) and 4 (out)
 *
 * leaver_end.c runs when it ends, linked into this program or into another library. It asks leave.c to continue, and
 * gives the connection time to proceed.
 */
#include <confer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static confer_client *client, *connecting;

#ifdef __cplusplus
/* An application's object, which closes its client when the process ends. */
namespace {
struct Owner {
    ~Owner() {
        if (client == nullptr) return;
        if (confer_close(client, -1, nullptr) != CONFER_OK) _exit(3);
        confer_client_free(client);
    }
} owner;
}
#endif

static confer_config *config;

/* Runs after the library's exit handler, which was registered later. */
static void connect_late(void) {
    if (confer_connect(config, &client, NULL) != CONFER_E_SYSTEM) _exit(8);
}

static void need(confer_status status, confer_error *error) {
    if (status == CONFER_OK) return;
    fprintf(stderr, "%s: %s\n", confer_status_name(status), confer_error_message(error, NULL));
    _exit(2);
}

/* Waits until leave.c delays a connection. */
static void wait_until_held(void) {
    char byte;
    if (read(3, &byte, 1) != 1 || byte != 'h') _exit(4);
}

/* On the client's callback thread, while the main thread waits in confer_client_wait(). */
static int32_t on_client(void *user_data, confer_stream *stream, const confer_event *event) {
    (void)user_data, (void)stream;
    if (confer_event_stage(event) != CONFER_STAGE_UPGRADE) return 0;
    wait_until_held();
    exit(7);
}

/* The connection is held in that stage, so a watch that is opened late sees it too. */
static void end_in_a_callback(void) {
    confer_stream_callbacks watch = {sizeof watch, NULL, on_client, NULL, NULL, NULL};
    confer_error *error = NULL;
    need(confer_connect_start(config, &connecting, &error), error);
    need(confer_client_watch(connecting, &watch, NULL, &error), error);
    need(confer_client_wait(connecting, -1, &error), error);
    _exit(9); /* it was not held */
}

int main(int argc, char **argv) {
    confer_policy *policy = NULL;
    confer_error *error = NULL;
    if (argc != 5) return 5;
    if (strcmp(argv[1], "late") == 0) atexit(connect_late);
    need(confer_config_new(&config, &error), error);
    need(confer_config_set_endpoint(config, argv[2], SIZE_MAX, &error), error);
    need(confer_config_set_token(config, argv[3], SIZE_MAX, &error), error);
    need(confer_policy_load(argv[4], SIZE_MAX, &policy, &error), error);
    need(confer_config_set_policy(config, policy, &error), error);
    if (strcmp(argv[1], "late") == 0) exit(7);
    if (strcmp(argv[1], "callback") == 0) end_in_a_callback();
    if (strcmp(argv[1], "reconnect") == 0) {
        need(confer_config_set_limit(config, CONFER_LIMIT_ATTEMPTS, 100, &error), error);
        need(confer_config_set_duration_ms(config, CONFER_DURATION_FIRST_RETRY, 1, &error), error);
        need(confer_config_set_duration_ms(config, CONFER_DURATION_LONGEST_RETRY, 1, &error), error);
    }
    if (strcmp(argv[1], "first") != 0) need(confer_connect(config, &client, &error), error);
    if (strcmp(argv[1], "reconnect") != 0) need(confer_connect_start(config, &connecting, &error), error);
    wait_until_held();
    exit(7); /* nothing is closed or freed */
}
