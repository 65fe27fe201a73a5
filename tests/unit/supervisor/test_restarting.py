"""The waiting between two runs, under a virtual clock, with the disk and without a kernel."""

import contextlib
import tempfile
from pathlib import Path
from types import SimpleNamespace

import anyio
import msgspec
import pytest
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor import end_requests, lifecycle, restarting, store, updating
from supervisor.container import Container, ContainerConfig, Life, RestartPolicy
from supervisor.counts import Counts
from supervisor.errors import Conflict, DonorMissing, DonorNotRunning, EngineFault, StartFailed
from supervisor.events import EventBus
from supervisor.limits import Limits
from supervisor.recent_ends import RecentEnds
from supervisor.states import Event, State
from supervisor.waiting import waiter

pytestmark = pytest.mark.anyio

BOOT = "boot-one"


async def change_policy(engine, container, policy):
    def change(config):
        return msgspec.structs.replace(config, restart=policy)

    await updating.update(engine, container, change)


EXACT = {"delay_ms": 100, "max_delay_ms": 100}


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def wall_ns():
    """The wall clock, in step with the virtual one: a busy machine changes nothing here."""
    return 1_700_000_000 * 10**9 + int(anyio.current_time() * 1e9)


CLOCK = SimpleNamespace(time_ns=wall_ns)


async def settled(container_id):
    """No disk hangs here."""


class FakeEngine:
    """What the waiting needs of an engine; a start succeeds unless `fails` says otherwise."""

    def __init__(self, root, tasks):
        self.root = root
        self.tasks = tasks
        self.events = EventBus()
        self.limits = Limits()
        self.counts = Counts()
        self.ends = RecentEnds()
        self.boot_id = BOOT
        self.stages = SimpleNamespace(settled=settled)
        self.starts = []
        self.fails = []
        self.removed = []
        self.began = anyio.current_time()
        self.running = 0

    def directory(self, container):
        return self.root / container.id

    def begin(self, work, *given):
        async def counted():
            self.running += 1
            try:
                await work(*given)
            finally:
                self.running -= 1

        self.tasks.start_soon(counted)

    async def remove_quietly(self, container):
        self.removed.append(container)

    def await_restart(self, container):
        restarting.begin(self, container)

    async def start(self, container, again):
        """In the place of `supervisor.start.start`."""
        self.starts.append((round(anyio.current_time() - self.began, 2), again))
        await anyio.lowlevel.checkpoint()
        if self.fails and (error := self.fails.pop(0)) is not None:
            raise error
        life = container.life
        lifecycle.change(
            self,
            container,
            Event.START,
            started_ns=wall_ns(),
            restart_at_ns=0,
            restart_count=life.restart_count if again else 0,
            restart_delay_ms=life.restart_delay_ms if again else 0,
            stopped_by_request=False,
            boot_id=self.boot_id,
        )
        if container.pause is not None:
            container.pause.end()
            container.pause = None

    def run_ends(self, container, code=1, ran_s=0.0):
        """A run ends."""
        self.end(container, code, ran_s)
        if container.state is State.RESTARTING:
            self.await_restart(container)

    def end(self, container, code=1, ran_s=0.0):
        """A run's end goes on record; what follows is for the caller."""
        lifecycle.end_run(
            self,
            container,
            exit_code=code,
            finished_ns=container.life.started_ns + int(ran_s * 1e9),
            timeline=container.life.timeline,
        )

    def on_disk(self, container):
        return store.load(self.directory(container)).life

    def actions(self):
        return [event.action for event in self.events.past()]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A context manager: an engine and a container of it that runs."""

    @contextlib.asynccontextmanager
    async def make(name="always", retries=0, state=State.RUNNING, **delays):
        async with anyio.create_task_group() as tasks:
            engine = FakeEngine(tmp_path, tasks)

            async def start(_engine, container, again=False):
                await engine.start(container, again)

            monkeypatch.setattr(restarting.start, "start", start)
            monkeypatch.setattr(restarting, "time", CLOCK)
            monkeypatch.setattr(lifecycle, "time", CLOCK)
            config = ContainerConfig(
                image="host",
                image_id="sha256:00",
                restart=RestartPolicy(name, retries, **(delays or EXACT)),
            )
            life = Life(state=state, started_ns=wall_ns(), boot_id=BOOT)
            container = Container("ab" * 32, "finch", config, 1, life)
            engine.directory(container).mkdir()
            yield engine, container
            tasks.cancel_scope.cancel()

    return make


async def test_it_is_started_again_after_its_delay_and_the_delay_doubles(world):
    async with world(delay_ms=100, max_delay_ms=10_000) as (engine, container):
        waits = []
        for _ in range(4):
            engine.run_ends(container)
            assert container.state is State.RESTARTING
            assert engine.on_disk(container).restart_at_ns > wall_ns()
            before = anyio.current_time()
            await trio.testing.wait_all_tasks_blocked()
            await anyio.sleep(2)
            assert container.state is State.RUNNING
            waits.append(engine.starts[-1][0] - (before - engine.began))
        assert [again for _, again in engine.starts] == [True] * 4
        for wait, delay in zip(waits, (0.1, 0.2, 0.4, 0.8), strict=True):
            assert delay - 0.001 <= wait <= 1.25 * delay + 0.001
        assert container.life.restart_count == 4
        assert container.life.restart_at_ns == 0
        assert engine.running == 0, "a task was left"


async def test_the_count_of_on_failure_ends_it(world):
    async with world("on-failure", 2) as (engine, container):
        for _ in range(2):
            engine.run_ends(container, 5)
            await anyio.sleep(1)
            assert container.state is State.RUNNING
        engine.run_ends(container, 5)
        assert container.state is State.EXITED
        assert (container.life.restart_count, container.life.exit_code) == (2, 5)


async def test_one_that_was_asked_to_end_stays_ended(world):
    async with world() as (engine, container):
        lifecycle.keep(engine, container, stopped_by_request=True)
        assert engine.on_disk(container).stopped_by_request, "a dying supervisor would forget it"
        engine.run_ends(container, 143)
        assert container.state is State.EXITED


@pytest.mark.parametrize("how", ["stop", "kill", "SIGTERM"])
async def test_stop_and_kill_end_the_waiting_and_are_remembered(world, how):
    async with world() as (engine, container):
        engine.run_ends(container, 7)
        notice = waiter(container, "not-running")
        if how == "stop":
            assert await end_requests.stop(engine, container, None, None)
            assert "stop" in engine.actions()
        else:
            await end_requests.kill(engine, container, "SIGKILL" if how == "kill" else how)
        assert (container.state, container.life.exit_code) == (State.EXITED, 7)
        assert (await notice.result()).code == 7
        assert engine.ends.last(container.id).code == 7
        assert engine.on_disk(container).stopped_by_request
        await anyio.sleep(5)
        assert engine.starts == []
        assert engine.running == 0


@pytest.mark.parametrize("holder", ["lane", "lock"])
async def test_a_stop_is_obeyed_when_the_delay_is_over_and_the_attempt_waits_for_its_turn(
    world, holder
):
    async with world() as (engine, container), contextlib.AsyncExitStack() as busy:
        if holder == "lane":
            for _ in range(2):
                await busy.enter_async_context(engine.limits.restarts)
        else:
            await busy.enter_async_context(container.phase_lock)
        engine.run_ends(container)
        await anyio.sleep(1)
        assert engine.starts == []
        restarting.give_up(engine, container, by_request=True)
        await busy.aclose()
        await anyio.sleep(1)
        assert engine.starts == []
        assert container.state is State.EXITED
        assert engine.running == 0


async def test_a_signal_that_asks_for_no_end_does_not_end_the_waiting(world):
    async with world() as (engine, container):
        engine.run_ends(container, 7)
        with pytest.raises(Conflict, match="is restarting"):
            await end_requests.kill(engine, container, "SIGHUP")
        await anyio.sleep(1)
        assert container.state is State.RUNNING


class FakeRun:
    """A run whose process ends at the signal; its end is put on record as `live` does."""

    def __init__(self, engine, container):
        self.exited, self.ended = anyio.Event(), anyio.Event()
        self.escalation = None
        self.signals = []
        self._engine, self._container = engine, container

    def send_signal(self, number):
        self.signals.append(number)
        self._engine.begin(self._end, 128 + number)

    async def _end(self, code):
        self.exited.set()
        await anyio.sleep(1)
        self._container.run = None
        self._engine.run_ends(self._container, code)
        self.ended.set()


async def test_one_that_is_ended_for_a_restart_is_started_again_whatever_its_policy(world):
    async with world("no") as (engine, container):
        run = container.run = FakeRun(engine, container)
        await end_requests.end_for_restart(engine, container, None, None)
        assert run.signals == [15]
        assert container.state is State.RESTARTING
        await anyio.sleep(1)
        assert container.state is State.RUNNING
        assert not container.life.restart_asked
        engine.run_ends(container, 1)
        assert container.state is State.EXITED, "once, and no policy for ever"


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_one_that_removes_itself_is_removed_when_the_restart_asked_for_will_not_come(
    world, how
):
    async with world("no") as (engine, container):
        container.config = msgspec.structs.replace(container.config, auto_remove=True)
        container.run = FakeRun(engine, container)
        await end_requests.end_for_restart(engine, container, None, None)
        assert (container.state, engine.removed) == (State.RESTARTING, [])
        if how == "stop":
            await end_requests.stop(engine, container, None, None)
        else:
            await end_requests.kill(engine, container, "SIGKILL")
        await trio.testing.wait_all_tasks_blocked()
        assert engine.removed == [container]


async def test_a_stop_that_comes_while_one_ends_for_a_restart_is_stronger(world):
    async with world("no") as (engine, container):
        container.run = FakeRun(engine, container)
        async with anyio.create_task_group() as both:
            both.start_soon(end_requests.end_for_restart, engine, container, None, None)
            await anyio.sleep(0.5)
            both.start_soon(end_requests.stop, engine, container, None, None)
        assert container.state is State.EXITED


async def test_a_start_ends_the_waiting_and_begins_the_counts_anew(world):
    async with world(delay_ms=60_000, max_delay_ms=60_000) as (engine, container):
        engine.run_ends(container)
        async with container.phase_lock:
            await engine.start(container, again=False)
        assert container.life.restart_count == 0
        await trio.testing.wait_all_tasks_blocked()
        assert engine.running == 0, "the old waiting is still there"
        await anyio.sleep(100)
        assert len(engine.starts) == 1


async def test_a_start_by_hand_that_fails_leaves_the_waiting(world):
    async with world() as (engine, container):
        engine.run_ends(container)
        engine.fails = [StartFailed("no", 127)]
        with pytest.raises(StartFailed):
            async with container.phase_lock:
                await engine.start(container, again=False)
        assert container.state is State.RESTARTING
        await anyio.sleep(1)
        assert container.state is State.RUNNING


async def test_attempts_that_fail_go_on_with_growing_delays_and_say_why(world):
    async with world(delay_ms=1000, max_delay_ms=4000) as (engine, container):
        engine.fails = [StartFailed("not found", 127), EngineFault("no descriptors"), None]
        engine.run_ends(container)
        await anyio.sleep(1.3)
        assert container.state is State.RESTARTING
        assert (container.life.exit_code, container.life.error) == (127, "not found")
        assert container.life.restart_delay_ms == 2000
        await anyio.sleep(2.6)
        assert (container.life.exit_code, container.life.error) == (128, "no descriptors")
        await anyio.sleep(5)
        assert container.state is State.RUNNING
        assert container.life.restart_count == 3


async def test_attempts_that_fail_count_for_on_failure_and_waiters_are_told(world):
    async with world("on-failure", 2) as (engine, container):
        engine.fails = [StartFailed("not found", 127)] * 5
        engine.run_ends(container, 1)
        notice = waiter(container, "next-exit")
        await anyio.sleep(1)
        assert len(engine.starts) == 2
        assert container.state is State.EXITED
        told = await notice.result()
        assert (told.code, told.error) == (127, "not found")
        assert engine.on_disk(container).state is State.EXITED


async def test_one_that_joins_what_was_removed_is_not_tried_again(world):
    async with world() as (engine, container):
        engine.fails = [DonorNotRunning("it does not run"), DonorMissing("finch")]
        engine.run_ends(container)
        notice = waiter(container, "not-running")
        assert (await notice.result()).error == "No such container: finch"
        assert (container.state, len(engine.starts)) == (State.EXITED, 2)
        assert engine.on_disk(container).error == "No such container: finch"


async def test_a_full_disk_does_not_end_the_restarting(world, monkeypatch):
    async with world() as (engine, container):
        save, room = store.save, False

        def saving(directory, one):
            if not room:
                raise OSError(28, "No space left on device")
            save(directory, one)

        monkeypatch.setattr(store, "save", saving)
        engine.fails = [EngineFault("no room")] * 2
        engine.run_ends(container)
        assert container.state is State.RESTARTING
        assert not container.is_written
        await anyio.sleep(0.15)
        assert container.state is State.RESTARTING
        room = True
        await anyio.sleep(1)
        assert container.state is State.RUNNING


async def test_an_end_that_had_no_room_is_still_owed_to_the_shim_when_there_is_room(
    world, monkeypatch
):
    """The shim takes no second process before it was told that the first one's end is on record."""
    async with world() as (engine, container):

        def full(directory, one):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr(store, "save", full)
            engine.run_ends(container)
        engine.fails = [EngineFault("no room")]
        await anyio.sleep(0.15)
        assert engine.on_disk(container).error == "no room"
        assert not container.is_written


async def test_no_policy_of_another_kind_and_no_shorter_limit_is_overheard_while_waiting(world):
    async with world(delay_ms=60_000, max_delay_ms=60_000) as (engine, container):
        engine.run_ends(container)
        await change_policy(engine, container, RestartPolicy("always", 0, 1000, 1000))
        await anyio.sleep(1.1)
        assert container.state is State.RUNNING
        engine.run_ends(container)
        await change_policy(engine, container, RestartPolicy("no"))
        assert container.state is State.EXITED
        assert store.load(engine.directory(container)).config.restart.name == "no"
        await anyio.sleep(100)
        assert len(engine.starts) == 1


async def test_an_update_lets_an_attempt_under_way_end_first(world):
    """Or the container would be `exited` by the update, and run by the attempt, for ever after."""
    async with world() as (engine, container):
        engine.run_ends(container)
        async with anyio.create_task_group() as both, container.phase_lock:
            # An attempt holds the lock as this does.
            both.start_soon(change_policy, engine, container, RestartPolicy("no"))
            await trio.testing.wait_all_tasks_blocked()
            assert container.state is State.RESTARTING
            await engine.start(container, again=True)
        assert container.state is State.RUNNING
        assert container.config.restart.name == "no"


async def test_a_policy_that_cannot_be_written_is_not_taken(world, monkeypatch):
    async with world() as (engine, container):

        def full(directory, one):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(store, "save", full)
        with pytest.raises(EngineFault, match="No space left"):
            await change_policy(engine, container, RestartPolicy("no"))
        assert container.config.restart.name == "always"


async def test_an_update_that_changes_nothing_is_told_too(world):
    async with world() as (engine, container):
        await change_policy(engine, container, container.config.restart)
        assert engine.actions() == ["update"]


async def test_one_that_removes_itself_takes_no_policy(world):
    async with world("no") as (engine, container):
        container.config = msgspec.structs.replace(container.config, auto_remove=True)
        with pytest.raises(Conflict, match="AutoRemove is enabled"):
            await change_policy(engine, container, RestartPolicy("always"))


async def test_a_new_supervisor_goes_on_with_what_is_left_of_the_delay(world):
    async with world(delay_ms=30_000, max_delay_ms=30_000) as (engine, container):
        engine.run_ends(container)
        # As if the supervisor had died then, and 20 seconds had passed.
        container.pause.end()
        container.pause = None
        restart_at_ns = container.life.restart_at_ns - 20 * 10**9
        container.life = msgspec.structs.replace(container.life, restart_at_ns=restart_at_ns)
        restarting.resume(engine, container)
        await anyio.sleep(9)
        assert engine.starts == []
        await anyio.sleep(1.5)
        assert container.state is State.RUNNING
        assert container.life.restart_count == 1


async def test_within_one_boot_nothing_that_had_ended_comes_back(world):
    async with world(state=State.EXITED) as (engine, container):
        restarting.resume(engine, container)
        await anyio.sleep(100)
        assert container.state is State.EXITED


@pytest.mark.parametrize(
    ("name", "stopped", "comes_back"),
    [
        ("always", True, True),
        ("unless-stopped", True, False),
        ("unless-stopped", False, True),
        ("on-failure", False, False),
        ("no", False, False),
    ],
)
async def test_after_a_reboot_those_come_back_whose_policy_says_so(
    world, name, stopped, comes_back
):
    async with world(name, state=State.EXITED) as (engine, container):
        container.life = msgspec.structs.replace(
            container.life, stopped_by_request=stopped, restart_count=9
        )
        engine.boot_id = "boot-two"
        restarting.resume(engine, container)
        await anyio.sleep(1)
        assert container.state is (State.RUNNING if comes_back else State.EXITED)
        if comes_back:
            assert container.life.restart_count == 0
            assert container.life.boot_id == "boot-two"


async def test_stopped_while_it_was_to_come_back_after_a_reboot_it_stays_so_in_that_boot(world):
    async with world(state=State.EXITED) as (engine, container):
        engine.boot_id = "boot-two"
        engine.fails = [StartFailed("no", 127)]
        restarting.resume(engine, container)
        await anyio.sleep(0.01)
        await end_requests.stop(engine, container, None, None)
        assert container.state is State.EXITED
        restarting.resume(engine, container)  # the supervisor has died, the machine has not
        await anyio.sleep(100)
        assert container.state is State.EXITED


@pytest.mark.parametrize("name", ["no", "on-failure", "always", "unless-stopped"])
async def test_what_ran_when_the_machine_went_down(world, name):
    async with world(name) as (engine, container):
        engine.boot_id = "boot-two"
        engine.run_ends(container, 255)
        await anyio.sleep(1)
        assert container.state is (State.EXITED if name == "no" else State.RUNNING)


async def test_many_restarts_at_once_leave_starts_to_others(world):
    async with world() as (engine, container):
        taken = 0
        most = 0

        async def start(_engine, _container, again=False):
            nonlocal taken, most
            taken += 1
            most = max(most, taken)
            await anyio.sleep(1)
            taken -= 1
            raise EngineFault("never mind")

        restarting.start.start = start  # the fixture's patch, undone with it
        for number in range(40):
            other = Container(f"{number:064x}", f"c{number}", container.config, 1, Life())
            other.life = Life(state=State.RUNNING, boot_id=BOOT)
            engine.directory(other).mkdir()
            engine.run_ends(other)
        await anyio.sleep(1.5)
        assert (most, taken) == (2, 0), "each is followed by a rest of its own length"


steps = st.lists(
    st.one_of(
        st.tuples(st.just("end"), st.sampled_from([0, 1, 137])),
        st.tuples(st.just("fail"), st.integers(1, 3)),
        st.tuples(st.just("pass"), st.sampled_from([0.05, 0.3, 5.0])),
        st.tuples(st.sampled_from(["stop", "kill", "start", "die", "reboot"]), st.none()),
        st.tuples(
            st.just("update"),
            st.sampled_from(
                [
                    RestartPolicy("no"),
                    RestartPolicy("always", **EXACT),
                    RestartPolicy("on-failure", 2, 10, 1000),
                    RestartPolicy("unless-stopped", 0, 1000, 3000),
                ]
            ),
        ),
    ),
    max_size=14,
)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_whatever_happens_while_it_loops(steps):
    """After each step: one waiting or none, what is told is true, and a stop is obeyed."""

    async def main(root):
        async with anyio.create_task_group() as tasks:
            engine = FakeEngine(root, tasks)
            config = ContainerConfig(
                image="host", image_id="sha256:00", restart=RestartPolicy("always", **EXACT)
            )
            life = Life(state=State.RUNNING, started_ns=wall_ns(), boot_id=BOOT)
            container = Container("ab" * 32, "finch", config, 1, life)
            engine.directory(container).mkdir()
            lifecycle.keep(engine, container)

            async def start(_engine, one, again=False):
                await engine.start(one, again)

            patch.setattr(restarting.start, "start", start)
            patch.setattr(restarting, "time", CLOCK)
            patch.setattr(lifecycle, "time", CLOCK)
            forbidden = False
            for what, value in steps:
                starts = len(engine.starts)
                await take(engine, container, what, value)
                await trio.testing.wait_all_tasks_blocked()
                if what in ("stop", "kill") and container.state is State.EXITED:
                    forbidden = True
                elif what in ("start", "reboot"):
                    forbidden = False
                assert not (forbidden and len(engine.starts) > starts)
                check(engine, container)
            engine.fails.clear()
            await anyio.sleep(20)
            check(engine, container)
            assert container.state is not State.RESTARTING
            assert engine.running == 0
            tasks.cancel_scope.cancel()

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        anyio.run(
            main,
            Path(folder),
            backend="trio",
            backend_options={"clock": trio.testing.MockClock(autojump_threshold=0)},
        )


async def take(engine, container, what, value):
    """One step of the test above."""
    alive = container.state is State.RUNNING
    match what:
        case "end" if alive:
            engine.run_ends(container, value)
        case "fail":
            engine.fails = [StartFailed("no", 127)] * value
        case "pass":
            await anyio.sleep(value)
        case "stop" | "kill" if not alive:
            with contextlib.suppress(Conflict):
                if what == "stop":
                    await end_requests.stop(engine, container, None, None)
                else:
                    await end_requests.kill(engine, container, "SIGKILL")
        case "start" if not alive:
            with contextlib.suppress(StartFailed):
                async with container.phase_lock:
                    await engine.start(container, again=False)
        case "update":
            await change_policy(engine, container, value)
        case "die" | "reboot":
            # What a new supervisor knows is what is on disk.
            if container.pause is not None:
                container.pause.end()
                container.pause = None
            if what == "reboot":
                engine.boot_id = engine.boot_id + "'"
            known = store.load(engine.directory(container))
            assert known.life.state is container.state
            container.life, container.config = known.life, known.config
            if container.state is State.RUNNING and what == "reboot":
                engine.end(container, 255)
            restarting.resume(engine, container)


def check(engine, container):
    """What holds between any two steps."""
    waits = container.state is State.RESTARTING
    assert (container.pause is not None) == waits
    assert (container.life.restart_at_ns > 0) == waits
    assert engine.on_disk(container).state is container.state
    # One that has just restarted rests; no other task is there without a waiting.
    assert engine.running <= 1 + waits
    policy = container.config.restart
    if waits:
        assert policy.name != "no"
        assert container.life.restart_count <= (policy.max_retries or 10**6)
