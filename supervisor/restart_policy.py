"""What a restart policy says, and how long the waiting is. Pure: no clock, no chance of its own.

    an end ──▶ asked for? ──yes──▶ stays ended
                  │no
                  ▼
             by the policy another run follows ──no──▶ stays ended
                  │yes
                  ▼
             the first delay, or twice the last one (never beyond the longest); a run of
             `RESET_AFTER_NS` begins with the first again; then spread by chance

Docker's rules and numbers (moby, restartmanager), and beyond them: delays of a container's own,
and the spreading, so that a hundred containers that one cause has ended don't come back as one.
"""

from __future__ import annotations

import msgspec

from supervisor.container import Life, RestartPolicy

RESET_AFTER_NS = 10 * 10**9
"""A container that ran so long was well: its next delay is the first one again."""

SPREAD = 0.25
"""A delay is lengthened by up to this share of it, by chance."""

MS = 10**6


class Attempt(msgspec.Struct, frozen=True):
    """That another run follows.

    Attributes:
        count: How many automatic restarts there have been in a row, this one with them.
        delay_ms: What the next delay doubles.
        wait_ns: How long to wait, the spreading included.
    """

    count: int
    delay_ms: int
    wait_ns: int


AT_BOOT = Attempt(0, 0, 0)
"""After a reboot it comes back at once, and what was counted before is forgotten."""


def after_end(
    policy: RestartPolicy, life: Life, exit_code: int, ran_ns: int, chance: float
) -> Attempt | None:
    """Say what follows the end of a run, or a failed attempt to start one.

    Args:
        life: As it was when it ended.
        exit_code: Docker's number; 127 or 126 for an attempt whose payload can't be executed.
        ran_ns: How long it ran; 0 for a failed attempt.
        chance: From 0 up to 1, for the spreading.

    Returns:
        None where it stays ended.
    """
    if life.stopped_by_request:
        return None
    if not life.restart_asked and not _wants_another(policy, life.restart_count, exit_code):
        return None
    delay_ms = next_delay_ms(policy, life.restart_delay_ms, ran_ns)
    return Attempt(life.restart_count + 1, delay_ms, spread_ns(policy, delay_ms, chance))


def still_wanted(policy: RestartPolicy, life: Life) -> bool:
    """Say whether the attempt that a life waits for would follow by another policy, too."""
    return _wants_another(policy, life.restart_count - 1, life.exit_code)


def _wants_another(policy: RestartPolicy, restarts: int, exit_code: int) -> bool:
    match policy.name:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            return exit_code != 0 and (not policy.max_retries or restarts < policy.max_retries)
    return False


def next_delay_ms(policy: RestartPolicy, last_ms: int, ran_ns: int) -> int:
    """Return the delay that follows `last_ms` (0 for none yet) after a run of `ran_ns`."""
    if last_ms <= 0 or ran_ns >= RESET_AFTER_NS:
        return min(policy.delay_ms, policy.max_delay_ms)
    return min(2 * last_ms, policy.max_delay_ms)


def spread_ns(policy: RestartPolicy, delay_ms: int, chance: float) -> int:
    """Return a time between the delay and a quarter more, within the policy's own limits.

    Where the longest delay leaves no room above, the time lies below: containers that have reached
    it would otherwise come back in step for ever.
    """
    longest = min(delay_ms * (1 + SPREAD), policy.max_delay_ms)
    shortest = max(longest / (1 + SPREAD), min(policy.delay_ms, policy.max_delay_ms))
    return int((shortest + (longest - shortest) * chance) * MS)


def after_reboot(policy: RestartPolicy, life: Life, ended_with_it: bool) -> bool:
    """Say whether a container comes back in a new boot of the machine.

    As in Docker `always` comes back even if it was stopped by hand; `unless-stopped` does not.

    Args:
        ended_with_it: It ran, or was about to run again, when the machine went down: that is a
            failure in the eyes of `on-failure`.
    """
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not life.stopped_by_request
        case "on-failure":
            return ended_with_it and not life.stopped_by_request
    return ended_with_it and life.restart_asked and not life.stopped_by_request


def remaining_ns(policy: RestartPolicy, restart_at_ns: int, now_ns: int) -> int:
    """Return what is left of a delay; a clock that was set back can't make it longer."""
    return max(0, min(restart_at_ns - now_ns, policy.max_delay_ms * MS))
