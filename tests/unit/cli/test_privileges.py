"""Capabilities, --privileged and systempaths, as the API gets them."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def asked(engine, mdocker):
    """HostConfig of a create with these options."""
    engine.json("POST", "/containers/create", {"Id": "f" * 64, "Warnings": []}, 201)

    def ask(*words):
        assert mdocker("create", *words, "host").code == 0
        request = engine.seen("POST", "/containers/create")[-1]
        host = json.loads(request[3])["HostConfig"]
        assert host.pop("NetworkMode") == "none"
        return host

    return ask


def test_capabilities_are_written_as_docker_s_client_does(asked):
    words = "--cap-add sys_admin --cap-add CAP_NET_ADMIN --cap-add Net_Admin --cap-add chown"
    assert asked(*words.split(), "--cap-drop", "all", "--cap-drop", "setuid") == {
        "CapAdd": ["CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"],
        "CapDrop": ["ALL", "CAP_SETUID"],
    }


def test_what_is_no_capability_is_the_engine_s_to_say(asked):
    assert asked("--cap-add", "foo", "--cap-add", "") == {"CapAdd": ["CAP_", "CAP_FOO"]}


def test_privileged(asked):
    assert asked("--privileged") == {"Privileged": True}


@pytest.mark.parametrize("sign", "=:")
def test_unprotected_paths_are_lists_to_the_api(asked, sign):
    words = ("--security-opt", f"systempaths{sign}unconfined")
    assert asked(*words) == {"MaskedPaths": [], "ReadonlyPaths": []}
    assert asked(*words, "--security-opt", "no-new-privileges") == {
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "SecurityOpt": ["no-new-privileges"],
    }
