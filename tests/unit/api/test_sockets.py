"""ByteSocket: what the kernel tells of a connection."""

import socket

import anyio
import pytest

from supervisor.api.sockets import ByteSocket

pytestmark = pytest.mark.anyio


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ByteSocket(ours), theirs
    ours.close()
    theirs.close()


async def test_all_is_taken_once_the_peer_has_read_it(pair):
    ours, theirs = pair
    await ours.taken(0)
    await ours.send(b"head" * 1000)
    async with anyio.create_task_group() as group:
        waiting = anyio.Event()

        async def wait():
            await ours.taken(60)
            waiting.set()

        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not waiting.is_set()
        theirs.recv(1000)
        assert not waiting.is_set()
        theirs.recv(3000)
        await waiting.wait()


async def test_a_peer_that_does_not_read_is_not_waited_for_for_ever(pair):
    ours, _theirs = pair
    await ours.send(b"head")
    await ours.taken(0.01)


async def test_a_peer_that_has_gone_is_not_waited_for(pair):
    ours, theirs = pair
    await ours.send(b"head")
    theirs.close()
    await ours.taken(60)
