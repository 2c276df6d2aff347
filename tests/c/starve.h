/*
 * starve.h: imitates a system that refuses threads and does not answer look-ups, for as long as a test wants.
 *
 * A program that includes this file defines the system's functions, so the library calls them instead of the C
 * library's. That works for the shared and the static library. Include the file in one file of a program,
 * before any other header.
 */
#ifndef STARVE_H
#define STARVE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdatomic.h>

/* The C library's function of this name, as a function pointer. */
#define STARVE_REAL(name, pointer) starve_real((name), &(pointer), sizeof(pointer))

static inline void starve_real(const char *name, void *pointer, size_t size) {
    void *symbol = dlsym(RTLD_NEXT, name);
    CHECK(symbol != NULL && size == sizeof symbol);
    memcpy(pointer, &symbol, size); /* ISO C has no conversion from an object's pointer to a function's */
}

/* ---- which calls are refused ----------------------------------------------------------------------------------------*/

/* Refuses calls number `first` to `last`, counted from now. Copy this for other functions. */
struct refusal {
    atomic_int calls, refused, first, last;
};

static inline void refuse(struct refusal *refusal, int first, int last) {
    atomic_store(&refusal->first, INT_MAX); /* so that no call is compared with an old and a new number */
    atomic_store(&refusal->calls, 0);
    atomic_store(&refusal->refused, 0);
    atomic_store(&refusal->last, last);
    atomic_store(&refusal->first, first);
}

/* Ends the shortage. The counts stay. */
static inline void refuse_nothing(struct refusal *refusal) {
    atomic_store(&refusal->first, INT_MAX);
}

/* Counts a call. Returns true if it must be refused. */
static inline bool refuses(struct refusal *refusal) {
    int call = atomic_fetch_add(&refusal->calls, 1) + 1;
    if (call < atomic_load(&refusal->first) || call > atomic_load(&refusal->last)) return false;
    atomic_fetch_add(&refusal->refused, 1);
    return true;
}

/* ---- threads --------------------------------------------------------------------------------------------------------*/

static struct refusal starve_threads = {0, 0, INT_MAX, 0};

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *data) {
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (refuses(&starve_threads)) return EAGAIN;
    if (real == NULL) STARVE_REAL("pthread_create", real);
    return real(thread, attributes, start, data);
}

/* ---- look-ups -------------------------------------------------------------------------------------------------------*/

/* Names with this beginning get no answer until starve_release_lookups(). Then they have no address. */
#define STARVE_HANGING "hang"

static struct gate starve_lookups = GATE; /* look-ups that hang or have hung since the last release */
static struct gate starve_answers = GATE;
static atomic_int starve_round;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (name != NULL && strncmp(name, STARVE_HANGING, strlen(STARVE_HANGING)) == 0) {
        int round = atomic_load(&starve_round);
        gate_raise(&starve_lookups);
        gate_wait(&starve_answers, round + 1);
        return EAI_NONAME;
    }
    if (real == NULL) STARVE_REAL("getaddrinfo", real);
    return real(name, service, hints, found);
}

static inline void starve_release_lookups(void) {
    atomic_fetch_add(&starve_round, 1);
    pthread_mutex_lock(&starve_lookups.mutex);
    starve_lookups.count = 0;
    pthread_mutex_unlock(&starve_lookups.mutex);
    gate_raise(&starve_answers);
}

/* ---- output on stderr ------------------------------------------------------------------------------------------------*/

/* Captures stderr from now on, without the words of failed checks. */
static inline FILE *starve_catch_stderr(void) {
    FILE *caught = tmpfile();
    CHECK(caught != NULL);
    fflush(stderr);
    check_errors = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    CHECK(check_errors >= 0 && dup2(fileno(caught), STDERR_FILENO) >= 0);
    return caught;
}

/* Ends the capture, and fails if anything was written. */
static inline void starve_stderr_is_empty(FILE *caught) {
    char line[512];
    CHECK(dup2(check_errors, STDERR_FILENO) >= 0);
    close(check_errors);
    check_errors = STDERR_FILENO;
    rewind(caught);
    if (fgets(line, sizeof line, caught) != NULL) check_failed(__FILE__, __LINE__, "stderr", line);
    fclose(caught);
}

#endif
