"""What a service manager is told, over a socket of the test's own."""

import os
import signal
import socket
import subprocess
import sys
import uuid

import anyio
import pytest
import trio.testing

from supervisor.counts import LAG
from supervisor.notify import Manager

AUTOJUMP = ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


@pytest.fixture
def manager_socket(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def told(receiver):
    return receiver.recv(4096).decode().split("\n")


def test_ready_names_the_process_and_says_how_it_goes(manager_socket):
    Manager({"NOTIFY_SOCKET": manager_socket.getsockname()}).ready("3 containers, 2 running")
    assert told(manager_socket) == [
        "READY=1",
        "STATUS=3 containers, 2 running",
        f"MAINPID={os.getpid()}",
    ]


def test_reloading_carries_the_time_that_systemd_compares(manager_socket):
    Manager({"NOTIFY_SOCKET": manager_socket.getsockname()}).reloading()
    first, second, *_ = told(manager_socket)
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_stopping(manager_socket):
    Manager({"NOTIFY_SOCKET": manager_socket.getsockname()}).stopping()
    assert told(manager_socket)[0] == "STOPPING=1"


def test_an_abstract_address():
    name = f"mdocker-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.setblocking(False)
        Manager({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert told(receiver)[0] == "STOPPING=1"


@pytest.mark.parametrize("address", ["/nonexistent/notify", "vsock:2:1234", ""])
def test_a_manager_that_is_not_there_harms_nobody(address):
    manager = Manager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    manager.ready("")
    manager.stopping()


def test_a_manager_that_reads_nothing_does_not_hold_us_for_long(manager_socket, monkeypatch):
    monkeypatch.setattr("supervisor.notify.SEND_LIMIT_S", 0.01)
    manager = Manager({"NOTIFY_SOCKET": manager_socket.getsockname()})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                filler.sendto(b"x", manager_socket.getsockname())
    manager.stopping()
    assert told(manager_socket) == ["x"]


@pytest.mark.parametrize("pid_is_told", [False, True])
@pytest.mark.parametrize("anyio_backend", [AUTOJUMP])
@pytest.mark.anyio
async def test_the_watchdog_hears_us_twice_in_each_interval(manager_socket, pid_is_told):
    environment = {"NOTIFY_SOCKET": manager_socket.getsockname(), "WATCHDOG_USEC": "60000000"}
    if pid_is_told:
        environment["WATCHDOG_PID"] = str(os.getpid())
    manager = Manager(environment)
    samples = LAG.cumulative[-1]
    with anyio.move_on_after(95):
        await manager.watchdog(lambda: "all is well")
    for _ in range(3):
        assert told(manager_socket) == ["WATCHDOG=1", "STATUS=all is well"]
    with pytest.raises(BlockingIOError):
        told(manager_socket)
    assert LAG.cumulative[-1] == samples + 3


@pytest.mark.parametrize(
    "environment",
    [
        {"WATCHDOG_USEC": "60000000"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/x"},
    ],
)
@pytest.mark.anyio
async def test_no_watchdog_no_task(environment):
    with anyio.fail_after(5):
        await Manager(environment).watchdog(lambda: "")


HANGING = """
import os, signal, sys, anyio
from supervisor.notify import Manager
async def main():
    manager = Manager(os.environ)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(manager.watchdog, lambda: "")
        await anyio.sleep(0)
        print("hangs", flush=True)
        signal.pause()
anyio.run(main)
"""


def test_what_the_watchdog_kills_says_where_it_hung(manager_socket):
    """systemd's watchdog sends SIGABRT."""
    environment = {
        **os.environ,
        "NOTIFY_SOCKET": manager_socket.getsockname(),
        "WATCHDOG_USEC": "60000000",
    }
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGABRT)
        _, said = process.communicate()
    assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in said
    assert "in main" in said
