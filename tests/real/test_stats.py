"""stats of real containers, on whatever this machine counts."""

import json
import os
import pty
import select
import signal
import sys

MIB = 1 << 20


def up(engine, container):
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11)[8:] == b"up\n"


def sample(engine, container, query="stream=0&one-shot=1"):
    answer = engine.get(f"/containers/{container}/stats?{query}")
    assert answer.status == 200, answer
    return answer.json


HOLDS = ("python3", "-c", "held = bytearray(b'x') * (32 << 20); print('up', flush=True); "
         "import time; time.sleep(1000)")  # fmt: skip


def test_what_a_container_uses(engine):
    script = "sleep 1000 & echo up; while :; do :; done"
    busy = engine.run("sh", "-c", script)
    holds = engine.run(*HOLDS)
    limited = engine.run(*HOLDS, HostConfig={"Memory": 128 * MIB, "PidsLimit": 9})
    for container in (busy, holds, limited):
        up(engine, container)
    told = sample(engine, busy, "stream=0")
    used = [told[when]["cpu_usage"]["total_usage"] for when in ("precpu_stats", "cpu_stats")]
    machine = [told[when]["system_cpu_usage"] for when in ("precpu_stats", "cpu_stats")]
    assert 0 < used[1] - used[0] <= machine[1] - machine[0]
    assert told["cpu_stats"]["online_cpus"] == os.cpu_count()
    assert told["pids_stats"]["current"] == 2
    for container in (holds, limited):
        memory = sample(engine, container)["memory_stats"]
        assert 32 * MIB <= memory["usage"] < 100 * MIB
    assert memory["limit"] == 128 * MIB
    assert sample(engine, limited)["pids_stats"]["limit"] == 9
    # A limit that comes late does not make what it holds vanish.
    answer = engine.post(f"/containers/{holds}/update", {"Memory": 256 * MIB})
    assert len(answer.json["Warnings"]) == 1
    memory = sample(engine, holds)["memory_stats"]
    assert 32 * MIB <= memory["usage"] < 100 * MIB
    assert memory["limit"] == 256 * MIB
    # What is paused uses nothing; what has ended gives the zero sample.
    assert engine.post(f"/containers/{busy}/pause").status == 204
    first, second = (sample(engine, busy)["cpu_stats"]["cpu_usage"] for _ in range(2))
    assert first == second
    for container in (busy, holds, limited):
        assert engine.post(f"/containers/{container}/kill").status == 204
        assert sample(engine, container)["memory_stats"] == {}
        assert engine.delete(f"/containers/{container}").status == 204


def test_a_stream_ends_with_the_container(engine):
    container = engine.run("sleep", "1000")
    with engine.stream("GET", f"/containers/{container}/stats") as stream:
        first = json.loads(stream.readline())
        assert first["id"] == container
        assert engine.delete(f"/containers/{container}?force=1").status == 204
        assert stream.read() == b""


def test_the_live_table_leaves_the_terminal_as_it_was(engine):
    container = engine.run("sleep", "1000", name="bird")
    pid, terminal = pty.fork()
    if not pid:
        words = [sys.executable, "-m", "mdocker", "stats"]
        os.execve(sys.executable, words, {**engine.environment, "TERM": "xterm"})
    seen = b""
    while b"bird" not in seen:
        assert select.select([terminal], [], [], 30)[0]
        seen += os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    try:
        while piece := os.read(terminal, 65536):
            seen += piece
    except OSError:
        pass  # EIO: the other end is closed
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGINT
    begun, _, ended = seen.partition(b"\x1b[?1049h")
    assert begun == b""
    assert seen.count(b"\x1b[?25l") == 1
    # Cursor, wrapping and the first screen are back, and the last table stays.
    _, _, left = ended.partition(b"\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert b"bird" in left
    assert engine.delete(f"/containers/{container}?force=1").status == 204
