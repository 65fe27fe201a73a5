"""Who holds a lock file is called back, and nobody who merely has its number."""

import os
import signal
import subprocess

import pytest

from supervisor import holder


@pytest.fixture
def lock(tmp_path):
    descriptor = os.open(tmp_path / "supervisor.lock", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def starting():
    started = []

    def start(**options):
        started.append(subprocess.Popen(["sleep", "1000"], **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def signed(lock, pid, run_dir):
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{pid} {run_dir}\n".encode(), 0)


def test_the_holder_is_called_back(lock, starting, tmp_path):
    process = starting(pass_fds=(lock,))
    signed(lock, process.pid, tmp_path)
    assert holder.call_back(lock, tmp_path)
    assert process.wait(20) == -signal.SIGHUP


def test_nobody_else_is(lock, starting, tmp_path):
    other, elsewhere = starting(), starting(pass_fds=(lock,))
    assert not holder.call_back(lock, tmp_path)  # nobody has signed
    signed(lock, other.pid, tmp_path)
    assert not holder.call_back(lock, tmp_path)  # its number was somebody else's
    signed(lock, elsewhere.pid, tmp_path / "elsewhere")
    assert not holder.call_back(lock, tmp_path)  # an engine of another run directory
    other.kill()
    other.wait()
    signed(lock, other.pid, tmp_path)
    assert not holder.call_back(lock, tmp_path)  # nobody has that number
    assert elsewhere.poll() is None
