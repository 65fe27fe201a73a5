"""Terminals and input on the engine's side: hostile payloads, stuck ones, many clients."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection
from wsproto.events import Request as WebSocketRequest

from tests.real.engine_process import EngineProcess, demultiplexed
from tests.terminal_session import PATIENCE_S

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def engine(request, tmp_path_factory):
    process = EngineProcess(tmp_path_factory.mktemp("engine"), backend=request.param).start()
    process.result("true")  # so that what is opened once is open
    yield process
    process.close()


@pytest.fixture
def kept(engine):
    """What a test has made is removed."""
    before = engine.descriptors()
    yield engine
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1")
    deadline = time.monotonic() + 10
    while engine.descriptors() > tuple(number + 2 for number in before):
        assert time.monotonic() < deadline, "descriptors are left"


class Attached:
    """A raw client of an attachment."""

    def __init__(self, engine, container, query="stream=1&stdin=1&stdout=1&stderr=1"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(engine.socket))
        path = f"/v1.50/containers/{container}/attach?{query}"
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n".encode())
        self.seen = b""
        self.head = b""
        self.head = self.until(b"\r\n\r\n")

    def read(self):
        piece = self.socket.recv(65536)
        self.seen += piece
        return piece

    def until(self, text):
        while text not in self.seen:
            assert self.read(), self.seen
        before, _, self.seen = self.seen.partition(text)
        return before

    def send(self, data):
        self.socket.sendall(data)

    def rest(self):
        """Read to the end."""
        while self.read():
            pass
        return self.seen


@pytest.fixture
def attached(kept):
    opened = []

    def attach(container, *query):
        opened.append(Attached(kept, container, *query))
        return opened[-1]

    yield attach
    for one in opened:
        one.socket.close()


def memory(pid):
    """Bytes of memory that belong to a process alone."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Private_Dirty"))


def test_megabytes_for_one_who_never_reads(kept, attached):
    """The client waits, the engine's memory stays as it is, and others are served."""
    stuck = kept.run("sleep", "999", name="stuck", OpenStdin=True)
    one = attached(stuck)
    one.socket.settimeout(None)
    before = memory(kept.process.pid)
    sent = 0
    one.socket.setblocking(False)
    quiet = 0
    while quiet < 3:
        try:
            sent += one.socket.send(b"x" * 65536)
            quiet = 0
        except BlockingIOError:
            kept.get("/_ping")  # the engine has had its turn
            quiet += 1
    assert sent < 2_000_000
    assert memory(kept.process.pid) - before < 4_000_000
    other = kept.run("cat", name="other", OpenStdin=True, StdinOnce=True)
    two = attached(other)
    two.send(b"served\n")
    assert two.until(b"served\n")[-8:-4] == b"\x01\0\0\0"
    second = attached(stuck)
    second.send(b"also waits")
    assert kept.post(f"/containers/{stuck}/kill").status == 204
    assert kept.wait(stuck) == 137
    one.socket.setblocking(True)
    assert one.rest() == b""
    assert second.rest() == b""


def test_one_who_does_not_read_what_he_is_shown(kept, attached):
    """It is logged, its container ends, others see all of it; he too, when he reads at last."""
    size = 3_000_000
    container = kept.create("sh", "-c", f"yes 0123456789abcde | head -c {size}", name="much")
    slow = attached(container, "stream=1&stdout=1")
    swift = attached(container, "stream=1&stdout=1")
    before = memory(kept.process.pid)
    kept.post(f"/containers/{container}/start")
    expected = b"0123456789abcde\n" * (size // 16)
    assert demultiplexed(swift.rest())[0] == expected
    assert kept.wait(container) == 0
    assert memory(kept.process.pid) - before < 5_000_000
    assert kept.output(container)[0] == expected
    assert demultiplexed(slow.rest())[0] == expected


def test_a_terminal_that_nobody_reads(kept, attached):
    container = kept.run("sh", "-c", "stty raw -echo; echo go; sleep 999", Tty=True, OpenStdin=True)
    one = attached(container)
    one.socket.setblocking(False)
    before = memory(kept.process.pid)
    quiet = sent = 0
    while quiet < 3:
        try:
            sent += one.socket.send(b"x" * 65536)
            quiet = 0
        except BlockingIOError:
            assert kept.get("/_ping").status == 200
            quiet += 1
    assert sent < 2_000_000
    assert memory(kept.process.pid) - before < 4_000_000
    assert kept.post(f"/containers/{container}/resize?h=9&w=9").status == 200


@pytest.mark.parametrize("places", ["", "&places=1"])
def test_output_of_a_terminal(kept, attached, places):
    """Raw for Docker's clients, with frames and places for who asks for these."""
    container = kept.create("sh", "-c", "printf 'a\\nb'; exit 3", Tty=True)
    one = attached(container, f"stream=1&stdout=1&stderr=1{places}")
    kind = b"multiplexed" if places else b"raw"
    assert b"application/vnd.docker.%b-stream" % kind in one.head
    kept.post(f"/containers/{container}/start")
    shown = one.rest()
    if places:
        assert shown.endswith(b"end\n")
        shown = b"".join(payload for stream, payload in frames(shown) if stream == 1)
    assert shown == b"a\r\nb"
    assert kept.get(f"/containers/{container}/logs?stdout=1").body == b"a\r\nb"
    assert demultiplexed(kept.get(f"/containers/{container}/logs?stdout=1&places=1").body[:12])[0]


def frames(data):
    while data:
        stream, size = struct.unpack(">BxxxL", data[:8])
        yield stream, data[8 : 8 + size]
        data = data[8 + size :]


def test_bytes_of_all_kinds_over_a_web_socket(kept):
    """Both ways; who ends his side of the connection has typed all, and gets the rest."""
    container = kept.create("sh", "-c", "cat; exit 4", OpenStdin=True, StdinOnce=True)
    data = os.urandom(500_000)
    protocol = WSConnection(ConnectionType.CLIENT)
    path = f"/v1.50/containers/{container}/attach/ws?stream=1&stdin=1&stdout=1"
    got = b""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect(str(kept.socket))
        sock.sendall(protocol.send(WebSocketRequest(host="x", target=path)))
        protocol.receive_data(sock.recv(65536))
        assert isinstance(next(protocol.events()), AcceptConnection)
        kept.post(f"/containers/{container}/start")
        frames = protocol.send(BytesMessage(data[:1], message_finished=False))
        frames += protocol.send(BytesMessage(data[1:]))
        typing = threading.Thread(
            target=lambda: (sock.sendall(frames), sock.shutdown(socket.SHUT_WR))
        )
        typing.start()
        closed = None
        while closed is None:
            protocol.receive_data(sock.recv(65536))
            for event in protocol.events():
                if isinstance(event, BytesMessage):
                    got += event.data
                else:
                    closed = event
        typing.join()
    assert got == data
    assert closed == CloseConnection(1000, "")
    assert kept.wait(container) == 4


HOSTILE = {
    "gone": "rm /dev/ptmx",
    "a fifo": "rm /dev/ptmx; mkfifo /dev/ptmx",
    "a file": "rm /dev/ptmx; echo hello > /dev/ptmx",
    "a link out": "rm /dev/ptmx; ln -s /proc/1/root/dev/null /dev/ptmx",
    "a link to itself": "rm /dev/ptmx; ln -s /dev/ptmx /dev/ptmx",
    "a directory": "rm /dev/ptmx; mkdir /dev/ptmx",
    "a device": "rm /dev/ptmx; mknod /dev/ptmx c 1 3",
    "all of /dev": "rm -rf /dev/ptmx /dev/tty /dev/console",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_command_where_the_payload_has_replaced_ptmx(kept, what):
    """An exec with a terminal is refused in words, soon, and leaves nothing; others work."""
    victim = kept.run("sh", "-c", f"{HOSTILE[what]}; echo set; sleep 999", name="victim")
    with kept.stream("GET", f"/containers/{victim}/logs?stdout=1&follow=1") as output:
        assert b"set" in output.read(12)
    made = kept.post(f"/containers/{victim}/exec", {"Cmd": ["true"], "Tty": True})
    began = time.monotonic()
    kept.post(f"/exec/{made.json['Id']}/start", {"Detach": False, "Tty": True})
    about = kept.get(f"/exec/{made.json['Id']}/json").json
    assert time.monotonic() - began < 10
    assert about["Running"] is False
    assert about["ExitCode"] not in (0, None)
    made = kept.post(f"/containers/{victim}/exec", {"Cmd": ["echo", "well"], "AttachStdout": True})
    done = kept.post(f"/exec/{made.json['Id']}/start", {"Detach": False})
    assert demultiplexed(done.body)[0] == b"well\n"


@pytest.mark.parametrize("source", ["/dev/null", "/dev/ptmx", "/etc/hostname"])
def test_a_start_where_something_is_mounted_over_ptmx(kept, source):
    """A terminal of the machine's, or none at all, must not be taken for the container's own."""
    container = kept.create("true", Tty=True, HostConfig={"Binds": [f"{source}:/dev/ptmx"]})
    answer = kept.post(f"/containers/{container}/start")
    assert answer.status == 400, answer
    assert "/dev/ptmx" in answer.message
    assert kept.inspect(container)["State"]["Running"] is False


def test_a_payload_that_closes_its_terminal_and_one_that_makes_more(kept, attached):
    container = kept.create(
        *("sh", "-c", "exec </dev/null >/dev/null 2>&1; sleep 0.2; exit 4"), Tty=True
    )
    one = attached(container)
    kept.post(f"/containers/{container}/start")
    assert kept.wait(container) == 4
    one.rest()
    container = kept.run(
        *("script", "-qc", "tty", "/dev/null"), Tty=True, OpenStdin=True, name="nested"
    )
    assert kept.wait(container) == 0
    assert kept.get(f"/containers/{container}/logs?stdout=1").body == b"/dev/pts/1\r\n"


def test_one_that_gives_its_terminal_to_a_grandchild(kept):
    """The init is gone, so all of its pid namespace is; nobody waits for the terminal's end."""
    container = kept.run("sh", "-c", "setsid sleep 999 & echo out; exit 2", Tty=True)
    assert kept.wait(container) == 2
    assert kept.get(f"/containers/{container}/logs?stdout=1").body == b"out\r\n"


def test_much_output_and_its_end_are_logged_once(kept):
    container = kept.run("sh", "-c", "seq 200000", Tty=True)
    assert kept.wait(container) == 0
    expected = b"".join(b"%d\r\n" % number for number in range(1, 200_001))
    assert kept.get(f"/containers/{container}/logs?stdout=1").body == expected


def test_clients_that_come_and_go(kept):
    """Many attach, type and vanish at once: one container, one line of each, nothing left."""
    container = kept.run("sh", "-c", "stty -echo; echo go; cat", Tty=True, OpenStdin=True)
    with kept.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as output:
        assert output.read(4) == b"go\r\n"

        def type_and_go(number):
            one = Attached(kept, container)
            one.send(b"line-%d\n" % number)
            one.until(b"line-%d\r\n" % number)
            one.socket.close()

        typing = [threading.Thread(target=type_and_go, args=(number,)) for number in range(20)]
        for one in typing:
            one.start()
        for one in typing:
            one.join(PATIENCE_S)
    lines = kept.get(f"/containers/{container}/logs?stdout=1").body.split()[1:]
    assert sorted(lines) == sorted(b"line-%d" % number for number in range(20))


def test_last_words_of_a_client_that_leaves(kept):
    """All that it has sent arrives, though it has closed its connection at once."""
    container = kept.create("wc", "-c", OpenStdin=True, StdinOnce=True, AttachStdin=True)
    one = Attached(kept, container, "stream=1&stdin=1")
    kept.post(f"/containers/{container}/start")
    one.send(b"x" * 150_000)
    one.socket.close()
    assert kept.wait(container) == 0
    assert kept.output(container)[0] == b"150000\n"


def test_a_client_that_leaves_is_told(kept, attached):
    container = kept.run("sleep", "999", Tty=True, OpenStdin=True)
    since = time.time()
    keyed, gone = attached(container), attached(container)
    keyed.send(b"\x10\x11")
    assert keyed.rest() == b""
    gone.socket.close()
    deadline = time.monotonic() + PATIENCE_S
    asked = f"/events?since={since}&filters=%7B%22event%22%3A%5B%22detach%22%5D%7D"
    while kept.get(f"{asked}&until={time.time()}").body.count(b"\n") < 2:
        assert time.monotonic() < deadline


def test_input_outlives_the_engine(kept, attached):
    """A pipe and a terminal whose engine is killed: the next one writes to both."""
    pipe = kept.run("cat", name="pipe", OpenStdin=True)
    tty = kept.run("sh", "-c", "stty -echo; echo go; cat", name="tty", Tty=True, OpenStdin=True)
    with kept.stream("GET", f"/containers/{tty}/logs?stdout=1&follow=1") as output:
        assert output.read(4) == b"go\r\n"
    kept.kill()
    kept.start()
    for container, end in ((pipe, b"\n"), (tty, b"\r\n")):
        one = attached(container)
        one.send(b"after\n")
        one.until(b"after" + end)
    assert kept.post(f"/containers/{tty}/resize?h=12&w=34").status == 200
    last = attached(pipe)
    last.socket.shutdown(socket.SHUT_WR)
    last.socket.close()
    assert kept.inspect(pipe)["State"]["Running"]


def test_an_engine_that_ends_leaves_inputs_and_terminals_open(kept, attached):
    pipe = kept.run("cat", name="pipe", OpenStdin=True)
    tty = kept.run("cat", name="tty", Tty=True, OpenStdin=True)
    for one in (attached(pipe), attached(tty)):
        one.send(b"before\n")
        one.until(b"before")
    kept.terminate()
    assert "pump.order_failed" not in kept.log_text()
    kept.start()
    for one in (attached(pipe), attached(tty)):
        one.send(b"after\n")
        one.until(b"after")


def test_ended_input_stays_ended_over_a_death(kept, attached):
    container = kept.run(
        "sh", "-c", "cat; echo eof; read x; sleep 999", OpenStdin=True, StdinOnce=True
    )
    one = attached(container)
    one.send(b"words")
    one.socket.shutdown(socket.SHUT_WR)
    one.until(b"eof\n")
    kept.kill()
    kept.start()
    two = attached(container)
    two.send(b"to nobody")
    with contextlib.suppress(OSError):
        two.socket.shutdown(socket.SHUT_WR)
    assert kept.output(container)[0] == b"wordseof\n"
    kept.post(f"/containers/{container}/kill")
    two.rest()


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("resize?h=x&w=80", 400, "invalid resize"),
        (f"resize?h={'9' * 5000}&w=80", 400, "invalid resize"),
        ("attach?stream=1&stdin=1&detachKeys=nosuch", 400, "invalid detach keys"),
    ],
)
def test_refused(kept, path, status, words):
    kept.run("sleep", "999", name="plain")
    answer = kept.post(f"/containers/plain/{path}")
    assert (answer.status, words in answer.message) == (status, True)
