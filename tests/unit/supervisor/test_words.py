"""Names, signals and exit statuses: what people type and what they read."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor import exits, names, signals
from supervisor.errors import BadParameter


@pytest.mark.parametrize("name", ["a b", "", "a", "-x", ".x", "ä1", "x/y", "/", "a\n", "x" * 256])
def test_bad_names_are_refused(name):
    with pytest.raises(BadParameter, match="Invalid container name"):
        names.check(name)


@pytest.mark.parametrize("name", ["ab", "/ab", "A1", "a_b", "a.b-c", "0x", "x" * 255])
def test_good_names_lose_only_the_slash(name):
    assert names.check(name) == name.removeprefix("/")


def test_generated_names_are_allowed_and_free():
    taken = set()
    for _ in range(20_000):
        name = names.generate(taken)
        assert name not in taken
        assert names.check(name) == name
        taken.add(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("15", 15), ("KILL", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)],
)
def test_signals_by_name_and_number(text, number):
    assert signals.parse(text) == number


@pytest.mark.parametrize("text", ["FOO", "", "0", "65", "-9", "RTMIN+99", "SIG", "1.5", "RTMIN-1"])
def test_bad_signals_are_refused_by_name(text):
    with pytest.raises(BadParameter, match="Invalid signal: "):
        signals.parse(text)


@given(st.sampled_from(signal.Signals))
def test_every_signal_parses_back_from_its_name(number):
    assert signals.parse(signals.name(number)) == number


@given(st.integers(0, 255))
def test_an_exit_status_is_the_code(code):
    ending = exits.decode(code << 8, 7)
    assert (ending.code, ending.signal, ending.core_dumped, ending.time_ns) == (code, 0, False, 7)


@given(st.integers(1, 64), st.booleans())
def test_a_signal_is_128_more_and_a_core_is_told_apart(number, core):
    ending = exits.decode(number | (0x80 if core else 0), 0)
    assert (ending.code, ending.signal, ending.core_dumped) == (128 + number, number, core)
