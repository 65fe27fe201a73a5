"""Namespaces that are shared, and the init, as create requests ask for them and inspect tells."""

import pytest

from supervisor import init_program
from supervisor.errors import Unsupported
from tests.unit.api.test_create import created, refused, shown

pytestmark = pytest.mark.anyio


def asked(config=None, **host):
    return {"Image": "host", "Cmd": ["true"], **(config or {}), "HostConfig": host}


async def test_names_become_ids(engine_and_client):
    async with engine_and_client() as (_engine, connect), connect() as client:
        await client.request("POST", "/containers/create?name=donor", asked())
        donor = (await client.request("GET", "/containers/donor/json")).json["Id"]
        for reference in ("donor", donor, donor[:12]):
            mode = f"container:{reference}"
            body = asked(NetworkMode=mode, PidMode=mode, IpcMode=mode)
            answer = await client.request("POST", "/containers/create", body)
            assert (answer.status, answer.json["Warnings"]) == (201, [])
            path = f"/containers/{answer.json['Id']}/json"
            inspected = (await client.request("GET", path)).json
            host = inspected["HostConfig"]
            expected = f"container:{donor}"
            assert host["NetworkMode"] == host["PidMode"] == host["IpcMode"] == expected
            assert inspected["NetworkSettings"]["Networks"] == {}
            assert f"/{donor}/hosts" in inspected["HostsPath"]
        listed = (await client.request("GET", "/containers/json?all=1")).json
        assert [one["NetworkSettings"]["Networks"] for one in listed[:3]] == [{}] * 3


@pytest.mark.parametrize("kind", ["NetworkMode", "PidMode", "IpcMode"])
async def test_one_that_is_not_there(engine_and_client, kind):
    """Not a 404: clients would look for an image."""
    body = asked(**{kind: "container:nosuch"})
    assert await refused(engine_and_client, body) == (400, "No such container: nosuch")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"PidMode": "bogus"}, "invalid PID mode: bogus"),
        ({"PidMode": "container:"}, "invalid PID mode: container:"),
        ({"IpcMode": "bogus"}, "invalid IPC mode: bogus"),
        ({"IpcMode": "container:"}, "invalid IPC mode: container:"),
        ({"UTSMode": "private"}, "invalid UTS mode: private"),
        ({"UTSMode": "container:a"}, "invalid UTS mode: container:a"),
        (
            {"NetworkMode": "container:"},
            "Invalid network mode: invalid container format container:<name|id>",
        ),
    ],
)
async def test_modes_that_are_none(engine_and_client, host, words):
    assert await refused(engine_and_client, asked(**host)) == (400, words)


@pytest.mark.parametrize(
    ("config", "host", "words"),
    [
        ({"Hostname": "h"}, {}, "hostname and the network mode"),
        ({"Domainname": "d"}, {}, "domainname and the network mode"),
        (
            {},
            {"Links": ["a:b"]},
            "container type network can't be used with links. This would result in undefined "
            "behavior",
        ),
        ({}, {"Dns": ["1.1.1.1"]}, "dns and the network mode"),
        ({}, {"ExtraHosts": ["a:1.1.1.1"]}, "custom host-to-IP mapping and the network mode"),
        ({"MacAddress": "02:00:00:00:00:01"}, {}, "mac-address and the network mode"),
        (
            {},
            {"PortBindings": {"80/tcp": [{"HostPort": "80"}]}},
            "port publishing and the container type network mode",
        ),
        (
            {},
            {"PublishAllPorts": True},
            "port publishing and the container type network mode",
        ),
        (
            {"ExposedPorts": {"80/tcp": {}}},
            {},
            "port exposing and the container type network mode",
        ),
    ],
)
async def test_what_belongs_to_whoever_made_the_network(engine_and_client, config, host, words):
    body = asked(config, NetworkMode="container:a", **host)
    assert await refused(engine_and_client, body) == (400, f"conflicting options: {words}")


@pytest.mark.parametrize("name", ["Hostname", "Domainname"])
async def test_the_machine_s_host_name(engine_and_client, name):
    body = asked({name: "h"}, UTSMode="host")
    words = f"conflicting options: {name.lower()} and the UTS mode"
    assert await refused(engine_and_client, body) == (400, words)


async def test_what_changes_nothing_is_said(engine_and_client, monkeypatch):
    monkeypatch.setattr(init_program, "find", lambda: "/init")
    body = asked(NetworkMode="none", PidMode="host", IpcMode="host", Init=True, ShmSize=4096)
    config, warnings = await created(engine_and_client, body)
    assert warnings == [
        "an init is run in a PID namespace of its own only: --init changes nothing",
        "--shm-size changes nothing: with IPC mode host it has no /dev/shm of its own",
    ]
    assert (config.namespaces.pid, config.init) == ("host", True)


async def test_defaults(engine_and_client):
    host = (await shown(engine_and_client, asked()))["HostConfig"]
    assert (host["PidMode"], host["IpcMode"], host["UTSMode"]) == ("", "private", "")
    assert "Init" not in host


async def test_an_init_that_is_not_there(engine_and_client, monkeypatch):
    def find():
        raise Unsupported("install tini")

    monkeypatch.setattr(init_program, "find", find)
    assert await refused(engine_and_client, asked(Init=True)) == (501, "install tini")
    config, _ = await created(engine_and_client, asked(Init=False))
    assert config.init is False
