/*
 * portable.h: what the examples do in one way on Unix and in another on Windows: they wait, read the input, take Ctrl-C,
 * and know the terminal.
 *
 * The main thread waits in pause_for(). The library's callbacks and the handler of Ctrl-C end that wait by wake().
 */
#ifndef PORTABLE_H
#define PORTABLE_H

#include <confer.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum pause { WOKEN, READABLE, TIMED_OUT };

#ifndef _WIN32

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

static int wake_pipe[2];

static inline bool prepare_to_wait(void) {
    return pipe(wake_pipe) == 0 && fcntl(wake_pipe[0], F_SETFL, O_NONBLOCK) == 0 &&
           fcntl(wake_pipe[1], F_SETFL, O_NONBLOCK) == 0;
}

/* Ends the main thread's present or next wait. Allowed in a handler of signals. */
static inline void wake(void) {
    int saved = errno;
    ssize_t written = write(wake_pipe[1], "", 1); /* a full pipe does the same */
    (void)written;
    errno = saved;
}

/* Waits for wake(), with `input` also for a byte of standard input, but not longer than `ms` (negative: no limit). */
static inline enum pause pause_for(bool input, int64_t ms) {
    struct pollfd watched[] = {{wake_pipe[0], POLLIN, 0}, {input ? STDIN_FILENO : -1, POLLIN, 0}};
    char drained[16];
    int ready = poll(watched, 2, (int)ms);
    while (ready > 0 && watched[0].revents != 0 && read(wake_pipe[0], drained, sizeof drained) > 0) continue;
    return ready == 0 ? TIMED_OUT : ready > 0 && watched[1].revents != 0 ? READABLE : WOKEN;
}

/* Reads the byte that pause_for() found, or EOF. It is not buffered: poll() does not see what waits in a buffer. */
static inline int read_byte(void) {
    unsigned char byte;
    return read(STDIN_FILENO, &byte, 1) == 1 ? byte : EOF;
}

static inline bool catch_ctrl_c(void handler(int)) {
    /* A write() continues after the signal, because stdio treats EINTR as an error. poll() returns in any case. */
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    signal(SIGPIPE, SIG_IGN); /* a closed pipe becomes an error of write() */
    return sigaction(SIGINT, &action, NULL) == 0;
}

static inline bool terminal_moves_cursor(void) {
    const char *kind = getenv("TERM");
    return isatty(STDERR_FILENO) && (kind == NULL || strcmp(kind, "dumb") != 0);
}

static inline size_t columns_of_terminal(void) {
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static inline const char *name_of_file(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

/* A closed standard descriptor would become the number of a socket: fill the gap with one that refuses its use. */
static inline bool fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd) return false;
    return true;
}

#else

#include <io.h>
#include <windows.h>

#define flockfile _lock_file
#define funlockfile _unlock_file

static HANDLE woken, byte_wanted, byte_there;
static bool byte_asked_for;
static int next_byte;
static void (*handle_ctrl_c)(int);

/* Windows cannot wait for a console or a pipe, so a thread reads them: one byte each time the main thread wants one. */
static inline DWORD WINAPI read_bytes(void *unused) {
    (void)unused;
    while (WaitForSingleObject(byte_wanted, INFINITE) == WAIT_OBJECT_0) {
        char byte = 0;
        DWORD len = 0;
        bool again = true; /* after Ctrl-C, which ends the read, and the first byte of a line's end */
        while (again) {
            SetLastError(0);
            bool failed = !ReadFile(GetStdHandle(STD_INPUT_HANDLE), &byte, 1, &len, NULL);
            again = !failed && (len == 0 ? GetLastError() == ERROR_OPERATION_ABORTED : byte == '\r');
        }
        next_byte = len == 0 || byte == 26 /* Ctrl-Z */ ? EOF : (unsigned char)byte;
        SetEvent(byte_there);
    }
    return 0;
}

static inline bool prepare_to_wait(void) {
    woken = CreateEventA(NULL, FALSE, FALSE, NULL);
    byte_wanted = CreateEventA(NULL, FALSE, FALSE, NULL);
    byte_there = CreateEventA(NULL, TRUE, FALSE, NULL);
    return woken != NULL && byte_wanted != NULL && byte_there != NULL &&
           CreateThread(NULL, 0, read_bytes, NULL, 0, NULL) != NULL;
}

static inline void wake(void) { SetEvent(woken); }

static inline enum pause pause_for(bool input, int64_t ms) {
    const HANDLE events[] = {woken, byte_there};
    if (input && !byte_asked_for) byte_asked_for = SetEvent(byte_wanted);
    DWORD which = WaitForMultipleObjects(input ? 2 : 1, events, FALSE, ms < 0 ? INFINITE : (DWORD)ms);
    return which == WAIT_OBJECT_0 ? WOKEN : which == WAIT_OBJECT_0 + 1 ? READABLE : TIMED_OUT;
}

static inline int read_byte(void) {
    ResetEvent(byte_there);
    byte_asked_for = false;
    return next_byte;
}

static inline BOOL WINAPI on_console_event(DWORD event) {
    if (event == CTRL_C_EVENT) handle_ctrl_c(SIGINT);
    return event == CTRL_C_EVENT;
}

static inline bool catch_ctrl_c(void handler(int)) {
    handle_ctrl_c = handler;
    return SetConsoleCtrlHandler(on_console_event, TRUE);
}

static inline bool terminal_moves_cursor(void) {
    const DWORD outputs[] = {STD_ERROR_HANDLE, STD_OUTPUT_HANDLE};
    DWORD mode;
    bool moves = false;
    SetConsoleOutputCP(CP_UTF8), SetConsoleCP(CP_UTF8);
    for (int at = 1; at >= 0; at--) /* standard error last, because it decides */
        moves = GetConsoleMode(GetStdHandle(outputs[at]), &mode) &&
                SetConsoleMode(GetStdHandle(outputs[at]), mode | 4 /* ENABLE_VIRTUAL_TERMINAL_PROCESSING */);
    return moves;
}

static inline size_t columns_of_terminal(void) {
    CONSOLE_SCREEN_BUFFER_INFO screen;
    bool known = GetConsoleScreenBufferInfo(GetStdHandle(STD_ERROR_HANDLE), &screen);
    return known ? (size_t)(screen.srWindow.Right - screen.srWindow.Left + 1) : 80;
}

static inline const char *name_of_file(const char *path) {
    for (const char *at = path; *at != '\0'; at++)
        if (strchr("/\\:", *at) != NULL) path = at + 1;
    return path;
}

static inline bool fill_standard_descriptors(void) { return true; } /* sockets have no such numbers */

#endif

/* Wakes the main thread, which takes the events with confer_stream_next(). */
static inline void on_ready(void *user_data, confer_stream *stream) {
    (void)user_data, (void)stream;
    wake();
}

static inline int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
