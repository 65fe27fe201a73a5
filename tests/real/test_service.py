"""The engine as a service of a real systemd: socket, readiness, restart, watchdog, stop, reload."""

import contextlib
import http.client
import os
import signal
import socket
from pathlib import Path

import pytest

from mdocker import service
from mdocker.settings import Settings
from mdocker.unit_files import SERVICE, SOCKET
from tests.real import user_manager
from tests.real.engine_process import EngineProcess
from tests.real.user_manager import UserManager

pytestmark = pytest.mark.skipif(bool(user_manager.missing()), reason=user_manager.missing())

FOR_TESTS = """
[Service]
StandardError=append:{log}
TimeoutAbortSec=1
Environment=PYTHONPATH={base}
"""
"""The unit as it is installed, but for its log (no journal runs here) and a quicker end."""

BREAKABLE = """
import os, sys
if "--check" in sys.orig_argv and os.path.exists("{base}/broken"):
    sys.exit("it is broken")
if "MDOCKER_INHERITED" in os.environ and os.path.exists("{base}/broken-later"):
    os.unlink("{base}/broken-later")
    sys.exit("it is broken after all")
"""
"""What Python imports first of all: a version of mdocker that doesn't start when a test says so."""


class Served(EngineProcess):
    """An engine that is systemd's, not this test's child."""

    def __init__(self, base, manager):
        super().__init__(base)
        self.manager = manager

    @property
    def pid(self):
        return int(self.manager.show(SERVICE, "MainPID")["MainPID"])

    def drop_in(self, name, text):
        folder = self.manager.units / f"{SERVICE}.d"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.conf").write_text(text)
        self.manager.ctl("daemon-reload")


@pytest.fixture(scope="module")
def manager(tmp_path_factory):
    one = UserManager(tmp_path_factory.mktemp("um")).start()
    yield one
    one.close()


@pytest.fixture(scope="module")
def served(manager):
    """The units of `--install`, in that manager; its socket listens, no supervisor runs yet."""
    engine = Served(manager.base / "e", manager)
    engine.base.mkdir()
    place = Settings(str(engine.root), str(engine.run_dir), str(engine.socket), True)
    described = service.describe(place, ("--debug",), service.Systemd())
    for name, text in service.units(described).items():
        (manager.units / name).write_text(text)
    (engine.base / "sitecustomize.py").write_text(BREAKABLE.format(base=engine.base))
    engine.drop_in("tests", FOR_TESTS.format(log=engine.base / "supervisor.log", base=engine.base))
    manager.ctl("enable", SOCKET, SERVICE)
    manager.ctl("start", SOCKET)
    yield engine
    for container in engine.get("/containers/json?all=1").json:
        engine.delete(f"/containers/{container['Id']}?force=1")
    manager.ctl("stop", SOCKET, SERVICE)
    assert not engine.socket.exists()


@pytest.fixture
def bird(served):
    container = served.run("sleep", "1000")
    yield container
    served.delete(f"/containers/{container}?force=1")


def pid_of(served, container):
    state = served.inspect(container)["State"]
    assert state["Running"], served.log_text()[-3000:]
    return state["Pid"]


def test_the_first_client_wakes_it(served, manager):
    assert manager.show(SERVICE, "ActiveState") == {"ActiveState": "inactive"}
    assert served.get("/_ping").body == b"OK"
    told = manager.show(SERVICE, "ActiveState", "StatusText", "MainPID", "Delegate", "KillMode")
    assert told["ActiveState"] == "active"
    assert told["StatusText"] == "0 containers, 0 running"
    assert told["MainPID"] == (served.run_dir / "supervisor.pid").read_text().strip()
    assert (told["Delegate"], told["KillMode"]) == ("yes", "process")


def test_killed_it_is_back_and_no_client_is_refused(served, manager, bird):
    before, payload, shim = served.pid, pid_of(served, bird), served.shim_pid
    with socket.socket(socket.AF_UNIX) as early:
        early.connect(str(served.socket))
        os.kill(before, signal.SIGKILL)
        # systemd listens: whoever comes now waits for the next supervisor.
        assert pid_of(served, bird) == payload
    assert served.pid != before
    assert served.shim_pid == shim
    names = [one["Pid"] for one in served.get(f"/containers/{bird}/timeline").json["Supervisors"]]
    assert names[-1] == served.pid


def stop(pid):
    """SIGSTOP; returns once none of its threads runs, so that it accepts no client any more."""
    os.kill(pid, signal.SIGSTOP)
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            while stat.read_text().rpartition(")")[2].split()[0] != "T":
                os.sched_yield()


def pid_in_the_end(served, container):
    """Asked again if cut off: systemd wakes one that hangs for its SIGABRT (systemd.kill(5)), and
    before that reaches all its threads it may accept a client.
    """
    while True:
        try:
            return pid_of(served, container)
        except (ConnectionResetError, http.client.RemoteDisconnected):
            continue


def test_one_that_hangs_is_replaced(served, bird):
    payload, before = pid_of(served, bird), served.pid
    served.drop_in("watchdog", "[Service]\nWatchdogSec=3\n")
    try:
        # The interval is told at a start.
        served.manager.ctl("restart", SERVICE)
        hanging = served.pid
        assert hanging != before
        stop(hanging)
        assert pid_in_the_end(served, bird) == payload
        assert served.pid != hanging
        assert served.manager.show(SERVICE, "ActiveState") == {"ActiveState": "active"}
    finally:
        served.drop_in("watchdog", "")


def test_stopped_and_started_the_containers_go_on(served, manager, bird):
    payload, before = pid_of(served, bird), served.pid
    manager.ctl("stop", SERVICE)
    told = manager.show(SERVICE, "ActiveState", "Result")
    assert told == {"ActiveState": "inactive", "Result": "success"}
    os.kill(payload, 0)
    assert pid_of(served, bird) == payload
    assert served.pid != before


def reload(served, check=True):
    """Returns when the old version is no more; who asks then is answered by its successor."""
    with served.stream("GET", "/events") as cut:
        served.manager.ctl("reload", SERVICE, check=check)
        with contextlib.suppress(http.client.HTTPException, OSError):
            cut.read()


def test_reloaded_it_is_the_same_process_and_no_client_notices(served, manager, bird):
    payload, before = pid_of(served, bird), served.pid
    reload(served)
    assert pid_of(served, bird) == payload
    assert served.pid == before
    told = manager.show(SERVICE, "ActiveState", "NRestarts", "Result")
    assert (told["ActiveState"], told["Result"]) == ("active", "success")
    supervisors = served.get(f"/containers/{bird}/timeline").json["Supervisors"]
    assert [one["Pid"] for one in supervisors] == [before]
    assert supervisors[-1]["DurationNs"] < 60 * 10**9


def test_a_version_that_does_not_start_is_refused_and_the_old_one_stays(served, manager, bird):
    """`systemctl reload` fails, and the service goes on."""
    before, payload = served.pid, pid_of(served, bird)
    (served.base / "broken").touch()
    try:
        assert manager.ctl("reload", SERVICE, check=False).returncode != 0
    finally:
        (served.base / "broken").unlink()
    assert "the installed version does not start: SystemExit: it is broken" in served.log_text()
    assert served.pid == before
    assert pid_of(served, bird) == payload
    assert manager.show(SERVICE, "ActiveState") == {"ActiveState": "active"}


def test_a_version_that_fails_when_it_has_taken_over_is_replaced_by_systemd(served, bird):
    """By systemd alone: what the shim started would hold the locks, and systemd try for ever."""
    before, payload = served.pid, pid_of(served, bird)
    (served.base / "broken-later").touch()
    # systemctl may or may not see the failure, which comes when all was agreed upon.
    reload(served, check=False)
    assert pid_of(served, bird) == payload
    assert "it is broken after all" in served.log_text()
    assert served.pid != before
    assert str(served.pid) == (served.run_dir / "supervisor.pid").read_text().strip()
    assert served.manager.show(SERVICE, "ActiveState") == {"ActiveState": "active"}
