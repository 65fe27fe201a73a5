"""Numbers of a tar entry, checked: a header can hold 256-bit ones."""

from __future__ import annotations

import re
import tarfile

from runtime.images.entry_names import shown
from runtime.images.tar_source import Refusal

_MOST_ID = 0xFFFFFFFE  # (uid_t) -1 means "leave it" to chown(2)
_MOST_MAJOR = 0xFFF
_MOST_MINOR = 0xFFFFF
_MOST_SIZE = (1 << 63) - 1
_MOST_SECONDS = 1 << 40
_DECIMAL = re.compile(r"(-?)(\d{1,15})(?:\.(\d*))?", re.ASCII)


def check_numbers(entry: tarfile.TarInfo) -> None:
    """Refuses what no file system can hold.

    Raises:
        Refusal: Names the entry and the number.
    """
    for word, value, most in (
        ("size", entry.size, _MOST_SIZE),
        ("uid", entry.uid, _MOST_ID),
        ("gid", entry.gid, _MOST_ID),
    ):
        if not 0 <= value <= most:
            raise Refusal(f"{shown(entry.name)}: impossible {word} {value}")
    if entry.mode < 0:
        raise Refusal(f"{shown(entry.name)}: impossible mode {entry.mode}")
    is_node = entry.ischr() or entry.isblk()
    if is_node and not (0 <= entry.devmajor <= _MOST_MAJOR and 0 <= entry.devminor <= _MOST_MINOR):
        raise Refusal(f"{shown(entry.name)}: impossible device {entry.devmajor}:{entry.devminor}")


def mtime_ns(entry: tarfile.TarInfo) -> int:
    """Time of last change in ns; PAX headers tell more digits than tarfile's float keeps.

    Raises:
        Refusal: No time, or one beyond 34,000 years.
    """
    text = entry.pax_headers.get("mtime")
    if text is None:
        seconds = entry.mtime
        if isinstance(seconds, float) and not seconds.is_integer():
            raise Refusal(f"{shown(entry.name)}: impossible time {seconds}")
        if not -_MOST_SECONDS <= seconds <= _MOST_SECONDS:
            raise Refusal(f"{shown(entry.name)}: impossible time {seconds}")
        return int(seconds) * 1_000_000_000
    match = _DECIMAL.fullmatch(text)
    if match is None or int(match.group(2)) > _MOST_SECONDS:
        raise Refusal(f"{shown(entry.name)}: impossible time {shown(text)}")
    sign, whole, fraction = match.groups()
    value = int(whole) * 1_000_000_000 + int((fraction or "")[:9].ljust(9, "0"))
    return -value if sign else value
