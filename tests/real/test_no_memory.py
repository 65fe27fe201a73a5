"""The supervisor is killed by a limit on its memory: another comes, and no container notices."""

import http.client
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.cgroup_trees import find_trees
from tests.real.engine_process import EngineProcess

ROOM = 8 << 20


@pytest.fixture
def engine(tmp_path):
    process = EngineProcess(tmp_path / "engine", respawn=True).start()
    yield process
    process.close()


@contextmanager
def memory_of(pid, room):
    """Let a process have this much more memory, and be killed for more."""
    trees = find_trees(Path("/proc/self/mountinfo").read_text())
    v1 = trees.v1.get("memory")
    group = (v1 or trees.unified) / f"mdocker-test-{pid}"
    group.mkdir()
    try:
        limit = group / ("memory.limit_in_bytes" if v1 else "memory.max")
        # What it has already stays on its old group's account.
        limit.write_text(str(room))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        group.rmdir()


def test_killed_for_its_memory(engine):
    counting = engine.run(
        *("sh", "-c", "i=0; until [ -e /tmp/go ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7")
    )
    pid = engine.supervisor_pid
    payload = engine.inspect(counting)["State"]["Pid"]
    body = {"Image": "host", "Cmd": ["true"], "Labels": {"big": "x" * 3_000_000}}
    with memory_of(pid, ROOM):
        with pytest.raises((OSError, http.client.HTTPException)):
            while True:
                assert engine.post("/containers/create", body).status == 201
        assert engine.process.wait() == -signal.SIGKILL
    assert engine.inspect(counting)["State"]["Running"]
    assert engine.supervisor_pid != pid
    Path(f"/proc/{payload}/root/tmp/go").touch()
    assert engine.wait(counting) == 7
    numbers = engine.output(counting)[0].split()
    first = int(numbers[0])
    assert [int(n) for n in numbers] == list(range(first, first + len(numbers)))
