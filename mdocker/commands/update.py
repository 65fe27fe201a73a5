"""`update`."""

from __future__ import annotations

from typing import Annotated

from mdocker.client import Engine
from mdocker.commands.lifecycle import each
from mdocker.errors import FAILED, UsageError
from mdocker.messages import Request
from mdocker.options import flag, injected
from mdocker.paths import container_path
from mdocker.restart_option import restart_policy


def update(
    container: str,
    /,
    *more: str,
    restart: Annotated[
        str, flag("--restart", help="no, on-failure[:MAX], always or unless-stopped")
    ] = "",
    restart_delay: Annotated[
        str, flag("--restart-delay", help="First wait before a restart; doubles each time")
    ] = "",
    restart_max_delay: Annotated[
        str, flag("--restart-max-delay", help="Longest wait before a restart; not below the first")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Change the restart policy of containers, whether they run or not.

    One that waits for a restart which the new policy would not have made stays ended.
    """
    policy = restart_policy(restart, restart_delay, restart_max_delay, code=FAILED)
    if not policy:
        raise UsageError(
            "nothing to update: give --restart, --restart-delay or --restart-max-delay", FAILED
        )
    body = {"RestartPolicy": policy}
    return each(
        engine,
        (container, *more),
        lambda one: Request.make("POST", container_path(one, "update"), None, body),
    )
