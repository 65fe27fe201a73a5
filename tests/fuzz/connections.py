"""Bytes that are nearly HTTP: heads, chunks and upgrades, cut, doubled, mixed and mangled."""

from __future__ import annotations

import random
import socket
import time

from tests.fuzz.findings import Findings
from tests.fuzz.watched_engine import WatchedEngine

SEEDS = (
    b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n",
    b"GET /v1.50/info HTTP/1.1\r\nHost: d\r\nAccept: */*\r\n\r\n",
    b"POST /v1.50/containers/create?name=x1 HTTP/1.1\r\nHost: d\r\nContent-Length: 29\r\n\r\n"
    b'{"Image":"host","Cmd":["id"]}',
    b"POST /v1.50/images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"POST /v1.50/containers/warm/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: d\r\n"
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
    b"GET /v1.50/containers/warm/attach/ws HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n\x81\x85\x01\x02\x03\x04abcde",
    b"PUT /v1.50/containers/warm/archive?path=/tmp HTTP/1.1\r\nHost: d\r\nExpect: 100-continue\r\n"
    b"Content-Length: 1024\r\n\r\n" + b"\0" * 1024,
    b"GET /v1.50/events?since=0&until=1 HTTP/1.1\r\nHost: d\r\n\r\n",
    b"HEAD /v1.50/containers/warm/archive?path=%2Fetc%2f..%00 HTTP/1.0\r\n\r\n",
)
WORDS = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\r\n\r\n", b"%", b"%00", b"%zz", b"/../", b"//"),
    *(b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Content-Length: 1\r\n"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n", b"HTTP/2.0", b"HTTP/0.9"),
    *(b"Expect: 100-continue\r\n", b"FFFFFFFFFFFFFFFFFF\r\n", b"-1\r\n", b";ext=1", b"\xff\xfe"),
    *(
        b"X: " + b"a" * 9000 + b"\r\n",
        b"?" + b"a=b&" * 500,
        b"[" * 3000,
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ),
    *(b"X-Registry-Auth: e30=\r\n", b"X-Registry-Config: {\r\n", b"Upgrade: h2c\r\n"),
)
LOOK_S = 0.05


def mangled(chance: random.Random) -> bytes:
    """One stream of bytes."""
    data = bytearray(b"".join(chance.choice(SEEDS) for _ in range(chance.choice((1, 1, 1, 2, 3)))))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                data[at:at] = chance.choice(WORDS)
            case 1:
                del data[at : at + chance.randrange(1, 20)]
            case 2:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 8)))
            case 3:
                piece = data[at : at + chance.randrange(1, 60)]
                data[at:at] = piece * chance.randrange(1, 5)
            case 4 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case _:
                del data[at + chance.randrange(200) :]
    return bytes(data)


def run(engine: WatchedEngine, findings: Findings, seconds: float, number: int) -> int:
    """Send mangled streams until the time is over; returns how many."""
    chance = random.Random(number)
    end = time.monotonic() + seconds
    sent = 0
    path = str(engine.process.socket)
    while time.monotonic() < end:
        data = mangled(chance)
        sent += 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(10)
            try:
                client.connect(path)
                for piece in _pieces(data, chance):
                    client.sendall(piece)
                if chance.random() < 0.5:
                    client.shutdown(socket.SHUT_WR)
                client.settimeout(LOOK_S)
                while client.recv(65536):
                    pass
            except TimeoutError:
                pass  # a stream, or the wait for what was promised
            except OSError:
                pass  # cut by the engine, as it may
        if sent % 50 == 0:
            engine.look(repr(data[:1500]))
            engine.ping(repr(data[:1500]))
    engine.look()
    return sent


def _pieces(data: bytes, chance: random.Random) -> list[bytes]:
    if chance.random() < 0.6 or len(data) < 2:
        return [data]
    cuts = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(1, 5)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
