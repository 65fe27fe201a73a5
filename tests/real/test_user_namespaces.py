"""`--userns-remap` and `--userns`: payloads that try to be more on the machine than nobody."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.real.engine_process import CHECKOUT, demultiplexed
from tests.real.escapes.test_machine import _SHOCKER
from tests.real.remapped_engine import (
    COUNT,
    FIRST,
    RemappedEngine,
    shifts_ids,
)
from tests.real.test_restart_policies import actions_until

OVERFLOW = 65_534  # /proc/sys/kernel/overflowuid: how an id looks that has no place in the map
FOREVER = ("sleep", "1000000")


@pytest.fixture(scope="module")
def engine(tmp_path_factory, request):
    base = tmp_path_factory.mktemp("remapped")
    if not shifts_ids(base):
        pytest.skip("the file system of the tests' directory can't show shifted ids here")
    process = RemappedEngine(base).start()
    if not shifts_ids(Path("/usr")):
        process.use("busybox", request.getfixturevalue("busybox_tar"))
    yield process
    process.close()


@pytest.fixture
def programs(engine):
    """This machine's own programs, in the image."""
    if engine.image != "host":
        pytest.skip("the file system of /usr can't show shifted ids here, so there is no `host`")


@pytest.fixture
def made(engine):
    """Makes containers; all that there are go with the test."""
    yield engine
    for one in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{one['Id']}?force=1")


def shell(engine, script, **options):
    """What a script in a container of its own prints, by lines."""
    code, out, err = engine.result("sh", "-c", script, **options)
    assert code == 0, (out, err)
    return out.splitlines()


def pid_of(engine, container):
    return engine.inspect(container)["State"]["Pid"]


def outside(pid):
    """(uid, gid) of a process as the machine sees them; real, effective, saved and fs in one."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    (uid,), (gid,) = set(fields["Uid"]), set(fields["Gid"])
    return int(uid), int(gid)


def namespace(pid, kind):
    return os.readlink(f"/proc/{pid}/ns/{kind}")


def entered(engine, container, script, **options):
    """(exit code, output) of an exec."""
    asked = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", script], **options}
    made = engine.post(f"/containers/{container}/exec", asked).json["Id"]
    answer = engine.post(f"/exec/{made}/start", {})
    out, err = demultiplexed(answer.body)
    return engine.get(f"/exec/{made}/json").json["ExitCode"], (out + err).decode()


def test_root_inside_is_nobody_outside(made):
    container = made.run(*FOREVER)
    pid = pid_of(made, container)
    assert outside(pid) == (FIRST, FIRST)
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(FIRST), str(COUNT)]
    for kind in ("user", "mnt", "uts", "ipc", "net", "cgroup", "pid"):
        assert namespace(pid, kind) != namespace("self", kind), kind
    user = made.run(*FOREVER, User="1000:8")
    assert outside(pid_of(made, user)) == (FIRST + 1000, FIRST + 8)
    mine = made.run(*FOREVER, HostConfig={"UsernsMode": "host"})
    assert outside(pid_of(made, mine)) == (0, 0)
    assert namespace(pid_of(made, mine), "user") == namespace("self", "user")
    assert "name=userns" in made.get("/info").json["SecurityOptions"]


@pytest.mark.parametrize("more", [{}, {"HostConfig": {"CapAdd": ["SYS_PTRACE"]}}])
def test_an_exec_is_nobody_too(made, more):
    """Also where those inside may trace others, so that it takes another way in."""
    container = made.run(*FOREVER, **more)
    code, told = entered(
        made, container, "id -u; readlink /proc/self/ns/user; readlink /proc/1/ns/user"
    )
    uid, own, theirs = told.split()
    assert (code, uid) == (0, "0")
    assert own == theirs == namespace(pid_of(made, container), "user")
    # Alive until its standard input ends: seen from outside meanwhile.
    asked = {"Cmd": ["sleep", "1000000"], "User": "7:3"}
    exec_id = made.post(f"/containers/{container}/exec", asked).json["Id"]
    assert made.post(f"/exec/{exec_id}/start", {"Detach": True}).status == 200
    assert outside(made.get(f"/exec/{exec_id}/json").json["Pid"]) == (FIRST + 7, FIRST + 3)


def test_a_health_check_is_nobody_too(made):
    check = {"Test": ["CMD-SHELL", "grep -q 300000 /proc/self/uid_map && id -u"], "Retries": 1}
    container = made.run(*FOREVER, Healthcheck=check | {"Interval": 1_000_000})
    actions_until(made, container, "health_status: healthy")
    assert made.inspect(container)["State"]["Health"]["Log"][0]["Output"] == "0\n"


@pytest.mark.parametrize("client", ["docker", "mdocker"])
def test_the_command_lines(made, client):
    words = [client, "-H", f"unix://{made.socket}"]
    if client == "mdocker":
        words[:1] = [sys.executable, "-m", "mdocker"]
    elif not shutil.which("docker"):
        pytest.skip("needs the docker command line")
    script = "cat /proc/self/uid_map; tail -1 /proc/self/cgroup"
    run = [*words, "run", "--rm", "--network", "none"]
    for options, first, own in (
        ((), FIRST, "0::/"),
        (("--userns", "host", "--cgroupns", "host"), 0, "0::/mdocker-"),
    ):
        done = subprocess.run(
            [*run, *options, made.image, "sh", "-c", script],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        told = done.stdout.split()
        assert int(told[1]) == first
        assert told[3].startswith(own) and (options or told[3] == own)
    done = subprocess.run(
        [*run, "--privileged", made.image, "true"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert "privileged mode is incompatible with user namespaces." in done.stderr


_ON_A_BIND = """
stat -c '%u %g %a' /b/secret /b
for attack in 'cat /b/secret' 'echo x >> /b/readable' 'chmod 777 /b/secret' 'chown 0 /b/secret' \\
  'touch /b/new' 'rm -f /b/readable' 'ln /b/secret /b/open/link' 'mv /b/readable /b/open/moved'
do sh -c "$attack" 2> /dev/null && echo "done: $attack"; done
cat /b/readable
touch /b/open/mine && chmod 4755 /b/open/mine && chown 1000:1000 /b/open/mine
echo all
"""


def test_the_machine_s_files_are_not_root_s(made, tmp_path):
    """A bind is not shifted, as in Docker: files of the machine's root are nobody's inside."""
    (tmp_path / "secret").write_text("s")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "readable").write_text("read\n")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    tmp_path.chmod(0o755)
    binds = {"Binds": [f"{tmp_path}:/b"], "CapAdd": ["DAC_READ_SEARCH", "SYS_ADMIN"]}
    nobody = f"{OVERFLOW} {OVERFLOW}"
    told = shell(made, _ON_A_BIND, HostConfig=binds)
    assert told == [f"{nobody} 600", f"{nobody} 755", "read", "all"]
    assert (tmp_path / "open/mine").stat().st_uid == FIRST + 1000
    assert sorted(os.listdir(tmp_path)) == ["open", "readable", "secret"]
    # The same attacks can succeed: with the machine's own root nearly all of them do.
    told = shell(made, _ON_A_BIND, HostConfig={**binds, "UsernsMode": "host"})
    assert "done: chmod 777 /b/secret" in told and "s" in told[2]


@pytest.mark.usefixtures("programs")
def test_the_image_s_usr_by_another_path_is_the_machine_s(made):
    """/usr of `host` is shown shifted; a bind of the same directory must not be."""
    script = "stat -c %u /usr /b; touch /b/x 2>/dev/null || echo no"
    told = shell(made, script, HostConfig={"Binds": ["/usr:/b"]})
    assert told == ["0", str(OVERFLOW), "no"]
    assert not Path("/usr/x").exists()


def test_a_volume_serves_all(made):
    """On disk ids are those inside, whoever mounts it; nobody else reaches it by its path."""
    volume = {"Binds": ["shared:/v"]}
    script = (
        "stat -c '%u %g' /v; cp $(readlink -f $(which id)) /v/id; chmod 4755 /v/id; touch /v/one; "
        "chown 7:8 /v"
    )
    assert shell(made, script, HostConfig=volume) == ["0 0"]
    data = made.root / "volumes/shared/_data"
    assert [(data / name).stat().st_uid for name in ("id", "one", "")] == [0, 0, 7]
    told = shell(made, "stat -c '%u %g' /v /v/*", HostConfig={**volume, "UsernsMode": "host"})
    assert told == ["7 8", "0 0", "0 0"]
    attack = {"args": ["shared/_data/id", "-u"], "cwd": made.root / "volumes", "user": OVERFLOW}
    with pytest.raises(PermissionError):
        subprocess.run(**attack, check=True)
    (made.root / "volumes/shared").chmod(0o711)  # what there was to be afraid of
    if made.image == "host":  # busybox lets go of it by itself
        assert subprocess.run(**attack, check=True, capture_output=True).stdout == b"0\n"


def test_an_empty_volume_is_filled_with_the_image_s_owners(made):
    script = "stat -c '%u %n' /etc/passwd; echo more >> /etc/passwd; tail -1 /etc/passwd"
    told = shell(made, script, HostConfig={"Binds": ["filled:/etc"]})
    assert told == ["0 /etc/passwd", "more"]
    assert (made.root / "volumes/filled/_data/passwd").stat().st_uid == 0


_CAPABLE = """
hostname inside && hostname
mkdir /m && mount -t tmpfs none /m && touch /m/x && echo mounted
perl -MIO::Socket::INET -e 'IO::Socket::INET->new(LocalPort => 80, Listen => 1) and print "80\n"'
"""
_LOCKED = (
    "umount /proc/sys",
    "mount -o remount,bind,rw /proc/sys",
    "umount /proc/timer_list",
    "mount -o remount,bind,rw /ro",
    "umount /dev/null",
    "mount -t proc proc /m",
)
_UNLOCKED = (_LOCKED[0], *_LOCKED[2:4], _LOCKED[5])
_MACHINE_S = (
    "date -s @$(date +%s)",
    "echo h > /proc/sysrq-trigger",
    "mknod /tmp/disk b 8 0",
    "ulimit -Hn $(($(ulimit -Hn) + 1))",
    "echo -999 > /proc/self/oom_score_adj",
    "renice -n -5 $$",
)


def attacks(commands):
    """A script that tells which of them succeed."""
    return "".join(f"( {one} ) > /dev/null 2>&1 && echo 'done: {one}'\n" for one in commands)


@pytest.mark.usefixtures("programs")
def test_capabilities_are_worth_nothing_outside(made, tmp_path):
    """All of them, and no system call filter: only what is the container's own yields to them."""
    host = {
        "CapAdd": ["ALL"],
        "SecurityOpt": ["seccomp=unconfined"],
        "Binds": [f"{tmp_path}:/ro:ro"],
    }
    script = _CAPABLE + attacks(_LOCKED + _MACHINE_S) + "echo all"
    told = shell(made, script, HostConfig=host)
    assert told == ["inside", "mounted", "80", "all"]
    # The mounts are protected by their locks: with the machine's own root the attacks succeed.
    told = shell(
        made,
        "mkdir /m\n" + attacks(_LOCKED) + "true",
        HostConfig=host | {"UsernsMode": "host", "CapAdd": ["SYS_ADMIN"]},
    )
    assert {f"done: {one}" for one in _UNLOCKED} <= set(told)


_ENTERING = """
import os, sys
from runtime import flags
from runtime.kernel import DOOR
user, *others = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
DOOR.setns(user, flags.CLONE_NEWUSER)
for fd, path in zip(others, sys.argv[2:]):
    try:
        DOOR.setns(fd, 0)
        print("done:", path)
    except PermissionError:
        pass
"""


@pytest.mark.usefixtures("programs")
def test_a_file_handle_opens_nothing_of_the_machine_s(made):
    """Shocker's way to the root of the disk that /etc/hosts and a volume are on."""
    if (made.root.stat().st_dev, 2) != (os.stat("/").st_dev, os.stat("/").st_ino):
        pytest.skip("needs the tests' directory on the root's file system, an ext4")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("needs /usr/bin/python3")
    host = {
        "CapAdd": ["DAC_READ_SEARCH", "SYS_ADMIN"],
        "SecurityOpt": ["seccomp=unconfined"],
        "Binds": ["disk:/v"],
    }

    def shocked(**more):
        script = 'for on in /etc/hosts /v; do /usr/bin/python3 -c "$0" $on; done'
        return made.result("sh", "-c", script, _SHOCKER, HostConfig=host | more)[1].splitlines()

    assert shocked() == ["Operation not permitted"] * 2
    assert shocked(UsernsMode="host") == [str(sorted(os.listdir("/")))] * 2


def test_two_containers_have_no_power_over_one_another(made):
    """Their ids are the same, as in Docker; their user namespaces are not."""
    one, other = (pid_of(made, made.run(*FOREVER)) for _ in range(2))

    def may_enter(kinds, whose):
        paths = [f"/proc/{whose}/ns/{kind}" for kind in kinds]
        command = [sys.executable, "-c", _ENTERING, f"/proc/{one}/ns/user", *paths]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
        return done.stdout.splitlines() == [f"done: {path}" for path in paths], done.stdout

    kinds = ("uts", "ipc", "net", "cgroup", "mnt")
    assert may_enter(kinds, one)[0]
    assert may_enter(kinds, other) == (False, "")
    assert may_enter(("pid",), one) == (False, "")  # made by the machine's root


@pytest.mark.usefixtures("programs")
def test_nobody_beyond_the_map(made):
    answer = made.post(f"/containers/{made.create('true', User='70000')}/start")
    assert answer.status == 400
    assert "uid 70000 is not in its user namespace, whose uids are" in answer.message
    script = attacks(
        [
            f"setpriv --reuid {COUNT - 1} --clear-groups true",
            f"setpriv --reuid {COUNT} true",
            f"chown {COUNT} /tmp",
            f"setpriv --regid {COUNT} true",
        ]
    )
    assert shell(made, script + "true") == [
        f"done: setpriv --reuid {COUNT - 1} --clear-groups true"
    ]


_OWN_FILES = """
stat -c '%u %g' / /etc /usr /dev /dev/shm /etc/hosts /proc/1 /t
echo 1.2.3.4 bird >> /etc/hosts && grep -c bird /etc/hosts
echo out > /dev/stdout; echo err > /dev/stderr
head -c 3 /dev/urandom | wc -c; echo x > /dev/null
cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; setpriv --reuid 5 --clear-groups /tmp/id -u
"""


@pytest.mark.usefixtures("programs")
def test_its_own_files_are_its_root_s(made):
    tmpfs = {"Tmpfs": {"/t": "uid=5,gid=6"}}
    code, out, err = made.result("sh", "-c", _OWN_FILES, HostConfig=tmpfs)
    assert (code, err) == (0, "err\n")
    assert out.splitlines() == [*["0 0"] * 7, "5 6", "1", "out", "3", "0"]
    sysctls = {"net.ipv4.ip_forward": "1", "kernel.shmmax": "12345"}
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax"
    assert shell(made, script, HostConfig={"Sysctls": sysctls}) == ["1", "12345"]
    streams = "echo out > /dev/stdout; echo err > /dev/stderr"
    assert made.result("sh", "-c", streams, User="1000") == (0, "out\n", "err\n")
    answer = made.post(
        f"/containers/{made.create('true', HostConfig={'Tmpfs': {'/t': 'uid=70000'}})}/start"
    )
    assert "uid=70000 of a tmpfs is not in its user namespace's map" in answer.message


def test_a_terminal(made):
    script = 'tty; stat -c "%u %g" $(tty) /dev/pts/ptmx; echo there > /dev/tty; cat < /dev/null'
    container = made.run("sh", "-c", script + "; sleep 1000000", Tty=True, User="1000")
    lines = []
    with made.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as log:
        while len(lines) < 4:
            lines.append(log.readline().decode().strip())
    assert lines == ["/dev/pts/0", "1000 5", "0 0", "there"]
    told = entered(made, container, "tty; stat -c %u $(tty)", Tty=True)[1]
    assert told.split() == ["/dev/pts/1", "1000"]


def archive(owner, name="put"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.uid = member.gid = owner
        tar.addfile(member)
    return packed.getvalue()


def owners(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name.lstrip("./"): (member.uid, member.gid) for member in tar}


def test_copies_commits_and_exports_have_the_ids_inside(made):
    script = "mkdir /d; touch /d/seven; chown 7:8 /d/seven; exec sleep 1000000"
    container = made.run("sh", "-c", script)
    entered(made, container, "until [ $(stat -c %u /d/seven) = 7 ]; do :; done")
    found = made.get(f"/containers/{container}/archive?path=/d").body
    assert owners(found) == {"d": (0, 0), "d/seven": (7, 8)}
    assert made.request("PUT", f"/containers/{container}/archive?path=/d", archive(9)).status == 200
    assert entered(made, container, "stat -c '%u %g' /d/put")[1] == "9 9\n"
    assert owners(made.get(f"/containers/{container}/export").body)["d/seven"] == (7, 8)
    changes = {one["Path"] for one in made.get(f"/containers/{container}/changes").json}
    assert changes >= {"/d", "/d/seven", "/d/put"}
    image = made.post(f"/commit?container={container}&repo=owned").json["Id"]
    made.post(f"/containers/{container}/kill")
    made.wait(container)
    assert owners(made.get(f"/containers/{container}/archive?path=/d/put").body) == {"put": (9, 9)}
    assert made.request("PUT", f"/containers/{container}/archive?path=/d", archive(3)).status == 200
    assert made.post(f"/containers/{container}/start").status == 204
    assert entered(made, container, "stat -c '%u %g' /d/put")[1] == "3 3\n"
    for mode in ("host", ""):
        told = shell(made, "stat -c '%u %g' /d/seven", image=image, HostConfig={"UsernsMode": mode})
        assert told == ["7 8"], mode


def test_who_shares_a_namespace_shares_the_user_namespace(made):
    donor = made.run(*FOREVER, HostConfig={"IpcMode": "shareable"})
    names = dict.fromkeys(("NetworkMode", "IpcMode", "PidMode"), f"container:{donor}")
    script = "touch /dev/shm/mine; kill -0 1 && exec sleep 1000000"
    joined = made.run("sh", "-c", script, HostConfig=names)
    for kind in ("user", "net", "ipc", "pid"):
        assert namespace(pid_of(made, donor), kind) == namespace(pid_of(made, joined), kind)
    assert outside(pid_of(made, joined)) == (FIRST, FIRST)
    assert entered(made, joined, "ls /dev/shm") == (0, "mine\n")
    assert entered(made, donor, "stat -c %u /dev/shm/mine") == (0, "0\n")
    mine = made.run(*FOREVER, HostConfig={"UsernsMode": "host", "IpcMode": "shareable"})
    for option, value in names.items():
        for whose, mode in ((donor, "host"), (mine, "")):
            host = {option: value.replace(donor, whose), "UsernsMode": mode}
            answer = made.post(f"/containers/{made.create('true', HostConfig=host)}/start")
            assert answer.status == 400
            assert "only containers of one user namespace can share others" in answer.message


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"Privileged": True}, "privileged mode is incompatible with user namespaces."),
        ({"NetworkMode": "host"}, "cannot share the host's network namespace when user namespaces"),
        ({"PidMode": "host"}, "cannot share the host PID namespace when user namespaces"),
        ({"Binds": ["/tmp:/t:rshared"]}, "no mount made in a user namespace reaches the machine"),
    ],
)
def test_what_docker_refuses_is_refused(engine, asked, words):
    body = {"Image": engine.image, "Cmd": ["true"], "HostConfig": asked}
    answer = engine.post("/containers/create", body)
    assert answer.status == 400
    assert words in answer.message


def test_the_next_engine_goes_on_with_it(made):
    """Killed, and started without the option: what runs keeps its map, also for execs and cp."""
    container = made.run("sh", "-c", "touch /mine; chown 7 /mine; exec sleep 1000000")
    entered(made, container, "until [ $(stat -c %u /mine) = 7 ]; do :; done")
    first = namespace(pid_of(made, container), "user")
    # What the machine's root may lack, the root inside has.
    strong = made.run(*FOREVER, HostConfig={"CapAdd": ["SYS_RESOURCE"]})
    options, made.options = made.options, ()
    made.kill()
    try:
        made.start()
        assert namespace(pid_of(made, container), "user") == first
        assert entered(made, container, "id -u; stat -c %u /mine") == (0, "0\n7\n")
        assert entered(made, strong, "id -u") == (0, "0\n")
        assert owners(made.get(f"/containers/{container}/archive?path=/mine").body) == {
            "mine": (7, 0)
        }
        # Its next run is as this engine has it: the layer's ids fit both.
        assert made.post(f"/containers/{container}/restart?t=0").status == 204
        assert outside(pid_of(made, container)) == (0, 0)
        assert entered(made, container, "stat -c %u /mine") == (0, "7\n")
        private = made.run(*FOREVER, HostConfig={"UsernsMode": "private"})
        assert outside(pid_of(made, private)) == (FIRST, FIRST)
    finally:
        made.options = options
        made.terminate()
        made.start()


def test_an_engine_without_ids_does_not_start(tmp_path):
    engine = RemappedEngine(tmp_path)
    engine.subuid.write_text("")
    with pytest.raises(RuntimeError, match="has no uids for dockremap: add a line for it"):
        engine.start()
