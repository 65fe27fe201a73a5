"""`--userns-remap` and `--userns`: payloads that try to be more on the machine than nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.real.remapped_engine import (
    COUNT,
    FIRST,
    RemappedEngine,
    skip_where_ids_cannot_be_shifted,
)

OVERFLOW = "65534"  # /proc/sys/kernel/overflowuid: what an id without a place in the map looks like
FOREVER = ("sleep", "1000000")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    base = tmp_path_factory.mktemp("remapped")
    skip_where_ids_cannot_be_shifted(base)
    process = RemappedEngine(base).start()
    yield process
    process.close()


def shell(engine, script, **options):
    """What a script in a container of its own prints."""
    code, out, err = engine.result("sh", "-c", script, **options)
    assert code == 0, (out, err)
    return out.splitlines()


def host_status(pid):
    """Fields of /proc/PID/status, as the machine sees them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def test_root_inside_is_nobody_outside(engine):
    container = engine.run(*FOREVER)
    pid = engine.inspect(container)["State"]["Pid"]
    status = host_status(pid)
    assert status["Uid"] == [str(FIRST)] * 4
    assert status["Gid"] == [str(FIRST)] * 4
    assert Path(f"/proc/{pid}/uid_map").read_text().split() == ["0", str(FIRST), str(COUNT)]
    for kind in ("user", "mnt", "uts", "ipc", "net", "cgroup", "pid"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    engine.delete(f"/containers/{container}?force=1")
