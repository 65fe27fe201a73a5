"""What commands print: read to the end, for as long as it is theirs."""

import os

import anyio
import pytest
import trio.testing

from supervisor import exec_output
from supervisor.exec_output import HELD_OPEN_S, LONGEST_PIPE, Patience, drop, pass_on

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Pipe:
    def __init__(self):
        self.read, self.write = os.pipe2(os.O_NONBLOCK)

    def close(self):
        for end in (self.read, self.write):
            if end >= 0:
                os.close(end)

    def end(self):
        os.close(self.write)
        self.write = -1


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    made.close()


class Taken:
    def __init__(self, pause_s=0.0):
        self.data = b""
        self._pause_s = pause_s

    async def __call__(self, piece):
        await anyio.sleep(self._pause_s)
        self.data += piece


async def test_all_comes_in_its_order(pipe):
    taken = Taken()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pass_on, pipe.read, taken, Patience())
        for word in (b"one ", b"two ", b"three"):
            os.write(pipe.write, word)
            await anyio.sleep(1000)  # nobody is impatient while the command runs
        pipe.end()
    assert taken.data == b"one two three"


async def test_an_ended_commands_output_is_waited_for_only_so_long_if_others_hold_it(pipe):
    taken, patience = Taken(), Patience()
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pass_on, pipe.read, taken, patience)
        await anyio.sleep(10)
        patience.has_ended()
        os.write(pipe.write, b"late")
    assert taken.data == b"late"
    assert anyio.current_time() - began == 10 + HELD_OPEN_S
    # Who begins to wait then waits no longer than that.
    await pass_on(pipe.read, taken, patience)
    assert anyio.current_time() - began == 10 + HELD_OPEN_S


async def test_a_slow_reader_gets_all_that_the_command_has_written(pipe):
    patience, taken = Patience(), Taken(pause_s=100.0)
    data = os.urandom(60_000)
    os.write(pipe.write, data)
    patience.has_ended()
    await anyio.sleep(2 * HELD_OPEN_S)
    await pass_on(pipe.read, taken, patience)
    assert taken.data == data


async def test_what_goes_on_for_ever_behind_the_end_is_not_followed(pipe, monkeypatch):
    monkeypatch.setattr(exec_output.os, "read", lambda descriptor, size: b"y" * size)
    patience, taken = Patience(), Taken(pause_s=0.1)
    patience.has_ended()
    await pass_on(pipe.read, taken, patience)
    in_time = HELD_OPEN_S / 0.1 * exec_output.READ_BYTES
    assert LONGEST_PIPE < len(taken.data) <= in_time + LONGEST_PIPE + exec_output.READ_BYTES


async def test_a_terminals_end_is_an_end():
    master, slave = os.openpty()
    os.set_blocking(master, False)
    taken = Taken()
    os.write(slave, b"word")
    os.close(slave)
    await pass_on(master, taken, Patience())
    os.close(master)
    assert taken.data == b"word"


async def test_what_nobody_wants_is_read_to_the_end(pipe):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drop, pipe.read)
        for _ in range(40):
            while True:
                try:
                    os.write(pipe.write, bytes(65536))
                    break
                except BlockingIOError:
                    await anyio.wait_writable(pipe.write)
        pipe.end()
