"""The disks of the virtual machine that runs all of tests/real: ext4 images (mke2fs(8))."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zlib
from pathlib import Path

from tests.vm.machine import CHECKOUT

EMPTY = ("/tmp", "/var/tmp", "/var/lib/docker", "/var/lib/containers", "/var/lib/mdocker")
"""Directories of the guest's own: an overlay's upper directory can't be on another overlay."""

_BYTES = 16 << 30
_NOT_COPIED = (".git", ".cache", ".*_cache", ".hypothesis")
_NOT_OF_PYTHON = ("site-packages", "dist-packages", "test", "idlelib", "config-*")
_NOT_OF_USR = (
    *("src", "games", "share/doc", "share/man", "share/info", "share/locale", "include/node"),
    *("lib/jvm", "lib/llvm-*", "lib/debug", "lib/modules", "lib/google-cloud-sdk"),
    *("local/cuda*", "share/icons", "share/fonts"),
)
"""What no test can want of it, and is large. (Some want a compiler.)"""
_INSTALLED = Path("/var/lib/dpkg/status")


def copied() -> dict[Path, tuple[str, ...]]:
    """The checkout, its virtualenv and Python's own modules, each with what is left out.

    The first as it is now: it may be edited while this runs. The others because each import over
    9p asks this side several times, which takes as long as all the rest.
    """
    modules = Path(sysconfig.get_path("stdlib"))
    prefix = Path(sys.prefix)
    folders = {CHECKOUT: _NOT_COPIED}
    if not modules.is_relative_to("/usr"):
        folders[modules] = _NOT_OF_PYTHON
    if not prefix.is_relative_to(CHECKOUT) and not modules.is_relative_to(prefix):
        folders[prefix] = ()
    return folders


def own_disk(scratch: Path) -> Path:
    """An image in `scratch` with what is copied, and the empty directories."""
    tree = scratch / "tree"
    for folder in EMPTY:
        (tree / folder.lstrip("/")).mkdir(parents=True, mode=0o755)
    for folder in ("tmp", "var/tmp"):
        (tree / folder).chmod(0o1777)
    for folder, left_out in copied().items():
        shutil.copytree(
            folder,
            tree / str(folder).lstrip("/"),
            symlinks=True,
            ignore=shutil.ignore_patterns(*left_out),
        )
    disk = scratch / "disk"
    _make(disk, tree, _BYTES, "-O", "quota,project", "-E", "quotatype=prjquota")
    shutil.rmtree(tree)
    return disk


def usr_disk(cache: Path) -> Path:
    """An image with this machine's /usr, made anew where packages have come or gone since.

    Over 9p a program starts slowly, and no kernel shows the ids of that file system shifted, which
    containers of the image `host` in user namespaces need.
    """
    cache.mkdir(parents=True, exist_ok=True)
    stamp = _INSTALLED.stat().st_mtime_ns if _INSTALLED.exists() else 0
    left_out = [f"--exclude=./{name}" for name in _NOT_OF_USR]
    disk = cache / f"usr-{stamp:x}-{zlib.crc32(repr(left_out).encode()):x}.ext4"
    if disk.exists():
        return disk
    print("copying /usr, once ...", flush=True)
    for old in cache.glob("usr-*.ext4"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        tree, image = Path(scratch, "tree"), Path(scratch, "image")
        tree.mkdir()
        kept = ("--xattrs", "--xattrs-include=*")
        with subprocess.Popen(
            ["tar", "-C", "/usr", *kept, *left_out, "-cf", "-", "."], stdout=subprocess.PIPE
        ) as packer:
            unpack = ["tar", "-C", str(tree), *kept, "-xpf", "-"]
            subprocess.run(unpack, stdin=packer.stdout, check=True)
        _make(image, tree, _BYTES, "-O", "^has_journal")
        os.replace(image, disk)
    return disk


def _make(image: Path, tree: Path, size: int, *options: str) -> None:
    with image.open("wb") as file:
        file.truncate(size)  # sparse: it takes what is in it
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, "-d", str(tree), str(image)], check=True)
