"""Docker's JSON shapes of mounts and volumes, with Docker's own spelling (see `wire`)."""

from __future__ import annotations

from typing import Any

import msgspec


class MountPoint(msgspec.Struct):
    """One of `Mounts` of an inspected or listed container."""

    Type: str
    Source: str
    Destination: str
    Mode: str
    RW: bool
    Propagation: str
    Name: str | msgspec.UnsetType = msgspec.UNSET
    Driver: str | msgspec.UnsetType = msgspec.UNSET


class Usage(msgspec.Struct):
    """What a volume weighs, and how many containers use it."""

    RefCount: int
    Size: int


class Volume(msgspec.Struct, kw_only=True):
    """A volume."""

    CreatedAt: str
    Driver: str = "local"
    Labels: dict[str, str] | None
    Mountpoint: str
    Name: str
    Options: dict[str, str] | None
    Scope: str = "local"
    UsageData: Usage | msgspec.UnsetType = msgspec.UNSET


class Volumes(msgspec.Struct):
    """The answer to a list of volumes."""

    Volumes: list[Volume]
    Warnings: list[str] | None


class PrunedVolumes(msgspec.Struct):
    """The answer to a prune of volumes."""

    VolumesDeleted: list[str]
    SpaceReclaimed: int


class AskedVolume(msgspec.Struct):
    """The body of POST /volumes/create."""

    Name: str | None = None
    Driver: str | None = None
    DriverOpts: dict[str, str] | None = None
    Labels: dict[str, str] | None = None


class AskedBindOptions(msgspec.Struct):
    """BindOptions of a mount; ReadOnlyForceRecursive insists on what we do anyway."""

    Propagation: str | None = None
    NonRecursive: bool | None = None
    CreateMountpoint: bool | None = None
    ReadOnlyNonRecursive: bool | None = None
    ReadOnlyForceRecursive: bool | None = None


class AskedDriver(msgspec.Struct):
    """DriverConfig of a volume's mount."""

    Name: str | None = None
    Options: dict[str, str] | None = None


class AskedVolumeOptions(msgspec.Struct):
    """VolumeOptions of a mount."""

    NoCopy: bool | None = None
    Labels: dict[str, str] | None = None
    DriverConfig: AskedDriver | None = None
    Subpath: str | None = None


class AskedTmpfsOptions(msgspec.Struct):
    """TmpfsOptions of a mount."""

    SizeBytes: int | None = None
    Mode: int | None = None
    Options: list[list[str]] | None = None


class AskedMount(msgspec.Struct):
    """One of HostConfig.Mounts of a create request."""

    Type: str | None = None
    Source: str | None = None
    Target: str | None = None
    ReadOnly: bool | None = None
    Consistency: str | None = None
    BindOptions: AskedBindOptions | None = None
    VolumeOptions: AskedVolumeOptions | None = None
    TmpfsOptions: AskedTmpfsOptions | None = None
    ImageOptions: dict[str, Any] | None = None


KINDS = {
    "BindOptions": AskedBindOptions,
    "VolumeOptions": AskedVolumeOptions,
    "TmpfsOptions": AskedTmpfsOptions,
}
"""What may stand in a mount's options, by the option's name."""
