"""No descriptors left, at each number of them: told in words, passing, and nothing stays of it."""

import os
import resource
import socket
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from tests.real.engine_process import (
    NAMESPACES_STORED,
    EngineProcess,
    cgroups_of,
    descriptors_of,
)
from tests.real.test_broken_disk import follow_own_log

MOST = 40
"""A start and its request hold fewer descriptors at once than this."""


@pytest.fixture(params=["asyncio", "trio"])
def engine(tmp_path, request):
    made = EngineProcess(tmp_path / "engine", request.param).start()
    yield made
    made.close()


@contextmanager
def room_for(pid, number):
    """Let a process open so many more descriptors, and no more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    # The limit is on the number of a new descriptor, and new ones fill the gaps first.
    limit = next(
        n for n in range(max(taken) + number + 2) if n - len(taken & set(range(n))) == number
    )
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def held(engine):
    """What supervisor and shim hold, but for connections: earlier clients' may still end.

    And but for the shim's store of network namespaces, which it fills when it is at leisure.
    """
    engine.result("true")
    supervisor, shim = (
        Counter(link.split(":")[0] for link in descriptors_of(pid) if link[:7] != "socket:")
        for pid in (engine.process.pid, engine.shim_pid)
    )
    shim["net"] = max(0, shim["net"] - NAMESPACES_STORED)
    return [supervisor, shim]


def nothing_is_kept(engine, before):
    """Wait until no more is held than before: the shim lets go of much behind its answer."""
    deadline = time.monotonic() + 20
    while any(more := [now - then for now, then in zip(held(engine), before, strict=True)]):
        assert time.monotonic() < deadline, more


def test_at_accept(engine):
    """Who comes waits at the door; containers go on; and it is said once, not each time."""
    counting = engine.run("seq", "1", "300000")
    with room_for(engine.process.pid, 0):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(engine.socket))
        client.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        follow_own_log(engine, "api.cannot_accept")
    with client.makefile("rb") as answer:
        assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
    client.close()
    follow_own_log(engine, "api.accepts_again")
    assert engine.log_text().count("api.cannot_accept") == 1
    assert engine.wait(counting) == 0
    assert engine.output(counting)[0] == b"".join(b"%d\n" % n for n in range(1, 300001))


def test_at_an_end(engine):
    """What is known of an end needs no descriptor, and what does is done when there is one."""
    before = held(engine)
    container = engine.run("sh", "-c", "until [ -e /dev/shm/go ]; do :; done; echo last; exit 7")
    pid = engine.inspect(container)["State"]["Pid"]
    with room_for(engine.process.pid, 0):
        os.close(os.open(f"/proc/{pid}/root/dev/shm/go", os.O_CREAT | os.O_WRONLY))
        follow_own_log(engine, "container.exited")
    assert engine.wait(container) == 7
    assert engine.output(container)[0] == b"last\n"
    assert engine.post(f"/containers/{container}/start").status == 204
    assert engine.delete(f"/containers/{container}?force=1").status == 204
    assert cgroups_of(container) == []
    nothing_is_kept(engine, before)


@pytest.mark.parametrize("who", ["supervisor", "shim"])
def test_at_start(engine, who):
    pid = engine.process.pid if who == "supervisor" else engine.shim_pid
    before = held(engine)
    container = engine.create("sh", "-c", "echo said")
    refused = started = 0
    # One is for the connection itself.
    for number in range(1, MOST):
        with room_for(pid, number):
            answer = engine.post(f"/containers/{container}/start")
        if answer.status == 204:
            started += 1
            assert engine.wait(container) == 0
            if started == 3:
                break
        else:
            refused += 1
            assert answer.status == 500
            assert "oo many open files" in answer.message or "descriptor" in answer.message, answer
            assert engine.inspect(container)["State"]["Status"] in ("created", "exited")
    assert refused > 0
    assert started == 3
    assert engine.output(container)[0] == b"said\n" * started
    nothing_is_kept(engine, before)
