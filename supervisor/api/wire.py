"""Docker's JSON shapes of containers, with Docker's own spelling; nothing else here knows it.

The fields are named as they stand on the wire. A default is what Docker sends for an option that
is not in use.
"""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.api.wire_mounts import AskedMount, MountPoint


class Network(msgspec.Struct):
    """An endpoint of a container; ours have no addresses yet."""

    IPAMConfig: None = None
    Links: None = None
    Aliases: None = None
    MacAddress: str = ""
    DriverOpts: None = None
    GwPriority: int = 0
    NetworkID: str = ""
    EndpointID: str = ""
    Gateway: str = ""
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    DNSNames: None = None


class SummaryHostConfig(msgspec.Struct):
    """The little that a list tells of HostConfig."""

    NetworkMode: str


class SummaryNetworks(msgspec.Struct):
    """The networks in a list."""

    Networks: dict[str, Network]


class Summary(msgspec.Struct, omit_defaults=True):
    """A line of `GET /containers/json`."""

    Id: str
    Names: list[str]
    Image: str
    ImageID: str
    Command: str
    Created: int
    Ports: list[None]
    Labels: dict[str, str]
    State: str
    Status: str
    HostConfig: SummaryHostConfig
    NetworkSettings: SummaryNetworks
    Mounts: list[MountPoint]
    SizeRw: int | msgspec.UnsetType = msgspec.UNSET
    SizeRootFs: int | msgspec.UnsetType = msgspec.UNSET
    SizeLog: int | msgspec.UnsetType = msgspec.UNSET


class HealthResult(msgspec.Struct):
    """One run of a health check."""

    Start: str
    End: str
    ExitCode: int
    Output: str


class Health(msgspec.Struct):
    """`State.Health` of a container that has a health check."""

    Status: str
    FailingStreak: int
    Log: list[HealthResult]


class HealthConfig(msgspec.Struct, omit_defaults=True):
    """`Config.Healthcheck`; `OnFailure` is ours."""

    Test: list[str]
    Interval: int = 0
    Timeout: int = 0
    StartPeriod: int = 0
    StartInterval: int = 0
    Retries: int = 0
    OnFailure: str = "none"


class ContainerState(msgspec.Struct):
    """`State` of an inspected container."""

    Status: str
    Running: bool
    Paused: bool
    Restarting: bool
    OOMKilled: bool
    Dead: bool
    Pid: int
    ExitCode: int
    Error: str
    StartedAt: str
    FinishedAt: str
    NextRestartAt: str
    Health: Health | msgspec.UnsetType = msgspec.UNSET


class LogConfig(msgspec.Struct):
    """Where the output goes."""

    Type: str
    Config: dict[str, str]


class RestartPolicy(msgspec.Struct, frozen=True):
    """When to start again; the delays are our own, and there with a policy that restarts."""

    Name: str = "no"
    MaximumRetryCount: int = 0
    DelayMs: int | msgspec.UnsetType = msgspec.UNSET
    MaxDelayMs: int | msgspec.UnsetType = msgspec.UNSET


class AskedUlimit(msgspec.Struct):
    """A ulimit of a create request, as it is shown, too."""

    Name: str | None = None
    Hard: int | None = None
    Soft: int | None = None


class AskedRate(msgspec.Struct):
    """How much of a block device; shown as it was asked for."""

    Path: str | None = None
    Rate: int | None = None


class AskedWeight(msgspec.Struct):
    """The weight for a block device; shown as it was asked for."""

    Path: str | None = None
    Weight: int | None = None


class DeviceMapping(msgspec.Struct):
    """One of `HostConfig.Devices`, asked and shown."""

    PathOnHost: str = ""
    PathInContainer: str = ""
    CgroupPermissions: str = ""


class DeviceRequest(msgspec.Struct):
    """One of `HostConfig.DeviceRequests`, as far as it is named when it is refused."""

    Driver: str | None = None
    Capabilities: list[list[str]] | None = None


class HostConfig(msgspec.Struct, kw_only=True):
    """What of the container depends on the host."""

    Binds: list[str] | None = None
    ContainerIDFile: str = ""
    LogConfig: LogConfig
    NetworkMode: str
    PortBindings: dict[str, None] = {}
    RestartPolicy: RestartPolicy = RestartPolicy()
    AutoRemove: bool
    VolumeDriver: str = ""
    VolumesFrom: list[str] | None = None
    Mounts: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    Tmpfs: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    ConsoleSize: tuple[int, int] = (0, 0)
    CapAdd: list[str] | None = None
    CapDrop: list[str] | None = None
    CgroupnsMode: str = "private"
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str = "private"
    Cgroup: str = ""
    Links: None = None
    OomScoreAdj: int
    PidMode: str = ""
    Privileged: bool = False
    PublishAllPorts: bool = False
    ReadonlyRootfs: bool = False
    SecurityOpt: list[str] | None
    UTSMode: str = ""
    UsernsMode: str = ""
    ShmSize: int
    Runtime: str = "mdocker"
    Isolation: str = ""
    CpuShares: int
    Memory: int
    NanoCpus: int
    CgroupParent: str
    BlkioWeight: int = 0
    BlkioWeightDevice: list[AskedWeight]
    BlkioDeviceReadBps: list[AskedRate]
    BlkioDeviceWriteBps: list[AskedRate]
    BlkioDeviceReadIOps: list[AskedRate]
    BlkioDeviceWriteIOps: list[AskedRate]
    CpuPeriod: int
    CpuQuota: int
    CpuRealtimePeriod: int = 0
    CpuRealtimeRuntime: int = 0
    CpusetCpus: str = ""
    CpusetMems: str = ""
    Devices: list[DeviceMapping] | None = []
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: None = None
    MemoryReservation: int = 0
    MemorySwap: int
    MemorySwappiness: int | None = None
    OomKillDisable: bool
    PidsLimit: int | None
    Ulimits: list[AskedUlimit]
    Sysctls: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    CpuCount: int = 0
    CpuPercent: int = 0
    IOMaximumIOps: int = 0
    IOMaximumBandwidth: int = 0
    MaskedPaths: list[str] | None
    ReadonlyPaths: list[str] | None
    Init: bool | msgspec.UnsetType = msgspec.UNSET


class Config(msgspec.Struct, kw_only=True):
    """What of the container would be the same on any host."""

    Hostname: str
    Domainname: str
    User: str
    AttachStdin: bool = False
    AttachStdout: bool
    AttachStderr: bool
    Tty: bool = False
    OpenStdin: bool = False
    StdinOnce: bool = False
    Env: list[str]
    Cmd: list[str] | None
    Image: str
    Volumes: dict[str, dict[str, str]] | None = None
    WorkingDir: str
    Entrypoint: list[str] | None
    OnBuild: None = None
    Labels: dict[str, str]
    StopSignal: str | msgspec.UnsetType = msgspec.UNSET
    StopTimeout: int | msgspec.UnsetType = msgspec.UNSET
    Healthcheck: HealthConfig | msgspec.UnsetType = msgspec.UNSET
    ExposedPorts: dict[str, dict[str, str]] | msgspec.UnsetType = msgspec.UNSET


class GraphDriverData(msgspec.Struct):
    """Where the root file system's parts are."""

    LowerDir: str
    MergedDir: str
    UpperDir: str
    WorkDir: str


class GraphDriver(msgspec.Struct):
    """How the root file system is put together."""

    Data: GraphDriverData
    Name: str = "overlay2"


class NetworkSettings(msgspec.Struct, kw_only=True):
    """The network side of an inspected container."""

    Bridge: str = ""
    SandboxID: str = ""
    SandboxKey: str = ""
    Ports: dict[str, None] = {}
    HairpinMode: bool = False
    LinkLocalIPv6Address: str = ""
    LinkLocalIPv6PrefixLen: int = 0
    SecondaryIPAddresses: None = None
    SecondaryIPv6Addresses: None = None
    EndpointID: str = ""
    Gateway: str = ""
    GlobalIPv6Address: str = ""
    GlobalIPv6PrefixLen: int = 0
    IPAddress: str = ""
    IPPrefixLen: int = 0
    IPv6Gateway: str = ""
    MacAddress: str = ""
    Networks: dict[str, Network]


class LogState(msgspec.Struct):
    """What has become of a container's log. Not in Docker's API.

    Attributes:
        DroppedBytes: Output of the last run that is in no log.
        Trouble: Why, or what the log waits for; empty where all is well.
    """

    DroppedBytes: int
    Trouble: str


class Inspection(msgspec.Struct, kw_only=True):
    """`GET /containers/{id}/json`."""

    Id: str
    Created: str
    Path: str
    Args: list[str]
    State: ContainerState
    Image: str
    ResolvConfPath: str
    HostnamePath: str
    HostsPath: str
    LogPath: str
    LogState: LogState
    Name: str
    RestartCount: int
    Driver: str = "overlay2"
    Platform: str = "linux"
    MountLabel: str = ""
    ProcessLabel: str = ""
    AppArmorProfile: str = ""
    ExecIDs: list[str] | None = None
    HostConfig: HostConfig
    GraphDriver: GraphDriver
    SizeRw: int | msgspec.UnsetType = msgspec.UNSET
    SizeRootFs: int | msgspec.UnsetType = msgspec.UNSET
    SizeLog: int | msgspec.UnsetType = msgspec.UNSET
    Mounts: list[MountPoint] = []
    Config: Config
    NetworkSettings: NetworkSettings


class Created(msgspec.Struct):
    """The answer to a create."""

    Id: str
    Warnings: list[str]


class WaitError(msgspec.Struct):
    """Why an exit code says little."""

    Message: str


class Waited(msgspec.Struct):
    """The answer to a wait."""

    StatusCode: int
    Error: WaitError | None = None


class Pruned(msgspec.Struct):
    """The answer to a prune of containers."""

    ContainersDeleted: list[str] | None
    SpaceReclaimed: int


class AskedLogConfig(msgspec.Struct):
    """LogConfig of a create request."""

    Type: str | None = None
    Config: dict[str, str] | None = None


class AskedRestartPolicy(msgspec.Struct):
    """RestartPolicy of a create request."""

    Name: str | None = None
    MaximumRetryCount: int | None = None
    DelayMs: int | None = None
    MaxDelayMs: int | None = None


class AskedUpdate(msgspec.Struct):
    """The options of an update request that we do."""

    BlkioDeviceReadBps: list[AskedRate] | None = None
    BlkioDeviceReadIOps: list[AskedRate] | None = None
    BlkioDeviceWriteBps: list[AskedRate] | None = None
    BlkioDeviceWriteIOps: list[AskedRate] | None = None
    BlkioWeight: int | None = None
    BlkioWeightDevice: list[AskedWeight] | None = None
    CpuPeriod: int | None = None
    CpuQuota: int | None = None
    CpuShares: int | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    Memory: int | None = None
    MemoryReservation: int | None = None
    MemorySwap: int | None = None
    KernelMemory: int | None = None
    MemorySwappiness: int | None = None
    NanoCpus: int | None = None
    OomKillDisable: bool | None = None
    PidsLimit: int | None = None
    RestartPolicy: AskedRestartPolicy | None = None


class Updated(msgspec.Struct):
    """The answer to an update."""

    Warnings: list[str]


class AskedHealth(msgspec.Struct):
    """Healthcheck of a create request, or of an image."""

    Test: list[str] | None = None
    Interval: int | None = None
    Timeout: int | None = None
    StartPeriod: int | None = None
    StartInterval: int | None = None
    Retries: int | None = None
    OnFailure: str | None = None


class AskedHostConfig(msgspec.Struct):
    """The options of a create request's HostConfig that we do, or accept at harmless values."""

    AutoRemove: bool | None = None
    Binds: list[str] | None = None
    BlkioDeviceReadBps: list[AskedRate] | None = None
    BlkioDeviceReadIOps: list[AskedRate] | None = None
    BlkioDeviceWriteBps: list[AskedRate] | None = None
    BlkioDeviceWriteIOps: list[AskedRate] | None = None
    BlkioWeight: int | None = None
    BlkioWeightDevice: list[AskedWeight] | None = None
    CapAdd: list[str] | str | None = None
    CapDrop: list[str] | str | None = None
    CgroupParent: str | None = None
    CgroupnsMode: str | None = None
    ConsoleSize: list[int] | None = None
    ContainerIDFile: str | None = None
    CpuPeriod: int | None = None
    CpuQuota: int | None = None
    CpuShares: int | None = None
    GroupAdd: list[str] | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    Devices: list[DeviceMapping] | None = None
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: list[DeviceRequest] | None = None
    Isolation: str | None = None
    Init: bool | None = None
    IpcMode: str | None = None
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    Links: list[str] | None = None
    KernelMemory: int | None = None
    LogConfig: AskedLogConfig | None = None
    MaskedPaths: list[str] | None = None
    Memory: int | None = None
    MemoryReservation: int | None = None
    MemorySwap: int | None = None
    MemorySwappiness: int | None = None
    Mounts: list[AskedMount] | None = None
    NanoCpus: int | None = None
    NetworkMode: str | None = None
    OomKillDisable: bool | None = None
    OomScoreAdj: int | None = None
    PidMode: str | None = None
    PidsLimit: int | None = None
    Privileged: bool | None = None
    ReadonlyPaths: list[str] | None = None
    ReadonlyRootfs: bool | None = None
    RestartPolicy: AskedRestartPolicy | None = None
    Runtime: str | None = None
    SecurityOpt: list[str] | None = None
    ShmSize: int | None = None
    StorageOpt: dict[str, str] | None = None
    Sysctls: dict[str, str] | None = None
    Tmpfs: dict[str, str] | None = None
    UTSMode: str | None = None
    Ulimits: list[AskedUlimit] | None = None
    UsernsMode: str | None = None
    VolumeDriver: str | None = None
    VolumesFrom: list[str] | None = None


class AskedNetworking(msgspec.Struct):
    """NetworkingConfig of a create request."""

    EndpointsConfig: dict[str, dict[str, Any] | None] | None = None


class Asked(msgspec.Struct):
    """The options of a create request that we do.

    Attributes:
        Runtime: Not in the specification: docker-py sends it here as well.
    """

    AttachStderr: bool | None = None
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    Cmd: list[str] | str | None = None
    Domainname: str | None = None
    Entrypoint: list[str] | str | None = None
    Env: list[str] | None = None
    ExposedPorts: dict[str, Any] | None = None
    Healthcheck: AskedHealth | None = None
    HostConfig: AskedHostConfig | None = None
    Hostname: str | None = None
    Image: str | None = None
    Labels: dict[str, str] | None = None
    NetworkingConfig: AskedNetworking | None = None
    OpenStdin: bool | None = None
    Runtime: str | None = None
    StdinOnce: bool | None = None
    StopSignal: str | None = None
    StopTimeout: int | None = None
    Tty: bool | None = None
    User: str | None = None
    Volumes: dict[str, Any] | None = None
    WorkingDir: str | None = None
