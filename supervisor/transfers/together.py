"""Several things at once, of which the first that fails ends the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

_Thing = TypeVar("_Thing")
_Made = TypeVar("_Made")


async def together(
    work: Callable[[_Thing], Awaitable[_Made]], things: Sequence[_Thing]
) -> list[_Made]:
    """Do work with each of some things; returns what came of each, in their order.

    What goes wrong comes out as it is, not in a group.
    """
    made: dict[int, _Made] = {}
    failed: list[Exception] = []

    async def one(number: int, thing: _Thing) -> None:
        try:
            made[number] = await work(thing)
        except Exception as error:  # noqa: BLE001 - raised below
            failed.append(error)
            tasks.cancel_scope.cancel("another one failed")

    async with anyio.create_task_group() as tasks:
        for number, thing in enumerate(things):
            tasks.start_soon(one, number, thing)
    if failed:
        raise failed[0]
    return [made[number] for number in range(len(things))]
