"""Docker's rules for what a container may do."""

from __future__ import annotations

import pytest

from runtime import capabilities
from runtime.spec import DEFAULT_CAPABILITIES, DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS
from supervisor.privileges import CapabilityRefused, Privileges, canonical

EVERY = capabilities.mask(capabilities.NAMES)
HERE = EVERY & ~capabilities.mask(["CAP_SYS_RESOURCE"])
"""A machine's root that lacks one."""


def without(*names, of=capabilities.NAMES):
    return set(of) - set(names)


@pytest.mark.parametrize(
    ("added", "dropped", "left"),
    [
        ((), (), set(DEFAULT_CAPABILITIES)),
        (("net_admin",), (), {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        (("CAP_NET_ADMIN", "Net_Admin"), (), {*DEFAULT_CAPABILITIES, "CAP_NET_ADMIN"}),
        ((), ("chown",), without("CAP_CHOWN", of=DEFAULT_CAPABILITIES)),
        ((), ("all",), set()),
        (("chown",), ("ALL",), {"CAP_CHOWN"}),
        (("chown",), ("chown",), set(DEFAULT_CAPABILITIES)),
        (("ALL",), (), without("CAP_SYS_RESOURCE")),
        (("all",), ("ALL",), without("CAP_SYS_RESOURCE")),
        (("ALL",), ("sys_admin",), without("CAP_SYS_RESOURCE", "CAP_SYS_ADMIN")),
        # To do without what is not there costs nothing.
        ((), ("SYS_RESOURCE",), set(DEFAULT_CAPABILITIES)),
    ],
)
def test_what_is_left(added, dropped, left):
    found = Privileges(added=added, dropped=dropped).capabilities(HERE)
    assert set(found) == left and len(set(found)) == len(found)


def test_the_privileged_have_what_there_is_whatever_is_dropped():
    found = Privileges(privileged=True, dropped=("ALL",)).capabilities(HERE)
    assert set(found) == without("CAP_SYS_RESOURCE")


@pytest.mark.parametrize("added", [("SYS_RESOURCE",), ("ALL", "CAP_SYS_RESOURCE")])
def test_what_is_not_there_is_refused_by_its_name(added):
    with pytest.raises(CapabilityRefused, match=r'not available .*"CAP_SYS_RESOURCE"'):
        Privileges(added=added).capabilities(HERE)
    assert "CAP_SYS_RESOURCE" in Privileges(added=added).capabilities(EVERY)


@pytest.mark.parametrize("name", ["", "FOO", "CAP_CAP_CHOWN", "chown ", "CAP_ALL", "21", "ınode"])
def test_what_is_no_capability(name):
    with pytest.raises(CapabilityRefused, match="unknown capability"):
        canonical([name])


def test_protected_paths():
    plain, privileged = Privileges(), Privileges(privileged=True)
    assert (plain.masked, plain.readonly) == (DEFAULT_MASKED_PATHS, DEFAULT_READONLY_PATHS)
    assert (privileged.masked, privileged.readonly) == ((), ())
    asked = Privileges(privileged=True, masked_paths=("/x",), readonly_paths=("/y",))
    assert (asked.masked, asked.readonly) == (("/x",), ("/y",))
    assert Privileges(masked_paths=()).masked == ()
    assert Privileges(readonly_paths=()).readonly == ()
