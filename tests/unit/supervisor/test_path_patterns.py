"""Go's path.Match."""

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import BadParameter
from supervisor.path_patterns import compiled


# Of Go's own table (path/match_test.go), without those that are no patterns.
@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True),
        ("a*", "abc", True), ("a*", "ab/c", False), ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False), ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True), ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False), ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False), ("ab[c]", "abc", True), ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False), ("ab[^c]", "abc", False), ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True), ("a\\*b", "a*b", True), ("a\\*b", "ab", False),
        ("a?b", "a☺b", True), ("a[^a]b", "a☺b", True), ("a???b", "a☺b", False),
        ("[a-ζ]*", "α", True), ("*[a-ζ]", "A", False), ("a?b", "a/b", False),
        ("a*b", "a/b", False), ("[\\]a]", "]", True), ("[\\-]", "-", True), ("[x\\-]", "x", True),
        ("[x\\-]", "z", False), ("[\\-x]", "a", False), ("*x", "xxx", True), ("[z-a]", "b", False),
        ("", "", True), ("", "a", False), ("*", "", True), ("**", "ab", True), ("**", "a/b", False),
    ],
)  # fmt: skip
def test_gos_own_examples(pattern, name, fits):
    assert bool(compiled(pattern).fullmatch(name)) == fits


@pytest.mark.parametrize("pattern", ["[", "[^", "[]a]", "[-]", "[x-]", "[-x]", "a[", "\\", "[a\\",
                                     "[a-", "[a-\\", "[^bc"])  # fmt: skip
def test_what_is_no_pattern(pattern):
    with pytest.raises(BadParameter, match="syntax error in pattern"):
        compiled(pattern)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_where_there_is_no_slash_it_is_the_shells(pattern, name):
    assert bool(compiled(pattern).fullmatch(name)) == fnmatch.fnmatchcase(name, pattern)


def test_no_pattern_takes_long():
    begun = time.process_time()
    assert not compiled("*a" * 500 + "b").fullmatch("a" * 300)
    assert time.process_time() - begun < 1
