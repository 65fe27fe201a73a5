"""Capabilities, --privileged and protected paths: what is asked, shown, and refused."""

from __future__ import annotations

import pytest

from tests.unit.api.test_create import refused, shown

pytestmark = pytest.mark.anyio


async def told(engine_and_client, host):
    found = (await shown(engine_and_client, {"Image": "host", "HostConfig": host}))["HostConfig"]
    return [
        found[name] for name in ("CapAdd", "CapDrop", "Privileged", "MaskedPaths", "ReadonlyPaths")
    ]


async def test_what_was_asked_is_shown_as_it_was_typed(engine_and_client):
    # So does Docker, whose client writes them in one form.
    host = {"CapAdd": ["net_admin", "ALL"], "CapDrop": ["CAP_CHOWN"]}
    assert (await told(engine_and_client, host))[:3] == [["net_admin", "ALL"], ["CAP_CHOWN"], False]


async def test_a_name_may_be_no_list(engine_and_client):
    assert (await told(engine_and_client, {"CapDrop": "ALL"}))[:2] == [None, ["ALL"]]


async def test_of_one_that_asks_for_nothing(engine_and_client):
    added, dropped, privileged, masked, readonly = await told(engine_and_client, {})
    assert (added, dropped, privileged) == (None, None, False)
    assert "/proc/kcore" in masked and "/proc/sys" in readonly


async def test_a_privileged_one_protects_nothing(engine_and_client):
    assert await told(engine_and_client, {"Privileged": True}) == [None, None, True, None, None]
    host = {"Privileged": True, "MaskedPaths": ["/x"], "ReadonlyPaths": []}
    assert (await told(engine_and_client, host))[3:] == [["/x"], []]


async def test_protected_paths_of_ones_own(engine_and_client):
    host = {"MaskedPaths": [], "ReadonlyPaths": ["/proc/sys", "/srv"]}
    assert (await told(engine_and_client, host))[3:] == [[], ["/proc/sys", "/srv"]]


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"CapAdd": ["foo"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
        ({"CapDrop": [""]}, 'invalid CapDrop: unknown capability: "CAP_"'),
        (
            {"Privileged": True, "CapDrop": ["foo"]},
            'invalid CapDrop: unknown capability: "CAP_FOO"',
        ),
        ({"CapAdd": [1]}, "CapAdd"),
        ({"MaskedPaths": ["proc/kcore"]}, "invalid MaskedPaths: 'proc/kcore'"),
        ({"ReadonlyPaths": [""]}, "invalid ReadonlyPaths: ''"),
        ({"ReadonlyPaths": ["/a\0b"]}, "invalid ReadonlyPaths"),
    ],
)
async def test_what_can_not_be(engine_and_client, host, text):
    status, message = await refused(engine_and_client, {"Image": "host", "HostConfig": host})
    assert status == 400 and text in message
