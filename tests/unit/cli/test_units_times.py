"""Sizes, CPUs, durations, moments: read as Docker reads them, printed as it prints them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker import times, units
from mdocker.errors import UsageError

NOW = 1_767_366_245 * 10**9


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("512m", 512 << 20),
        ("512MB", 512 << 20),
        ("1.5g", 3 << 29),
        ("2GiB", 2 << 30),
        ("64 k", 64 << 10),
        ("1b", 1),
        ("1p", 1 << 50),
    ],
)
def test_sizes(text, size):
    assert units.parse_size(text, "-m") == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1..2g", "1e3", " 1", "1mm", "1.m", "٣"])
def test_bad_sizes(text):
    with pytest.raises(UsageError, match="such as 512m"):
        units.parse_size(text, "-m")


@given(st.integers(0, 10**15))
def test_plain_sizes_are_bytes(size):
    assert units.parse_size(str(size), "-m") == size


@pytest.mark.parametrize(
    ("text", "billionths"),
    [
        ("1", 10**9),
        ("0.5", 5 * 10**8),
        (".25", 25 * 10**7),
        ("1.0000000000", 10**9),
        ("2.", 2 * 10**9),
    ],
)
def test_cpus(text, billionths):
    assert units.parse_cpus(text, "--cpus") == billionths


@pytest.mark.parametrize("text", ["", ".", "-1", "1e3", "x", "0.0000000001"])
def test_bad_cpus(text):
    with pytest.raises(UsageError, match="number of CPUs"):
        units.parse_cpus(text, "--cpus")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("10m", 600 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("1.5s", 15 * 10**8),
        ("-2s", -2 * 10**9),
        ("0", 0),
        ("100ms", 10**8),
        ("3us2ns", 3002),
        ("", None),
        ("10", None),
        ("m", None),
        ("1m x", None),
        ("1d", None),
    ],
)
def test_durations(text, ns):
    assert units.parse_duration(text) == ns


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (4_260_000, "4.26MB"),
        (77_800_000, "77.8MB"),
        (1_234_567_890, "1.235GB"),
    ],
)
def test_human_sizes(size, text):
    assert units.human_size(size) == text


def test_human_binary_size():
    assert units.human_binary_size(25_236_000_000) == "23.5GiB"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (46 * 60, "46 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (49 * 3600, "2 days"),
        (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"),
        (59 * 86400, "8 weeks"),
        (60 * 86400, "2 months"),
        (729 * 86400, "24 months"),
        (731 * 86400, "2 years"),
    ],
)
def test_human_durations(seconds, text):
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1767366245", "1767366245.000000000"),
        ("1767366245.5", "1767366245.500000000"),
        ("2026-01-02T15:04:05Z", "1767366245.000000000"),
        ("2026-01-02T15:04:05.123456789Z", "1767366245.123456789"),
        ("2026-01-02T16:04:05+01:00", "1767366245.000000000"),
        ("10m", "1767365645.000000000"),
        ("-1s", "1767366246.000000000"),
        ("2026-01-02Z", "1767312000.000000000"),
    ],
)
def test_moments(text, moment):
    assert times.parse_moment(text, "--since", NOW) == moment


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-01-02 15:04", "-5", "1.2.3", ""])
def test_bad_moments(text):
    with pytest.raises(UsageError, match="not a time such as"):
        times.parse_moment(text, "--since", NOW)


@given(st.integers(0, 4 * 10**18))
def test_a_moment_survives_being_printed(ns):
    text = times.to_rfc3339_local(ns)
    assert times.from_rfc3339(text) == ns


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-01-02T03:04:05.000000006Z"),
        ("Europe/London", "2026-01-02T03:04:05.000000006Z"),
        ("America/New_York", "2026-01-01T22:04:05.000000006-05:00"),
    ],
)
def test_a_moment_in_local_time_is_spelt_as_go_does(monkeypatch, zone, text):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert times.to_rfc3339_local(1767323045_000000006) == text
    finally:
        monkeypatch.undo()
        time.tzset()


def test_zero_time():
    assert times.from_rfc3339("0001-01-01T00:00:00Z") == 0


def test_ansic():
    assert times.to_ansic("2026-01-02T15:04:05.000000000+00:00") == "Fri Jan  2 15:04:05 2026"
