"""Build arguments: what `--build-arg` gives, and where a Dockerfile lets it in.

An ARG before the first FROM is for the FROMs, and gives its value to an ARG of the same name in a
stage. An ARG in a stage holds to that stage's end, and an ENV of the same name is stronger. Proxies
need no ARG, and change no image: the cache does not look at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

PREDEFINED = frozenset(
    name
    for protocol in ("ALL", "FTP", "HTTP", "HTTPS", "NO")
    for name in (f"{protocol}_PROXY", f"{protocol.lower()}_proxy")
)

Pairs = Iterable[tuple[str, str | None]]


class Arguments:
    """Those of one build."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        """Begin before the first line.

        Args:
            given: `--build-arg`; None for a name that the client's environment does not have.
        """
        self._given = given
        self._outer: dict[str, str | None] = {}
        self._inner: dict[str, str | None] = {}
        self._used: set[str] = set()

    def begin_stage(self) -> None:
        """Forget what the stage before had."""
        self._inner = {}

    def declare_outside(self, pairs: Pairs) -> None:
        """An ARG before the first FROM; the values are expanded."""
        for name, default in pairs:
            self._outer[name] = default
            self._used.add(name)

    def declare(self, pairs: Pairs) -> None:
        """An ARG in a stage; the values are expanded."""
        for name, default in pairs:
            self._inner[name] = self._outer.get(name) if default is None else default
            self._used.add(name)

    def outside(self) -> dict[str, str]:
        """What a FROM may use."""
        return self._values(self._outer)

    def inside(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What a step of the stage may use that its environment does not have."""
        proxies = {name: None for name in sorted(PREDEFINED) if name not in self._inner}
        found = self._values({**proxies, **self._inner})
        return {name: value for name, value in found.items() if name not in environment}

    def counting(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What of `inside` makes another image: all but proxies that no ARG names."""
        found = self.inside(environment)
        return {name: value for name, value in found.items() if self._counts(name)}

    def _counts(self, name: str) -> bool:
        return name in self._inner or name not in PREDEFINED

    def unused(self) -> list[str]:
        """Names that were given and that no line has asked for."""
        return sorted(self._given.keys() - self._used - PREDEFINED)

    def _values(self, declared: Mapping[str, str | None]) -> dict[str, str]:
        found = {}
        for name, default in declared.items():
            given = self._given.get(name)
            value = default if given is None else given
            if value is not None:
                found[name] = value
        return found
