"""`-v`, `--mount`, `--tmpfs`, `--volumes-from` and `--read-only` as the API takes them. Pure.

The rules are those of Docker's client (docker/cli: cli/compose/loader, opts/mount.go); what a
specification means is the engine's to say.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mdocker.container_options import ContainerOptions
from mdocker.errors import UsageError
from mdocker.units import parse_size

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_RECURSIVE: dict[str, dict[str, bool]] = {
    "enabled": {},
    "disabled": {"NonRecursive": True},
    "writable": {"ReadOnlyNonRecursive": True},
    "readonly": {"ReadOnlyForceRecursive": True},
}
_OPTIONS = {"volume": "VolumeOptions", "bind": "BindOptions", "tmpfs": "TmpfsOptions"}


def mount_request(options: ContainerOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what goes into the request's body, and what into its HostConfig.

    Raises:
        UsageError: A specification is malformed.
    """
    config: dict[str, Any] = {}
    host: dict[str, Any] = {}
    binds = []
    for word in options.volume:
        if ":" in word:
            binds.append(_bind(word))
        elif not word:
            raise UsageError('invalid argument "" for "-v, --volume": it names nothing to mount')
        else:
            config.setdefault("Volumes", {})[word] = {}
    if binds:
        host["Binds"] = binds
    if options.mount:
        host["Mounts"] = [parse_mount(word) for word in options.mount]
    if options.tmpfs:
        host["Tmpfs"] = dict(_tmpfs(word) for word in options.tmpfs)
    if options.volumes_from:
        host["VolumesFrom"] = list(options.volumes_from)
    if options.volume_driver:
        host["VolumeDriver"] = options.volume_driver
    if options.read_only:
        host["ReadonlyRootfs"] = True
    return config, host


def _bind(word: str) -> str:
    """A source that begins with a dot is a path from here."""
    source, _, rest = word.partition(":")
    return f"{_from_here(source)}:{rest}" if source.startswith(".") else word


def _from_here(path: str) -> str:
    return os.path.normpath(os.path.join(os.getcwd(), path))


def _tmpfs(word: str) -> tuple[str, str]:
    path, _, words = word.partition(":")
    return path, words


def parse_mount(word: str) -> dict[str, Any]:
    """Take a `--mount` apart: KEY=VALUE pairs, with commas between them, as CSV has it.

    Raises:
        UsageError: A key is unknown, a value can't be, or pairs don't go together.
    """
    try:
        return _Mount(word).parsed()
    except ValueError as error:
        raise UsageError(f'invalid argument "{word}" for "--mount": {error}') from error


class _Mount:
    """One `--mount` on its way."""

    def __init__(self, word: str) -> None:
        import csv  # dear, and seldom needed

        try:
            rows = list(csv.reader([word], strict=True)) if word else []
        except csv.Error as error:
            raise ValueError(error) from error
        if len(rows) != 1 or not rows[0]:
            raise ValueError("it must be KEY=VALUE pairs with commas between them")
        self._fields = rows[0]
        self._found: dict[str, Any] = {"Type": "volume"}
        self._keys: dict[str, Callable[[str, str], None]] = {
            "type": self._lower("Type"),
            "consistency": self._lower("Consistency"),
            **dict.fromkeys(("source", "src"), self._source),
            **dict.fromkeys(("target", "dst", "destination"), self._target),
            **dict.fromkeys(("readonly", "ro"), self._readonly),
            "bind-propagation": self._propagation,
            "bind-recursive": self._recursive,
            "bind-nonrecursive": self._nonrecursive,
            "volume-nocopy": self._nocopy,
            "volume-subpath": self._subpath,
            "volume-label": self._label,
            "volume-driver": self._driver,
            "volume-opt": self._driver_option,
            "tmpfs-size": self._size,
            "tmpfs-mode": self._mode,
        }

    def parsed(self) -> dict[str, Any]:
        for field in self._fields:
            key, equals, value = field.partition("=")
            key = key.lower()
            if not equals:
                if key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
                    raise ValueError(f"invalid field '{field}' must be a key=value pair")
                value = "true"
            if key not in self._keys:
                raise ValueError(f"unexpected key '{key}' in '{field}'")
            self._keys[key](key, value)
        found = self._found
        if not found["Type"]:
            raise ValueError("type is required")
        if not found.get("Target"):
            raise ValueError("target is required")
        for kind, name in _OPTIONS.items():
            if name in found and found["Type"] != kind:
                raise ValueError(f"cannot mix '{kind}-*' options with mount type '{found['Type']}'")
        return found

    def _of(self, kind: str) -> dict[str, Any]:
        options: dict[str, Any] = self._found.setdefault(_OPTIONS[kind], {})
        return options

    def _lower(self, name: str) -> Callable[[str, str], None]:
        return lambda _, value: self._found.__setitem__(name, value.lower())

    def _source(self, _: str, value: str) -> None:
        relative = value == "." or value.startswith("./")
        self._found["Source"] = _from_here(value) if relative else value

    def _target(self, _: str, value: str) -> None:
        self._found["Target"] = value

    def _readonly(self, key: str, value: str) -> None:
        self._found["ReadOnly"] = _boolean(key, value)

    def _propagation(self, _: str, value: str) -> None:
        self._of("bind")["Propagation"] = value.lower()

    def _recursive(self, key: str, value: str) -> None:
        if value not in _RECURSIVE:
            raise ValueError(f"invalid value for {key}: {value}: use {', '.join(_RECURSIVE)}")
        self._of("bind").update(_RECURSIVE[value])

    def _nonrecursive(self, key: str, value: str) -> None:
        self._of("bind")["NonRecursive"] = _boolean(key, value)

    def _nocopy(self, key: str, value: str) -> None:
        self._of("volume")["NoCopy"] = _boolean(key, value)

    def _subpath(self, _: str, value: str) -> None:
        self._of("volume")["Subpath"] = value

    def _label(self, _: str, value: str) -> None:
        name, _, text = value.partition("=")
        self._of("volume").setdefault("Labels", {})[name] = text

    def _driver(self, _: str, value: str) -> None:
        self._of("volume").setdefault("DriverConfig", {})["Name"] = value

    def _driver_option(self, _: str, value: str) -> None:
        name, _, text = value.partition("=")
        config = self._of("volume").setdefault("DriverConfig", {})
        config.setdefault("Options", {})[name] = text

    def _size(self, key: str, value: str) -> None:
        try:
            self._of("tmpfs")["SizeBytes"] = parse_size(value, key)
        except UsageError:
            raise ValueError(f"invalid value for {key}: {value}") from None

    def _mode(self, key: str, value: str) -> None:
        if not value or set(value) - set("01234567") or len(value) > 11:
            raise ValueError(f"invalid value for {key}: {value}")
        self._of("tmpfs")["Mode"] = int(value, 8)


def _boolean(key: str, value: str) -> bool:
    if value not in _TRUE | _FALSE:
        raise ValueError(f"invalid value for {key}: {value}")
    return value in _TRUE
