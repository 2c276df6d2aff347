/*
 * check.h: runs the promises of a test program one after the other, and has the checks they use.
 *
 * After each promise the process must have as many threads and descriptors as before. A promise has
 * a time limit, so a wait that never ends fails with the promise's name.
 */
#ifndef CHECK_H
#define CHECK_H

#include <confer.h>

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- checks: any thread, also in a callback ---------------------------------------------------*/

static int check_errors = STDERR_FILENO; /* failed checks are written there */

static inline void check_failed(const char *file, int line, const char *what, const char *why) {
    dprintf(check_errors, "\n%s:%d: %s: %s\n", file, line, what, why);
    fflush(stdout);
    _exit(1); /* not exit(): other threads are at work */
}

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, "does not hold"))
#define CHECK_TEXT(expected, found) check_text(__FILE__, __LINE__, #found, (expected), (found))

static inline void check_text(const char *file, int line, const char *what, const char *expected, const char *found) {
    if (found == NULL || strcmp(expected, found) != 0) {
        dprintf(check_errors, "\nexpected: %s\n   found: %s", expected, found != NULL ? found : "NULL");
        check_failed(file, line, what, "differs");
    }
}

/* Texts that must not appear in any error or log record. Add them before the library sees them. */
static const char *check_secrets[4];

static inline void check_keep_secret(const char *secret) {
    for (size_t i = 0; i < sizeof check_secrets / sizeof *check_secrets; i++)
        if (check_secrets[i] == NULL || strcmp(check_secrets[i], secret) == 0) {
            check_secrets[i] = secret;
            return;
        }
    check_failed(__FILE__, __LINE__, "check_keep_secret", "too many secrets");
}

static inline void check_holds_no_secret(const char *text) {
    for (size_t i = 0; i < sizeof check_secrets / sizeof *check_secrets; i++)
        if (check_secrets[i] != NULL && strstr(text, check_secrets[i]) != NULL)
            check_failed(__FILE__, __LINE__, "a secret", text);
}

/*
 * Checks that `call` returns `expected`. The call passes `&error` as its last argument. Only a
 * failure may set an error. CHECK_ERROR also checks that the error's message contains `words`.
 */
#define CHECK_ERROR(expected, words, call)                                                   \
    do {                                                                                     \
        confer_error *error = NULL;                                                          \
        confer_status status = (call);                                                       \
        check_status(__FILE__, __LINE__, #call, (expected), (words), status, error);         \
        confer_error_free(error);                                                            \
    } while (0)
#define CHECK_STATUS(expected, call) CHECK_ERROR(expected, "", call)
#define CHECK_OK(call) CHECK_STATUS(CONFER_OK, call)

static inline void check_status(const char *file, int line, const char *what, confer_status expected, const char *words,
                                confer_status status, const confer_error *error) {
    const char *message = confer_error_message(error, NULL);
    if (status != expected) {
        dprintf(check_errors, "\nexpected: %s\n   found: %s: %s", confer_status_name(expected), confer_status_name(status),
                message != NULL ? message : "");
        check_failed(file, line, what, "another status");
    }
    int failure = status != CONFER_OK && status != CONFER_TIMEOUT && status != CONFER_END;
    if (failure != (error != NULL) || (failure && confer_error_status(error) != status))
        check_failed(file, line, what, "status and error disagree");
    if (!failure) return;
    if (message == NULL || *message == '\0' || strstr(message, words) == NULL)
        check_failed(file, line, what, message != NULL ? message : "no message");
    check_holds_no_secret(message);
}

/* ---- waiting ----------------------------------------------------------------------------------*/

static inline int64_t check_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* A counter that one thread raises and another waits for, at most for the promise's time limit. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int count;
};

#define GATE {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0}

static inline void gate_raise(struct gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    gate->count++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_wait(struct gate *gate, int count) {
    pthread_mutex_lock(&gate->mutex);
    while (gate->count < count) pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static inline int gate_count(struct gate *gate) {
    pthread_mutex_lock(&gate->mutex);
    int count = gate->count;
    pthread_mutex_unlock(&gate->mutex);
    return count;
}

/* Sleeps between two checks of a condition that has no event to wait for. */
static inline void check_pause(void) {
    nanosleep(&(struct timespec){0, 2000000}, NULL);
}

/* ---- threads and descriptors of the process ---------------------------------------------------*/

static inline int check_count_entries(const char *folder) {
    DIR *dir = opendir(folder);
    CHECK(dir != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static inline int check_count_threads(void) {
    return check_count_entries("/proc/self/task");
}

static inline int check_count_descriptors(void) {
    return check_count_entries("/proc/self/fd");
}

/* Gets the name of the calling thread. */
static inline void check_thread_name(char name[32]) {
    FILE *file = fopen("/proc/thread-self/comm", "r");
    CHECK(file != NULL && fgets(name, 32, file) != NULL);
    fclose(file);
    name[strcspn(name, "\n")] = '\0';
}

/* Counts the threads of this process with a name. */
static inline int check_count_named(const char *wanted) {
    DIR *dir = opendir("/proc/self/task");
    CHECK(dir != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] != '.' ? fopen(path, "r") : NULL;
        if (file == NULL) continue; /* the thread has just ended */
        if (fgets(name, sizeof name, file) != NULL) name[strcspn(name, "\n")] = '\0';
        fclose(file);
        count += strcmp(name, wanted) == 0;
    }
    closedir(dir);
    return count;
}

#define CHECK_WORKER "confer-worker"

/* Checks that no thread of the library runs. The kernel lists a joined thread a little longer. */
static inline void check_no_library_thread(void) {
    static const char *const names[] = {CHECK_WORKER, "confer-callback", "confer-helper"};
    int64_t until = check_now_ms() + 500;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        while (check_count_named(names[i]) > 0 && check_now_ms() < until) check_pause();
        CHECK(check_count_named(names[i]) == 0);
    }
}

/* ---- promises ---------------------------------------------------------------------------------*/

struct promise {
    const char *name;
    void (*keep)(void);
};

#define PROMISE(function) {#function, function}
#define KEEP_PROMISES(promises) check_promises((promises), sizeof(promises) / sizeof *(promises))

enum {
    CHECK_PROMISE_S = 120,    /* limit of a promise, also under valgrind; then SIGALRM */
    CHECK_LEFTOVERS_MS = 8000 /* freeing does not wait, so threads and sockets may end later */
};

static inline int check_promises(const struct promise *promises, size_t count) {
    for (size_t i = 0; i < count; i++) {
        int threads = check_count_threads(), descriptors = check_count_descriptors();
        printf("  %s ", promises[i].name);
        fflush(stdout);
        alarm(CHECK_PROMISE_S);
        promises[i].keep();
        int64_t until = check_now_ms() + CHECK_LEFTOVERS_MS;
        while (check_count_threads() != threads || check_count_descriptors() != descriptors) {
            if (check_now_ms() > until) {
                dprintf(check_errors, "\nthreads: %d, then %d; descriptors: %d, then %d", threads, check_count_threads(),
                        descriptors, check_count_descriptors());
                check_failed(__FILE__, __LINE__, promises[i].name, "left something behind");
            }
            check_pause();
        }
        alarm(0);
        printf("ok\n");
        fflush(stdout);
    }
#ifndef CHECK_WITHOUT_LIBRARY
    /* Joins threads that have ended after the last call: valgrind reports their memory otherwise. */
    alarm(CHECK_PROMISE_S);
    CHECK_OK(confer_runtime_wait(-1, &error));
    alarm(0);
#endif
    return 0;
}

#endif
