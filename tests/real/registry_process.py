"""Debian's docker-registry on a loopback port of the kernel's choice, open or behind a login.

It binds port 0 and says in its log where it listens, so nobody can take the port before it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.real.token_server import TokenServer

PROGRAM = "docker-registry"

USER, PASSWORD = "bird", "nest of twigs"
"""Who may do everything at a registry with a login."""

# bcrypt of PASSWORD, cost 4: the module `crypt` that made it is gone from Python 3.13 on.
_HTPASSWD = f"{USER}:$2b$04$v.EYthCLz3O7Qnqb78nn7OHsSlgzzwvYl8wx4Bd0PJ.9ATHtL7hIe\n"

_LISTENS = re.compile(r'msg="listening on (127\.0\.0\.1:\d+)"')


class RegistryProcess:
    """A registry with a storage of its own.

    Args:
        base: A new directory, for its storage, configuration and logs.
        login: "" for none, "basic" for htpasswd, "token" for a token server of the test's own.
        mirror_of: Another registry's address; this one is a pull-through cache of it then.

    Attributes:
        address: `127.0.0.1:PORT`, as it stands in image names.
        tokens: The token server, with `login="token"`.
    """

    def __init__(self, base, login="", mirror_of=""):
        if not shutil.which(PROGRAM):
            pytest.skip(f"needs {PROGRAM} (apt-get install docker-registry)")
        self.base = Path(base)
        self.login = login
        self.mirror_of = mirror_of
        self.address = "127.0.0.1:0"
        self.process = None
        self.tokens = None
        self._reader = None
        self._said = []

    @property
    def data(self):
        """Its storage; blobs are in `docker/registry/v2/blobs/sha256/ab/ab…/data`."""
        return self.base / "data"

    def start(self):
        """Start it; returns once it answers. Again after `stop`: at the same address."""
        self.base.mkdir(parents=True, exist_ok=True)
        if self.login == "token" and self.tokens is None:
            self.tokens = TokenServer(self.base, USER, PASSWORD)
        (self.base / "htpasswd").write_text(_HTPASSWD)
        config = self.base / "config.json"
        config.write_text(json.dumps(self._configuration()))  # JSON is YAML
        with (self.base / "access.log").open("ab") as access:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=access,
                stderr=subprocess.PIPE,
                text=True,
                cwd="/",
            )
        for line in self.process.stderr:
            self._said.append(line)
            if found := _LISTENS.search(line):
                self.address = found[1]
                break
        else:
            self.process.wait()
            self.process.stderr.close()
            raise RuntimeError("".join(self._said))
        self._reader = threading.Thread(target=self._said.extend, args=(self.process.stderr,))
        self._reader.start()
        assert self.request("GET", "/v2/").status == 200, self._said
        return self

    def _configuration(self):
        config = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "text"},
            "storage": {
                "filesystem": {"rootdirectory": str(self.data)},
                "delete": {"enabled": True},
                "maintenance": {"uploadpurging": {"enabled": False}},
            },
            "http": {"addr": self.address, "secret": "of this test"},
        }
        if self.login == "basic":
            realm = {"realm": "a test", "path": str(self.base / "htpasswd")}
            config["auth"] = {"htpasswd": realm}
        elif self.login == "token":
            config["auth"] = {"token": self.tokens.for_registry()}
        if self.mirror_of:
            config["proxy"] = {"remoteurl": f"http://{self.mirror_of}"}
        return config

    def request(self, method, path, body=None, headers=None):
        """One request by who may do everything; returns the response, read, with `.body`."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            sent = {**self._authorization(path), **(headers or {})}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            response.body = response.read()
            return response
        finally:
            connection.close()

    def put_blob(self, repository, data, digest):
        """Store a blob, whole, in one request after the one that asks where."""
        begun = self.request("POST", f"/v2/{repository}/blobs/uploads/", b"")
        assert begun.status == 202, begun.body
        where = begun.headers["Location"].removeprefix(f"http://{self.address}")
        sent = {"Content-Type": "application/octet-stream"}
        done = self.request("PUT", f"{where}&digest={digest}", data, sent)
        assert done.status == 201, done.body

    def put_manifest(self, repository, tag, media_type, data):
        """Store a manifest or index by its tag or digest."""
        path = f"/v2/{repository}/manifests/{tag}"
        done = self.request("PUT", path, data, {"Content-Type": media_type})
        assert done.status == 201, done.body

    def _authorization(self, path):
        if self.login == "basic":
            word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            return {"Authorization": f"Basic {word}"}
        if self.login == "token":
            found = re.match(r"/v2/(.+?)/(?:blobs|manifests|tags)/", path)
            repository = found[1] if found else ""
            return {"Authorization": f"Bearer {self.tokens.token_of_all(repository)}"}
        return {}

    @property
    def credentials(self):
        """`USER:PASSWORD`, or "" where no login is asked for."""
        return f"{USER}:{PASSWORD}" if self.login else ""

    def requests(self):
        """What it was asked so far, as `(method, path, status)`, in order of the answers."""
        asked = re.compile(r'"(\w+) (\S+) HTTP/1\.1" (\d+)')
        text = (self.base / "access.log").read_text()
        return [(method, path, int(status)) for method, path, status in asked.findall(text)]

    def blob_file(self, digest):
        """Where it keeps a blob: to be damaged, or taken away."""
        digits = digest.partition(":")[2]
        return self.data / f"docker/registry/v2/blobs/sha256/{digits[:2]}/{digits}/data"

    def stop(self):
        """End it; what it stores stays, and the address is its own again at `start`."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stderr.close()

    def close(self):
        """End it, and its token server."""
        if self.process is not None and self.process.returncode is None:
            self.stop()
        if self.tokens is not None:
            self.tokens.close()
        shutil.rmtree(self.data, ignore_errors=True)
