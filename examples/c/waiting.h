/*
 * waiting.h: the waits of chat's main thread, which Ctrl-C and the client's events interrupt.
 */
#ifndef WAITING_H
#define WAITING_H

#include "watch.h"

/*
 * A signal handler must not call the library. So the handler wakes the main thread. A second Ctrl-C before the main thread
 * has handled the first one ends the program at once.
 */
static volatile sig_atomic_t interrupted;

static inline void on_interrupt(int number) {
    static const char reset[] = "\033[0m\033[K", last_line[] = "\nconfer: CONFER_E_CANCELLED: interrupted\n";
    (void)number;
    if (interrupted) {
        ssize_t written = live ? write(STDERR_FILENO, reset, sizeof reset - 1) : 0; /* resets colours, and removes "… 5 s" */
        written = write(STDERR_FILENO, last_line, sizeof last_line - 1);
        (void)written;
        _exit(INTERRUPTED);
    }
    interrupted = 1;
    wake();
}

/*
 * Waits until the library has called on_ready(), with `input` also until a byte can be read, or the time since `since_ms` is
 * over (negative: no limit). Ctrl-C, the first connection and the end of the client end a wait for input too. While it waits,
 * it shows the client's events and, unless it waits for input, the time on a terminal.
 */
static inline enum pause wait_for(bool input, int64_t timeout_ms, int64_t since_ms) {
    for (int before = phase;;) {
        int64_t left = timeout_ms < 0 ? -1 : since_ms + timeout_ms > now_ms() ? since_ms + timeout_ms - now_ms() : 0;
        enum pause end = pause_for(input, input ? left : until_next_second(since_ms, left));
        if (end != TIMED_OUT) take_client_events(false);
        if (interrupted || (int)phase != before) return WOKEN;
        if (end == READABLE || (end == WOKEN && !input)) return end;
        if (end == TIMED_OUT && left == 0) return TIMED_OUT;
        if (input) continue;
        flockfile(stderr);
        show_waiting(since_ms);
        funlockfile(stderr);
    }
}

#endif
