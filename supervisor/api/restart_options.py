"""RestartPolicy of a create or update request: Docker's words and rules, and delays of our own.

Beyond Docker's `Name` and `MaximumRetryCount` there are `DelayMs` (before the first restart; each
further one in a row waits twice as long) and `MaxDelayMs` (but never longer). Each stays what it
was, or the default, until it is named.
"""

from __future__ import annotations

from supervisor.api import wire
from supervisor.container import RestartPolicy
from supervisor.errors import BadParameter

LONGEST_DELAY_MS = 24 * 60 * 60 * 1000
MOST_RETRIES = 2**31 - 1

_DEFAULT = RestartPolicy()
_NAMES = ("no", "always", "on-failure", "unless-stopped")


def checked_policy(
    asked: wire.AskedRestartPolicy | None, before: RestartPolicy = _DEFAULT
) -> RestartPolicy:
    """Return the policy that is asked for.

    Args:
        asked: Without a name it is about the delays only.
        before: The policy until now, whose delays stay where none are asked for.

    Raises:
        BadParameter: No such policy, a retry count that means nothing, or delays that make no
            sense (Docker's texts where Docker has one).
    """
    if asked is None:
        return before
    name, retries = before.name, before.max_retries
    if asked.Name:
        name, retries = asked.Name, _checked_retries(asked.Name, asked.MaximumRetryCount or 0)
    delay, longest = asked.DelayMs, asked.MaxDelayMs
    if name == "no":
        if delay or longest:
            raise BadParameter(
                "invalid restart policy: DelayMs and MaxDelayMs (--restart-delay, "
                "--restart-max-delay) need a policy that restarts: always, on-failure or "
                "unless-stopped"
            )
        return RestartPolicy()
    return _with_delays(RestartPolicy(name, retries, before.delay_ms, before.max_delay_ms),
                        delay or 0, longest or 0)  # fmt: skip


def _checked_retries(name: str, retries: int) -> int:
    if name not in _NAMES:
        known = "', '".join(_NAMES[:-1])
        raise BadParameter(
            f"invalid restart policy: unknown policy '{name[:64]}'; "
            f"use one of '{known}', or '{_NAMES[-1]}'"
        )
    if name != "on-failure" and retries:
        raise BadParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
            + (" and cannot be negative" if retries < 0 else "")
        )
    if retries < 0:
        raise BadParameter("invalid restart policy: maximum retry count cannot be negative")
    if retries > MOST_RETRIES:
        raise BadParameter(
            f"invalid restart policy: maximum retry count {retries} is too large: "
            "give 0 for no limit"
        )
    return retries


def _with_delays(policy: RestartPolicy, delay: int, longest: int) -> RestartPolicy:
    for option, flag, value in (
        ("DelayMs", "--restart-delay", delay),
        ("MaxDelayMs", "--restart-max-delay", longest),
    ):
        if not 0 <= value <= LONGEST_DELAY_MS:
            raise BadParameter(
                f"invalid restart policy: {option} {value} ({flag}): give 1 to {LONGEST_DELAY_MS} "
                "milliseconds (a day), or 0 for the default"
            )
    first, last = delay or policy.delay_ms, longest or policy.max_delay_ms
    # Drawn along, the other limit would stay where nobody has put it.
    if first > last:
        raise BadParameter(
            f"invalid restart policy: the first delay (DelayMs {first}, --restart-delay) "
            f"is longer than the longest one (MaxDelayMs {last}, --restart-max-delay)"
            + ("" if delay and longest else ": give both")
        )
    return RestartPolicy(policy.name, policy.max_retries, first, last)
