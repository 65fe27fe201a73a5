"""The engine's own small writes: done, refused, or given up and set right later."""

import errno
import gc
import os
import threading
import weakref

import anyio
import anyio.to_thread
import pytest

from supervisor import disk, lifecycle, store
from supervisor.container import Container, ContainerConfig, Life
from supervisor.disk import Disk, DiskHangs
from supervisor.states import Event, State

ID = "ab" * 32


class Hanging:
    """Work that is held up until it is let go."""

    def __init__(self):
        self.begun = threading.Event()
        self.go = threading.Event()
        self.done = []

    def __call__(self):
        self.begun.set()
        self.go.wait()
        self.done.append("work")
        return "result"

    def late(self):
        self.done.append("late")


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(disk, "SYNC_LIMIT_S", 0.001)
    monkeypatch.setattr(disk, "QUICK_S", 0.001)


@pytest.fixture
def hanging(monkeypatch):
    """Makes work that hangs; from then on nobody gives up before that has begun."""
    wait = disk._Job.wait

    def make():
        work = Hanging()

        def wait_for_begun(job, seconds):
            work.begun.wait()
            return wait(job, seconds)

        monkeypatch.setattr(disk._Job, "wait", wait_for_begun)
        return work

    return make


@pytest.fixture
def one():
    return Disk("test")


def settled(one):
    """Wait until the disk's thread has done all that was asked before."""
    last = threading.Event()
    one.afterwards("last", last.set)
    last.wait()


def full():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_results_and_refusals_come_back(one, monkeypatch):
    monkeypatch.setattr(disk, "SYNC_LIMIT_S", 30)
    assert one.call(lambda: threading.current_thread().name) == "disk-test"
    with pytest.raises(OSError, match="No space left"):
        one.call(full)


def test_a_refusal_keeps_nothing_alive(one, monkeypatch):
    """Its frames hold logs, and those descriptors: none of it may wait for the collector."""
    monkeypatch.setattr(disk, "SYNC_LIMIT_S", 30)

    class Held:
        pass

    def ask():
        held = Held()
        try:
            one.call(full)
        except OSError:
            return weakref.ref(held)

    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


class Opened:
    """What work comes back with: it has a descriptor, say."""


@pytest.mark.parametrize("ends", ["before", "after"], ids=["done at once", "done later"])
def test_what_nobody_waits_for_any_more_is_kept_by_nothing(one, monkeypatch, ends):
    """Cancelled, who asked stays in a circle with the traceback until the collector comes."""
    begun, go, results, askers = threading.Event(), threading.Event(), [], []

    def work():
        begun.set()
        go.wait()
        opened = Opened()
        results.append(weakref.ref(opened))
        return opened

    wait = disk._Job.wait

    def is_done(job, seconds):
        askers.append(job)  # as the circle does
        begun.wait()
        if ends == "before" and seconds == 0:
            go.set()
            wait(job, 30)
        return wait(job, seconds)

    monkeypatch.setattr(disk._Job, "wait", is_done)
    with pytest.raises(DiskHangs):
        one.call(work)
    go.set()
    settled(one)
    assert askers
    assert results[0]() is None


def test_what_hangs_is_given_up_and_set_right_when_it_is_done(one, hanging):
    work = hanging()
    with pytest.raises(DiskHangs, match=r"not answered for 0\.0 s") as told:
        one.call(work, work.late)
    assert told.value.errno == errno.ETIMEDOUT
    # From now on nobody waits for it, and nothing is begun.
    with pytest.raises(DiskHangs):
        one.call(lambda: work.done.append("never"))
    assert one.hangs_s > 0
    work.go.set()
    settled(one)
    assert work.done == ["work", "late"]
    assert one.hangs_s == 0


def test_of_many_works_for_afterwards_the_last_counts(one, hanging):
    work, done = hanging(), []
    with pytest.raises(DiskHangs):
        one.call(work)
    for number in range(5):
        one.afterwards("same", lambda number=number: done.append(number))
    one.afterwards("full", full)
    work.go.set()
    settled(one)
    assert done == [4]


@pytest.mark.anyio
async def test_a_patient_one_waits_while_others_run(one):
    work, results = Hanging(), []

    async def ask():
        results.append(await one.patient(work))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.to_thread.run_sync(work.begun.wait)
        work.go.set()
    assert results == ["result"]


@pytest.mark.anyio
async def test_one_waits_for_its_answer(one, hanging):
    work, answered = hanging(), anyio.Event()
    await one.answers()
    with pytest.raises(DiskHangs):
        one.call(work)

    async def wait():
        await one.answers()
        answered.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not answered.is_set()
        work.go.set()
        await answered.wait()
    assert one.hangs_s == 0


@pytest.mark.anyio
async def test_a_cancelled_one_is_set_right(one):
    work = Hanging()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.patient, work, work.late)
        await anyio.to_thread.run_sync(work.begun.wait)
        tasks.cancel_scope.cancel()
    work.go.set()
    settled(one)
    assert work.done == ["work", "late"]


@pytest.mark.anyio
async def test_patience_ends(one, monkeypatch, hanging):
    monkeypatch.setattr(disk, "PATIENCE_S", 0.001)
    work = hanging()
    with pytest.raises(DiskHangs):
        await one.patient(work, work.late)
    never = []
    with pytest.raises(DiskHangs):
        await one.patient(lambda: never.append(True))
    work.go.set()
    settled(one)
    assert work.done == ["work", "late"]
    assert never == []


def test_a_slow_one_serves_one_event_loop_after_the_other(one, hanging):
    """Its thread outlives them, and no limiter may go from one loop to the next."""

    async def ask(work, results):
        async def let_go():
            work.go.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_go)
            results.append(await one.patient(work))

    for backend in ("trio", "asyncio"):
        results = []
        anyio.run(ask, hanging(), results, backend=backend)
        assert results == ["result"]


def container(state=State.CREATED):
    config = ContainerConfig(image="host", image_id="sha256:00")
    return Container(ID, "finch", config, 123, Life(state=state), "/log")


def test_a_record_that_was_given_up_is_written_as_it_is_then(tmp_path, monkeypatch, hanging):
    directory = tmp_path / ID
    directory.mkdir()
    monkeypatch.setattr(disk, "SYNC_LIMIT_S", 30)
    one = container()
    store.save(directory, one)
    monkeypatch.setattr(disk, "SYNC_LIMIT_S", 0.001)
    rename, work = os.rename, hanging()

    def hang(*names):
        work()
        rename(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", hang)
        one.life = Life(state=State.RUNNING)
        with pytest.raises(DiskHangs):
            store.save(directory, one)
    one.life = Life(state=State.EXITED, exit_code=3)
    work.go.set()
    settled(disk.of(directory))
    assert store.load(directory).life == one.life


def test_a_disk_that_hangs_is_named(tmp_path, hanging):
    work = hanging()
    with pytest.raises(DiskHangs):
        disk.of(tmp_path).call(work)
    device = os.stat(tmp_path).st_dev
    assert disk.hanging() == [f"{os.major(device)}:{os.minor(device)}"]
    work.go.set()
    settled(disk.of(tmp_path))
    assert disk.hanging() == []


def test_a_container_that_was_removed_meanwhile_does_not_come_back(tmp_path, hanging):
    directory = tmp_path / ID
    directory.mkdir()
    work = hanging()
    with pytest.raises(DiskHangs):
        disk.of(directory).call(work)
    store.catch_up(directory, container())
    directory.rmdir()
    work.go.set()
    settled(disk.of(tmp_path))
    assert not directory.exists()


@pytest.mark.anyio
async def test_half_a_container_is_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "QUICK_S", 30)
    directory = tmp_path / ID
    with pytest.raises(OSError, match="No space left"):
        await store.make(directory, container(), full, lambda: None)
    assert not directory.exists()
    assert await store.make(directory, container(), lambda: None, lambda: "opened") == "opened"
    assert store.load(directory).state is State.CREATED


@pytest.mark.anyio
async def test_a_container_is_made_without_what_only_its_start_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "QUICK_S", 30)
    directory = tmp_path / ID
    assert await store.make(directory, container(), lambda: None, full) is None
    assert store.load(directory).state is State.CREATED


@pytest.mark.anyio
async def test_what_was_begun_is_done_while_the_caller_does_something_else(one, monkeypatch):
    monkeypatch.setattr(disk, "QUICK_S", 30)
    work = Hanging()
    done, refused = one.begin(work), one.begin(full)
    assert work.begun.wait(30)
    work.go.set()
    assert await done() == "result"
    with pytest.raises(OSError, match="No space left"):
        await refused()


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A container with a record, and the start of it that is ahead on record."""
    monkeypatch.setattr(disk, "QUICK_S", 30)
    monkeypatch.setattr(disk, "SYNC_LIMIT_S", 30)

    directory = tmp_path / ID
    directory.mkdir()

    class Engine:
        def directory(self, container):
            return directory

    one = container()
    store.save(directory, one)
    return one, lambda: lifecycle.Ahead(Engine(), one, Event.START, pid=7, started_ns=5)


@pytest.mark.anyio
async def test_a_change_is_on_record_before_anybody_sees_it(begun, tmp_path):
    one, begin = begun
    started = begin()
    await started.on_record()
    assert one.state is State.CREATED
    found = store.load(tmp_path / ID).life
    assert (found.state, found.pid, found.started_ns) == (State.RUNNING, 7, 5)
    started.happened(started_ns=6)
    assert (one.state, one.life.pid, one.life.started_ns) == (State.RUNNING, 7, 6)


@pytest.mark.anyio
@pytest.mark.parametrize("waits", [True, False])
async def test_a_change_that_does_not_happen_leaves_the_record_as_it_was(begun, tmp_path, waits):
    one, begin = begun
    started = begin()
    if waits:
        await started.on_record()
    await started.take_back()
    assert one.state is State.CREATED
    assert store.load(tmp_path / ID).life == one.life


@pytest.mark.anyio
async def test_what_the_disk_has_refused_need_not_be_taken_back(begun, monkeypatch):
    one, begin = begun
    monkeypatch.setattr(store, "_write", lambda *_: full())
    started = begin()
    with pytest.raises(OSError, match="No space left"):
        await started.on_record()
    await started.take_back()
    assert one.state is State.CREATED
