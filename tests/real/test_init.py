"""`--init`: a real init of this machine's as PID 1."""

import contextlib
import errno
import os

import pytest

from supervisor import init_program
from tests import an_init

WITH = {"HostConfig": {"Init": True}}


pytestmark = an_init.needed


@contextlib.contextmanager
def running(engine):
    """One whose payload runs: a signal that comes before its init listens is lost, as in Docker."""
    container = engine.run("sh", "-c", "echo up; exec sleep 1000", **WITH)
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11).endswith(b"up\n")
    yield container, engine.inspect(container)["State"]["Pid"]
    assert engine.delete(f"/containers/{container}?force=1").status == 204


# A memory limit takes the Python init.
@pytest.mark.parametrize("limits", [{}, {"Memory": 1 << 26}], ids=["fast", "python"])
@pytest.mark.parametrize("user", ["", "1234:1234"])
def test_it_is_the_first_process(engine, limits, user):
    host = {"Init": True, "ReadonlyRootfs": True, **limits}
    script = "tr '\\0' ' ' </proc/1/cmdline; echo; ps -eo pid,args; ls /proc/self/fd; id -u"
    code, out, err = engine.result("sh", "-c", script, User=user, HostConfig=host)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("/sbin/docker-init -- sh -c tr ")
    assert lines[2].split()[:2] == ["1", "/sbin/docker-init"]
    assert lines[3].split()[1:3] == ["sh", "-c"]
    assert lines[-5:] == ["0", "1", "2", "3", user[:4] or "0"]


def test_it_is_shown_as_asked(engine):
    for asked in (True, False, None):
        container = engine.create("true", HostConfig={"Init": asked})
        shown = engine.inspect(container)
        assert shown["HostConfig"].get("Init") == asked
        assert (shown["Path"], shown["Args"]) == ("true", [])
        assert engine.delete(f"/containers/{container}").status == 204
    assert engine.get("/info").json["InitBinary"] == os.path.basename(init_program.find())


def test_zombies_are_reaped(engine):
    code, out, _ = engine.result(
        *("sh", "-c"),
        # The orphan ends, and its number is free again: nobody but PID 1 can have reaped it.
        "orphan=$(setsid sh -c 'sleep 0 & echo $!'); while [ -e /proc/$orphan ]; do sleep 0; done;"
        "echo reaped",
        **WITH,
    )
    assert (code, out) == (0, "reaped\n")


@pytest.mark.parametrize(("number", "code"), [("TERM", 143), ("INT", 130), ("USR1", 138)])
def test_signals_are_passed_on(engine, number, code):
    """As PID 1 the payload itself would not even notice them."""
    with running(engine) as (container, _):
        assert engine.post(f"/containers/{container}/kill?signal={number}").status == 204
        assert engine.wait(container) == code


def test_a_stop_takes_no_time_to_kill(engine):
    with running(engine) as (container, _):
        assert engine.post(f"/containers/{container}/stop?t=60").status == 204
        assert engine.wait(container) == 143


def test_the_payload_s_exit_code_is_told(engine):
    assert engine.result("sh", "-c", "exit 7", **WITH)[0] == 7
    code, _, err = engine.result("nosuch", **WITH)
    assert code == 127
    assert "nosuch" in err


def test_commands_beside_it(engine):
    with running(engine) as (container, _):
        process = engine.spawn("exec", container, "cat", "/proc/1/comm")
        out, err = process.communicate(timeout=30)
        assert (out.strip(), err) == (os.path.basename(init_program.find())[:15], "")


def test_a_terminal(engine):
    container = engine.run("sh", "-c", "test -t 0 && test -t 1 && tty", Tty=True, **WITH)
    assert engine.wait(container) == 0
    assert engine.get(f"/containers/{container}/logs?stdout=1").body == b"/dev/pts/0\r\n"
    assert engine.delete(f"/containers/{container}").status == 204


def test_its_file_can_t_be_written_to(engine):
    """Not even by who has kept it open until nobody executes it any more (CVE-2019-5736)."""
    with running(engine) as (_, pid):
        kept = os.open(f"/proc/{pid}/exe", os.O_PATH)
        assert os.path.samestat(os.fstat(kept), os.stat(init_program.find()))
    try:
        refused = errno.ETXTBSY
        while refused == errno.ETXTBSY:  # another test's container executes it
            assert engine.answers()
            with pytest.raises(OSError, match=r"Read-only|busy") as told:
                os.open(f"/proc/self/fd/{kept}", os.O_WRONLY)
            refused = told.value.errno
        assert refused == errno.EROFS
    finally:
        os.close(kept)
    assert os.access(init_program.find(), os.W_OK)


def test_elsewhere_it_is_not_run(engine):
    answer = engine.post(
        "/containers/create",
        {"Image": "host", "Cmd": ["true"], "HostConfig": {"Init": True, "PidMode": "host"}},
    )
    assert answer.json["Warnings"] == [
        "networks are not supported yet: this container has only a loopback interface "
        "(--network none)",
        "an init is run in a PID namespace of its own only: --init changes nothing",
    ]
    assert engine.delete(f"/containers/{answer.json['Id']}").status == 204


def test_the_command_line(engine):
    process = engine.spawn("run", "--rm", "--init", "host", "sh", "-c", "readlink /proc/1/exe")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert os.path.basename(init_program.find()) in out
