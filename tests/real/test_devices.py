"""Devices by the API, the docker CLI and ours: what a container was given, and payloads that try
more. The device is a loop device of the test's own, never one of the machine's disks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real import exec_client
from tests.real.device_probe import DENIED, NODEV, looks, seen
from tests.real.loop_device import SECTOR, LoopDevice
from tests.real.remapped_engine import RemappedEngine, shifts_ids

DOCKER = shutil.which("docker")
READ_ONLY = {("/dev/disk", "r"): "open", ("/dev/disk", "w"): DENIED}


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    device = LoopDevice(tmp_path_factory.mktemp("loop"))
    yield device
    device.close()


@pytest.fixture(autouse=True)
def nothing_was_written(loop):
    yield
    assert loop.content() == SECTOR


def host(**options):
    return {"HostConfig": {"NetworkMode": "none", **options}}


def mapping(source, path="/dev/disk", access="rwm"):
    return {"PathOnHost": str(source), "PathInContainer": path, "CgroupPermissions": access}


def sh(engine, script, **options):
    code, out, err = engine.result("sh", "-c", script, **host(**options))
    assert code == 0, (out, err)
    return out


def mknod(loop, path="/tmp/own"):
    return f"mknod {path} b {loop.major} {loop.minor} || exit 9\n"


def test_the_default_container_opens_nothing_else(engine, loop, tmp_path):
    """mknod in its root, in a tmpfs, in a volume and in a bind: none can be opened."""
    bound = tmp_path / "bound"
    bound.mkdir()
    places = ("/tmp/own", "/dev/own", "/dev/shm/own", "/ram/own", "/volume/own", "/bound/own")
    script = "".join(mknod(loop, path) for path in places) + looks(*places, "/dev/null")
    found = seen(
        sh(engine, script, Binds=["devices:/volume", f"{bound}:/bound"], Tmpfs={"/ram": "exec"})
    )
    assert found.pop(("/dev/null", "r")) == found.pop(("/dev/null", "w")) == "open"
    assert len(found) == 2 * len(places)
    assert set(found.values()) <= {DENIED, NODEV}
    assert engine.delete("/volumes/devices").status == 204


PASSES = """
import os, socket
s = socket.socket(socket.AF_UNIX); s.connect('/meet/door')
socket.send_fds(s, [b'x'], [os.open('/', os.O_RDONLY)]); s.recv(1)
"""
TAKES = """
import os, socket, stat
l = socket.socket(socket.AF_UNIX); l.bind('/meet/door'); l.listen(); print('ready', flush=True)
s = l.accept()[0]; root = socket.recv_fds(s, 1, 1)[1][0]
os.mknod('own', stat.S_IFBLK | 0o600, os.makedev({major}, {minor}), dir_fd=root)
try: os.open('own', os.O_RDONLY, dir_fd=root); print('open')
except OSError as error: print(error.strerror)
"""


def test_a_neighbours_directory_opens_no_device(engine, loop, tmp_path):
    """Two that work together: one has devices, so mounts without nodev, and hands them on."""
    shared = [f"{tmp_path}:/meet"]
    script = TAKES.format(major=loop.major, minor=loop.minor)
    taker = engine.run("python3", "-c", script, **host(Binds=shared))
    with engine.stream("GET", f"/containers/{taker}/logs?follow=1&stdout=1") as logs:
        assert logs.read(14).endswith(b"ready\n")
    passer = engine.run(
        "python3", "-c", PASSES, **host(Binds=shared, Devices=[mapping("/dev/null")])
    )
    assert engine.wait(taker) == 0
    assert engine.output(taker) == (f"ready\n{DENIED}\n".encode(), b"")
    for container in (taker, passer):
        engine.delete(f"/containers/{container}?force=1")


def test_what_comes_from_the_machine_later_opens_no_device(engine, loop, tmp_path):
    """rslave: a mount made on the machine has the machine's flags in the container, too."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    later = tmp_path / "later"
    try:
        subprocess.run(["mount", "--make-shared", str(tmp_path)], check=True)
        later.mkdir()
        container = engine.run("sleep", "1000", **host(Binds=[f"{tmp_path}:/slave:rslave"]))
        subprocess.run(["mount", "-t", "tmpfs", "-o", "dev", "tmpfs", str(later)], check=True)
        script = mknod(loop, "/slave/later/own") + looks("/slave/later/own")
        output = exec_client.shell(engine, container, script)
        assert set(seen(output).values()) == {DENIED}
        engine.delete(f"/containers/{container}?force=1")
    finally:
        subprocess.run(["umount", "-R", str(tmp_path)], check=True)


def test_permissions_bite_in_execs_after_a_restart_and_after_the_engines_death(engine, loop):
    container = engine.run("sleep", "1000", **host(Devices=[mapping(loop.path, access="r")]))

    def tried():
        output = exec_client.shell(
            engine, container, f"rm -f /tmp/own\n{mknod(loop)}{looks('/dev/disk', '/tmp/own')}"
        )
        return seen(output)

    expected = READ_ONLY | {("/tmp/own", way): READ_ONLY["/dev/disk", way] for way in "rw"}
    assert tried() == expected
    assert engine.post(f"/containers/{container}/restart?t=0").status == 204
    assert tried() == expected
    asked = {"Devices": [mapping(loop.path)], "DeviceCgroupRules": ["c 42:* rwm"]}
    other = engine.create("true", **host(**asked))
    engine.kill()
    engine.start()
    assert tried() == expected
    kept = engine.inspect(other)["HostConfig"]
    assert {name: kept[name] for name in asked} == asked
    engine.delete(f"/containers/{other}")
    shown = engine.inspect(container)["HostConfig"]
    assert shown["Devices"] == [mapping(loop.path, access="r")]
    assert (shown["DeviceCgroupRules"], shown["DeviceRequests"]) == (None, None)
    engine.delete(f"/containers/{container}?force=1")


@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI (docker.io)")
@pytest.mark.parametrize("client", ["docker", "mdocker"])
def test_the_command_lines(engine, loop, client):
    def run(*words):
        command = [DOCKER] if client == "docker" else [sys.executable, "-m", "mdocker"]
        done = subprocess.run(
            [*command, "run", "--rm", "--network", "none", *words],
            env=engine.environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = run(
        "--device", f"{loop.path}:/dev/disk:r", "host", "sh", "-c", looks("/dev/disk")
    )
    assert (code, seen(out)) == (0, READ_ONLY), err
    rule = f"b {loop.major}:{loop.minor} r"
    script = mknod(loop, "/dev/disk") + looks("/dev/disk")
    code, out, err = run("--device-cgroup-rule", rule, "host", "sh", "-c", script)
    assert (code, seen(out)) == (0, READ_ONLY), err
    # Both permissions, and the same path as here, where only one is named.
    script = looks(loop.path)
    code, out, err = run("--device", f"{loop.path}:w", "host", "sh", "-c", script)
    assert (code, seen(out)) == (0, {(loop.path, "r"): DENIED, (loop.path, "w"): "open"}), err
    code, out, err = run(
        "--privileged", "host", "sh", "-c", mknod(loop) + looks("/tmp/own", loop.path)
    )
    assert (code, set(seen(out).values())) == (0, {"open"}), err

    code, _, err = run("--device", "/dev/no such", "host", "true")
    assert code == 127  # as the docker CLI has it for these words
    assert (
        'error gathering device information while adding custom device "/dev/no such": '
        "no such file or directory" in err
    )
    if client == "mdocker":
        return  # tests/unit/cli/test_devices.py
    for words, said in (
        (("--device", "/dev/null:/x:q"), "bad mode specified: q"),
        (("--device", "/dev/null:x"), "x is not an absolute path"),
        (("--device-cgroup-rule", "c 1:3 q"), "invalid device cgroup format 'c 1:3 q'"),
        (("--gpus", "all"), "device driver"),
    ):
        code, _, err = run(*words, "host", "true")
        assert code == 125, words
        assert said in err, words


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        ({"Devices": [mapping("/etc/passwd")]}, 500, "not a device node"),
        ({"Devices": [mapping("/proc/self")]}, 500, "not a device node"),
        ({"Devices": [mapping("/dev/zero", "/dev/null")]}, 500, "/dev/null is every container's"),
        ({"Devices": [mapping("/dev/zero", "/dev/fd/9")]}, 500, "is every container's own"),
        ({"Devices": [mapping("/dev/zero", "/dev/pts/9")]}, 400, "/dev/pts/9"),
        ({"Devices": [mapping("/dev/zero", "/proc/self/x")]}, 400, "/proc"),
        ({"Devices": [mapping("/dev/zero", access="")]}, 400, "bad mode specified"),
        ({"Devices": [mapping("/dev/zero", access="rx")]}, 400, "bad mode specified: rx"),
        ({"Devices": [mapping("zero")]}, 400, "zero is not an absolute path"),
        ({"Devices": [mapping("/dev/zero", "/")]}, 400, "the container's root"),
        ({"DeviceCgroupRules": ["c 1:3"]}, 400, "invalid device cgroup rule format: 'c 1:3'"),
        (
            {"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]},
            501,
            'could not select device driver "" with capabilities: [[gpu]]',
        ),
    ],
)
def test_refused(engine, options, status, words):
    body = {"Image": "host", "Cmd": ["true"], **host(**options)}
    answer = engine.post("/containers/create", body)
    if answer.status == 201:
        container = answer.json["Id"]
        answer = engine.post(f"/containers/{container}/start")
        assert engine.delete(f"/containers/{container}").status == 204
    assert (answer.status, words in answer.json["message"]) == (status, True), answer


def test_directories_and_links(engine, loop, tmp_path):
    """All nodes in a directory and below, but no links in it; a link itself is followed."""
    number, kind = os.stat(loop.path).st_rdev, stat.S_IFBLK | 0o640
    (tmp_path / "disks/below").mkdir(parents=True)
    for name in ("one", "below/two"):
        os.mknod(tmp_path / "disks" / name, kind, number)
    (tmp_path / "disks/link").symlink_to(loop.path)
    (tmp_path / "disks/file").write_text("no device")
    (tmp_path / "link").symlink_to("disks/one")
    output = sh(
        engine,
        "cd /dev/disks; find . | sort; stat -c '%F %a' below/two /dev/linked\n"
        + looks("/dev/disks/one", "/dev/linked"),
        Devices=[
            mapping(tmp_path / "disks", "/dev/disks", "r"),
            mapping(tmp_path / "link", "/dev/linked", "r"),
        ],
    ).splitlines()
    assert output[:4] == [".", "./below", "./below/two", "./one"]
    assert output[4:6] == ["block special file 640"] * 2
    assert list(seen("\n".join(output[6:])).values()) == ["open", DENIED] * 2


def test_nodes_that_come_later(engine, loop, tmp_path):
    """A rule and a bind: how devices are used that are plugged in while it runs."""
    rules = [f"b {loop.major}:* r"]
    container = engine.run(
        "sleep", "1000", **host(DeviceCgroupRules=rules, Binds=[f"{tmp_path}:/plugged"])
    )
    os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.stat(loop.path).st_rdev)
    output = exec_client.shell(engine, container, looks("/plugged/disk"))
    assert list(seen(output).values()) == ["open", DENIED]
    assert engine.inspect(container)["HostConfig"]["DeviceCgroupRules"] == rules
    engine.delete(f"/containers/{container}?force=1")


def test_binds_of_the_machines_dev(engine, loop):
    """What every container may open works there, too, and nothing else does."""
    found = seen(
        sh(
            engine,
            looks("/machine/null", f"/machine/{Path(loop.path).name}", "/dev/random"),
            Binds=["/dev:/machine", "/dev/urandom:/dev/random"],
        )
    )
    assert list(found.values()) == ["open", "open", DENIED, DENIED, "open", "open"]


def test_privileged_has_the_machines_devices(engine, loop):
    # Not find's -type: it believes directories, which don't tell what is mounted on a name.
    names = "find /dev ! -path '/dev/pts/*' -exec stat -c '%F %n' {} + | grep '^[bc].*special'"
    inside = sh(engine, names, Privileged=True).splitlines()
    machine = subprocess.check_output(["sh", "-c", names], text=True).splitlines()
    own = {f"character special file /dev/{name}" for name in ("console", "ptmx")}
    assert set(machine) - own == set(inside) - own
    assert f"block special file {loop.path}" in inside


def test_below_another_cgroup(engine, loop):
    """There the engine's own directory, with its program, is not above it."""
    parent = f"/devices-test{os.getpid()}"
    found = seen(
        sh(
            engine,
            "mount -o remount,bind,dev /\n" + mknod(loop) + looks("/tmp/own", "/dev/null"),
            CgroupParent=parent,
            CapAdd=["SYS_ADMIN"],
            SecurityOpt=["apparmor=unconfined"],
        )
    )
    assert list(found.values()) == [DENIED, DENIED, "open", "open"]


def test_who_may_mount_opens_no_device(engine, loop):
    """CAP_SYS_ADMIN takes nodev away, and has file systems of its own."""
    script = (
        "mount -o remount,bind,dev / && mkdir /m && mount -t tmpfs tmpfs /m || exit 8\n"
        f"{mknod(loop)}{mknod(loop, '/m/own')}"
        f"{looks('/tmp/own', '/m/own')}mount /m/own /mnt || echo /mnt m refused\n"
    )
    found = seen(sh(engine, script, CapAdd=["SYS_ADMIN"], SecurityOpt=["apparmor=unconfined"]))
    assert found.pop(("/mnt", "m")) == "refused"
    assert len(found) == 4
    assert set(found.values()) == {DENIED}


def test_in_a_user_namespace(loop, tmp_path):
    """Its root owns the node, is held to the rules, and can't make one."""
    if not (shifts_ids(tmp_path) and shifts_ids(Path("/usr"))):
        pytest.skip("this kernel shifts no ids of files here")
    engine = RemappedEngine(tmp_path / "engine").start()
    try:
        script = (
            "stat -c '%u %g %a' /dev/disk; mknod /tmp/own b 1 1 2>&1 | grep -o 'Operation.*'\n"
            + looks("/dev/disk")
        )
        printed = sh(engine, script, Devices=[mapping(loop.path, access="r")]).splitlines()
        status = os.stat(loop.path)
        owner = f"{status.st_uid} {status.st_gid} {stat.S_IMODE(status.st_mode):o}"
        assert printed[:2] == [owner, DENIED]
        assert seen("\n".join(printed[2:])) == READ_ONLY
    finally:
        engine.close()


def test_the_machines_console(engine):
    """A container can be given it, too; its own terminal is its console all the same."""
    console = mapping("/dev/console", "/dev/console", "m")
    script = "stat -L -c %t:%T /dev/console; stat -c '%F' /dev/console"
    assert sh(engine, script, Devices=[console]) == "5:1\ncharacter special file\n"
    config = host(Devices=[console]) | {"Tty": True}
    container = engine.run("sh", "-c", f"{script}; echo typed > /dev/console", **config)
    assert engine.wait(container) == 0
    printed = engine.get(f"/containers/{container}/logs?stdout=1").body.decode().split()
    assert printed == ["88:0", "character", "special", "file", "typed"]
    engine.delete(f"/containers/{container}")
    config = host(Binds=["/dev:/dev"]) | {"Tty": True}
    container = engine.run("sh", "-c", "echo typed > /dev/console", **config)
    assert engine.wait(container) == 0
    assert engine.get(f"/containers/{container}/logs?stdout=1").body == b"typed\r\n"
    engine.delete(f"/containers/{container}")


def test_tun(engine):
    """What VPNs ask for."""
    if not Path("/dev/net/tun").exists() or shutil.which("ip") is None:
        pytest.skip("no /dev/net/tun or no ip(8) here")
    script = "ip tuntap add dev bird mode tun && ip -o link show bird"
    tun = mapping("/dev/net/tun", "/dev/net/tun")
    assert "bird" in sh(engine, script, Devices=[tun], CapAdd=["NET_ADMIN"])
    script = f"mkdir /dev/net; mknod /dev/net/tun c 10 200; {script}"
    code, _, err = engine.result("sh", "-c", script, **host(CapAdd=["NET_ADMIN"]))
    assert (code, NODEV in err) == (1, True)
