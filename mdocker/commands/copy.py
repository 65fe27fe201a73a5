"""`cp`."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from mdocker import copy_rules as rules
from mdocker.client import Engine
from mdocker.connection import Stream
from mdocker.errors import FAILED, EngineCut, EngineUnreachable
from mdocker.messages import WENT_AWAY, Request, read_head
from mdocker.options import flag, injected
from mdocker.output import complain, is_terminal, warn, write_all
from mdocker.paths import Query, container_path, target
from mdocker.upload import exchange, progress

if TYPE_CHECKING:
    from mdocker.copy_sending import Sending

_PIECE = 1024 * 1024
_AROUND = 3072
"""What an archive of one file has around its content: headers and the end mark."""
_STAT = "x-docker-container-path-stat"


def copy(
    source: str,
    destination: str,
    /,
    *,
    archive: Annotated[
        bool,
        flag(
            "--archive",
            "-a",
            help="With owners: those of the files, or into a container its own user",
        ),
    ] = False,
    follow_link: Annotated[
        bool, flag("--follow-link", "-L", help="Copy what SRC_PATH links to, not the link")
    ] = False,
    quiet: Annotated[
        bool, flag("--quiet", "-q", help="No progress and no summary (as without a terminal)")
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Copy files between a container and this machine.

    The container may run, be paused or stopped, or never have run. A directory is copied with
    all that is in it; SRC_PATH/. means what is in it alone. A destination that ends in a slash
    must be a directory. With - as SRC_PATH a tar is read from standard input, with - as DEST_PATH
    one is written to standard output. A local name with a colon is told by ./ before it.
    """
    if not source:
        raise rules.Refused("source can not be empty")
    if not destination:
        raise rules.Refused("destination can not be empty")
    here, source_path = rules.split_argument(source)
    there, destination_path = rules.split_argument(destination)
    quiet = quiet or not is_terminal(1)
    if here and there:
        raise rules.Refused("copying between containers is not supported")
    if here:
        return _From(engine, here, archive, quiet).copy(
            source_path, destination_path, follow=follow_link
        )
    if there:
        return _Into(engine, there, archive, quiet).copy(
            source_path, destination_path, follow=follow_link
        )
    raise rules.Refused("must specify at least one container source")


class _Copy:
    """One copy from or to a container."""

    def __init__(self, engine: Engine, container: str, archive: bool, quiet: bool) -> None:
        self.engine = engine
        self.container = container
        self.archive = archive
        self.quiet = quiet
        self.code = 0

    def look(self, path: str) -> dict[str, Any] | None:
        """Ask for what is at a path of the container; None where the answer is a refusal.

        The request that follows is refused too then, and with words, which this kind has not.
        """
        where = target(container_path(self.container, "archive"), {"path": path})
        connection = self.engine.connection()
        try:
            connection.send(Request("HEAD", where))
            data = b""
            while (read := read_head(data)) is None:
                more = connection.receive()
                if not more:
                    raise EngineCut(WENT_AWAY)
                data += more
        finally:
            connection.close()
        head, _ = read
        return _stat(head.headers) if head.status < 400 else None

    def trouble(self, text: str) -> None:
        complain(text)
        self.code = FAILED

    def tell(self, content: int, moved: int, where: str) -> None:
        if self.quiet:
            return
        amount = _size(content)
        if amount != _size(moved):
            amount += f" (transferred {_size(moved)})"
        sys.stderr.write(f"Successfully copied {amount} to {where}\n")


class _From(_Copy):
    """From the container to this machine."""

    def copy(self, path: str, destination: str, *, follow: bool) -> int:
        out = destination == "-"
        if out and is_terminal(1):
            raise rules.Refused("refusing to write a tar to a terminal: redirect it or pipe it on")
        if not out:
            destination = rules.local(destination)
            rules.check_output(destination)
        rename = ""
        if follow:
            path, rename = self._followed(path)
        query: Query = {"path": path, "sparse": None if out else True}
        request = Request.make("GET", container_path(self.container, "archive"), query)
        with self.engine.begin(request) as stream:
            if out:
                while not stream.ended:
                    write_all(1, stream.read())
                return 0
            about = _stat(stream.headers)
            is_directory = bool(about["mode"] & rules.GO_DIRECTORY)
            source = rules.Place(path, True, is_directory, rename)
            plan = rules.plan(source, rules.local_destination(destination))
            size = None if is_directory else about["size"] + _AROUND
            self._unpack(stream, plan, path, destination, size)
        return self.code

    def _followed(self, path: str) -> tuple[str, str]:
        """What a link leads to, and the link's own name; the path itself if it is none."""
        about = self.look(path)
        if about is None or not about["mode"] & rules.GO_SYMLINK:
            return path, ""
        return rules.followed(path, rules.clean(_joined(path, about["linkTarget"])))

    def _unpack(
        self, stream: Stream, plan: rules.Plan, path: str, shown: str, size: int | None
    ) -> None:
        from mdocker.copy_receiving import Receiving, TarInput

        with contextlib.ExitStack() as stack:
            moved: Callable[[int], None] = _nobody
            if not self.quiet:
                moved = stack.enter_context(progress("Copying from container", size))
            receiving = Receiving(plan.directory, owners=self.archive)
            stack.callback(receiving.close)
            source = TarInput(stream, moved)
            receiving.unpack(source, rules.top_name(path), plan.name)
        for warning in sorted(receiving.warnings):
            warn(warning)
        self.tell(receiving.content, source.received, shown)


class _Into(_Copy):
    """From this machine into the container."""

    def copy(self, path: str, destination: str, *, follow: bool) -> int:
        pipe = path == "-"
        if not pipe:
            path = rules.local(path)
        place = self._destination(destination)
        if pipe:
            if not place.is_directory:
                raise rules.Refused(
                    f'destination "{self.container}:{destination}" must be a directory'
                )
            if is_terminal(0):
                raise rules.Refused(
                    "standard input is a terminal: a tar must come from a file or pipe"
                )
            self._put(place.path, functools.partial(os.read, 0, _PIECE))
            return self.code
        source = rules.local_source(path, follow=follow)
        plan = rules.plan(source, place)
        sending = self._sending()
        name = plan.name or source.rename or rules.split_entry(source.path)[1]
        pieces = sending.pieces(source.path, "." if name == "/" else name)
        size = None if source.is_directory else os.lstat(source.path).st_size + _AROUND
        moved = self._put(plan.directory, functools.partial(next, pieces, b""), size)
        self.tell(sending.content, moved, f"{self.container}:{place.path}")
        return self.code

    def _sending(self) -> Sending:
        from mdocker.copy_sending import Sending

        return Sending(self.trouble, warn)

    def _destination(self, path: str) -> rules.Place:
        """Look at where it goes; a link there is followed. What is refused may yet be made."""
        about = self.look(path)
        place = path
        if about is not None and about["mode"] & rules.GO_SYMLINK:
            place = _joined(path, about["linkTarget"])
            about = self.look(place)
        if about is None:
            return rules.Place(place)
        why = rules.refused_kind(about["mode"])
        if why:
            raise rules.Refused(
                f'destination "{self.container}:{path}" must be a directory or a regular file: '
                f"{why}"
            )
        return rules.Place(place, True, bool(about["mode"] & rules.GO_DIRECTORY))

    def _put(self, directory: str, read: Callable[[], bytes], size: int | None = None) -> int:
        """Send an archive, of about this size, to be unpacked there; returns its bytes."""
        query: Query = {
            "path": directory,
            "noOverwriteDirNonDir": True,
            "copyUIDGID": True if self.archive else None,
        }
        where = target(container_path(self.container, "archive"), query)
        total = 0
        connection = self.engine.connection()
        try:
            connection.send(Request("PUT", where, chunked="application/x-tar"))
            with contextlib.ExitStack() as stack:
                moved: Callable[[int], None] = _nobody
                if not self.quiet:
                    moved = stack.enter_context(progress("Copying to container", size))

                def advance(step: int) -> None:
                    nonlocal total
                    total += step
                    moved(step)

                reply = exchange(connection, read, advance).check()
        finally:
            connection.close()
        if reply.body:
            for warning in reply.json()["Warnings"]:
                warn(warning)
        return total


def _nobody(_step: int) -> None:
    """Who looks at a progress that nobody wants to see."""


def _joined(path: str, link: str) -> str:
    """A link's target, seen from the link."""
    return link if link.startswith("/") else rules.clean(f"{rules.split_entry(path)[0]}/{link}")


def _stat(headers: Mapping[str, str]) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(base64.b64decode(headers[_STAT]))
    except (KeyError, ValueError):
        raise EngineUnreachable("the engine's answer has no X-Docker-Container-Path-Stat") from None
    return about


def _size(number: float) -> str:
    """Three digits and a unit, as Docker's client has it: `2.05kB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g}PB"
