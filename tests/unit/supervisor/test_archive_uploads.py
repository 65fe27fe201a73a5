"""Who writes into a container when: turns, a start that waits, a removal that does not."""

import anyio
import pytest

from supervisor.archive_uploads import Uploads

pytestmark = pytest.mark.anyio


async def test_one_at_a_time_and_a_start_in_between():
    uploads, seen = Uploads(), []
    gate = anyio.Event()

    async def upload(name):
        async with uploads.turn("c"):
            seen.append(name)
            await gate.wait()

    async def start():
        await uploads.over("c")
        seen.append("start")

    async with anyio.create_task_group() as group:
        for work in (lambda: upload("one"), start, lambda: upload("two")):
            group.start_soon(work)
            await anyio.wait_all_tasks_blocked()
        assert seen == ["one"]
        assert uploads.somebody_waits("c")
        gate.set()
    assert seen == ["one", "start", "two"]
    assert len(uploads) == 0


async def test_nobody_waits_for_another_container():
    uploads = Uploads()
    async with uploads.turn("c"):
        with anyio.fail_after(1):
            await uploads.over("other")
            await uploads.end("other")
            async with uploads.turn("third"):
                pass
        assert not uploads.somebody_waits("c")


async def test_a_removal_ends_an_upload_and_waits_until_it_has_let_go():
    uploads, seen = Uploads(), []

    async def upload():
        async with uploads.turn("c") as scope:
            try:
                await anyio.sleep_forever()
            finally:
                seen.append("let go")
        assert scope.cancelled_caught
        seen.append("told")

    async with anyio.create_task_group() as group:
        group.start_soon(upload)
        await anyio.wait_all_tasks_blocked()
        await uploads.end("c")
        assert seen[0] == "let go"
    assert seen == ["let go", "told"]


async def test_one_that_is_cancelled_while_it_waits_leaves_nothing():
    uploads = Uploads()

    async def upload():
        async with uploads.turn("c"):
            raise AssertionError("not its turn")

    async with uploads.turn("c"), anyio.create_task_group() as group:
        group.start_soon(upload)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert len(uploads) == 0
