"""A client of execs: creates them, and is attached to them over a connection of its own."""

from __future__ import annotations

import contextlib
import json
import socket

from tests.real.engine_process import demultiplexed


def created(engine, container, *command, **asked):
    """Create an exec; returns its id."""
    wanted = {"AttachStdout": True, "AttachStderr": True, **asked}
    answer = engine.post(f"/containers/{container}/exec", {"Cmd": list(command), **wanted})
    assert answer.status == 201, answer
    return answer.json["Id"]


def inspected(engine, exec_id):
    answer = engine.get(f"/exec/{exec_id}/json")
    assert answer.status == 200, answer
    return answer.json


class Attached:
    """A hijacked connection.

    Attributes:
        head: The answer's, as text.
    """

    def __init__(self, connection):
        self.socket = connection
        self.head, self._rest = "", b""

    def ask(self, exec_id, upgrade=True, query="", **body):
        data = json.dumps(body).encode()
        headers = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
        self.socket.sendall(
            f"POST /v1.50/exec/{exec_id}/start{query} HTTP/1.1\r\nHost: d\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        return self

    def receive_head(self):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(65536)
            assert piece, data
            data += piece
        head, _, self._rest = data.partition(b"\r\n\r\n")
        self.head = head.decode()
        return self

    @property
    def status(self):
        return int(self.head.split(" ")[1])

    def receive(self):
        """What comes next; b"" at the end."""
        rest, self._rest = self._rest, b""
        return rest or self.socket.recv(65536)

    def until(self, words):
        """All that comes up to these bytes, and what came with them."""
        data = b""
        while words not in data:
            piece = self.receive()
            assert piece, data
            data += piece
        return data

    def everything(self):
        """All that comes."""
        pieces = []
        while piece := self.receive():
            pieces.append(piece)
        return b"".join(pieces)

    def streams(self):
        """All that comes, as (stdout, stderr)."""
        return demultiplexed(self.everything())

    def send(self, data):
        self.socket.sendall(data)

    def type_no_more(self):
        self.socket.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def attached(engine, exec_id, **asked):
    """Start an exec and be attached to it."""
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(30)
        connection.connect(str(engine.socket))
        yield Attached(connection).ask(exec_id, **asked).receive_head()


def run(engine, container, *command, **asked):
    """Run a command to its end; returns (exit code, stdout, stderr)."""
    exec_id = created(engine, container, *command, **asked)
    with attached(engine, exec_id) as client:
        out, err = client.streams()
    return inspected(engine, exec_id)["ExitCode"], out.decode(), err.decode()


def shell(engine, container, line, **asked):
    """What a line prints in a container; it must succeed."""
    code, out, err = run(engine, container, "sh", "-c", line, **asked)
    assert (code, err) == (0, "")
    return out
