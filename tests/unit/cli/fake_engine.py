"""A scripted engine: a threaded HTTP server on a unix socket that answers what a test says.

Routes are (method, regular expression of the path); the latest added wins. A handler gets the
call and writes the answer itself, in as many pieces as it likes.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl, unquote, urlsplit


def frame(stream: int, payload: bytes) -> bytes:
    """One stdcopy frame."""
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


class Call(BaseHTTPRequestHandler):
    """One request being answered."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False

    def setup(self):
        super().setup()
        with self.server.engine.lock:
            self.server.engine.connections += 1

    def log_message(self, *args):
        """Tests look at `requests` instead."""

    def address_string(self):
        return "unix"

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def body(self):
        """Read the request's body, chunked or not."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status, value=None):
        """Answer with JSON, or nothing."""
        data = b"" if value is None else json.dumps(value).encode()
        self.send_response_only(status)
        if status not in (204, 304):
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.answer(status, {"message": message})

    def begin(self, content_type="application/vnd.docker.multiplexed-stream"):
        """Begin a chunked answer; its head goes out at once."""
        self.send_response_only(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def finish_chunks(self):
        self.wfile.write(b"0\r\n\r\n")

    def upgrade(self, content_type="application/vnd.docker.multiplexed-stream"):
        """Answer 101; what is written from here on is the raw stream."""
        self.send_response_only(101, "UPGRADED")
        self.send_header("Content-Type", content_type)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "tcp")
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True

    def _any(self):
        engine = self.server.engine
        parts = urlsplit(self.path)
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.queries = parse_qsl(parts.query, keep_blank_values=True)
        self.where = unquote(parts.path)
        for (method, pattern), handler, eager in reversed(engine.routes):
            match = re.fullmatch(pattern, self.where)
            if method == self.command and match:
                self.data = self.body() if eager else b""
                with engine.lock:
                    engine.requests.append((self.command, self.where, self.query, self.data))
                handler(self, *match.groups())
                return
        self.data = self.body()
        self.refuse(404, "page not found")

    do_GET = do_POST = do_DELETE = do_HEAD = _any


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 4096

    def handle_error(self, request, client_address):
        self.engine.errors.append(__import__("sys").exc_info()[1])


class FakeEngine:
    """The server; `close` ends it."""

    def __init__(self, path):
        self.path = str(path)
        self.lock = threading.Lock()
        self.requests = []
        self.routes = []
        self.errors = []
        self.connections = 0
        self._server = _Server(self.path, Call)
        self._server.engine = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def host(self):
        return f"unix://{self.path}"

    def on(self, method, pattern, handler, *, eager=True):
        """Add a route. Without `eager` the handler reads the body itself."""
        self.routes.append(((method, pattern), handler, eager))

    def json(self, method, pattern, value, status=200):
        self.on(method, pattern, lambda call, *groups: call.answer(status, value))

    def refuse(self, method, pattern, status, message):
        self.on(method, pattern, lambda call, *groups: call.refuse(status, message))

    def seen(self, method, pattern):
        """Return the requests that match."""
        with self.lock:
            return [
                entry
                for entry in self.requests
                if entry[0] == method and re.fullmatch(pattern, entry[1])
            ]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        assert not self.errors, self.errors
