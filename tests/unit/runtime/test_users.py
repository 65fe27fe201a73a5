"""Docker's rules for `user[:group]`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import UserUnknown
from runtime.users import resolve

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment, and lines of no use:
short:x
bad:x:one:two::/:
bird:x:1234:5678::/nest:/bin/sh
4321:x:77:88::/digits:/bin/sh
twin:x:1234:9:::
homeless:x:5:5
"""
GROUP = b"""root:x:0:root
bird:x:5678:
flock:x:999:bird,root
herd:x:998:cow
broken:x:many:bird
main:x:5678:bird
"""


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        (b"", 0, 0, [0, 999], b"/root"),
        (b"root", 0, 0, [0, 999], b"/root"),
        (b"bird", 1234, 5678, [5678, 999], b"/nest"),
        (b"bird:", 1234, 5678, [5678, 999], b"/nest"),
        (b"1234", 1234, 5678, [5678, 999], b"/nest"),
        (b"bird:herd", 1234, 998, [998], b"/nest"),
        (b"bird:31", 1234, 31, [31], b"/nest"),
        (b":herd", 0, 998, [998], b"/root"),
        (b"4321", 4321, 0, [0], b"/"),  # no name, whatever the image has called somebody
        (b"99:98", 99, 98, [98], b"/"),
        (b"99", 99, 0, [0], b"/"),
        (b"homeless", 5, 5, [5], b"/"),
        (b"twin", 1234, 9, [9], b"/"),
    ],
)
def test_found(user, uid, gid, groups, home):
    found = resolve(user, PASSWD, GROUP)
    assert (found.uid, found.gid, found.groups, found.home) == (uid, gid, groups, home)


@pytest.mark.parametrize(
    ("user", "added", "groups"),
    [
        (b"bird", [b"herd", b"31"], [5678, 999, 998, 31]),
        (b"bird:herd", [b"flock"], [998, 999]),
        (b"bird", [b"flock", b"5678", b"31", b"31"], [5678, 999, 31]),  # each once
        (b"99", [b"herd"], [0, 998]),
    ],
)
def test_added_groups(user, added, groups):
    assert resolve(user, PASSWD, GROUP, added).groups == groups


def test_an_added_group_that_is_not_there():
    with pytest.raises(UserUnknown, match="unable to find group cats: no matching entries"):
        resolve(b"bird", PASSWD, GROUP, [b"cats"])


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (b"bob", "unable to find user bob: no matching entries in passwd file"),
        (b"bad", "unable to find user bad: no matching entries in passwd file"),
        (b"-1", "unable to find user -1: no matching entries in passwd file"),
        (b"bird:cats", "unable to find group cats: no matching entries in group file"),
        (b"bird:broken", "unable to find group broken: no matching entries in group file"),
        (b"99999999999", "unable to find user 99999999999: ids go from 0 to 2147483647"),
        (b"1:99999999999", "unable to find group 99999999999: ids go from 0 to 2147483647"),
        (b"\xff", "unable to find user \\xff: no matching entries in passwd file"),
    ],
)
def test_refused(user, words):
    with pytest.raises(UserUnknown) as refused:
        resolve(user, PASSWD, GROUP)
    assert str(refused.value) == words
    assert refused.value.exit_code == 125


@pytest.mark.parametrize("digits", [b"9" * 5000, b"4294967296", b"2147483648"])
def test_numbers_that_no_id_can_be(digits):
    # Python reads no number of 5000 digits, and 32 bits of 2**32 are root's.
    passwd, group = b"big:x:%b:0::/:\ngib:x:5:%b::/:" % (digits, digits), b"all:x:%b:fit" % digits
    for user in (b"big", b"gib", b"5:all", digits, b"5:" + digits):
        with pytest.raises(UserUnknown, match="ids go from 0 to 2147483647"):
            resolve(user, passwd, group)
    with pytest.raises(UserUnknown, match="ids go from"):
        resolve(b"7", passwd, group, [b"all"])
    fit = b"fit:x:7:7::/:\n" + passwd
    assert resolve(b"fit", fit, group).groups == [7]
    assert resolve(b"0" * 5000 + b"7", fit, group).uid == 7


def test_without_files_root_and_numbers_work():
    assert resolve(b"", b"", b"").uid == 0
    assert resolve(b"7:8", b"", b"").groups == [8]


@given(st.binary(), st.binary(), st.binary())
def test_whatever_the_files_hold(user, passwd, group):
    try:
        found = resolve(user, passwd, group)
    except UserUnknown:
        return
    assert 0 <= found.uid < 2**31
    assert found.groups[0] == found.gid
    assert all(0 <= one < 2**31 for one in found.groups)
