"""The shim itself: what it keeps, what it hands over, and when it goes."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket

import pytest

from runtime import kernel
from runtime import shim_protocol as protocol
from tests.real.shim_driver import ShimDriver, busybox_tree

POOL = 10
"""Ready network namespaces that come and go, and what making one takes."""


@pytest.fixture(scope="module")
def lower(tmp_path_factory):
    return busybox_tree(tmp_path_factory.mktemp("busybox") / "lower")


@pytest.fixture(params=[True, False], ids=["fast", "python"])
def driver(request, tmp_path, lower):
    driver = ShimDriver(tmp_path, lower, fast=request.param)
    yield driver
    driver.close()


def readable(fd: int, seconds: float = 5) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def test_the_shim_is_detached_and_has_no_stray_descriptors(tmp_path, lower):
    stray = os.dup2(0, 77)
    os.set_inheritable(stray, True)
    driver = ShimDriver(tmp_path, lower)
    try:
        assert os.getsid(driver.pid) == driver.pid
        links = {
            fd: os.readlink(f"/proc/{driver.pid}/fd/{fd}")
            for fd in os.listdir(f"/proc/{driver.pid}/fd")
        }
        assert links["0"] == links["1"] == "/dev/null"
        assert links["2"] == str(driver.run_dir / "shim.log")
        assert "77" not in links
        with open(f"/proc/{driver.pid}/comm") as comm:
            assert comm.read() == "mdocker-shim\n"
        assert (driver.run_dir / "shim.sock").stat().st_mode & 0o777 == 0o600
        assert (driver.run_dir / "shim.pid").read_text() == f"{driver.pid}\n"
    finally:
        driver.close()
        os.close(stray)


def test_a_pidfd_of_the_init_comes_with_spawned(driver):
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    assert not readable(started.pidfd, 0)
    started.kill()
    assert readable(started.pidfd)


def test_nothing_is_left_of_many(driver):
    first = driver.start("true")
    first.exited()
    driver.forget(first)
    driver.adopt()  # its answer comes after the Forget was obeyed
    before = driver.shim_fds()
    for _ in range(40):
        driver.forget(driver.start("true"))
    driver.adopt()
    assert driver.shim_fds() <= before + POOL
    assert driver.children() == set()


def test_many_at_once(driver):
    pending = [driver.send_spawn(driver.spec(f"many{n}", "sleep", "1000")) for n in range(60)]
    for started in pending:
        driver.answer(started)
    assert [started.failure() for started in pending] == [None] * 60
    assert len(driver.children()) == 60
    for started in pending:
        started.kill()
    assert {started.status() for started in pending} == {signal.SIGKILL}


def test_an_id_that_is_held_is_refused(driver):
    started = driver.start("true")
    started.exited()
    again = driver.send_spawn(driver.spec(started.id, "true"))
    refused = driver.receive(protocol.SpawnRefused)
    assert "Forget it first" in refused.message
    again.close()
    driver._started[started.id] = started


def test_a_spec_that_is_no_spec_is_refused_and_leaves_nothing(driver):
    before = driver.shim_fds()
    for data in (b"", b"{}", b"[]", b"\xff", b'{"id":"x"}'):
        fd = kernel.memfd_sealed("spec", data)
        r, w = os.pipe()
        protocol.send(driver.socket, protocol.Spawn("bad", fd, w, w, w, r, r, ()))
        refused = driver.receive(protocol.SpawnRefused)
        assert "spec can't be used" in refused.message
        for end in (fd, r, w):
            os.close(end)
    assert driver.shim_fds() <= before + POOL
    assert driver.children() == set()


def test_a_cgroup_that_is_gone_is_refused(driver):
    spec = driver.spec("homeless", "true")
    driver.cgroups.remove("homeless")
    started = driver.answer(driver.send_spawn(spec))
    assert "open the cgroup" in started.refused.message


def test_no_descriptors_left_is_a_refusal_and_no_leak(driver):
    _, hard = resource.prlimit(driver.pid, resource.RLIMIT_NOFILE)
    # Below the numbers that it has open already, whatever its pool holds.
    resource.prlimit(driver.pid, resource.RLIMIT_NOFILE, (8, hard))
    before = driver.shim_fds()
    for _ in range(20):
        started = driver.start("true")
        assert started.refused.errno == 24
        driver.forget(started)
    driver.adopt()
    assert driver.shim_fds() <= before + POOL
    resource.prlimit(driver.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert driver.run("echo well") == "well\n"


@pytest.mark.parametrize("spare", range(6, 14))
def test_no_descriptors_left_half_way(driver, spare):
    _, hard = resource.prlimit(driver.pid, resource.RLIMIT_NOFILE)
    before = driver.shim_fds()
    resource.prlimit(driver.pid, resource.RLIMIT_NOFILE, (before + spare, hard))
    started = driver.start("true")
    resource.prlimit(driver.pid, resource.RLIMIT_NOFILE, (hard, hard))
    if started.refused:
        assert started.refused.errno == 24
    else:
        assert started.failure() is None
    driver.forget(started)
    driver.adopt()
    assert driver.shim_fds() <= before + POOL
    assert driver.children() == set()


def test_the_shim_outlives_its_supervisor_and_hands_all_over(driver):
    living = driver.start("sh", "-c", "echo from the first; read x; sleep 1000")
    ended = driver.start("sh", "-c", "echo last words; exit 3")
    assert living.failure() is None
    ended.exited()
    r, w = os.pipe()
    protocol.send(driver.socket, protocol.Hold("stage", (r, w)))
    os.write(w, b"staged")
    for end in (r, w):
        os.close(end)
    driver.reconnect()
    adopted, held = driver.adopt()
    assert set(adopted) == {living.id, ended.id}
    one = adopted[living.id]
    assert (one.pid, one.wait_status, one.time_ns) == (living.pid, None, 0)
    assert one.start_ticks > 0
    pidfd, stdout, _ = one.fds
    assert os.read(stdout, 99) == b"from the first\n"
    other = adopted[ended.id]
    assert os.waitstatus_to_exitcode(other.wait_status) == 3
    assert os.read(other.fds[0], 99) == b"last words\n"
    assert os.read(held["stage"].fds[0], 99) == b"staged"
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert living.exited().wait_status == signal.SIGKILL
    for fd in (*one.fds, *other.fds, *held["stage"].fds):
        os.close(fd)
    driver._exits[ended.id] = other
    protocol.send(driver.socket, protocol.Hold("stage", ()))


def test_an_exit_while_nobody_listens_is_kept(driver):
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    driver.socket.close()
    started.kill()
    assert readable(started.pidfd)
    driver.socket = driver.connect()
    # Reaping and this connection may come in either order: the exit is told in one way or other.
    adopted, _ = driver.adopt()
    told = adopted[started.id]
    status = told.wait_status if told.wait_status is not None else started.status()
    assert status == signal.SIGKILL
    for fd in told.fds:
        os.close(fd)
    driver._exits[started.id] = told


def test_a_second_connection_replaces_the_first(driver):
    started = driver.start("sleep", "1000")
    first, driver.socket = driver.socket, driver.connect()
    adopted, _ = driver.adopt()
    assert set(adopted) == {started.id}
    assert protocol.receive(first) is None
    first.close()
    for fd in adopted[started.id].fds:
        os.close(fd)


def test_a_supervisor_that_does_not_read_is_not_waited_for_and_loses_nothing(driver):
    driver.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    pending = [driver.send_spawn(driver.spec(f"deaf{n}", "true")) for n in range(50)]
    protocol.send(driver.socket, protocol.Adopt())
    for _ in range(30):  # answers of two kilobytes and more that nobody takes
        protocol.send(driver.socket, protocol.Adopt())
    adoptions = spawned = 0
    while adoptions < 31 or spawned < 50 or len(driver._exits) < 50:
        message = protocol.receive(driver.socket)
        if isinstance(message, protocol.Spawned):
            spawned += 1
            started = next(one for one in pending if one.id == message.id)
            started.pid, started.pidfd = message.pid, message.pidfd
        elif isinstance(message, protocol.Exited):
            assert message.id not in driver._exits
            driver._exits[message.id] = message
        elif isinstance(message, protocol.Adopted):
            for fd in message.fds:
                os.close(fd)
        elif isinstance(message, protocol.AdoptEnd):
            adoptions += 1
    assert {exited.wait_status for exited in driver._exits.values()} == {0}


@pytest.mark.parametrize("packet", [b"nonsense", b"{}", b'{"t":"Spawn","n":6,"id":"x"}', b"\xff"])
def test_garbage_ends_the_connection_and_harms_nobody(driver, packet):
    started = driver.start("sleep", "1000")
    driver.socket.send(packet)
    assert protocol.receive(driver.socket) is None
    driver.reconnect()
    adopted, _ = driver.adopt()
    assert set(adopted) == {started.id}
    for fd in adopted[started.id].fds:
        os.close(fd)
    (driver.run_dir / "shim.log").write_text("")  # it has complained, as it should


def test_without_containers_it_ends_with_its_supervisor(driver):
    driver.forget(driver.start("true"))
    driver.socket.close()
    assert driver.wait_shim() == 0


def test_quit_is_refused_while_a_container_lives(driver):
    started = driver.start("sleep", "1000")
    protocol.send(driver.socket, protocol.Quit())
    adopted, _ = driver.adopt()
    assert set(adopted) == {started.id}
    for fd in adopted[started.id].fds:
        os.close(fd)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_signals_don_t_end_it_while_a_container_lives(driver, number):
    started = driver.start("sleep", "1000")
    os.kill(driver.pid, number)
    adopted, _ = driver.adopt()
    assert set(adopted) == {started.id}
    for fd in adopted[started.id].fds:
        os.close(fd)


def test_sigterm_ends_it_when_none_lives(driver):
    os.kill(driver.pid, signal.SIGTERM)
    assert driver.wait_shim() == 0


def test_the_limit_of_descriptors_in_a_container(driver):
    assert driver.run("ulimit -Sn; ulimit -Hn").split()[0] == "1024"
