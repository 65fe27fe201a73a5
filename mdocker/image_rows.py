"""Images as lines of a list: one for each name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mdocker.listing import Row
from mdocker.times import to_go_string
from mdocker.units import human_duration, human_size

HEADINGS: Row = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Digest": "DIGEST",
    "Containers": "CONTAINERS",
}
_NONE = "<none>"
_UNKNOWN = "N/A"


def image_rows(
    image: dict[str, Any], now: float, *, no_trunc: bool = False, digests: bool = False
) -> Iterator[Row]:
    """Return a line for each of its names.

    Args:
        now: Seconds since the epoch.
        no_trunc: Whole ids.
        digests: A line for each digest of a tag's repository.
    """
    created = image.get("Created", 0)
    containers, shared = image.get("Containers", -1), image.get("SharedSize", -1)
    size = image.get("Size", 0)
    for repository, tag, digest in _names(image, digests=digests):
        yield {
            "Repository": repository,
            "Tag": tag,
            "ID": image["Id"] if no_trunc else image["Id"].partition(":")[2][:12],
            "CreatedSince": f"{human_duration(now - created)} ago" if created else _UNKNOWN,
            "CreatedAt": to_go_string(created),
            "Size": human_size(size, 3),
            "VirtualSize": human_size(size),
            "SharedSize": human_size(shared) if shared >= 0 else _UNKNOWN,
            "UniqueSize": human_size(size - shared) if shared >= 0 else _UNKNOWN,
            "Digest": digest,
            "Containers": _UNKNOWN if containers < 0 else str(containers),
        }


def _names(image: dict[str, Any], *, digests: bool) -> Iterator[tuple[str, str, str]]:
    """Repository, tag and digest of each line.

    Args:
        digests: A line for each digest of a tag's repository; else each tag has one line.
    """
    called: dict[str, tuple[list[str], list[str]]] = {}
    for name in image.get("RepoTags") or ():
        repository, _, tag = name.rpartition(":")
        called.setdefault(repository, ([], []))[0].append(tag)
    for name in image.get("RepoDigests") or ():
        repository, _, digest = name.rpartition("@")
        called.setdefault(repository, ([], []))[1].append(digest)
    for repository, (tags, known) in called.items():
        shown = known if digests and known else [_NONE]
        for tag in tags or [_NONE]:
            yield from ((repository, tag, digest) for digest in shown)
    if not called:
        yield _NONE, _NONE, _NONE
