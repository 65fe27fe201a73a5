"""Which registry an image's name, or what somebody types for a registry, means. Pure."""

from __future__ import annotations

HUB = "https://index.docker.io/v1/"
"""What Docker Hub is called wherever credentials are kept."""

_HUB_NAMES = frozenset({"", "docker.io", "index.docker.io", "registry-1.docker.io"})


def registry_of(reference: str) -> str:
    """Return the registry that an image's name begins with; `HUB` where it begins with none."""
    first, slash, _ = reference.partition("/")
    # A name's first part is a host if it looks like one (Docker's rule).
    if slash and (first != first.lower() or "." in first or ":" in first or first == "localhost"):
        return server_key(first)
    return HUB


def server_key(server: str) -> str:
    """Return what a registry's credentials are kept under: its host (and port), or `HUB`.

    Args:
        server: A host, or an address of it such as https://HOST/v2/.
    """
    host = host_of(server)
    return HUB if host in _HUB_NAMES else host


def host_of(server: str) -> str:
    """Return the host (and port) of an address, whether or not it has a scheme or a path."""
    for scheme in ("http://", "https://"):
        server = server.removeprefix(scheme)
    return server.partition("/")[0]
