"""What our programs answer, held against the profile's own words worked through in Python."""

from __future__ import annotations

import errno
from operator import eq, ge, gt, le, lt, ne

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from runtime.seccomp import names
from runtime.seccomp.profile import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    TRACE,
    TRAP,
    Condition,
    Profile,
    ProfileRefused,
    Rule,
)
from runtime.seccomp.program import assemble
from tests.unit.seccomp.filters import AARCH64, ARM, LIBRARY, X32_BIT, X86, X86_64, answer

try:
    names.check()
except names.LibraryMissing:
    pytest.skip(f"needs {LIBRARY}", allow_module_level=True)

MEANINGS = {"NE": ne, "LT": lt, "LE": le, "EQ": eq, "GE": ge, "GT": gt}
STRICTEST_FIRST = (KILL_PROCESS, KILL_THREAD, TRAP, ERRNO | 5, TRACE | 7, LOG, ALLOW)
VALUES = st.one_of(
    st.integers(0, 5),
    st.sampled_from((2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**63, 2**64 - 1)),
    st.integers(0, 2**64 - 1),
)
CONDITIONS = st.builds(
    Condition,
    st.integers(0, 2),
    st.sampled_from([f"SCMP_CMP_{name}" for name in (*MEANINGS, "MASKED_EQ")]),
    VALUES,
    VALUES,
)
SMALL = st.builds(
    Condition,
    st.just(0),
    st.sampled_from(["SCMP_CMP_EQ", "SCMP_CMP_EQ", "SCMP_CMP_LT"]),
    st.one_of(st.integers(0, 40), st.sampled_from([2**32 - 1, 2**32])),
)
ALTERNATIVES = st.one_of(
    st.lists(st.lists(CONDITIONS, min_size=1, max_size=3).map(tuple), max_size=4).map(tuple),
    st.lists(SMALL.map(lambda one: (one,)), min_size=1, max_size=12).map(tuple),
)
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from((("read",), ("write",), ("read", "openat"), ("personality",))),
        st.sampled_from(STRICTEST_FIRST),
        ALTERNATIVES,
    ),
    max_size=6,
)


def holds(one, argument, bits):
    low = 2**bits - 1
    value, argument = one.value & low, argument & low
    name = one.operator.removeprefix("SCMP_CMP_")
    if name == "MASKED_EQ":
        return argument & value == one.second & value
    return MEANINGS[name](argument, value)


def meant(profile, name, arguments, bits):
    """What the profile says of a call that it names."""
    rules = [
        rule for rule in profile.rules if name in rule.names and rule.answer != profile.default
    ]
    for rule in rules:
        if not rule.alternatives:
            return rule.answer
    said = [
        rule.answer
        for rule in rules
        for conditions in rule.alternatives
        if all(holds(one, arguments[one.index], bits) for one in conditions)
    ]
    return min(said, key=STRICTEST_FIRST.index, default=profile.default)


@settings(max_examples=100, deadline=None)
@drawn(RULES, st.sampled_from((ERRNO | 1, KILL_PROCESS, ALLOW, LOG)), st.data())
def test_rules_at_random_mean_what_they_say(rules, default, data):
    architectures = ("SCMP_ARCH_X86", "SCMP_ARCH_X32")
    profile = Profile(default, architectures, 4, tuple(rules))
    program = assemble(profile, "x86_64").program
    edges = {0, 1}
    for rule in rules:
        for conditions in rule.alternatives:
            for one in conditions:
                edges |= {one.value + near & 2**64 - 1 for near in (-1, 0, 1)} | {one.second}
    places = st.tuples(*[st.sampled_from(sorted(edges))] * 3)
    for arguments in data.draw(st.lists(places, min_size=6, max_size=6)):
        for name in {name for rule in rules for name in rule.names}:
            for architecture, token, bits in (
                ("SCMP_ARCH_X86_64", X86_64, 64),
                ("SCMP_ARCH_X86", X86, 32),
                ("SCMP_ARCH_X32", X86_64, 32),
            ):
                number, _ = names.numbers(name, architecture)
                seen = [value & 2**32 - 1 for value in arguments] if token == X86 else arguments
                expected = meant(profile, name, seen, bits)
                assert answer(program, token, number, seen) == expected


NOTHING = Profile(ERRNO | 1, (), 4, ())
UNKNOWN = ERRNO | errno.ENOSYS


def of(*rules, default=ERRNO | 1, architectures=("SCMP_ARCH_X86", "SCMP_ARCH_X32")):
    return assemble(Profile(default, architectures, 4, rules), "x86_64").program


def test_what_is_younger_than_the_profile_is_unknown_and_not_forbidden():
    """A C library falls back from ENOSYS; from EPERM it does not."""
    program = of(Rule(("read", "clone3"), ALLOW))
    assert answer(program, X86_64, 434) == ERRNO | 1
    assert answer(program, X86_64, 436) == UNKNOWN
    assert answer(program, X86, 436) == UNKNOWN
    assert answer(program, X86_64, X32_BIT | 434) == ERRNO | 1
    assert answer(program, X86_64, X32_BIT | 436) == UNKNOWN
    assert answer(program, X86_64, 2**32 - 1) == UNKNOWN
    permissive = of(Rule(("read",), KILL_PROCESS), default=ALLOW)
    assert answer(permissive, X86_64, 9999) == ALLOW


def test_other_architectures_are_no_way_around():
    program = of(Rule(("read",), ALLOW), architectures=())
    assert answer(program, X86_64, 0) == ALLOW
    for token, number in ((X86, 3), (AARCH64, 63), (ARM, 3), (X86_64, X32_BIT)):
        assert answer(program, token, number) == KILL_THREAD
    with pytest.raises(ProfileRefused, match="needs SCMP_ARCH_X86_64"):
        assemble(Profile(ERRNO, ("SCMP_ARCH_X32",), 4, ()), "aarch64")
    on_arm = assemble(
        Profile(ERRNO | 1, ("SCMP_ARCH_ARM",), 4, (Rule(("read",), ALLOW),)), "aarch64"
    ).program
    assert [answer(on_arm, *call) for call in ((AARCH64, 63), (ARM, 3), (X86_64, 0))] == [
        ALLOW,
        ALLOW,
        KILL_THREAD,
    ]


def test_parts_of_socketcall_and_ipc_are_answered_as_the_calls_that_they_stand_for():
    program = of(Rule(("connect", "shmat", "getpid"), ALLOW), architectures=("SCMP_ARCH_X86",))
    assert [answer(program, X86, 102, (part,)) for part in (2, 3, 4)] == [
        ERRNO | 1,
        ALLOW,
        ERRNO | 1,
    ]
    assert [answer(program, X86, 117, (part,)) for part in (21, 22)] == [ALLOW, ERRNO | 1]
    assert [answer(program, X86, number) for number in (362, 361, 397)] == [ALLOW, ERRNO | 1, ALLOW]


def test_whether_anything_can_be_executed_is_known_before():
    def forbidden(*rules, default=ERRNO | 1):
        return assemble(Profile(default, (), 4, rules), "x86_64").forbidden

    assert forbidden() == {"execve", "execveat"}
    assert forbidden(Rule(("execve",), ALLOW)) == {"execveat"}
    assert forbidden(Rule(("execve",), KILL_PROCESS), default=ALLOW) == {"execve"}
    some = ((Condition(0, "SCMP_CMP_EQ", 0),),)
    assert forbidden(Rule(("execve", "execveat"), ALLOW, some)) == set()


def test_names_that_nobody_knows_are_passed_over():
    assert of(Rule(("no_such_call", "read"), ALLOW)) == of(Rule(("read",), ALLOW))


def test_a_profile_that_is_too_long_for_the_kernel_is_refused():
    many = tuple((Condition(0, "SCMP_CMP_GT", 2**40 + n),) for n in range(1000))
    with pytest.raises(ProfileRefused, match="the kernel takes 4096"):
        of(Rule(("read",), ALLOW, many))
