"""The supervisor ends or is killed; its containers notice nothing, and nothing is lost."""

import os
import select
import shutil
from pathlib import Path

import pytest

COUNTER = "i=0; while [ $i -lt {count} ]; do i=$((i+1)); echo line $i; done; exec sleep 1000"


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_containers_live_on_and_are_taken_over(fresh_engine, end):
    engine = fresh_engine
    container = engine.run(
        "sh", "-c", "echo one; until [ -e /tmp/go ]; do sleep 0.02; done; echo two"
    )
    before = engine.inspect(container)["State"]
    engine.start_is_on_record(container)
    getattr(engine, end)()
    engine.start()
    after = engine.inspect(container)["State"]
    assert after["Running"]
    assert (after["Pid"], after["StartedAt"]) == (before["Pid"], before["StartedAt"])
    Path(f"/proc/{after['Pid']}/root/tmp/go").touch()
    assert engine.wait(container) == 0
    assert engine.output(container) == (b"one\ntwo\n", b"")


def test_a_clean_end_leaves_names_of_what_lives_only(fresh_engine):
    """The shim's socket and pid stayed behind it, and named whoever got its number next."""
    engine = fresh_engine
    container = engine.run("sleep", "1000")
    engine.terminate()
    assert {"shim.sock", "shim.pid"} <= set(os.listdir(engine.run_dir))
    engine.start()
    engine.delete(f"/containers/{container}?force=1")
    engine.terminate()
    kept = {"marks", "events", "ends", "supervisors", "rootfs", "supervisor.lock", "shim.log"}
    assert set(os.listdir(engine.run_dir)) == kept


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_an_end_that_nobody_watched_is_known_with_its_code_and_its_last_words(fresh_engine, end):
    engine = fresh_engine
    container = engine.run(
        "sh", "-c", "until [ -e /tmp/go ]; do sleep 0.02; done; echo bye; exit 6"
    )
    pid = engine.inspect(container)["State"]["Pid"]
    pidfd = os.pidfd_open(pid)
    getattr(engine, end)()
    # Its own /tmp, reached from outside through the process's root.
    Path(f"/proc/{pid}/root/tmp/go").touch()
    select.select([pidfd], [], [], 30)
    os.close(pidfd)
    engine.start()
    assert engine.wait(container) == 6
    assert engine.output(container) == (b"bye\n", b"")
    assert engine.inspect(container)["State"]["ExitCode"] == 6


def test_kill_9_under_full_output_loses_and_repeats_nothing(fresh_engine):
    engine = fresh_engine
    count = 60_000
    names = ["aa", "bb", "cc"]
    for name in names:
        engine.run("sh", "-c", COUNTER.format(count=count), name=name)
    for _ in range(6):
        engine.kill()
        engine.start()
    expected = b"".join(b"line %d\n" % n for n in range(1, count + 1))
    for name in names:
        seen = b""
        with engine.stream("GET", f"/containers/{name}/logs?stdout=1&follow=1") as logs:
            while b"line %d\n" % count not in seen[-65536:]:
                piece = logs.read1(1 << 20)
                assert piece
                seen += piece
        out, _ = engine.output(name)
        assert out == expected


def test_stop_works_on_one_taken_over(fresh_engine):
    engine = fresh_engine
    container = engine.run("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    engine.kill()
    engine.start()
    assert engine.post(f"/containers/{container}/stop?t=0").status == 204
    assert engine.inspect(container)["State"]["ExitCode"] == 137
    assert engine.post(f"/containers/{container}/start").status == 204


def test_a_create_that_was_cut_in_half_is_swept(fresh_engine):
    engine = fresh_engine
    engine.kill()
    half = engine.root / "containers" / ("e" * 64)
    (half / "upper").mkdir(parents=True)
    gone = engine.root / "containers" / ("d" * 64 + ".removed")
    (gone / "upper/deep").mkdir(parents=True)
    engine.start()
    assert not half.exists()
    assert not gone.exists()
    assert engine.get("/containers/json?all=1").json == []


def test_the_shim_dies_and_the_supervisor_goes_on(fresh_engine):
    engine = fresh_engine
    container = engine.run(
        "sh", "-c", "until [ -e /tmp/go ]; do sleep 0.02; done; echo bye; exit 8"
    )
    pid = engine.inspect(container)["State"]["Pid"]
    os.kill(engine.shim_pid, 9)
    Path(f"/proc/{pid}/root/tmp/go").touch()
    assert engine.wait(container) == 8
    assert engine.output(container) == (b"bye\n", b"")
    assert engine.result("echo", "again") == (0, "again\n", "")


def test_who_finds_no_engine_by_its_names_has_it_make_them_anew(fresh_engine):
    """Nobody could reach it, and nobody could start another: its socket and pid were wiped."""
    engine = fresh_engine
    container = engine.run("sleep", "1000")
    before, shim = engine.inspect(container)["State"], engine.shim_pid
    shutil.rmtree(engine.run_dir)
    with engine.spawning() as spawn:
        command = spawn("inspect", "-f", "{{.State.Pid}}", container)
        out, err = command.communicate(timeout=50)
    assert (command.returncode, out) == (0, f"{before['Pid']}\n"), err
    assert (engine.supervisor_pid, engine.shim_pid) == (engine.process.pid, shim)
    assert "was removed, and is made anew" in (engine.run_dir / "shim.log").read_text()
    assert engine.result("true") == (0, "", "")


def wipe(directory, what):
    if what == "directory":
        shutil.rmtree(directory)
    else:
        for path in directory.iterdir():
            if not path.is_dir():
                path.unlink()


@pytest.mark.parametrize("end", ["terminate", "kill"])
@pytest.mark.parametrize("what", ["files", "directory"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_directory_that_was_cleaned_away_ends_no_container(fresh_engine, end, what, when):
    """While a supervisor lives, the shim sees to its names when it goes; after that nobody told it,
    and the next engine took it for dead and ended all containers."""
    engine = fresh_engine
    container = engine.create(
        "sh", "-c", "printf 'one\\nha'; until [ -e /tmp/go ]; do sleep 0.02; done; echo lf; exit 5"
    )
    with engine.stream("POST", f"/containers/{container}/attach?stream=1&stdout=1") as output:
        assert engine.post(f"/containers/{container}/start").status == 204
        seen = b""
        while b"ha" not in seen:  # a line that has only begun is in no log yet
            seen += output.read1()
    before, shim = engine.inspect(container)["State"], engine.shim_pid
    if when == "before":
        wipe(engine.run_dir, what)
    getattr(engine, end)()
    if when == "after":
        wipe(engine.run_dir, what)
    engine.start()
    after = engine.inspect(container)["State"]
    assert (after["Running"], after["Error"]) == (True, "")
    assert (after["Pid"], engine.shim_pid) == (before["Pid"], shim)
    assert "made anew" in (engine.run_dir / "shim.log").read_text()
    Path(f"/proc/{after['Pid']}/root/tmp/go").touch()
    assert engine.wait(container) == 5
    assert engine.output(container) == (b"one\nhalf\n", b"")
    assert engine.result("true") == (0, "", "")
