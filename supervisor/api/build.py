"""POST /build: an image from a Dockerfile and its context."""

from __future__ import annotations

import contextlib
import functools

from supervisor.api import build_options
from supervisor.api.messages import Request
from supervisor.api.progress_stream import streamed
from supervisor.building import context, work
from supervisor.building.staging import staged
from supervisor.engine import Engine


async def build(engine: Engine, request: Request) -> None:
    """POST /build"""
    asked = build_options.read(engine, request)
    async with staged(engine) as staging:
        if not asked.remote:
            async with contextlib.aclosing(request.body_pieces()) as pieces:
                await context.receive(engine, staging, pieces)
        await streamed(request, functools.partial(work.build, engine, asked, staging))
