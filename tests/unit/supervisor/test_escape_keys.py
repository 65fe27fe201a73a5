"""Keys that detach: how they are spelt, and that they are found however what is typed arrives."""

import contextlib
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.errors import BadParameter
from supervisor.escape_keys import EscapeKeys, parse

KEYS = st.binary(min_size=1, max_size=5)
FEW = st.sampled_from([0x10, 0x11, 0x61])  # few of a kind, so that beginnings of the keys abound
TYPED = st.lists(st.lists(FEW).map(bytes))


def typed(keys, pieces):
    """What is passed on of pieces, and whether they detach."""
    watch = EscapeKeys(keys)
    return b"".join(watch.feed(piece) for piece in pieces), watch.detached


@given(st.lists(FEW, min_size=1, max_size=4).map(bytes), TYPED)
@example(b"\x10\x10\x11", [b"\x10\x10", b"\x10\x11a"])
@example(b"\x10\x11", [b"a\x10", b"\x11b"])
def test_they_are_found_wherever_they_are_and_nothing_else_is_lost(keys, pieces):
    whole = b"".join(pieces)
    passed, detached = typed(keys, pieces)
    assert detached == (keys in whole)
    if detached:
        assert passed == whole.partition(keys)[0]
    else:
        waiting = whole[len(passed) :]
        assert whole.startswith(passed)
        assert keys.startswith(waiting)
        assert waiting != keys
        # No more waits than has to: a longer end of it would be no beginning of the keys.
        longer = (whole[at:] for at in range(len(whole) - len(waiting)))
        assert not any(keys.startswith(end) for end in longer)


@given(KEYS, st.binary(), st.binary())
def test_behind_the_keys_nothing_is_passed_on(keys, before, after):
    watch = EscapeKeys(keys)
    watch.feed(before + keys)
    assert watch.detached
    assert watch.feed(after) == b""


@given(KEYS, st.binary())
def test_one_at_a_time_or_all_at_once_is_the_same(keys, data):
    assert typed(keys, [data]) == typed(keys, [data[at : at + 1] for at in range(len(data))])


def test_what_does_not_become_the_keys_is_passed_on_with_the_next_byte():
    watch = EscapeKeys(parse(""))
    assert [watch.feed(one) for one in (b"a", b"\x10", b"\x10", b"b")] == [
        b"a",
        b"",
        b"\x10",
        b"\x10b",
    ]


def test_how_keys_are_spelt():
    assert parse("") == parse("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_") == b"\x00\x1b\x1c\x1d\x1e\x1f"
    assert parse("a,Z,~, ,-") == b"aZ~ -"
    assert parse("DEL") == b"\x7f"
    letters = string.ascii_lowercase
    assert parse(",".join(f"ctrl-{letter}" for letter in letters)) == bytes(range(1, 27))


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-A", "ctrl-aa", "ab", "a,,b", ",", "é", "ctrl-é"])
def test_what_is_no_key_is_refused_by_its_name(text):
    with pytest.raises(BadParameter) as refusal:
        parse(text)
    assert f"({text})" in str(refusal.value)


@given(st.text(max_size=20))
def test_any_text_is_keys_or_refused(text):
    with contextlib.suppress(BadParameter):
        assert len(parse(text)) == len((text or "ctrl-p,ctrl-q").split(","))
