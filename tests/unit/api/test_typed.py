"""What a client types beside what it is shown: keys, ends, and a client that goes away."""

from __future__ import annotations

import os

import anyio
import anyio.lowlevel
import pytest

from supervisor.api import hijacked, typed
from supervisor.api.sockets import ClientGone
from supervisor.stdin import Stdin

pytestmark = pytest.mark.anyio


class FakeStream:
    """What a client sends, piece by piece; b"" is its end, None that its connection broke."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    async def receive(self):
        await anyio.lowlevel.checkpoint()
        if not self.pieces:
            await anyio.sleep_forever()
        piece = self.pieces.pop(0)
        if piece is None:
            raise ClientGone
        return piece


class FakeConnection:
    def __init__(self, *pieces, early=b""):
        self.stream = FakeStream(*pieces)
        self.early = early

    def leftover(self):
        return self.early


def beside(show, connection, target):
    return typed.beside(show, hijacked.typed(connection), target)


class Taking:
    """Where it goes: a pipe."""

    def __init__(self, keys=None):
        self.reader, writer = os.pipe2(os.O_NONBLOCK)
        self.stdin = Stdin(writer, lambda: None)
        self.ends = 0
        self.target = typed.Target(self.opened, keys, self.end)

    async def opened(self):
        return self.stdin

    def end(self):
        self.ends += 1
        self.stdin.end()

    @property
    def got(self):
        try:
            return os.read(self.reader, 1 << 20)
        except BlockingIOError:
            return b""

    def close(self):
        self.stdin.close()
        os.close(self.reader)


@pytest.fixture
async def taking():
    made = []

    def make(*args):
        made.append(Taking(*args))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def until_ended(one):
    await one.target.ended.wait()


async def test_all_of_it_arrives_and_then_its_end(taking):
    one = taking()
    connection = FakeConnection(b"two", b"three", b"", early=b"one")
    assert not await beside(lambda: until_ended(one), connection, one.target)
    assert (one.got, one.ends) == (b"onetwothree", 1)


async def test_a_broken_connection_is_an_end_too(taking):
    one = taking()
    assert not await beside(lambda: until_ended(one), FakeConnection(b"x", None), one.target)
    assert (one.got, one.ends) == (b"x", 1)


async def test_the_keys_leave_and_end_nothing(taking):
    one = taking(b"\x10\x11")
    connection = FakeConnection(b"a\x10", b"b\x10", b"\x11c", b"never")
    assert await beside(anyio.sleep_forever, connection, one.target)
    assert (one.got, one.ends) == (b"a\x10b", 0)
    assert connection.stream.pieces == [b"never"]


async def test_the_end_of_the_output_ends_the_typing(taking):
    one = taking()

    async def show():
        await anyio.wait_all_tasks_blocked()

    assert not await beside(show, FakeConnection(b"x"), one.target)
    assert (one.got, one.ends) == (b"x", 0)


async def test_what_goes_wrong_with_the_output_is_raised_as_it_is(taking):
    async def show():
        raise ClientGone

    with pytest.raises(ClientGone):
        await beside(show, FakeConnection(), taking().target)


async def test_what_nobody_reads_is_thrown_away(taking):
    """The client must not be stopped in its sending: it might wait with its reading, too."""
    one = taking()
    one.stdin.close()
    connection = FakeConnection(*[b"x" * 65536] * 50, b"")
    assert not await beside(lambda: until_ended(one), connection, one.target)
    assert connection.stream.pieces == []


async def test_who_ended_before_anybody_could_type():
    async def opened():
        return None

    connection = FakeConnection(b"x")
    target = typed.Target(opened, None, lambda: None)
    assert not await beside(target.ended.wait, connection, target)
    assert connection.stream.pieces == [b"x"]


async def test_a_slow_one_holds_nothing_but_its_last_piece(taking):
    one = taking()
    connection = FakeConnection(*[b"x" * 65536] * 50)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beside, anyio.sleep_forever, connection, one.target)
        await anyio.wait_all_tasks_blocked()
        assert len(connection.stream.pieces) == 48  # one in the pipe, one in hand
        tasks.cancel_scope.cancel()
    assert one.ends == 0
