"""Words of a Dockerfile: quotes, escapes, variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images.words import pairs, split, substituted

VARIABLES = {"A": "a", "EMPTY": "", "PATH": "/bin", "B2": "b"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$A", "a"),
        ("$AB", ""),
        ("${A}B", "aB"),
        ("$A$B2.$A/$NONE.", "ab.a/."),
        ("'$A'", "$A"),
        ('"$A b"', "a b"),
        ('"\\$A \\"x\\" \\\\ \\n"', '$A "x" \\ \\n'),
        ("\\$A", "$A"),
        ("a\\ b", "a b"),
        ("x\\", "x"),
        ("$", "$"),
        ("$ A", "$ A"),
        ("a$", "a$"),
        ("$1$22$@$*$#$$$?$!$-x", "x"),
        ("${NONE:-d}${EMPTY:-e}${A:-f}", "dea"),
        ("${NONE-d}${EMPTY-e}${A-f}", "da"),
        ("${NONE:+d}${EMPTY:+e}${A:+f}", "f"),
        ("${NONE+d}${EMPTY+e}${A+f}", "ef"),
        ("${A:?words}${EMPTY?words}", "a"),
        ("${NONE:-${EMPTY:-$A}}", "a"),
        ("${NONE:-'$A}'}", "$A}"),
        ("${NONE:-\\}}", "}"),
        ('${NONE:-"x y"}', "x y"),
        ("${A:+${B2}}c", "bc"),
    ],
)
def test_substituted(text, found):
    assert substituted(text, VARIABLES) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${A", "missing }"),
        ("${A:-x", "missing }"),
        ("${A%x}", "unsupported modifier (%)"),
        ("${A:=x}", "unsupported modifier (=)"),
        ("${NONE:?is missing}", "NONE: is missing"),
        ("${NONE?}", "NONE: not allowed to be unset"),
        ("'x", "matching '"),
        ('"x', 'matching "'),
        ("${A:-" * 5000, "too many substitutions"),
    ],
)
def test_not_substituted(text, words):
    with pytest.raises(ValueError) as refusal:
        substituted(text, VARIABLES)
    assert words in str(refusal.value)


def test_variables_that_grow():
    value = "x" * 100
    with pytest.raises(ValueError, match="variables make more than"):
        for _ in range(100):
            value = substituted("$A$A", {"A": value})


def test_another_escape():
    assert substituted('`$A\\$A`` "`""', VARIABLES, "`") == '$A\\a` "'
    assert split('a` b "c` d" e\\ f', "`") == ["a` b", '"c` d"', "e\\", "f"]
    assert pairs("A=x` y B=1", "`") == [("A", "x` y"), ("B", "1")]


@given(st.text(alphabet="ab $\\'\"{}:-+?A`", max_size=30))
def test_any_text_is_substituted_or_refused(text):
    try:
        substituted(text, VARIABLES)
    except ValueError as refusal:
        assert str(refusal)


@given(st.text(st.characters(exclude_characters="'")))
def test_single_quotes_keep_what_is_in_them(text):
    assert substituted(f"x'{text}'y", VARIABLES) == f"x{text}y"
