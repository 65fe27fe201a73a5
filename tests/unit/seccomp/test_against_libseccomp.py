"""Our programs answer what libseccomp's do: rules at random, arguments at their edges.

Always the same ones, whatever is loaded beside them, so not by Hypothesis: libseccomp 2.5.4 has
faults that others meet, and for some rules it works for ever. With x86 and x32 at once, or with x32
and a call that x86_64 has not, its programs compare the architecture with numbers of calls, and
forbid what they should not; so each is compared alone.
"""

from __future__ import annotations

import platform
import random

import pytest

from runtime.seccomp import names
from runtime.seccomp.profile import ALLOW, ERRNO, KILL_PROCESS, LOG, Condition, Profile, Rule
from runtime.seccomp.program import assemble
from tests.unit.seccomp.filters import OPERATORS, X32_BIT, X86, X86_64, answer, by_libseccomp

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="libseccomp's programs here are for x86_64"
)

CALLS = (
    *("read", "write", "open", "mmap", "clone", "socket", "bind", "semop", "semget", "personality"),
    *("execve", "mkdir", "arch_prctl", "time", "keyctl", "accept4", "seccomp"),
)
PARTS = ("socket", "bind", "semop", "semget", "accept4")
EDGES = (*range(5), 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**63, 2**64 - 1, 0x7E020000)
BESIDE = ((), ("SCMP_ARCH_X86",), ("SCMP_ARCH_X32",))


def made(chance, architectures):
    """Rules for different calls, each with up to three conditions on different arguments."""
    # On x86 some are parts of socketcall(2) or ipc(2), whose arguments lie in memory. libseccomp
    # compares the registers all the same, and then answers other calls wrongly as well.
    calls = [name for name in CALLS if "SCMP_ARCH_X86" not in architectures or name not in PARTS]

    def value():
        return chance.choice(EDGES) if chance.random() < 0.7 else chance.getrandbits(64)

    return [
        (
            name,
            [
                (index, chance.choice(OPERATORS), value(), value())
                for index in chance.sample(range(6), chance.randrange(4))
            ],
        )
        for name in chance.sample(calls, chance.randrange(9))
    ]


def probed(rules):
    """Arguments, all the same but for one of them, on both sides of each edge."""
    given = [[0] * 6, [2**64 - 1] * 6]
    for _, conditions in rules:
        met = [0] * 6
        for index, _, value, second in conditions:
            met[index] = second if conditions and value & second == second else value
        for index, _, value, second in conditions:
            for near in (value, value + 1, value - 1, second, second & value, value ^ 2**32):
                given.append([*met[:index], near % 2**64, *met[index + 1 :]])
    return given


def check(default, action, architectures, rules):
    theirs = by_libseccomp(
        default,
        [names.ARCHITECTURES[name] for name in architectures],
        [(name, action, conditions) for name, conditions in rules],
    )
    profile = Profile(
        default,
        tuple(architectures),
        0,
        tuple(
            Rule(
                (name,),
                action,
                (tuple(Condition(i, f"SCMP_CMP_{op}", a, b) for i, op, a, b in conditions),)
                if conditions
                else (),
            )
            for name, conditions in rules
        ),
    )
    ours = assemble(profile, "x86_64").program
    assert theirs is not None
    kinds = {"SCMP_ARCH_X86_64": X86_64, "SCMP_ARCH_X86": X86, "SCMP_ARCH_X32": X86_64}
    given = probed(rules)
    for name in ("SCMP_ARCH_X86_64", *architectures):
        last = max(
            (names.numbers(call, name)[0] for call, _ in rules),
            default=-1,
        )
        asked = {names.numbers(call, name)[0] for call, _ in rules} - {-1}
        asked |= {number + 1 for number in asked if number < last}
        if name == "SCMP_ARCH_X86":
            asked |= {102, 117} if last > 117 else set()
        for number in asked:
            if number > last and default not in (ALLOW, LOG):
                continue  # ENOSYS, as runc has it, where libseccomp has the default
            for arguments in given:
                seen = (
                    [value % 2**32 for value in arguments]
                    if name != "SCMP_ARCH_X86_64"
                    else arguments
                )
                expected = answer(theirs, kinds[name], number, seen)
                assert answer(ours, kinds[name], number, seen) == expected, (name, number, seen)


@pytest.mark.parametrize("seed", range(20))
def test_lists_of_what_is_allowed(seed):
    chance = random.Random(seed)
    for architectures in BESIDE:
        check(ERRNO | 1, ALLOW, architectures, made(chance, architectures))


@pytest.mark.parametrize("seed", range(20))
def test_lists_of_what_is_forbidden(seed):
    chance = random.Random(seed)
    for architectures in BESIDE:
        default, action = chance.choice((ALLOW, LOG)), chance.choice((ERRNO | 5, KILL_PROCESS))
        check(default, action, architectures, made(chance, architectures))


def test_other_architectures_and_the_numbers_of_x32_are_answered_alike():
    for architectures in BESIDE:
        tokens = [names.ARCHITECTURES[name] for name in architectures]
        theirs = by_libseccomp(ERRNO | 1, tokens, [("read", ALLOW, ())])
        profile = Profile(ERRNO | 1, architectures, 0, (Rule(("read",), ALLOW),))
        ours = assemble(profile, "x86_64").program
        for kind, number in ((0xC00000B7, 63), (X86, 3), (X86_64, X32_BIT), (X86_64, 0)):
            assert answer(ours, kind, number) == answer(theirs, kind, number)
