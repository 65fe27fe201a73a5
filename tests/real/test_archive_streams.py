"""Archives of containers whose clients are slow or vanish, and whose helpers or engines die."""

import contextlib
import os
import select
import signal
from urllib.parse import quote

import pytest

from tests.real.archives import TAR, at, helpers_of, packed, put, started, stat_of
from tests.real.conftest import our_mounts
from tests.real.engine_process import EngineProcess, UnixConnection


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def engine(request, tmp_path_factory):
    process = EngineProcess(tmp_path_factory.mktemp("engine"), backend=request.param).start()
    yield process
    process.close()


def helpers(engine):
    """The processes that look into containers of this engine, by pid."""
    return helpers_of(engine.supervisor_pid)


def await_end_of(pids):
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([pidfd], [], [], 10)[0]
        finally:
            os.close(pidfd)


@pytest.fixture
def big(engine, busybox):
    """Has a file that fills all pipes and sockets on its way; it runs."""
    script = "dd if=/dev/zero of=/big bs=1M count=24 2>/dev/null; echo ready; exec sleep 999"
    with started(engine, "sh", "-c", script, image=busybox) as container:
        yield container


def test_a_slow_client_holds_up_nobody_and_a_vanished_one_leaves_nothing(engine, big):
    with engine.stream("GET", at(big, "/big")) as slow:
        assert slow.read(10)
        (helper,) = helpers(engine)
        assert put(engine, big, "/", packed({"other": b""})).status == 200
        assert stat_of(engine, big, "/other")["size"] == 0
        assert engine.post(f"/containers/{big}/kill").status == 204
        engine.wait(big)
        assert engine.post(f"/containers/{big}/start").status == 204
        assert helpers(engine) == [helper]
    await_end_of([helper])
    engine.post(f"/containers/{big}/kill")
    engine.wait(big)
    with engine.stream("GET", f"/containers/{big}/export") as slow:
        assert slow.read(10)
        pids = helpers(engine)
        assert our_mounts(str(engine.base)) == set()
    await_end_of(pids)
    assert engine.get(f"/containers/{big}/json").status == 200


class Upload:
    """A PUT whose body goes on until it is ended."""

    def __init__(self, engine, container, path):
        self.connection = UnixConnection(engine.socket)
        self.connection.connect()
        self.socket = self.connection.sock
        head = f"PUT /v1.50{at(container, path)} HTTP/1.1\r\nHost: d\r\n"
        self.socket.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        self.send(packed({"begun": b""})[:512])

    def send(self, data):
        self.socket.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self):
        self.socket.sendall(b"0\r\n\r\n")

    def answer(self):
        return self.socket.makefile("rb").readline()

    def close(self):
        self.socket.close()


def await_helper(engine):
    """Until an upload has come as far as its helper: events would tell only of its end."""
    while not (found := helpers(engine)):
        engine.get("/_ping")
    return found


def test_a_start_waits_for_an_upload_and_a_removal_ends_it(engine, busybox):
    container = engine.create("true", image=busybox)
    upload = Upload(engine, container, "/tmp")
    await_helper(engine)
    starting = UnixConnection(engine.socket)
    starting.request("POST", f"/v1.50/containers/{container}/start")
    assert engine.inspect(container)["State"]["Status"] == "created"
    upload.end()
    assert b" 200 " in upload.answer()
    assert starting.getresponse().status == 204
    starting.close()
    upload.close()
    engine.wait(container)

    upload = Upload(engine, container, "/tmp")
    pids = await_helper(engine)
    assert engine.delete(f"/containers/{container}").status == 204
    assert b" 409 " in upload.answer()
    upload.close()
    await_end_of(pids)


def test_an_upload_whose_client_vanishes_is_over(engine, busybox):
    container = engine.create("true", image=busybox)
    upload = Upload(engine, container, "/tmp")
    pids = await_helper(engine)
    upload.close()
    await_end_of(pids)
    assert engine.post(f"/containers/{container}/start").status == 204
    engine.wait(container)
    engine.delete(f"/containers/{container}")


def test_helpers_end_with_their_engine(fresh_engine, busybox_tar):
    engine = fresh_engine
    engine.request("POST", "/images/create?fromSrc=-&repo=busybox", busybox_tar.read_bytes(), TAR)
    container = engine.create("true", image="busybox")
    upload = Upload(engine, container, "/tmp")
    await_helper(engine)
    with engine.stream("GET", at(container, "/bin")) as stream:
        assert stream.read(10)
        pids = helpers(engine)
        engine.kill()
        await_end_of(pids)
    upload.close()
    assert our_mounts(str(engine.base)) == set()
    engine.start()
    assert engine.post(f"/containers/{container}/start").status == 204
    assert engine.wait(container) == 0


def test_a_helper_that_is_killed_is_told_and_reaped(engine, big):
    upload = Upload(engine, big, "/tmp")
    (pid,) = await_helper(engine)
    os.kill(pid, signal.SIGKILL)
    upload.end()
    assert b" 500 " in upload.answer()
    upload.close()
    await_end_of([pid])
    assert helpers(engine) == []
    assert put(engine, big, "/tmp", packed({"again": b""})).status == 200


def await_restarts(engine, container):
    """Until it has ended for good; returns how often it was restarted."""
    while engine.inspect(container)["State"]["Status"] != "exited":
        engine.wait(container)
    return engine.inspect(container)["RestartCount"]


def test_an_upload_holds_up_no_restarts_but_its_containers(engine, busybox):
    """There are two lanes for restarts; a container that waits for an upload is in neither."""
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2, "DelayMs": 1}}
    payload = "mkdir /once 2>/dev/null || exit 1; trap 'exit 1' USR1; echo up; sleep 1000 & wait"
    died = quote('{"event":["die"]}')
    with contextlib.ExitStack() as stack:
        uploads = {}
        for number in range(3):
            one = engine.run("sh", "-c", payload, image=busybox, HostConfig=policy)
            with engine.stream("GET", f"/containers/{one}/logs?stdout=1&follow=1") as logs:
                assert logs.read(8 + len("up\n"))
            uploads[one] = Upload(engine, one, "/tmp")
            stack.callback(uploads[one].close)
            while len(helpers(engine)) <= number:
                engine.get("/_ping")
            with engine.stream("GET", f"/events?filters={died}") as events:
                assert engine.post(f"/containers/{one}/kill?signal=USR1").status == 204
                assert events.readline()
        other = engine.run("false", image=busybox, HostConfig=policy)
        assert await_restarts(engine, other) == 2
        for one, upload in uploads.items():
            assert engine.inspect(one)["State"]["Status"] == "restarting"
            upload.end()
            assert b" 200 " in upload.answer()
            assert await_restarts(engine, one) == 2
        for one in (*uploads, other):
            engine.delete(f"/containers/{one}")
