/* What the floors share: clone3 and its structure, the clock, and the end of a child. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

struct clone_arguments { /* clone(2), the structure of clone3 up to its version 2 */
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        set_tid_size, cgroup;
};

static void die(const char *step) {
    fprintf(stderr, PROGRAM ": %s: %s\n", step, strerror(errno));
    _exit(1);
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void await_end(int pidfd) {
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    while (poll(&ended, 1, -1) < 0 && errno == EINTR) {
    }
}

static void reap(pid_t pid, int number) {
    int status = 0;
    if (waitpid(pid, &status, 0) < 0) die("waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fprintf(stderr, PROGRAM ": run %d ended with status %#x\n", number, status);
        exit(1);
    }
}
