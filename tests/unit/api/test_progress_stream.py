"""Long work behind a request: its lines, its errors before and after the first, its end."""

import errno
import json

import anyio
import pytest

from supervisor.api import imports
from supervisor.api.progress_stream import streamed
from supervisor.errors import Conflict

pytestmark = pytest.mark.anyio
PATH = "/images/create?fromImage=x"


@pytest.fixture
def working(engine_and_client, monkeypatch):
    """Gives an engine one of whose requests does the work given."""

    def begin(work):
        async def answer(engine, request):
            await streamed(request, work)

        monkeypatch.setattr(imports.pulls, "pull", answer)
        return engine_and_client()

    return begin


async def test_lines_and_then_the_next_request(working):
    async def work(progress):
        progress.say("one")
        await anyio.wait_all_tasks_blocked()
        progress.say("two")

    async with working(work) as (_, connect), connect() as client:
        for _ in range(2):
            answer = await client.request("POST", PATH)
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert answer.body == b'{"status":"one"}\r\n{"status":"two"}\r\n'


async def test_nothing_said_is_an_empty_answer(working):
    async def work(progress):
        await anyio.lowlevel.checkpoint()

    async with working(work) as (_, connect), connect() as client:
        answer = await client.request("POST", PATH)
        assert (answer.status, answer.body) == (200, b"")


async def test_a_refusal_before_the_first_line_is_a_status(working):
    async def work(progress):
        raise Conflict("not now")

    async with working(work) as (_, connect), connect() as client:
        answer = await client.request("POST", PATH)
        assert (answer.status, answer.message) == (409, "not now")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Conflict("not now"), "not now"),
        (ValueError("oops"), "internal error: ValueError: oops"),
        (
            OSError(errno.EROFS, "Read-only file system", "/nest"),
            "the disk is read-only: nothing was changed: /nest",
        ),
    ],
)
async def test_afterwards_it_is_a_line(working, error, words):
    async def work(progress):
        progress.say("one")
        raise error

    async with working(work) as (_, connect), connect() as client:
        answer = await client.request("POST", PATH)
        assert answer.status == 200
        *_, last = answer.body.splitlines()
        assert json.loads(last) == {"errorDetail": {"message": words}, "error": words}


@pytest.mark.parametrize("said", [False, True])
async def test_a_client_that_hangs_up_cancels_it(working, said):
    begun, ended = anyio.Event(), anyio.Event()

    async def work(progress):
        if said:
            progress.say("one")
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with working(work) as (_, connect), connect() as client:
        await client.begin("POST", PATH)
        await begun.wait()
        await client.hang_up()
        with anyio.fail_after(5):
            await ended.wait()


async def test_a_client_that_does_not_read_holds_nothing_up(working):
    done = anyio.Event()

    async def work(progress):
        for number in range(50):
            progress.say(f"{number} " + "x" * 100_000)
            await anyio.lowlevel.checkpoint()
        done.set()

    async with working(work) as (_, connect), connect() as client:
        await client.begin("POST", PATH)
        with anyio.fail_after(5):
            await done.wait()
        answer = await client.answer()
        assert len(answer.body.splitlines()) == 50
