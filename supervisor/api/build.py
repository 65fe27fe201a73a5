"""POST /build: an image from a Dockerfile and its context."""

from __future__ import annotations

import contextlib

from supervisor.api import build_options
from supervisor.api.messages import Request
from supervisor.api.progress_stream import streamed
from supervisor.building import context, work
from supervisor.building.staging import staged
from supervisor.engine import Engine
from supervisor.progress import Progress


async def build(engine: Engine, request: Request) -> None:
    """POST /build"""
    asked = build_options.read(engine, request)
    async with contextlib.AsyncExitStack() as stack:
        staging = await stack.enter_async_context(staged(engine))
        received = None
        if not asked.remote:
            async with contextlib.aclosing(request.body_pieces()) as pieces:
                received = await context.receive(engine, staging, asked.dockerfile, pieces)

        async def run(progress: Progress) -> None:
            async with stack.pop_all():  # what it leaves is gone before its client is told the end
                await work.build(engine, asked, staging, received, progress)

        await streamed(request, run)
