"""Device rules: read, merged, and as programs, which a small interpreter of BPF executes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.device_cgroup import own_rules, write_v1
from runtime.device_program import assemble
from runtime.device_rules import EVERYTHING, ORDINARY, Rule, merged, parse
from runtime.devices import Node

KINDS = {"b": 1, "c": 2}
ACCESSES = {"m": 1, "r": 2, "w": 4}
NUMBERS = st.integers(0, 3) | st.sampled_from([4095, 2**20 - 1, 2**31])
RULES = st.builds(
    Rule,
    st.sampled_from("abc"),
    st.none() | NUMBERS,
    st.none() | NUMBERS,
    st.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
)


def execute(program, kind, major, minor, access):
    """What the kernel would answer: the instructions that `assemble` uses, and no others."""
    bits = sum(ACCESSES[letter] for letter in access)
    context = struct.pack("=3I", bits << 16 | KINDS[kind], major, minor)
    registers = [0] * 11
    at = 0
    while True:
        opcode, pair, offset, immediate = struct.unpack_from("=BBhi", program, at * 8)
        target, source = pair & 15, pair >> 4
        at += 1
        if opcode == 0x61:
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif opcode == 0xB7:
            registers[target] = immediate
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0x57:
            registers[target] &= immediate
        elif opcode == 0x77:
            registers[target] >>= immediate
        elif opcode == 0x55:
            at += offset if registers[target] != immediate else 0
        else:
            assert opcode == 0x95
            return bool(registers[0])


def allowed(rules, kind, major, minor, access):
    """The same from the rules themselves."""
    given = {}
    for rule in rules:
        given.setdefault(rule[:3], set()).update(rule.access)
    return any(
        its_kind in ("a", kind)
        and its_major in (None, major)
        and its_minor in (None, minor)
        and set(access) <= letters
        for (its_kind, its_major, its_minor), letters in given.items()
    )


@given(
    st.lists(RULES, max_size=6),
    st.sampled_from("bc"),
    NUMBERS,
    NUMBERS,
    st.sampled_from(["r", "w", "m", "rw"]),
)
def test_a_program_says_what_its_rules_say(rules, kind, major, minor, access):
    if 2**31 in (major, minor):
        return  # no device has it
    expected = allowed(rules, kind, major, minor, access)
    assert execute(assemble(rules), kind, major, minor, access) == expected


def test_reading_and_writing_may_be_two_rules():
    rules = [Rule("b", 7, 0, "r"), Rule("b", 7, 0, "w")]
    assert merged(rules) == [Rule("b", 7, 0, "rw")]
    assert execute(assemble(rules), "b", 7, 0, "rw")


def test_ordinary_rules():
    program = assemble(ORDINARY)
    for minor in (3, 5, 7, 8, 9):
        assert execute(program, "c", 1, minor, "rw")
        assert not execute(program, "b", 1, minor, "r")
    for number in ((1, 1), (1, 11), (4, 0), (5, 1), (10, 229), (10, 200)):
        assert not execute(program, "c", *number, "r")
        assert execute(program, "c", *number, "m")
    assert not execute(program, "b", 8, 0, "r")


def test_everything_is_a_short_program():
    assert len(assemble(EVERYTHING)) == 16
    assert own_rules([*EVERYTHING, Rule("c", 1, 1, "r")]) is EVERYTHING
    assert own_rules(None) is ORDINARY


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("c 13:* rwm", Rule("c", 13, None, "rwm")),
        ("b *:3 mr", Rule("b", None, 3, "rm")),
        ("a *:* rwm", EVERYTHING[0]),
    ],
)
def test_parse(text, rule):
    assert parse(text) == rule


@pytest.mark.parametrize(
    "text", ["", "c 1:3", "c 1:3 q", "d 1:3 r", "c 1 r", "c 1:3 r ", "c 1:3 r\n", "c  1:3 r"]
)
def test_no_rule(text):
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_values_for_v1(tmp_path):
    for name in ("devices.deny", "devices.allow"):
        (tmp_path / name).write_bytes(b"")
    written = []

    class Recording(type(tmp_path)):
        def __truediv__(self, name):
            written.append(name)
            return super().__truediv__(name)

    write_v1(Recording(tmp_path), [Rule("a", 1, None, "r"), Rule("c", 2, 3, "rwm")])
    assert written == ["devices.deny", *["devices.allow"] * 3]
    assert (tmp_path / "devices.deny").read_text() == "a"
    assert (tmp_path / "devices.allow").read_text().startswith("c 2:3 rwm")


@pytest.mark.parametrize("path", [b"/dev/null", b"/dev/fd/9", b"/dev/ptmx"])
def test_names_that_every_container_has(path):
    with pytest.raises(ValueError, match="every container's"):
        Node(path, "c", 1, 3, 0o600, 0, 0)


def test_numbers_that_no_device_has():
    with pytest.raises(ValueError, match="there is no device 4096:0"):
        Node(b"/dev/x", "c", 4096, 0, 0o600, 0, 0)
