"""Docker's format: what of a profile is for which container, kernel and machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.seccomp import names, profile
from runtime.seccomp.profile import (
    ALLOW,
    ERRNO,
    KILL_PROCESS,
    KILL_THREAD,
    LOG,
    TRACE,
    TRAP,
    Condition,
    ProfileRefused,
    read,
)
from runtime.seccomp.program import assemble
from runtime.spec import DEFAULT_CAPABILITIES
from tests.unit.seccomp.filters import X32_BIT, X86, X86_64, answer

DEFAULT = Path(profile.__file__).with_name("default.json").read_text()


def of(*rules, capabilities=(), machine="x86_64", release="6.1.0-56-amd64", **more):
    text = json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(rules), **more})
    return read(text, capabilities, machine, release)


def rule(**more):
    return {"names": ["read"], "action": "SCMP_ACT_ALLOW", **more}


@pytest.mark.parametrize(
    ("filters", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}}, True),
        ({"includes": {"caps": ["CAP_CHOWN", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_CHOWN", "CAP_BPF"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"arches": ["arm64", "amd64"]}}, True),
        ({"includes": {"arches": ["x86", "arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "6.1"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"includes": {"minKernel": "4.18"}}, True),
        ({"excludes": {"minKernel": "6.1"}}, False),
        ({"excludes": {"minKernel": "10.0"}}, True),
        ({"includes": {"caps": ["CAP_KILL"], "arches": ["arm64"]}}, False),
        ({"includes": {"caps": ["CAP_KILL"]}, "excludes": {"arches": ["arm64"]}}, True),
        ({"includes": {"caps": [], "arches": []}, "excludes": {}}, True),
        ({"includes": None, "excludes": None}, True),
    ],
)
def test_which_rules_apply(filters, applies):
    found = of(rule(**filters), capabilities=("CAP_CHOWN", "CAP_KILL"))
    assert bool(found.rules) == applies


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ({"action": "SCMP_ACT_ALLOW"}, ALLOW),
        ({"action": "SCMP_ACT_KILL"}, KILL_THREAD),
        ({"action": "SCMP_ACT_KILL_THREAD"}, KILL_THREAD),
        ({"action": "SCMP_ACT_KILL_PROCESS"}, KILL_PROCESS),
        ({"action": "SCMP_ACT_TRAP"}, TRAP),
        ({"action": "SCMP_ACT_LOG"}, LOG),
        ({"action": "SCMP_ACT_TRACE"}, TRACE | 1),
        ({"action": "SCMP_ACT_TRACE", "errnoRet": 7}, TRACE | 7),
        ({"action": "SCMP_ACT_ERRNO"}, ERRNO | 1),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 0}, ERRNO),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": 38}, ERRNO | 38),
        ({"action": "SCMP_ACT_ERRNO", "errnoRet": None, "errno": "ENOSYS"}, ERRNO | 38),
        ({"action": "SCMP_ACT_ALLOW", "errnoRet": 38}, ALLOW),
    ],
)
def test_answers(said, meant):
    (found,) = of(rule(**said)).rules
    assert found.answer == meant


def test_arguments():
    first, second = (
        {"index": index, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"} for index in (0, 5)
    )
    one, other = (Condition(index, "SCMP_CMP_EQ", 1, 2) for index in (0, 5))
    (both,) = of(rule(args=[first, second])).rules
    assert both.alternatives == ((one, other),)
    (either,) = of(rule(args=[first, first])).rules
    assert either.alternatives == ((one,), (one,))
    assert (
        of(rule(args=[])).rules[0].alternatives == of(rule(args=None)).rules[0].alternatives == ()
    )


def test_architectures_and_flags():
    mapped = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {"architecture": "SCMP_ARCH_S390X", "subArchitectures": None},
    ]
    assert of(archMap=mapped).architectures == ("SCMP_ARCH_X86",)
    assert of(archMap=mapped, machine="aarch64").architectures == ("SCMP_ARCH_ARM",)
    assert of(architectures=["SCMP_ARCH_X32", "SCMP_ARCH_X86_64"]).architectures == (
        "SCMP_ARCH_X32",
    )
    assert of().flags == of(flags=None).flags == 4
    assert of(flags=[]).flags == 0
    named = [f"SECCOMP_FILTER_FLAG_{name}" for name in ("TSYNC", "LOG", "SPEC_ALLOW")]
    assert of(flags=named).flags == 6


def test_a_profile_that_says_nothing_is_none():
    assert read("{}", ()) is None
    assert read('{"defaultAction": "", "syscalls": null}', ()) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"defaultErrnoRet": 4096}, "defaultErrnoRet is 4096: it must be a number from 0 to 4095"),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT"]}, "unknown flag 'SECCOMP_FILTER_FLAG_WAIT'"),
        ({"listenerPath": "/run/x"}, "listenerPath is not supported: there is nobody to notify"),
        ({"syscalls": [rule(includes={"minKernel": "new"})]}, "invalid kernel version 'new'"),
        ({"syscalls": [rule(includes={"cap": ["CAP_KILL"]})]}, "includes: unknown field 'cap'"),
        ({"syscalls": [rule(args=[{"index": 6, "op": "SCMP_CMP_EQ"}])]}, "index is 6"),
        ({"syscalls": [rule(args=[{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}])]}, "is -1"),
        ({"syscalls": [rule(names=[""])]}, "empty string is not a valid syscall"),
        ({"syscalls": [rule(names="read")]}, "names is no list"),
        ({"syscalls": {}}, "syscalls is no list"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "SCMP_ACT_NOTIFY is not supported"),
    ],
)
def test_what_is_refused(change, words):
    with pytest.raises(ProfileRefused) as refused:
        read(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **change}), ())
    assert words in str(refused.value)


def names_in(text):
    return {name for entry in json.loads(text)["syscalls"] for name in entry["names"]}


def test_every_name_of_the_default_profile_is_a_call():
    """A misspelt one would be passed over without a word."""
    try:
        names.check()
    except names.LibraryMissing as error:
        pytest.skip(str(error))
    unknown = {
        name
        for name in names_in(DEFAULT)
        if all(names.numbers(name, kind) == (-1, None) for kind in names.ARCHITECTURES)
    }
    assert unknown == set()


def test_the_default_profile_in_a_default_container():
    try:
        names.check()
    except names.LibraryMissing as error:
        pytest.skip(str(error))
    program = assemble(read(DEFAULT, DEFAULT_CAPABILITIES, "x86_64", "6.1.0"), "x86_64").program
    assert answer(program, X86_64, 0) == answer(program, X86, 3) == ALLOW
    assert answer(program, X86_64, X32_BIT) == ALLOW
    assert answer(program, X86_64, 435) == ERRNO | 38  # clone3
    assert answer(program, X86_64, 101) == ALLOW  # ptrace
    old = assemble(read(DEFAULT, DEFAULT_CAPABILITIES, "x86_64", "4.4.0"), "x86_64").program
    assert answer(old, X86_64, 101) == ERRNO | 1
    assert answer(program, X86_64, 41, (40,)) == ERRNO | 1  # AF_VSOCK
    assert len(program) // 8 < 800
