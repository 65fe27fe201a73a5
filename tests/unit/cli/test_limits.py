"""Ulimits, sysctls, limits of block devices and their like, as the API gets them."""

from __future__ import annotations

import json

import pytest


def asked(engine, mdocker, *words):
    """HostConfig of a create with these options."""
    engine.json("POST", "/containers/create", {"Id": "f" * 64, "Warnings": []}, 201)
    assert mdocker("create", *words, "host").code == 0
    host = json.loads(engine.seen("POST", "/containers/create")[-1][3])["HostConfig"]
    assert host.pop("NetworkMode") == "none"
    return host


def test_what_is_typed_is_what_is_asked(engine, mdocker):
    assert asked(engine, mdocker) == {}
    words = (
        "--ulimit nofile=5:9 --ulimit core=-1 --sysctl net.a=1=2 --oom-kill-disable "
        "--oom-score-adj -7 --cgroup-parent /jobs --kernel-memory 6m --storage-opt size=1G "
        "--blkio-weight-device /dev/a:10 --device-read-bps /dev/a:1m --device-write-bps /dev/b:0 "
        "--device-read-iops /dev/a:5 --device-write-iops /dev/disk/by-id/x:y:6"
    )
    assert asked(engine, mdocker, *words.split()) == {
        "Ulimits": [
            {"Name": "nofile", "Soft": 5, "Hard": 9},
            {"Name": "core", "Soft": -1, "Hard": -1},
        ],
        "Sysctls": {"net.a": "1=2"},
        "OomKillDisable": True,
        "OomScoreAdj": -7,
        "CgroupParent": "/jobs",
        "KernelMemory": 6 << 20,
        "StorageOpt": {"size": "1G"},
        "BlkioWeightDevice": [{"Path": "/dev/a", "Weight": 10}],
        "BlkioDeviceReadBps": [{"Path": "/dev/a", "Rate": 1 << 20}],
        "BlkioDeviceWriteBps": [{"Path": "/dev/b", "Rate": 0}],
        "BlkioDeviceReadIOps": [{"Path": "/dev/a", "Rate": 5}],
        "BlkioDeviceWriteIOps": [{"Path": "/dev/disk/by-id/x:y", "Rate": 6}],
    }


@pytest.mark.parametrize(
    ("option", "word", "text"),
    [
        ("--ulimit", "nofile", "it is NAME=SOFT[:HARD]"),
        ("--ulimit", "nofile=many", "it is NAME=SOFT[:HARD]"),
        ("--ulimit", "nofile=1:", "it is NAME=SOFT[:HARD]"),
        ("--sysctl", "net.a", "must be KEY=VALUE"),
        ("--storage-opt", "size", "must be KEY=VALUE"),
        ("--device-read-bps", "sda:1m", "it is /dev/NAME:RATE"),
        ("--device-read-bps", "/dev/a:fast", "not a size"),
        ("--device-read-iops", "/dev/a:1m", "not a number: 1m"),
        ("--blkio-weight-device", "/dev/a", "it is /dev/NAME:WEIGHT"),
    ],
)
def test_what_is_none_is_refused(engine, mdocker, option, word, text):
    result = mdocker("run", option, word, "host")
    assert (result.code, option in result.err, text in result.err) == (125, True, True), result.err
    assert not engine.requests


def test_an_update_of_them(engine, mdocker):
    engine.json("POST", "/containers/c/update", {"Warnings": []})
    words = (
        "--memory-swappiness 0 --oom-kill-disable=false --kernel-memory 6m "
        "--blkio-weight-device /dev/a:0 --device-write-iops /dev/a:5"
    )
    assert mdocker("update", *words.split(), "c").code == 0
    assert json.loads(engine.seen("POST", "/containers/c/update")[-1][3]) == {
        "MemorySwappiness": 0,
        "OomKillDisable": False,
        "KernelMemory": 6 << 20,
        "BlkioWeightDevice": [{"Path": "/dev/a", "Weight": 0}],
        "BlkioDeviceWriteIOps": [{"Path": "/dev/a", "Rate": 5}],
    }
