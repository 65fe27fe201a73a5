"""Which processes the kernel kills first when memory is short: others, not the engine.

Kernel facts: proc(5), /proc/PID/oom_score_adj. It is inherited; anybody may raise a value of their
own, only CAP_SYS_RESOURCE may make it lower than it ever was. With all of its memory counted, a
process at -900 is killed after almost every other; at -1000 it never would be, even where it is the
one that eats the memory.
"""

from __future__ import annotations

PATH = "/proc/self/oom_score_adj"
SPARED = -900


def spare_us(path: str = PATH) -> bytes:
    """Ask the kernel to kill others first.

    Without CAP_SYS_RESOURCE our value stays as it is.

    Returns:
        What a container's init must write there, so that containers don't inherit what spares us;
        b"" where it inherits the right value. Containers get 0, as Docker's do, or what we began
        with where that was more.

    Raises:
        OSError: The file can't be read.
    """
    with open(path, "rb", 0) as file:
        before = int(file.read())
    spared = before <= SPARED
    if not spared:
        try:
            write(b"%d" % SPARED, path)
            spared = True
        except OSError:
            spared = False  # we lack the capability
    return b"%d" % max(before, 0) if spared or before < 0 else b""


def write(value: bytes, path: str = PATH) -> None:
    """Set our own value.

    Raises:
        OSError: We lack the capability to go that low.
    """
    with open(path, "wb", 0) as file:
        file.write(value)
