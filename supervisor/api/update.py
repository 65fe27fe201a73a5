"""POST /containers/{id}/update: another restart policy; limits can't be changed yet."""

from __future__ import annotations

import msgspec

from supervisor.api import wire
from supervisor.api.containers import found
from supervisor.api.messages import Reply, Request
from supervisor.api.options import refuse_unsupported
from supervisor.api.parameters import json_object
from supervisor.api.restart_options import checked_policy
from supervisor.engine import Engine
from supervisor.errors import BadParameter

_encode = msgspec.json.Encoder().encode


async def update(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/update"""
    container = found(engine, request)
    body = await json_object(request)
    refuse_unsupported(body, "Update", wire.AskedUpdate.__struct_fields__)
    try:
        asked = msgspec.convert(body, wire.AskedUpdate)
    except msgspec.ValidationError as error:
        raise BadParameter(f"invalid request: {error}") from error
    policy = checked_policy(asked.RestartPolicy, container.config.restart)
    if policy != container.config.restart:
        await engine.update(container, policy)
    return Reply(body=_encode(wire.Updated(Warnings=[])))
