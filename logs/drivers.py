"""The log drivers by name: which there are, what options they take, and how a log is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from logs.container_log import ContainerLog, LogStream
from logs.framing import Stream
from logs.errors import LogOptionRefused
from logs.json_file import JsonRecords
from logs.k8s_file import K8sRecords
from logs.records import RecordWriter

__all__ = [
    "DEFAULT_DRIVER",
    "DRIVERS",
    "ContainerLog",
    "LogOptionRefused",
    "LogStream",
    "Stream",
    "check_options",
    "log_path",
    "open_log",
]

DEFAULT_DRIVER = "json-file"

_WRITERS: dict[str, RecordWriter | None] = {
    "json-file": JsonRecords(),
    "k8s-file": K8sRecords(),
    "none": None,
}

DRIVERS = tuple(_WRITERS)


class LogOptionRefused(ValueError):
    """A log driver or a log option that we don't have."""


def check_options(driver: str, options: Mapping[str, str]) -> None:
    """Refuse what could not be kept.

    Raises:
        LogOptionRefused: there is no such driver, or the option is not done yet (none is).
    """
    if driver not in _WRITERS:
        known = ", ".join(DRIVERS)
        raise LogOptionRefused(f'unknown log driver "{driver}": use one of {known}')
    if options:
        names = ", ".join(f'"{name}"' for name in sorted(options))
        raise LogOptionRefused(
            f'log option {names} of the log driver "{driver}" is not supported yet: leave it out'
        )


def log_path(driver: str, directory: Path, container_id: str) -> Path | None:
    """Where the driver keeps a container's log, or None if it keeps none.

    Raises:
        LogOptionRefused: there is no such driver.
    """
    check_options(driver, {})
    if driver == "none":
        return None
    return directory / (f"{container_id}-json.log" if driver == "json-file" else "ctr.log")


def open_log(driver: str, directory: Path, container_id: str) -> ContainerLog:
    """Open a container's log for one run of it, new or where the last run left it.

    Raises:
        LogOptionRefused: there is no such driver.
        OSError: the file can't be opened.
    """
    path = log_path(driver, directory, container_id)
    return ContainerLog(driver, path, container_id, _WRITERS[driver])
