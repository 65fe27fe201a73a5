"""An image that is given up leaves nothing, also where no thread is free for that."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

from supervisor import image_making

pytestmark = pytest.mark.anyio


async def test_what_finds_no_thread_is_taken_back_later(monkeypatch):
    """Found: behind eight slow removals a job was forgotten, with its process and descriptors."""
    monkeypatch.setattr(image_making, "ABORT_SECONDS", 0.01)
    aborted = anyio.Event()
    slow = object()
    async with anyio.create_task_group() as tasks:
        removals = anyio.CapacityLimiter(1)
        engine = SimpleNamespace(limits=SimpleNamespace(removals=removals), begin=tasks.start_soon)
        job = SimpleNamespace(abort=lambda: anyio.from_thread.run_sync(aborted.set))
        with anyio.CancelScope() as given_up:
            async with image_making.making(engine, lambda: job):
                await removals.acquire_on_behalf_of(slow)
                given_up.cancel()
                await anyio.sleep_forever()
        assert not aborted.is_set()
        removals.release_on_behalf_of(slow)
        with anyio.fail_after(30):
            await aborted.wait()
