"""A registry in the test's own process that does what no registry should.

It serves an `OciLayout` truthfully until it is told a lie: a function that is given each request
and the honest answer, and returns what is sent instead.

    with HostileRegistry(layout) as registry:
        registry.lie = at_blobs(cut(after=1000, times=1))
        pull(registry.name())
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import socket
import struct
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY = "birds/wren"

_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/?]+)")


@dataclass(frozen=True)
class Asked:
    """A request. `kind` is blob, manifest, tags, base (`/v2/`) or other."""

    method: str
    path: str
    headers: dict
    kind: str
    number: int

    @property
    def offset(self):
        """The first byte that a Range header asks for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Told:
    """An answer, and how it is sent.

    Attributes:
        body: Bytes, or an iterator of them (then without a Content-Length).
        length: The Content-Length, where it is not the truth.
        cut_after: The connection breaks (by a reset) once so many bytes of the body are out.
        stall_after: Nothing more comes behind these, until the registry is closed.
        raw: Sent in place of all of it.
    """

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: object = b""
    length: int | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    raw: bytes = b""


class HostileRegistry:
    """A registry on a loopback port of the kernel's choice.

    Attributes:
        lie: `(Asked, Told) -> Told`; the identity at first.
        asked: All requests so far.
        stalling: Set once an answer has stalled.
    """

    def __init__(self, layout, host="127.0.0.1"):
        self.layout = layout
        self.lie = honest
        self.asked = []
        self.stalling = threading.Event()
        self.tags = {}
        self._ended = threading.Event()
        self._server = _Server((host, 0), _Handler)
        self._server.registry = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        host, port = self._server.server_address
        return f"{host}:{port}"

    def serve(self, descriptor, tag="latest"):
        """Have an image or index under a tag; returns its full name."""
        self.tags[tag] = descriptor
        return self.name(tag)

    def name(self, tag="latest"):
        return f"{self.address}/{REPOSITORY}:{tag}"

    def close(self):
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def honest_answer(self, asked):
        """What a good registry says."""
        if asked.kind == "base":
            return Told(body=b"{}")
        if asked.kind == "tags":
            names = ",".join(f'"{tag}"' for tag in sorted(self.tags))
            return Told(body=f'{{"name": "{REPOSITORY}", "tags": [{names}]}}'.encode())
        with contextlib.suppress(KeyError, OSError, TypeError):
            if asked.kind == "manifest":
                return self._manifest(_MANIFEST.fullmatch(asked.path)[2])
            if asked.kind == "blob":
                return _part(self.layout.blob(_BLOB.fullmatch(asked.path)[2]), asked.offset)
        code = {"blob": "BLOB_UNKNOWN", "manifest": "MANIFEST_UNKNOWN"}.get(asked.kind, "UNKNOWN")
        text = f'{{"errors": [{{"code": "{code}", "message": "not known here"}}]}}'
        return Told(404, {"Content-Type": "application/json"}, text.encode())

    def _manifest(self, wanted):
        if wanted in self.tags:
            descriptor = self.tags[wanted]
            data, media_type = self.layout.blob_of(descriptor), descriptor["mediaType"]
        else:
            data = self.layout.blob(wanted)
            media_type = self.layout.manifest({"digest": wanted})["mediaType"]
        return Told(headers=manifest_headers(data, media_type), body=data)


def manifest_headers(data, media_type):
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"Content-Type": media_type, "Docker-Content-Digest": digest}


def _part(data, offset):
    kind = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    if not offset:
        return Told(headers=kind, body=data)
    where = f"bytes {offset}-{len(data) - 1}/{len(data)}"
    return Told(206, {**kind, "Content-Range": where}, data[offset:])


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    registry: HostileRegistry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 0.5
    """Seconds that a kept connection may be idle: closing waits for it."""

    def _answer(self):
        ours = self.server.registry
        headers = {key.lower(): value for key, value in self.headers.items()}
        kind = _kind(self.path.partition("?")[0])
        asked = Asked(self.command, self.path, headers, kind, len(ours.asked))
        ours.asked.append(asked)
        self.close_connection = False
        with contextlib.suppress(OSError):
            self._send(asked, ours.lie(asked, ours.honest_answer(asked)))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _answer

    def _send(self, asked, told):
        if told.raw:
            self.close_connection = True
            self.wfile.write(told.raw)
            return
        endless = not isinstance(told.body, bytes)
        self.send_response(told.status)
        for name, value in told.headers.items():
            self.send_header(name, value)
        if not endless or told.length is not None:
            length = len(told.body) if told.length is None else told.length
            self.send_header("Content-Length", str(length))
        else:
            self.close_connection = True
        if not endless and told.length not in (None, len(told.body)):
            self.close_connection = True
        self.end_headers()
        if asked.method == "HEAD":
            return
        limit = told.cut_after if told.cut_after is not None else told.stall_after
        pieces = told.body if endless else [told.body]
        if limit is None:
            for piece in pieces:
                self.wfile.write(piece)
            return
        self._send_first(limit, pieces)
        if told.stall_after is not None:
            self.server.registry.stalling.set()
            self.server.registry._ended.wait()
        self.close_connection = True
        # A reset, not an end: nobody may take it for the end of the body.
        lingering = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
        self.connection.close()

    def _send_first(self, limit, pieces):
        for piece in pieces:
            self.wfile.write(piece[:limit])
            limit -= len(piece[:limit])
            if limit <= 0:
                break
        self.wfile.flush()

    def log_message(self, *words):
        """Nobody reads it."""


def _kind(path):
    if path == "/v2/":
        return "base"
    if path.endswith("/tags/list"):
        return "tags"
    if _MANIFEST.fullmatch(path):
        return "manifest"
    return "blob" if _BLOB.fullmatch(path) else "other"


# --- lies ---


def honest(asked, told):
    return told


def at(kind, lie, method="GET"):
    """The lie, told only where this kind is asked for."""

    def told_there(asked, told):
        right = asked.kind == kind and asked.method == method and told.status < 400
        return lie(asked, told) if right else told

    return told_there


def at_digest(digest, lie):
    """The lie, told only of one blob or manifest."""
    return lambda asked, told: lie(asked, told) if digest in asked.path else told


def both(*lies):
    """One lie after the other."""

    def all_of_them(asked, told):
        for lie in lies:
            told = lie(asked, told)
        return told

    return all_of_them


def first(times, lie):
    """The lie, told so often, then the truth."""
    counter = itertools.count()
    return lambda asked, told: lie(asked, told) if next(counter) < times else told


def once_each(lie):
    """The lie, told once of each path."""
    told_of = set()

    def of_the_first(asked, told):
        known = asked.path in told_of
        told_of.add(asked.path)
        return told if known else lie(asked, told)

    return of_the_first


def cut(after):
    """The connection breaks after so many bytes of each body."""
    return lambda asked, told: replace(told, cut_after=after)


def stall(after):
    """Nothing more comes after so many bytes."""
    return lambda asked, told: replace(told, stall_after=after)


def truncated(to):
    """A body that ends early, with the length that it then has: a proxy's cut cache."""
    return lambda asked, told: replace(told, body=told.body[:to])


def promised(more):
    """A Content-Length that is wrong by so many bytes."""
    return lambda asked, told: replace(told, length=len(told.body) + more)


def altered(asked, told):
    """The same length, another content."""
    middle = len(told.body) // 2
    wrong = bytes([told.body[middle] ^ 1])
    return replace(told, body=told.body[:middle] + wrong + told.body[middle + 1 :])


def swapped(data):
    """Another body, with honest headers of its own."""

    def other(asked, told):
        if asked.kind != "manifest":
            return replace(told, body=data)
        headers = manifest_headers(data, told.headers["Content-Type"])
        return replace(told, headers=headers, body=data)

    return other


def status(code, headers=None, body=b""):
    return lambda asked, told: Told(code, headers or {}, body)


def redirected(where):
    """Elsewhere: `where` is an address with a {path}."""
    return lambda asked, told: Told(307, {"Location": where.format(path=asked.path)})


def no_ranges(layout):
    """All of a blob, whatever part was asked for."""

    def whole(asked, told):
        if asked.offset:
            return Told(headers={}, body=layout.blob(_BLOB.fullmatch(asked.path)[2]))
        return told

    return whole


def raw(data):
    """No HTTP."""
    return lambda asked, told: Told(raw=data)


def endless(asked, told):
    """A body of blanks without an end, behind an honest beginning."""
    return replace(told, body=itertools.chain([told.body], itertools.repeat(b" " * 65536)))
