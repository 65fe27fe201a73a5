"""Devices of a create request: shown as they were asked for, or refused in Docker's words."""

from __future__ import annotations

import pytest

from tests.unit.api.test_create import refused, shown

pytestmark = pytest.mark.anyio

FUSE = {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f", "CgroupPermissions": "rw"}


async def test_what_was_asked_is_shown(engine_and_client):
    host = {"Devices": [FUSE], "DeviceCgroupRules": ["c 42:* rwm"], "DeviceRequests": []}
    found = (await shown(engine_and_client, {"Image": "host", "HostConfig": host}))["HostConfig"]
    assert found["Devices"] == [FUSE]
    assert found["DeviceCgroupRules"] == ["c 42:* rwm"]


async def test_of_one_that_asks_for_none(engine_and_client):
    found = (await shown(engine_and_client, {"Image": "host", "HostConfig": {"Devices": None}}))[
        "HostConfig"
    ]
    names = ("Devices", "DeviceCgroupRules", "DeviceRequests")
    assert [found[name] for name in names] == [[], None, None]


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ({"Devices": [FUSE | {"PathOnHost": ""}]}, 400, "bad format for path: ''"),
        ({"Devices": [FUSE | {"PathOnHost": "fuse"}]}, 400, "fuse is not an absolute path"),
        ({"Devices": [FUSE | {"PathInContainer": "/dev/.."}]}, 400, "the container's root"),
        ({"Devices": [FUSE | {"CgroupPermissions": "rx"}]}, 400, "bad mode specified: rx"),
        ({"Devices": [FUSE | {"CgroupPermissions": ""}]}, 400, "bad mode specified"),
        ({"DeviceCgroupRules": ["c"]}, 400, "invalid device cgroup rule format: 'c'"),
        (
            {"DeviceRequests": [{"Driver": "cdi", "Capabilities": None}]},
            501,
            'could not select device driver "cdi" with capabilities: []',
        ),
    ],
)
async def test_refused(engine_and_client, host, status, words):
    found, message = await refused(engine_and_client, {"Image": "host", "HostConfig": host})
    assert (found, words in message) == (status, True), message
