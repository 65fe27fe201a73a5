"""`images --tree`: what each image holds on the disk, for which platform. Drawn as in Docker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mdocker.output import say
from mdocker.units import human_size

_UNTAGGED = "<untagged>"
_GAP = "   "


class _Line(NamedTuple):
    name: str
    id: str = ""
    usage: str = ""
    content: str = ""
    extra: str = ""


_HEADING = _Line("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")


def show_tree(images: Sequence[dict[str, Any]]) -> None:
    """Print images as they were listed with their manifests.

    The names of one image stand one below the other, an empty line is between two images. What it
    holds is its files and, its content, the archives that they came in. U is what a container uses.
    """
    blocks = [list(_lines(image)) for image in images]
    flat = [_HEADING, *(line for block in blocks for line in block)]
    widths = [max(map(len, column)) for column in zip(*flat, strict=True)]
    say(_drawn(_HEADING, widths))
    for number, block in enumerate(blocks):
        if number:
            say("")
        for line in block:
            say(_drawn(line, widths))


def _lines(image: dict[str, Any]) -> Iterator[_Line]:
    manifests = image.get("Manifests") or []
    *others, last = image.get("RepoTags") or [_UNTAGGED]
    yield from (_Line(name) for name in others)
    sizes = [one["Size"] for one in manifests]
    total = sum(one["Total"] for one in sizes) if sizes else image.get("Size", 0)
    used = image.get("Containers", 0) > 0
    yield _line(last, image["Id"], total, sum(one["Content"] for one in sizes), used=used)
    for number, one in enumerate(manifests):
        corner = "└─" if number == len(manifests) - 1 else "├─"
        data = one.get("ImageData") or {}
        platform = data.get("Platform") or {}
        words = (platform.get("os", ""), platform.get("architecture", ""), platform.get("variant"))
        name = f"{corner} {'/'.join(word for word in words if word)}"
        size = one["Size"]
        used = bool(data.get("Containers"))
        yield _line(name, one["ID"], size["Total"], size["Content"], used=used)


def _line(name: str, digest: str, total: int, content: int, *, used: bool) -> _Line:
    shown = digest.partition(":")[2][:12]
    return _Line(name, shown, human_size(total, 3), human_size(content, 3), "U" if used else "")


def _drawn(line: _Line, widths: Sequence[int]) -> str:
    cells = (
        line.name.ljust(widths[0]),
        line.id.ljust(widths[1]),
        line.usage.rjust(widths[2]),
        line.content.rjust(widths[3]),
        line.extra,
    )
    return _GAP.join(cells).rstrip()
