"""How registries are reached, with dockerd's names: mirrors, insecure registries, limits."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

DOWNLOADS = 3
UPLOADS = 5
MOST_AT_ONCE = 1000

_HOST = re.compile(
    r"(?P<name>[a-zA-Z0-9](?:[a-zA-Z0-9._-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\])(?::(?P<port>[0-9]+))?",
    re.ASCII,
)


class RefusedConfiguration(Exception):
    """An option about registries can't be meant; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class RegistryOptions:
    """What `mdocker daemon` was told.

    Attributes:
        mirrors: Asked for Docker Hub's images before Docker Hub, each `https://HOST[:PORT]/`.
        insecure: HOST[:PORT] or CIDR whose certificates are not checked, and which may speak
            plain http.
        downloads: How many layers a pull fetches at once.
        uploads: How many layers a push sends at once.
    """

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    downloads: int = DOWNLOADS
    uploads: int = UPLOADS

    def words(self) -> list[str]:
        """The options that say the same to another `mdocker daemon`."""
        words = []
        for mirror in self.mirrors:
            words += ["--registry-mirror", mirror]
        for registry in self.insecure:
            words += ["--insecure-registry", registry]
        if self.downloads != DOWNLOADS:
            words += ["--max-concurrent-downloads", str(self.downloads)]
        if self.uploads != UPLOADS:
            words += ["--max-concurrent-uploads", str(self.uploads)]
        return words


def checked(
    mirrors: Iterable[str], insecure: Iterable[str], downloads: int, uploads: int
) -> RegistryOptions:
    """Check and normalise what a person wrote; something that is said twice counts once.

    Raises:
        RefusedConfiguration: One can't be meant (dockerd's texts, and what to write instead).
    """
    return RegistryOptions(
        _unique([_mirror(one) for one in mirrors]),
        _unique([_insecure(one) for one in insecure]),
        _number(downloads, "--max-concurrent-downloads"),
        _number(uploads, "--max-concurrent-uploads"),
    )


def _unique(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _number(value: int, option: str) -> int:
    if not 1 <= value <= MOST_AT_ONCE:
        raise RefusedConfiguration(
            f'invalid argument "{value}" for "{option}": a number from 1 to {MOST_AT_ONCE}'
        )
    return value


def _mirror(text: str) -> str:
    from urllib.parse import urlsplit

    def refuse(why: str) -> RefusedConfiguration:
        shown = text if "@" not in text else f"…@{text.rpartition('@')[2]}"
        return RefusedConfiguration(
            f'invalid argument "{shown}" for "--registry-mirror": invalid mirror: {why}; '
            "give https://HOST[:PORT]"
        )

    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise refuse("it is no valid URI") from None
    if parts.scheme not in ("http", "https"):
        raise refuse(f'unsupported scheme "{parts.scheme}"')
    if parts.username is not None or parts.password is not None:
        raise refuse("username/password not allowed in URI")
    if parts.path not in ("", "/") or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise refuse("path, query, or fragment at end of the URI")
    if port == 0 or not _is_host(parts.netloc):
        raise refuse("it names no host")
    return f"{parts.scheme}://{parts.netloc.lower()}/"


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    if found is None or (found["port"] and not 0 < int(found["port"][:6]) < 65536):
        return False
    if found["name"].startswith("["):
        from supervisor.registries.proxies import address_of

        return address_of(found["name"]) is not None
    return True


def _insecure(text: str) -> str:
    def refuse(why: str) -> RefusedConfiguration:
        return RefusedConfiguration(
            f'invalid argument "{text}" for "--insecure-registry": {why}; '
            "give HOST, HOST:PORT or a CIDR such as 10.0.0.0/8"
        )

    value = text.strip()
    for scheme in ("http://", "https://"):
        # dockerd takes it with a warning, and forgets it.
        value = value.removeprefix(scheme)
    if "/" in value:
        import ipaddress

        try:
            return str(ipaddress.ip_network(value, strict=False))
        except ValueError as error:
            raise refuse(str(error)) from None
    if value.startswith("-") or value.endswith("-"):
        raise refuse(f"invalid index name ({value}). Cannot begin or end with a hyphen")
    if not _is_host(value):
        raise refuse("it is no host")
    return value.lower()
