"""The supervisor is killed and another comes by itself, in which nobody notices a difference."""

import os
import select
import signal
from pathlib import Path

import pytest

from tests.real.engine_process import EngineProcess


@pytest.fixture
def engine(tmp_path):
    process = EngineProcess(tmp_path / "engine", respawn=True).start()
    yield process
    process.close()


def end_of(pid):
    """Wait for a process's end."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # ended, and reaped by its parent
    try:
        assert select.select([pidfd], [], [], 30)[0]
    finally:
        os.close(pidfd)


def let_go(pid):
    """Touch /tmp/go in the container of this process."""
    Path(f"/proc/{pid}/root/tmp/go").touch()


def waiting(code):
    return "sh", "-c", f"echo one; until [ -e /tmp/go ]; do sleep 0.02; done; echo two; exit {code}"


def pid_of(engine, container):
    return engine.inspect(container)["State"]["Pid"]


def test_another_comes_and_requests_wait_for_it(engine):
    container = engine.run(*waiting(7))
    pids = [engine.supervisor_pid]
    for _ in range(3):
        engine.kill()
        assert engine.inspect(container)["State"]["Running"]
        pids.append(engine.supervisor_pid)
    assert len(set(pids)) == 4
    let_go(pid_of(engine, container))
    assert engine.wait(container) == 7
    assert engine.output(container) == (b"one\ntwo\n", b"")
    assert "died; started another" in (engine.run_dir / "shim.log").read_text()


def test_it_comes_without_any_container_and_ends_when_told(engine):
    created = engine.create("true")
    engine.kill()
    assert engine.inspect(created)["State"]["Status"] == "created"
    shim, second = engine.shim_pid, engine.supervisor_pid
    assert engine.delete(f"/containers/{created}").status == 204
    engine.terminate()
    end_of(shim)
    end_of(second)
    assert not engine.answers()


def test_one_that_was_told_to_end_is_not_followed(engine):
    container = engine.run("sleep", "1000")
    shim = engine.shim_pid
    engine.terminate()
    assert not engine.answers()
    engine.start()
    assert engine.shim_pid == shim
    assert engine.inspect(container)["State"]["Running"]


SEQUENCES = ["SH", "HS", "SSH", "HHS", "SHSH", "HSSH"]


@pytest.mark.parametrize("deaths", SEQUENCES)
def test_any_sequence_of_single_deaths_harms_nobody(engine, deaths):
    """S: the supervisor dies, H: the shim. Each is healed before the next comes."""
    lives_on = engine.run(*waiting(7))
    meanwhile = engine.run(*waiting(8))
    pid = pid_of(engine, meanwhile)
    for number, who in enumerate(deaths):
        if who == "S":
            engine.kill()
            if number == len(deaths) - 1:
                let_go(pid)
                end_of(pid)
            assert engine.answers()
        else:
            shim = engine.shim_pid
            os.kill(shim, signal.SIGKILL)
            end_of(shim)
            if number == len(deaths) - 1:
                let_go(pid)
                end_of(pid)
            # A start needs a shim, so it returns when the new one is there.
            assert engine.delete(f"/containers/{engine.run('true')}?force=1").status == 204
            assert engine.shim_pid != shim
    assert engine.wait(meanwhile) == 8
    assert engine.output(meanwhile) == (b"one\ntwo\n", b"")
    let_go(pid_of(engine, lives_on))
    assert engine.wait(lives_on) == 7
    assert engine.output(lives_on) == (b"one\ntwo\n", b"")
    state = engine.inspect(lives_on)["State"]
    assert (state["Error"], state["ExitCode"]) == ("", 7)
