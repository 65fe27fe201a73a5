"""mode=non-blocking on a disk that hangs: the container goes on, the gap is counted and told."""

import re

import pytest

from tests.real.loop_disk import wait_until_stuck
from tests.real.test_disk_hangs import begin, on, remove

SCRIPT = "seq 1000; until [ -e /dev/shm/go ]; do sleep 0.02; echo; done; seq 300000; exit 5"


@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_the_container_does_not_wait(disk, fresh_engine, driver):
    config = {"mode": "non-blocking", "max-buffer-size": "256k"}
    host = {"LogConfig": {"Type": driver, "Config": config}}
    held = on(disk, fresh_engine, "sh", "-c", SCRIPT, HostConfig=host)
    begin(fresh_engine, held)
    pid = fresh_engine.inspect(held)["State"]["Pid"]
    with disk.frozen():
        wait_until_stuck(fresh_engine.process.pid)
        with open(f"/proc/{pid}/root/dev/shm/go", "w"):
            pass
        # 2 MB of output: a container that waits for its log would not get to its end.
        assert fresh_engine.wait(held) == 5
        dropped = fresh_engine.inspect(held)["LogState"]["DroppedBytes"]
    # A new run waits for the end of the old one's log.
    assert fresh_engine.post(f"/containers/{held}/start").status == 204
    fresh_engine.post(f"/containers/{held}/kill")
    fresh_engine.wait(held)
    text, end, _ = fresh_engine.output(held)[0].partition(b"\n300000\n")
    assert end
    told = sum(map(int, re.findall(rb"mdocker: (\d+) bytes of stdout were lost here", text)))
    assert 1_000_000 < dropped <= told
    shown = [int(line) for line in text.splitlines() if line.isdigit()]
    assert shown[:1000] == list(range(1, 1001))
    # Lines are shown whole or not at all, the first behind the gap as well.
    assert shown[1000:] == sorted(shown[1000:]) and shown[-1] == 299_999
    remove(disk, fresh_engine, held)
