"""What the runtime refuses, as one tree. System calls that fail raise plain OSError.

RuntimeRefused
├── CgroupsUnusable     this machine's cgroup trees can't carry containers
├── ShimUnstartable     the shim process could not be brought up
└── InitRefused         the container's init can't go on; carries Docker's exit code
    ├── UserUnknown     no such user or group in the container
    └── PayloadRefused  the command or its working directory can't be used
"""

from __future__ import annotations

import errno


class RuntimeRefused(Exception):
    """Base of the runtime's own refusals; the text is for people."""


class CgroupsUnusable(RuntimeRefused):
    """No cgroup tree, or one without what was asked of it."""


class ShimUnstartable(RuntimeRefused):
    """The shim ended before it listened."""


class InitRefused(RuntimeRefused):
    """Something in the container is not as the spec needs it.

    Attributes:
        errno: The kernel's number for it.
        exit_code: What Docker would end with: 125, 126 or 127.
    """

    def __init__(self, words: str, code: int, exit_code: int) -> None:
        super().__init__(words)
        self.errno = code
        self.exit_code = exit_code


class UserUnknown(InitRefused):
    """No such user or group in the container."""

    def __init__(self, kind: str, name: str, why: str) -> None:
        super().__init__(f"unable to find {kind} {name}: {why}", errno.ENOENT, 125)


class PayloadRefused(InitRefused):
    """The command or its working directory can't be used."""
