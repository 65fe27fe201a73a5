"""What the runtime refuses, as one tree. System calls that fail raise plain OSError.

RuntimeRefused
├── CgroupsUnusable     this machine's cgroup trees can't carry containers
└── ShimUnstartable     the shim process could not be brought up
"""

from __future__ import annotations


class RuntimeRefused(Exception):
    """Base of the runtime's own refusals; the text is for people."""


class CgroupsUnusable(RuntimeRefused):
    """No cgroup tree, or one without what was asked of it."""


class ShimUnstartable(RuntimeRefused):
    """The shim ended before it listened."""
