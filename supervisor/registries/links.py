"""The header Link (RFC 8288): where a list goes on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urljoin, urlsplit

from supervisor.registries.errors import RegistryFault

_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]*))", re.IGNORECASE)


def following(url: str, values: Iterable[str]) -> str:
    """Return the path and query of the next page, "" if this was the last.

    Args:
        url: Of the page whose header it is.

    Raises:
        RegistryFault: It is at another host.
    """
    for value in values:
        for target, parameters in _LINK.findall(value):
            relation = _NEXT.search(parameters)
            words = (relation[1] or relation[2] or "").lower().split() if relation else []
            if "next" in words:
                return _within(url, target)
    return ""


def _within(url: str, target: str) -> str:
    try:
        found = urlsplit(urljoin(url, target))
        same = found.hostname == urlsplit(url).hostname
    except ValueError:
        same = False
    if not same:
        raise RegistryFault(f'Get "{url}": the list goes on at another host: {target[:200]}')
    return found.path + (f"?{found.query}" if found.query else "")
