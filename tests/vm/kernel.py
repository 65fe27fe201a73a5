"""Debian's kernel for the virtual machine: fetched once with apt, unpacked into a cache.

Nothing is installed: the package is only opened. What is kept of it:

    <cache>/<release>/vmlinuz
    <cache>/<release>/modules/*.ko      those that `MODULES` and `SUITE_MODULES` need, to be...
    <cache>/<release>/modules.order     ...loaded in the order of their names here, one a line,
    <cache>/<release>/suite.order       and in this one for all of tests/real
"""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
SUITE_MODULES = (
    *MODULES,
    *("virtio_blk", "crc32c_generic", "ext4", "quota_v2", "loop"),  # a disk, and tests' own ones
    "bfq",  # the I/O scheduler of weights
)
META_PACKAGE = "linux-image-amd64"  # the -cloud- kernel is smaller, but has no 9p

_APT = (
    *("-q", "-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20"),
    *("-o", "APT::Sandbox::User=root"),  # its own user can't write into our cache
)
_XZ_SUFFIX = ".xz"  # trixie's modules are compressed, bookworm's are not


class Unavailable(Exception):
    """The machine can't be had here; the text says why and what would help."""


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot.

    Attributes:
        release: As `uname -r` will say.
        image: The bzImage.
        modules: Files to load, each after those it needs.
        suite_modules: The same for a machine that runs all of tests/real.
    """

    release: str
    image: Path
    modules: tuple[Path, ...]
    suite_modules: tuple[Path, ...]


def obtain(cache: Path) -> Kernel:
    """The kernel in `cache`, or else the one that apt offers, put there.

    Raises:
        Unavailable: apt isn't there, doesn't know the package, or can't download it.
    """
    for order in sorted(cache.glob("*/suite.order"), reverse=True):
        return _kernel(order.parent)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        return open_package(_download(Path(scratch)), cache)


def open_package(package: Path, cache: Path) -> Kernel:
    """Put the kernel of a Debian package in `cache`.

    Raises:
        Unavailable: It holds no kernel.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        unpacked = Path(scratch, "unpacked")
        release = _unpack(package, unpacked)
        place = cache / release
        shutil.rmtree(place, ignore_errors=True)
        os.replace(unpacked, place)
    return _kernel(place)


def _kernel(place: Path) -> Kernel:
    return Kernel(
        release=place.name,
        image=place / "vmlinuz",
        modules=_modules(place, "modules.order"),
        suite_modules=_modules(place, "suite.order"),
    )


def _modules(place: Path, order: str) -> tuple[Path, ...]:
    names = (place / order).read_text().split()
    return tuple(place / "modules" / f"{name}.ko" for name in names)


def _download(folder: Path) -> Path:
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"no {tool} here to fetch Debian's kernel with")
    name = _package_name()
    if name is None:
        _run("apt-get", *_APT, "update")
        name = _package_name()
    if name is None:
        raise Unavailable(f"apt knows no {META_PACKAGE} (an archive of Debian for amd64 has it)")
    try:
        _run("apt-get", *_APT, "download", name, cwd=folder)
    except Unavailable:
        # The lists are older than the archive, which keeps no superseded package.
        _run("apt-get", *_APT, "update")
        name = _package_name() or name
        _run("apt-get", *_APT, "download", name, cwd=folder)
    return next(folder.glob("*.deb"))


def _package_name() -> str | None:
    """What the meta package stands for now, such as linux-image-6.1.0-56-amd64."""
    told = subprocess.run(
        ["apt-cache", "depends", META_PACKAGE], capture_output=True, text=True, check=False
    )
    found = re.search(r"Depends: (linux-image-\S+)", told.stdout)
    return found[1] if found else None


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines()
        why = next((line for line in lines if line.startswith("E: ")), f"exit {done.returncode}")
        raise Unavailable(f"{command[0]} {command[-1]}: {why}")


def _unpack(package: Path, place: Path) -> str:
    """Keep image and modules of `package` in `place`; returns the release."""
    (place / "modules").mkdir(parents=True)
    objects: dict[str, bytes] = {}
    release = ""
    with (
        subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
        ) as opener,
        tarfile.open(fileobj=opener.stdout, mode="r|") as archive,
    ):
        for member in archive:
            path = Path(member.name)
            if path.name.startswith("vmlinuz-"):
                release = path.name.removeprefix("vmlinuz-")
                (place / "vmlinuz").write_bytes(archive.extractfile(member).read())
            elif member.isfile() and ".ko" in path.suffixes and _may_be_needed(path):
                objects[_module_name(path.name)] = _plain(path, archive.extractfile(member).read())
    if not release:
        raise Unavailable(f"{package.name} holds no kernel image")
    for file_name, wanted in (("modules.order", MODULES), ("suite.order", SUITE_MODULES)):
        order = load_order(wanted, objects)
        for name in order:
            (place / "modules" / f"{name}.ko").write_bytes(objects[name])
        if "9p" not in order:
            raise Unavailable(f"{package.name} has no 9p, as the -cloud- kernels have not")
        (place / file_name).write_text("\n".join(order) + "\n")
    return release


def _may_be_needed(path: Path) -> bool:
    """Virtual devices, file systems and their network: not the thousands of drivers."""
    parts = ("virtio", "fs", "net/9p", "lib", "crypto", "kernel/block", "drivers/block")
    return any(f"/{part}/" in path.as_posix() for part in parts)


def _module_name(file_name: str) -> str:
    return file_name.split(".ko")[0].replace("-", "_")


def _plain(path: Path, data: bytes) -> bytes:
    return lzma.decompress(data) if path.suffix == _XZ_SUFFIX else data


def load_order(wanted: tuple[str, ...], objects: dict[str, bytes]) -> list[str]:
    """`wanted` and all that they need, each after what it needs (as depmod would say it).

    A module names its needs in its .modinfo section: depends=a,b. What isn't among `objects` is
    built into the kernel.
    """
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order or name not in objects:
            return
        found = re.search(rb"\0depends=([^\0]*)\0", objects[name])
        for need in found[1].decode().split(",") if found else ():
            visit(need.replace("-", "_"))
        order.append(name)

    for name in wanted:
        visit(name)
    return order
