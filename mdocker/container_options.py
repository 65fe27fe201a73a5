"""The options that `run` and `create` share: what the container shall be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mdocker.options import flag


# No NamedTuple: cyclopts reads the options' help from the annotations of a dataclass only.
@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """All as typed; `mdocker/create_request.py` turns them into the API's request."""

    name: Annotated[str, flag("--name", help="Give the container a name")] = ""
    rm: Annotated[bool, flag("--rm", help="Remove the container when it exits")] = False
    restart: Annotated[
        str,
        flag(
            "--restart",
            help="Start it again when it ends: no (default), on-failure[:MAX] (its exit code "
            "is not 0; MAX times), always, unless-stopped (not after a reboot if it was stopped)",
        ),
    ] = ""
    restart_delay: Annotated[
        str,
        flag("--restart-delay", help="First wait before a restart; doubles each time (100ms)"),
    ] = ""
    restart_max_delay: Annotated[
        str,
        flag(
            "--restart-max-delay",
            help="Longest wait before a restart (1m); give it with a first one beyond it",
        ),
    ] = ""
    env: Annotated[
        tuple[str, ...], flag("--env", "-e", help="Set an environment variable, NAME=VALUE")
    ] = ()
    env_file: Annotated[
        tuple[str, ...], flag("--env-file", help="Read environment variables from a file")
    ] = ()
    workdir: Annotated[str, flag("--workdir", "-w", help="Working directory in it")] = ""
    user: Annotated[
        str, flag("--user", "-u", help="Run as this user (name or uid, with :group)")
    ] = ""
    group_add: Annotated[
        tuple[str, ...],
        flag("--group-add", help="A group more for its processes (name or gid, the container's)"),
    ] = ()
    cap_add: Annotated[
        tuple[str, ...],
        flag("--cap-add", help="A capability more, such as NET_ADMIN, or ALL that there are"),
    ] = ()
    cap_drop: Annotated[
        tuple[str, ...],
        flag(
            "--cap-drop",
            help="A capability less, such as CHOWN; ALL: none but those of --cap-add",
        ),
    ] = ()
    privileged: Annotated[
        bool,
        flag(
            "--privileged",
            help="All capabilities and devices, /sys and /proc open, no seccomp: its root is "
            "this machine's",
        ),
    ] = False
    device: Annotated[
        tuple[str, ...],
        flag(
            "--device",
            help="A device of this machine, PATH[:PATH_IN_CONTAINER][:rwm] (read, write, mknod; "
            "all by default); a directory for all that are in it",
        ),
    ] = ()
    device_cgroup_rule: Annotated[
        tuple[str, ...],
        flag(
            "--device-cgroup-rule",
            help="Devices that it may open by nodes of its own or a volume's: 'c 189:* rwm' (c, b "
            "or a for both, MAJOR:MINOR with * for any, and what it may)",
        ),
    ] = ()
    label: Annotated[tuple[str, ...], flag("--label", "-l", help="Set a label, KEY=VALUE")] = ()
    label_file: Annotated[
        tuple[str, ...], flag("--label-file", help="Read labels from a file")
    ] = ()
    hostname: Annotated[str, flag("--hostname", "-h", help="Its host name")] = ""
    domainname: Annotated[str, flag("--domainname", help="Its NIS domain name")] = ""
    entrypoint: Annotated[
        str | None, flag("--entrypoint", help="Replace the image's entrypoint")
    ] = None
    network: Annotated[
        tuple[str, ...],
        flag(
            "--network",
            "--net",
            help="none (default, only a loopback), host, or container:NAME (another's, with its "
            "host name and /etc/hosts); bridges come later",
        ),
    ] = ()
    add_host: Annotated[
        tuple[str, ...],
        flag(
            "--add-host",
            help="A line more in its /etc/hosts, NAME:ADDRESS (host-gateway, with --network host: "
            "the machine)",
        ),
    ] = ()
    dns: Annotated[tuple[str, ...], flag("--dns", help="A name server, not the machine's")] = ()
    dns_search: Annotated[
        tuple[str, ...],
        flag("--dns-search", help="A domain to look for names in, not the machine's (. for none)"),
    ] = ()
    dns_option: Annotated[
        tuple[str, ...], flag("--dns-option", "--dns-opt", help="A word for resolv.conf's options")
    ] = ()
    pid: Annotated[
        str,
        flag(
            "--pid",
            help="Whose processes it sees: private (default, its own), host, or container:NAME "
            "(it is killed when that one ends)",
        ),
    ] = ""
    ipc: Annotated[
        str,
        flag(
            "--ipc",
            help="Shared memory and queues: private (default), shareable (others may join), "
            "container:NAME (of one that is shareable), host, or none (without /dev/shm)",
        ),
    ] = ""
    uts: Annotated[str, flag("--uts", help="host: the machine's host name, not one of its own")] = (
        ""
    )
    cgroupns: Annotated[
        str,
        flag(
            "--cgroupns",
            help="Which cgroups it sees: private (default, its own as the root) or host (all)",
        ),
    ] = ""
    userns: Annotated[
        str,
        flag(
            "--userns",
            help="Whose users its users are: private (its root is a nobody of the machine's, whose "
            "ids are in /etc/subuid), host (the machine's; default without --userns-remap)",
        ),
    ] = ""
    init: Annotated[
        bool,
        flag(
            "--init",
            help="Run it by a small init as PID 1 that passes signals on and reaps zombies: "
            "this machine's tini or catatonit (statically linked)",
        ),
    ] = False
    volume: Annotated[
        tuple[str, ...],
        flag(
            "--volume",
            "-v",
            help="Mount [SOURCE:]PATH[:MODE]: SOURCE is a path on this machine (made if it is "
            "missing) or a volume's name; without it an anonymous volume. MODE: ro, nocopy (don't "
            "fill an empty volume from the image), rslave or rshared",
        ),
    ] = ()
    mount: Annotated[
        tuple[str, ...],
        flag(
            "--mount",
            help="Mount type=bind|volume|tmpfs,src=SOURCE,dst=PATH[,readonly], and "
            "bind-propagation=, bind-recursive=, volume-nocopy, volume-subpath=, volume-label=, "
            "volume-opt=, tmpfs-size=, tmpfs-mode=",
        ),
    ] = ()
    tmpfs: Annotated[
        tuple[str, ...],
        flag("--tmpfs", help="Mount a tmpfs: PATH[:OPTIONS], such as /run:size=64m,mode=755,exec"),
    ] = ()
    volumes_from: Annotated[
        tuple[str, ...],
        flag("--volumes-from", help="All that another container has mounted: CONTAINER[:ro]"),
    ] = ()
    volume_driver: Annotated[
        str, flag("--volume-driver", help="Of its volumes; local is the only one")
    ] = ""
    read_only: Annotated[
        bool,
        flag("--read-only", help="Its root can't be written; what is mounted in it can"),
    ] = False
    memory: Annotated[str, flag("--memory", "-m", help="Memory limit, such as 512m")] = ""
    memory_swap: Annotated[
        str, flag("--memory-swap", help="Memory and swap together; -1 is no limit of swap")
    ] = ""
    memory_reservation: Annotated[
        str,
        flag("--memory-reservation", help="Memory that it keeps, if possible, when it is short"),
    ] = ""
    cpus: Annotated[str, flag("--cpus", help="Number of CPUs, such as 0.5")] = ""
    memory_swappiness: Annotated[
        int,
        flag(
            "--memory-swappiness",
            help="How readily its memory is swapped out, 0 to 100 (cgroup v1 alone); -1: as the "
            "machine's",
        ),
    ] = -1
    cpuset_cpus: Annotated[
        str, flag("--cpuset-cpus", help="The CPUs that it may use, such as 0-2,5")
    ] = ""
    cpuset_mems: Annotated[
        str, flag("--cpuset-mems", help="The memory nodes that it may use, such as 0")
    ] = ""
    blkio_weight: Annotated[
        int,
        flag("--blkio-weight", help="Its part of a busy block device: 10 to 1000 (BFQ, iocost)"),
    ] = 0
    cpu_shares: Annotated[int, flag("--cpu-shares", "-c", help="CPU weight (1024)")] = 0
    cpu_period: Annotated[int, flag("--cpu-period", help="CFS period in microseconds")] = 0
    cpu_quota: Annotated[int, flag("--cpu-quota", help="CFS quota in microseconds")] = 0
    pids_limit: Annotated[
        int | None, flag("--pids-limit", help="Processes at most; -1 is no limit")
    ] = None
    stop_signal: Annotated[str, flag("--stop-signal", help="What `stop` sends first")] = ""
    stop_timeout: Annotated[
        int | None, flag("--stop-timeout", help="Seconds until `stop` kills; -1 is never")
    ] = None
    health_cmd: Annotated[
        str,
        flag(
            "--health-cmd",
            help="Shell command run in it from time to time: exit 0 is healthy "
            "(else the image's HEALTHCHECK, if it has one)",
        ),
    ] = ""
    health_interval: Annotated[
        str, flag("--health-interval", help="From the end of a check to the next (30s)")
    ] = ""
    health_timeout: Annotated[
        str,
        flag("--health-timeout", help="A check that takes longer is killed, and failed (30s)"),
    ] = ""
    health_retries: Annotated[
        int, flag("--health-retries", help="So many failures in a row: unhealthy (3)")
    ] = 0
    health_start_period: Annotated[
        str,
        flag("--health-start-period", help="Failures this soon after the start don't count (0s)"),
    ] = ""
    health_start_interval: Annotated[
        str, flag("--health-start-interval", help="The interval in the start period (5s)")
    ] = ""
    health_on_failure: Annotated[
        str,
        flag(
            "--health-on-failure",
            help="What becomes of it when unhealthy: none (default), kill (then its --restart "
            "policy says), restart (by whatever policy) or stop",
        ),
    ] = ""
    no_healthcheck: Annotated[
        bool, flag("--no-healthcheck", help="Don't run the image's HEALTHCHECK")
    ] = False
    log_driver: Annotated[
        str, flag("--log-driver", help="json-file (default), k8s-file or none")
    ] = ""
    log_opt: Annotated[
        tuple[str, ...],
        flag(
            "--log-opt",
            help="KEY=VALUE: max-size=20m and max-file=5 (so is the default; max-size=-1 keeps "
            "all in one file), compress=true, mode=non-blocking with max-buffer-size=1m (never "
            "waits for the disk: drops the oldest), labels, labels-regex, env, env-regex, tag "
            "(added to each record of json-file)",
        ),
    ] = ()
    security_opt: Annotated[
        tuple[str, ...],
        flag(
            "--security-opt",
            help="no-new-privileges (no program gains rights by being executed), "
            "seccomp=FILE (the system calls that are allowed, in Docker's format; or unconfined: "
            "all, builtin, or default: the engine's), apparmor=PROFILE, "
            "systempaths=unconfined (nothing of /proc and /sys is hidden or read-only)",
        ),
    ] = ()
    shm_size: Annotated[str, flag("--shm-size", help="Size of /dev/shm (64m)")] = ""
    ulimit: Annotated[
        tuple[str, ...],
        flag(
            "--ulimit",
            help="A limit of each process's own: NAME=SOFT[:HARD], such as nofile=1024:4096 or "
            "core=-1 (none); as ulimit and getrlimit(2) have them",
        ),
    ] = ()
    sysctl: Annotated[
        tuple[str, ...],
        flag(
            "--sysctl",
            help="A kernel setting of its own namespaces, NAME=VALUE: net.*, kernel.shm*, "
            "kernel.msg*, kernel.sem, fs.mqueue.*",
        ),
    ] = ()
    oom_kill_disable: Annotated[
        bool,
        flag(
            "--oom-kill-disable",
            help="Out of its memory it waits, and is not killed (cgroup v1 alone; with --memory)",
        ),
    ] = False
    oom_score_adj: Annotated[
        int,
        flag(
            "--oom-score-adj",
            help="When the machine has no memory left: killed sooner (up to 1000) or later "
            "(down to -1000)",
        ),
    ] = 0
    cgroup_parent: Annotated[
        str,
        flag(
            "--cgroup-parent",
            help="The cgroup that it is in, such as /jobs/7: limits set there hold for it, too",
        ),
    ] = ""
    blkio_weight_device: Annotated[
        tuple[str, ...],
        flag(
            "--blkio-weight-device",
            help="Its part of one busy block device: /dev/NAME:WEIGHT, 10 to 1000 (BFQ, iocost)",
        ),
    ] = ()
    device_read_bps: Annotated[
        tuple[str, ...],
        flag(
            "--device-read-bps",
            help="What it may read of a block device in a second: /dev/NAME:BYTES, such as 10m",
        ),
    ] = ()
    device_write_bps: Annotated[
        tuple[str, ...],
        flag(
            "--device-write-bps",
            help="The same for writing (on cgroup v1 only what passes by the page cache counts)",
        ),
    ] = ()
    device_read_iops: Annotated[
        tuple[str, ...],
        flag("--device-read-iops", help="Reads of a block device in a second: /dev/NAME:NUMBER"),
    ] = ()
    device_write_iops: Annotated[
        tuple[str, ...],
        flag("--device-write-iops", help="Writes to a block device in a second: /dev/NAME:NUMBER"),
    ] = ()
    kernel_memory: Annotated[
        str, flag("--kernel-memory", help="Discarded: Linux counts it with --memory")
    ] = ""
    storage_opt: Annotated[
        tuple[str, ...],
        flag("--storage-opt", help="size=SIZE of its own layer: refused, with what can be done"),
    ] = ()
    cidfile: Annotated[str, flag("--cidfile", help="Write the container's id to a file")] = ""
    pull: Annotated[
        str,
        flag(
            "--pull",
            help="Pull the image first: missing (default, if it is not here), always or never",
        ),
    ] = "missing"
    platform: Annotated[
        str, flag("--platform", help="Of the image that is run, such as linux/amd64")
    ] = ""
    quiet: Annotated[bool, flag("--quiet", "-q", help="Show nothing of a pull")] = False
