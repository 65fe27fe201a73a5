"""The init that `--init` puts before a payload: a real one of this machine's, found and looked at.

Reaping zombies and passing on signals is what tini and catatonit are for; none is ours. It must be
statically linked: it is executed where the container's libraries are, and not the machine's.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator, Sequence

from supervisor.errors import Unsupported

NAME = "/sbin/docker-init"
"""What it is called in the container: its argv[0], as in Docker."""

_NAMES = ("docker-init", "tini-static", "tini", "catatonit")
_DIRECTORIES = (
    "/usr/local/libexec/docker",
    "/usr/libexec/docker",
    "/usr/local/lib/docker",
    "/usr/lib/docker",
)
_LAST = ("/usr/libexec/podman",)
_ADVICE = (
    "--init needs a statically linked init on this machine: install tini (apt-get install tini, "
    "which has tini-static), docker-init or catatonit"
)
_PT_INTERP = 3


def find(directories: Sequence[str] | None = None) -> str:
    """The path of an init, without symbolic links. It reads the disk.

    Args:
        directories: Where to look; None for Docker's places, PATH, and podman's.

    Raises:
        Unsupported: There is none; the text says what to install.
    """
    if directories is None:
        known = os.environ.get("PATH", os.defpath).split(":")
        directories = (*_DIRECTORIES, *(one for one in known if one.startswith("/")), *_LAST)
    dynamic = ""
    for path in _candidates(directories):
        try:
            if is_static(path):
                return path
        except (OSError, ValueError):
            continue
        dynamic = dynamic or path
    if dynamic:
        raise Unsupported(f"{_ADVICE}; {dynamic} is dynamically linked")
    raise Unsupported(_ADVICE)


def _candidates(directories: Sequence[str]) -> Iterator[str]:
    for name in _NAMES:
        for directory in directories:
            path = f"{directory}/{name}"
            if os.access(path, os.X_OK):
                yield os.path.realpath(path)


def is_static(path: str) -> bool:
    """Whether a program needs nothing but the kernel: elf(5), no PT_INTERP among its segments.

    Raises:
        OSError: It can't be read.
        ValueError: It is no program of this machine's.
    """
    head, ours = _head(path), _head(sys.executable)
    # Magic number, width, byte order; and the machine.
    if (head[:6], head[18:20]) != (ours[:6], ours[18:20]) or len(head) < 64:
        raise ValueError(f"{path} is no program for this machine")
    offset = int.from_bytes(head[32:40], sys.byteorder)
    size, count = struct.unpack_from("=HH", head, 54)
    segments = [head[at : at + 4] for at in range(offset, offset + size * count, size or 1)]
    return _PT_INTERP.to_bytes(4, sys.byteorder) not in segments


def _head(path: str) -> bytes:
    """The beginning, with ELF's header and as a rule all of its segments' (64 bits)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no file")
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
