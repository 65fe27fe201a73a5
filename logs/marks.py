"""The pump's memory outside of its process: a mapped file in the run directory.

It outlives a supervisor that is killed, and tells the next one which batch was under way, how long
each log was when its last batch was complete, and the beginning of the line that had not ended yet.
It is meant for tmpfs; it says nothing about a machine that was rebooted, so its boot id is checked.

Layout, all numbers little-endian:

    page 0     magic, boot id, then a note of 32 bytes for each stage: batch, slot number, stream
    group g    at 4096 + g * GROUP_SIZE: one page of 16 slots of 256 bytes, then their unfinished
               lines, 4 * 16 KiB for each slot, untouched (so without memory) until needed

    slot       0 index of the valid side · 1 in use · 2 how the id is stored · 8 id
               40 side 0 · 104 side 1: batch, log size, two times, two lengths, two line buffers,
               the log's inode, how many records of the batch are done where it is not complete
               168 of side 0 · 208 of side 1: bytes of output that were lost in this run, and how
               many of them the log does not tell yet, for each stream

A mark is written to the side that is not valid and becomes valid by the store of one byte, so a
kill at any moment leaves the old mark or the new one.

A rotation marks twice: the old file complete before its name changes, the new one empty once it is
there. So a log whose inode is not the marked one was begun after the mark, and holds nothing that
counts yet; the file before it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import mmap
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from logs.lines import PIECE

PAGE = 4096
SLOT_SIZE = 256
SLOTS_IN_GROUP = PAGE // SLOT_SIZE
LINES_IN_SLOT = 4
GROUP_SIZE = PAGE + SLOTS_IN_GROUP * LINES_IN_SLOT * PIECE
MAX_STAGES = 64
NO_SLOT = 0xFFFFFFFF

_MAGIC = b"mdocker-marks-2\n"
_NOTE = struct.Struct("<QIB")
_NOTES_AT = 64
_NOTE_SIZE = 32
_SIDE = struct.Struct("<QqqqHHBBQI")
_SIDE_AT = (40, 104)
_LOSS = struct.Struct("<QQQ")
_LOSS_AT = (168, 208)
_ID_AT, _ID_SIZE = 8, 32
_PACKED_HEX = 0xFF


@dataclass(frozen=True, slots=True)
class StreamMark:
    """What is remembered of one stream.

    Attributes:
        held: The beginning of the line that had not ended.
        piece_ns: The time of the line's first piece if pieces of it are written already, else 0.
    """

    held: bytes = b""
    piece_ns: int = 0


class Loss(NamedTuple):
    """Output that no log could take, in bytes.

    Attributes:
        total: All of this run's.
        untold_out: What of standard output's is not noted in the log yet.
        untold_err: The same of standard error's.
    """

    total: int = 0
    untold_out: int = 0
    untold_err: int = 0


NO_LOSS = Loss()


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of one container's log after a batch, or at a rotation in the middle of one.

    Attributes:
        batch: Number of the batch.
        size: Size of the log file in bytes.
        streams: Standard output's and standard error's state after the last complete batch.
        inode: Which file that is; 0 where nobody told.
        done: 0 for a complete batch, else how many of its records are in the log.
        loss: What was lost until then.
    """

    batch: int
    size: int
    streams: tuple[StreamMark, StreamMark]
    inode: int = 0
    done: int = 0
    loss: Loss = NO_LOSS


@dataclass(frozen=True, slots=True)
class Note:
    """The batch that a stage has begun last."""

    batch: int
    slot: int
    stream: int


class Slot:
    """One container's place in the mark file."""

    __slots__ = ("_allocated", "_at", "_lines_at", "_map", "container_id", "file", "number")

    def __init__(self, file: MarkFile, mapped: mmap.mmap, number: int, container_id: str) -> None:
        self.file = file
        self.number = number
        self.container_id = container_id
        place = number % SLOTS_IN_GROUP
        self._map = mapped
        self._at = place * SLOT_SIZE
        self._lines_at = PAGE + place * LINES_IN_SLOT * PIECE
        self._allocated: list[int] | None = None

    def write(
        self,
        batch: int,
        size: int,
        index: int,
        held: bytes,
        piece_ns: int,
        loss: Loss = NO_LOSS,
    ) -> None:
        """Mark a batch of stream `index` (0 is standard output) as complete."""
        mapped, at = self._map, self._at
        side = mapped[at]
        old = _SIDE.unpack_from(mapped, at + _SIDE_AT[side])
        _, _, out_ns, err_ns, out_len, err_len, out_buf, err_buf, inode, _ = old
        length, buffer = len(held), (err_buf if index else out_buf)
        if length:
            buffer ^= 1
            if not self._keep(index * 2 + buffer, held):
                length = 0
        if index:
            err_ns, err_len, err_buf = piece_ns, length, buffer
        else:
            out_ns, out_len, out_buf = piece_ns, length, buffer
        side ^= 1
        _SIDE.pack_into(
            mapped,
            at + _SIDE_AT[side],
            batch,
            size,
            out_ns,
            err_ns,
            out_len,
            err_len,
            out_buf,
            err_buf,
            inode,
            0,
        )
        _LOSS.pack_into(mapped, at + _LOSS_AT[side], *loss)
        mapped[at] = side

    def turn(self, size: int, inode: int, batch: int = 0, done: int = 0) -> None:
        """Mark which file the log is now, and how long.

        Args:
            size: Bytes of it that count.
            inode: The file's.
            batch: The batch under way, where some of its records count already.
            done: How many do.
        """
        mapped, at = self._map, self._at
        side = mapped[at]
        old_batch, _, *lines, _, _ = _SIDE.unpack_from(mapped, at + _SIDE_AT[side])
        loss = _LOSS.unpack_from(mapped, at + _LOSS_AT[side])
        side ^= 1
        number = batch if done else old_batch
        _SIDE.pack_into(mapped, at + _SIDE_AT[side], number, size, *lines, inode, done)
        _LOSS.pack_into(mapped, at + _LOSS_AT[side], *loss)
        mapped[at] = side

    def read(self) -> Mark:
        """Give back the last complete mark."""
        side = self._map[self._at] & 1
        batch, size, out_ns, err_ns, out_len, err_len, out_buf, err_buf, inode, done = (
            _SIDE.unpack_from(self._map, self._at + _SIDE_AT[side])
        )
        return Mark(
            batch,
            size,
            (
                StreamMark(self._line(out_buf, out_len), out_ns),
                StreamMark(self._line(2 + err_buf, err_len), err_ns),
            ),
            inode,
            done,
            Loss(*_LOSS.unpack_from(self._map, self._at + _LOSS_AT[side])),
        )

    @property
    def batch(self) -> int:
        """Number of the last batch that was marked."""
        at = self._at + _SIDE_AT[self._map[self._at] & 1]
        return int.from_bytes(self._map[at : at + 8], "little")

    def completed(self, batch: int) -> bool:
        """Whether the last mark is of this batch, and of all of it."""
        mark = self.read()
        return mark.batch == batch and not mark.done

    def release(self) -> None:
        """Give the slot back. Harmless if done twice."""
        self.file.release(self)

    def _line(self, buffer: int, length: int) -> bytes:
        start = self._lines_at + (buffer & 3) * PIECE
        return self._map[start : start + min(length, PIECE)]

    def _keep(self, buffer: int, held: bytes) -> bool:
        """Store an unfinished line. False where the file system has no room for it.

        A store into a page that tmpfs can't provide would be a SIGBUS, so each page is asked for
        first.
        """
        allocated = self._allocated
        if allocated is None:
            allocated = self._allocated = [0] * LINES_IN_SLOT
        start = self._lines_at + buffer * PIECE
        if len(held) > allocated[buffer]:
            wanted = -(-len(held) // PAGE) * PAGE
            if not self.file.allocate(self.number // SLOTS_IN_GROUP, start, wanted):
                return False
            allocated[buffer] = wanted
        self._map[start : start + len(held)] = held
        return True


class MarkFile:
    """The mapped file. One process at a time may write it.

    Attributes:
        full: True once the file system had no room for a mark; what was logged since may be written
            twice or torn after a kill, until there is room again.
    """

    def __init__(self, path: Path | str) -> None:
        """Open or create the file. A file of another boot, or no mark file at all, is begun anew.

        Raises:
            OSError: the file can't be opened, or there is no room for its first page.
        """
        self.path = os.fspath(path)
        self.full = False
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._groups: list[mmap.mmap] = []
        self._used: dict[str, Slot] = {}
        self._free: list[int] = []
        self._lock = threading.Lock()  # each pump thread claims and releases for its own logs
        try:
            self._open()
        except BaseException:
            os.close(self._fd)
            raise
        # One step for the interpreter, so two threads' stages never get the same number.
        self._batches = itertools.count(self._last_batch() + 1)

    def _open(self) -> None:
        identity = _MAGIC + _boot_id()
        if os.pread(self._fd, len(identity), 0) != identity:
            os.ftruncate(self._fd, 0)
            os.posix_fallocate(self._fd, 0, PAGE)
            os.pwrite(self._fd, identity, 0)
        self._head = mmap.mmap(self._fd, PAGE)
        groups = (os.fstat(self._fd).st_size - PAGE) // GROUP_SIZE
        for group in range(groups):
            self._map_group(group)

    def _map_group(self, group: int) -> None:
        mapped = mmap.mmap(self._fd, GROUP_SIZE, offset=PAGE + group * GROUP_SIZE)
        self._groups.append(mapped)
        for place in range(SLOTS_IN_GROUP):
            number = group * SLOTS_IN_GROUP + place
            at = place * SLOT_SIZE
            if not mapped[at + 1]:
                self._free.append(number)
                continue
            raw = mapped[at + _ID_AT : at + _ID_AT + _ID_SIZE]
            kind = mapped[at + 2]
            name = raw.hex() if kind == _PACKED_HEX else raw[:kind].decode("ascii", "replace")
            self._used[name] = Slot(self, mapped, number, name)
        self._free.sort(reverse=True)

    def _last_batch(self) -> int:
        slots = [slot.batch for slot in self._used.values()]
        return max([0, *slots, *(self.note(stage).batch for stage in range(MAX_STAGES))])

    def slots(self) -> list[Slot]:
        """All slots in use."""
        return list(self._used.values())

    def find(self, container_id: str) -> Slot | None:
        """The container's slot, if it has one."""
        return self._used.get(container_id)

    def claim(self, container_id: str, size: int, inode: int = 0) -> Slot:
        """Give the container a slot whose mark says that its log has `size` bytes.

        Raises:
            ValueError: the id is neither hexadecimal of 64 digits nor ASCII of at most 32.
            OSError: no room on the file system (ENOSPC).
        """
        slot = self._used.get(container_id)
        if slot is not None:
            return slot
        kind, raw = _pack_id(container_id)
        with self._lock:
            if not self._free:
                self._grow()
            number = self._free.pop()
            mapped = self._groups[number // SLOTS_IN_GROUP]
            slot = Slot(self, mapped, number, container_id)
            at = number % SLOTS_IN_GROUP * SLOT_SIZE
            mapped[at] = 0
            mapped[at + 2] = kind
            mapped[at + _ID_AT : at + _ID_AT + _ID_SIZE] = raw
            _SIDE.pack_into(mapped, at + _SIDE_AT[0], 0, size, 0, 0, 0, 0, 0, 0, inode, 0)
            _LOSS.pack_into(mapped, at + _LOSS_AT[0], *NO_LOSS)
            mapped[at + 1] = 1
            self._used[container_id] = slot
            return slot

    def release(self, slot: Slot) -> None:
        """Free a slot and the pages of its lines."""
        with self._lock:
            if self._used.get(slot.container_id) is not slot:
                return
            del self._used[slot.container_id]
            mapped = self._groups[slot.number // SLOTS_IN_GROUP]
            place = slot.number % SLOTS_IN_GROUP
            mapped[place * SLOT_SIZE + 1] = 0
            # Not every file system can punch holes; the pages then stay, for the slot's next owner.
            with contextlib.suppress(OSError):
                lines_at = PAGE + place * LINES_IN_SLOT * PIECE
                mapped.madvise(mmap.MADV_REMOVE, lines_at, LINES_IN_SLOT * PIECE)
            self._free.append(slot.number)

    def begin(self, stage: int, slot: Slot, stream: int) -> int:
        """Note that a stage begins a batch of a stream, and number it."""
        batch = next(self._batches)
        _NOTE.pack_into(self._head, _NOTES_AT + stage * _NOTE_SIZE, batch, slot.number, stream)
        return batch

    def begin_unmarked(self, stage: int) -> None:
        """Note that a stage begins a batch that will have no mark: an old note must not count."""
        _NOTE.pack_into(self._head, _NOTES_AT + stage * _NOTE_SIZE, 0, NO_SLOT, 0)

    def note(self, stage: int) -> Note:
        """The batch that the stage began last."""
        return Note(*_NOTE.unpack_from(self._head, _NOTES_AT + stage * _NOTE_SIZE))

    def allocate(self, group: int, start: int, length: int) -> bool:
        """Ask the file system for the pages of `length` bytes at `start` of a group."""
        try:
            os.posix_fallocate(self._fd, PAGE + group * GROUP_SIZE + start, length)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.full = True
            return False
        self.full = False
        return True

    def close(self) -> None:
        """Unmap and close. What was marked stays in the file."""
        for mapped in self._groups:
            mapped.close()
        self._head.close()
        os.close(self._fd)

    def _grow(self) -> None:
        group = len(self._groups)
        start = PAGE + group * GROUP_SIZE
        os.ftruncate(self._fd, start + GROUP_SIZE)
        try:
            os.posix_fallocate(self._fd, start, PAGE)
        except OSError:
            self.full = True
            os.ftruncate(self._fd, start)
            raise
        self._map_group(group)


def _boot_id() -> bytes:
    return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


def _pack_id(container_id: str) -> tuple[int, bytes]:
    if len(container_id) == 64:
        with contextlib.suppress(ValueError):
            raw = bytes.fromhex(container_id)
            if len(raw) == _ID_SIZE and raw.hex() == container_id:
                return _PACKED_HEX, raw
    if not container_id.isascii() or not 0 < len(container_id) <= _ID_SIZE:
        raise ValueError(f"not a container id: {container_id!r}")
    return len(container_id), container_id.encode().ljust(_ID_SIZE, b"\0")
