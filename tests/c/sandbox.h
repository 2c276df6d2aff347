/*
 * sandbox.h: seccomp filters that make a system call fail with an errno. Written by hand, so that the tests need
 * no further package.
 */
#ifndef SANDBOX_H
#define SANDBOX_H

#include "check.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Makes the system call fail in this thread and in threads that it starts. A filter stays for ever. */
static inline void sandbox_refuse(long number, int reason) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)reason),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Makes opening a file fail: glibc calls openat, musl calls open. */
static inline void sandbox_refuse_open(int reason) {
    sandbox_refuse(SYS_openat, reason);
#ifdef SYS_open
    sandbox_refuse(SYS_open, reason);
#endif
}

#endif
