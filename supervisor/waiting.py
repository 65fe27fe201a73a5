"""Waiting for a container: registered at once, answered later, with the code of that very end."""

from __future__ import annotations

import anyio
import msgspec

from supervisor.container import Container
from supervisor.errors import BadParameter
from supervisor.states import ACTIVE, State


class ExitResult(msgspec.Struct, frozen=True):
    """What a waiter is told.

    Attributes:
        code: The exit code.
        error: Why the code says little (the container was removed unseen), or why what is waited
            for did not happen (the removal has failed); else empty.
    """

    code: int
    error: str = ""


class Notice:
    """An answer that many can wait for; it keeps the result, so a restart can't overwrite it."""

    __slots__ = ("_event", "_result")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._result = ExitResult(0)

    def give(self, result: ExitResult) -> None:
        """Answer everybody."""
        self._result = result
        self._event.set()

    async def result(self) -> ExitResult:
        """Wait for the answer."""
        await self._event.wait()
        return self._result


def waiter(container: Container, condition: str) -> Notice:
    """Register for an end; nothing that happens after this call is missed.

    Args:
        condition: "not-running" (answered at once if it does not run and won't by itself),
            "next-exit", "removed".

    Raises:
        BadParameter: There is no such condition.
    """
    if condition == "removed":
        if container.claimed is not None:
            container.claimed.set()
        if container.removal is None:
            container.removal = Notice()
            if container.state is State.GONE:
                container.removal.give(ExitResult(container.life.exit_code))
        return container.removal
    if condition not in ("", "not-running", "next-exit"):
        raise BadParameter(
            f'invalid condition: "{condition}": use not-running, next-exit or removed'
        )
    if condition != "next-exit" and container.state not in ACTIVE:
        return answered(ExitResult(container.life.exit_code))
    if container.next_exit is None:
        container.next_exit = Notice()
    return container.next_exit


def answered(result: ExitResult) -> Notice:
    """A notice whose answer is known."""
    notice = Notice()
    notice.give(result)
    return notice


def tell_exit(container: Container, result: ExitResult) -> None:
    """Answer those who wait for the end of this run."""
    notice, container.next_exit = container.next_exit, None
    if notice is not None:
        notice.give(result)


def tell_failed_removal(container: Container, words: str) -> None:
    """Tell those who wait for the removal that it has failed: nobody tries it again by itself."""
    notice, container.removal = container.removal, None
    if notice is not None:
        notice.give(ExitResult(container.life.exit_code, words))


def tell_removal(container: Container) -> None:
    """Answer those who wait for the removal, and those whose exit will now never come."""
    result = ExitResult(container.life.exit_code)
    if container.removal is not None:
        container.removal.give(result)
    tell_exit(container, ExitResult(container.life.exit_code, "the container was removed"))
