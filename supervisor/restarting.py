"""Between two runs: the waiting, the attempt that follows it, and what ends the waiting.

    running ──ends──▶ restarting ──the delay is over──▶ attempt ──▶ running
                          │   ▲                            │ fails
                          │   └──────── the next delay ────┘
                          ├── start: now, count and delay anew; if it fails, the waiting goes on
                          ├── stop, kill, rm -f, update --restart no ──▶ exited
                          └── the supervisor dies: `resume` goes on with what is left of the delay

Whether another run follows is decided in `supervisor/restart_policy.py`. The waiting is a task of
the engine's; a `Pause` on the container says which one counts, so that a task that has slept in
vain finds out and ends.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import anyio
import structlog

from supervisor import disk, lifecycle, restart_policy, start
from supervisor.container import Container
from supervisor.errors import DonorMissing, EngineError, StartFailed
from supervisor.restart_policy import MS
from supervisor.states import Event, State
from supervisor.waiting import ExitResult, tell_exit

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

REFUSED_CODE = 128
"""Docker's exit code for a start that the machine refused."""


class Pause:
    """The waiting for one attempt."""

    __slots__ = ("_over",)

    def __init__(self) -> None:
        self._over = anyio.Event()

    def end(self) -> None:
        """It is of no use any more: its task may go."""
        self._over.set()

    async def sleep(self, seconds: float) -> bool:
        """Wait.

        Returns:
            Whether the time is over; False where `end` was called before.
        """
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return not self._over.is_set()


def begin(engine: Engine, container: Container) -> None:
    """Let a container that is `restarting` wait for its next attempt, then make it."""
    policy = container.config.restart
    left_ns = restart_policy.remaining_ns(policy, container.life.restart_at_ns, time.time_ns())
    if container.pause is not None:
        container.pause.end()
    container.pause = pause = Pause()
    engine.begin(_wait_and_start, engine, container, pause, left_ns / 1e9)


async def _wait_and_start(
    engine: Engine, container: Container, pause: Pause, delay_s: float
) -> None:
    structlog.contextvars.bind_contextvars(container=container.short_id, phase="restart")
    if not await pause.sleep(delay_s):
        return
    # Whose disk hangs, or who is just being written to, waits here, where it is in nobody's way.
    await engine.stages.settled(container.id)
    await disk.answers(engine.directory(container))
    await engine.limits.uploads.over(container.id)
    # Many that crash and a machine that comes up must not stand before the starts people ask for.
    if not container.life.restart_delay_ms:
        async with engine.limits.comebacks:
            await _attempt(engine, container, pause)
        return
    async with engine.limits.restarts:
        began = anyio.current_time()
        await _attempt(engine, container, pause)
        await anyio.sleep(anyio.current_time() - began)


async def _attempt(engine: Engine, container: Container, pause: Pause) -> None:
    async with container.phase_lock:
        if container.pause is not pause:
            return
        try:
            await start.start(engine, container, again=True)
        except EngineError as error:
            _attempt_failed(engine, container, error)
        else:
            engine.counts.restarts += 1


def _attempt_failed(engine: Engine, container: Container, error: EngineError) -> None:
    """An attempt that fails is an end like any other: the policy says what follows.

    What the machine refused may be there the next time, and so may a payload that was being
    replaced; only on-failure's count can end it. A container that it joins and that was removed
    never comes back, as it is joined by its id.
    """
    life = container.life
    code = error.exit_code if isinstance(error, StartFailed) else REFUSED_CODE
    attempt = None
    if not isinstance(error, DonorMissing):
        attempt = restart_policy.after_end(container.config.restart, life, code, 0, random.random())
    container.pause = None
    fields = {"exit_code": code, "error": str(error), "finished_ns": time.time_ns()}
    log.warning(
        "container.restart_failed",
        error=str(error),
        next_in_ms=attempt.wait_ns // MS if attempt else None,
    )
    if attempt is None:
        lifecycle.change_anyway(engine, container, Event.GIVE_UP, restart_at_ns=0, **fields)
        _tell(engine, container, ExitResult(code, str(error)))
        return
    fields |= lifecycle.awaiting(attempt, life.timeline)
    lifecycle.change_anyway(engine, container, Event.AWAIT_RESTART, **fields)
    begin(engine, container)


def give_up(engine: Engine, container: Container, *, by_request: bool) -> None:
    """End the waiting of a container that is `restarting`; it stays ended. No await.

    Args:
        by_request: Somebody has stopped or killed it, which is remembered.
    """
    if container.pause is not None:
        container.pause.end()
        container.pause = None
    life = container.life
    lifecycle.change_anyway(
        engine,
        container,
        Event.GIVE_UP,
        restart_at_ns=0,
        stopped_by_request=by_request or life.stopped_by_request,
        timeline=life.timeline.end(time.time_ns()),
    )
    log.info("container.restarting_ended", container=container.short_id, by_request=by_request)
    _tell(engine, container, ExitResult(life.exit_code))


def _tell(engine: Engine, container: Container, result: ExitResult) -> None:
    """Tell those who wait for an end that there will be none but this one."""
    engine.ends.note(container.id, result.code, time.time_ns(), result.error)
    tell_exit(container, result)
    if container.config.auto_remove:
        engine.begin(engine.remove_quietly, container)


def policy_changed(engine: Engine, container: Container) -> None:
    """Have a container that waits for its restart wait by its new policy, or no more."""
    policy, life = container.config.restart, container.life
    if life.state is not State.RESTARTING:
        return
    if restart_policy.still_wanted(policy, life):
        now = time.time_ns()
        left_ns = restart_policy.remaining_ns(policy, life.restart_at_ns, now)
        lifecycle.keep(engine, container, restart_at_ns=now + left_ns)
        begin(engine, container)
    else:
        give_up(engine, container, by_request=False)


def resume(engine: Engine, container: Container) -> None:
    """Do what a container's policy has promised, after a supervisor's death or a reboot.

    A waiting under way goes on with what is left of its delay. In a new boot those come back whose
    policy says so, at once and with their counts anew; within one boot nothing that had ended does.
    Call it when what the last boot left has been swept.
    """
    life, policy = container.life, container.config.restart
    if life.state not in (State.RESTARTING, State.EXITED):
        return
    if life.boot_id and life.boot_id != engine.boot_id:
        waited = life.state is State.RESTARTING
        if restart_policy.after_reboot(policy, life, ended_with_it=waited):
            lifecycle.change_anyway(
                engine,
                container,
                Event.AWAIT_RESTART,
                boot_id=engine.boot_id,  # it comes back by this boot once, whatever follows
                **lifecycle.awaiting(restart_policy.AT_BOOT, life.timeline.end(time.time_ns())),
            )
        elif waited:
            give_up(engine, container, by_request=False)
    if container.state is State.RESTARTING:
        begin(engine, container)
