"""What a payload inherits: no right, descriptor or word that is the engine's or another's."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from runtime import shim_launch
from tests.real.engine_process import EngineProcess, descriptors_of
from tests.real.escapes.payloads import begun
from tests.real.exec_client import created
from tests.real.exec_driver import entered

CAPS = "grep -E 'Cap(Inh|Prm|Eff|Amb)' /proc/self/status | tr -d '\\n\\t'"
NONE = "0" * 16


def sets(text):
    """Capability sets by name, as numbers of 16 digits."""
    return dict(re.findall(r"Cap(\w+):([0-9a-f]{16})", text))


def test_cve_2022_24769_and_29162_nothing_is_inheritable(driver, runc):
    """A file with inheritable capabilities would give them to whoever executes it."""
    config = runc.config("sh", "-c", CAPS)
    capabilities = config["process"]["capabilities"]
    capabilities["inheritable"] = capabilities["bounding"]  # as dockerd did until 20.10.14
    assert sets(runc.run(config)[1])["Inh"] != NONE
    for user in ("", "bird"):
        assert sets(driver.run(CAPS, user=user))["Inh"] == NONE
        started = driver.start("sleep", "1000", user=user)
        assert started.failure() is None
        with entered(driver, started, "sh", "-c", CAPS, user=user) as one:
            assert sets(one.output())["Inh"] == NONE
            one.status()


def test_cve_2016_8867_a_user_has_no_capability_in_effect(driver, runc):
    """Docker 1.12.2 gave every user ambient ones: it could read root's files."""
    config = runc.config("sh", "-c", CAPS)
    config["process"]["user"] = {"uid": 1234, "gid": 5678}
    capabilities = config["process"]["capabilities"]
    capabilities["ambient"] = capabilities["inheritable"] = capabilities["bounding"]
    assert sets(runc.run(config)[1])["Eff"] != NONE
    nothing = dict.fromkeys(("Inh", "Prm", "Eff", "Amb"), NONE)
    assert sets(driver.run(CAPS, user="bird")) == nothing
    assert driver.run("! cat /etc/shadow-like 2>&1 && echo closed; ls /closed 2>&1 || true",
                      user="bird").count("denied") == 1  # fmt: skip
    started = driver.start("sleep", "1000")
    assert started.failure() is None
    with entered(driver, started, "sh", "-c", CAPS, user="bird") as one:
        assert sets(one.output()) == nothing
        one.status()


LOOK = (
    "echo environment; cat /proc/self/environ | tr '\\0' '\\n'; echo descriptors; "
    "for fd in /proc/self/fd/*; do readlink $fd; done; echo maps; "
    "sed 's/.* //' /proc/self/maps | sort -u | grep ^/; cat /proc/self/cgroup /proc/self/mountinfo"
)


@pytest.fixture(scope="module")
def secretive(tmp_path_factory):
    """An engine with a secret in its environment, in its arguments' place, and in its memory."""
    os.environ["MDOCKER_TEST_SECRET"] = "engine-secret"
    try:
        engine = EngineProcess(tmp_path_factory.mktemp("quiet")).start()
    finally:
        del os.environ["MDOCKER_TEST_SECRET"]
    yield engine
    engine.close()


def test_leaked_environment_and_descriptors(secretive):
    """By each way into a container; the secret is there, one process further up."""
    engine = secretive
    assert b"engine-secret" in Path(f"/proc/{engine.process.pid}/environ").read_bytes()
    # A neighbour's secret goes through the same shim before.
    engine.result("true", Env=["NEIGHBOUR=neighbour-secret"], Labels={"x": "label-secret"})
    said = [engine.result("sh", "-c", LOOK)[1]]
    tty = engine.create("sh", "-c", LOOK, Tty=True)
    engine.post(f"/containers/{tty}/start")
    engine.wait(tty)
    said.append(engine.get(f"/containers/{tty}/logs?stdout=1").body.decode())
    if os.path.exists("/usr/bin/tini-static"):
        said.append(engine.result("sh", "-c", LOOK, HostConfig={"Init": True})[1])
    health = {"Test": ["CMD-SHELL", LOOK], "Interval": 20_000_000}
    container = begun(engine, "echo up; sleep 1000", Healthcheck=health)
    for body in ({}, {"User": "nobody"}, {"Privileged": True}):
        said.append(ran(engine, container, "sh", "-c", LOOK, **body))
    while not (log := engine.inspect(container)["State"]["Health"]["Log"]):
        assert engine.get("/_ping").status == 200
    said.append(log[0]["Output"])
    for text in said:
        text = text.replace("\r", "")
        assert "descriptors" in text
        assert "secret" not in text
        descriptors = text.partition("descriptors\n")[2].partition("maps\n")[0].split("\n")
        for target in filter(None, descriptors):
            assert re.fullmatch(r"/dev/(null|pts/\d+)|pipe:\[\d+\]|/proc/\d+/fd", target), text
        mapped = text.partition("maps\n")[2]
        assert not re.search(r"^/.*(python|mdocker)", mapped.partition("0::")[0], re.M), text
        assert str(engine.run_dir) not in text
    engine.delete(f"/containers/{container}?force=1")
    engine.delete(f"/containers/{tty}")


def ran(engine, container, *command, **body):
    """What an exec prints."""
    exec_id = created(engine, container, *command, **body)
    answer = engine.post(f"/exec/{exec_id}/start", {"Detach": False})
    return re.sub(rb"[\x01\x02]\0\0\0....", b"", answer.body, flags=re.S).decode()


def test_the_spec_is_sealed_and_gone(secretive):
    """Nobody changes what the shim reads; once a container runs nobody has it open."""
    from runtime import kernel

    fd = kernel.memfd_sealed("spec", b"{}")
    try:
        for change in (
            lambda: os.write(fd, b"x"),
            lambda: os.ftruncate(fd, 0),
            lambda: os.ftruncate(fd, 100),
            lambda: fcntl.fcntl(fd, 1033, 0x10),  # F_ADD_SEALS
        ):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(fd)
    container = begun(secretive, "echo up; sleep 1000")
    pid = secretive.inspect(container)["State"]["Pid"]
    for one in (secretive.process.pid, secretive.shim_pid, pid):
        assert [name for name in descriptors_of(one) if "memfd" in name] == []
    assert "memfd" not in Path(f"/proc/{pid}/maps").read_text()
    secretive.delete(f"/containers/{container}?force=1")


def as_nobody(program):
    """What a program prints as a user of the machine without rights."""
    nobody = {"user": 65534, "group": 65534, "extra_groups": ()}
    command = ["/usr/bin/python3", "-c", program]
    return subprocess.run(command, **nobody, cwd="/", capture_output=True, text=True, check=False)


def test_the_shim_s_socket_is_root_s(secretive):
    """Whoever may connect owns all containers: by its mode nobody else may, by its file no mount
    of a container's shows it, and no descriptor of it is inherited."""
    engine = secretive
    path = engine.run_dir / "shim.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (engine.run_dir.stat().st_mode & 0o022, path.stat().st_uid) == (0, 0)
    program = (
        "import socket\n"
        f"for kind, path in ((socket.SOCK_SEQPACKET, {str(path)!r}), "
        f"(socket.SOCK_STREAM, {str(engine.socket)!r})):\n"
        "    try:\n"
        "        socket.socket(socket.AF_UNIX, kind).connect(path); print('connected')\n"
        "    except OSError as error:\n"
        "        print(error.strerror)\n"
    )
    above = [one for one in engine.run_dir.parents if one != one.parent]
    modes = [(one, one.stat().st_mode & 0o7777) for one in above]
    with contextlib.ExitStack() as stack:
        for one, mode in modes:
            stack.callback(one.chmod, mode)
            one.chmod(mode | 0o055)
        said = as_nobody(program)
        assert said.stdout.split("\n")[:2] == ["Permission denied"] * 2, said.stderr
    # Root is answered, by a shim of its own: the question is the right one.
    shim_launch.try_out()


def test_cve_2020_15257_no_socket_of_ours_is_abstract(secretive):
    """A container in the machine's network reaches every abstract socket of the machine's."""
    name = f"\0mdocker-escapes-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(name)
        listening.listen()
        host = {"HostConfig": {"NetworkMode": "host"}}
        _, out, _ = secretive.result("cat", "/proc/net/unix", **host)
        assert f"@mdocker-escapes-{os.getpid()}" in out
        _, private, _ = secretive.result("cat", "/proc/net/unix")
        assert f"@mdocker-escapes-{os.getpid()}" not in private
    ours = {
        number
        for pid in (secretive.process.pid, secretive.shim_pid)
        for link in descriptors_of(pid)
        if (number := link.removeprefix("socket:[").removesuffix("]")).isdigit()
    }
    lines = [line.split() for line in out.splitlines()[1:]]
    named = {words[7] for words in lines if len(words) > 7 and words[6] in ours}
    assert named and not any(path.startswith("@") for path in named), named


def test_the_engine_s_socket_from_inside(secretive):
    """It is nowhere in a container; given to one, it is the engine, read-only mount or not."""
    program = """
import os, socket
for top in ("/dev", "/etc", "/given", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var"):
    for place, _, names in os.walk(top):
        for path in (os.path.join(place, name) for name in names):
            try:
                socket.socket(socket.AF_UNIX).connect(path)
                print("connected", path)
            except OSError:
                pass
"""
    if not os.path.exists("/usr/bin/python3"):
        pytest.skip("needs /usr/bin/python3 in the image host")
    command = ("python3", "-c", program)
    assert secretive.result(*command)[1] == ""
    given = {"HostConfig": {"Binds": [f"{secretive.socket}:/given/engine.sock:ro"]}}
    assert secretive.result(*command, **given)[1] == "connected /given/engine.sock\n"
    # A payload that is not the socket's group is told no, wherever it is mounted.
    assert secretive.result(*command, User="65534:65534", **given)[1] == ""


def test_terminals_and_pipes_of_others_are_not_found_in_proc(secretive):
    """/proc of a container has its own processes alone, and of these root's are closed to users."""
    container = begun(secretive, "echo up; sleep 1000")
    script = "ls -d /proc/[0-9]* | wc -l; ls /proc/1/fd /proc/1/root 2>&1; cat /proc/1/environ 2>&1"
    said = ran(secretive, container, "sh", "-c", script, User="65534")
    assert int(said.split()[0]) <= 6
    assert said.count("Permission denied") >= 3
    secretive.delete(f"/containers/{container}?force=1")
