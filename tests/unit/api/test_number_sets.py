"""Sets of CPUs and memory nodes, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api.number_sets import numbers, written


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", {0}),
        ("0-2,5", {0, 1, 2, 5}),
        ("3,1-1", {1, 3}),
        ("0007", {7}),
        ("", None),
        (",", None),
        ("1,", None),
        ("1-0", None),
        ("-1", None),
        ("a", None),
        ("0-99999", None),
        (" 1", None),
        ("\u0661", None),
    ],
)
def test_a_list_is_read(text, found):
    assert numbers(text) == (found if found is None else frozenset(found))


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_what_is_written_is_read_again(found):
    assert numbers(written(found)) == found
