"""GET /mdocker/check: whether the image store is what it should be. Ours, Docker has no such thing.

Lines of JSON, as they come:

    {"Progress": {"Done": 1048576, "Total": 314572800}}
    {"Finding": {"Kind": "layer", "Subject": "sha256:…", "Words": "/bin/ls has another content …",
                 "Advice": "…", "Images": ["busybox:latest"]}}
    {"Summary": {"Images": 3, "Layers": 7, "Blobs": 13, "WithoutArchive": 0, "Bytes": …,
                 "Findings": 1}}            the last one
    {"error": "…", "errorDetail": {"message": "…"}}     in its place, where the check failed

A client that hangs up ends the check.
"""

from __future__ import annotations

import contextlib

import msgspec

from runtime.images.checking import Finding
from supervisor import store_check
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine

_encode = msgspec.json.Encoder().encode


async def check(engine: Engine, request: Request) -> Reply | None:
    """GET /mdocker/check"""
    connection = request.connection
    await connection.start_stream(200, b"application/json")
    with connection.hangups.cancelling(connection.stream) as scope:
        try:
            async with contextlib.aclosing(store_check.check(engine)) as news:
                async for one in news:
                    await connection.send_piece(_encode(_shown(one)) + b"\n")
        except OSError as error:
            words = f"the check failed: {error.strerror or error}"
            told = {"error": words, "errorDetail": {"message": words}}
            await connection.send_piece(_encode(told) + b"\n")
        await connection.end_stream()
    if scope.cancelled_caught:
        connection.abandon()
    return None


def _shown(news: Finding | store_check.Progress | store_check.Summary) -> dict[str, object]:
    if isinstance(news, Finding):
        return {
            "Finding": {
                "Kind": news.kind,
                "Subject": news.subject,
                "Words": news.words,
                "Advice": news.advice,
                "Images": news.images,
            }
        }
    if isinstance(news, store_check.Progress):
        return {"Progress": {"Done": news.done, "Total": news.total}}
    return {
        "Summary": {
            "Images": news.images,
            "Layers": news.layers,
            "Blobs": news.blobs,
            "WithoutArchive": news.without_archive,
            "Bytes": news.size,
            "Findings": news.findings,
        }
    }
