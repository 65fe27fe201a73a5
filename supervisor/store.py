"""config.json of each container on disk, written atomically.

A write goes to a new file that is renamed over the old one, so a reader (or a supervisor that
starts after a crash) finds the old record or the new one, never half of one. There is no fsync:
the record has to survive our death, not the machine's; after a power cut no container runs.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from supervisor.container import Container, ContainerConfig, Life

CONFIG_FILE = "config.json"


class Record(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The shape of config.json."""

    version: int
    id: str
    name: str
    created_ns: int
    config: ContainerConfig
    life: Life
    log_path: str = ""


class UnreadableRecord(Exception):
    """A config.json can't be used; the text names the file and says what is wrong with it."""


VERSION = 1
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


def save(directory: Path, container: Container) -> None:
    """Write a container's record to `directory`/config.json.

    Raises:
        OSError: The disk refused it; the old record is still there.
    """
    record = Record(
        version=VERSION,
        id=container.id,
        name=container.name,
        created_ns=container.created_ns,
        config=container.config,
        life=container.life,
        log_path=container.log_path,
    )
    target = f"{directory}/{CONFIG_FILE}"
    fresh = f"{target}.new"
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            data = _encoder.encode(record)
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.rename(fresh, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def load(directory: Path) -> Container:
    """Read a container's record.

    Raises:
        UnreadableRecord: The file is missing, torn, foreign, or of a later version.
    """
    path = directory / CONFIG_FILE
    try:
        record = _decoder.decode(path.read_bytes())
    except OSError as error:
        raise UnreadableRecord(f"cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(f"{path} is not a container's record: {error}") from error
    if record.version > VERSION:
        raise UnreadableRecord(
            f"{path} was written by a later mdocker (record version {record.version})"
        )
    if record.id != directory.name:
        raise UnreadableRecord(f"{path} belongs to container {record.id}")
    return Container(
        record.id, record.name, record.config, record.created_ns, record.life, record.log_path
    )
