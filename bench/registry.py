"""Debian's docker-registry on a loopback port of the kernel's choice, for the images' benchmark."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.harness import BenchError
from bench.image_materials import Blob, MadeImage
from bench.machine import find

_LISTENS = re.compile(r'msg="listening on (127\.0\.0\.1:\d+)"')


class Registry:
    """A registry with a storage of its own; leaving it removes all of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = ""

    def __enter__(self) -> Self:
        program = find("docker-registry")
        if program is None:
            raise BenchError("docker-registry is not installed")
        self._directory.mkdir()
        config = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "text", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self._directory / "data")}},
            "http": {"addr": "127.0.0.1:0", "secret": "bench"},
        }
        path = self._directory / "config.json"
        path.write_text(json.dumps(config))  # JSON is YAML
        self._process = subprocess.Popen(
            [program, "serve", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := _LISTENS.search(line):
                self.address = found[1]
                break
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()
        if not self.address:
            self.__exit__(None, None, None)
            raise BenchError("docker-registry does not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._drain.join()
        shutil.rmtree(self._directory, ignore_errors=True)

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
