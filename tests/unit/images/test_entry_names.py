"""Where entries of an archive may go."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images.entry_names import (
    Links,
    check_symlink,
    checked_link_source,
    checked_name,
    shown,
)
from runtime.images.tar_source import Refusal

parts = st.sampled_from(["a", "b", "..", ".", "", "...", "c d"])
names = st.lists(parts, min_size=1, max_size=6).map("/".join)


@pytest.mark.parametrize(
    ("name", "checked"),
    [
        ("a", "a"),
        ("./a", "a"),
        ("./a//b/./c/", "a/b/c"),
        (".", ""),
        ("./", ""),
        ("...", "..."),
        ("a/..b", "a/..b"),
    ],
)
def test_normalised(name, checked):
    assert checked_name(name) == checked


@pytest.mark.parametrize("name", ["/a", "//a", "../a", "a/../b", "a/..", "..", "a\0b"])
def test_refused_with_its_name(name):
    with pytest.raises(Refusal) as refusal:
        checked_name(name)
    assert shown(name) in str(refusal.value)


@given(names)
def test_no_name_leads_out(name):
    try:
        checked = checked_name(name)
    except Refusal:
        assert name.startswith("/") or ".." in name.split("/")
        return
    assert posixpath.normpath("/" + checked).lstrip("/") == checked


@pytest.mark.parametrize("target", ["", "/etc/passwd", "../a", "a/../../b", "a\0"])
def test_hard_links_lead_in(target):
    with pytest.raises(Refusal, match="hard link leads out"):
        checked_link_source("x", target)


@pytest.mark.parametrize(
    ("name", "target"),
    [("a", "b"), ("a", "/etc"), ("a/b", "../c"), ("a/b", ".."), ("a", "."), ("a/b/c", "../../d")],
)
def test_symbolic_links_that_stay_inside(name, target):
    check_symlink(name, target)


@pytest.mark.parametrize(
    ("name", "target"),
    [("a", ".."), ("a", "../b"), ("a/b", "../../c"), ("a", "b/../../c"), ("a", "")],
)
def test_symbolic_links_that_lead_out(name, target):
    with pytest.raises(Refusal):
        check_symlink(name, target)


def test_names_are_followed_through_links_as_the_container_would():
    links = Links()
    links.add("lib", "usr/lib")
    links.add("usr/lib/deep", "/opt/real")
    links.add("opt/real/up", "../../etc")
    assert links.resolve_directory("lib") == "usr/lib"
    assert links.resolve_directory("lib/deep/x") == "opt/real/x"
    assert links.resolve_directory("lib/deep/up/ssl") == "etc/ssl"
    assert links.resolve_directory("bin") == "bin"


def test_a_link_that_was_replaced_is_not_followed():
    links = Links()
    links.add("lib", "usr/lib")
    assert links.resolve_directory("lib/x") == "usr/lib/x"
    links.discard("lib")
    assert links.resolve_directory("lib/x") == "lib/x"
    links.add("d/l", "/etc")
    links.discard_below("d")
    assert links.resolve_directory("d/l") == "d/l"


def test_a_loop_of_links_ends():
    links = Links()
    links.add("a", "b")
    links.add("b", "a")
    with pytest.raises(Refusal, match="too many levels"):
        links.resolve_directory("a/x")


@given(st.text(max_size=300))
def test_shown_names_fit_one_line(text):
    line = shown(text)
    assert line.isprintable()
    assert len(line) <= 161


def test_undecodable_names_can_be_shown():
    assert shown("a\udcff\x1b[31m\n") == "a\\udcff\\x1b[31m\\n"
