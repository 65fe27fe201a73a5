"""What can be wrong with a wish for a log."""

from __future__ import annotations


class LogOptionRefused(ValueError):
    """A log driver or a log option that we don't have, or a value that can't be."""


class LogDriverUnknown(LogOptionRefused):
    """A log driver of Docker's that we don't have."""
