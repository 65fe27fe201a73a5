"""The supervisor executes the installed version: the same process, and nobody is refused."""

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.real import engine_process
from tests.real.engine_process import CHECKOUT, EngineProcess, UnixConnection


def executed(pid):
    """Something of a process that changes when it executes a program, and not otherwise."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[23:26]  # startcode, endcode, startstack


def command(engine, *words, **more):
    done = subprocess.run(
        [sys.executable, "-m", "mdocker", "daemon", *words],
        env=engine.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        **more,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_request_is_refused_and_no_container_notices(tmp_path, backend):
    engine = EngineProcess(tmp_path / "engine", backend=backend).start()
    try:
        counter = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i; done; exit 4"
        container = engine.run("sh", "-c", counter)
        pid, before = engine.process.pid, executed(engine.process.pid)
        over, answers, asked = threading.Event(), [], threading.Barrier(4)

        def ask():
            asked.wait()
            while not over.is_set():
                created = engine.post("/containers/create", {"Image": "host", "Cmd": ["true"]})
                answers.append(created.status)
                answers.append(engine.post(f"/containers/{created.json['Id']}/start").status)
                answers.append(engine.delete(f"/containers/{created.json['Id']}?force=1").status)

        def ask_on_a_kept_connection():
            kept = UnixConnection(engine.socket)
            asked.wait()
            while not over.is_set():
                kept.request("GET", "/v1.50/containers/json")  # it connects anew after a "close"
                answer = kept.getresponse()
                answer.read()
                answers.append(answer.status)
            kept.close()

        askers = [threading.Thread(target=one) for one in (ask, ask, ask_on_a_kept_connection)]
        for asker in askers:
            asker.start()
        asked.wait()
        for _ in range(2):
            code, said, complained = command(engine, "--upgrade")
            assert (code, complained) == (0, "")
            assert f"process {pid}" in said
        over.set()
        for asker in askers:
            asker.join(30)  # one that was refused has died of it, and pytest says so
        assert set(answers) == {200, 201, 204}
        assert len(answers) > 6
        assert engine.wait(container) == 4
        expected = b"".join(b"line %d\n" % n for n in range(1, 30001))
        assert engine.output(container)[0] == expected
        assert engine.process.poll() is None
        assert executed(pid) != before
        assert engine.descriptors()[0] < 60
    finally:
        engine.close()


def test_sighup_upgrades_too_and_the_orphans_of_a_shim_still_come_to_it(fresh_engine):
    engine = fresh_engine
    gate = "until [ -e /tmp/go ]; do sleep 0.02; done; exit 9"
    container = engine.run("sh", "-c", gate)
    pid = engine.inspect(container)["State"]["Pid"]
    before = executed(engine.process.pid)
    engine.process.send_signal(signal.SIGHUP)
    # The stream is cut when the new version takes over.
    with engine.stream("GET", "/events") as told, pytest.raises(http.client.IncompleteRead):
        while True:
            told.read1(1024)
    assert engine.inspect(container)["State"]["Running"]
    assert executed(engine.process.pid) != before
    os.kill(engine.shim_pid, signal.SIGKILL)
    open(f"/proc/{pid}/root/tmp/go", "w").close()
    assert engine.wait(container) == 9


def test_a_kept_connection_is_closed_after_its_answer_and_not_before(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(14)
    kept = UnixConnection(engine.socket)
    kept.request("POST", f"/v1.50/containers/{container}/stop?t=1")
    assert command(engine, "--upgrade")[0] == 0
    assert kept.getresponse().status == 204
    kept.close()
    assert engine.inspect(container)["State"]["ExitCode"] == 137


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Our packages in a place of their own, where they can be changed, and an engine from there."""
    place = tmp_path / "installed"
    for package in ("mdocker", "supervisor", "runtime", "logs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / package, place / package, ignore=ignored)
    monkeypatch.setattr(engine_process, "CHECKOUT", place)
    engine = EngineProcess(tmp_path / "engine").start()
    yield place, engine
    engine.close()


def test_another_version_takes_over_and_its_shim_too(installed):
    place, engine = installed
    container = engine.run("sh", "-c", "until [ -e /tmp/go ]; do sleep 0.02; done; exit 5")
    pid, shim = engine.inspect(container)["State"]["Pid"], engine.shim_pid
    before = engine.get("/version").json["Version"]
    release = place / "supervisor/release.py"
    release.write_text(release.read_text().replace(f'"{before}"', '"99.0"'))
    with (place / "runtime/shim.py").open("a") as file:
        file.write("\n# another version\n")
    code, said, complained = command(engine, "--upgrade")
    assert (code, complained) == (0, "")
    assert f"mdocker {before} has handed over to 99.0" in said
    assert engine.delete(f"/containers/{engine.run('true')}?force=1").status == 204
    assert engine.shim_pid != shim
    (Path(f"/proc/{pid}/root/tmp/go")).touch()
    assert engine.wait(container) == 5


def test_an_older_shim_starts_nothing_for_a_newer_engine(installed):
    """It would leave out what it does not know of a spec: filters, user namespaces, devices."""
    place, engine = installed
    plan = place / "runtime/plan.py"
    newer = plan.read_text()
    older = re.sub(r"self\.filter = .*", 'self.filter = b""', newer)
    assert older != newer
    engine.terminate()
    plan.write_text(older)
    engine.start()
    filters = ("grep", "Seccomp:", "/proc/self/status")
    assert engine.result(*filters)[1] == "Seccomp:\t0\n"
    policy = {"RestartPolicy": {"Name": "on-failure", "DelayMs": 1}}
    twice = "grep Seccomp: /proc/self/status; mkdir /tmp/once && exec sleep 1000; exit 0"
    back = engine.run("sh", "-c", twice, HostConfig=policy)
    other = engine.run("sleep", "1000")
    shim, pid = engine.shim_pid, engine.inspect(back)["State"]["Pid"]
    engine.terminate()
    plan.write_text(newer)
    os.kill(pid, signal.SIGKILL)  # so it is started again while the engine comes back
    engine.start()
    assert engine.result(*filters)[1] == "Seccomp:\t2\n"
    assert engine.shim_pid != shim
    assert engine.inspect(other)["State"]["Running"]
    while engine.inspect(back)["State"]["Status"] != "exited":
        assert engine.get("/_ping").status == 200
    assert engine.output(back)[0] == b"Seccomp:\t0\nSeccomp:\t2\n"


def test_a_newer_engine_whose_shim_does_not_start_leaves_the_older_one(installed):
    place, engine = installed
    container = engine.run("sleep", "1000")
    shim, pid = engine.shim_pid, engine.inspect(container)["State"]["Pid"]
    engine.terminate()
    program = place / "runtime/shim.py"
    before = program.read_text()
    program.write_text(before + "\nraise SystemExit('it lacks a syscall')\n")
    with pytest.raises(RuntimeError, match="its shim does not answer: it lacks a syscall"):
        engine.start()
    os.kill(pid, 0)
    os.kill(shim, 0)
    program.write_text(before)
    engine.start()
    assert engine.inspect(container)["State"]["Running"]


def test_a_version_that_does_not_start_is_refused_and_the_old_one_goes_on(installed):
    place, engine = installed
    container = engine.run("sleep", "1000")
    before = executed(engine.process.pid)
    with (place / "supervisor/daemon.py").open("a") as file:
        file.write("\nraise SystemExit('it lacks a wheel')\n")
    code, said, complained = command(engine, "--upgrade")
    assert (code, said) == (1, "")
    assert "the installed version does not start: it lacks a wheel" in complained
    assert executed(engine.process.pid) == before
    assert engine.inspect(container)["State"]["Running"]


def test_a_version_whose_shim_does_not_start_is_refused_and_the_old_shim_goes_on(installed):
    place, engine = installed
    shim = engine.shim_pid
    before = executed(engine.process.pid)
    with (place / "runtime/shim.py").open("a") as file:
        file.write("\nraise SystemExit('it lacks a syscall')\n")
    code, said, complained = command(engine, "--upgrade")
    assert (code, said) == (1, "")
    assert "its shim does not answer: it lacks a syscall" in complained
    assert executed(engine.process.pid) == before
    assert engine.result("true") == (0, "", "")
    assert engine.shim_pid == shim


def test_there_is_nothing_to_upgrade_where_none_runs(tmp_path):
    engine = EngineProcess(tmp_path / "engine")
    code, said, complained = command(engine, "--upgrade")
    assert (code != 0, said) == (True, "")
    assert "no engine listens" in complained


def test_check_starts_nothing(tmp_path):
    engine = EngineProcess(tmp_path / "engine")
    assert command(engine, "--check") == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_check_refuses_a_root_that_can_t_be(tmp_path):
    def refused(root):
        engine = EngineProcess(tmp_path / "engine", root=root)
        code, said, complained = command(engine, "--check")
        assert (code, said) == (1, "")
        return complained

    assert refused("/proc/nope") == (
        "mdocker daemon: cannot make /proc/nope: No such file or directory; "
        "choose another by --root or --run-dir\n"
    )
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(tmp_path / "file")
    assert "Not a directory" in refused(tmp_path / "file/below")
    (tmp_path / "astray").symlink_to(tmp_path / "nowhere")
    assert "astray" in refused(tmp_path / "astray")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert "can be written by others (mode 0777)" in refused(tmp_path / "open")
    (tmp_path / "later").mkdir()
    (tmp_path / "later/version").write_text("999")
    assert "written by a newer mdocker" in refused(tmp_path / "later")
    assert {path.name for path in tmp_path.iterdir()} == {"astray", "file", "open", "later"}
