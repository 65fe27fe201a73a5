"""Which boot of the machine this is."""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def current() -> str:
    """Return the id that the kernel gives each boot (random(4)).

    What was started in another boot can't run any more, whatever its record says.
    """
    return BOOT_ID.read_text().strip()
