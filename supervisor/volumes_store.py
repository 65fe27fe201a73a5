"""Volumes on disk: a directory each, made and taken away at one stroke, so there is no half one.

    ROOT/volumes/NAME/_data         what is mounted
                      volume.json   the record, written once
                      _fill.ID      a container's copy of its image's files (`runtime.copy_up`)
    ROOT/volumes/.new-…             one that is being made
                 .removed-…         one that is being deleted

Names begin with a letter or a digit, so the last two are no volumes; a supervisor that starts
sweeps them. There is no fsync, as for containers (`supervisor/store.py`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import structlog

from supervisor.state_version import VERSION, NewerState

log = structlog.get_logger()

RECORD_FILE = "volume.json"
DATA = "_data"
NEW = ".new-"
REMOVED = ".removed-"
DRAFT = "_fill."


class Volume(msgspec.Struct, frozen=True):
    """A volume, as its record tells.

    Attributes:
        created_ns: ns since the epoch.
        labels: None where none were given.
        options: Of the driver `local`: type, device, o. None where none were given.
        broken: Why its record can't be used; such a volume is not mounted.
    """

    name: str
    created_ns: int
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None
    broken: str = ""


class _Record(msgspec.Struct, omit_defaults=True):
    """The shape of volume.json."""

    version: int
    name: str
    created_ns: int
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None


_decode = msgspec.json.Decoder(_Record).decode


def make(folder: Path, volume: Volume) -> None:
    """Make a volume's directory with its record: all of it, or nothing.

    Raises:
        OSError: The disk refused.
    """
    draft = folder / f"{NEW}{os.urandom(8).hex()}"
    record = _Record(VERSION, volume.name, volume.created_ns, volume.labels, volume.options)
    try:
        os.mkdir(draft, 0o711)
        os.mkdir(draft / DATA, 0o755)
        descriptor = os.open(draft / RECORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            data = msgspec.json.encode(record)
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.rename(draft, folder / volume.name)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def doomed_place(folder: Path) -> Path:
    """A name that nobody sees, for a volume that is to be deleted."""
    return folder / f"{REMOVED}{os.urandom(8).hex()}"


def load(folder: Path) -> tuple[list[Volume], list[Path]]:
    """Read all records; returns the volumes, and what a death may have left.

    Raises:
        NewerState: A record is of a later version.
    """
    volumes, rest = [], []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith((NEW, REMOVED)):
                rest.append(Path(entry.path))
            elif entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
                log.warning("volume.foreign_file", path=entry.path)
            else:
                volumes.append(_read(Path(entry.path)))
                rest += [Path(entry.path, name) for name in _drafts(entry.path)]
    return volumes, rest


def _drafts(directory: str) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(DRAFT)]


def _read(directory: Path) -> Volume:
    path = directory / RECORD_FILE
    try:
        record = _decode(path.read_bytes())
        if record.version > VERSION:
            raise NewerState(path, record.version)
        if record.name != directory.name:
            raise ValueError(f"it belongs to volume {record.name}")
    except (OSError, ValueError) as error:  # msgspec's and Unicode's errors are ValueErrors
        log.error("volume.unreadable", path=str(path), error=str(error))
        created_ns = directory.stat().st_mtime_ns
        return Volume(directory.name, created_ns, broken=f"its record {path}: {error}")
    return Volume(record.name, record.created_ns, record.labels, record.options)
