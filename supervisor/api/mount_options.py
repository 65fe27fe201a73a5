"""What a create request wants mounted: Docker's five ways to say it become one list, or are refused
in its words (moby's volume/mounts/linux_parser.go and daemon/volumes.go).
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from runtime import flags
from supervisor import tmpfs_options
from supervisor.api import wire
from supervisor.api.wire_mounts import (
    AskedBindOptions,
    AskedDriver,
    AskedMount,
    AskedTmpfsOptions,
    AskedVolumeOptions,
)
from supervisor.container import Container
from supervisor.disk import PATIENCE_S
from supervisor.engine import Engine
from supervisor.errors import BadParameter, EngineFault, NotFound, Unsupported
from supervisor.mount_points import MountPoint, Mounts, depth
from supervisor.volumes import ANONYMOUS, check_driver, check_name, check_options

PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared")

_MODES = (
    frozenset({"rw", "ro"}),
    # SELinux's, without an effect where there is none, as in Docker.
    frozenset({"z", "Z"}),
    frozenset(PROPAGATIONS),
    frozenset({"nocopy"}),
    # For Docker Desktop alone.
    frozenset({"consistent", "cached", "delegated", "default"}),
)
_TMPFS_WORDS = frozenset({"exec", "noexec"})

Find = Callable[[str], Container]


def resolve(asked: wire.Asked, image: Mapping[str, Any], find: Find) -> Mounts:
    """Return all that a container is to have mounted.

    Args:
        image: The image's configuration.
        find: A container by its name or id, for `VolumesFrom`.

    Raises:
        BadParameter: A specification that can't be, or two for the same place.
        Unsupported: One that we don't do.
    """
    host = asked.HostConfig or wire.AskedHostConfig()
    driver = host.VolumeDriver or ""
    points: dict[str, MountPoint] = {}
    for word in host.VolumesFrom or ():
        points.update((point.target, point) for point in _from_container(word, find))
    tmpfs = {_clean(path): _tmpfs(path, words) for path, words in (host.Tmpfs or {}).items()}
    chosen: dict[str, MountPoint] = {}
    wanted = [_from_words(raw, driver) for raw in host.Binds or ()]
    wanted += [_from_mount(spec) for spec in host.Mounts or ()]
    for point in wanted:
        if point.target in chosen or point.target in tmpfs:
            raise BadParameter(f"Duplicate mount point: {point.target}")
        chosen[point.target] = point
    points |= chosen | tmpfs
    named = sorted({*(image.get("Volumes") or ()), *(asked.Volumes or ())})
    for path in named:
        spec = AskedMount(Type="volume", Target=path)
        if driver:
            spec.VolumeOptions = AskedVolumeOptions(DriverConfig=AskedDriver(Name=driver))
        point = _point(spec, mode="")
        points.setdefault(point.target, point)
    return Mounts(
        points=tuple(sorted(points.values(), key=lambda point: depth(point.target))),
        readonly_root=bool(host.ReadonlyRootfs),
        binds=tuple(host.Binds or ()),
        mounts=tuple(_shown(spec) for spec in host.Mounts or ()),
        tmpfs=host.Tmpfs or {},
        volumes_from=tuple(host.VolumesFrom or ()),
        volumes=tuple(named),
        volume_driver=driver,
    )


async def check_sources(engine: Engine, mounts: Mounts) -> None:
    """Refuse binds whose source is missing, where it is not to be made (`-v` makes it).

    Raises:
        BadParameter: Docker's words.
        EngineFault: A disk does not answer.
    """
    sources = [p.source for p in mounts.points if p.kind == "bind" and not p.make_source]
    if not sources:
        return

    def missing() -> str:
        return next((source for source in sources if not os.path.exists(source)), "")

    with anyio.move_on_after(PATIENCE_S):
        absent = await anyio.to_thread.run_sync(
            missing, limiter=engine.limits.sources, abandon_on_cancel=True
        )
        if absent:
            raise BadParameter(
                'invalid mount config for type "bind": bind source path does not exist: ' + absent
            )
        return
    raise EngineFault(f"a disk does not answer that holds one of {', '.join(sources)}")


def _from_container(word: str, find: Find) -> Sequence[MountPoint]:
    """`--volumes-from NAME[:MODE]`"""
    name, _, mode = word.partition(":")
    if not name:
        raise BadParameter("volumes-from specification cannot be an empty string")
    modes = _modes(mode)
    if modes & {"nocopy", *PROPAGATIONS}:
        raise BadParameter(f"invalid mode: {mode}")
    try:
        other = find(name)
    except NotFound as error:
        # Not 404: clients take that at create for a missing image, and pull.
        raise BadParameter(str(error)) from error
    return [
        msgspec.structs.replace(point, copy_up=False, readonly=point.readonly or "ro" in modes)
        for point in other.config.mounts.points
        if point.shown
    ]


def _from_words(raw: str, driver: str) -> MountPoint:
    """`-v [SOURCE:]TARGET[:MODE]`"""
    words = raw.split(":")
    mode = words[2] if len(words) == 3 else ""
    if not words[0] or len(words) > 3 or (len(words) == 2 and _are_modes(words[1])):
        raise BadParameter(f"invalid volume specification: '{raw}'")
    modes = _modes(mode)
    spec = AskedMount(Target=words[-1] if len(words) < 3 else words[1])
    spec.Source = words[0] if len(words) > 1 else ""
    spec.Type = "bind" if spec.Source.startswith("/") else "volume"
    spec.ReadOnly = "ro" in modes
    if driver and spec.Type == "volume":
        spec.VolumeOptions = AskedVolumeOptions(DriverConfig=AskedDriver(Name=driver))
    if "nocopy" in modes:
        spec.VolumeOptions = spec.VolumeOptions or AskedVolumeOptions()
        spec.VolumeOptions.NoCopy = True
    if propagation := modes & set(PROPAGATIONS):
        spec.BindOptions = AskedBindOptions(Propagation=propagation.pop())
    try:
        return _point(spec, mode=mode, make_source=True)
    except BadParameter as error:
        if str(error).startswith("create "):
            raise  # a volume's name or driver, whose text says all
        raise BadParameter(f"invalid volume specification: '{raw}': {error}") from error


def _are_modes(text: str) -> bool:
    words = text.split(",") if text else []
    return all(any(word in kind for kind in _MODES) for word in words) and all(
        sum(word in kind for word in words) < 2 for kind in _MODES
    )


def _modes(text: str) -> set[str]:
    if not _are_modes(text):
        raise BadParameter(f"invalid mode: {text}")
    return set(text.split(",")) if text else set()


def _from_mount(spec: AskedMount) -> MountPoint:
    """`--mount`, as the client has taken it apart."""
    make_source = bool(spec.BindOptions and spec.BindOptions.CreateMountpoint)
    return _point(spec, mode="", make_source=make_source)


def _point(spec: AskedMount, *, mode: str, make_source: bool = False) -> MountPoint:
    refuse = _refusing(spec)
    if not spec.Target:
        raise refuse("field Target must not be empty")
    _check_target(spec.Target, refuse)
    match spec.Type:
        case "bind":
            return _bind(spec, mode, make_source, refuse)
        case "volume":
            return _volume(spec, mode, refuse)
        case "tmpfs":
            return _mounted_tmpfs(spec, refuse)
        case "image":
            raise Unsupported("mdocker does not support mounts of type image yet")
    raise refuse("mount type unknown")


def _refusing(spec: AskedMount) -> Callable[[str], BadParameter]:
    return lambda words: BadParameter(f'invalid mount config for type "{spec.Type}": {words}')


def _check_target(path: str, refuse: Callable[[str], BadParameter]) -> None:
    clean = _clean(path)
    if clean == "/":
        raise refuse("invalid specification: destination can't be '/'")
    if not path.startswith("/"):
        raise refuse(f"invalid mount path: '{path}' mount path must be absolute")
    if "\0" in path:
        raise refuse(f"{path!r} holds a NUL character")
    if clean == "/proc" or clean.startswith("/proc/"):
        raise refuse(f'"{clean}" cannot be mounted because it is inside /proc')


def _clean(path: str) -> str:
    """Go's path.Clean."""
    clean = posixpath.normpath(path) if path else "."
    return clean[1:] if clean.startswith("//") else clean


def _bind(
    spec: AskedMount,
    mode: str,
    make_source: bool,
    refuse: Callable[[str], BadParameter],
) -> MountPoint:
    options = spec.BindOptions or AskedBindOptions()
    source = spec.Source or ""
    if not source:
        raise refuse("field Source must not be empty")
    if options.Propagation and options.Propagation not in PROPAGATIONS:
        raise refuse(f"invalid propagation mode: {options.Propagation}")
    if spec.VolumeOptions is not None:
        raise refuse("field VolumeOptions must not be specified")
    if not source.startswith("/"):
        raise refuse(f"invalid mount path: '{source}' mount path must be absolute")
    if "\0" in source:
        raise refuse(f"{source!r} holds a NUL character")
    if options.ReadOnlyNonRecursive:
        raise Unsupported(
            "mdocker does not support BindOptions.ReadOnlyNonRecursive: what is mounted below a "
            "read-only bind is read-only too"
        )
    return MountPoint(
        kind="bind",
        source=_clean(source),
        target=_clean(spec.Target or ""),
        readonly=bool(spec.ReadOnly),
        mode=mode,
        propagation=options.Propagation or "rprivate",
        recursive=not options.NonRecursive,
        make_source=make_source,
    )


def _volume(spec: AskedMount, mode: str, refuse: Callable[[str], BadParameter]) -> MountPoint:
    if spec.BindOptions is not None:
        raise refuse("field BindOptions must not be specified")
    options = spec.VolumeOptions or AskedVolumeOptions()
    name, subpath = spec.Source or "", options.Subpath or ""
    if subpath and not name:
        raise refuse("must not set Subpath when using anonymous volumes")
    leads_out = subpath.startswith("/") or _clean(subpath).split("/")[0] == ".."
    if subpath and (leads_out or "\0" in subpath):
        raise refuse("subpath must be a relative path within the volume")
    if spec.ReadOnly and not name:
        raise refuse("must not set ReadOnly mode when using anonymous volumes")
    driver = options.DriverConfig or AskedDriver()
    try:
        check_driver(name, driver.Name or "")
    except NotFound as error:
        raise BadParameter(str(error)) from error
    labels = options.Labels or {}
    chosen = name or os.urandom(32).hex()
    check_name(chosen)
    check_options(chosen, driver.Options or {})
    return MountPoint(
        kind="volume",
        volume=chosen,
        anonymous=not name,
        target=_clean(spec.Target or ""),
        readonly=bool(spec.ReadOnly),
        # Docker's daemon fills this in, whatever the machine thinks of SELinux.
        mode=mode or ("z" if name else ""),
        copy_up=not options.NoCopy,
        subpath=_clean(subpath) if subpath else "",
        volume_options=driver.Options or {},
        volume_labels=labels if name else {**labels, ANONYMOUS: ""},
    )


def _mounted_tmpfs(spec: AskedMount, refuse: Callable[[str], BadParameter]) -> MountPoint:
    if spec.BindOptions is not None:
        raise refuse("field BindOptions must not be specified")
    if spec.VolumeOptions is not None:
        raise refuse("field VolumeOptions must not be specified")
    if spec.Source:
        raise refuse("field Source must not be specified")
    options = spec.TmpfsOptions or AskedTmpfsOptions()
    words = ["ro"] if spec.ReadOnly else []
    if options.Mode:
        words.append(f"mode={options.Mode:o}")
    if options.SizeBytes:
        words.append(f"size={options.SizeBytes}")
    for option in options.Options or ():
        if not 0 < len(option) < 3:
            raise refuse("invalid option array length")
        if option[0] not in _TMPFS_WORDS:
            raise refuse(f"invalid option: {option[0]}")
        words.append("=".join(option))
    try:
        own, attributes = tmpfs_options.parse(words, tmpfs_options.DOCKERS_DEFAULT)
    except BadParameter as error:
        raise refuse(str(error)) from error
    return MountPoint(
        kind="tmpfs",
        target=_clean(spec.Target or ""),
        readonly=bool(attributes & flags.MOUNT_ATTR_RDONLY),
        options=own,
        attributes=attributes,
    )


def _tmpfs(path: str, words: str) -> MountPoint:
    """`--tmpfs PATH[:OPTIONS]`"""
    _check_target(path, BadParameter)
    own, attributes = tmpfs_options.parse(words.split(","), tmpfs_options.DOCKERS_DEFAULT)
    return MountPoint(
        kind="tmpfs", target=_clean(path), options=own, attributes=attributes, shown=False
    )


def _shown(spec: AskedMount) -> dict[str, Any]:
    """A `HostConfig.Mounts` entry as it was asked for."""
    shown: dict[str, Any] = msgspec.to_builtins(spec)
    return _without_nulls(shown)


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(inner) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if inner is not None
    }
