"""`until`, in each form in which Docker takes it; labels that are wanted and not."""

import datetime

import pytest

from supervisor.api.prune_filters import fits
from supervisor.errors import BadParameter

NOW = 1_800_000_000 * 10**9
HOUR = 3600 * 10**9


def local(text):
    return int(datetime.datetime.fromisoformat(text).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("until", "moment"),
    [
        ("1h30m", NOW - 3 * HOUR // 2),
        ("1.5h", NOW - 3 * HOUR // 2),
        ("500ms", NOW - 5 * 10**8),
        ("1700000000", 1_700_000_000 * 10**9),
        ("1700000000.5", 1_700_000_000 * 10**9 + 5 * 10**8),
        ("2026-05-01T10:00:00Z", 1_777_629_600 * 10**9),
        ("2026-05-01T10:00:00+02:00", 1_777_622_400 * 10**9),
        ("2026-05-01", local("2026-05-01T00:00:00")),
        ("2026-05-01T10", local("2026-05-01T10:00:00")),
        ("2026-05-01T10:11", local("2026-05-01T10:11:00")),
        ("2026-05-01T10:11:12.5", local("2026-05-01T10:11:12") + 5 * 10**8),
    ],
)
def test_what_was_made_until_then(until, moment):
    chosen = fits({"until": [until]}, NOW)
    assert chosen({}, moment)
    assert not chosen({}, moment + 1)


@pytest.mark.parametrize("until", ["soon", "", "2026-13-01", "2026-05-01T25", "9" * 30, "h"])
def test_what_is_no_time(until):
    with pytest.raises(BadParameter, match="failed to parse value as time or duration"):
        fits({"until": [until]}, NOW)


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        ({}, True),
        ({"label": ["a"]}, True),
        ({"label": ["a=1", "b"]}, True),
        ({"label": ["a=2"]}, False),
        ({"label!": ["a"]}, False),
        ({"label!": ["a=2"]}, True),
        ({"label": ["a"], "label!": ["c"]}, True),
    ],
)
def test_labels(filters, chosen):
    assert fits(filters, NOW)({"a": "1", "b": ""}, 0) is chosen
