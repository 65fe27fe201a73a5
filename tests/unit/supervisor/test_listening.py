"""Socket activation with descriptors passed by hand, and the socket that we bind ourselves."""

import grp
import os
import socket
import stat
import subprocess
import sys

import pytest

from supervisor import access
from supervisor import listening as listening_module
from supervisor.inherited import Inherited, passing
from supervisor.listening import CannotListen, open_doors, passed_sockets


def open_door(path, passed=(), **options):
    """The only one."""
    (door,) = open_doors(path, access.AccessOptions(**options), passed)
    return door


def passed_to(pid, count):
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "api", "A": "b"}


def test_what_was_passed_is_taken_out_of_the_environment():
    environment = passed_to(os.getpid(), 2)
    assert passed_sockets(environment) == [3, 4]
    assert environment == {"A": "b"}


def test_a_count_that_can_not_be_is_not_counted_to_its_end():
    assert len(passed_sockets(passed_to(os.getpid(), 10**18))) == listening_module.MOST_PASSED


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


def listening(family=socket.AF_UNIX, address=("127.0.0.1", 0)):
    made = socket.socket(family)
    made.bind(str(address) if family == socket.AF_UNIX else address)
    made.listen()
    return made


def test_a_passed_socket_that_nobody_has_named_is_refused_in_words(tmp_path):
    main, other = listening(address=tmp_path / "m"), listening(socket.AF_INET)
    with pytest.raises(CannotListen, match=r"nobody has named, tcp://127\.0\.0\.1:\d+: take"):
        open_doors(tmp_path / "own.sock", access.AccessOptions(), [main.detach(), other.detach()])


def test_passed_sockets_are_told_apart_by_where_they_are(tmp_path):
    paths = tmp_path / "m", tmp_path / "more.sock"
    main, more = (listening(address=path) for path in paths)
    tcp = listening(socket.AF_INET)
    name, port = tcp.getsockname()
    options = access.checked(
        [f"unix://{paths[1]}", f"tcp://{name}:{port}", f"unix://{tmp_path}/our-own.sock"],
        tlsverify=True,
        files=("a", "b", "c"),
    )
    passed = [tcp.detach(), more.detach(), main.detach()]
    doors = open_doors(tmp_path / "elsewhere.sock", options, passed)
    assert [door.host for door in doors] == [
        f"unix://{paths[0]}",
        f"unix://{paths[1]}",
        f"tcp://{name}:{port}",
        f"unix://{tmp_path}/our-own.sock",
    ]
    assert [(door.ours, door.tls) for door in doors] == [
        (False, False),
        (False, False),
        (False, True),
        (True, False),
    ]
    for door in doors:
        door.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m", "more.sock"]


def test_a_successor_finds_each_of_its_predecessors_sockets(tmp_path):
    options = access.checked(
        ["tcp://127.0.0.1:0", f"unix://{tmp_path}/more.sock"], tlsverify=True, files=("a",) * 3
    )
    doors = open_doors(tmp_path / "own.sock", options)
    lock = os.open(tmp_path, os.O_RDONLY)
    told = passing(doors, locks=[lock])
    before = [(door.host, door.socket.fileno()) for door in doors]
    for door in doors:
        door.socket.detach()
    inherited = Inherited({"MDOCKER_INHERITED": told})
    again = open_doors(tmp_path / "own.sock", options, (), inherited.listener)
    assert [(door.host, door.socket.fileno()) for door in again] == before
    assert inherited.lock(tmp_path) == lock
    inherited.close()
    os.fstat(lock)
    os.close(lock)
    for door in again:
        door.close()
    assert list(tmp_path.iterdir()) == []


def test_a_successor_goes_on_without_a_host_that_it_can_not_have(tmp_path):
    hosts = [
        f"tcp://{'n' * 64}:1",
        f"unix://{tmp_path}/gone/d.sock",
        f"unix://{tmp_path}/d.sock",
    ]
    options = access.checked(hosts, tlsverify=True, files=("a",) * 3)
    with pytest.raises(CannotListen, match="no name of a machine"):
        open_doors(tmp_path / "own.sock", options)
    told = []
    doors = open_doors(tmp_path / "own.sock", options, left_out=told.append)
    assert [door.path.name for door in doors] == ["own.sock", "d.sock"]
    assert len(told) == 2
    for door in doors:
        door.close()
    with pytest.raises(CannotListen, match="cannot listen on"):  # but never without its own
        open_doors(tmp_path / "gone/own.sock", access.AccessOptions(), left_out=told.append)


def test_an_inherited_socket_that_is_no_host_any_more_is_closed(tmp_path):
    doors = open_doors(
        tmp_path / "own.sock",
        access.checked(["tcp://127.0.0.1:0"], tlsverify=True, files=("a",) * 3),
    )
    inherited = Inherited({"MDOCKER_INHERITED": passing(doors, locks=[])})
    port = doors[1].address
    for door in doors:
        door.socket.detach()
    again = open_door_of(tmp_path, inherited)
    inherited.close()
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(port)
    again.close()


def open_door_of(tmp_path, inherited):
    (door,) = open_doors(tmp_path / "own.sock", access.AccessOptions(), (), inherited.listener)
    return door


def test_a_socket_elsewhere_is_not_taken_from_who_listens_there(tmp_path):
    path = tmp_path / "docker.sock"
    options = access.checked([f"unix://{path}"])
    dockerd = listening(address=path)
    with pytest.raises(CannotListen, match="another program listens there"):
        open_doors(tmp_path / "own.sock", options)
    dockerd.close()  # killed: its socket is still there
    doors = open_doors(tmp_path / "own.sock", options)
    path.unlink()
    somebody_elses = listening(address=path)
    for door in doors:
        door.close()
    assert path.is_socket()
    somebody_elses.close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(CannotListen, match="there already, and no socket"):
        open_doors(tmp_path / "own.sock", options)
    assert path.read_text() == "precious"


def test_nothing_of_several_is_left_where_one_cant_be_had(tmp_path):
    taken = listening(socket.AF_INET)
    name, port = taken.getsockname()
    options = access.checked([f"tcp://{name}:{port}"], tlsverify=True, files=("a",) * 3)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CannotListen, match=r"cannot listen on tcp://127.*in use"):
        open_doors(tmp_path / "own.sock", options)
    assert len(os.listdir("/proc/self/fd")) == before
    taken.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives sockets to groups")
def test_the_sockets_belong_to_the_group_that_is_named(tmp_path):
    more = f"unix://{tmp_path}/more.sock"
    for group, number in (("daemon", grp.getgrnam("daemon").gr_gid), ("4711", 4711), ("", 0)):
        doors = open_doors(tmp_path / "own.sock", access.checked([more], group=group))
        for door in doors:
            found = door.path.stat()
            assert (found.st_uid, found.st_gid) == (0, number)
            assert stat.S_IMODE(found.st_mode) == listening_module.SOCKET_MODE
            door.close()
    with pytest.raises(CannotListen, match='"nosuchgroup" for "--group": there is no such group'):
        open_door(tmp_path / "own.sock", group="nosuchgroup")


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
        with pytest.raises(CannotListen, match=r"descriptor|something else|nobody has named"):
            open_door(tmp_path / "own.sock", [descriptor])
    finally:
        if kind == "file":
            os.close(descriptor)


def test_our_own_socket_is_for_its_group_alone_and_goes_with_us(tmp_path):
    path = tmp_path / "own.sock"
    path.write_text("left by one that was killed")
    door = open_door(path)
    assert door.ours
    assert stat.S_IMODE(path.stat().st_mode) == listening_module.SOCKET_MODE
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
