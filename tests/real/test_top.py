"""`top` on real containers: the host's ps, and without it."""

import os
import subprocess

from tests.real.engine_process import EngineProcess


def rows(answer):
    assert answer.status == 200, answer
    return [dict(zip(answer.json["Titles"], one, strict=True)) for one in answer.json["Processes"]]


def test_the_processes_of_a_container_and_no_others(engine):
    container = engine.run("sh", "-c", "sleep 1000 & echo up; wait")
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11)
    found = rows(engine.get(f"/containers/{container}/top"))
    assert [one["CMD"] for one in found] == ["sh -c sleep 1000 & echo up; wait", "sleep 1000"]
    assert found[0]["PID"] == str(engine.inspect(container)["State"]["Pid"])
    assert found[1]["PPID"] == found[0]["PID"]
    found = rows(engine.get(f"/containers/{container}/top?ps_args=-o%20pid,comm"))
    assert [one["COMMAND"] for one in found] == ["sh", "sleep"]
    # f can't stand beside -q: all is asked for, and the container's own picked out.
    found = rows(engine.get(f"/containers/{container}/top?ps_args=faux"))
    assert len(found) == 2
    for options, text in (
        ("-o comm", "Couldn't find PID field in ps output"),
        ("-e%20-o%20ppid%3DPID", 'specifying "ppid=PID" is not allowed'),
        ("--nosuch", "error: unknown gnu long option"),
    ):
        refused = engine.get(f"/containers/{container}/top?ps_args={options.replace(' ', '%20')}")
        assert (refused.status, text in refused.message) == (500, True), refused
    process = engine.spawn("top", container, "-o", "pid,comm")
    out, err = process.communicate(timeout=30)
    assert (out.split()[:2], out.split()[3::2], err) == (["PID", "COMMAND"], ["sh", "sleep"], "")
    assert engine.post(f"/containers/{container}/kill").status == 204
    ended = engine.get(f"/containers/{container}/top")
    assert (ended.status, ended.message) == (409, f"container {container} is not running")
    assert engine.delete(f"/containers/{container}").status == 204


def test_a_machine_without_ps(tmp_path, monkeypatch):
    """The engine finds no ps; all else that it runs it finds by its full name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = EngineProcess(tmp_path / "engine").start()
    try:
        monkeypatch.setenv("PATH", os.defpath)
        container = engine.run("/bin/sleep", "1000", User="1234")
        found = rows(engine.get(f"/containers/{container}/top"))
        pid = found[0]["PID"]
        theirs = subprocess.check_output(["ps", "-o", "pid,user,args", "-p", pid], text=True)
        assert theirs.splitlines()[1].split() == [pid, found[0]["UID"], *found[0]["CMD"].split()]
        refused = engine.get(f"/containers/{container}/top?ps_args=aux")
        assert (refused.status, "install procps" in refused.message) == (501, True)
    finally:
        engine.close()
