"""The Engine API's operations, in one table."""

from __future__ import annotations

from supervisor.api import (
    archive,
    attach,
    changes,
    containers,
    disk_usage,
    events,
    export,
    images,
    imports,
    metrics,
    missing,
    networks,
    pausing,
    streams,
    system,
    timeline,
    top,
    update,
    upgrade,
    volumes,
)
from supervisor.api.router import Route, Router

_ROUTES: list[Route] = [
    ("GET|HEAD", "/_ping", system.ping),
    ("GET", "/version", system.version),
    ("GET", "/info", system.info),
    ("GET", "/events", events.events),
    ("GET", "/system/df", disk_usage.disk_usage),
    ("GET", "/metrics", metrics.metrics),
    ("POST", "/mdocker/upgrade", upgrade.upgrade),
    ("GET", "/containers/json", containers.list_containers),
    ("POST", "/containers/create", containers.create),
    ("POST", "/containers/prune", containers.prune),
    ("GET", "/containers/{id}/json", containers.inspect),
    ("GET", "/containers/{id}/timeline", timeline.timeline),
    ("GET", "/containers/{id}/top", top.top),
    ("GET", "/containers/{id}/logs", streams.logs),
    ("POST", "/containers/{id}/attach", attach.attach),
    ("HEAD", "/containers/{id}/archive", archive.stat),
    ("GET", "/containers/{id}/archive", archive.read),
    ("PUT", "/containers/{id}/archive", archive.write),
    ("GET", "/containers/{id}/changes", changes.changes),
    ("GET", "/containers/{id}/export", export.export),
    ("POST", "/containers/{id}/start", containers.start),
    ("POST", "/containers/{id}/stop", containers.stop),
    ("POST", "/containers/{id}/restart", containers.restart),
    ("POST", "/containers/{id}/kill", containers.kill),
    ("POST", "/containers/{id}/pause", pausing.pause),
    ("POST", "/containers/{id}/unpause", pausing.unpause),
    ("POST", "/containers/{id}/rename", containers.rename),
    ("POST", "/containers/{id}/resize", containers.resize),
    ("POST", "/containers/{id}/update", update.update),
    ("POST", "/containers/{id}/wait", containers.wait),
    ("DELETE", "/containers/{id}", containers.remove),
    ("GET", "/networks", networks.list_networks),
    ("GET", "/networks/{id}", networks.inspect),
    ("GET", "/volumes", volumes.list_volumes),
    ("POST", "/volumes/create", volumes.create),
    ("POST", "/volumes/prune", volumes.prune),
    ("GET", "/volumes/{name}", volumes.inspect),
    ("PUT", "/volumes/{name}", volumes.update),
    ("DELETE", "/volumes/{name}", volumes.remove),
    ("GET", "/images/json", images.list_images),
    ("POST", "/images/create", imports.create),
    ("GET", "/images/{name}/json", images.inspect),
    ("DELETE", "/images/{name}", images.remove),
]


def router() -> Router:
    """Return the whole table."""
    return Router([*_ROUTES, *missing.routes()])
