"""Loads and saves that come to no good end: clients that leave, kill -9, a full disk."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.real.engine_process import EngineProcess
from tests.real.made_archives import (
    archive,
    digest,
    docker_archive,
    entry,
    inventory,
    layer,
    load,
    loaded,
    members,
)

HEAD = b"POST /v1.50/images/load HTTP/1.1\r\nHost: d\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def engine(request, tmp_path_factory):
    process = EngineProcess(tmp_path_factory.mktemp("engine"), backend=request.param).start()
    yield process
    process.close()


def helpers(engine):
    """The processes that unpack for an engine, by pid."""
    found = []
    for pid in Path("/proc").glob("[0-9]*"):
        try:
            words = (pid / "cmdline").read_bytes()
        except OSError:
            continue
        if b"unpacker" in words and str(engine.root).encode() in words:
            found.append(int(pid.name))
    return found


def sending(engine, data, length=0):
    """A client that has sent the head of a load and this much of it."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(engine.socket))
    sock.sendall(HEAD % (length or len(data)) + data)
    return sock


def at_rest(engine):
    """What it has, once it has loaded something: its first event opens a file that stays open."""
    loaded(engine, docker_archive(layer("one")))
    engine.delete("/images/made:1")
    return inventory(engine), engine.descriptors()


def until_clean(engine, before, descriptors):
    """Wait for an engine to be as it was; each look at it is an answered request."""
    while inventory(engine) != before or helpers(engine) or has_more(engine, descriptors):
        assert engine.get("/_ping").status == 200


def has_more(engine, descriptors):
    # Not fewer: a connection may have been about to close when they were counted.
    return any(now > then for now, then in zip(engine.descriptors(), descriptors, strict=True))


def stopped_at_layer(engine, sock):
    """Wait for the first layer that is unpacked, and stop the process that does it."""
    said = b""
    while b"Loading layer" not in said:
        said += sock.recv(4096)
    while not (found := helpers(engine)):  # it may be about to have its name
        assert engine.get("/_ping").status == 200
    (pid,) = found
    os.kill(pid, signal.SIGSTOP)
    return pid


BIG = docker_archive(layer("big", os.urandom(12 << 20)))
LASTING = docker_archive(archive(*((entry(f"{number}"), b"") for number in range(10_000))))
"""It takes a second to unpack, so whoever hears that it has begun comes in time."""


def test_a_client_that_leaves_while_it_sends(engine):
    before, descriptors = at_rest(engine)
    sock = sending(engine, BIG[: 2 << 20], len(BIG))
    while not helpers(engine):
        assert engine.get("/_ping").status == 200
    sock.close()
    until_clean(engine, before, descriptors)


def test_a_client_that_leaves_while_layers_are_unpacked(engine):
    before, descriptors = at_rest(engine)
    sock = sending(engine, LASTING)
    stopped_at_layer(engine, sock)
    sock.close()
    until_clean(engine, before, descriptors)


def test_a_client_that_leaves_in_the_middle_of_a_save(engine):
    before, descriptors = at_rest(engine)
    loaded(engine, BIG)
    with engine.stream("GET", "/images/made:1/get") as slow:
        assert slow.read(10)
        assert engine.delete("/images/made:1").status == 200
    until_clean(engine, before, descriptors)


def test_the_process_that_unpacks_is_killed(engine):
    before, descriptors = at_rest(engine)
    sock = sending(engine, LASTING)
    os.kill(stopped_at_layer(engine, sock), signal.SIGKILL)
    said = b""
    while b"error" not in said:
        said += sock.recv(4096)
    assert b"ended without an answer (killed by SIGKILL)" in said
    sock.close()
    until_clean(engine, before, descriptors)


@pytest.mark.parametrize(("moment", "backend"), [("sending", "trio"), ("unpacking", "asyncio")])
def test_the_engine_is_killed(tmp_path, moment, backend):
    engine = EngineProcess(tmp_path / "engine", backend=backend).start()
    try:
        loaded(engine, docker_archive(layer("one"), tags=("kept:1",)))
        before = inventory(engine)
        if moment == "sending":
            sock = sending(engine, BIG[: 4 << 20], len(BIG))
            while not helpers(engine):
                assert engine.get("/_ping").status == 200
        else:
            sock = sending(engine, LASTING)
            os.kill(stopped_at_layer(engine, sock), signal.SIGCONT)
        engine.kill()
        sock.close()
        engine.start()
        while helpers(engine):
            assert engine.get("/_ping").status == 200
        engine.swept()
        found = inventory(engine)
        if moment == "unpacking" and len(found[1]) > len(before[1]):
            engine.delete("/images/made:1")  # it was quicker than the kill
            found = inventory(engine)
        assert found == before
        with engine.spawning() as spawn:
            process = spawn("system", "check")
            out, err = process.communicate()
            assert (process.returncode, "all is well" in out) == (0, True), (out, err)
        assert loaded(engine, BIG) == ["Loaded image: made:1"]
    finally:
        engine.close()


def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=True)
    try:
        engine = EngineProcess(tmp_path / "engine", root=disk / "root").start()
        try:
            before = inventory(engine)
            for size, words in (
                (50 << 20, "no space left on device while unpacking 0/layer.tar"),
                (24 << 20, "no space left on device while unpacking big"),
            ):
                last = load(engine, docker_archive(layer("big", bytes(size))))[-1]
                assert words in last["error"]
                assert inventory(engine) == before
            fits = layer("fits", os.urandom(3 << 20))
            assert loaded(engine, docker_archive(fits)) == ["Loaded image: made:1"]
            data = engine.get("/images/made:1/get").body
            assert members(data)[f"blobs/sha256/{digest(fits)[7:]}"] == fits
        finally:
            engine.close()
    finally:
        subprocess.run(["umount", disk], check=True)
