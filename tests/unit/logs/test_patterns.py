"""Patterns of strangers: they find what `re` finds, in a time that does not explode."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logs.drivers import LogOptionRefused, check_options
from logs.patterns import Pattern, PatternError

PIECES = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\.", r"\d", r"\w", "^", "$", r"\b", "-", ""]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


@given(PIECES, st.lists(st.text("ab.-1", max_size=6), max_size=6))
def test_finds_what_re_finds(pattern, texts):
    ours, theirs = Pattern(pattern), re.compile(pattern.replace("$", r"\Z"), re.ASCII)
    for text in texts:
        assert ours.found_in(text) == (theirs.search(text) is not None), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (r"^com\.example\.", "com.example.tier", True),
        (r"^com\.example\.", "org.com.example.", False),
        (r"(?i)TIER$", "com.tier", True),
        (r"[]x]", "]", True),
        (r"[\]x]{2}", "]x", True),
        (r"^[[|&~]+$", "[|&~", True),
        (r"[\\[]", "[", True),
        (r"(?P<name>tier|team)", "the team", True),
        (r"\x41", "A", True),
        ("é+", "né", True),
        ("", "anything", True),
        (r"\bteam\b", "a-team-b", True),
        (r"\bteam\b", "steam", False),
        (r"a\Bb", "ab", True),
    ],
)
def test_by_example(pattern, text, found):
    assert Pattern(pattern).found_in(text) is found


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|a)*$", "(a|aa)+$", "^" + "a*" * 50 + "$", "(.*)*x"]
)
def test_what_would_explode_does_not(pattern):
    began = time.process_time()
    assert not Pattern(pattern).found_in("a" * 5000 + "!")
    # `re` would take longer than the age of the world.
    assert time.process_time() - began < 10


REFUSED = ["(", ")", "a)", "[a", "*", "a**", "(?=a)", r"(a)\1", r"\p{L}", "a{2,1}", "[z-a]", "\\"]


@pytest.mark.parametrize("pattern", [*REFUSED, "(?#x)", "(a{1000}){1000}", "(" * 20_000])
def test_refused(pattern):
    with pytest.raises(PatternError):
        Pattern(pattern)
    with pytest.raises(LogOptionRefused, match=r"invalid labels-regex: .* is no reg"):
        check_options("json-file", {"labels-regex": pattern})


def test_nothing_many_times_is_nothing():
    assert Pattern("((((){9999}){9999}){9999}){9999}x").found_in("x")


@given(st.text("ab()[]{}|*+?\\^$.,-12dwbP<>:!", max_size=12))
def test_anything_is_compiled_or_refused(text):
    try:
        pattern = Pattern(text)
    except PatternError:
        return
    pattern.found_in("ab12")
