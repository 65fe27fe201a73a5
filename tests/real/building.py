"""Asking for builds by the API, and what is to be left of them: nothing."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from urllib.parse import urlencode

from tests.real.archives import TAR, packed
from tests.real.engine_process import UnixConnection

BEGUN = b'{"stream":"begun\\n"}'
"""What `echo begun` of a command is to a client."""


class Built:
    """What a build has told.

    Attributes:
        text: All that it has printed.
        error: Why it has failed; empty where it has not.
        id: Of the image; empty for none.
    """

    def __init__(self, answer):
        assert answer.status == 200, answer
        self.lines = [json.loads(line) for line in answer.body.splitlines()]
        self.text = "".join(line.get("stream", "") for line in self.lines)
        self.error = "".join(line.get("error", "") for line in self.lines)
        ids = [line["aux"]["ID"] for line in self.lines if "aux" in line]
        self.id = ids[-1] if ids else ""

    @property
    def cached(self):
        """How many steps were not done."""
        return self.text.count(" ---> Using cache\n")


def context(dockerfile, files=(), **entry):
    """A context as a tar: a Dockerfile's lines, and files as `archives.packed` takes them."""
    return packed({"Dockerfile": dockerfile.encode(), **dict(files)}, **entry)


def path(**query):
    words = [
        (key, one)
        for key, value in query.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return f"/build?{urlencode(words)}"


def asked(engine, data, **query):
    """POST /build with a whole context; the answer as it is."""
    return engine.request("POST", path(**query), data, TAR)


def build(engine, dockerfile, files=(), **query):
    """Build; whatever comes of it."""
    return Built(asked(engine, context(dockerfile, files), **query))


def made(engine, dockerfile, files=(), **query):
    """Build what can be built; returns what was told."""
    built = build(engine, dockerfile, files, **query)
    assert not built.error and built.id, built.lines
    return built


@contextlib.contextmanager
def under_way(engine, dockerfile, files=(), until=BEGUN, **query):
    """A build that has printed something; its client is gone when the block is left."""
    connection = UnixConnection(engine.socket)
    try:
        connection.request("POST", f"/v1.50{path(**query)}", context(dockerfile, files), TAR)
        answer = connection.getresponse()
        assert answer.status == 200
        seen = b""
        while until not in seen:
            piece = answer.read1()
            assert piece, seen
            seen += piece
        yield seen
    finally:
        connection.close()


def left(engine):
    """What is there of builds: their containers, directories, and half-made layers."""
    containers = engine.get("/containers/json?all=1").json
    builds, staging = engine.root / "builds", Path(engine.root / "images/staging")
    return (
        [one["Id"] for one in containers],
        sorted(builds.iterdir()) if builds.exists() else [],
        sorted(staging.iterdir()),
    )


NOTHING = ([], [], [])


def run(engine, image, script):
    """What a shell line prints in a container of an image."""
    code, out, err = engine.result("/bin/sh", "-c", script, image=image)
    assert code == 0, (code, out, err)
    return out
