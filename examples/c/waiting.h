/*
 * waiting.h: the waits of chat's main thread, which Ctrl-C and the client's events interrupt.
 */
#ifndef WAITING_H
#define WAITING_H

#include "watch.h"

#include <fcntl.h>
#include <signal.h>

/*
 * A signal handler must not call the library. So the handler writes to a pipe, which the main thread polls in every wait.
 * A second Ctrl-C before the main thread has handled the first one ends the program at once.
 */
static int wake_pipe[2];
static volatile sig_atomic_t interrupted;

static inline void on_interrupt(int number) {
    static const char reset[] = "\033[0m\033[K", last_line[] = "\nconfer: CONFER_E_CANCELLED: interrupted\n";
    int saved = errno;
    (void)number;
    if (interrupted) {
        ssize_t written = live ? write(STDERR_FILENO, reset, sizeof reset - 1) : 0; /* resets colours, and removes "… 5 s" */
        written = write(STDERR_FILENO, last_line, sizeof last_line - 1);
        (void)written;
        _exit(INTERRUPTED);
    }
    interrupted = 1;
    ssize_t written = write(wake_pipe[1], "", 1);
    (void)written;
    errno = saved;
}

static inline bool catch_interrupts(void) {
    /* A write() continues after the signal, because stdio treats EINTR as an error. poll() returns in any case. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe becomes an error of write() */
    return pipe(wake_pipe) == 0 && fcntl(wake_pipe[0], F_SETFL, O_NONBLOCK) == 0 && sigaction(SIGINT, &action, NULL) == 0;
}

enum wait { READY, TIMED_OUT, WOKEN };

/*
 * Waits until `fd` is readable, or the time is over (negative: no limit). Ctrl-C, the first connection and the end of the
 * client wake it. While it waits, it shows the client's events and, on a terminal, the time since `since_ms` (unless that
 * is negative).
 */
static inline enum wait wait_for(int fd, int64_t timeout_ms, int64_t since_ms) {
    int64_t end = now_ms() + timeout_ms;
    char drained[16];
    for (int before = phase;;) {
        struct pollfd watched[] = {{wake_pipe[0], POLLIN, 0}, {watch_fd, POLLIN, 0}, {fd, POLLIN, 0}};
        int64_t left = timeout_ms < 0 ? -1 : end > now_ms() ? end - now_ms() : 0;
        int ready = poll(watched, 3, (int)(since_ms < 0 ? left : until_next_second(since_ms, left)));
        while (ready > 0 && watched[0].revents != 0 && read(wake_pipe[0], drained, sizeof drained) > 0) continue;
        if (ready > 0 && watched[1].revents != 0) take_client_events(false);
        if (interrupted || (int)phase != before) return WOKEN;
        if (ready > 0 && watched[2].revents != 0) return READY;
        if (ready == 0 && left == 0) return TIMED_OUT;
        if (since_ms < 0) continue;
        flockfile(stderr);
        show_waiting(since_ms);
        funlockfile(stderr);
    }
}

#endif
