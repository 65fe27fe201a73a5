"""Reading a small file of /etc as the overlay will show it, before it is mounted.

Only the plain cases: real directories and regular files, whiteouts and opaque directories
(Documentation/filesystems/overlayfs.rst). Whatever is not plain is `Unusual`, and then the init
reads the file itself, inside the container.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_FILE = 1024 * 1024


class Unusual(Exception):
    """Not a case for this module."""


def read_etc(layers: Sequence[bytes], names: Sequence[bytes]) -> list[bytes]:
    """What is in these files of /etc, b"" where there is none. `layers` have the topmost first.

    Raises:
        Unusual: a link, a device, a file that overlayfs keeps apart from its content, a huge one.
    """
    found: dict[bytes, bytes] = {}
    for layer in layers:
        if len(found) == len(names):
            break
        try:
            etc = os.open(layer + b"/etc", _DIRECTORY)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unusual from error
        try:
            for name in names:
                if name not in found and (content := _read(etc, name)) is not None:
                    found[name] = content
        finally:
            os.close(etc)
    return [found.get(name, b"") for name in names]


def _read(etc: int, name: bytes) -> bytes | None:
    """The content in this layer; None where the layers below it are asked.

    By descriptor: a container that runs may put a link in the directory's place meanwhile. And it
    may have made a device of it: here, outside, to open one already is to use it (a watchdog, a
    tape).
    """
    try:
        place = os.open(name, _LOOK, dir_fd=etc)
    except FileNotFoundError:
        if _has_attribute(etc, "trusted.overlay.redirect"):
            raise Unusual from None
        return b"" if _has_attribute(etc, "trusted.overlay.opaque") else None
    except OSError as error:
        raise Unusual from error
    try:
        about = os.fstat(place)
        if not stat.S_ISREG(about.st_mode) or about.st_size > _LONGEST_FILE:
            raise Unusual
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unusual from error
    finally:
        os.close(place)
    try:
        if _has_attribute(fd, "trusted.overlay.metacopy"):
            raise Unusual
        return os.read(fd, about.st_size)
    finally:
        os.close(fd)


def _has_attribute(file: int, name: str) -> bool:
    try:
        os.getxattr(file, name)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise Unusual from error
    return True
