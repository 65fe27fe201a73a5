"""The options of a tmpfs, in the words of mount(8), as `--tmpfs` and a volume's `o` have them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime import flags
from supervisor.errors import BadParameter, Unsupported

DOCKERS_DEFAULT = flags.MOUNT_ATTR_NOEXEC | flags.MOUNT_ATTR_NOSUID
"""What Docker gives a tmpfs beside nodev, which each of ours has."""

_SETS = {
    "ro": flags.MOUNT_ATTR_RDONLY,
    "nosuid": flags.MOUNT_ATTR_NOSUID,
    "noexec": flags.MOUNT_ATTR_NOEXEC,
    "noatime": flags.MOUNT_ATTR_NOATIME,
    "strictatime": flags.MOUNT_ATTR_STRICTATIME,
    "nodiratime": flags.MOUNT_ATTR_NODIRATIME,
}
_CLEARS = {
    "rw": flags.MOUNT_ATTR_RDONLY,
    "suid": flags.MOUNT_ATTR_NOSUID,
    "exec": flags.MOUNT_ATTR_NOEXEC,
    "atime": flags.MOUNT_ATTR_NOATIME | flags.MOUNT_ATTR_STRICTATIME,
    "relatime": flags.MOUNT_ATTR_NOATIME | flags.MOUNT_ATTR_STRICTATIME,
    "diratime": flags.MOUNT_ATTR_NODIRATIME,
}
_AS_IT_IS = frozenset({"", "defaults", "nodev", "async", "nomand", "private", "rprivate"})
_NOT_DONE = frozenset(
    "dev sync dirsync mand remount bind rbind slave rslave shared rshared unbindable "
    "runbindable".split()
)
_TIMES = flags.MOUNT_ATTR_NOATIME | flags.MOUNT_ATTR_STRICTATIME
_SIZE = re.compile(r"[0-9]{1,19}[kKmMgG]?")
_VALUES = {
    "size": re.compile(r"[0-9]{1,19}[kKmMgG%]?"),
    "nr_blocks": _SIZE,
    "nr_inodes": _SIZE,
    "mode": re.compile(r"[0-7]{1,4}"),
    "uid": re.compile(r"[0-9]{1,10}"),
    "gid": re.compile(r"[0-9]{1,10}"),
    "mpol": re.compile(r"[a-z]+(=[a-z]+)?(:[0-9,-]+)?"),
}


def parse(words: Iterable[str], attributes: int = 0) -> tuple[tuple[str, ...], int]:
    """Return tmpfs(5)'s own options and the MOUNT_ATTR_*; of several of a kind the last counts.

    Args:
        attributes: Those to begin with.

    Raises:
        BadParameter: There is no such option, or its value can't be.
        Unsupported: One that we don't do.
    """
    values: dict[str, str] = {}
    for word in words:
        if word in _SETS:
            if _SETS[word] & _TIMES:
                attributes &= ~_TIMES  # they exclude one another: mount_setattr(2)
            attributes |= _SETS[word]
        elif word in _CLEARS:
            attributes &= ~_CLEARS[word]
        elif word in _NOT_DONE:
            raise Unsupported(f"mdocker does not support the tmpfs option {word!r}")
        elif word not in _AS_IT_IS:
            name, sign, value = word.partition("=")
            if not sign or name not in _VALUES:
                raise BadParameter(f'invalid tmpfs option ["{word[:64]}"]')
            if not _VALUES[name].fullmatch(value):
                raise BadParameter(f'invalid tmpfs option ["{name}" "{value[:64]}"]')
            values[name] = value
    return tuple(f"{name}={value}" for name, value in values.items()), attributes
