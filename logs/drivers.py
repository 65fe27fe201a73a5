"""The log drivers by name: which there are, what options they take, and how a log is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from logs.attributes import Subject, attributes
from logs.container_log import ContainerLog
from logs.errors import LogDriverUnknown, LogOptionRefused
from logs.framing import Stream
from logs.json_file import JsonRecords
from logs.k8s_file import K8sRecords
from logs.log_stream import LogStream
from logs.options import parse
from logs.records import RecordWriter

__all__ = [
    "DEFAULT_DRIVER",
    "DRIVERS",
    "ContainerLog",
    "LogDriverUnknown",
    "LogOptionRefused",
    "LogStream",
    "Stream",
    "Subject",
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

_DOCKERS = frozenset(
    {
        *("awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "local", "logentries"),
        *("splunk", "syslog"),
    }
)
"""Docker's drivers that we don't have."""


def check_options(driver: str, options: Mapping[str, str]) -> None:
    """Refuse what could not be kept.

    Raises:
        LogDriverUnknown: it is one of Docker's that we don't have.
        LogOptionRefused: there is no such driver or option, or its value can't be.
    """
    if driver not in _WRITERS:
        if driver not in _DOCKERS:
            # Docker's words, to the letter: clients compare them.
            raise LogOptionRefused(f"logger: no log driver named '{driver}' is registered")
        known = ", ".join(DRIVERS)
        raise LogDriverUnknown(f'unknown log driver "{driver}": use one of {known}')
    parse(driver, options)


def log_path(driver: str, directory: Path, container_id: str) -> Path | None:
    """Where the driver keeps a container's log, or None if it keeps none.

    Raises:
        LogOptionRefused: there is no such driver.
    """
    check_options(driver, {})
    if driver == "none":
        return None
    return directory / (f"{container_id}-json.log" if driver == "json-file" else "ctr.log")


def open_log(
    driver: str,
    directory: Path,
    container_id: str,
    options: Mapping[str, str] | None = None,
    subject: Subject | None = None,
) -> ContainerLog:
    """Open a container's log for one run of it, new or where the last run left it.

    Args:
        options: Docker's words (`max-size` and so on).
        subject: What the options labels, env and tag can be about.

    Raises:
        LogOptionRefused: there is no such driver or option.
        OSError: the file can't be opened.
    """
    path = log_path(driver, directory, container_id)
    asked = options or {}
    parsed = parse(driver, asked)
    writer = _WRITERS[driver]
    extra = attributes(asked, subject or Subject(container_id))
    if extra:
        writer = JsonRecords(extra)
    return ContainerLog(driver, path, container_id, writer, parsed)
