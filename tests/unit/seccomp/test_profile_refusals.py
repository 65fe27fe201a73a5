"""What a fuzzer has made of profiles: each is refused in words."""

import pytest

from runtime.seccomp.names import numbers
from runtime.seccomp.profile import ProfileRefused, read

RULE = '{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [%s]}'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"defaultAction": [1]}', "invalid defaultAction [1]"),
        ('{"defaultAction": {"a": 1}}', "invalid defaultAction {'a': 1}"),
        ('{"a": ' * 100_000, "Decoding seccomp profile failed"),
        (RULE % '{"names": ["read"], "action": []}', "invalid action []"),
        (
            RULE % '{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"op": []}]}',
            "invalid operator []",
        ),
        (
            RULE % '{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errno": "errorcode"}',
            "errno 'errorcode' is no errno's name",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": []}]}',
            "unknown architecture []",
        ),
    ],
)
def test_what_is_no_profile_is_refused(text, words):
    with pytest.raises(ProfileRefused) as refused:
        read(text, ())
    assert words in str(refused.value)


@pytest.mark.parametrize("name", ["read\0er", "\udc92", "größe"])
def test_a_name_that_c_cannot_spell_is_no_call_s(name):
    assert numbers(name, "SCMP_ARCH_X86_64") == (-1, None)
