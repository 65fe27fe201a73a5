"""--security-opt seccomp=FILE: the engine gets the file's content."""

from __future__ import annotations

import json

import pytest

from mdocker.errors import REFUSED


@pytest.fixture
def asked(engine, mdocker):
    """The SecurityOpt of a create with these words."""
    engine.json("POST", "/containers/create", {"Id": "f" * 64, "Warnings": []}, 201)

    def ask(*words):
        options = [part for word in words for part in ("--security-opt", word)]
        assert mdocker("create", *options, "host").code == 0
        request = engine.seen("POST", "/containers/create")[-1]
        return json.loads(request[3])["HostConfig"]["SecurityOpt"]

    return ask


@pytest.mark.parametrize("sign", "=:")
def test_a_profile_is_sent_without_its_blanks(asked, tmp_path, sign):
    path = tmp_path / "profile.json"
    path.write_text('{\n  "defaultAction": "SCMP_ACT_ALLOW", "comment": "größe"\n}\n')
    assert asked(f"seccomp{sign}{path}", "no-new-privileges") == [
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW","comment":"größe"}',
        "no-new-privileges",
    ]


@pytest.mark.parametrize("name", ["unconfined", "builtin", "default"])
def test_names_are_sent_as_they_are(asked, name):
    assert asked(f"seccomp={name}", "apparmor=x") == [f"seccomp={name}", "apparmor=x"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "opening seccomp profile ({}) failed: No such file or directory"),
        (b"{", "compacting json for seccomp profile ({}) failed:"),
        (b"\xff", "compacting json for seccomp profile ({}) failed:"),
        (b'{"a": ' * 100_000, "compacting json for seccomp profile ({}) failed:"),
        (b" " * (4 << 20) + b"{}", "seccomp profile ({}) is larger than the engine takes"),
    ],
)
def test_what_is_no_profile_is_not_sent(engine, mdocker, tmp_path, content, words):
    path = tmp_path / "profile.json"
    if content is not None:
        path.write_bytes(content)
    done = mdocker("create", "--security-opt", f"seccomp={path}", "host")
    assert done.code == REFUSED
    assert words.format(path) in done.err
    assert not engine.seen("POST", "/containers/create")
