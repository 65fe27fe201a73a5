"""Volumes on a disk that refuses, hangs or was cut; tmpfs options; shared mounts."""

import contextlib
import os

import anyio
import pytest

from runtime import flags
from supervisor import tmpfs_options, volumes_store
from supervisor import volumes as volumes_module
from supervisor.container import Container, ContainerConfig, Life
from supervisor.errors import BadParameter, Conflict, EngineFault, Unsupported
from supervisor.events import EventBus
from supervisor.mount_points import MountPoint, Mounts
from supervisor.shared_mounts import refusal
from supervisor.state_version import VERSION, NewerState
from supervisor.states import State
from supervisor.tree_sizes import disk_bytes
from supervisor.volumes import NoSuchVolume, Volumes


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "volumes"
    made.mkdir()
    return made


def store(folder):
    events = EventBus()
    made = Volumes(folder, events, list, anyio.CapacityLimiter(1))
    made.recover()
    return made, events


def container(name, volume, state):
    mounts = Mounts(points=(MountPoint(kind="volume", target="/v", volume=volume),))
    config = ContainerConfig(image="host", image_id="sha256:0", mounts=mounts)
    made = Container(name * 64, name, config, 1)
    made.life = Life(state=state)
    return made


def refusing(*_args, **_kwargs):
    raise OSError(28, "No space left on device", "somewhere")


@pytest.mark.anyio
async def test_a_full_disk_leaves_nothing(folder, monkeypatch):
    volumes, events = store(folder)
    for call in ("mkdir", "write", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refusing)
            with pytest.raises(EngineFault, match="create data: No space left on device"):
                await volumes.create("data")
        assert os.listdir(folder) == []
    assert (volumes.all(), events.past()) == ([], [])
    assert (await volumes.create("data")).name == "data"


@pytest.mark.anyio
async def test_a_disk_that_refuses_a_removal_keeps_it_whole(folder, monkeypatch):
    volumes, _ = store(folder)
    await volumes.create("data")
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refusing)
        with pytest.raises(EngineFault, match="remove data: No space left on device"):
            await volumes.remove("data")
    assert volumes.find("data").name == "data"
    # Where only the deleting fails, it is out of sight, and swept later.
    with monkeypatch.context() as patch:
        patch.setattr(volumes_module, "remove_tree", refusing)
        await volumes.remove("data")
    with pytest.raises(NoSuchVolume):
        volumes.find("data")
    (left,) = folder.iterdir()
    again, _ = store(folder)
    assert again.all() == []
    await again.sweep(again.recover())
    assert not left.exists()


@pytest.mark.anyio
async def test_two_that_go_at_once_do_not_leave_it_to_each_other(folder):
    """Found by docker-compose down -v, where a service has the volumes of another."""
    for other, goes in ((State.REMOVING, True), (State.EXITED, False)):
        containers = [container("a", "shared", State.REMOVING), container("b", "shared", other)]
        volumes = Volumes(folder, EventBus(), containers.copy, anyio.CapacityLimiter(1))
        await volumes.create("shared")
        with contextlib.nullcontext() if goes else pytest.raises(Conflict, match="in use"):
            await volumes.remove("shared", of="a" * 64)
        # Who asks for the volume itself is told of everybody.
        if not goes:
            with pytest.raises(Conflict, match=r"a{64}, b{64}"):
                await volumes.remove("shared")


@pytest.mark.anyio
async def test_all_is_there_after_a_restart(folder):
    volumes, _ = store(folder)
    made = await volumes.create("data", {"type": "none", "o": "bind", "device": "/srv"}, {"a": "b"})
    plain = await volumes.create("plain")
    again, _ = store(folder)
    assert again.all() == [made, plain]
    assert again.warnings() == []


@pytest.mark.anyio
async def test_many_at_once_make_one(folder):
    volumes, events = store(folder)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(volumes.create, "data")
    assert [event.action for event in events.past()] == ["create"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "Input data was truncated"),
        ('{"version":1,"name":"other","created_ns":1}', "it belongs to volume other"),
    ],
)
def test_a_broken_record_keeps_the_volume_and_is_told(folder, text, words):
    (folder / "data/_data").mkdir(parents=True)
    if text is not None:
        (folder / "data/volume.json").write_text(text)
    volumes, _ = store(folder)
    assert words in volumes.find("data").broken
    (line,) = volumes.warnings()
    assert words in line


def test_a_newer_record_is_not_guessed_at(folder):
    (folder / "data/_data").mkdir(parents=True)
    text = f'{{"version":{VERSION + 1},"name":"data","created_ns":1}}'
    (folder / "data/volume.json").write_text(text)
    with pytest.raises(NewerState):
        volumes_store.load(folder)


def test_what_is_no_volume_is_left_alone(folder):
    (folder / "file").touch()
    (folder / ".hidden").mkdir()
    (folder / "link").symlink_to("/")
    volumes, _ = store(folder)
    assert volumes.all() == []
    assert len(list(folder.iterdir())) == 3


def test_weighing_counts_a_file_with_two_names_once(tmp_path):
    (tmp_path / "one").write_bytes(b"x" * 5000)
    os.link(tmp_path / "one", tmp_path / "two")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/three").write_bytes(b"x")
    assert disk_bytes(tmp_path) == 8192 + 4096
    assert disk_bytes(tmp_path / "nosuch") == 0


def test_tmpfs_options():
    parse = tmpfs_options.parse
    assert parse(["size=50%", "mode=0755", "rw"]) == (("size=50%", "mode=0755"), 0)
    assert parse(["exec", "suid"], tmpfs_options.DOCKERS_DEFAULT) == ((), 0)
    assert parse(["ro", "noatime", "strictatime"]) == (
        (),
        flags.MOUNT_ATTR_RDONLY | flags.MOUNT_ATTR_STRICTATIME,
    )
    assert parse(["noatime", "relatime", "defaults", "", "private"]) == ((), 0)
    for word in ("fast", "size", "size=", "mode=999", "uid=-1", "source=/x", "size=1,huge=always"):
        with pytest.raises(BadParameter, match="invalid tmpfs option"):
            parse([word])
    for word in ("dev", "shared", "sync", "bind"):
        with pytest.raises(Unsupported, match=word):
            parse([word])


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:30 / /srv rw - tmpfs tmpfs rw
31 30 0:31 / /srv/with\\040space rw master:7 - tmpfs tmpfs rw
32 22 0:32 / /srv2 rw shared:3 master:1 - tmpfs tmpfs rw
""".splitlines()


@pytest.mark.parametrize(
    ("source", "propagation", "refused"),
    [
        ("/etc", "shared", ""),
        ("/etc", "rslave", ""),
        ("/srv", "rprivate", ""),
        ("/srv/x", "shared", "path /srv/x is mounted on /srv but it is not a shared mount"),
        ("/srv", "rslave", "path /srv is mounted on /srv but it is not a shared or slave mount"),
        ("/srv/with space/x", "slave", ""),
        (
            "/srv/with space",
            "rshared",
            "path /srv/with space is mounted on /srv/with space but it is not a shared mount",
        ),
        ("/srv2/x", "rshared", ""),
    ],
)
def test_shared_mounts(source, propagation, refused):
    assert refusal(source, propagation, MOUNTS) == refused
