/* The floor: what a command in a running container costs the kernel when C asks for it.
 *
 *   exec_floor --pid PID [--runs N] [--cgroup DIR] -- PROGRAM [ARG...]
 *
 * Each run: into the pid namespace of PID for one clone3 with a pidfd; the child enters the other
 * namespaces by one setns of PID's pidfd, takes the write end of a pipe for its output, and
 * executes the program. The parent reads the pipe to its end and waits for the pidfd. --cgroup DIR
 * makes a v2 cgroup below DIR for each run, clones into it, and removes it.
 *
 * Prints one JSON object: {"to_exit_us": [...]}; on a failing step, one line on stderr and exit
 * code 1.
 */
#define PROGRAM "exec_floor"
#include "cloned.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static double one(int container, int home, const char *below, int number, char **program) {
    char path[4200], bytes[4096];
    int output[2], pidfd = -1, cgroup = -1;
    double begun = now_us();
    if (pipe2(output, O_CLOEXEC) < 0) die("pipe");
    struct clone_arguments arguments = {
        .flags = CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    if (below) {
        snprintf(path, sizeof path, "%s/floor-%d", below, number);
        if (mkdir(path, 0755) < 0) die(path);
        if ((cgroup = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) die(path);
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup;
    }
    if (setns(container, CLONE_NEWPID) < 0) die("setns of the pid namespace");
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) die("clone3");
    if (pid == 0) {
        if (setns(container, CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET |
                                 CLONE_NEWCGROUP) < 0)
            die("setns");
        if (dup2(output[1], 1) < 0 || setsid() < 0) die("streams");
        execve(program[0], program, (char *[]){"PATH=/bin", NULL});
        die(program[0]);
    }
    if (setns(home, CLONE_NEWPID) < 0) die("setns back");
    close(output[1]);
    while (read(output[0], bytes, sizeof bytes) > 0) {
    }
    await_end(pidfd);
    reap((pid_t)pid, number);
    close(output[0]);
    close(pidfd);
    if (cgroup >= 0) {
        close(cgroup);
        if (rmdir(path) < 0) die(path);
    }
    return now_us() - begun;
}

int main(int argc, char **argv) {
    char **program = NULL;
    const char *below = NULL;
    int runs = 20, pid = 0;
    for (int i = 1; i + 1 < argc; i++) {
        if (!strcmp(argv[i], "--")) { program = argv + i + 1; break; }
        else if (!strcmp(argv[i], "--pid")) pid = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--runs")) runs = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--cgroup")) below = argv[++i];
        else { fprintf(stderr, "exec_floor: what is %s?\n", argv[i]); return 2; }
    }
    if (!program || pid < 1 || runs < 1 || runs > 10000) {
        fprintf(stderr, "exec_floor: needs --pid, 1 to 10000 --runs, and -- PROGRAM\n");
        return 2;
    }
    int container = (int)syscall(SYS_pidfd_open, pid, 0);
    if (container < 0) die("pidfd_open");
    int home = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    if (home < 0) die("/proc/self/ns/pid");
    printf("{\"to_exit_us\": [");
    for (int i = 0; i < runs; i++)
        printf("%s%.1f", i ? ", " : "", one(container, home, below, i, program));
    printf("]}\n");
    return 0;
}
