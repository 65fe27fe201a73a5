"""Containers as clients see them: a line of the list, and the whole inspection. No waiting."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from supervisor.api import wire
from supervisor.api.durations import human, rfc3339_nano
from supervisor.api.wire_mounts import MountPoint
from supervisor.container import Container, RestartPolicy
from supervisor.shared_namespaces import donor_id
from supervisor.states import ACTIVE, State

_NETWORKS = {
    "": wire.SummaryNetworks({}),
    "none": wire.SummaryNetworks({"none": wire.Network()}),
    "host": wire.SummaryNetworks({"host": wire.Network()}),
}


def network_name(container: Container) -> str:
    """Return the network it is really in: `default` means none until networks come.

    Empty where it shares another container's: then it is that one which is in networks.
    """
    mode = container.config.network_mode
    if donor_id(mode):
        return ""
    return "host" if mode == "host" else "none"


_HEALTH_WORDS = {"starting": "health: starting", "healthy": "healthy", "unhealthy": "unhealthy"}


def health_status(container: Container) -> str:
    """Return starting, healthy, unhealthy, or none where it has no health check.

    As in Docker, what does not run is unhealthy.
    """
    health = container.life.health
    if health is None:
        return "none"
    return health.status if container.state is State.RUNNING else "unhealthy"


def status_words(container: Container, now_ns: int) -> str:
    """Return the STATUS column of `docker ps`."""
    life = container.life
    match life.state:
        case State.RUNNING:
            health = f" ({_HEALTH_WORDS[life.health.status]})" if life.health else ""
            return f"Up {human((now_ns - life.started_ns) / 1e9)}{health}"
        case State.PAUSED:
            return f"Up {human((now_ns - life.started_ns) / 1e9)} (Paused)"
        case State.RESTARTING:
            ago = human((now_ns - life.finished_ns) / 1e9)
            return f"Restarting ({life.exit_code}) {ago} ago"
        case State.EXITED:
            return f"Exited ({life.exit_code}) {human((now_ns - life.finished_ns) / 1e9)} ago"
        case State.REMOVING:
            return "Removal In Progress"
        case State.DEAD:
            return "Dead"
    return "Created"


def command_line(container: Container) -> str:
    """Return the payload's argv as one line, words with spaces in quotes."""
    path, *words = container.config.args
    return " ".join([path, *(f"'{word}'" if " " in word else word for word in words)])


def summary(
    container: Container, image: str, mounts: list[MountPoint], now_ns: int
) -> wire.Summary:
    """Return a line of the list.

    Args:
        image: The image's name, or its id where the name means another image now.
        mounts: What is mounted in it, as clients see it.
    """
    config = container.config
    return wire.Summary(
        Id=container.id,
        Names=[f"/{container.name}"],
        Image=image,
        ImageID=config.image_id,
        Command=command_line(container),
        Created=container.created_ns // 10**9,
        Ports=[],
        Labels=config.labels,
        State=container.life.state.value,
        Status=status_words(container, now_ns),
        HostConfig=wire.SummaryHostConfig(config.network_mode),
        NetworkSettings=_NETWORKS[network_name(container)],
        Mounts=mounts,
    )


def inspection(
    container: Container,
    directory: Path,
    files: Path,
    rootfs: Path,
    lower: tuple[str, ...],
    mounts: list[MountPoint],
    log_trouble: str = "",
) -> wire.Inspection:
    """Return all there is to know.

    Args:
        directory: The container's own directory.
        files: The one with its hostname, hosts and resolv.conf.
        rootfs: Where it mounts its root, in its own namespace.
        lower: The image's lower directories, topmost first.
        mounts: What is mounted in it, as clients see it.
        log_trouble: What its log waits for or could not take.
    """
    path, *args = container.config.args
    return wire.Inspection(
        Id=container.id,
        Created=rfc3339_nano(container.created_ns),
        Path=path,
        Args=args,
        State=_state(container),
        Image=container.config.image_id,
        ResolvConfPath=f"{files}/resolv.conf",
        HostnamePath=f"{files}/hostname",
        HostsPath=f"{files}/hosts",
        LogPath=container.log_path,
        AppArmorProfile=container.config.security.apparmor,
        LogState=wire.LogState(dropped_bytes(container), log_trouble),
        Name=f"/{container.name}",
        RestartCount=container.life.restart_count,
        HostConfig=_host_config(container),
        GraphDriver=wire.GraphDriver(
            wire.GraphDriverData(
                LowerDir=":".join(lower),
                MergedDir=str(rootfs),
                UpperDir=str(directory / "upper"),
                WorkDir=str(directory / "work"),
            )
        ),
        Mounts=mounts,
        Config=config_of(container),
        NetworkSettings=wire.NetworkSettings(
            Networks={name: wire.Network()} if (name := network_name(container)) else {}
        ),
    )


def dropped_bytes(container: Container) -> int:
    """Return how much output of the run under way, or of the last one, no log could take."""
    run = container.run
    return run.log.dropped_bytes if run is not None else container.life.log_dropped_bytes


def _state(container: Container) -> wire.ContainerState:
    life = container.life
    return wire.ContainerState(
        Status=life.state.value,
        Running=life.state in ACTIVE,
        Paused=life.state is State.PAUSED,
        Restarting=life.state is State.RESTARTING,
        OOMKilled=life.oom_killed,
        Dead=life.state is State.DEAD,
        Pid=life.pid,
        ExitCode=life.exit_code,
        Error=life.error,
        StartedAt=rfc3339_nano(life.started_ns),
        FinishedAt=rfc3339_nano(life.finished_ns),
        NextRestartAt=rfc3339_nano(life.restart_at_ns),
        Health=_health(container),
    )


def _health(container: Container) -> wire.Health | msgspec.UnsetType:
    health = container.life.health
    if health is None:
        return msgspec.UNSET
    return wire.Health(
        Status=health_status(container),
        FailingStreak=health.failing_streak,
        Log=[
            wire.HealthResult(
                Start=rfc3339_nano(probe.started_ns),
                End=rfc3339_nano(probe.finished_ns),
                ExitCode=probe.exit_code,
                Output=probe.output,
            )
            for probe in health.probes
        ],
    )


def _restart_policy(policy: RestartPolicy) -> wire.RestartPolicy:
    if policy.name == "no":
        return wire.RestartPolicy()
    return wire.RestartPolicy(policy.name, policy.max_retries, policy.delay_ms, policy.max_delay_ms)


def _host_config(container: Container) -> wire.HostConfig:
    config = container.config
    limits, mounts, privileges = config.resources, config.mounts, config.privileges
    return wire.HostConfig(
        Binds=list(mounts.binds) or None,
        VolumeDriver=mounts.volume_driver,
        VolumesFrom=list(mounts.volumes_from) or None,
        Mounts=list(mounts.mounts) or msgspec.UNSET,
        Tmpfs=mounts.tmpfs or msgspec.UNSET,
        ReadonlyRootfs=mounts.readonly_root,
        LogConfig=wire.LogConfig(config.log_driver, config.log_options),
        NetworkMode=config.network_mode,
        PidMode=config.namespaces.pid,
        IpcMode=config.namespaces.ipc,
        UTSMode=config.namespaces.uts,
        CgroupnsMode=config.namespaces.cgroup or "private",
        Init=msgspec.UNSET if config.init is None else config.init,
        Runtime=config.runtime,
        Isolation=config.isolation,
        UsernsMode=config.userns_mode,
        Dns=list(config.resolving.servers) or None,
        DnsOptions=list(config.resolving.options) or None,
        DnsSearch=list(config.resolving.search) or None,
        ExtraHosts=list(config.resolving.extra_hosts) or None,
        RestartPolicy=_restart_policy(config.restart),
        AutoRemove=config.auto_remove,
        ContainerIDFile=config.cid_file,
        GroupAdd=list(config.groups) or None,
        SecurityOpt=list(config.security_options) or None,
        ShmSize=config.shm_size,
        CpuShares=limits.cpu_shares,
        Memory=limits.memory,
        NanoCpus=limits.nano_cpus,
        CpuPeriod=limits.cpu_period,
        CpuQuota=limits.cpu_quota,
        MemorySwap=limits.memory_swap or 2 * limits.memory,
        PidsLimit=limits.pids,
        MemoryReservation=limits.memory_reservation,
        MemorySwappiness=limits.memory_swappiness,
        CpusetCpus=limits.cpuset_cpus,
        CpusetMems=limits.cpuset_mems,
        BlkioWeight=limits.blkio_weight,
        BlkioWeightDevice=[
            wire.AskedWeight(path, value) for path, value in limits.blkio_weight_devices
        ],
        BlkioDeviceReadBps=_rates(limits.device_read_bps),
        BlkioDeviceWriteBps=_rates(limits.device_write_bps),
        BlkioDeviceReadIOps=_rates(limits.device_read_iops),
        BlkioDeviceWriteIOps=_rates(limits.device_write_iops),
        OomKillDisable=limits.oom_kill_disable,
        OomScoreAdj=config.oom_score_adj,
        CgroupParent=config.cgroup_parent and f"/{config.cgroup_parent}",
        Ulimits=[wire.AskedUlimit(name, hard, soft) for name, soft, hard in config.ulimits],
        Sysctls=config.sysctls or msgspec.UNSET,
        CapAdd=list(privileges.added) or None,
        CapDrop=list(privileges.dropped) or None,
        Privileged=privileges.privileged,
        Devices=[
            wire.DeviceMapping(one.source, one.target, one.access)
            for one in config.devices.mappings
        ],
        DeviceCgroupRules=list(config.devices.rules) or None,
        MaskedPaths=_protected(privileges.masked_paths, privileges.masked),
        ReadonlyPaths=_protected(privileges.readonly_paths, privileges.readonly),
    )


def _protected(asked: tuple[str, ...] | None, paths: tuple[str, ...]) -> list[str] | None:
    """Paths as Docker shows them: null where a privileged container protects none."""
    return list(paths) if paths or asked is not None else None


def _rates(rates: tuple[tuple[str, int], ...]) -> list[wire.AskedRate]:
    return [wire.AskedRate(path, rate) for path, rate in rates]


def config_of(container: Container) -> wire.Config:
    """Return what of a container would be the same on any host."""
    config = container.config
    shown = wire.Config(
        Hostname=container.life.hostname or config.hostname or container.short_id,
        Domainname=config.domainname,
        User=config.user,
        AttachStdin=config.attach_stdin,
        AttachStdout=config.attach_stdout,
        AttachStderr=config.attach_stderr,
        Tty=config.tty,
        OpenStdin=config.open_stdin,
        StdinOnce=config.stdin_once,
        Env=list(config.env),
        Cmd=list(config.cmd) or None,
        Image=config.image,
        Volumes={path: {} for path in config.mounts.volumes} or None,
        ExposedPorts={port: {} for port in config.exposed_ports} or msgspec.UNSET,
        WorkingDir=config.working_dir,
        Entrypoint=list(config.entrypoint) or None,
        Labels=config.labels,
    )
    if config.stop_signal:
        shown.StopSignal = config.stop_signal
    if config.stop_timeout is not None:
        shown.StopTimeout = config.stop_timeout
    if (check := config.health) is not None:
        shown.Healthcheck = wire.HealthConfig(
            Test=list(check.test),
            Interval=check.interval,
            Timeout=check.timeout,
            StartPeriod=check.start_period,
            StartInterval=check.start_interval,
            Retries=check.retries,
            OnFailure=check.on_failure,
        )
    return shown


def now() -> int:
    """Return the time that a whole list is told by."""
    return time.time_ns()
