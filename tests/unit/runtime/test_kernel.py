"""The door: errors as the os module would raise them, and calls that need no privileges."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal

import pytest

from runtime import flags, kernel, libc
from runtime.kernel import DOOR, Kernel, wait_status
from runtime.kernel_check import missing


def test_an_error_names_errno_text_and_path():
    with pytest.raises(FileNotFoundError) as failed:
        DOOR.open_tree(b"/no/such", flags.OPEN_TREE_CLONE)
    assert (failed.value.errno, failed.value.filename) == (errno.ENOENT, "/no/such")


def test_a_mount_error_spells_its_flags():
    with pytest.raises(OSError, match=r"\(mount NODEV\|BIND\|REC\)") as failed:
        bits = flags.MS_BIND | flags.MS_REC | flags.MS_NODEV
        DOOR.mount(b"/no/such", b"/no/target", None, bits, None)
    assert failed.value.filename == "/no/target"


def test_try_mount_returns_the_errno():
    assert DOOR.try_mount(b"/no/such", b"/no/target", None, flags.MS_BIND, None) == errno.ENOENT


@pytest.mark.parametrize(
    ("bits", "words"),
    [(0, "0"), (flags.MS_RDONLY, "RDONLY"), (1 << 30, "0x40000000"), (5, "RDONLY|NODEV")],
)
def test_mount_words(bits, words):
    assert flags.mount_words(bits) == words


def test_a_machine_without_numbers_is_named(monkeypatch):
    monkeypatch.setattr(libc, "MACHINE", "pdp11")
    with pytest.raises(NotImplementedError, match="pdp11"):
        libc.number("clone3")
    assert missing() == ["a machine type that is known here (this is pdp11)"]


@pytest.mark.parametrize("renames", [3, None])
def test_a_lookup_during_renames_is_made_again_but_not_for_ever(monkeypatch, renames):
    asked = []

    def openat2(*_arguments):
        asked.append(1)
        if len(asked) == renames:
            return 7
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(libc, "openat2", openat2)
    if renames:
        assert DOOR.openat2(3, b"a/../b", 0, flags.RESOLVE_IN_ROOT) == 7
        assert len(asked) == renames
    else:
        with pytest.raises(BlockingIOError) as failed:
            DOOR.openat2(3, b"a/../b", 0, flags.RESOLVE_IN_ROOT)
        assert failed.value.filename == "a/../b"
        assert len(asked) == 100


def test_tee_duplicates():
    (in_r, in_w), (out_r, out_w) = os.pipe(), os.pipe()
    os.write(in_w, b"twice")
    assert kernel.tee(in_r, out_w, 3, 0) == 3
    assert (os.read(out_r, 9), os.read(in_r, 9)) == (b"twi", b"twice")
    os.set_blocking(in_r, False)
    with pytest.raises(BlockingIOError):
        kernel.tee(in_r, out_w, 3, 2)  # SPLICE_F_NONBLOCK
    for fd in (in_r, in_w, out_r, out_w):
        os.close(fd)


def test_a_sealed_memfd_can_not_be_changed():
    fd = kernel.memfd_sealed("spec", b"for ever")
    assert os.read(fd, 99) == b"for ever"
    for attempt in (
        lambda: os.write(fd, b"x"),
        lambda: os.ftruncate(fd, 1),
        lambda: fcntl.fcntl(fd, 1033, 1),  # F_ADD_SEALS
    ):
        with pytest.raises(PermissionError):
            attempt()
    os.close(fd)


@pytest.mark.parametrize("code", [0, 7, 255])
def test_waiting_by_pidfd(code):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(r, 1)
        os._exit(code)
    pidfd = kernel.pidfd_open(pid)
    assert kernel.wait_pidfd(pidfd) is None
    os.write(w, b"x")
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert os.waitstatus_to_exitcode(kernel.wait_pidfd(pidfd)) == code
    with pytest.raises(ChildProcessError):
        kernel.wait_pidfd(pidfd)
    for fd in (r, w, pidfd):
        os.close(fd)


def test_a_signal_by_pidfd():
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    pidfd = kernel.pidfd_open(pid)
    kernel.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert kernel.wait_pidfd(pidfd) == signal.SIGKILL
    os.close(pidfd)


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (os.CLD_EXITED, 3, 3 << 8),
        (os.CLD_KILLED, 9, 9),
        (os.CLD_DUMPED, 11, 11 | 0x80),
    ],
)
def test_wait_status(code, status, expected):
    assert wait_status(code, status) == expected
    assert os.WCOREDUMP(expected) == (code == os.CLD_DUMPED)


def test_this_kernel_lacks_nothing():
    assert missing() == []


def test_a_call_that_the_kernel_does_not_know_is_named():
    class Ancient(Kernel):
        def clone3(self, clone_flags, cgroup_fd):
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))

        def close_range(self, first, last, bits):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    assert missing(Ancient()) == [
        "clone3 with CLONE_INTO_CGROUP (Linux 5.7)",
        "close_range (Linux 5.9)",
    ]


def test_namespaces_and_file_systems_that_are_missing_are_named(tmp_path):
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/mnt").touch()
    (tmp_path / "filesystems").write_text("nodev\toverlay\n")
    assert missing(proc=tmp_path) == [
        *(f"{name} namespaces" for name in ("pid", "uts", "ipc", "net", "cgroup")),
        "file system tmpfs",
    ]
