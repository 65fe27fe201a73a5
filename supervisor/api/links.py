"""Links of a create request: there is no network yet in which they would lead anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from supervisor.container import Container
from supervisor.errors import BadParameter, NoSuchContainer, Unsupported

NO_EFFECT = (
    "links have no effect: in the network none a container can't reach any other (docker-compose "
    "run links the new container to those of its service)"
)


def checked(links: Sequence[str], network_mode: str, find: Callable[[str], Container]) -> list[str]:
    """Take links where Docker takes them and does nothing, as docker-compose counts on.

    Args:
        links: `NAME` or `NAME:ALIAS`.
        find: Returns the container of a name or id.

    Returns:
        Warnings for the client.

    Raises:
        BadParameter: A link to no container, or beside a network that has none (Docker's texts).
        Unsupported: The container's network would be one where links work.
    """
    if not links:
        return []
    if network_mode == "host":
        raise BadParameter(
            "conflicting options: host type networking can't be used with links. This would "
            "result in undefined behavior"
        )
    if network_mode != "none":
        raise Unsupported(
            "mdocker does not support HostConfig.Links yet: its containers have no network in "
            "which they could reach each other"
        )
    for link in links:
        # Docker tells old names of both ends, too: /NAME:/OWN/ALIAS.
        name = link.partition(":")[0].removeprefix("/")
        if not name:
            raise BadParameter(f"bad format for links: {link}")
        try:
            find(name)
        except NoSuchContainer as error:
            # Not 404: clients take a 404 at create for a missing image.
            raise BadParameter(f"could not get container for {name}: {error}") from error
    return [NO_EFFECT]
