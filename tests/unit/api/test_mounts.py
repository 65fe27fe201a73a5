"""What create requests want mounted, and how it is shown and refused."""

import pytest

from runtime import flags
from supervisor.mount_points import MountPoint
from supervisor.volumes import ANONYMOUS

pytestmark = pytest.mark.anyio
DOCKERS = flags.MOUNT_ATTR_NOEXEC | flags.MOUNT_ATTR_NOSUID


async def created(engine_and_client, *bodies):
    """The mounts of the last of these containers, and its inspection."""
    async with engine_and_client() as (engine, connect), connect() as client:
        for body in bodies:
            asked = {"Image": "host", **body}
            answer = await client.request("POST", "/containers/create?name=box", asked)
            assert answer.status == 201, answer.body
            container = engine.containers.find("box")
            shown = await client.request("GET", "/containers/box/json")
            if body is not bodies[-1]:
                engine.containers.rename(container, "first")
        return container.config.mounts, shown.json


async def refused(engine_and_client, body):
    async with engine_and_client() as (engine, connect), connect() as client:
        answer = await client.request("POST", "/containers/create", {"Image": "host", **body})
        assert engine.containers.all() == []
        return answer.status, answer.message


def host(**options):
    return {"HostConfig": options}


async def test_the_three_forms_of_v(engine_and_client):
    body = host(Binds=["/src/../a/:/b//c/", "data:/d:ro,nocopy", "named:/e:Z", "/x:/y:ro,rslave"])
    mounts, shown = await created(engine_and_client, body | {"Volumes": {"/anon": {}}})
    found = {point.target: point for point in mounts.points}
    bind, data, named, slave, anonymous = (
        found[target] for target in ("/b/c", "/d", "/e", "/y", "/anon")
    )
    assert bind == MountPoint(
        kind="bind", source="/a", target="/b/c", propagation="rprivate", make_source=True
    )
    assert data == MountPoint(
        kind="volume", volume="data", target="/d", readonly=True, mode="ro,nocopy"
    )
    assert (named.mode, named.copy_up) == ("Z", True)
    assert (slave.propagation, slave.readonly, slave.mode) == ("rslave", True, "ro,rslave")
    assert anonymous.anonymous
    assert anonymous.volume_labels == {ANONYMOUS: ""}
    assert len(anonymous.volume) == 64
    assert mounts.points[-1].target == "/b/c"  # what is above comes first
    assert shown["HostConfig"]["Binds"] == body["HostConfig"]["Binds"]
    assert shown["Config"]["Volumes"] == {"/anon": {}}
    one = next(m for m in shown["Mounts"] if m["Destination"] == "/d")
    assert one["Source"].endswith("/volumes/data/_data")
    del one["Source"]
    assert one == {
        "Type": "volume",
        "Name": "data",
        "Destination": "/d",
        "Driver": "local",
        "Mode": "ro,nocopy",
        "RW": False,
        "Propagation": "",
    }
    assert next(m for m in shown["Mounts"] if m["Type"] == "bind" and m["RW"]) == {
        "Type": "bind",
        "Source": "/a",
        "Destination": "/b/c",
        "Mode": "",
        "RW": True,
        "Propagation": "rprivate",
    }


async def test_mount(engine_and_client):
    asked = [
        {"Type": "bind", "Source": "/", "Target": "/b", "ReadOnly": True,
         "BindOptions": {"Propagation": "shared", "NonRecursive": True}},
        {"Type": "bind", "Source": "/nosuch", "Target": "/made",
         "BindOptions": {"CreateMountpoint": True}},
        {"Type": "volume", "Source": "vol", "Target": "/v", "Consistency": "cached",
         "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}, "Subpath": "./x/y",
                           "DriverConfig": {"Name": "local"}}},
        {"Type": "volume", "Target": "/anon"},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions":
            {"SizeBytes": 1048576, "Mode": 0o700, "Options": [["exec"]]}},
    ]  # fmt: skip
    mounts, shown = await created(engine_and_client, host(Mounts=asked))
    bind, made, volume, anonymous, tmpfs = mounts.points
    assert (bind.propagation, bind.recursive, bind.readonly) == ("shared", False, True)
    assert (bind.make_source, made.make_source) == (False, True)
    assert (volume.subpath, volume.copy_up, volume.mode) == ("x/y", False, "z")
    assert volume.volume_labels == {"a": "b"}
    assert anonymous.anonymous
    assert tmpfs.options == ("mode=700", "size=1048576")
    assert tmpfs.attributes == flags.MOUNT_ATTR_NOSUID
    assert shown["HostConfig"]["Mounts"] == asked
    assert [m["Type"] for m in shown["Mounts"]] == ["bind", "bind", "volume", "volume", "tmpfs"]


async def test_tmpfs_and_a_read_only_root(engine_and_client):
    words = "rw,exec,size=64m,size=1g,mode=1770,uid=5,noatime"
    body = host(Tmpfs={"/t": words, "/u/": ""}, ReadonlyRootfs=True)
    mounts, shown = await created(engine_and_client, body)
    first, second = mounts.points
    assert first.options == ("size=1g", "mode=1770", "uid=5")
    assert first.attributes == flags.MOUNT_ATTR_NOSUID | flags.MOUNT_ATTR_NOATIME
    assert (second.target, second.options, second.attributes) == ("/u", (), DOCKERS)
    assert mounts.readonly_root
    assert shown["HostConfig"]["ReadonlyRootfs"] is True
    assert shown["HostConfig"]["Tmpfs"] == {"/t": words, "/u/": ""}
    assert shown["Mounts"] == []


async def test_volumes_from(engine_and_client):
    first = host(Binds=["data:/d", "/a:/b"], Tmpfs={"/t": ""}) | {"Volumes": {"/anon": {}}}
    mounts, shown = await created(
        engine_and_client, first, host(VolumesFrom=["first:ro"], Binds=["other:/d"])
    )
    found = {point.target: point for point in mounts.points}
    assert set(found) == {"/d", "/b", "/anon"}
    assert (found["/d"].volume, found["/d"].readonly) == ("other", False)
    assert (found["/b"].readonly, found["/anon"].readonly) == (True, True)
    assert (found["/anon"].anonymous, found["/anon"].copy_up) == (True, False)
    assert shown["HostConfig"]["VolumesFrom"] == ["first:ro"]


async def test_an_image_s_volumes_are_anonymous_unless_something_is_there(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        engine.images.known[0].config["Volumes"] = {"/var/lib": {}, "/cache": {}}
        try:
            body = {"Image": "host", "HostConfig": {"Tmpfs": {"/cache": ""}}}
            answer = await client.request("POST", "/containers/create", body)
        finally:
            del engine.images.known[0].config["Volumes"]
        mounts = engine.containers.find(answer.json["Id"]).config.mounts
        assert [(p.kind, p.target) for p in mounts.points] == [
            ("tmpfs", "/cache"),
            ("volume", "/var/lib"),
        ]
        assert answer.json["Warnings"] == [answer.json["Warnings"][0]]  # of the network


SPEC = "invalid volume specification: '{}'"
BIND = 'invalid mount config for type "bind": '
VOLUME = 'invalid mount config for type "volume": '


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        ("", SPEC),
        (":/x", SPEC),
        ("/a:ro", SPEC),
        ("/a:/b:ro:z", SPEC),
        ("/a:/b:fast", "invalid mode: fast"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:ro,", "invalid mode: ro,"),
        ("/a:/", SPEC + ": " + BIND + "invalid specification: destination can't be '/'"),
        ("/a:/x/..", SPEC + ": " + BIND + "invalid specification: destination can't be '/'"),
        ("/a:b", SPEC + ": " + BIND + "invalid mount path: 'b' mount path must be absolute"),
        ("/a:/b:nocopy", SPEC + ": " + BIND + "field VolumeOptions must not be specified"),
        ("v1:/b:slave", SPEC + ": " + VOLUME + "field BindOptions must not be specified"),
        ("/a:/proc/sys",
         SPEC + ": " + BIND + '"/proc/sys" cannot be mounted because it is inside /proc'),
        ("a:/b", "create a: volume name is too short, names should be at least two alphanumeric "
         "characters"),
        ("a/b:/c", 'create a/b: "a/b" includes invalid characters for a local volume name, only '
         '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use '
         "absolute path"),
    ],
)  # fmt: skip
async def test_v_refused_in_docker_s_words(engine_and_client, bind, text):
    asked = await refused(engine_and_client, host(Binds=[bind]))
    assert asked == (400, text.replace("{}", bind))


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        ({"Type": "bind", "Source": "/nosuch", "Target": "/x"},
         BIND + "bind source path does not exist: /nosuch"),
        ({"Type": "bind", "Source": "/"}, BIND + "field Target must not be empty"),
        ({"Type": "bind", "Target": "/x"}, BIND + "field Source must not be empty"),
        ({"Type": "bind", "Source": "a", "Target": "/x"},
         BIND + "invalid mount path: 'a' mount path must be absolute"),
        ({"Type": "bind", "Source": "/", "Target": "/x", "BindOptions": {"Propagation": "up"}},
         BIND + "invalid propagation mode: up"),
        ({"Type": "bind", "Source": "/", "Target": "/x", "VolumeOptions": {}},
         BIND + "field VolumeOptions must not be specified"),
        ({"Type": "volume", "Target": "/x", "BindOptions": {}},
         VOLUME + "field BindOptions must not be specified"),
        ({"Type": "volume", "Target": "/x", "ReadOnly": True},
         VOLUME + "must not set ReadOnly mode when using anonymous volumes"),
        ({"Type": "volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}},
         VOLUME + "must not set Subpath when using anonymous volumes"),
        ({"Type": "volume", "Source": "vv", "Target": "/x", "VolumeOptions": {"Subpath": "../a"}},
         VOLUME + "subpath must be a relative path within the volume"),
        ({"Type": "volume", "Source": "vv", "Target": "/x",
          "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}},
         'create vv: error looking up volume plugin nfs: plugin "nfs" not found'),
        ({"Type": "tmpfs", "Source": "/", "Target": "/x"},
         'invalid mount config for type "tmpfs": field Source must not be specified'),
        ({"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"Options": [["suid"]]}},
         'invalid mount config for type "tmpfs": invalid option: suid'),
        ({"Type": "npipe", "Target": "/x"},
         'invalid mount config for type "npipe": mount type unknown'),
        ({"Target": "/x"}, 'invalid mount config for type "None": mount type unknown'),
    ],
)  # fmt: skip
async def test_mount_refused_in_docker_s_words(engine_and_client, mount, text):
    assert await refused(engine_and_client, host(Mounts=[mount])) == (400, text)


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (host(Binds=["/a:/x", "/b:/x/"]), 400, "Duplicate mount point: /x"),
        (host(Binds=["/a:/x"], Mounts=[{"Type": "tmpfs", "Target": "/x"}]), 400,
         "Duplicate mount point: /x"),
        (host(Binds=["/a:/x"], Tmpfs={"/x": ""}), 400, "Duplicate mount point: /x"),
        (host(VolumesFrom=["nosuch"]), 400, "No such container: nosuch"),
        (host(VolumesFrom=[":ro"]), 400, "volumes-from specification cannot be an empty string"),
        (host(VolumesFrom=["c:nocopy"]), 400, "invalid mode: nocopy"),
        (host(VolumesFrom=["c:shared"]), 400, "invalid mode: shared"),
        (host(Tmpfs={"/": ""}), 400, "invalid specification: destination can't be '/'"),
        (host(Tmpfs={"t": ""}), 400, "invalid mount path: 't' mount path must be absolute"),
        (host(Tmpfs={"/t": "fast"}), 400, 'invalid tmpfs option ["fast"]'),
        (host(Tmpfs={"/t": "size=big"}), 400, 'invalid tmpfs option ["size" "big"]'),
        (host(Tmpfs={"/t": "dev"}), 501, "mdocker does not support the tmpfs option 'dev'"),
        (host(VolumeDriver="nfs") | {"Volumes": {"/x": {}}}, 400,
         'create : error looking up volume plugin nfs: plugin "nfs" not found'),
        (host(Mounts=5), 400, "invalid request: Expected `array | null`, got `int` - at "
         "`$.HostConfig.Mounts`"),
        (host(Mounts=[None]), 400, "invalid request: Expected `object`, got `null` - at "
         "`$.HostConfig.Mounts[0]`"),
        (host(Mounts=[{"Type": "volume", "Source": "vv", "Target": "/x",
                       "VolumeOptions": {"Subpath": "a\0b"}}]), 400,
         VOLUME + "subpath must be a relative path within the volume"),
        (host(Binds=["/a\0:/b"]), 400, "invalid volume specification: '/a\0:/b': " + BIND +
         "'/a\\x00' holds a NUL character"),
        ({"Volumes": {"x": {}}}, 400,
         VOLUME + "invalid mount path: 'x' mount path must be absolute"),
    ],
)  # fmt: skip
async def test_other_refusals(engine_and_client, body, status, text):
    assert await refused(engine_and_client, body) == (status, text)


async def test_the_filter_volume(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        for name, bind in (("one", "data:/d"), ("two", "/srv:/other")):
            body = {"Image": "host", **host(Binds=[bind])}
            await client.request("POST", f"/containers/create?name={name}", body)
        for value, names in (("data", ["/one"]), ("/srv", ["/two"]), ("/d", ["/one"]), ("x", [])):
            path = f'/containers/json?all=1&filters={{"volume":["{value}"]}}'
            listed = (await client.request("GET", path)).json
            assert [line["Names"][0] for line in listed] == names
            assert all(line["Mounts"] for line in listed)
