"""The log of every change: who asked for what, and what became of it.

One line for each request that may change something, also for one that was refused. Of the request
it has the method, the path and what a container is to be called: the rest of a query, headers and
bodies hold passwords, keys and environments.
"""

from __future__ import annotations

import structlog

from supervisor.api.messages import Request
from supervisor.api.peers import Peer, shown
from supervisor.errors import BadParameter

log = structlog.get_logger()

_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})


class Entry:
    """A change that is being asked for; it is noted once, when its answer begins."""

    __slots__ = ("_noted", "_peer", "_request")

    def __init__(self, peer: Peer, request: Request) -> None:
        self._peer = peer
        self._request = request
        self._noted = False

    def note(self, status: int | None) -> None:
        """Write the line, if it is not written yet.

        Args:
            status: Of the answer; None where nobody was left to be answered.
        """
        if self._noted:
            return
        self._noted = True
        request = self._request
        told: dict[str, str | int | None] = {"method": request.method, "path": shown(request.path)}
        try:
            name = request.parameter("name")
        except BadParameter:
            name = ""  # the query can't be read: that was its answer
        if name:
            told["name"] = shown(name)
        log.info("api.change", **told, status=status, **self._peer.told())


def entry(peer: Peer, request: Request) -> Entry | None:
    """What is to be written about a request; None if it only looks."""
    if request.method in _LOOKS and not request.path.endswith("/attach/ws"):
        return None
    if request.method == "POST" and request.path.endswith("/wait"):
        return None
    return Entry(peer, request)
