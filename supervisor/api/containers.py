"""The containers resource: decode, ask the engine, encode."""

from __future__ import annotations

import time

import anyio.to_thread
import msgspec

from runtime.images.errors import ImageError
from supervisor import init_program, shared_namespaces, waiting
from supervisor.api import create as creation
from supervisor.api import filters as filtering
from supervisor.api import (
    limit_options,
    links,
    mount_options,
    namespace_options,
    selection,
    views,
    wire,
)
from supervisor.api.disk_usage import sizes_of
from supervisor.api.image_names import ImageNames
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import (
    flag,
    json_object,
    number,
    read_wait,
    resumed,
    stop_seconds,
    terminal_size,
)
from supervisor.api.volumes import mount_points
from supervisor.container import Container
from supervisor.engine import Engine
from supervisor.errors import BadParameter, EngineError, NoSuchContainer, Unsupported
from supervisor.states import ACTIVE
from supervisor.waiting import ExitResult

_IPC_PRIVATE_SINCE = (1, 40)
"""Older clients take it for granted that containers may share others' IPC, as in Docker."""

_DONE = Reply(204)
_UNCHANGED = Reply(304)
_encode = msgspec.json.Encoder().encode


def found(engine: Engine, request: Request) -> Container:
    """Return the container that the path names.

    Raises:
        NoSuchContainer: There is none.
        BadParameter: The name fits several.
    """
    return engine.containers.find(request.names[0])


async def list_containers(engine: Engine, request: Request) -> Reply:
    """GET /containers/json"""
    filters = filtering.parse(request, selection.KNOWN)
    chosen = selection.listed(engine, filters, flag(request, "all"), number(request, "limit"))
    now = views.now()
    names = ImageNames(engine)
    summaries = [views.summary(c, names.shown(c), mount_points(engine, c), now) for c in chosen]
    if flag(request, "size"):
        for container, line in zip(chosen, summaries, strict=True):
            sizes = await sizes_of(engine, container)
            line.SizeRw, line.SizeRootFs, line.SizeLog = sizes.own, sizes.root, sizes.log
    return Reply(body=_encode(summaries))


async def create(engine: Engine, request: Request) -> Reply:
    """POST /containers/create"""
    asked = creation.read(await json_object(request))
    if request.version < _IPC_PRIVATE_SINCE and asked.HostConfig and not asked.HostConfig.IpcMode:
        asked.HostConfig.IpcMode = "shareable"
    reference = asked.Image or ""
    image = engine.images.resolve(reference)
    creation.check_platform(request.parameter("platform"), image, reference)
    if asked.HostConfig and asked.HostConfig.StorageOpt:
        limit_options.refuse_layer_size(asked.HostConfig.StorageOpt, engine.settings.containers)
    config, warnings = creation.merge(asked, image)
    linked = (asked.HostConfig and asked.HostConfig.Links) or ()
    warnings += links.checked(linked, config.network_mode, engine.containers.find)
    mounts = mount_options.resolve(asked, image.config, engine.containers.find)
    await mount_options.check_sources(engine, mounts)
    config = namespace_options.by_id(config, engine.containers.find)
    config = msgspec.structs.replace(config, mounts=mounts)
    if config.init:
        await anyio.to_thread.run_sync(init_program.find, limiter=engine.limits.sources)
    container = await engine.create(request.parameter("name") or None, config)
    return Reply(201, _encode(wire.Created(container.id, warnings)))


async def inspect(engine: Engine, request: Request) -> Reply:
    """GET /containers/{id}/json"""
    container = found(engine, request)
    try:
        lower = engine.layers(container).lower
    except (EngineError, ImageError):
        lower = ()  # its image is gone: there is still much to tell
    inspection = views.inspection(
        container,
        engine.directory(container),
        shared_namespaces.files(engine, container),
        engine.settings.rootfs,
        lower,
        mount_points(engine, container),
        engine.log_trouble(container),
    )
    inspection.ExecIDs = engine.exec_sessions.of(container) or None
    if flag(request, "size"):
        sizes = await sizes_of(engine, container)
        inspection.SizeRw, inspection.SizeRootFs = sizes.own, sizes.root
        inspection.SizeLog = sizes.log
    return Reply(body=_encode(inspection))


async def start(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/start"""
    container = found(engine, request)
    if request.parameter("checkpoint"):
        raise Unsupported("mdocker does not support checkpoints yet")
    if request.header(b"content-length") not in ("", "0") and (
        (await request.body()).strip() not in (b"", b"{}", b"null")
    ):
        raise BadParameter(
            "a start takes no body since API 1.24: give the options when you create the container"
        )
    return _DONE if await engine.start(container) else _UNCHANGED


async def stop(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/stop"""
    container = found(engine, request)
    signal = request.parameter("signal") or None
    stopped = await engine.stop(container, stop_seconds(request), signal)
    return _DONE if stopped else _UNCHANGED


async def restart(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/restart"""
    container = found(engine, request)
    await engine.restart(container, stop_seconds(request), request.parameter("signal") or None)
    return _DONE


async def kill(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/kill"""
    await engine.kill(found(engine, request), request.parameter("signal") or "SIGKILL")
    return _DONE


async def resize(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/resize"""
    container = found(engine, request)
    await engine.resize(container, *terminal_size(request))
    return Reply()


async def rename(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/rename"""
    engine.rename(found(engine, request), request.parameter("name"))
    return _DONE


async def remove(engine: Engine, request: Request) -> Reply:
    """DELETE /containers/{id}"""
    if flag(request, "link"):
        raise Unsupported(
            f"mdocker does not support removing links: remove {request.names[0]!r} without link"
        )
    container = found(engine, request)
    await engine.remove(container, flag(request, "force"), flag(request, "v"))
    return _DONE


async def prune(engine: Engine, request: Request) -> Reply:
    """POST /containers/prune"""
    filters = filtering.parse(request, selection.PRUNE_KNOWN)
    ids, freed = await engine.prune(selection.prunable(filters, views.now()))
    return Reply(body=_encode(wire.Pruned(ids or None, freed)))


async def wait(engine: Engine, request: Request) -> None:
    """POST /containers/{id}/wait: the head at once, so that clients dare to start; then the end.

    Beyond Docker: the head's `Mdocker-Resume` names container and moment. Given back as the
    parameter `resume`, the wait is for the first end after that moment, though the container may
    run again or be gone by now. By its id a removed container is known for a while without it.
    """
    begun, notice = _awaited(engine, request)
    connection = request.connection
    headers = [(b"Mdocker-Resume", begun.encode())]
    await connection.start_stream(200, b"application/json", headers)
    with connection.hangups.cancelling(connection.stream) as scope:
        result = await notice.result()
    if scope.cancelled_caught:
        connection.abandon()
        return
    error = wire.WaitError(result.error) if result.error else None
    await connection.send_piece(_encode(wire.Waited(result.code, error)) + b"\n")
    await connection.end_stream()


def _awaited(engine: Engine, request: Request) -> tuple[str, waiting.Notice]:
    """What is waited for: the word that resumes it, and where the answer will be."""
    reference, condition = request.names[0], request.parameter("condition")
    place = resumed(request, read_wait)
    since_ns = 0
    if place is not None:
        reference, since_ns = place
    try:
        container = engine.containers.find(reference)
    except NoSuchContainer:
        end = engine.ends.since(reference, since_ns) if since_ns else None
        end = end or engine.ends.last(reference)
        if end is None:
            raise
        return f"{end.id}.{since_ns}", waiting.answered(ExitResult(end.code, end.error))
    begun = f"{container.id}.{since_ns or time.time_ns()}"
    if since_ns and condition != "removed":
        end = engine.ends.since(container.id, since_ns)
        if end is not None:
            return begun, waiting.answered(ExitResult(end.code, end.error))
        life = container.life
        if container.state not in ACTIVE and life.finished_ns > since_ns:
            # The supervisor died between its record and its memory of the end.
            return begun, waiting.answered(ExitResult(life.exit_code))
    return begun, engine.waiter(container, condition)
