"""What an attached client types, on its way into the container."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from supervisor.api.http import Connection
from supervisor.api.sockets import ClientGone
from supervisor.attachments import Attachment
from supervisor.container import Container
from supervisor.escape_keys import EscapeKeys


async def beside(
    show: Callable[[], Awaitable[None]],
    connection: Connection,
    container: Container,
    attachment: Attachment,
    keys: bytes,
) -> bool:
    """Pass on what is typed while `show` shows the output; the end of that ends it.

    Returns:
        Whether the client has detached by its keys.

    Raises:
        What `show` raises.
    """
    trouble: Exception | None = None
    detached = False
    async with anyio.create_task_group() as tasks:

        async def type_on() -> None:
            nonlocal detached
            detached = await _pass_on(connection, container, attachment, keys)
            if detached:
                tasks.cancel_scope.cancel()

        tasks.start_soon(type_on)
        try:
            await show()
        except Exception as error:  # noqa: BLE001 - raised below, not in a group
            trouble = error
        tasks.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
    return detached


def end(container: Container) -> None:
    """A client is gone without a word: where input is meant for one client, it has ended."""
    run, config = container.run, container.config
    if run is not None and run.stdin is not None and config.stdin_once and not config.tty:
        run.stdin.end()


async def _pass_on(
    connection: Connection, container: Container, attachment: Attachment, keys: bytes
) -> bool:
    """Returns True once the keys were pressed; False when the client types no more."""
    await attachment.begun.wait()
    run = container.run
    stdin = run.stdin if run is not None else None
    if stdin is None:
        return False  # it has ended already
    watch = EscapeKeys(keys) if container.config.tty else None
    wanted = True
    try:
        piece = connection.leftover()
        while True:
            if watch is not None:
                piece = watch.feed(piece)
            # What nobody will read is thrown away: the client must not wait for its output's sake.
            wanted = wanted and await stdin.write(piece)
            if watch is not None and watch.detached:
                return True
            piece = await connection.stream.receive()
            if not piece:
                break
    except ClientGone:
        pass
    end(container)
    return False
