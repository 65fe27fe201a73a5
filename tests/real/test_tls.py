"""TCP with client certificates: who gets in, and that all of the API goes through it."""

import contextlib
import http.client
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import time

import pytest
import websocket

from supervisor.api.tls import HANDSHAKE_SECONDS
from tests.certificates import Authority, tls_options
from tests.real.engine_process import CHECKOUT, EngineProcess

LINES = b"".join(b"line %d\n" % number for number in range(20_000))


def host_of(engine):
    """Where its TCP socket is, by its log."""
    ready = [line for line in engine.log_text().splitlines() if '"supervisor.ready"' in line]
    (host,) = json.loads(ready[-1])["hosts"]
    return host


def changes(engine):
    """The lines of its log about changes, which are written behind the answers."""
    assert engine.get("/_ping").status == 200
    lines = [line for line in engine.log_text().splitlines() if '"api.change"' in line]
    return [json.loads(line) for line in lines]


class Place:
    """An engine and certificates for it."""

    def __init__(self, base, backend):
        self.authority = Authority(base / "authority")
        self.files = self.authority.engine()
        self.ada = self.authority.client("ada")
        self.engine = EngineProcess(
            base / "engine", backend=backend, options=tls_options(self.files), respawn=True
        )

    @property
    def port(self):
        return int(host_of(self.engine).rpartition(":")[2])

    def context(self, files):
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if files is not None:
            context.load_cert_chain(files / "cert.pem", files / "key.pem")
        return context

    def ask(self, path="/_ping", files="", method="GET", body=None):
        context = self.context(self.ada if files == "" else files)
        asking = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)
        with contextlib.closing(asking):
            asking.request(method, path, body)
            answer = asking.getresponse()
            return answer.status, answer.read()

    def environment(self, files=None):
        named = files or self.ada
        host = host_of(self.engine)
        return {
            **self.engine.environment,
            "DOCKER_HOST": host,
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(named),
            "MDOCKER_HOST": host,
            "HOME": "/nonexistent",
        }

    def command(self, *words, input=None, files=None):
        done = subprocess.run(
            words,
            input=input,
            env=self.environment(files),
            cwd=CHECKOUT,
            capture_output=True,
            timeout=30,
        )
        return done.returncode, done.stdout, done.stderr

    def ours(self, *words, **more):
        return self.command(sys.executable, "-m", "mdocker", *words, **more)


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def place(request, tmp_path_factory):
    made = Place(tmp_path_factory.mktemp("tls"), request.param)
    made.engine.start()
    yield made
    made.engine.close()


once = pytest.mark.parametrize("place", ["asyncio"], indirect=True, scope="module")
"""What the event loop has no part in."""


def refused(place, files):
    with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
        place.ask(files=files)


def test_only_who_has_a_certificate_of_the_authority_gets_in(place, tmp_path):
    assert place.ask() == (200, b"OK")
    refused(place, None)
    refused(place, Authority(tmp_path / "another").client("ada"))
    if not (place.authority.directory / "server-like").exists():
        place.authority.client("server-like", usage="serverAuth")
    refused(place, place.authority.directory / "server-like")
    with socket.create_connection(("127.0.0.1", place.port), 10) as plain:
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
        assert b"HTTP/1.1" not in plain.recv(1000)
    assert place.ask() == (200, b"OK")


@once
def test_old_tls_is_not_spoken(place):
    context = place.context(place.ada)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", place.port), 10) as plain,
        pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"),  # the engine's word
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


@once
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_each_connection_shows_its_certificate(place, version):
    """No session is gone on with: what was verified for it may not hold any more."""
    context = place.context(place.ada)
    context.minimum_version = context.maximum_version = version
    session = None
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", place.port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as one,
        ):
            one.sendall(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
            assert not one.session_reused
            session = one.session


@pytest.mark.parametrize(
    ("place", "client"),
    [
        ("asyncio", "mdocker"),
        pytest.param(
            "trio",
            "docker",
            marks=pytest.mark.skipif(not shutil.which("docker"), reason="needs the docker CLI"),
        ),
    ],
    indirect=["place"],
    scope="module",
)
def test_all_that_a_command_line_does_goes_through(place, client, tmp_path):
    def run(*words, **more):
        before = (client,) if client == "docker" else (sys.executable, "-m", "mdocker")
        code, out, err = place.command(*before, *words, **more)
        lines = [line for line in err.splitlines(True) if not line.startswith(b"WARNING: networks")]
        return code, out, b"".join(lines)

    name = f"{client}-bird"
    # Half-closed: cat ends with its input, and what it says then has to come.
    assert run("run", "-i", "--rm", "host", "cat", input=LINES) == (0, LINES, b"")
    script = "cat /proc/self/status > /dev/null; echo one; echo two >&2; exec sleep 1000"
    assert run("run", "-d", "--name", name, "host", "sh", "-c", script)[0] == 0
    assert run("exec", name, "sh", "-c", "echo out; echo err >&2; exit 3") == (
        3,
        b"out\n",
        b"err\n",
    )
    assert run("exec", "-i", name, "sh", "-c", "wc -c", input=LINES)[1] == b"%d\n" % len(LINES)
    (tmp_path / "file").write_bytes(LINES)
    assert run("cp", f"{tmp_path}/file", f"{name}:/root/file")[0] == 0
    assert run("cp", f"{name}:/root/file", f"{tmp_path}/back")[0] == 0
    assert (tmp_path / "back").read_bytes() == LINES
    assert run("logs", name) == (0, b"one\n", b"two\n")
    with following(place, client, "logs", "-f", name) as logs:
        assert logs.stdout.readline() == b"one\n"
        with following(place, client, "events") as events:
            # Whoever has begun to listen is told what comes; what was before, if asked for.
            while not select.select([events.stdout], [], [], 0.05)[0]:
                assert run("pause", name)[0] == run("unpause", name)[0] == 0
            assert b"ause" in events.stdout.readline()
        assert run("rm", "-f", name)[0] == 0
        assert logs.wait(20) == 0
    assert run("inspect", name)[0] == 1


@contextlib.contextmanager
def following(place, client, *words):
    before = (client,) if client == "docker" else (sys.executable, "-m", "mdocker")
    process = subprocess.Popen(
        [*before, *words],
        env=place.environment(),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_web_socket_goes_through(place):
    container = place.engine.create("cat", OpenStdin=True, StdinOnce=True)
    files = {"certfile": "cert.pem", "keyfile": "key.pem", "ca_certs": "ca.pem"}
    web = websocket.create_connection(
        f"wss://127.0.0.1:{place.port}/containers/{container}/attach/ws?stream=1&stdin=1&stdout=1",
        sslopt={option: str(place.ada / name) for option, name in files.items()},
        timeout=30,
    )
    with contextlib.closing(web):
        assert place.engine.post(f"/containers/{container}/start").status == 204
        web.send(LINES)
        shown = b""
        while len(shown) < len(LINES):
            shown += web.recv()
        assert shown == LINES
    assert place.engine.wait(container) == 0
    assert place.engine.delete(f"/containers/{container}").status == 204


@once
def test_a_build_and_an_image_go_through(place, busybox_tar):
    assert place.ours("import", "-", "base", input=busybox_tar.read_bytes())[0] == 0
    directory = place.engine.base / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM base\nCOPY file /file\nRUN tail -n1 /file\n")
    (directory / "file").write_bytes(LINES)
    code, out, err = place.ours("build", "-t", "built", str(directory))
    assert code == 0, err
    assert b"line 19999" in out + err
    code, archive, err = place.ours("save", "built")
    assert (code, err) == (0, b"")
    assert place.ours("rmi", "built")[0] == 0
    assert place.ours("load", input=archive)[0] == 0
    assert place.ours("run", "--rm", "built", "cat", "/file")[:2] == (0, LINES)
    assert place.ours("rmi", "built", "base")[0] == 0


def test_a_client_that_leaves_is_noticed(place):
    """Nothing but the end of the connection tells: what it waits for has nothing to say."""
    engine = place.engine
    context = place.context(place.ada)
    waiting = context.wrap_socket(
        socket.create_connection(("127.0.0.1", place.port), 10), server_hostname="127.0.0.1"
    )
    waiting.sendall(b"GET /v1.50/events HTTP/1.1\r\nHost: d\r\n\r\n")
    assert waiting.recv(1000).startswith(b"HTTP/1.1 200")
    with_it = descriptors(engine)
    waiting.close()
    until(lambda: descriptors(engine) <= with_it - 3)


def descriptors(engine):
    return len(os.listdir(f"/proc/{engine.supervisor_pid}/fd"))


def until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@once
def test_the_log_of_changes_names_the_certificate(place):
    assert place.ours("create", "--name", "named", "host", "true")[0] == 0
    assert place.ours("rm", "named")[0] == 0
    created, removed = changes(place.engine)[-2:]
    assert (created["method"], created["status"], created["name"]) == ("POST", 201, "named")
    assert (removed["method"], removed["status"]) == ("DELETE", 204)
    for line in (created, removed):
        assert line["subject"] == "ada"
        assert line["address"].startswith("127.0.0.1:")
        assert "uid" not in line


@once
def test_a_certificate_that_is_refused_is_told(place, tmp_path):
    stranger = Authority(tmp_path / "another").client("eve")
    shutil.copy(place.authority.certificate, stranger / "ca.pem")
    code, _, err = place.ours("ps", files=stranger)
    assert code == 1
    assert b"refuses" in err
    assert b"unknown ca" in err
    code, _, err = place.ours("ps", files=Authority(tmp_path / "third").client("ada"))
    assert code == 1
    assert b"unable to trust the engine at tcp://127.0.0.1" in err
    code, _, err = place.ours("ps", files=tmp_path)
    assert code == 1
    assert b"unable to use --tlscacert" in err


@once
def test_who_begins_no_handshake_keeps_nobody_out(place):
    silent = [socket.create_connection(("127.0.0.1", place.port), 10) for _ in range(300)]
    try:
        began = time.monotonic()
        assert place.ask() == (200, b"OK")
        assert time.monotonic() - began < HANDSHAKE_SECONDS
        assert place.engine.get("/_ping").status == 200
    finally:
        for one in silent:
            one.close()


@once
def test_another_supervisor_has_the_same_port(place):
    engine, port = place.engine, place.port
    script = "echo first; while :; do read line; echo $line; done < /root/said"
    container = engine.create("sh", "-c", f"mkfifo /root/said; exec 3<>/root/said; {script}")
    assert engine.post(f"/containers/{container}/start").status == 204

    def say(word):
        assert place.ours("exec", container, "sh", "-c", f"echo {word} > /root/said")[0] == 0

    with following(place, "mdocker", "logs", "-f", container) as logs:
        assert logs.stdout.readline() == b"first\n"
        assert place.ours("daemon", "--upgrade", "--run-dir", str(engine.run_dir))[0] == 0
        assert place.port == port
        say("second")
        assert logs.stdout.readline() == b"second\n"
        engine.kill()
        # Who comes meanwhile waits in the backlog, that the shim keeps.
        say("third")
        assert logs.stdout.readline() == b"third\n"
        assert place.port == port
        assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_a_supervisor_that_follows_one_does_without_tcp_where_its_files_are_gone(tmp_path):
    """Nobody is there to be told, and containers need it."""
    authority = Authority(tmp_path / "authority")
    files = authority.engine()
    engine = EngineProcess(tmp_path / "engine", options=tls_options(files), respawn=True).start()
    try:
        port = int(host_of(engine).rpartition(":")[2])
        (files / "ca.pem").rename(files / "elsewhere.pem")
        engine.kill()
        assert engine.get("/_ping").status == 200
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)
        assert '"api.no_tls"' in engine.log_text()
    finally:
        (files / "elsewhere.pem").rename(files / "ca.pem")
        engine.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--host", "tcp://127.0.0.1:0"), "add --tlsverify with --tlscacert"),
        (
            ("--host", "tcp://127.0.0.1:0", "--tlsverify", "--tlscacert", "/nonexistent/ca.pem"),
            "cannot use --tlscacert /nonexistent/ca.pem: No such file",
        ),
    ],
)
def test_what_cant_be_meant_is_refused(tmp_path, options, words):
    done = subprocess.run(
        [sys.executable, "-m", "mdocker", "daemon", "--check", *options],
        env={**os.environ, "MDOCKER_ROOT": f"{tmp_path}/r", "MDOCKER_RUN_DIR": f"{tmp_path}/d"},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1
    assert words in done.stderr


def test_a_key_of_another_certificate_is_refused(tmp_path):
    authority = Authority(tmp_path / "authority")
    files = authority.engine()
    shutil.copy(authority.client("ada") / "key.pem", files / "key.pem")
    engine = EngineProcess(tmp_path / "engine", options=tls_options(files))
    with pytest.raises(RuntimeError, match=r"cannot use --tlscert .*KEY_VALUES_MISMATCH"):
        engine.start()
