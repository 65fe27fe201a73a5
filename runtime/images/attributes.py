"""Extended attributes of tar entries (PAX records `SCHILY.xattr.*`, as GNU tar writes them)."""

from __future__ import annotations

import errno
import os
import tarfile
from collections import Counter

from runtime.images.entry_names import shown
from runtime.images.tar_source import Refusal

_PREFIX = "SCHILY.xattr."
_ACL_PREFIX = "SCHILY.acl."
# To overlayfs they would say "look elsewhere" or "hide what is below" (overlayfs.rst).
_OVERLAY = ("trusted.overlay.", "user.overlay.")
# This file system, or this process, can't have attributes of that kind.
_IMPOSSIBLE_HERE = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES})


def set_attributes(target: int | str, entry: tarfile.TarInfo, warnings: Counter[str]) -> None:
    """Sets an entry's attributes on a descriptor, or on a path that is not followed.

    Call after chown, which takes security.capability away. What can't be kept is counted in
    `warnings`, by kind.

    Raises:
        Refusal: The kernel refuses the attribute itself (too large, malformed).
    """
    for key, text in entry.pax_headers.items():
        if key.startswith(_ACL_PREFIX):
            warnings["access control lists are not kept"] += 1
        if not key.startswith(_PREFIX):
            continue
        name = _decoded(key)
        namespace = name.partition(".")[0]
        if name.startswith(_OVERLAY):
            warnings["attributes of overlayfs are not kept"] += 1
            continue
        try:
            value = text.encode("utf-8", "surrogateescape")
            if isinstance(target, int):
                os.setxattr(target, name, value)
            else:
                os.setxattr(target, name, value, follow_symlinks=False)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _IMPOSSIBLE_HERE:
                warnings[f"{shown(namespace)}.* attributes can't be kept here"] += 1
                continue
            words = (error.strerror if isinstance(error, OSError) else str(error)) or "failed"
            raise Refusal(
                f"{shown(entry.name)}: cannot set the attribute {shown(name)}: {words.lower()}"
            ) from None


def kept_attributes(entry: tarfile.TarInfo) -> dict[str, bytes]:
    """What `set_attributes` sets, or tries to."""
    return {
        name: text.encode("utf-8", "surrogateescape")
        for key, text in entry.pax_headers.items()
        if key.startswith(_PREFIX) and not (name := _decoded(key)).startswith(_OVERLAY)
    }


def _decoded(key: str) -> str:
    return key.removeprefix(_PREFIX).replace("%3D", "=").replace("%25", "%")
