"""The helper process that looks into, reads or writes a container's file system for one request.

    argv     ORDER_FD RESULT_FD      see `archive_order`
    stdin    the archive to unpack
    stdout   the archive that is made

It enters the container's root, gives up all that it does not need there, and only then looks at the
first path. It ends with its stream, or with whoever reads its result; nothing is left behind then,
as its mounts are in a namespace of its own.

Nothing is imported once it is inside: a module found there would run as root (CVE-2019-14271 was
that, with a library).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys

from runtime import archive_view
from runtime.archive_order import FAILED, REFUSED, UNREAD, Refused
from runtime.images.confinement import confine, die_with_reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Told = dict[str, object]
    Tell = Callable[[Told], None]
    Inside = Callable[..., None]
    Work = Callable[[Inside], object]

_INPUT, _OUTPUT = 0, 1
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ROOT = b"/"
_DEEPEST = 50_000
"""Frames: two for each level of directories. Before that there are no descriptors left."""


def main(order_fd: int, result_fd: int) -> None:
    """Carry out the order and report. Never raises: the report is the answer."""

    def tell(told: Told) -> None:
        data = json.dumps(told).encode() + b"\n"
        while data:
            data = data[os.write(result_fd, data) :]

    try:
        told: Told = {"done": _carry_out(order_fd, result_fd, tell)}
    except Refused as refused:
        told = {"error": str(refused), "kind": refused.kind}
    except BrokenPipeError:
        told = {"error": "nobody reads the archive any more", "kind": UNREAD}
    except OSError as error:
        told = _of_os_error(error)
    except MemoryError:
        told = {"error": "the archive needs too much memory", "kind": REFUSED}
    except Exception as error:  # noqa: BLE001 - a bug of ours must reach the user as words
        told = {"error": f"{type(error).__name__}: {error}", "kind": FAILED}
    with contextlib.suppress(BrokenPipeError):
        tell(told)
    # No clean-up of the interpreter: the thread that reads may be blocked on stdin.
    os._exit(0)


def _carry_out(order_fd: int, result_fd: int, tell: Tell) -> object:
    order = json.loads(os.pread(order_fd, os.fstat(order_fd).st_size, 0))
    os.close(order_fd)
    work = (_WORK.get(order["kind"]) or _of_a_build)(order, tell)

    def inside(*, confined: bool = True) -> None:
        if confined:
            confine("/")
        sys.meta_path.clear()
        die_with_reader(result_fd)  # a thread: each has capabilities of its own

    return work(inside)


def _stat(order: dict[str, Any], tell: Tell) -> Work:
    from runtime import archive_paths

    def work(inside: Inside) -> object:
        archive_view.enter(order["view"], with_mounts=True)
        inside()
        root = os.open(_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        tell({"stat": archive_paths.Found(root, os.fsencode(order["path"])).told()})
        return {}

    return work


def _read(order: dict[str, Any], tell: Tell) -> Work:
    from runtime import archive_paths
    from runtime.archive_packing import Packing, check

    def work(inside: Inside) -> object:
        archive_view.enter(order["view"], with_mounts=True)
        inside()
        root = os.open(_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        found = archive_paths.Found(root, os.fsencode(order["path"]))
        check(found)
        tell({"stat": found.told()})
        packing = Packing(_OUTPUT, sparse=order["sparse"])
        packing.resource(found)
        packing.end()
        os.close(_OUTPUT)
        return {}

    return work


def _export(order: dict[str, Any], tell: Tell) -> Work:
    from runtime.archive_packing import Packing

    def work(inside: Inside) -> object:
        archive_view.enter(order["view"], with_mounts=False)
        inside()
        root = os.open(_ROOT, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        tell({"begun": True})
        packing = Packing(_OUTPUT)
        packing.below(root, b"")
        packing.end()
        os.close(_OUTPUT)
        return {}

    return work


def _write(order: dict[str, Any], tell: Tell) -> Work:
    from runtime import archive_owner
    from runtime.archive_extraction import Extraction
    from runtime.images.tar_source import Archive, TarSource

    def work(inside: Inside) -> object:
        archive_view.enter(order["view"], with_mounts=True)
        inside()
        owner = None if order["owner"] is None else archive_owner.resolve(order["owner"])
        extraction = Extraction(
            TarSource(Archive(_INPUT)),
            os.fsencode(order["path"]),
            no_overwrite=order["no_overwrite"],
            owner=owner,
        )
        tell({"begun": True})
        extraction.run()
        return {"warnings": dict(extraction.warnings)}

    return work


def _changes(order: dict[str, Any], _tell: Tell) -> Work:
    from runtime import changes

    def work(inside: Inside) -> object:
        upper, below = _between_layers(order, inside)
        found = changes.compare(upper, below, _hidden(order))
        return [[path.decode("utf-8", "replace"), kind] for path, kind in found]

    return work


def _layer(order: dict[str, Any], tell: Tell) -> Work:
    from runtime.layer_packing import LayerPacking

    def work(inside: Inside) -> object:
        upper, below = _between_layers(order, inside)
        tell({"begun": True})
        LayerPacking(_OUTPUT, below, _hidden(order)).all_of(upper)
        os.close(_OUTPUT)
        return {}

    return work


def _between_layers(order: dict[str, Any], inside: Inside) -> tuple[int, int]:
    """The upper directory and the image's tree, with nothing else in reach."""
    from runtime import changes

    upper, below = changes.open_layers(order["view"])
    os.chdir(order["view"]["merged"])
    os.chroot(b".")
    # Attributes that say what is hidden (trusted.*) are for CAP_SYS_ADMIN alone.
    inside(confined=False)
    sys.setrecursionlimit(_DEEPEST)
    return upper, below


def _hidden(order: dict[str, Any]) -> list[bytes]:
    return [os.fsencode(path) for path in order["hidden"]]


def _of_a_build(order: dict[str, Any], _tell: Tell) -> Work:
    if order["kind"] in ("sources", "copy"):
        from runtime.building.steps import KINDS
    else:
        from runtime.building.contexts import KINDS
    return KINDS[order["kind"]](order)


_WORK = {
    "stat": _stat,
    "read": _read,
    "write": _write,
    "export": _export,
    "changes": _changes,
    "layer": _layer,
}


def _of_os_error(error: OSError) -> Told:
    words = (error.strerror or "input/output error").lower()
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    where = "" if not name else ascii(str(name))[1:-1]
    if error.errno in _DISK_FULL:
        return {"error": f"no space left on device (at {where or 'the archive'})", "kind": FAILED}
    return {"error": f"{where}: {words}" if where else words, "kind": FAILED}
