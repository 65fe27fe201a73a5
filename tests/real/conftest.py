"""Real containers, as root, and a check at the end that nothing of ours is left on the machine."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import pytest

from supervisor.config import Settings
from tests.real.engine_process import EngineProcess
from tests.real.loop_disk import LoopDisk
from tests.real.oci_layout import OciLayout
from tests.real.registry_process import RegistryProcess
from tests.real.shim_driver import ShimDriver, bare_tree, busybox_tree


def pytest_collection_modifyitems(items):
    if os.geteuid() == 0:
        return
    for item in items:
        if "tests/real" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason="real containers need root"))


def our_processes(base):
    """Supervisors and shims of engines, and registries, below `base`, by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        ours = ("mdocker", "runtime.shim", "docker-registry")
        if str(base) in words and any(word in words for word in ours):
            found[int(entry.name)] = words
    return found


def our_cgroups(base):
    """cgroups, in every hierarchy, of engines whose root is, or was, below `base`."""
    # Not glob: before Python 3.11.3 it stumbles over links that lead nowhere.
    roots = {Path(directory) for directory, names, _ in os.walk(base) if "containers" in names}
    roots |= {root for root in EngineProcess.roots if base in root.parents}
    names = {Settings(root, root).cgroup_parent for root in roots}
    return {path for path in all_cgroups() if Path(path).name in names}


def all_cgroups():
    """Of every engine, and of every shim that a test drives."""
    patterns = ("sys/fs/cgroup/mdocker-*", "sys/fs/cgroup/*/mdocker-*")
    return {str(path) for pattern in patterns for path in Path("/").glob(pattern)}


def driven_cgroups():
    """Of shims that tests in this process drive: `ShimDriver` names them by its pid."""
    ours = re.compile(rf"mdocker-[a-z]+{os.getpid()}(-\d+)?")
    return {path for path in all_cgroups() if ours.fullmatch(Path(path).name)}


def our_mounts(base):
    """Mounts in our own mount namespace that lie below `base`."""
    return {line for line in Path("/proc/self/mountinfo").read_text().splitlines() if base in line}


def payloads(base):
    """Processes whose root file system is an overlay of an engine below `base`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{base}/" in (entry / "mountinfo").read_text() and entry.name != "self":
                    found[int(entry.name)] = (entry / "comm").read_text().strip()
            except OSError:
                continue
    return found


def settings_of_the_machine():
    """What payloads are made to try to write."""
    names = ("core_pattern", "modprobe", "hostname", "domainname")
    paths = [Path("/proc/sys/kernel", name) for name in names]
    return {(path, path.read_text()) for path in paths if path.exists()}


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory):
    """At the end of the suite no process, cgroup or mount of any test's engine is there.

    Other engines on this machine are not looked at. And no payload has changed the machine itself.
    """
    base = tmp_path_factory.getbasetemp()
    before = settings_of_the_machine()
    yield
    left = {
        "processes": our_processes(base),
        "payloads": payloads(str(base)),
        "cgroups": our_cgroups(base) | driven_cgroups(),
        "mounts": our_mounts(str(base)),
        "settings": settings_of_the_machine() ^ before,
    }
    assert not any(left.values()), f"left behind: {left}"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """A supervisor for this module, on asyncio."""
    process = EngineProcess(tmp_path_factory.mktemp("engine")).start()
    yield process
    process.close()


@pytest.fixture
def fresh_engine(tmp_path):
    """A supervisor for this test alone, for those that kill it or fill its disk."""
    process = EngineProcess(tmp_path / "engine").start()
    yield process
    process.close()


@pytest.fixture
def disk(tmp_path):
    """A disk that can hang. Asked for before an engine, it goes after it."""
    made = LoopDisk(tmp_path / "disk")
    yield made
    made.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Debian's docker-registry on loopback, open to all; tests use repositories of their own."""
    yield from _registry(tmp_path_factory)


@pytest.fixture(scope="module")
def registry_with_password(tmp_path_factory):
    """One that asks for a basic login."""
    yield from _registry(tmp_path_factory, login="basic")


@pytest.fixture(scope="module")
def registry_with_tokens(tmp_path_factory):
    """One that asks for tokens of its token server."""
    yield from _registry(tmp_path_factory, login="token")


# Each has a thread, which must be gone before the next file: some have a child made by clone3(2)
# in this very process, and whatever another thread holds at that moment the child waits for.
def _registry(tmp_path_factory, **how):
    process = RegistryProcess(tmp_path_factory.mktemp("registry"), **how).start()
    yield process
    process.close()


@pytest.fixture
def layout(tmp_path):
    """An empty OCI image layout."""
    return OciLayout(tmp_path / "layout")


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory):
    """A root file system of busybox as a tar."""
    folder = tmp_path_factory.mktemp("busybox")
    tree = folder / "tree"
    bare_tree(tree)
    (tree / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbird:x:1234:5678::/tmp:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\nbird:x:5678:\nflock:x:999:bird\n")
    path = folder / "busybox.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(tree, ".")
    return path


@pytest.fixture(scope="module")
def busybox(engine, busybox_tar):
    """The image `busybox` in this module's engine."""
    answer = engine.request(
        "POST",
        "/images/create?fromSrc=-&repo=busybox&tag=latest",
        busybox_tar.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200, answer
    assert b"error" not in answer.body, answer
    return "busybox"


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "python"])
def shim_of_module(request, tmp_path_factory):
    """A shim without a supervisor, once with fast starts and once with Python inits."""
    directory = tmp_path_factory.mktemp("shim")
    driver = ShimDriver(directory, busybox_tree(directory / "lower"), fast=request.param)
    yield driver
    driver.close()


@pytest.fixture
def driver(shim_of_module):
    """The module's shim; the containers of a test end with it."""
    yield shim_of_module
    shim_of_module.forget_all()
