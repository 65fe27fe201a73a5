"""The task that probes a running container, with scripted probes and a clock that jumps."""

from types import SimpleNamespace

import anyio
import pytest
import trio.testing

from supervisor import health_watch, lifecycle, probing
from supervisor.container import Container, ContainerConfig, Health, HealthCheck, Life, Probe
from supervisor.counts import Counts
from supervisor.errors import EngineFault
from supervisor.events import EventBus
from supervisor.limits import Limits
from supervisor.pausing import Pauses
from supervisor.states import State

pytestmark = pytest.mark.anyio
S = 10**9
EPOCH = 1_700_000_000 * S


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Bed:
    """An engine with one container, whose probes give what a test says."""

    def __init__(self, monkeypatch, tmp_path, tasks, check, results, health=None, started_ago_s=0):
        self.tasks = tasks
        self.results = list(results)
        self.probed_at = []
        self.acted = []
        self.saved = []
        self.limits = Limits()
        self.counts = Counts()
        self.pauses = Pauses()
        self.events = EventBus()
        self.cgroups = SimpleNamespace(remove_below=self._remove)
        self.began = anyio.current_time()
        life = Life(state=State.RUNNING, started_ns=EPOCH - started_ago_s * S, health=health)
        config = ContainerConfig(image="host", image_id="sha256:1", health=check)
        self.container = Container("c" * 64, "bird", config, 1, life)
        self.run = SimpleNamespace(exited=anyio.Event(), kill_all=lambda: self._act("kill"))
        self.container.run = self.run
        monkeypatch.setattr(health_watch.time, "time_ns", self.now)
        self.fault = None
        monkeypatch.setattr(probing, "probe", self._probe)
        monkeypatch.setattr(lifecycle, "keep", self._keep)

    def now(self):
        """The wall clock, which goes with the event loop's."""
        return EPOCH + int((anyio.current_time() - self.began) * S)

    def begin(self, work, *given):
        self.tasks.start_soon(work, *given)

    def _remove(self, place):
        self.swept = place

    def _keep(self, engine, container, **fields):
        container.life = type(container.life)(
            **{
                **{f: getattr(container.life, f) for f in container.life.__struct_fields__},
                **fields,
            }
        )
        self.saved.append(fields)

    async def _probe(self, engine, container, timeout_ns):
        await anyio.lowlevel.checkpoint()
        self.probed_at.append(round(anyio.current_time() - self.began, 1))
        result = self.results.pop(0)
        if not self.results:
            self.run.exited.set()
        if isinstance(result, Exception):
            raise result
        kind, code = (
            result
            if isinstance(result, tuple)
            else ("success" if not result else "failure", result)
        )
        now = self.now()
        return probing.Outcome(Probe(now, now, code), kind, killed=code == 137)

    def _act(self, action):
        self.acted.append(action)
        if self.fault:
            raise self.fault

    async def restart_unhealthy(self, container):
        self._act("restart")

    async def stop(self, container):
        self._act("stop")

    @property
    def health(self):
        return self.container.life.health

    def heard(self):
        return [event.action for event in self.events.past()]


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """Watch until the last of `results`, which is not taken into account as the container ends."""

    async def watch(check, results, **more):
        async with anyio.create_task_group() as tasks:
            bed = Bed(monkeypatch, tmp_path, tasks, check, results, **more)
            health_watch.begin(bed, bed.container, bed.run)
        assert bed.limits.probes.watched == 0
        return bed

    return watch


async def test_it_probes_at_each_interval_and_says_what_changed(watched):
    check = HealthCheck(("CMD", "x"), interval=10 * S, retries=2)
    bed = await watched(check, [0, 0, 1, 1, 1, 0, None])
    assert bed.probed_at == [10, 20, 30, 40, 50, 60, 70]
    assert bed.heard() == [f"health_status: {s}" for s in ("healthy", "unhealthy", "healthy")]
    assert (bed.health.status, len(bed.health.probes)) == ("healthy", 5)
    assert [phase.note for phase in bed.container.life.timeline.phases] == [
        "healthy",
        "unhealthy",
        "healthy",
    ]
    assert bed.counts.probes == {"success": 3, "failure": 3}


async def test_the_start_interval_holds_until_the_first_success(watched):
    times = {"interval": 30 * S, "start_period": 10**6 * S, "start_interval": 2 * S}
    bed = await watched(HealthCheck(("CMD", "x"), **times), [1, 1, 1, 0, 0, None])
    assert bed.probed_at == [2, 4, 6, 8, 38, 68]


async def test_the_schedule_goes_on_where_the_last_supervisor_left_it(watched):
    known = Health("healthy", 1, (Probe(EPOCH - 8 * S, EPOCH - 7 * S, 1),))
    check = HealthCheck(("CMD", "x"), interval=10 * S, retries=2)
    bed = await watched(check, [1, None], health=known, started_ago_s=1000)
    assert bed.probed_at == [3, 13]
    assert bed.health.status == "unhealthy"


async def test_what_an_earlier_supervisor_had_under_way_is_swept(watched):
    bed = await watched(HealthCheck(("CMD", "x")), [None])
    assert bed.swept == "c" * 64 + "/health"


async def test_the_result_of_a_container_that_has_ended_says_nothing(watched):
    bed = await watched(HealthCheck(("CMD", "x"), retries=1), [1])
    assert bed.health == Health()
    assert bed.heard() == []


async def test_a_probe_that_dies_with_its_container_says_nothing(monkeypatch, tmp_path):
    """Its pid namespace is killed before the end of its init is told."""
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, HealthCheck(("CMD", "x"), retries=1), [137, None])
        health_watch.begin(bed, bed.container, bed.run)
        await anyio.sleep(30.5)
        bed.run.exited.set()
    assert bed.probed_at == [30]
    assert bed.health.failing_streak == 0


async def test_a_probe_that_somebody_kills_has_failed(watched):
    bed = await watched(HealthCheck(("CMD", "x"), retries=1), [137, None])
    assert bed.health.status == "unhealthy"


@pytest.mark.parametrize("result", [("lost", -1), OSError(24, "Too many open files")])
async def test_what_we_lack_ourselves_is_no_failure_of_the_container(watched, result):
    bed = await watched(HealthCheck(("CMD", "x"), interval=10 * S), [result, result, 0, None])
    assert bed.health.failing_streak == 0
    assert bed.probed_at == [10, 11, 12, 22]


async def test_a_paused_container_is_left_alone(monkeypatch, tmp_path):
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, HealthCheck(("CMD", "x")), [])
        bed.container.life.state = State.PAUSED
        health_watch.begin(bed, bed.container, bed.run)
        await anyio.sleep(100)
        assert bed.probed_at == []
        bed.run.exited.set()


async def test_the_schedule_begins_anew_when_a_pause_is_over(monkeypatch, tmp_path):
    check = HealthCheck(("CMD", "x"), interval=10 * S)
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, check, [0, None])
        health_watch.begin(bed, bed.container, bed.run)
        await anyio.sleep(5)
        bed.container.life.state = State.PAUSED
        await anyio.sleep(995)
        assert bed.probed_at == []
        bed.container.life.state = State.RUNNING
        bed.pauses.ended(bed.container)
    assert bed.probed_at == [1010, 1020]


async def test_a_probe_that_was_paused_says_nothing(monkeypatch, tmp_path):
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, HealthCheck(("CMD", "x")), [1, 0, None])
        probe = probing.probe

        async def paused_meanwhile(*given):
            bed.pauses.begun(bed.container)
            return await probe(*given)

        monkeypatch.setattr(probing, "probe", paused_meanwhile)
        health_watch.begin(bed, bed.container, bed.run)
    assert bed.health.probes == ()
    assert not bed.pauses._noting  # nothing is remembered of it


async def test_it_ends_with_the_container(monkeypatch, tmp_path):
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, HealthCheck(("CMD", "x")), [])
        health_watch.begin(bed, bed.container, bed.run)
        await anyio.sleep(5)
        bed.run.exited.set()
    assert anyio.current_time() - bed.began == 5
    assert bed.probed_at == []


async def test_without_a_check_nothing_is_begun(watched):
    for check in (None, HealthCheck(("NONE",))):
        bed = await watched(check, [])
        assert (bed.probed_at, bed.saved) == ([], [])


@pytest.mark.parametrize("action", ["kill", "restart", "stop"])
async def test_an_unhealthy_container_is_acted_on_at_each_failure(watched, action):
    check = HealthCheck(("CMD", "x"), retries=2, on_failure=action)
    bed = await watched(check, [1, 1, 1, 0, 1, None])
    assert bed.acted == [action, action]


async def test_one_that_is_stopped_already_is_left_to_end(monkeypatch, tmp_path):
    check = HealthCheck(("CMD", "x"), retries=1, on_failure="kill")
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, check, [1, 1, None])
        bed.container.life.stopped_by_request = True
        health_watch.begin(bed, bed.container, bed.run)
    assert bed.health.status == "unhealthy"
    assert bed.acted == []


async def test_an_action_that_fails_is_tried_again_with_the_next_failure(monkeypatch, tmp_path):
    check = HealthCheck(("CMD", "x"), retries=1, on_failure="stop")
    async with anyio.create_task_group() as tasks:
        bed = Bed(monkeypatch, tmp_path, tasks, check, [1, 1, None])
        bed.fault = EngineFault("it is in uninterruptible sleep")
        health_watch.begin(bed, bed.container, bed.run)
    assert bed.acted == ["stop", "stop"]
