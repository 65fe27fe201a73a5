"""What the escapes share: the peer, and Python in a container of busybox."""

from __future__ import annotations

import os
import sys

import pytest

from runtime.spec import Bind
from tests.real.escapes.peer import Runc
from tests.real.shim_driver import busybox_tree


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
