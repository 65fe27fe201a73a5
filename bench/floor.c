/* The floor: what one container costs the kernel when C asks for it.
 *
 *   floor --lower DIR --scratch DIR [--runs N] [--net] [--full] [--cgroup DIR] [-- PROGRAM ARG...]
 *
 * Each run: clone3 with a pidfd and new mount, pid, uts, ipc and cgroup (with --net: network)
 * namespaces; in the child overlay, proc, sysfs, a tmpfs on /dev with its nodes, pivot_root,
 * execve. The parent notes the time from the clone to the exec (end of file on a pipe that is
 * closed on exec) and to the exit (the pidfd). --full adds what an engine adds for its users: pts,
 * shm, mqueue, the masked and read-only paths, the host name, loopback up. --cgroup DIR makes a v2
 * cgroup below DIR for each run and clones into it.
 *
 * Prints one JSON object: {"to_exec_us": [...], "to_exit_us": [...]}; on a failing step, one line
 * on stderr and exit code 1. The scratch directory is the caller's to remove; it keeps one upper
 * and one work directory for each run.
 */
#define PROGRAM "floor"
#include "cloned.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

struct plan {
    const char *lower, *scratch, *cgroup;
    int runs, net, full;
    char **program;
};

static void node(const char *name, int major_number, int minor_number) {
    if (mknod(name, S_IFCHR | 0666, makedev(major_number, minor_number)) < 0) die(name);
}

static void devices(int full) {
    if (mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k") < 0)
        die("tmpfs on dev");
    node("dev/null", 1, 3);
    node("dev/zero", 1, 5);
    node("dev/full", 1, 7);
    node("dev/random", 1, 8);
    node("dev/urandom", 1, 9);
    node("dev/tty", 5, 0);
    if (symlink("/proc/self/fd", "dev/fd") < 0) die("dev/fd");
    if (symlink("/proc/self/fd/0", "dev/stdin") < 0) die("dev/stdin");
    if (symlink("/proc/self/fd/1", "dev/stdout") < 0) die("dev/stdout");
    if (symlink("/proc/self/fd/2", "dev/stderr") < 0) die("dev/stderr");
    if (!full) return;
    if (mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 01777) < 0 || mkdir("dev/mqueue", 0755) < 0)
        die("directories of dev");
    if (mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
              "newinstance,ptmxmode=0666,mode=0620,gid=5") < 0)
        die("devpts");
    if (symlink("pts/ptmx", "dev/ptmx") < 0) die("dev/ptmx");
    if (mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=1777,size=65536k") < 0)
        die("shm");
    if (mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        die("mqueue");
}

static void mask(void) { /* Docker's default lists; what this kernel lacks is skipped, as there */
    static const char *const hidden[] = {
        "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
        "proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
        "sys/devices/virtual/powercap"};
    static const char *const frozen[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys",
                                         "proc/sysrq-trigger"};
    struct stat kind;
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        if (stat(hidden[i], &kind) < 0) continue;
        int failed = S_ISDIR(kind.st_mode)
                         ? mount("tmpfs", hidden[i], "tmpfs", MS_RDONLY, "size=0")
                         : mount("dev/null", hidden[i], NULL, MS_BIND, NULL);
        if (failed) die(hidden[i]);
    }
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
        if (stat(frozen[i], &kind) < 0) continue;
        if (mount(frozen[i], frozen[i], NULL, MS_BIND | MS_REC, NULL) < 0 ||
            mount(NULL, frozen[i], NULL,
                  MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
            die(frozen[i]);
    }
}

static void loopback_up(void) {
    struct ifreq request = {.ifr_name = "lo"};
    int door = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (door < 0) die("socket");
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (ioctl(door, SIOCSIFFLAGS, &request) < 0) die("lo up");
    close(door);
}

static void child(const struct plan *plan, const char *base) {
    char options[3 * 4096];
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) die("private mounts");
    if (chdir(base) < 0) die(base);
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", plan->lower);
    if (mount("overlay", "merged", "overlay", 0, options) < 0) die("overlay");
    if (chdir("merged") < 0) die("merged");
    if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) die("proc");
    if (mount("sysfs", "sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        /* a new sysfs needs a network namespace of one's own where user namespaces rule */
        die("sysfs");
    }
    devices(plan->full);
    if (plan->full) {
        mask();
        if (sethostname("floor", 5) < 0) die("host name");
        if (plan->net) loopback_up();
    }
    /* pivot_root(2): the new root stacked over the old one, which is then let go */
    if (syscall(SYS_pivot_root, ".", ".") < 0) die("pivot_root");
    if (umount2(".", MNT_DETACH) < 0) die("old root");
    if (chdir("/") < 0) die("/");
    execve(plan->program[0], plan->program, (char *[]){"PATH=/bin", NULL});
    die(plan->program[0]);
}

static void make(const char *path) {
    if (mkdir(path, 0755) < 0) die(path);
}

static void one(const struct plan *plan, int number, double *to_exec, double *to_exit) {
    char base[4096], path[4200];
    int gate[2], pidfd = -1, cgroup = -1;
    double begun = now_us();
    snprintf(base, sizeof base, "%s/%d", plan->scratch, number);
    make(base);
    const char *const parts[] = {"upper", "work", "merged"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", base, parts[i]);
        make(path);
    }
    if (pipe2(gate, O_CLOEXEC) < 0) die("pipe");
    struct clone_arguments arguments = {
        .flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
                 CLONE_NEWCGROUP | (plan->net ? CLONE_NEWNET : 0),
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    if (plan->cgroup) {
        snprintf(path, sizeof path, "%s/%d", plan->cgroup, number);
        make(path);
        if ((cgroup = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) die(path);
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup;
    }
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0) die("clone3");
    if (pid == 0) {
        child(plan, base);
    }
    close(gate[1]);
    char byte;
    if (read(gate[0], &byte, 1) != 0) die("gate");
    *to_exec = now_us() - begun;
    await_end(pidfd);
    *to_exit = now_us() - begun;
    reap((pid_t)pid, number);
    close(gate[0]);
    close(pidfd);
    if (cgroup >= 0) {
        close(cgroup);
        snprintf(path, sizeof path, "%s/%d", plan->cgroup, number);
        rmdir(path); /* may be busy for a moment; the caller removes what stays */
    }
}

static void list(const char *name, const double *values, int count, const char *end) {
    printf("\"%s\": [", name);
    for (int i = 0; i < count; i++) printf("%s%.1f", i ? ", " : "", values[i]);
    printf("]%s", end);
}

int main(int argc, char **argv) {
    static char *fallback[] = {"/bin/true", NULL};
    struct plan plan = {.runs = 20, .program = fallback};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--net")) plan.net = 1;
        else if (!strcmp(argv[i], "--full")) plan.full = 1;
        else if (!strcmp(argv[i], "--") && i + 1 < argc) { plan.program = argv + i + 1; break; }
        else if (i + 1 == argc) { fprintf(stderr, "floor: what is %s?\n", argv[i]); return 2; }
        else if (!strcmp(argv[i], "--lower")) plan.lower = argv[++i];
        else if (!strcmp(argv[i], "--scratch")) plan.scratch = argv[++i];
        else if (!strcmp(argv[i], "--cgroup")) plan.cgroup = argv[++i];
        else if (!strcmp(argv[i], "--runs")) plan.runs = atoi(argv[++i]);
        else { fprintf(stderr, "floor: what is %s?\n", argv[i]); return 2; }
    }
    if (!plan.lower || !plan.scratch || plan.runs < 1 || plan.runs > 10000) {
        fprintf(stderr, "floor: needs --lower and --scratch, and 1 to 10000 --runs\n");
        return 2;
    }
    double *to_exec = calloc(plan.runs, sizeof *to_exec);
    double *to_exit = calloc(plan.runs, sizeof *to_exit);
    if (!to_exec || !to_exit) die("memory");
    for (int i = 0; i < plan.runs; i++) one(&plan, i, to_exec + i, to_exit + i);
    printf("{");
    list("to_exec_us", to_exec, plan.runs, ", ");
    list("to_exit_us", to_exit, plan.runs, "}\n");
    return 0;
}
