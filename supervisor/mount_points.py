"""What a container was asked to have mounted, as its record keeps it. No I/O."""

from __future__ import annotations

from typing import Any

import msgspec


class MountPoint(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One place in a container where something is mounted.

    Attributes:
        kind: "bind", "volume" or "tmpfs".
        target: Where; an absolute path without dots, not the root.
        source: A bind's path on the host.
        volume: A volume's name.
        anonymous: Nobody named the volume: it goes with its last container, if that is asked.
        readonly: It can't be written.
        mode: A bind's or volume's mode in the words of `-v`, for who looks at it.
        propagation: A bind's: "rprivate" (the default), "private", "slave", "rslave", "shared" or
            "rshared".
        recursive: A bind comes with what is mounted below its source.
        make_source: A bind's source is made, a directory, where it is missing.
        copy_up: An empty volume gets what the image has there when the container first starts.
        subpath: A path in the volume that is meant in its place.
        volume_options: Of the driver, should the volume have to be made.
        volume_labels: Likewise.
        options: Of the tmpfs, such as "size=64m".
        attributes: Its MOUNT_ATTR_* (`runtime.flags`).
        shown: Docker tells of it in `Mounts`; of a `--tmpfs` only in `HostConfig`.
    """

    kind: str
    target: str
    source: str = ""
    volume: str = ""
    anonymous: bool = False
    readonly: bool = False
    mode: str = ""
    propagation: str = ""
    recursive: bool = True
    make_source: bool = False
    copy_up: bool = False
    subpath: str = ""
    volume_options: dict[str, str] = {}
    volume_labels: dict[str, str] = {}
    options: tuple[str, ...] = ()
    attributes: int = 0
    shown: bool = True


class Mounts(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """All of a container's, resolved, and the words in which they were asked for.

    Attributes:
        points: What is mounted, those above before those below.
        readonly_root: The container's own root can't be written.
        binds: `HostConfig.Binds`.
        mounts: `HostConfig.Mounts`.
        tmpfs: `HostConfig.Tmpfs`.
        volumes_from: `HostConfig.VolumesFrom`.
        volumes: `Config.Volumes`: the image's too.
        volume_driver: `HostConfig.VolumeDriver`.
    """

    points: tuple[MountPoint, ...] = ()
    readonly_root: bool = False
    binds: tuple[str, ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()
    tmpfs: dict[str, str] = {}
    volumes_from: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    volume_driver: str = ""

    @property
    def of_volumes(self) -> list[MountPoint]:
        """Those that mount a volume."""
        return [point for point in self.points if point.kind == "volume"]


def depth(target: str) -> int:
    """How many names a target's path has: what is above is mounted first."""
    return target.count("/")
