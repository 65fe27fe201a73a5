"""Asking for a container's files by the API, and tars to give it."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from base64 import b64decode
from pathlib import Path
from urllib.parse import quote

TAR = {"Content-Type": "application/x-tar"}


def at(container, path, **query):
    more = "".join(f"&{key}={value}" for key, value in query.items())
    return f"/containers/{container}/archive?path={quote(path)}{more}"


def stat_of(engine, container, path):
    answer = engine.request("HEAD", at(container, path))
    assert (answer.status, answer.body) == (200, b""), answer
    return json.loads(b64decode(answer.headers["X-Docker-Container-Path-Stat"]))


def members(answer):
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        return {one.name: one for one in archive}


def content(answer, name):
    assert answer.status == 200, answer
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as archive:
        return archive.extractfile(name).read()


def packed(files, **entry):
    """A tar of {name: content}; None for a directory, a str for a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            for key, value in entry.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return buffer.getvalue()


def put(engine, container, path, data, **query):
    return engine.request("PUT", at(container, path, **query), data, TAR)


@contextlib.contextmanager
def started(engine, *command, **config):
    """A container that runs until the block is left; it has printed a line."""
    container = engine.run(*command, **config)
    try:
        with engine.stream("GET", f"/containers/{container}/logs?follow=1&stdout=1") as lines:
            assert lines.read(8)
        yield container
    finally:
        engine.delete(f"/containers/{container}?force=1")


def helpers_of(pid):
    """The children of a process that look into containers, by pid."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        children = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            children = (thread / "children").read_text().split()
        for child in children:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"archive_child" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(int(child))
    return found
