"""Inits that an earlier shim has cloned: what this one holds of them, and how it learns of ends."""

from __future__ import annotations

from runtime.spawner import Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable, Iterable

    from runtime.exit_events import ExitEvents
    from runtime.shim_protocol import HandOver

_TELLING_S = 0.2


class Strangers:
    """Those of the shim's inits that are not its children."""

    def __init__(self, poll: select.epoll, complain: Callable[[str], None]) -> None:
        self._poll = poll
        self._complain = complain
        self._ears: ExitEvents | None = None
        self._asked = False

    def take(self, message: HandOver) -> Held:
        """What is held from now on. Its descriptors are the message's."""
        if not self._asked:
            self._asked = True
            self._listen()
        pidfd, *streams = message.fds if message.wait_status is None else (-1, *message.fds)
        held = Held(message.id, message.pid, pidfd, message.start_ticks)
        held.ours = False
        if streams:
            held.stdout_r, held.stderr_r, *stdin = streams
            if stdin:
                held.stdin_w = stdin[0]
        held.wait_status, held.time_ns = message.wait_status, message.time_ns
        return held

    def learn(self, held: Held) -> int | None:
        """wait(2)'s status of one whose pidfd is readable, None if it is not; else UNKNOWN."""
        from runtime import endings

        if not endings.has_ended(held.pidfd):
            return None
        status = endings.status_of(held.pid, held.start_ticks, held.pidfd)
        if self._ears is not None:
            # It knows better than the zombie where the first thread was not the last to end.
            heard = self._ears.wait(held.pid, 0.0 if status is not None else _TELLING_S)
            status = status if heard is None else heard
        return endings.UNKNOWN_STATUS if status is None else status

    def owns(self, fd: int) -> bool:
        """Whether `fd` is where exits are told."""
        return self._ears is not None and fd == self._ears.fileno()

    def hear(self, alive: Iterable[Held]) -> None:
        """Take in what was told of those that live, as far as is known."""
        if self._ears is not None:
            self._ears.hear({held.pid for held in alive if not held.ours})

    def _listen(self) -> None:
        """Where this kernel forgets how strangers end: listen before they do."""
        from runtime import endings

        if endings.is_told_after_reaping():
            return
        from runtime.exit_events import ExitEvents

        try:
            self._ears = ExitEvents()
        except OSError as error:
            self._complain(f"some exit codes may remain unknown: {error}")
            return
        self._poll.register(self._ears.fileno(), 1)
