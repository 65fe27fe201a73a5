"""What a client is told of an error that no code of ours has words for."""

from __future__ import annotations

import errno

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def words(error: Exception) -> str:
    """One line; of a full disk also what to do, as many a request is the first to find it."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return (
            "no space left on device: nothing was changed; 'mdocker system df' shows what takes "
            "it, and 'mdocker image prune' and 'mdocker rmi' give some back"
        )
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return f"the disk is read-only: nothing was changed: {error.filename or error.strerror}"
    return f"internal error: {type(error).__name__}: {error}"
