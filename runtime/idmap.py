"""The map of a user namespace: which id inside is which on the machine (user_namespaces(7)). Pure.

A map is a list of extents, each (first id inside, first id outside, how many), as a line of
/proc/PID/uid_map has them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Extents = Iterable[tuple[int, int, int]]

MOST_EXTENTS = 340
"""So many lines the kernel takes since Linux 4.15 (user_namespaces(7))."""


def outside(extents: Extents, inside: int) -> int:
    """The machine's id of one inside; -1 where the map has none."""
    for first, there, count in extents:
        if first <= inside < first + count:
            return there + inside - first
    return -1


def lines(extents: Extents) -> bytes:
    """A map as /proc/PID/uid_map takes it: with one write."""
    return b"".join(b"%d %d %d\n" % extent for extent in extents)


def shifted_options(options: list[bytes], uids: Extents, gids: Extents) -> list[bytes]:
    """tmpfs(5)'s options with the ids of `uid=` and `gid=`, which are meant inside, as they are on
    the machine, in whose user namespace the mount is made.

    Raises:
        ValueError: An id has no place in the map; the text says which.
    """
    return [_shifted(option, uids, gids) for option in options]


def terminal_options(options: bytes | None, gids: Extents) -> bytes | None:
    """devpts's options with the group of terminals as it is on the machine; without one if the map
    has no place for it, so that they belong to their maker's."""
    if options is None or b",gid=" not in options:
        return options
    head, _, rest = options.partition(b",gid=")
    inside, comma, tail = rest.partition(b",")
    there = outside(gids, int(inside))
    return head + (b",gid=%d" % there if there >= 0 else b"") + comma + tail


def _shifted(option: bytes, uids: Extents, gids: Extents) -> bytes:
    name, _, value = option.partition(b"=")
    if name not in (b"uid", b"gid") or not value.isdigit():
        return option
    there = outside(uids if name == b"uid" else gids, int(value))
    if there < 0:
        raise ValueError(f"{option.decode()} of a tmpfs is not in its user namespace's map")
    return b"%b=%d" % (name, there)
