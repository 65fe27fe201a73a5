"""A container's input: a pipe that many write to, one at a time, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import os
import socket

import anyio
import pytest

from runtime import terminal
from runtime.kernel import Kernel
from supervisor.stdin import Stdin, receive_terminal

pytestmark = pytest.mark.anyio


@pytest.fixture
def pipe():
    """(the container's end, ours), the second one handed over."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield reader, writer
    with contextlib.suppress(OSError):  # where the test has closed it
        os.close(reader)


async def test_what_is_written_arrives_whole_and_in_turn(pipe):
    reader, writer = pipe
    stdin = Stdin(writer, lambda: None)
    pieces = [bytes([65 + number]) * 200_000 for number in range(4)]
    got = b""
    async with anyio.create_task_group() as tasks:
        for piece in pieces:
            tasks.start_soon(stdin.write, piece)
        while len(got) < 800_000:
            await anyio.wait_readable(reader)
            got += os.read(reader, 65536)
    # Each in one piece: nobody writes into another's.
    assert sorted(got[at : at + 200_000] for at in range(0, 800_000, 200_000)) == pieces
    stdin.close()


async def test_who_waits_to_write_is_woken_by_the_close(pipe):
    _, writer = pipe
    stdin = Stdin(writer, lambda: None)
    answers = []

    async def write(data):
        answers.append(await stdin.write(data))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, b"x" * 1_000_000)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(write, b"y")
        await anyio.wait_all_tasks_blocked()
        assert answers == []
        stdin.close()
    assert answers == [False, False]
    assert stdin.fd == -1
    stdin.close()


async def test_nobody_reads_any_more(pipe):
    reader, writer = pipe
    stdin = Stdin(writer, lambda: None)
    os.close(reader)
    assert not await stdin.write(b"x")
    stdin.close()
    assert not await stdin.write(b"x")


async def test_the_end_is_told_to_other_holders_first(pipe):
    reader, writer = pipe
    kept = os.dup(writer)
    stdin = Stdin(writer, lambda: os.close(kept))
    assert await stdin.write(b"all")
    stdin.end()
    assert os.read(reader, 10) == b"all"
    assert os.read(reader, 10) == b""
    stdin.end()  # kept would be closed twice: EBADF


async def test_a_cancelled_write_lets_the_next_one_write(pipe):
    reader, writer = pipe
    stdin = Stdin(writer, lambda: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stdin.write, b"x" * 1_000_000)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    while True:
        try:
            os.read(reader, 65536)
        except BlockingIOError:
            break
    assert await stdin.write(b"next")
    assert os.read(reader, 10) == b"next"
    stdin.close()


@pytest.fixture
def console():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    ours.close()
    theirs.close()


async def test_a_terminal_is_received_as_often_as_somebody_looks(console):
    ours, theirs = console
    master, slave = os.openpty()
    found = []
    async with anyio.create_task_group() as tasks:

        async def receive():
            found.append(await receive_terminal(ours.fileno()))

        tasks.start_soon(receive)
        await anyio.wait_all_tasks_blocked()
        terminal.hand_out(theirs.fileno(), master)
    theirs.close()
    os.close(master)
    found.append(await receive_terminal(ours.fileno()))
    os.write(slave, b"hello")
    assert [os.get_blocking(fd) for fd in found] == [False, False]
    assert os.read(found[1], 10) == b"hello"
    terminal.resize(found[0], 33, 44)
    assert os.get_terminal_size(slave) == (44, 33)
    for fd in (*found, slave):
        os.close(fd)


async def test_a_child_that_ends_without_a_terminal(console):
    ours, theirs = console
    theirs.close()
    with pytest.raises(OSError, match="no terminal was handed out"):
        await receive_terminal(ours.fileno())


@pytest.mark.parametrize("what", ["a pipe", "a slave", "nothing", "other words"])
async def test_what_is_no_terminal_is_not_taken_for_one(console, what):
    ours, theirs = console
    before = len(os.listdir("/proc/self/fd"))
    master, slave = os.openpty()
    reader, writer = os.pipe()
    rights = {"a pipe": [writer], "a slave": [slave], "other words": [master]}.get(what, [])
    words = b"terminus" if what == "other words" else terminal.MESSAGE
    socket.send_fds(theirs, [words], rights)
    for fd in (master, slave, reader, writer):
        os.close(fd)
    with pytest.raises(OSError, match="no terminal was handed out"):
        terminal.look(ours.fileno())
    assert len(os.listdir("/proc/self/fd")) == before


def test_made_in_a_dev_of_ones_own():
    master, slave, number = terminal.make(Kernel(), (24, 80))
    try:
        assert terminal.is_master(master)
        assert os.ttyname(slave) == f"/dev/pts/{number}"
        assert os.get_terminal_size(slave) == (80, 24)
    finally:
        os.close(master)
        os.close(slave)
