"""The rest of API 1.50: known, not done, and said so, each by its name."""

from __future__ import annotations

from supervisor.api.messages import Reply, Request
from supervisor.api.router import Handler, Route
from supervisor.engine import Engine
from supervisor.errors import EngineError, NotFound, Unsupported


class NoSwarm(EngineError):
    """A request to a swarm manager, which this is not."""

    status = 503


_NOT_DONE = {
    "sessions of BuildKit": ("POST /session",),
    "creating and changing networks": (
        "POST /networks/create",
        "POST /networks/{id}/connect",
        "POST /networks/{id}/disconnect",
    ),
    "plugins": (
        "GET /plugins/privileges",
        "POST /plugins/pull",
        "POST /plugins/create",
        "DELETE /plugins/{name}",
        "POST /plugins/{name}/enable",
        "POST /plugins/{name}/disable",
        "POST /plugins/{name}/upgrade",
        "POST /plugins/{name}/push",
        "POST /plugins/{name}/set",
    ),
}

_INSTEAD = {
    "sessions of BuildKit": "set DOCKER_BUILDKIT=0 for the classic builder",
    "creating and changing networks": "docker-compose asks for a network where a service names "
    "none, so write 'network_mode: none' or 'network_mode: host' for each service (docker run: "
    "--network none or host)",
}
"""What to do, where the name of what is missing does not tell it."""

_SWARM = (
    "GET /nodes",
    "GET|DELETE /nodes/{id}",
    "POST /nodes/{id}/update",
    "GET /swarm",
    "POST /swarm/init",
    "POST /swarm/join",
    "POST /swarm/leave",
    "POST /swarm/update",
    "GET /swarm/unlockkey",
    "POST /swarm/unlock",
    "GET /services",
    "POST /services/create",
    "GET|DELETE /services/{id}",
    "POST /services/{id}/update",
    "GET /services/{id}/logs",
    "GET /tasks",
    "GET /tasks/{id}",
    "GET /tasks/{id}/logs",
    "GET /secrets",
    "POST /secrets/create",
    "GET|DELETE /secrets/{id}",
    "POST /secrets/{id}/update",
    "GET /configs",
    "POST /configs/create",
    "GET|DELETE /configs/{id}",
    "POST /configs/{id}/update",
)


def words(what: str) -> str:
    """Return how something that is missing is refused."""
    instead = _INSTEAD.get(what, "")
    return f"mdocker does not do {what} yet{instead and f': {instead}'}"


def _refuse(what: str) -> Handler:
    async def refuse(_engine: Engine, _request: Request) -> Reply:
        raise Unsupported(words(what))

    return refuse


async def _no_swarm(_engine: Engine, _request: Request) -> Reply:
    raise NoSwarm(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
        "connect this node to swarm and try again: mdocker does not do swarms, use another engine"
    )


async def _no_plugins(_engine: Engine, _request: Request) -> Reply:
    return Reply(body=b"[]")


async def _no_such_plugin(_engine: Engine, request: Request) -> Reply:
    raise NotFound(f'plugin "{request.names[0]}" not found')


def routes() -> list[Route]:
    """Return a route for each operation of the specification that nothing else answers."""
    found: list[Route] = [
        ("GET", "/plugins", _no_plugins),
        # `docker inspect X` asks all of these before it says that there is no X.
        ("GET", "/plugins/{name}/json", _no_such_plugin),
    ]
    for what, operations in _NOT_DONE.items():
        handler = _refuse(what)
        for operation in operations:
            methods, path = operation.split(" ")
            found.append((methods, path, handler))
    for operation in _SWARM:
        methods, path = operation.split(" ")
        found.append((methods, path, _no_swarm))
    return found
