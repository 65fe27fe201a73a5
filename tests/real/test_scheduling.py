"""The engine gets a processor soon beside busy containers, and they inherit nothing of that."""

import os
import signal
from pathlib import Path

import pytest

from runtime import scheduling
from tests.real.engine_process import EngineProcess

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel has no autogroups (sched(7))"
)


def session_nice(pid):
    """The nice value of a process's autogroup; None where its session is in none, as PID 1's is."""
    told = Path(f"/proc/{pid}/autogroup").read_text()
    return int(told.rpartition(" ")[2]) if told else None


def test_shim_and_following_supervisor_are_prompt_and_containers_ordinary(tmp_path):
    engine = EngineProcess(tmp_path / "engine", respawn=True).start()
    try:
        first = engine.supervisor_pid
        os.kill(first, signal.SIGKILL)
        container = engine.run("sleep", "600")
        assert engine.supervisor_pid != first
        payload = engine.inspect(container)["State"]["Pid"]
        limited = engine.run("sleep", "600", HostConfig={"Memory": 64 << 20})  # a Python init
        of_limited = engine.inspect(limited)["State"]["Pid"]
        assert session_nice(engine.supervisor_pid) == scheduling.NICE
        assert session_nice(engine.shim_pid) == scheduling.NICE
        assert [session_nice(pid) for pid in (payload, of_limited)] == [0, 0]
    finally:
        engine.close()


def test_somebody_elses_session_is_left_alone():
    before = session_nice("self")
    child = os.fork()
    if child == 0:
        # Not the leader of its session.
        os._exit(7 if scheduling.be_prompt() else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert session_nice("self") == before
