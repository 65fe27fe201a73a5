"""Who the payload runs as: Docker's `user[:group]` against a container's passwd and group. Pure.

The rules are those of the Docker engine: digits are always a number and never a name (an image
could call its root 1000), an unknown number is taken as it is (group 0, home "/"), an unknown name
is refused; supplementary groups come from the group file unless a group was named; the primary
group is always among them, and so are those that were added. Where Docker's arithmetic overflows,
or takes a number for a group's name, we don't.
"""

from __future__ import annotations

from runtime.errors import UserUnknown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HIGHEST_ID = 2**31 - 1
_MOST_DIGITS = 10


class Identity:
    """Numbers for setresuid and friends, and the home directory.

    Attributes:
        groups: Supplementary groups, the primary one first.
    """

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], home: bytes) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(user: bytes, passwd: bytes, group: bytes, added: Sequence[bytes] = ()) -> Identity:
    """Find `user` in the text of the two files; lines that make no sense are passed over.

    Args:
        added: Further supplementary groups, by name or number.

    Raises:
        UserUnknown: a name is in neither file, or a number is out of range.
    """
    wanted, separator, wanted_group = user.partition(b":")
    if separator and not wanted_group:
        separator = b""
    name, uid, gid, home = b"", 0, 0, b"/"
    wanted = wanted or b"0"
    number = _number(wanted)
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) < 4:
            continue
        found, its_group = _number(fields[2]), _number(fields[3])
        if found < 0 or its_group < 0:
            continue
        if found == number if number >= 0 else fields[0] == wanted:
            name, uid, gid = fields[0], found, its_group
            home = (fields[5] if len(fields) > 5 else b"") or b"/"
            break
    else:
        if number < 0:
            raise UserUnknown("user", _text(wanted), "no matching entries in passwd file")
        uid = number
    if uid > _HIGHEST_ID or gid > _HIGHEST_ID:
        raise UserUnknown("user", _text(wanted), f"ids go from 0 to {_HIGHEST_ID}")
    groups: list[int] = []
    if separator:
        gid = _resolve_group(wanted_group, group)
    elif name:
        groups = [number for number, names in _group_lines(group) if name in names]
    groups += [_resolve_group(one, group) for one in added]
    return Identity(uid, gid, list(dict.fromkeys([gid, *groups])), home)


def _resolve_group(wanted: bytes, group: bytes) -> int:
    number = _number(wanted)
    if number < 0:
        for line in group.split(b"\n"):
            fields = line.split(b":")
            if len(fields) >= 3 and fields[0] == wanted and (number := _number(fields[2])) >= 0:
                break
        else:
            raise UserUnknown("group", _text(wanted), "no matching entries in group file")
    if number > _HIGHEST_ID:
        raise UserUnknown("group", _text(wanted), f"ids go from 0 to {_HIGHEST_ID}")
    return number


def _number(text: bytes) -> int:
    """An id, at most one beyond what can be one; -1 for what is no number.

    A file of an image's may hold any number of digits, and Python refuses to read more than 4300.
    """
    if not text.isdigit():
        return -1
    digits = text.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _MOST_DIGITS else _HIGHEST_ID + 1


def _group_lines(group: bytes) -> list[tuple[int, list[bytes]]]:
    lines = [line.split(b":") for line in group.split(b"\n")]
    return [
        (number, fields[3].split(b","))
        for fields in lines
        if len(fields) >= 4 and 0 <= (number := _number(fields[2])) <= _HIGHEST_ID
    ]


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
