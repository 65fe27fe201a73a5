"""A supervisor of the test's own, in directories of its own, and a plain client for it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from supervisor import store

CHECKOUT = Path(__file__).parents[2]

NAMESPACES_STORED = 8 + 1
"""Network namespaces that a shim has at most, with its own (`runtime.shim`)."""


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Answer:
    """Status, headers and body of one response."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json["message"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class EngineProcess:
    """`mdocker daemon` with a root and run-dir of its own.

    Attributes:
        roots: Those of all that this process has made, also where the directory is gone by now.
        before: Words of a command that executes the daemon, such as `unshare`.
    """

    roots: ClassVar[set[Path]] = set()
    before: tuple[str, ...] = ()

    def __init__(self, base, backend="asyncio", root=None, respawn=False, options=()):
        self.base = Path(base)
        self.root = Path(root) if root else self.base / "root"
        self.roots.add(self.root)
        self.run_dir = self.base / "run"
        self.backend = backend
        self.respawn = respawn
        self.options = options
        self.process = None

    @property
    def socket(self):
        return self.run_dir / "mdocker.sock"

    @property
    def environment(self):
        """For command lines: which engine is meant, and where our packages are."""
        return {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "MDOCKER_ROOT": str(self.root),
            "MDOCKER_RUN_DIR": str(self.run_dir),
            "DOCKER_HOST": f"unix://{self.socket}",
            "NO_COLOR": "1",
            # No test reaches a registry of the world, and loopback needs no proxy.
            "HTTPS_PROXY": "http://127.0.0.1:1",
        }

    def start(self):
        """Start it; returns once its socket listens.

        Raises:
            RuntimeError: It refused; the text is what it said.
        """
        self.base.mkdir(parents=True, exist_ok=True)
        ready_r, ready_w = os.pipe()
        with (self.base / "supervisor.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.before,
                    *(sys.executable, "-m", "mdocker", "daemon"),
                    *("--root", str(self.root), "--run-dir", str(self.run_dir)),
                    *("--backend", self.backend, "--ready-fd", str(ready_w), "--debug"),
                    *(() if self.respawn else ("--no-respawn",)),
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(ready_w,),
                env=self.environment,
                cwd="/",
            )
        os.close(ready_w)
        with os.fdopen(ready_r, "rb") as ready:
            told = ready.read()
        if told != b"ready\n":
            self.process.wait()
            raise RuntimeError(told.decode() or self.log_text())
        return self

    def spawn(self, *words):
        """Start a command line against it; returns the process, with its output in pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "mdocker", *words],
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextlib.contextmanager
    def spawning(self):
        """Gives `spawn`; what it has started ends with the block."""
        started = []

        def start(*words):
            started.append(self.spawn(*words))
            return started[-1]

        try:
            yield start
        finally:
            for process in started:
                if process.poll() is None:
                    process.kill()
                process.communicate()

    def log_text(self):
        """The supervisor's own log."""
        return (self.base / "supervisor.log").read_text()

    @property
    def supervisor_pid(self):
        """The one that lives now, or lived last: with respawn not always our child."""
        return int((self.run_dir / "supervisor.pid").read_text())

    def terminate(self):
        """SIGTERM, and wait for a clean end; containers live on."""
        if self.process.poll() is not None:
            pidfd = os.pidfd_open(self.supervisor_pid)
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                assert select.select([pidfd], [], [], 30)[0], self.log_text()[-3000:]
            finally:
                os.close(pidfd)
            return
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log_text()[-3000:]

    def swept(self):
        """Wait until what a death has left half-made is gone: it is removed behind the start."""
        end = time.monotonic() + 30
        while left := list((self.root / "images/staging").iterdir()):
            assert time.monotonic() < end, left
            time.sleep(0.01)

    def kill(self):
        """kill -9, and wait for the end of that process. With respawn, another starts by itself;
        the socket stays open, so the next request just waits for it."""
        pid = self.supervisor_pid if self.respawn else self.process.pid
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], 30)[0]
        finally:
            os.close(pidfd)
        if pid == self.process.pid:
            self.process.wait()

    def close(self):
        """Remove every container, end supervisor and shim."""
        if self.process.poll() is not None and not (self.respawn and self.answers()):
            self.start()
        for container in self.get("/containers/json?all=1").json:
            self.delete(f"/containers/{container['Id']}?force=1")
        self.terminate()

    def answers(self):
        """Whether a supervisor answers, be it after a while."""
        try:
            return self.get("/_ping").status == 200
        except OSError:
            return False

    @property
    def shim_pid(self):
        return int((self.run_dir / "shim.pid").read_text())

    def request(self, method, path, body=None, headers=None):
        """One request on a connection of its own."""
        connection = UnixConnection(self.socket)
        try:
            encoded = body
            sent = dict(headers or {})
            if body is not None and not isinstance(body, bytes):
                encoded = json.dumps(body).encode()
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, f"/v1.50{path}", encoded, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None, headers=None):
        return self.request("POST", path, body, headers)

    def delete(self, path):
        return self.request("DELETE", path)

    @contextlib.contextmanager
    def stream(self, method, path):
        """A response that is read piece by piece."""
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, f"/v1.50{path}")
            yield connection.getresponse()
        finally:
            connection.close()

    def create(self, *command, name=None, image="host", **config):
        """Create a container; returns its id."""
        query = f"?name={name}" if name else ""
        answer = self.post(
            f"/containers/create{query}", {"Image": image, "Cmd": list(command), **config}
        )
        assert answer.status == 201, answer
        return answer.json["Id"]

    def run(self, *command, **options):
        """Create and start; returns the id."""
        container = self.create(*command, **options)
        answer = self.post(f"/containers/{container}/start")
        assert answer.status == 204, answer
        return container

    def wait(self, container, condition="not-running"):
        """Wait for the end; returns the exit code."""
        answer = self.post(f"/containers/{container}/wait?condition={condition}")
        assert answer.status == 200, answer
        return answer.json["StatusCode"]

    def inspect(self, container):
        answer = self.get(f"/containers/{container}/json")
        assert answer.status == 200, answer
        return answer.json

    def start_is_on_record(self, container):
        """Wait for it: the exact time of its execve is written down behind the answer."""
        told = self.inspect(container)["State"]["StartedAt"]
        fraction = told.partition(".")[2].removesuffix("Z").ljust(9, "0")
        directory = self.root / "containers" / container
        while not str(store.load(directory).life.started_ns).endswith(fraction):
            assert self.get("/_ping").status == 200

    def output(self, container, query="stdout=1&stderr=1"):
        """Its log as (stdout, stderr)."""
        answer = self.get(f"/containers/{container}/logs?{query}")
        assert answer.status == 200, answer
        return demultiplexed(answer.body)

    def result(self, *command, **options):
        """Run to the end; returns (exit code, stdout, stderr) and removes it."""
        container = self.run(*command, **options)
        code = self.wait(container)
        out, err = self.output(container)
        assert self.delete(f"/containers/{container}").status == 204
        return code, out.decode(), err.decode()

    def descriptors(self):
        """How many descriptors supervisor and shim hold.

        Without the shim's store of network namespaces, which it fills up whenever it is at leisure.
        """
        shim = descriptors_of(self.shim_pid)
        stored = [name for name in shim if name.startswith("net:")]
        assert len(stored) <= NAMESPACES_STORED, stored
        return len(descriptors_of(self.process.pid)), len(shim) - len(stored)


def descriptors_of(pid):
    """What a process's descriptors refer to, as /proc/PID/fd tells."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def cgroups_of(container):
    """Its directories in every cgroup hierarchy."""
    return [
        str(path)
        for pattern in ("mdocker-*", "*/mdocker-*")
        for parent in Path("/sys/fs/cgroup").glob(pattern)
        if (path := parent / container).is_dir()
    ]


def demultiplexed(data):
    """Split Docker's 8-byte frames into (stdout, stderr)."""
    parts = {1: [], 2: []}
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        end = at + 8 + length
        assert len(data) >= end, "a torn frame"
        parts[data[at]].append(data[at + 8 : end])
        at = end
    return b"".join(parts[1]), b"".join(parts[2])
