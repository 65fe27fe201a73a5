"""Which containers there are, and finding one by name, full id or unambiguous prefix."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from supervisor.container import Container
from supervisor.errors import BadParameter, NameInUse, NoSuchContainer

ID_LENGTH = 64


class Registry:
    """All containers of one engine, by id and by name."""

    def __init__(self) -> None:
        self._by_id: dict[str, Container] = {}
        self._by_name: dict[str, Container] = {}
        self._sorted_ids: list[str] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def all(self) -> list[Container]:
        """Every container, the oldest first."""
        return list(self._by_id.values())

    @property
    def names(self) -> dict[str, Container]:
        """Containers by name (a live view; not to be changed)."""
        return self._by_name

    def add(self, container: Container) -> None:
        """Register a container.

        Raises:
            NameInUse: Another has its name.
        """
        holder = self._by_name.get(container.name)
        if holder is not None:
            raise NameInUse(container.name, holder.id)
        self._by_id[container.id] = container
        self._by_name[container.name] = container
        bisect.insort(self._sorted_ids, container.id)

    def discard(self, container: Container) -> None:
        """Forget a container."""
        if self._by_id.pop(container.id, None) is not None:
            del self._sorted_ids[bisect.bisect_left(self._sorted_ids, container.id)]
        if self._by_name.get(container.name) is container:
            del self._by_name[container.name]

    def rename(self, container: Container, name: str) -> None:
        """Give a container another name.

        Raises:
            NameInUse: Another has it.
        """
        holder = self._by_name.get(name)
        if holder is not None:
            raise NameInUse(name, holder.id)
        del self._by_name[container.name]
        container.name = name
        self._by_name[name] = container

    def get(self, container_id: str) -> Container | None:
        """Return the one with this full id, None where there is none."""
        return self._by_id.get(container_id)

    def find(self, reference: str) -> Container:
        """Return the one container that a person means.

        Args:
            reference: A full id, a name (with or without a leading slash), or a prefix of an id.

        Raises:
            NoSuchContainer: There is none.
            BadParameter: The prefix fits several.
        """
        if not reference:
            raise BadParameter("a container's name or id must not be empty")
        found = self._by_id.get(reference) or self._by_name.get(reference.removeprefix("/"))
        if found is not None:
            return found
        at = bisect.bisect_left(self._sorted_ids, reference)
        fitting = [i for i in self._sorted_ids[at : at + 2] if i.startswith(reference)]
        if len(fitting) > 1:
            raise BadParameter(
                f"multiple IDs found with provided prefix: {reference}: give more digits"
            )
        if not fitting:
            raise NoSuchContainer(reference)
        return self._by_id[fitting[0]]
