"""Attached clients get exact bytes in order, however slow they are."""

import errno
import os
from typing import NamedTuple

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import attachments
from supervisor.attachments import Attachment, Spool


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=40)),
            st.integers(1, 5),
        )
    )
)
def test_a_spool_is_first_in_first_out_whatever_overflows(steps):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachments, "IN_MEMORY", 50)
        patch.setattr(attachments, "_CHUNK", 16)
        spool = Spool(Path(folder))
        put, got = [], []

        def take():
            piece = spool.get()
            if piece is not None:
                got.append(piece)
            return piece

        for step in steps:
            if isinstance(step, int):
                for _ in range(step):
                    take()
            else:
                put.append(step)
                spool.put(*step)
        while take() is not None:
            pass
        spool.close()
        assert os.listdir(folder) == []

    def flat(pieces):
        return [(stream, byte) for stream, data in pieces for byte in data]

    assert flat(got) == flat(put)


@pytest.mark.anyio
async def test_live_pieces_then_the_end(tmp_path):
    attachment, seen = Attachment(tmp_path, frozenset({1})), []

    async def read():
        async for piece in attachment:
            seen.append(piece)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        attachment.feed(1, b"one")
        attachment.feed(2, b"not asked for")
        await anyio.lowlevel.checkpoint()
        attachment.feed(1, b"two")
        attachment.end()
        attachment.feed(1, b"too late")
    assert seen == [(1, b"one"), (1, b"two")]


@pytest.mark.anyio
async def test_a_full_disk_ends_the_attachment_and_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(attachments, "IN_MEMORY", 4)
    monkeypatch.setattr(os, "pwrite", full)
    attachment = Attachment(tmp_path, frozenset({1}))
    attachment.feed(1, b"1234")
    attachment.feed(1, b"5")
    assert "No space left" in attachment.lost
    assert [piece async for piece in attachment] == [(1, b"1234")]
    attachment.close()


@pytest.mark.anyio
async def test_one_who_never_reads_leaves_room_on_the_disk(tmp_path, monkeypatch):
    """And what has waited for him is freed at once, though he is still there."""
    monkeypatch.setattr(attachments, "IN_MEMORY", 4)
    monkeypatch.setattr(attachments, "LOOK_EACH", 8)
    left = [10, 10, 0]
    real = os.fstatvfs(0)
    monkeypatch.setattr(os, "fstatvfs", lambda fd: Room(left.pop(0), real.f_frsize, 100))
    descriptors = os.listdir("/proc/self/fd")
    attachment = Attachment(tmp_path, frozenset({1}))
    attachment.feed(1, b"1234")
    for _ in range(4):
        attachment.feed(1, b"12345")
    assert (attachment.lost, left) == ("", [0])
    attachment.feed(1, b"1")
    assert attachment.lost == "output was lost: No space left on device"
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    attachment.feed(1, b"more")
    assert [piece async for piece in attachment] == [(1, b"1234")]


class Room(NamedTuple):
    """Of what fstatvfs(3) tells: blocks."""

    f_bavail: int
    f_frsize: int
    f_blocks: int
