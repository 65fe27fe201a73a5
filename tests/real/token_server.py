"""Who hands out the tokens of a registry: RS256 JWTs, signed by openssl(1).

The protocol is the one of the distribution project's documents `auth/token` (GET with a basic
login, or with none) and `auth/oauth` (POST of a form, with a refresh token in return).
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

ISSUER, SERVICE = "the test's issuer", "the test's registry"

REFRESH_TOKEN = "a refresh token"

PUBLIC = "public/"
"""Repositories below this may be pulled without a login."""


class TokenServer:
    """An HTTP server on loopback that signs tokens.

    Attributes:
        asked: Each request for a token, as (method, form or query, user or "").
        valid_for: Seconds that a token holds; 0 makes them old at once.
    """

    def __init__(self, base, user, password):
        if not shutil.which("openssl"):
            pytest.skip("needs openssl (apt-get install openssl)")
        self.user, self.password = user, password
        self.asked = []
        self.valid_for = 300
        self._key, self._certificate = Path(base) / "key.pem", Path(base) / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test"),
                *("-keyout", str(self._key), "-out", str(self._certificate), "-days", "2"),
            ],
            check=True,
            capture_output=True,
        )
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.tokens = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def realm(self):
        """The address to ask."""
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def for_registry(self):
        """The registry's configuration."""
        return {
            "realm": self.realm,
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(self._certificate),
        }

    def token_of_all(self, repository):
        """A token that allows everything with a repository."""
        access = {"type": "repository", "name": repository, "actions": ["pull", "push", "delete"]}
        return self.signed([access] if repository else [])

    def signed(self, access):
        """A token for what is listed."""
        pem = self._certificate.read_text()
        chain = ["".join(line for line in pem.splitlines() if "-----" not in line)]
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": SERVICE, "sub": self.user, "jti": str(time.monotonic_ns())}
        claims |= {"iat": now - 5, "nbf": now - 5, "exp": now + self.valid_for, "access": access}
        head = {"typ": "JWT", "alg": "RS256", "x5c": chain}
        told = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", str(self._key)],
            input=told.encode(),
            check=True,
            capture_output=True,
        ).stdout
        return f"{told}.{_base64(signature)}"

    def access_of(self, scopes, user):
        """What somebody is allowed of what was asked for."""
        found = []
        for scope in scopes:
            kind, name, actions = scope.rsplit(":", 2) if scope.count(":") == 2 else ("", "", "")
            wanted = set(actions.split(","))
            if not user:
                wanted = wanted & {"pull"} if name.startswith(PUBLIC) else set()
            if kind == "repository":
                found.append({"type": kind, "name": name, "actions": sorted(wanted)})
        return found

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tokens: TokenServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        asked = parse_qs(urlsplit(self.path).query)
        kind, _, word = self.headers.get("Authorization", "").partition(" ")
        user, _, password = base64.b64decode(word).decode().partition(":") if word else ("", "", "")
        self._answer(asked, user, password, known=kind in ("", "Basic"))

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        asked = parse_qs(self.rfile.read(size).decode())
        if asked.get("grant_type") == ["refresh_token"]:
            known = asked.get("refresh_token") == [REFRESH_TOKEN]
            self._answer(asked, self.server.tokens.user, self.server.tokens.password, known=known)
        else:
            user, password = (asked.get(key, [""])[0] for key in ("username", "password"))
            self._answer(asked, user, password, known=True)

    def _answer(self, asked, user, password, known):
        ours = self.server.tokens
        ours.asked.append((self.command, asked, user))
        if not known or (user and (user, password) != (ours.user, ours.password)):
            self._send(401, {"details": "incorrect username or password"})
            return
        scopes = [one for word in asked.get("scope", []) for one in word.split()]
        token = ours.signed(ours.access_of(scopes, user))
        told = {"token": token, "access_token": token, "expires_in": ours.valid_for}
        if user and (asked.get("access_type") == ["offline"] or "offline_token" in asked):
            told["refresh_token"] = REFRESH_TOKEN
        self._send(200, told)

    def _send(self, status, told):
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        """Nobody reads it."""


def _base64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
