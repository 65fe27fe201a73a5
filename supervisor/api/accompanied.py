"""Work beside something that may fail or be left, and whose end is the work's, too."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio


@contextlib.asynccontextmanager
async def accompanied(
    work: Callable[[], Coroutine[Any, Any, None]],
) -> AsyncGenerator[anyio.CancelScope, None]:
    """Do `work` as long as what is inside goes on; gives the scope that ends both.

    What is raised inside comes out as it is, not in a group.
    """
    trouble: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        try:
            yield tasks.cancel_scope
        except Exception as error:  # noqa: BLE001 - raised below, not in a group
            trouble = error
        tasks.cancel_scope.cancel()
    if trouble is not None:
        raise trouble
