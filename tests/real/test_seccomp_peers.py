"""Every number of every entry to the kernel, answered by our default filter and by dockerd's.

Only when asked (MDOCKER_PEERS=1), as dockerd takes its time to start.
"""

from __future__ import annotations

import json
import os
import platform
import tarfile
import tempfile
from pathlib import Path

import pytest

from bench.cli import IMAGE
from bench.machine import find
from bench.peers import Docker
from runtime.seccomp import names
from tests.real.test_seccomp import PROBES, PYTHON, probe

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="calls are made by x86_64's numbers"),
    pytest.mark.skipif("MDOCKER_PEERS" not in os.environ, reason="only with MDOCKER_PEERS=1"),
    pytest.mark.skipif(find("dockerd") is None, reason="needs dockerd"),
    pytest.mark.timeout(120),
]

LAST = 480
UNFILTERED = (335, 336)
"""uretprobe and uprobe, which newer kernels hide from every filter: only their own code can call
them, others get SIGILL (kernel/seccomp.c)."""

LOOSER = (
    *("name_to_handle_at", "process_vm_readv", "process_vm_writev"),
    *("pkey_mprotect", "pkey_alloc", "pkey_free"),
)
"""What dockerd 20.10 stops, and newer ones and we do not."""

STRICTER = (
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("set_mempolicy_home_node", "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules"),
)
"""What it lets pass, or has never heard of, and newer ones and we stop."""

FAMILIES = {12, 19, 20, 23, 25, 34, 37, 38, 40, *range(46, 64)}
"""Of sockets that we stop, and it does not."""


@pytest.fixture
def docker(tmp_path):
    """A dockerd with an image that shows this machine's programs."""
    tree = tmp_path / "tree"
    for name in ("usr", "proc", "sys", "dev", "etc", "tmp"):
        (tree / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (tree / name).symlink_to(f"usr/{name}")
    archive = tmp_path / "tree.tar"
    with tarfile.open(archive, "w") as file:
        file.add(tree, ".")
    # containerd has room for short paths only.
    with (
        tempfile.TemporaryDirectory(prefix="mdocker-") as short,
        Docker(Path(short, "docker"), archive) as peer,
    ):
        yield peer


def by_number():
    wanted = {}
    for number in range(LAST):
        if number not in UNFILTERED:
            wanted[f"x86_64 {number}"] = ["x86_64", number, []]
        wanted[f"x32 {number}"] = ["x86_64", names.X32_BIT | number, []]
        wanted[f"x86 {number}"] = ["x86", number, []]
    for family in range(64):
        wanted[f"socket {family}"] = ["x86_64", 41, [family]]
    for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF, 1, 0x40000, 2**32):
        wanted[f"personality {value:#x}"] = ["x86_64", 135, [value]]
    for bit in range(64):
        wanted[f"clone {1 << bit:#x}"] = ["x86_64", 56, [1 << bit]]
    return wanted


def test_nothing_passes_our_filter_that_dockerds_stops(engine, docker, tmp_path):
    wanted = by_number()
    ours = probe(engine, wanted)
    volumes = ("-v", "/usr:/usr:ro", "-v", f"{PROBES}:/probes.py:ro")
    told = docker.call(
        "run",
        "--rm",
        "--network",
        "none",
        *volumes,
        IMAGE,
        PYTHON,
        "/probes.py",
        json.dumps(wanted),
    )
    theirs = json.loads(told)
    looser = {name for name in wanted if ours[name] == "ENOSYS" and theirs[name] != "ENOSYS"}
    stricter = {name for name in wanted if ours[name] != "ENOSYS" and theirs[name] == "ENOSYS"}
    younger = {f"x32 {number}" for number in range(451, LAST)}  # it answers EPERM there
    assert looser - younger <= numbered(LOOSER)
    assert stricter <= numbered(STRICTER) | {f"socket {family}" for family in FAMILIES}
    assert ours["socket 40"] == "EPERM"
    assert len(wanted) > 1500


def numbered(of):
    """The calls' names as they are probed."""
    kinds = {"x86_64": "SCMP_ARCH_X86_64", "x32": "SCMP_ARCH_X32", "x86": "SCMP_ARCH_X86"}
    return {
        f"{kind} {names.numbers(name, architecture)[0] & ~names.X32_BIT}"
        for name in of
        for kind, architecture in kinds.items()
    }
