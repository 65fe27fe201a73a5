"""The volumes resource, on a real store."""

import json

import pytest

from supervisor.container import ContainerConfig
from supervisor.mount_points import MountPoint, Mounts
from supervisor.states import State
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio


def using(engine, name, volume):
    point = MountPoint(kind="volume", target="/x", volume=volume)
    return add(engine, name, State.EXITED, config={"mounts": Mounts(points=(point,))})


async def test_create_inspect_list_remove(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        made = await client.request("POST", "/volumes/create", {"Name": "data", "Driver": "local"})
        assert made.status == 201
        shown = made.json
        assert shown["Mountpoint"] == str(engine.root / "volumes/data/_data")
        assert shown.pop("CreatedAt").endswith("Z")
        del shown["Mountpoint"]
        assert shown == {
            "Driver": "local",
            "Labels": None,
            "Name": "data",
            "Options": None,
            "Scope": "local",
        }
        assert (await client.request("GET", "/volumes/data")).json == made.json
        again = await client.request("POST", "/volumes/create", {"Name": "data"})
        assert (again.status, again.json) == (201, made.json)
        assert (await client.request("GET", "/volumes")).json == {
            "Volumes": [made.json],
            "Warnings": None,
        }
        assert (await client.request("DELETE", "/volumes/data")).status == 204
        gone = await client.request("DELETE", "/volumes/data")
        assert (gone.status, gone.message) == (404, "get data: no such volume")
        assert (await client.request("DELETE", "/volumes/data?force=1")).status == 204
        assert (await client.request("GET", "/volumes/data")).status == 404
        assert list((engine.root / "volumes").iterdir()) == []
        told = [(e.type, e.action, e.id, e.attributes) for e in engine.events.past()]
        assert told == [
            ("volume", "create", "data", {"driver": "local"}),
            ("volume", "destroy", "data", {"driver": "local"}),
        ]


async def test_one_without_a_name_is_anonymous(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        shown = (await client.request("POST", "/volumes/create", {"Labels": {"a": "b"}})).json
        assert len(shown["Name"]) == 64
        assert shown["Labels"] == {"a": "b", "com.docker.volume.anonymous": ""}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Name": "x"}, 400, "create x: volume name is too short, names should be at least two"),
        ({"Name": ".x"}, 400, 'create .x: ".x" includes invalid characters for a local volume'),
        ({"Name": "../../etc"}, 400, 'create ../../etc: "../../etc" includes invalid characters'),
        ({"Name": "x" * 256}, 400, "create xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…: volume name is too"),
        ({"Name": "vv", "Driver": "nfs"}, 404, "create vv: error looking up volume plugin nfs: "),
        ({"Name": "vv", "DriverOpts": {"colour": "red"}}, 400, 'create vv: invalid option: "colou'),
        ({"Name": "vv", "DriverOpts": {"type": "nfs"}}, 400, "create vv: missing required option"),
        ({"Name": "vv", "DriverOpts": {"size": "1g"}}, 501, "create vv: quota size requested but"),
        ({"Name": "vv", "DriverOpts": {"type": "nfs", "device": ":/x"}}, 501,
         "create vv: mdocker does not support volumes of type 'nfs'"),
        ({"Name": "vv", "DriverOpts": {"type": "none", "device": "x", "o": "bind"}}, 400,
         "create vv: invalid device 'x'"),
        ({"Name": "vv", "DriverOpts": {"type": "none", "device": "/x", "o": "bind,sync"}}, 501,
         "create vv: mdocker does not support the option o=sync"),
        ({"Name": "vv", "DriverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=x"}}, 400,
         'invalid tmpfs option ["size" "x"]'),
        ({"ClusterVolumeSpec": {"Group": "x"}}, 501, "mdocker does not support Volume.ClusterVol"),
        ({"Name": 5}, 400, "invalid request: "),
    ],
)  # fmt: skip
async def test_what_can_not_be(engine_and_client, body, status, text):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", "/volumes/create", body)
        assert (answer.status, answer.message[: len(text)]) == (status, text)
        assert engine.volumes.all() == []


async def test_other_options_for_one_that_is_there(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        options = {"type": "none", "device": "/srv", "o": "bind"}
        body = {"Name": "data", "DriverOpts": options}
        assert (await client.request("POST", "/volumes/create", body)).json["Options"] == options
        assert (await client.request("POST", "/volumes/create", body)).status == 201
        body["DriverOpts"] = options | {"device": "/other"}
        answer = await client.request("POST", "/volumes/create", body)
        assert answer.status == 409
        assert "with other options" in answer.message


async def test_in_use(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        await client.request("POST", "/volumes/create", {"Name": "data"})
        users = [using(engine, name, "data") for name in ("one", "two")]
        for path in ("/volumes/data", "/volumes/data?force=true"):
            answer = await client.request("DELETE", path)
            assert answer.status == 409
            ids = ", ".join(user.id for user in users)
            assert answer.message == f"remove data: volume is in use - [{ids}]"


async def test_filters(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        for name, labels in (("data", {"a": "b"}), ("database", {"a": "c"}), ("other", None)):
            await client.request("POST", "/volumes/create", {"Name": name, "Labels": labels})
        using(engine, "one", "data")

        async def found(**filters):
            path = f"/volumes?filters={json.dumps(filters).replace(' ', '')}"
            answer = await client.request("GET", path)
            if answer.status != 200:
                return answer.status
            return [volume["Name"] for volume in answer.json["Volumes"]]

        assert await found(name=["data"]) == ["data", "database"]
        assert await found(name=["^data$", "oth"]) == ["data", "other"]
        assert await found(label=["a"]) == ["data", "database"]
        assert await found(label=["a=c"]) == ["database"]
        assert await found(dangling=["true"]) == ["database", "other"]
        assert await found(dangling={"0": True}) == ["data"]
        assert await found(driver=["nfs"]) == []
        assert await found(dangling=["maybe"]) == 400
        assert await found(colour=["red"]) == 400


async def test_prune_is_for_anonymous_ones_unless_all_is_asked(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        for name in ("named", "labelled", "used"):
            labels = {"keep": "1"} if name == "labelled" else None
            await client.request("POST", "/volumes/create", {"Name": name, "Labels": labels})
        anonymous = (await client.request("POST", "/volumes/create", {})).json["Name"]
        (engine.volumes.data(anonymous) / "file").write_bytes(b"x" * 5000)
        using(engine, "one", "used")
        answer = await client.request("POST", "/volumes/prune")
        assert answer.json == {"VolumesDeleted": [anonymous], "SpaceReclaimed": 8192}
        event = engine.events.past()[-1]
        assert (event.type, event.action) == ("volume", "prune")
        assert event.attributes == {"reclaimed": "8192"}
        path = '/volumes/prune?filters={"all":["1"],"label!":["keep"]}'
        assert (await client.request("POST", path)).json["VolumesDeleted"] == ["named"]
        old = await client.request("POST", "/v1.41/volumes/prune")
        assert old.json["VolumesDeleted"] == ["labelled"]
        # A list also where nothing went: Docker's is null for containers and images alone.
        assert (await client.request("POST", "/volumes/prune")).json["VolumesDeleted"] == []
        assert [volume.name for volume in engine.volumes.all()] == ["used"]


async def test_a_swarm_s_update(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        await client.request("POST", "/volumes/create", {"Name": "data"})
        answer = await client.request("PUT", "/volumes/data?version=1", {})
        assert answer.status == 503
        assert answer.message.startswith("volume update only valid for cluster volumes")


async def test_the_disk_usage(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        await client.request("POST", "/volumes/create", {"Name": "data"})
        (engine.volumes.data("data") / "file").write_bytes(b"x" * 5000)
        using(engine, "one", "data")
        (line,) = (await client.request("GET", "/system/df?type=volume")).json["Volumes"]
        assert line["UsageData"] == {"RefCount": 1, "Size": 8192}


async def test_rm_with_its_volumes(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "one", State.EXITED)
        assert (await client.request("DELETE", "/containers/one?v=1")).status == 204
        assert ("remove", "one", False, "volumes") in engine.calls


def test_the_record_of_a_container_without_mounts_says_nothing_of_them():
    import msgspec

    config = msgspec.json.encode(ContainerConfig(image="host", image_id="sha256:a"))
    assert b"mounts" not in config
