"""Which handler answers: the version prefix, then method and path against the table."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine
from supervisor.errors import BadParameter, EngineError, NotFound

NEWEST = (1, 50)
OLDEST = (1, 24)

Handler: TypeAlias = Callable[[Engine, Request], Awaitable[Reply | None]]
"""Answers a request; None where it has sent its answer itself (streams, hijacks)."""

Route: TypeAlias = tuple[str, str, Handler]
"""Methods by "|", a path with {id} (one segment) or {name} (may hold slashes), the handler."""

_VERSION = re.compile(r"/v(\d{1,4})\.(\d{1,4})(?=/)")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class WrongMethod(EngineError):
    """The path is there, but not for this method."""

    status = 405


def version_text(version: tuple[int, int]) -> str:
    """Return "1.50" for (1, 50)."""
    return f"{version[0]}.{version[1]}"


class Router:
    """The table of routes, made once."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        self._patterns: dict[str, list[tuple[re.Pattern[str], dict[str, Handler]]]] = {}
        for methods, path, handler in routes:
            table = self._table(path)
            for method in methods.split("|"):
                table[method] = handler

    def _table(self, path: str) -> dict[str, Handler]:
        if "{" not in path:
            return self._exact.setdefault(path, {})
        family = self._patterns.setdefault(path.split("/", 2)[1], [])
        words = _PLACEHOLDER.sub(
            lambda found: "(.+)" if found[1] == "name" else "([^/]+)", re.sub(r"\.", r"\\.", path)
        )
        for pattern, table in family:
            if pattern.pattern == words:
                return table
        family.append((re.compile(words), {}))
        return family[-1][1]

    def find(self, request: Request) -> Handler:
        """Return the handler, and note the version and the matched names in the request.

        Raises:
            BadParameter: The version is not one of ours (Docker's texts).
            NotFound: No such path.
            WrongMethod: The path does not take this method.
        """
        path = request.path
        request.version = NEWEST
        prefix = _VERSION.match(path)
        if prefix is not None:
            request.version = _checked_version(int(prefix[1]), int(prefix[2]))
            path = path[prefix.end() :]
        table = self._exact.get(path)
        if table is not None and request.method in table:
            return table[request.method]
        for pattern, candidates in self._patterns.get(path.split("/", 2)[1], ()):
            found = pattern.fullmatch(path)
            if found is None:
                continue
            if request.method in candidates:
                request.names = found.groups()
                return candidates[request.method]
            table = table or candidates
        if table is None:
            raise NotFound("page not found")
        raise WrongMethod(f"{path} does not take {request.method}, only {', '.join(table)}")


def without_version(path: str) -> str:
    """A request's path as the table has it."""
    prefix = _VERSION.match(path)
    return path if prefix is None else path[prefix.end() :]


def _checked_version(major: int, minor: int) -> tuple[int, int]:
    version = (major, minor)
    if version < OLDEST:
        raise BadParameter(
            f"client version {version_text(version)} is too old. Minimum supported API version is "
            f"{version_text(OLDEST)}, please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise BadParameter(
            f"client version {version_text(version)} is too new. "
            f"Maximum supported API version is {version_text(NEWEST)}"
        )
    return version
