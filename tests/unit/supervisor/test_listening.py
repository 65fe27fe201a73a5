"""Socket activation with descriptors passed by hand, and the socket that we bind ourselves."""

import os
import socket
import stat
import subprocess
import sys

import pytest

from supervisor import listening
from supervisor.listening import CannotListen, open_door, passed_sockets


def passed_to(pid, count):
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "api", "A": "b"}


def test_what_was_passed_is_taken_out_of_the_environment():
    environment = passed_to(os.getpid(), 2)
    assert passed_sockets(environment) == [3, 4]
    assert environment == {"A": "b"}


def test_a_count_that_can_not_be_is_not_counted_to_its_end():
    assert len(passed_sockets(passed_to(os.getpid(), 10**18))) == listening.MOST_PASSED


@pytest.mark.parametrize(
    "environment",
    [
        {},
        passed_to(os.getpid() + 1, 1),
        passed_to(os.getpid(), 0),
        passed_to(os.getpid(), -1),
        passed_to(os.getpid(), "many"),
        {"LISTEN_FDS": "1"},
    ],
)
def test_what_was_passed_to_nobody_or_to_others_is_not_ours(environment):
    assert passed_sockets(environment) == []
    assert not set(environment) & {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}


def test_a_passed_socket_is_used_and_left_where_it_is(tmp_path):
    path = tmp_path / "passed.sock"
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(path))
        theirs.listen(1)
        door = open_door(tmp_path / "own.sock", [os.dup(theirs.fileno())])
        assert (door.path, door.ours) == (path, False)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            accepted, _ = door.socket.accept()
            accepted.close()
        with pytest.raises(BlockingIOError):
            door.socket.accept()
        door.close()
        assert path.exists()
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(str(path))


def test_a_second_passed_socket_is_refused_in_words(tmp_path):
    with pytest.raises(CannotListen, match="passes 2 sockets, one is wanted"):
        open_door(tmp_path / "own.sock", [3, 4])


@pytest.mark.parametrize("kind", ["file", "datagram", "deaf", "internet"])
def test_something_else_than_a_listening_stream_is_refused(tmp_path, kind):
    if kind == "file":
        descriptor = os.open(os.devnull, os.O_RDONLY)
    else:
        family = socket.AF_INET if kind == "internet" else socket.AF_UNIX
        made = socket.socket(
            family, socket.SOCK_DGRAM if kind == "datagram" else socket.SOCK_STREAM
        )
        if kind == "internet":
            made.listen()
        descriptor = made.detach()
    try:
        with pytest.raises(CannotListen, match=r"descriptor|something else"):
            open_door(tmp_path / "own.sock", [descriptor])
    finally:
        if kind == "file":
            os.close(descriptor)


def test_our_own_socket_is_for_its_group_alone_and_goes_with_us(tmp_path):
    path = tmp_path / "own.sock"
    path.write_text("left by one that was killed")
    door = open_door(path)
    assert door.ours
    assert stat.S_IMODE(path.stat().st_mode) == listening.SOCKET_MODE
    door.close()
    assert not path.exists()


def test_a_place_that_cant_be_bound_is_told(tmp_path):
    with pytest.raises(CannotListen, match=r"cannot listen on .*own\.sock"):
        open_door(tmp_path / "nowhere" / "own.sock")


CHILD = """
import os, subprocess, sys
from supervisor.listening import passed_sockets
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ["LISTEN_PID"] = str(os.getpid())
print(passed_sockets(os.environ), flush=True)
subprocess.run([sys.executable, "-c", "import os; os.fstat(3)"], close_fds=False)
"""


def test_no_child_of_ours_inherits_the_socket(tmp_path):
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "s"))
        theirs.listen()
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "LISTEN_FDS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "[3]\n"
    assert "Bad file descriptor" in done.stderr
