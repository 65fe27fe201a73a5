"""A pytest plugin for the guest: time limits of tests, which are for real machines, are stretched.

`pytest -p tests.vm.patience`, with the factor in MDOCKER_SLOWNESS. Stretched are marks of
pytest-timeout, and what a test gives as a limit to select(2), to its sockets and to a wait for a
process that it started. A limit of less than `SHORT` is not one: there a test shows that something
does not come. The engine under test is not touched.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import subprocess

import pytest

SHORT = 2.0  # seconds
_SLOWNESS = float(os.environ["MDOCKER_SLOWNESS"])


def pytest_configure():
    """Put the stretching ones in the place of select(), settimeout(), wait() and communicate()."""
    select.select = _stretched(select.select, 3)
    socket.socket.settimeout = _stretched(socket.socket.settimeout, 1)
    subprocess.Popen.wait = _stretched(subprocess.Popen.wait, 1)
    subprocess.Popen.communicate = _stretched(subprocess.Popen.communicate, 2)


def pytest_collection_modifyitems(items):
    """What has a mark of its own gets as much more time as all others."""
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None:
            seconds = marker.args[0] if marker.args else marker.kwargs["timeout"]
            item.add_marker(pytest.mark.timeout(seconds * _SLOWNESS), append=False)


def _stretched(function, position):
    """`function`, whose argument `timeout`, or the one at `position`, is multiplied."""

    @functools.wraps(function)
    def stretched(*words, **named):
        if isinstance(named.get("timeout"), int | float):
            named["timeout"] = _longer(named["timeout"])
        elif len(words) > position and isinstance(words[position], int | float):
            words = (*words[:position], _longer(words[position]), *words[position + 1 :])
        return function(*words, **named)

    return stretched


def _longer(seconds: float) -> float:
    return seconds * _SLOWNESS if seconds >= SHORT else seconds
