"""Which program `--init` runs: found in Docker's order, and statically linked."""

import os
import struct
import sys
from types import SimpleNamespace

import msgspec
import pytest

from supervisor import init_program, start
from supervisor.container import Container, ContainerConfig, Namespaces
from supervisor.errors import EngineFault, Unsupported

PT_LOAD, PT_INTERP = 1, 3


def program(path, *segments, machine=None):
    """An ELF file for this machine with these kinds of segments."""
    with open(sys.executable, "rb") as ours:
        head = bytearray(ours.read(64))
    head[7] = 3  # EI_OSABI, which says nothing of this
    if machine is not None:
        struct.pack_into("=H", head, 18, machine)
    struct.pack_into("=Q", head, 32, 64)
    struct.pack_into("=HH", head, 54, 56, len(segments))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(head) + b"".join(struct.pack("=I52x", kind) for kind in segments))
    path.chmod(0o755)
    return path


def test_names_come_before_directories(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    program(first / "tini", PT_LOAD)
    wanted = program(second / "docker-init", PT_LOAD)
    assert init_program.find([str(first), str(second)]) == str(wanted)
    wanted.unlink()
    assert init_program.find([str(first), str(second)]) == str(first / "tini")


def test_a_link_is_followed_here(tmp_path):
    """In the container it would lead somewhere else."""
    real = program(tmp_path / "lib" / "tini-static", PT_LOAD)
    (tmp_path / "docker-init").symlink_to(real)
    assert init_program.find([str(tmp_path)]) == str(real)


def test_what_needs_libraries_is_passed_over(tmp_path):
    dynamic = program(tmp_path / "bin" / "tini", PT_LOAD, PT_INTERP)
    with pytest.raises(Unsupported, match=r"install tini .*/tini is dynamically linked$"):
        init_program.find([str(dynamic.parent)])
    static = program(tmp_path / "bin" / "catatonit", PT_LOAD)
    assert init_program.find([str(dynamic.parent)]) == str(static)


def test_what_is_no_program_is_passed_over(tmp_path):
    (tmp_path / "tini").write_text("#!/bin/sh\n")
    (tmp_path / "tini").chmod(0o755)
    (tmp_path / "docker-init").mkdir()
    program(tmp_path / "tini-static", PT_LOAD, machine=0xFFFF)
    os.mkfifo(tmp_path / "catatonit", 0o755)
    with pytest.raises(Unsupported, match="apt-get install tini"):
        init_program.find([str(tmp_path)])


def test_nothing_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(init_program, "_DIRECTORIES", ())
    monkeypatch.setattr(init_program, "_LAST", ())
    monkeypatch.setenv("PATH", f"{tmp_path}:relative:")
    with pytest.raises(Unsupported, match="needs a statically linked init"):
        init_program.find()


@pytest.mark.anyio
async def test_one_that_has_gone_since_create_is_told_at_the_start(monkeypatch):
    def find():
        raise Unsupported("install tini")

    monkeypatch.setattr(init_program, "find", find)
    engine = SimpleNamespace(limits=SimpleNamespace(sources=None))
    wanted = ContainerConfig(image="host", image_id="sha256:a", init=True)
    with pytest.raises(EngineFault, match="cannot start container bird: install tini"):
        await start._init(engine, Container("c" * 64, "bird", wanted, 1))
    shares = msgspec.structs.replace(wanted, namespaces=Namespaces(pid="host"))
    assert await start._init(engine, Container("c" * 64, "bird", shares, 1)) == ""
