"""Debian's docker-registry on a loopback port of the kernel's choice, for the images' benchmark."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from bench.harness import BenchError
from bench.image_materials import Blob, MadeImage
from bench.machine import find

_LISTENS = re.compile(r'msg="listening on (127\.0\.0\.1:\d+)"')


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Registry]:
    """A registry with a storage of its own, while the block runs.

    Raises:
        BenchError: It is not installed, or does not start.
    """
    program = find("docker-registry")
    if program is None:
        raise BenchError("docker-registry is not installed")
    directory.mkdir()
    config = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": "127.0.0.1:0", "secret": "bench"},
    }
    path = directory / "config.json"
    path.write_text(json.dumps(config))  # JSON is YAML
    process = subprocess.Popen(
        [program, "serve", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )
    assert process.stderr is not None
    drain = threading.Thread(target=process.stderr.read, daemon=True)
    try:
        found = (_LISTENS.search(line) for line in process.stderr)
        address = next((one[1] for one in found if one), "")
        if not address:
            raise BenchError("docker-registry does not start")
        drain.start()
        yield Registry(address)
    finally:
        process.kill()
        process.wait()
        if drain.is_alive():
            drain.join()
        process.stderr.close()
        shutil.rmtree(directory, ignore_errors=True)


class Registry:
    """A registry that runs; `address` is how images there are named."""

    def __init__(self, address: str) -> None:
        self.address = address

    def keep(self, image: MadeImage, repository: str) -> str:
        """Store an image; returns the name to pull it by."""
        for blob in image.blobs:
            where = self._asked("POST", f"/v2/{repository}/blobs/uploads/", b"", 202)
            self._asked("PUT", f"{where}&digest={blob.digest}", blob.data, 201)
        self._put_manifest(repository, image.manifest)
        return f"{self.address}/{repository}:1"

    def _put_manifest(self, repository: str, manifest: Blob) -> None:
        path = f"/v2/{repository}/manifests/1"
        self._asked("PUT", path, manifest.data, 201, manifest.media_type)

    def _asked(self, method: str, path: str, body: bytes, status: int, media_type: str = "") -> str:
        kind = media_type or "application/octet-stream"
        with contextlib.closing(http.client.HTTPConnection(self.address)) as connection:
            connection.request(method, path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != status:
                raise BenchError(f"docker-registry: {answer.status}: {said.decode()[:300]}")
            where = answer.headers.get("Location", "")
            return where.removeprefix(f"http://{self.address}")
