/*
 * A library to preload. It delays threads when they wake, as a busy machine does: a promise must hold
 * however late a thread runs. The delays vary, and half of the wake-ups have none.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The longest delays. Callbacks have the longest, because tests wait for them most. */
enum { CALLBACKS_US = 100000, OTHERS_US = 5000 };

static long (*next_syscall)(long, ...);
static int (*next_epoll_wait)(int, struct epoll_event *, int, int);

/* POSIX lets a pointer to an object hold a function, but C11 has no cast for it. */
__attribute__((constructor)) static void find(void) {
    *(void **)&next_syscall = dlsym(RTLD_NEXT, "syscall");
    *(void **)&next_epoll_wait = dlsym(RTLD_NEXT, "epoll_wait");
    unsetenv("LD_PRELOAD"); /* the enclave is not delayed */
}

static void delay(void) {
    static atomic_ullong wakeups;
    uint64_t random = (atomic_fetch_add(&wakeups, 1) + 1) * 0x9e3779b97f4a7c15ull;
    random ^= random >> 29;
    random *= 0xbf58476d1ce4e5b9ull;
    if (random >> 63) return;
    char name[16];
    prctl(PR_GET_NAME, name);
    uint64_t longest = strcmp(name, "confer-callback") == 0 ? CALLBACKS_US : OTHERS_US;
    struct timespec time = {0, (long)((random >> 20) % longest * 1000)};
    int before = errno;
    next_syscall(SYS_nanosleep, &time, NULL);
    errno = before;
}

/* Rust's locks call the kernel by this function. */
long syscall(long number, ...) {
    va_list list;
    long arguments[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) arguments[i] = va_arg(list, long);
    va_end(list);
    long result = next_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
    long operation = arguments[1] & FUTEX_CMD_MASK;
    if (number == SYS_futex && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET)) delay();
    return result;
}

int epoll_wait(int poll, struct epoll_event *events, int count, int timeout) {
    int result = next_epoll_wait(poll, events, count, timeout);
    delay();
    return result;
}
