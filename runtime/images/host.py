"""The built-in image `host`: this machine's own /usr, read-only, over a generated tree.

    host/current.json           which generation counts, and what it was built from
    host/<generation>/fs        the tree, an overlay lower directory
    host/<generation>/boot_id   the last boot in which it counted

A generation is never altered, and is removed in a later boot only: a container that runs may
have the tree as its overlay's lower directory, which must not change under it (Documentation/
filesystems/overlayfs.rst, "Changes to underlying filesystems"), and no container outlives a boot.
A new boot makes a new generation, so that a power cut can't leave a damaged one in use.

The image's id stays the same over generations: it stands for "this machine", whose /usr changes
under it anyway, and containers remember it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.images import configuration
from runtime.images.durable import write_durably
from runtime.images.host_tree import HostTree, shell, signature
from runtime.images.lookup import HOST_NAME
from runtime.images.model import Image, RootfsLayers
from runtime.images.trees import remove_tree
from runtime.spec import Bind

_VERSION = 1
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class _Generation:
    """What current.json holds."""

    name: str
    boot_id: str
    created_ns: int
    size: int
    inputs: dict[str, Any]
    real_directories: tuple[str, ...]


class HostImage:
    """Owner of images/host. Thread-safe; once built, looking at it takes no lock."""

    def __init__(self, directory: Path, staging: Path) -> None:
        self._directory = directory
        self._staging = staging
        self._refreshing = threading.Lock()
        self._built: tuple[_Generation, Image] | None = None

    def refresh(self) -> Image:
        """Builds the tree if there is none or what it was built from has changed.

        A millisecond when nothing changed. Removes generations of earlier boots. If it can't be
        built (a full disk, say) an outdated tree goes on to count: an engine that comes back
        must find its containers' image.

        Raises:
            OSError: It can't be built and there is no earlier one.
        """
        with self._refreshing:
            current = self._built[0] if self._built else self._load()
            boot_id = _boot_id()
            if current is None or not self._fits(current, boot_id):
                try:
                    current = self._build(boot_id, current.created_ns if current else None)
                except OSError:
                    if current is None or not self._tree(current.name).is_dir():
                        raise
                else:
                    self._remove_older(boot_id, current.name)
            if self._built is None or current is not self._built[0]:
                self._built = current, _describe(current)
            return self._built[1]

    def image(self) -> Image:
        """The image; built if there is none yet, otherwise as it was at the last refresh."""
        return self._built[1] if self._built else self.refresh()

    def layers(self) -> RootfsLayers:
        """The current tree, and /usr over it, read-only."""
        self.image()
        assert self._built is not None
        current = self._built[0]
        return RootfsLayers(
            lower=(str(self._tree(current.name)),),
            binds=tuple(
                Bind(source, source, readonly=True, shifted=True)
                for source in ("/usr", *current.real_directories)
            ),
        )

    def _tree(self, generation: str) -> Path:
        return self._directory / generation / "fs"

    def _fits(self, current: _Generation, boot_id: str) -> bool:
        if current.boot_id != boot_id or not self._tree(current.name).is_dir():
            return False
        return all(signature(path) == value for path, value in current.inputs.items())

    def _load(self) -> _Generation | None:
        """The recorded generation; None if there is none or the record is unreadable.

        Everything here can be built again, so a damaged record is no error.
        """
        try:
            record = json.loads((self._directory / "current.json").read_bytes())
            if record.pop("version") != _VERSION:
                return None
            record["real_directories"] = tuple(record["real_directories"])
            if not isinstance(record["inputs"], dict):
                return None
            return _Generation(**record)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _build(self, boot_id: str, created_ns: int | None) -> _Generation:
        now = time.time_ns()
        name = f"{now:x}"
        draft = self._staging / f"host-{name}"
        try:
            (draft / "fs").mkdir(parents=True)
            (draft / "fs").chmod(0o755)
            tree = HostTree(draft / "fs")
            tree.build()
            (draft / "boot_id").write_text(boot_id)
            self._directory.mkdir(mode=0o700, exist_ok=True)
            draft.rename(self._directory / name)
        except BaseException:
            with contextlib.suppress(OSError):  # else the next sweep does
                remove_tree(draft)
            raise
        generation = _Generation(
            name, boot_id, created_ns or now, tree.size, tree.inputs, tuple(tree.real_directories)
        )
        record = {"version": _VERSION} | {
            field: getattr(generation, field) for field in _Generation.__slots__
        }
        write_durably(self._directory / "current.json", json.dumps(record).encode())
        return generation

    def _remove_older(self, boot_id: str, current: str) -> None:
        """Removes trees that no running container can have: those of earlier boots."""
        for directory in self._directory.iterdir():
            if directory.name == current or not directory.is_dir():
                continue
            try:
                last_boot = (directory / "boot_id").read_text()
            except OSError:
                last_boot = ""
            if last_boot != boot_id:
                with contextlib.suppress(OSError):  # else the next build tries again
                    remove_tree(directory)


def _boot_id() -> str:
    """Differs between boots, and only then (random(4), /proc interfaces)."""
    return _BOOT_ID.read_text().strip()


def _describe(generation: _Generation) -> Image:
    inherited = {"Env": [f"PATH={configuration.DEFAULT_PATH}"], "Cmd": [shell()]}
    comment = "this machine's /usr, read-only"
    step = configuration.Step(comment)
    blob = configuration.encode(inherited, generation.created_ns, (), step)
    return configuration.decode(
        image_id=f"sha256:{hashlib.sha256(blob).hexdigest()}",
        document=json.loads(blob),
        tags=(HOST_NAME,),
        size=generation.size,
        built_in=True,
    )
