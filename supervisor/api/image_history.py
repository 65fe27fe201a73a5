"""GET /images/{name}/history: the steps that an image was made in, the newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.to_thread
import msgspec

from runtime.images.configuration import parse_time
from supervisor import image_platforms
from supervisor.api import platform_parameter
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine

_MISSING = "<missing>"
"""Docker's word for a step that left no image of its own."""

_encode = msgspec.json.Encoder().encode


async def history(engine: Engine, request: Request) -> Reply:
    """GET /images/{name}/history"""
    image = engine.images.resolve(request.names[0])
    image_platforms.check(image, platform_parameter.asked(request))
    sizes = await anyio.to_thread.run_sync(
        engine.images.layer_sizes, image, limiter=engine.limits.readers
    )
    steps = image.history or ({"comment": image.comment},)
    shown = [
        {
            "Id": _MISSING,
            "Created": _seconds(step),
            "CreatedBy": step.get("created_by") or "",
            "Tags": None,
            "Size": size,
            "Comment": step.get("comment") or "",
        }
        for step, size in zip(steps, _sizes_of_steps(steps, sizes), strict=True)
    ]
    for one in (image, *engine.images.ancestors(image)):
        if len(one.history) <= len(shown):
            shown[max(len(one.history), 1) - 1] |= {"Id": one.id, "Tags": list(one.tags) or None}
    return Reply(body=_encode(shown[::-1]))


def _seconds(step: dict[str, Any]) -> int:
    try:
        return parse_time(step.get("created") or "") // 10**9
    except (ValueError, TypeError):
        return 0


def _sizes_of_steps(steps: Sequence[dict[str, Any]], sizes: Sequence[int]) -> list[int]:
    """Bytes that each step added. The last layers are those of the last steps with files."""
    left = list(sizes)
    found = [0 if step.get("empty_layer") or not left else left.pop() for step in reversed(steps)]
    return found[::-1]
