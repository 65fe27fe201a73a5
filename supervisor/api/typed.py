"""What a client types, on its way into a container, or into a command in one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import anyio

from supervisor.api.accompanied import accompanied
from supervisor.api.sockets import ClientGone
from supervisor.attachments import Attachment
from supervisor.container import Container
from supervisor.escape_keys import EscapeKeys
from supervisor.stdin import Stdin

REST_S = 10.0
"""How long a client that has gone may leave input behind that nobody takes."""


class Target:
    """Where it goes.

    Attributes:
        ended: Set once all of it is there, or will never be.
        opened: Waits until it can be written to; None where it never will be (any more).
        keys: Those by which the client leaves; None where there is no terminal.
        end: The client types no more: what is its alone has ended.
    """

    __slots__ = ("end", "ended", "keys", "opened")

    def __init__(
        self,
        opened: Callable[[], Awaitable[Stdin | None]],
        keys: bytes | None,
        end: Callable[[], None],
    ) -> None:
        self.opened = opened
        self.keys = keys
        self.end = end
        self.ended = anyio.Event()


def into(container: Container, attachment: Attachment, keys: bytes) -> Target:
    """A container's own input, for a client that is attached to it."""

    async def opened() -> Stdin | None:
        await attachment.begun.wait()
        run = container.run
        return run.stdin if run is not None else None  # it may have ended already

    def end() -> None:
        run, config = container.run, container.config
        if run is not None and run.stdin is not None and config.stdin_once and not config.tty:
            run.stdin.end()

    return Target(opened, keys if container.config.tty else None, end)


async def beside(
    show: Callable[[], Awaitable[None]], pieces: AsyncGenerator[bytes, None], target: Target
) -> bool:
    """Pass on what is typed while `show` shows the output; the end of that ends it.

    Args:
        pieces: What is typed, as it comes; it ends when the client types no more.

    Returns:
        Whether the client has detached by its keys.

    Raises:
        What `show` raises.
    """
    detached = False

    async def type_on() -> None:
        nonlocal detached
        async with contextlib.aclosing(pieces):
            detached = await _pass_on(pieces, target)
        target.ended.set()
        if detached:
            both.cancel()
        else:
            target.end()

    async with accompanied(type_on) as both:
        await show()
    return detached


async def _pass_on(pieces: AsyncIterator[bytes], target: Target) -> bool:
    """Returns True once the keys were pressed; False when the client types no more."""
    stdin = await target.opened()
    if stdin is None:
        return False
    watch = EscapeKeys(target.keys) if target.keys is not None else None
    wanted = True
    try:
        async for typed in pieces:
            piece = typed if watch is None else watch.feed(typed)
            # What nobody will read is thrown away: the client must not wait for its output's sake.
            wanted = wanted and await stdin.write(piece)
            if watch is not None and watch.detached:
                return True
    except ClientGone:
        pass
    return False
