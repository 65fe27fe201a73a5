"""The one sampler: when it reads, and who gets what, under a clock that jumps."""

import anyio
import pytest
import trio.testing

from supervisor.container import Container, ContainerConfig
from supervisor.stats import Sampler

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def container(name):
    return Container(name, name, ContainerConfig(image="host", image_id="sha256:1"), 1)


A, B, ENDED = container("a"), container("b"), container("ended")


class Bed:
    def __init__(self, tasks, slow_s=0.0):
        self.reads = []
        self.fails = []
        self.slow_s = slow_s
        self.begun = 0
        self.began = anyio.current_time()
        self._tasks = tasks
        self.sampler = Sampler(self._read, self._begin)

    def now(self):
        return round(anyio.current_time() - self.began, 3)

    def _begin(self, work):
        self.begun += 1
        self._tasks.start_soon(work)

    async def _read(self, containers):
        self.reads.append((self.now(), [one.id for one in containers]))
        await anyio.sleep(self.slow_s)
        if self.fails:
            raise self.fails.pop()
        return {one.id: f"{one.id}@{self.now()}" for one in containers if one is not ENDED}


@pytest.fixture
async def bed():
    async with anyio.create_task_group() as tasks:
        yield Bed(tasks)


async def test_it_reads_once_a_second_and_only_while_somebody_listens(bed):
    assert (bed.reads, bed.begun) == ([], 0)
    with bed.sampler.listening(lambda: [A, ENDED]) as listener:
        got = [await listener.next() for _ in range(3)]
    assert got == [{"a": "a@0.0"}, {"a": "a@1.0"}, {"a": "a@2.0"}]
    await anyio.sleep(100)
    assert [when for when, _ in bed.reads] == [0, 1, 2]
    with bed.sampler.listening(lambda: [A]) as listener:
        assert await listener.next() == {"a": "a@102.0"}
    assert bed.begun == 2


async def test_a_hundred_listeners_cost_one_reading(bed):
    got = []

    async def listen(chosen):
        with bed.sampler.listening(lambda: chosen) as listener:
            got.append([await listener.next() for _ in range(2)])

    async with anyio.create_task_group() as many:
        for number in range(100):
            many.start_soon(listen, [A] if number % 2 else [A, B])
    assert bed.reads == [(0, ["a", "b"]), (1, ["a", "b"])]
    assert got.count([{"a": "a@0.0"}, {"a": "a@1.0"}]) == 50


async def test_who_comes_between_two_rounds_need_not_wait(bed):
    with bed.sampler.listening(lambda: [A]) as first:
        await first.next()
        await anyio.sleep(0.9)
        with bed.sampler.listening(lambda: [A, B]) as second:
            assert await second.next() == {"a": "a@0.9", "b": "b@0.9"}
            assert bed.now() == 0.9
            # Not again at once: what would be new after a tenth of a second says little.
            assert await second.next() == {"a": "a@2.0", "b": "b@2.0"}
        assert await first.next() == {"a": "a@2.0"}
    # What was read at 0.9 was good enough for the round at 1.0.
    assert [when for when, _ in bed.reads] == [0, 0.9, 2]


async def test_who_is_slow_gets_the_newest_and_no_queue(bed):
    with bed.sampler.listening(lambda: [A]) as listener:
        await listener.next()
        await anyio.sleep(50.5)
        assert await listener.next() == {"a": "a@50.0"}
        assert await listener.next() == {"a": "a@51.0"}


async def test_a_reading_that_fails_costs_a_round(bed):
    bed.fails = [OSError(24, "Too many open files")]
    with bed.sampler.listening(lambda: [A]) as listener:
        assert await listener.next() == {"a": "a@1.0"}


async def test_a_slow_machine_is_given_rest():
    async with anyio.create_task_group() as tasks:
        bed = Bed(tasks, slow_s=3.0)
        with bed.sampler.listening(lambda: [A]) as listener:
            for _ in range(3):
                await listener.next()
    assert [when for when, _ in bed.reads] == [0, 3.5, 7]


async def test_containers_are_chosen_anew_at_each_round(bed):
    chosen = [A]
    with bed.sampler.listening(lambda: chosen) as listener:
        assert set(await listener.next()) == {"a"}
        chosen[:] = [B]
        assert set(await listener.next()) == {"b"}
        await listener.next()
        await listener.next()
        assert set(bed.sampler._samples) == {"b"}
    await anyio.sleep(2)
    assert not bed.sampler._samples
