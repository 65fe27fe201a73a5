"""A container's log: opened with its own options, and what its files weigh."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import structlog

from logs.drivers import ContainerLog, LogOptionRefused, Subject, open_log
from logs.rotation import names_of
from supervisor.container import Container

log = structlog.get_logger()


def open_log_of(container: Container, directory: Path) -> ContainerLog:
    """Open a container's log for a run of it, new or where the last run left it.

    Args:
        directory: The container's own.

    Raises:
        OSError: The file can't be opened.
    """
    config = container.config
    subject = Subject(
        id=container.id,
        name=container.name,
        image_id=config.image_id,
        image_name=config.image,
        command=config.args,
        labels=config.labels,
        env=config.env,
    )
    options = config.log_options
    try:
        return open_log(config.log_driver, directory, container.id, options, subject)
    except LogOptionRefused as error:
        # They were checked at create, by another version: a log is better than none.
        log.error("log.options_ignored", container=container.short_id, reason=str(error))
        return open_log(config.log_driver, directory, container.id)


def log_size(log_path: str) -> int:
    """Bytes of a log's files, the rotated ones too; 0 where there is none. It may wait for disk."""
    if not log_path:
        return 0
    total = 0
    # A file that is renamed while we look is counted by its old name, by its new one, or not at
    # all: this is a size of something that grows.
    with contextlib.suppress(OSError):
        for path in (log_path, *names_of(log_path).numbered().values()):
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(path).st_size
    return total
