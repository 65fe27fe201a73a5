"""Volumes and mounts of real containers, and what deaths leave of them."""

import json
import os
import shutil
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from supervisor.volumes import ANONYMOUS
from tests.real.loop_disk import wait_until_stuck


def volumes(engine):
    return {one["Name"]: one for one in engine.get("/volumes").json["Volumes"]}


def host(**options):
    return {"HostConfig": {"NetworkMode": "none", **options}}


@pytest.fixture(autouse=True)
def nothing_left(request):
    """Each test leaves an engine without containers and volumes, and no mount on the machine."""
    yield
    if "engine" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        for container in engine.get("/containers/json?all=1").json:
            engine.delete(f"/containers/{container['Id']}?force=1&v=1")
        engine.post('/volumes/prune?filters={"all":["1"]}')
        assert volumes(engine) == {}
        assert list((engine.root / "volumes").iterdir()) == []
        # Other tests' mounts come and go beside ours.
        assert str(engine.base) not in Path("/proc/self/mountinfo").read_text()


def sh(engine, script, **options):
    """What a script in a container of its own prints; it must end with 0."""
    code, out, err = engine.result("sh", "-c", script, **options)
    assert code == 0, (out, err)
    return out


def test_a_named_volume_outlives_its_containers(engine):
    sh(engine, "echo kept > /data/file", **host(Binds=["data:/data"]))
    assert sh(engine, "cat /d/file", **host(Binds=["data:/d:ro"])) == "kept\n"
    data = Path(volumes(engine)["data"]["Mountpoint"])
    assert (data / "file").read_text() == "kept\n"
    code, _, err = engine.result("touch", "/d/x", **host(Binds=["data:/d:ro"]))
    assert (code, "Read-only file system" in err) == (1, True)


@pytest.fixture(scope="module")
def image(engine, busybox_tar, tmp_path_factory):
    """busybox with something where a volume comes, and a link that leads out."""
    folder = tmp_path_factory.mktemp("image")
    path = folder / "image.tar"
    shutil.copy2(busybox_tar, path)
    tree = folder / "tree"
    (tree / "srv/data/sub").mkdir(parents=True)
    (tree / "srv/data/sub/file").write_text("from the image\n")
    os.chown(tree / "srv/data", 1234, 5678)
    (tree / "srv/data").chmod(0o2750)
    (tree / "out").symlink_to("/../../../../../../../../../../tmp")
    with tarfile.open(path, "a") as archive:
        archive.add(tree, ".")
    change = "changes=VOLUME+%2Fsrv%2Fdata"
    answer = engine.post(
        f"/images/create?fromSrc=-&repo=content&tag=latest&{change}",
        path.read_bytes(),
        {"Content-Type": "application/x-tar"},
    )
    assert answer.status == 200 and b"error" not in answer.body, answer
    return "content"


def test_an_image_s_volume_is_anonymous_filled_and_goes_with_rm_v(engine, image):
    container = engine.create("cat", "/srv/data/sub/file", image=image, **host())
    (mount,) = engine.inspect(container)["Mounts"]
    assert (mount["Type"], mount["Destination"], mount["RW"]) == ("volume", "/srv/data", True)
    (shown,) = volumes(engine).values()
    assert (shown["Name"], shown["Labels"]) == (mount["Name"], {ANONYMOUS: ""})
    assert engine.post(f"/containers/{container}/start").status == 204
    assert engine.wait(container) == 0
    assert engine.output(container)[0] == b"from the image\n"
    data = Path(mount["Source"])
    about = data.stat()
    assert (about.st_uid, about.st_gid, stat.S_IMODE(about.st_mode)) == (1234, 5678, 0o2750)
    assert os.listdir(data.parent) in (["_data", "volume.json"], ["volume.json", "_data"])
    assert engine.delete(f"/containers/{container}").status == 204
    assert list(volumes(engine)) == [mount["Name"]]  # without v it stays
    other = engine.create("true", image=image, **host())
    assert engine.delete(f"/containers/{other}?v=1").status == 204
    assert list(volumes(engine)) == [mount["Name"]]


def test_a_volume_is_filled_once_and_never_over_content(engine, image):
    binds = host(Binds=["data:/srv/data"])
    script = "ls /srv/data; rm -rf /srv/data/*"
    container = engine.create("sh", "-c", script, image=image, **binds)
    for _ in range(2):
        assert engine.post(f"/containers/{container}/start").status == 204
        assert engine.wait(container) == 0
    # Emptied on purpose, it stays empty at a restart.
    assert engine.output(container)[0] == b"sub\n"
    assert sh(engine, "cat /srv/data/sub/file; echo mine > /srv/data/sub/file", image=image,
              **binds) == "from the image\n"  # fmt: skip
    assert sh(engine, "cat /srv/data/sub/file", image=image, **binds) == "mine\n"
    assert sh(engine, "ls /srv/data", image=image, **host(Binds=["new:/srv/data:nocopy"])) == ""


def test_volumes_of_the_built_in_image_are_filled_from_the_machine_s_usr(engine):
    seen = sh(engine, "ls /usr/lib/systemd | wc -l", **host(Binds=["data:/usr/lib/systemd"]))
    assert int(seen) == len(os.listdir("/usr/lib/systemd"))


def test_a_target_can_not_lead_out(engine, image):
    mark = f"mdocker-test-{os.getpid()}"
    for binds in ([f"data:/out/{mark}"], [f"/etc:/out/{mark}/deep:ro"]):
        assert sh(engine, f"ls -d /tmp/{mark}", image=image, **host(Binds=binds))
        assert not Path(f"/tmp/{mark}").exists()


def test_rm_takes_only_what_nobody_else_has(engine):
    first = engine.create("true", name="first", **host(), Volumes={"/anon": {}})
    second = engine.create("true", **host(VolumesFrom=["first"]))
    assert engine.delete(f"/containers/{first}?v=1").status == 204
    assert len(volumes(engine)) == 1
    assert engine.delete(f"/containers/{second}?v=1").status == 204
    assert volumes(engine) == {}
    container = engine.create(
        "true", **host(AutoRemove=True, Binds=["named:/named"]), Volumes={"/anon": {}}
    )
    assert len(volumes(engine)) == 2
    with engine.stream("POST", f"/containers/{container}/wait?condition=removed") as answer:
        assert engine.post(f"/containers/{container}/start").status == 204
        assert json.loads(answer.read())["StatusCode"] == 0
    assert list(volumes(engine)) == ["named"]


def test_what_is_told_of_it(engine):
    begin = engine.get("/info").json["SystemTime"]
    container = engine.run("true", **host(Binds=["data:/data:ro"]))
    engine.wait(container)
    assert engine.delete("/volumes/data").message == (
        f"remove data: volume is in use - [{container}]"
    )
    engine.delete(f"/containers/{container}")
    assert engine.delete("/volumes/data").status == 204
    until = engine.get("/info").json["SystemTime"]
    body = engine.get(f"/events?since={begin}&until={until}").body
    told = [json.loads(line) for line in body.splitlines()]
    assert [f"{one['Type']} {one['Action']}" for one in told] == [
        "volume create",
        "container create",
        "volume mount",
        "container start",
        "container die",
        "volume unmount",
        "container destroy",
        "volume destroy",
    ]
    assert told[2]["Actor"] == {
        "ID": "data",
        "Attributes": {
            "container": container,
            "destination": "/data",
            "driver": "local",
            "propagation": "",
            "read/write": "false",
        },
    }
    only = engine.get(f'/events?since={begin}&until={until}&filters={{"volume":["data"]}}').body
    assert only.count(b"\n") == 4


def test_a_missing_source_is_made_for_v_and_told_of_for_mount(engine, tmp_path):
    source = tmp_path / "not/yet"
    script = "echo hi > /m/file; stat -c %a /m"
    assert sh(engine, script, **host(Binds=[f"{source}:/m"])) == "755\n"
    assert (source / "file").read_text() == "hi\n"
    mount = {"Type": "bind", "Source": str(source), "Target": "/m"}
    container = engine.create("true", **host(Mounts=[mount]))
    shutil.rmtree(source)
    answer = engine.post(f"/containers/{container}/start")
    assert answer.status == 400
    assert answer.message == (
        f'invalid mount config for type "bind": bind source path does not exist: {source}'
    )
    assert engine.inspect(container)["State"]["Error"] == answer.message
    source.mkdir()
    assert engine.post(f"/containers/{container}/start").status == 204


def test_a_file_a_socket_and_what_replaces_docker_s_own_files(engine, tmp_path):
    (tmp_path / "hosts").write_text("mine\n")
    binds = [f"{tmp_path}/hosts:/etc/hosts:ro", f"{engine.socket}:/run/docker.sock"]
    script = "cat /etc/hosts; test -S /run/docker.sock && echo socket; test -s /etc/hostname"
    assert sh(engine, script, **host(Binds=binds)) == "mine\nsocket\n"
    # A volume over /etc does not hide them.
    assert "localhost" in sh(engine, "cat /etc/hosts", **host(Binds=["etc:/etc"]))


@pytest.mark.parametrize(
    "options",
    [
        {"Binds": ["bare:/etc:ro,nocopy"]},
        {"Mounts": [{"Type": "tmpfs", "Target": "/etc", "ReadOnly": True}]},
    ],
    ids=["volume", "tmpfs"],
)
def test_what_can_t_be_written_may_be_mounted_over_etc(engine, options):
    """Docker's own files are in it where there is a place for them, or one can be made."""
    seen = sh(engine, "ls /etc; ( touch /etc/x ) 2>&1; cat /proc/mounts", **host(**options))
    assert "Read-only file system" in seen
    own = {line.split()[1] for line in seen.splitlines() if line.count(" ") == 5}
    files = {f"/etc/{name}" for name in ("hostname", "hosts", "resolv.conf")}
    assert own & files == (files if "Mounts" in options else set())


def test_a_read_only_tmpfs_behind_a_link_is_what_is_read_only(engine):
    """/sbin leads to /usr/sbin, where something else is mounted over it afterwards."""
    mounts = [
        {"Type": "tmpfs", "Target": "/sbin", "ReadOnly": True},
        {"Type": "volume", "Source": "over", "Target": "/usr/sbin"},
    ]
    script = "echo > /usr/sbin/x && echo written; grep /usr/sbin /proc/self/mountinfo"
    said, *mounted = sh(engine, script, **host(Mounts=mounts)).splitlines()
    assert said == "written"
    found = {("- tmpfs " in line, line.split()[5].split(",")[0]) for line in mounted}
    assert found == {(True, "ro"), (False, "rw")}


def test_a_read_only_root(engine):
    script = """
        for f in /x /etc/hosts /root/x; do ( echo > $f ) 2>/dev/null && echo $f; done
        echo > /dev/shm/x && echo > /data/x && echo > /run2/x && echo > /dev/null && cat /etc/hosts
    """
    options = host(ReadonlyRootfs=True, Binds=["data:/data"], Tmpfs={"/run2": "size=1m"})
    assert sh(engine, script, **options).startswith("127.0.0.1\tlocalhost\n")


def test_tmpfs(engine):
    script = "grep ' /t ' /proc/mounts; stat -c '%a %U' /t"
    mounts, about = sh(engine, script, **host(Tmpfs={"/t": "size=1m,mode=711"})).splitlines()
    assert {"rw", "nosuid", "nodev", "noexec", "size=1024k"} <= set(mounts.split()[3].split(","))
    assert (mounts.split()[0], about) == ("tmpfs", "711 root")
    mount = {"Type": "tmpfs", "Target": "/t", "ReadOnly": True}
    assert " ro," in sh(engine, "grep ' /t ' /proc/mounts", **host(Mounts=[mount]))


def test_propagation(engine, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    binds = host(Binds=[f"{source}:/m:rslave"])
    subprocess.run(["mount", "-t", "tmpfs", "test", source], check=True)
    try:
        subprocess.run(["mount", "--make-private", source], check=True)
        answer = engine.post(f"/containers/{engine.create('true', **binds)}/start")
        assert answer.status == 400
        assert answer.message == (
            f"path {source} is mounted on {source} but it is not a shared or slave mount"
        )
        subprocess.run(["mount", "--make-shared", source], check=True)
        (source / "later").mkdir()
        os.mkfifo(source / "go")
        container = engine.run("sh", "-c", "read _ < /m/go; ls /m/later", **binds)
        subprocess.run(["mount", "-t", "tmpfs", "test", source / "later"], check=True)
        try:
            (source / "later/mark").touch()
            (source / "go").write_text("go\n")
            assert engine.wait(container) == 0
            assert engine.output(container)[0] == b"mark\n"
        finally:
            subprocess.run(["umount", source / "later"], check=True)
    finally:
        subprocess.run(["umount", source], check=True)


def test_volumes_of_a_directory_and_of_a_tmpfs(engine, tmp_path):
    (tmp_path / "file").write_text("there\n")
    options = {"type": "none", "o": "bind", "device": str(tmp_path)}
    assert engine.post("/volumes/create", {"Name": "dir", "DriverOpts": options}).status == 201
    assert sh(engine, "cat /d/file", **host(Binds=["dir:/d"])) == "there\n"
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=64k,uid=7"}
    assert engine.post("/volumes/create", {"Name": "tmp", "DriverOpts": options}).status == 201
    script = "stat -c %u /d; df -k /d | tail -1 | awk '{print $2}'"
    assert sh(engine, script, **host(Binds=["tmp:/d"])) == "7\n64\n"
    first = engine.run("sleep", "100", name="first", **host(Binds=["tmp:/d"]))
    second = engine.create("true", **host(Binds=["tmp:/d"]))
    answer = engine.post(f"/containers/{second}/start")
    assert answer.status == 400
    assert "container first runs with it" in answer.message
    assert engine.delete(f"/containers/{first}?force=1").status == 204
    assert engine.post(f"/containers/{second}/start").status == 204
    engine.wait(second)
    shutil.rmtree(tmp_path)
    third = engine.create("true", **host(Binds=["dir:/d"]))
    answer = engine.post(f"/containers/{third}/start")
    assert answer.message.endswith(f"bind source path does not exist: {tmp_path}")
    tmp_path.mkdir()


def test_a_part_of_a_volume(engine):
    sh(engine, "mkdir -p /d/a/b; echo part > /d/a/b/file", **host(Binds=["data:/d"]))
    mount = {"Type": "volume", "Source": "data", "Target": "/p",
             "VolumeOptions": {"Subpath": "a/b"}}  # fmt: skip
    assert sh(engine, "cat /p/file", **host(Mounts=[mount])) == "part\n"


def test_a_failed_create_leaves_no_volume(engine):
    engine.post("/volumes/create", {"Name": "old", "Labels": {"a": "b"}})
    mounts = [
        {"Type": "volume", "Source": "new", "Target": "/n"},
        {"Type": "volume", "Source": "old", "Target": "/o",
         "VolumeOptions": {"DriverConfig": {"Options": {
             "type": "none", "o": "bind", "device": "/srv"}}}},
    ]  # fmt: skip
    body = {"Image": "host", **host(Mounts=mounts), "Volumes": {"/anon": {}}}
    answer = engine.post("/containers/create", body)
    assert answer.status == 409
    assert "with other options" in answer.message
    assert list(volumes(engine)) == ["old"]
    assert engine.get("/containers/json?all=1").json == []
    assert list((engine.root / "containers").iterdir()) == []


def test_what_a_death_leaves(fresh_engine):
    engine = fresh_engine
    kept = engine.run("sleep", "1000", **host(Binds=["data:/d"]), Volumes={"/anon": {}})
    cut = engine.create("true", **host(), Volumes={"/anon": {}})
    engine.post("/volumes/create", {"Name": "broken"})
    filling = engine.create("ls", "/etc/ssl", **host(Binds=["half:/etc/ssl"]))
    engine.kill()
    folder = engine.root / "volumes"
    # Two copies that were cut off: one container has gone, the other's record says that it ran.
    for owner in ("0" * 64, filling):
        (folder / f"half/_fill.{owner}/torn").mkdir(parents=True)
    path = engine.root / "containers" / filling / "config.json"
    record = json.loads(path.read_text())
    record["life"] |= {"state": "exited", "started_ns": 10**18, "finished_ns": 10**18}
    path.write_text(json.dumps(record))
    for name in (".new-1", ".removed-2"):
        (folder / name / "_data/deep").mkdir(parents=True)
    (folder / "broken/volume.json").write_text("{")
    (folder / "broken/_data/precious").touch()
    # A removal with its volumes that was cut off after its record.
    path = engine.root / "containers" / cut / "config.json"
    record = json.loads(path.read_text())
    record["life"] |= {"state": "removing", "remove_volumes": True}
    path.write_text(json.dumps(record))
    (doomed,) = [p["volume"] for p in record["config"]["mounts"]["points"]]
    with_wait = f"/containers/{cut}/wait?condition=removed"
    engine.start()
    assert engine.post(with_wait).status in (200, 404)
    found = volumes(engine)
    assert set(found) >= {"data", "broken", "half"}
    assert doomed not in found
    assert len(found) == 4
    assert engine.post(f"/containers/{filling}/start").status == 204
    assert engine.wait(filling) == 0
    assert b"certs" in engine.output(filling)[0]
    assert not (folder / f"half/_fill.{filling}").exists()
    info = engine.get("/info").json
    assert any("volume broken can't be used" in line for line in info["Warnings"])
    container = engine.create("true", **host(Binds=["broken:/b"]))
    assert "restore it" in engine.post(f"/containers/{container}/start").message
    assert (folder / "broken/_data/precious").exists()
    assert engine.inspect(kept)["State"]["Running"]
    # The sweep is a task of its own.
    while any(name.startswith(".") for name in os.listdir(folder)) or (
        sorted(os.listdir(folder / "half")) != ["_data", "volume.json"]
    ):
        engine.get("/_ping")


def test_a_tree_of_a_thousand_levels_is_weighed_and_removed(engine):
    """It used to break system df, ps -s and rm, and the start of the next supervisor."""
    container = engine.create("true", **host(Binds=["data:/d"]))
    for top in (f"containers/{container}/upper", "volumes/data/_data"):
        below = os.open(engine.root / top, os.O_RDONLY)
        for _ in range(1050):
            os.mkdir("d", dir_fd=below)
            above, below = below, os.open("d", os.O_RDONLY, dir_fd=below)
            os.close(above)
        os.close(below)
    assert engine.get("/system/df").status == 200
    assert engine.get("/containers/json?all=1&size=1").status == 200
    assert engine.delete(f"/containers/{container}").status == 204
    assert engine.delete("/volumes/data").status == 204
    for folder in ("containers", "volumes"):
        assert list((engine.root / folder).iterdir()) == []


def test_a_source_on_a_disk_that_hangs_holds_up_nobody_else(disk, fresh_engine):
    engine = fresh_engine
    container = engine.create("true", **host(Binds=[f"{disk.path}/new:/m"]))
    answers = []

    def start():
        answers.append(engine.post(f"/containers/{container}/start").status)

    thread = threading.Thread(target=start)
    with disk.frozen():
        thread.start()
        wait_until_stuck(engine.process.pid)
        assert engine.result("echo", "hi", **host(Binds=["data:/d"])) == (0, "hi\n", "")
        assert engine.get("/containers/json").status == 200
    thread.join(30)
    assert answers == [204]
    assert (disk.path / "new").is_dir()
    engine.wait(container)
