"""--security-opt words: what Docker reads from them, and its words for those that are none."""

from __future__ import annotations

import pytest

from supervisor.errors import BadParameter, Unsupported
from supervisor.security_words import Security, parse


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Security()),
        (["no-new-privileges"], Security(True)),
        (["no-new-privileges:true"], Security(True)),
        (["no-new-privileges=T"], Security(True)),
        (["no-new-privileges=0"], Security(False)),
        (["no-new-privileges", "no-new-privileges=false"], Security(False)),
        (["seccomp=unconfined"], Security(seccomp="unconfined")),
        (["seccomp:builtin"], Security(seccomp="builtin")),
        (["seccomp=default"], Security()),
        (['seccomp={"a":"b=c"}'], Security(seccomp='{"a":"b=c"}')),
        (["seccomp=unconfined", "seccomp=builtin"], Security(seccomp="builtin")),
        (["apparmor=unconfined"], Security(apparmor="unconfined")),
        (["apparmor:nest"], Security(apparmor="nest")),
        (["label=disable", "label:disable", "disable"], Security()),
    ],
)
def test_what_is_asked(words, expected):
    assert parse(words) == expected


@pytest.mark.parametrize(
    ("word", "refusal", "text"),
    [
        ("nothing", BadParameter, 'invalid --security-opt 1: "nothing"'),
        ("", BadParameter, 'invalid --security-opt 1: ""'),
        ("systempaths=unconfined", BadParameter, 'invalid --security-opt 2: "systempaths='),
        ("no-new-privileges=perhaps", BadParameter, "invalid --security-opt 2"),
        ("label=type:nest_t", Unsupported, "label=type:nest_t: it sets no SELinux labels"),
        ("label=user:root", Unsupported, "use label=disable"),
    ],
)
def test_what_is_none(word, refusal, text):
    with pytest.raises(refusal) as refused:
        parse([word])
    assert text in str(refused.value)
