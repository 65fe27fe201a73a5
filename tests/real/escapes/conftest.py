"""What the escapes share: the peer, and Python in a container of busybox."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from runtime.spec import Bind
from tests.real.escapes.peer import Runc
from tests.real.shim_driver import busybox_tree

_EVERYTHING = os.environ.get("MDOCKER_ESCAPES") == "all"
_ONCE = ("test_machine.py", "test_runtime_overwrite.py")


def pytest_collection_modifyitems(items):
    """Where both ways of starting end in the same kernel's answer, one of them is enough each day;
    the other is for `make escapes`."""
    if _EVERYTHING:
        return
    skipped = pytest.mark.skip(reason="make escapes runs it")
    for item in items:
        again = item.path.name in _ONCE and "[python" in item.name
        if again and item.path.parent == Path(__file__).parent:
            item.add_marker(skipped)


@pytest.fixture(scope="session")
def runc(tmp_path_factory):
    """The peer, on a root of busybox of its own."""
    directory = tmp_path_factory.mktemp("runc")
    return Runc(directory, busybox_tree(directory / "rootfs"))


@pytest.fixture(scope="session")
def python():
    """This interpreter for a container without one: (its path, the binds that it needs)."""
    places = dict.fromkeys((sys.base_prefix, "/usr", "/lib", "/lib64"))
    binds = tuple(Bind(place, place, readonly=True) for place in places if os.path.isdir(place))
    return os.path.realpath(sys.executable), binds
