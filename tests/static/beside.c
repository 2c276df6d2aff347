/*
 * A program with libconfer.a and another static library: both work, before and after a panic in
 * libconfer.
 */
#define _GNU_SOURCE /* epoll_pwait */
#include "enclave.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/epoll.h>

int neighbour(void); /* the other library */

/* libconfer's threads panic when waiting for events fails. */
static atomic_bool broken;

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    if (atomic_load(&broken)) return errno = EBADF, -1;
    return epoll_pwait(epoll, events, most, timeout, NULL);
}

static void both_work(const struct enclave *enclave) {
    confer_client *client = enclave_connect(enclave);
    chat_says(client, "beside", "You said: beside");
    CHECK(neighbour() == 0);
    chat_says(client, "still", "You said: still");
    enclave_close(client);
}

int main(void) {
    struct enclave enclave;
    enclave_start(&enclave, NULL);
    both_work(&enclave);

    confer_config *config = enclave_config(&enclave);
    confer_client *client = NULL;
    confer_error *error = NULL;
    atomic_store(&broken, true);
    confer_status status = confer_connect(config, &client, &error);
    atomic_store(&broken, false);
    check_status(__FILE__, __LINE__, "confer_connect", CONFER_E_SYSTEM, "worker", status, error);
    confer_error_free(error);
    confer_config_free(config);

    both_work(&enclave);
    enclave_stop(&enclave);
    puts("both work");
    return 0;
}
