"""Starts the children that read what strangers wrote: see `confinement` for what they give up."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_CHECKOUT = str(Path(__file__).resolve().parents[2])
# Appended, not put first: the standard library must win over whatever lies beside us.
_BOOT = (
    "import sys; where = 3 + int(sys.argv[2]); sys.path += sys.argv[3:where];"
    " __import__('runtime.images.' + sys.argv[1], fromlist=['main']).main(*sys.argv[where:])"
)


def start(
    module: str, words: Sequence[str], stdin_fd: int, kept_fds: Iterable[int]
) -> subprocess.Popen[bytes]:
    """Starts `runtime.images.MODULE.main(*words)`.

    -S -E -I: no site-packages, no environment, so that nothing of the user's is run as root.

    Args:
        kept_fds: The descriptors that it has beside its stdin, by the same numbers.

    Raises:
        OSError: No process, no memory.
    """
    paths = [_CHECKOUT, *libraries()]
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", "-E", "-X", "utf8", "-c", _BOOT),
            *(module, str(len(paths)), *paths, *words),
        ],
        stdin=stdin_fd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=tuple(kept_fds),
        env={"LC_ALL": "C"},
        cwd="/",
    )


@functools.cache
def libraries() -> tuple[str, ...]:
    """Where the decompressors are that the standard library lacks: in site-packages, mostly."""
    found = (importlib.util.find_spec(name) for name in ("zstandard", "isal"))
    return tuple({str(Path(one.origin).parents[1]) for one in found if one and one.origin})
