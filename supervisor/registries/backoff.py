"""When something that failed is tried again: later each time, and not all at the same moment."""

from __future__ import annotations

import dataclasses
import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from supervisor.registries.errors import RegistryError

Done = TypeVar("Done")

LONGEST_WAIT_S = 60.0
"""A registry that asks for more patience (Retry-After) is refused to the client instead."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backoff:
    """How often, and how long between.

    Attributes:
        tries: Of something big, as dockerd's --max-download-attempts.
        small_tries: Of a request that is soon answered, while a person waits for it.
        first_s: The longest wait after the first failure; it doubles with each one more.
        most_s: The longest wait at all.
    """

    tries: int = 5
    small_tries: int = 3
    first_s: float = 1.0
    most_s: float = 16.0

    def delay(self, failures: int) -> float:
        """Return seconds to wait after so many failures: between half of the longest and all."""
        longest: float = min(self.first_s * 2.0 ** (failures - 1), self.most_s)
        return longest * random.uniform(0.5, 1.0)

    def wait_after(self, error: RegistryError, failures: int, tries: int) -> float | None:
        """Return seconds to wait before another try, or None if there shall be none.

        Args:
            failures: How many there were, this one included.
        """
        if not error.temporary or failures >= tries:
            return None
        if error.retry_after is None:
            return self.delay(failures)
        if error.retry_after > LONGEST_WAIT_S:
            return None
        return max(error.retry_after, self.delay(failures))

    async def retried(self, work: Callable[[], Awaitable[Done]]) -> Done:
        """Do something small that can be repeated without harm, again if it fails for a while.

        Raises:
            RegistryError: As the last try.
        """
        failures = 0
        while True:
            try:
                return await work()
            except RegistryError as error:
                failures += 1
                wait = self.wait_after(error, failures, self.small_tries)
                if wait is None:
                    raise
            await anyio.sleep(wait)


def retry_after(value: str) -> float | None:
    """Read the header Retry-After: seconds, or a date (RFC 9110, 10.2.3); None if it is neither."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())
