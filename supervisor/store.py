"""config.json of each container on disk, written atomically.

A write goes to a new file that is renamed over the old one, so a reader (or a supervisor that
starts after a crash) finds the old record or the new one, never half of one. There is no fsync:
the record has to survive our death, not the machine's; after a power cut no container runs.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec

from supervisor import disk
from supervisor.container import Container, ContainerConfig, Life
from supervisor.state_version import VERSION, NewerState

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


_END_OF_TIME_NS = 1 << 63  # in the year 2262


class UnreadableRecord(Exception):
    """A config.json can't be used; the text names the file and says what is wrong with it."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


Next = TypeVar("Next")


class _Versioned(msgspec.Struct):
    """The one field that every version's record has."""

    version: int


def _check_version(path: Path, data: bytes) -> None:
    """Tell a record that we don't understand for being newer from one that nobody would."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if version > VERSION:
        raise NewerState(path, version)


async def make(
    directory: Path,
    container: Container,
    settle: Callable[[], None],
    then: Callable[[], Next],
) -> Next | None:
    """Make a container's directory and its first record; all of it or nothing.

    Args:
        settle: Called in between, maybe in another thread: brings the record up to date.
        then: Called at the end, in the same thread; where the disk refuses that, it is no failure.

    Returns:
        What `then` has returned, if anything.

    Raises:
        OSError: The disk refused.
        DiskHangs: It has not answered for a long time. What it makes after all is deleted.
    """

    def work() -> Next | None:
        try:
            os.mkdir(directory, 0o710)
            os.mkdir(f"{directory}/upper", 0o755)
            os.mkdir(f"{directory}/work", 0o755)
            settle()
            _write(directory, _encoded(container))
        except OSError:
            undo()
            raise
        try:
            return then()
        except OSError:
            return None

    undo = functools.partial(shutil.rmtree, directory, ignore_errors=True)
    return await disk.of(directory.parent).patient(work, late=undo)


async def unmake(directory: Path) -> None:
    """Take back what `make` has made, in a shield: its create has failed after all."""
    with anyio.move_on_after(disk.PATIENCE_S, shield=True):
        delete = functools.partial(shutil.rmtree, directory, ignore_errors=True)
        await disk.of(directory).patient(delete)


def save(directory: Path, container: Container) -> None:
    """Write a container's record to `directory`/config.json.

    A disk that hangs is given up soon (`supervisor/disk.py`); it gets the record as it is then when
    it answers again.

    Raises:
        OSError: The disk refused it; the old record is still there.
        DiskHangs: It has not answered.
    """
    try:
        disk.of(directory).call(functools.partial(_write, directory, _encoded(container)))
    except disk.DiskHangs:
        catch_up(directory, container)
        raise


async def save_patiently(directory: Path, container: Container) -> None:
    """Like `save` for a request that can wait for a slow disk, while other tasks run.

    Cancelled, or given up, it may be written after all; `catch_up` is up to the caller.

    Raises:
        OSError: The disk refused it; the old record is still there.
        DiskHangs: It has not answered for a long time.
    """
    await disk.of(directory).patient(functools.partial(_write, directory, _encoded(container)))


def begin_to_save(
    directory: Path, container: Container, life: Life
) -> Callable[[], Awaitable[None]]:
    """Have a container's record written with this life, which is not its own yet.

    Returns:
        Waits for it; raises as `save_patiently` does.
    """
    data = _encoded(container, life)
    return disk.of(directory).begin(functools.partial(_write, directory, data))


def catch_up(directory: Path, container: Container) -> None:
    """Have the record as it is then written when the disk answers again."""

    def write() -> None:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            _write(directory, _encoded(container))

    disk.of(directory).afterwards(container.id, write)


def _encoded(container: Container, life: Life | None = None) -> bytes:
    return _encoder.encode(
        Record(
            version=VERSION,
            id=container.id,
            name=container.name,
            created_ns=container.created_ns,
            config=container.config,
            life=life or container.life,
            log_path=container.log_path,
        )
    )


def _write(directory: Path, data: bytes) -> None:
    target = f"{directory}/{CONFIG_FILE}"
    fresh = f"{target}.new"
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        finally:
            os.close(descriptor)
        os.rename(fresh, target)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while piece := os.read(descriptor, 65536):
            data += piece
        return data
    finally:
        os.close(descriptor)


def load(directory: Path) -> Container:
    """Read a container's record.

    Raises:
        UnreadableRecord: The file is missing, torn or foreign.
        NewerState: It is of a later version.
    """
    path = f"{directory}/{CONFIG_FILE}"  # a thousand of them are read while clients wait
    try:
        data = _read(path)
    except OSError as error:
        raise UnreadableRecord(f"cannot read {path}: {error.strerror}") from error
    try:
        record = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _check_version(Path(path), data)
        raise UnreadableRecord(f"{path} is not a container's record: {error}") from error
    if record.version > VERSION:
        raise NewerState(Path(path), record.version)
    if record.id != directory.name:
        raise UnreadableRecord(f"{path} belongs to container {record.id}")
    life = record.life
    moments = (record.created_ns, life.started_ns, life.finished_ns, life.restart_at_ns)
    if min(moments) < 0 or max(moments) >= _END_OF_TIME_NS:
        raise UnreadableRecord(f"{path} has a time that can't be, in created_ns or life: {moments}")
    return Container(
        record.id, record.name, record.config, record.created_ns, record.life, record.log_path
    )
