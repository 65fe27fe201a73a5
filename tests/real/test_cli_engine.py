"""The command line against a real engine and real containers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.real.conftest import our_cgroups
from tests.real.engine_process import CHECKOUT, EngineProcess

PRINTS = "trap 'exit 0' TERM; echo started; while :; do sleep 60 & wait; done"


@pytest.fixture
def mdocker(engine):
    """Run a command line against this module's engine; containers are removed at the end."""

    def run(*words, **options):
        return subprocess.run(
            [sys.executable, "-m", "mdocker", *words],
            cwd=CHECKOUT,
            env=engine.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            **options,
        )

    yield run
    run("rm", "-f", "--all")


@pytest.fixture
def spawn(engine):
    """Start command lines that go on while the test does."""
    with engine.spawning() as start:
        yield start


def test_the_main_job(mdocker):
    run = mdocker("run", "-d", "--name", "bird", "host", "sh", "-c", PRINTS)
    assert (run.returncode, run.stderr) == (0, "")
    identifier = run.stdout.strip()
    assert len(identifier) == 64
    assert mdocker("ps", "-q", "--no-trunc").stdout.strip() == identifier
    line = mdocker("ps", "--format", "{{.Names}} {{.Image}} {{.State}} {{.Networks}}").stdout
    assert line == "bird host running none\n"
    about = json.loads(mdocker("inspect", "bird").stdout)[0]
    assert about["Id"] == identifier
    assert about["State"]["Running"] is True
    assert mdocker("stop", "-t", "5", "bird").stdout == "bird\n"
    assert mdocker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "bird").stdout == (
        "exited 0\n"
    )
    assert mdocker("logs", "bird").stdout == "started\n"
    assert mdocker("wait", "bird").stdout == "0\n"
    assert mdocker("rename", "bird", "big-bird").returncode == 0
    assert mdocker("start", "big-bird").stdout == "big-bird\n"
    assert mdocker("kill", "-s", "KILL", "big-bird").returncode == 0
    assert mdocker("wait", "big-bird").stdout == "137\n"
    assert mdocker("restart", "-t", "1", "big-bird").returncode == 0
    refused = mdocker("rm", "big-bird")
    assert refused.returncode == 1
    assert "container is running" in refused.stderr
    assert mdocker("rm", "-f", "big-bird").stdout == "big-bird\n"
    assert mdocker("ps", "-aq").stdout == ""


def test_foreground(mdocker):
    done = mdocker("run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert mdocker("ps", "-aq").stdout == ""


def test_everything_behind_the_image_is_the_payloads(mdocker):
    done = mdocker("run", "--rm", "host", "echo", "-d", "--name", "x", "--", "-1", "--help")
    assert done.stdout == "-d --name x -- -1 --help\n"


def test_a_great_output_is_whole(mdocker):
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    expected = "".join(f"line {number}\n" for number in range(20_000))
    assert mdocker("run", "--name", "much", "host", "sh", "-c", script).stdout == expected
    assert mdocker("logs", "much").stdout == expected
    assert mdocker("logs", "-n", "2", "much").stdout == "line 19998\nline 19999\n"


def test_options_reach_the_container(mdocker):
    done = mdocker(
        *("run", "--rm", "-eA=B", "-w", "/tmp", "-u", "65534:1", "--hostname", "box"),
        *("--entrypoint", "sh", "-m", "64m", "host"),
        *("-c", 'echo "$A $(pwd) $(id -u):$(id -g) $(cat /proc/sys/kernel/hostname)"'),
    )
    assert (done.stdout, done.stderr) == ("B /tmp 65534:1 box\n", "")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--pull", "never", "nosuch"], 125, "No such image: nosuch:latest"),
        (["host", "nosuchcmd"], 127, "executable file not found"),
        (["host", "/etc"], 126, "/etc"),
        (["host", "/etc/passwd"], 126, "permission denied"),
        (["-w", "/nope", "host", "true"], 127, "/nope"),
        (["-u", "bob", "host", "true"], 125, "bob"),
        (["-m", "1m", "host", "true"], 125, "Minimum memory limit"),
        (["--name", "a b", "host", "true"], 125, "Invalid container name (a b)"),
        (["--net", "bridge", "host", "true"], 125, "bridge"),
        (["--log-driver", "fluentd", "host", "true"], 125, "fluentd"),
        (["--stop-signal", "FOO", "host", "true"], 125, "FOO"),
    ],
)
@pytest.mark.parametrize("detach", [True, False], ids=["detached", "foreground"])
def test_bad_input(mdocker, words, code, text, detach):
    done = mdocker("run", "--rm", *(["-d"] if detach else []), *words)
    assert done.returncode == code, done
    assert text in done.stderr
    assert done.stderr.startswith("mdocker: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert mdocker("ps", "-aq").stdout == ""


def test_name_in_use(mdocker):
    mdocker("create", "--name", "one", "host", "true")
    again = mdocker("create", "--name", "one", "host", "true")
    assert again.returncode == 125
    assert 'The container name "/one" is already in use' in again.stderr


def test_ctrl_c_reaches_the_container(mdocker, spawn):
    script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 60 & wait; done"
    process = spawn("run", "--rm", "host", "sh", "-c", script)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (9, "caught\n", "")


def test_the_reader_leaves(mdocker, spawn):
    process = spawn("run", "--name", "talker", "host", "sh", "-c", "while echo x; do sleep 1; done")
    assert process.stdout.readline() == "x\n"
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == ""
    assert mdocker("ps", "--format", "{{.Names}}").stdout == "talker\n"


def test_follow_and_merge(mdocker, spawn):
    for name, delay in (("aa", "0.1"), ("bb", "0.15")):
        script = f"for i in 1 2 3 4 5; do echo {name}$i; sleep {delay}; done; echo done >&2"
        mdocker("run", "-d", "--name", name, "host", "sh", "-c", script)
    process = spawn("logs", "-ft", "aa", "bb")
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert [line[3] for line in lines if line[0] == "aa"] == [f"aa{i}" for i in range(1, 6)]
    assert [line[3] for line in lines if line[0] == "bb"] == [f"bb{i}" for i in range(1, 6)]
    assert sorted(line.split()[3] for line in err.splitlines()) == ["done", "done"]
    merged = mdocker("logs", "-t", "bb", "aa").stdout.splitlines()
    moments = [line.split()[2] for line in merged]
    assert moments == sorted(moments)
    assert len(merged) == 10


def test_logs_until_and_since(mdocker):
    mdocker("run", "--name", "clock", "host", "sh", "-c", "echo one; sleep 1; echo two")
    lines = mdocker("logs", "-t", "clock").stdout.splitlines()
    second = lines[1].split()[0]
    assert mdocker("logs", "--since", second, "clock").stdout == "two\n"
    assert mdocker("logs", "--until", lines[0].split()[0], "clock").stdout == "one\n"
    assert mdocker("logs", "--since", "1h", "clock").stdout == "one\ntwo\n"


def test_replicas_and_all(mdocker):
    run = mdocker("run", "-d", "--name", "r", "--replicas", "30", "host", "sh", "-c", PRINTS)
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.split()) == 30
    names = mdocker("ps", "--format", "{{.Names}}").stdout.split()
    assert sorted(names) == sorted(f"r-{number}" for number in range(1, 31))
    again = mdocker("run", "-d", "--name", "r", "--replicas", "31", "host", "sh", "-c", PRINTS)
    assert again.returncode == 125
    assert again.stderr.count("already in use") == 30
    assert again.stderr.endswith("1 of 31 run\n")
    assert len(mdocker("stop", "--all").stdout.split()) == 31
    assert mdocker("ps", "-q").stdout == ""
    assert len(mdocker("rm", "--all").stdout.split()) == 31


def test_many_deaf_ones_stop_together(mdocker):
    deaf = "trap '' TERM; echo ready; while :; do sleep 60; done"
    mdocker("run", "-d", "--name", "deaf", "--replicas", "20", "host", "sh", "-c", deaf)
    began = time.monotonic()
    stop = mdocker("stop", "-t", "1", "--all")
    took = time.monotonic() - began
    assert len(stop.stdout.split()) == 20
    # One after the other they would take twenty seconds.
    assert 1 <= took < 10
    codes = mdocker("inspect", "-f", "{{.State.ExitCode}}", *stop.stdout.split()).stdout.split()
    assert codes == ["137"] * 20


def test_events(mdocker, spawn):
    since = str(time.time())
    # What has happened before the client was there comes from the engine's memory.
    process = spawn(
        "events", "--since", since, "--format", "{{.Action}} {{.Actor.Attributes.name}}"
    )
    seen = []
    heard = threading.Event()

    def read():
        for line in process.stdout:
            seen.append(line.strip())
            if "destroy watched" in line:
                heard.set()

    reader = threading.Thread(target=read)
    reader.start()
    mdocker("run", "--rm", "--name", "watched", "host", "true")
    assert heard.wait(20)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    reader.join()
    for action in ("create", "start", "die", "destroy"):
        assert f"{action} watched" in seen
    past = mdocker(
        *("events", "--since", since, "--until", str(time.time())),
        *("-f", "event=die", "--format", "{{.Action}} {{.Actor.Attributes.exitCode}}"),
    )
    assert past.stdout == "die 0\n"


def test_import_and_rmi(mdocker, busybox_tar):
    done = mdocker("import", "-c", 'CMD ["echo", "hello"]', str(busybox_tar), "tiny:1")
    assert done.returncode == 0, done
    assert done.stdout.startswith("sha256:")
    rows = mdocker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert "tiny:1" in rows and "host:latest" in rows
    assert mdocker("run", "--rm", "tiny:1").stdout == "hello\n"
    assert mdocker("inspect", "-f", "{{.Config.Cmd}}", "tiny:1").stdout == "[echo hello]\n"
    assert "Untagged: tiny:1" in mdocker("rmi", "tiny:1").stdout
    refused = mdocker("rmi", "host")
    assert refused.returncode == 1


def test_a_truncated_tar(mdocker, busybox_tar, tmp_path):
    (tmp_path / "half.tar").write_bytes(busybox_tar.read_bytes()[:200_000])
    done = mdocker("import", str(tmp_path / "half.tar"), "half")
    assert done.returncode == 1
    assert done.stderr.startswith("mdocker: ")
    assert done.stderr.count("\n") == 1
    assert "half" not in mdocker("images").stdout


def test_version_and_info(mdocker):
    assert mdocker("version", "-f", "{{.Server.ApiVersion}}").stdout == "1.50\n"
    assert mdocker("info", "-f", "{{.OSType}}").stdout == "linux\n"


def test_started_when_none_listens_and_two_at_once(tmp_path):
    """Several first commands at once: one engine, and every command works."""
    environment = {
        **os.environ,
        "MDOCKER_ROOT": str(tmp_path / "root"),
        "MDOCKER_RUN_DIR": str(tmp_path / "run"),
    }
    environment.pop("MDOCKER_HOST", None)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mdocker", "info", "-f", "{{.ID}}"],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=50) for process in processes]
    pid = int((tmp_path / "run/supervisor.pid").read_text())
    handle = os.pidfd_open(pid)
    shim = os.pidfd_open(int((tmp_path / "run/shim.pid").read_text()))
    try:
        assert [process.returncode for process in processes] == [0] * 4, answers
        assert len({out for out, _ in answers}) == 1
        assert sum("starting one" in err for _, err in answers) == 1
    finally:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        for process in (handle, shim):
            wait_for_end(process)
            os.close(process)


def wait_for_end(handle):
    import select

    poller = select.poll()
    poller.register(handle, select.POLLIN)
    assert poller.poll(20_000), "it did not end"


def test_the_demo(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mdocker.demo", "8"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in ("bird-1 | chirp", "deaf   | I hear nothing", "stopped in", "nothing is left"):
        assert text in done.stdout
    assert not list(Path("/run").glob("mdocker-demo-*"))


@pytest.mark.parametrize("line", ["$ mdocker images", "deaf   |"], ids=["at once", "later"])
def test_the_demo_is_interrupted(tmp_path, line):
    """Ctrl-C, to the whole foreground group as a terminal sends it."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "mdocker.demo", "6"],
        cwd=CHECKOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for said in process.stdout:
        if said.startswith(line):
            break
    (root,) = tmp_path.iterdir()
    EngineProcess.roots.add(root)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=40)
    assert process.returncode == 130
    assert "nothing is left behind" in out
    assert our_cgroups(tmp_path) == set()
    assert list(tmp_path.iterdir()) == []
    assert not list(Path("/run").glob("mdocker-demo-*"))
