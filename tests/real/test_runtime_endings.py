"""Exit statuses of processes that are not our children, by each way that the kernel offers."""

import contextlib
import ctypes
import os
import select
import signal
import threading

import pytest

from runtime import endings
from runtime.exit_events import ExitEvents
from runtime.process_stat import start_ticks

SYS_EXIT = 60
PR_SET_CHILD_SUBREAPER = 36


def exits_with_3():
    os._exit(3)


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def leader_goes_first():
    """The first thread ends with 0; the process ends with another thread's 5 (pthread_exit(3))."""
    go = threading.Event()

    def last():
        go.wait()
        os._exit(5)

    threading.Thread(target=last).start()
    go.set()
    ctypes.CDLL(None).syscall(SYS_EXIT, 0)


ENDS = [(exits_with_3, 3 << 8), (is_killed, signal.SIGKILL), (leader_goes_first, 5 << 8)]


class Stranger:
    """A process that is not ours. Its parent is a child of ours that reaps it when told."""

    def __init__(self, end):
        told_r, told_w = os.pipe()
        go_r, self._go = os.pipe()
        reap_r, self._reap = os.pipe()
        self.parent = os.fork()
        if self.parent == 0:
            for fd in (told_r, self._go, self._reap):
                os.close(fd)
            child = os.fork()
            if child == 0:
                os.read(go_r, 1)
                end()
            os.close(go_r)
            os.write(told_w, str(child).encode())
            os.read(reap_r, 1)
            os._exit(0)  # an orphan's zombie goes to whoever reaps orphans
        for fd in (told_w, go_r, reap_r):
            os.close(fd)
        self.pid = int(os.read(told_r, 20))
        os.close(told_r)
        self.ticks = start_ticks(self.pid)
        self.pidfd = os.pidfd_open(self.pid)

    def end(self):
        """Have it end, unreaped."""
        os.close(self._go)
        assert select.select([self.pidfd], [], [], 10)[0]

    def reaped_by_us(self):
        """Have its parent leave it to us, and reap it, as a machine's init does."""
        os.close(self._reap)
        os.waitpid(self.parent, 0)
        assert os.waitpid(self.pid, 0)[0] == self.pid

    def close(self):
        os.close(self.pidfd)


@pytest.fixture(autouse=True)
def subreaper():
    """Orphans of this test come to us, and not to an init that reaps when it likes."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture
def stranger(request):
    found = Stranger(request.param)
    yield found
    found.close()


each_end = pytest.mark.parametrize(
    ("stranger", "status"),
    ENDS,
    indirect=["stranger"],
    ids=lambda one: getattr(one, "__name__", ""),
)


@each_end
def test_of_a_zombie_and_of_one_that_was_reaped(stranger, status):
    def ask():
        return endings.status_of(stranger.pid, stranger.ticks, stranger.pidfd)

    assert not endings.has_ended(stranger.pidfd)
    assert ask() is None
    stranger.end()
    assert endings.has_ended(stranger.pidfd)
    assert ask() == status
    endings.bury(stranger.pidfd)  # it is no child of ours: nothing happens
    assert ask() == status
    stranger.reaped_by_us()
    assert ask() == (status if endings.is_told_after_reaping() else None)


@each_end
def test_by_the_proc_connector(stranger, status):
    with contextlib.closing(ExitEvents()) as ears:
        stranger.end()
        assert ears.wait(stranger.pid, 5) == status
        assert ears.take(stranger.pid) is None  # told once
    stranger.reaped_by_us()


@pytest.mark.parametrize("stranger", [exits_with_3], indirect=True)
def test_another_process_of_the_same_number_is_not_mistaken(stranger):
    stranger.end()
    assert endings._of_zombie(stranger.pid, stranger.ticks + 1) is None
    stranger.reaped_by_us()


def test_of_a_child_of_ours_which_is_reaped_only_when_buried():
    pid = os.fork()
    if pid == 0:
        os._exit(6)
    pidfd = os.pidfd_open(pid)
    assert select.select([pidfd], [], [], 10)[0]
    for _ in range(2):
        assert endings.status_of(pid, 0, pidfd) == 6 << 8
    endings.bury(pidfd)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    os.close(pidfd)


@pytest.mark.parametrize(
    ("release", "expected"),
    [("6.1.0-56-amd64", False), ("6.15.0", True), ("6.18.44-fc-v445", True), ("7.0-rc1", True)],
)
def test_which_kernels_tell_after_reaping(monkeypatch, release, expected):
    names = os.uname_result(("Linux", "box", release, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: names)
    assert endings.is_told_after_reaping() is expected
