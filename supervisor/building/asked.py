"""What a client asks of a build, checked and typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from supervisor.container import ContainerConfig
from supervisor.mount_points import Mounts
from supervisor.registries.credentials import Credentials

Config = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One build.

    Attributes:
        container: What its containers have in common: limits, network, hosts.
        mounts: What a container of an image with this configuration has mounted.
        dockerfile: Its path in the context.
        names: `name[:tag]` of what is built.
        arguments: `--build-arg`; None for what the client's environment does not have.
        labels: Of what is built.
        target: The stage that it ends with; empty for the last.
        platform: Of images that a FROM without one means; empty for this machine's.
        credentials: By a registry's host.
        cache_from: Images whose steps count as done.
        pull: Base images are asked for anew.
        remove: Containers of steps go as soon as those are done.
        force_remove: Those of failed ones, too.
        remote: Where the context comes from; empty for the request's body.
    """

    container: ContainerConfig
    mounts: Callable[[Mapping[str, Any]], Mounts]
    dockerfile: str = "Dockerfile"
    names: tuple[str, ...] = ()
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    use_cache: bool = True
    quiet: bool = False
    pull: bool = False
    remove: bool = True
    force_remove: bool = False
    remote: str = ""
