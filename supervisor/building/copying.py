"""COPY, ADD and WORKDIR: sources are found and summed up, and become a layer if no cache has it."""

from __future__ import annotations

import functools
import hashlib
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from runtime.images import instructions
from runtime.images.configuration import Step
from runtime.images.model import Image
from supervisor import image_making, path_patterns
from supervisor.building.downloads import is_url
from supervisor.building.errors import StepFailed
from supervisor.building.instructions import Copy
from supervisor.building.processes import OF_CONTEXT, ask, working
from supervisor.errors import BadParameter
from supervisor.helper_process import Unread

if TYPE_CHECKING:
    from supervisor.engine import Engine

_WILDCARDS = re.compile(r"[*?\[\\]")

Order = dict[str, Any]


class Wanted(NamedTuple):
    """What is to be copied, as a helper process is told.

    Attributes:
        order: All but what it is copied into.
        summed: What the history says of it: what it is, its sum, and where it goes.
    """

    order: Order
    summed: str


def order_of(
    copy: Copy, config: Mapping[str, Any], roots: Sequence[Sequence[str]], files: Sequence[str]
) -> Order:
    """Return what to copy where.

    Args:
        copy: With its variables put in.
        config: Its working directory is where a relative destination is seen from.
        roots: What sources lie in, as layers: the context or an image, then each download.
        files: Names of the downloads.

    Raises:
        StepFailed: A source leads out of the context, or is no pattern.
    """
    sources: list[Order] = [
        {"root": 0} | _source(copy, one) for one in copy.sources if not is_url(one)
    ]
    sources += [{"root": number, "path": name} for number, name in enumerate(files, 1)]
    destination = instructions.from_working_directory(config, copy.destination)
    last = copy.destination.rpartition("/")[2]
    return {
        "keyword": copy.keyword,
        "roots": [list(layers) for layers in roots],
        "sources": sources,
        "destination": destination,
        "shown": copy.destination,
        "of_stage": bool(copy.stage),
        "as_directory": last in ("", ".", ".."),
        "owner": copy.owner,
        "with_owners": bool(copy.stage and not copy.owner),
        "unpack": copy.keyword == "ADD",
    }


def directory_order(path: str) -> Order:
    """Return the order to make a directory where it is missing."""
    return {
        "keyword": "WORKDIR",
        "roots": [],
        "sources": [],
        "destination": path,
        "as_directory": True,
        "owner": "",
        "with_owners": False,
        "unpack": False,
    }


def _source(copy: Copy, source: str) -> Order:
    if copy.stage:
        cleaned = posixpath.normpath("/" + source.lstrip("/")).lstrip("/")
    else:
        cleaned = posixpath.normpath(source.lstrip("/") or ".")
        if cleaned == ".." or cleaned.startswith("../"):
            raise StepFailed(
                f"{copy.keyword} failed: forbidden path outside the build context: {source} ()"
            )
    cleaned = "" if cleaned == "." else cleaned
    if not _WILDCARDS.search(cleaned):
        return {"path": cleaned}
    try:
        patterns = [path_patterns.compiled(part).pattern for part in cleaned.split("/")]
    except BadParameter as error:
        raise StepFailed(f"{copy.keyword} failed: {error}: {source}") from None
    return {"pattern": patterns}


async def summed(engine: Engine, order: Order) -> Wanted:
    """Find what is to be copied, and sum it up.

    Raises:
        StepFailed: It is not there.
        EngineFault: The machine failed.
    """
    keyword = order["keyword"]
    merged = str(engine.settings.rootfs)
    where = "" if order["of_stage"] else OF_CONTEXT
    found = await ask(engine, {**order, "kind": "sources", "merged": merged}, keyword, where)
    words = [":".join(one) for one in found]
    if len(words) > 1:
        words = ["multi:" + hashlib.sha256("\n".join(words).encode()).hexdigest()]
    owner = f"--chown={order['owner']} " if order["owner"] else ""
    return Wanted(order, f"{keyword} {owner}{words[0]} in {order['shown']} ")


async def copied(
    engine: Engine, order: Order, parent: Image | None, config: Mapping[str, Any], step: Step
) -> Image:
    """Make the image with what was copied.

    Args:
        parent: What it lies on; None for an image from scratch.

    Raises:
        StepFailed: It can't be put there.
        EngineError, ImageError: This machine failed.
    """
    layers, covered = layers_of(engine, parent)
    whole = {
        **order,
        "kind": "copy",
        "merged": str(engine.settings.rootfs),
        "image": layers,
        "covered": covered,
    }
    begin = functools.partial(engine.images.begin_commit, parent, config, step)
    async with image_making.making(engine, begin) as job:
        try:
            async with working(engine, whole, order["keyword"], job.stdin_fd) as process:
                job.close_stdin()
                await process.answer()
        except Unread:
            pass  # the end of the other process says more
        with anyio.CancelScope(shield=True):  # bounded by the disk
            image = await image_making.finish(engine, job)
    return image


def layers_of(engine: Engine, image: Image | None) -> tuple[list[str], list[str]]:
    """An image's layers, and where containers of it have the machine's own files over them."""
    if image is None:
        return [], []
    found = engine.images.layers(image)
    return list(found.lower), [bind.target for bind in found.binds]
