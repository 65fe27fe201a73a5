"""--device and --device-cgroup-rule, as the API gets them."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize(
    ("word", "path", "access"),
    [
        ("/dev/fuse", "/dev/fuse", "rwm"),
        ("/dev/fuse:r", "/dev/fuse", "r"),
        ("/dev/fuse:/dev/x", "/dev/x", "rwm"),
        ("/dev/fuse::rw", "/dev/fuse", "rw"),
        ("/dev/fuse:/dev/x:wm", "/dev/x", "wm"),
    ],
)
def test_a_device(engine, mdocker, word, path, access):
    engine.json("POST", "/containers/create", {"Id": "f" * 64, "Warnings": []}, 201)
    options = ("--device", word, "--device-cgroup-rule", "a 1:* r")
    assert mdocker("create", *options, "host").code == 0
    host = json.loads(engine.seen("POST", "/containers/create")[-1][3])["HostConfig"]
    assert host["Devices"] == [
        {"PathOnHost": "/dev/fuse", "PathInContainer": path, "CgroupPermissions": access}
    ]
    assert host["DeviceCgroupRules"] == ["a 1:* r"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--device :/dev/x", "bad format for path: :/dev/x"),
        ("--device /a:/b:r:w", "bad format for path: /a:/b:r:w"),
        ("--device /a:/b:q", "bad mode specified: q"),
        ("--device /a:rr", "rr is not an absolute path"),
        ("--device nvidia.com/gpu=all", "there are no device drivers here"),
        ("--device-cgroup-rule c", "invalid device cgroup format 'c'"),
        ("--gpus all", "there are no device drivers"),
    ],
)
def test_refused(mdocker, words, said):
    done = mdocker("create", *words.split(), "host")
    assert done.code != 0
    assert said in done.err
