"""The unpacking child: confined to its layer before it parses a byte.

    argv     LAYER_DIRECTORY RESULT_FD KIND BLOB_FD
             KIND: `root` of an image, a `layer` above others, or an `archive` of images
    stdin    the archive; a root's or layer's is kept behind BLOB_FD
    result   one line of JSON, to RESULT_FD:
             {"diff_id", "size", "entries", "opaque": [name, …], "warnings": {text: count},
              "digest", "blob_size", "media_type"}, of an archive {"members": …}
             or {"error": text, "kind": "refused" | "failed"}; nothing if it was killed

It ends with its input, or with whoever reads its result.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

from runtime.images.archive_staging import Staging
from runtime.images.confinement import confine, die_with_reader
from runtime.images.entry_names import shown
from runtime.images.extraction import Extraction
from runtime.images.tar_source import Archive, Refusal, TarSource

_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_INPUT = 0


def main(directory: str, result: str, kind: str, blob: str) -> None:
    """Unpacks stdin into `directory` and reports. Never raises: the report is the answer."""
    result_fd, blob_fd = int(result), int(blob)
    report: dict[str, Any]
    try:
        # Its first bytes are compared, not parsed: they say what is to be imported while we can.
        archive = Archive(_INPUT, blob_fd)
        archive.load()
        confine(directory)
        die_with_reader(result_fd)
        if kind == "archive":
            report = {"members": Staging(archive).run()}
        else:
            report = _unpack(archive, is_layer=kind == "layer")
    except Refusal as refusal:
        report = {"error": str(refusal), "kind": "refused"}
    except OSError as error:
        report = _of_os_error(error)
    except MemoryError:
        report = {"error": "the archive needs too much memory to unpack", "kind": "refused"}
    except Exception as error:  # noqa: BLE001 - a bug of ours must reach the user as words
        report = {"error": f"cannot unpack: {type(error).__name__}: {error}", "kind": "failed"}
    # Of an archive of images there may be more to tell than a pipe takes at once.
    with open(result_fd, "wb", closefd=False) as told:
        told.write(json.dumps(report).encode() + b"\n")
    # No clean-up of the interpreter: the reading thread may be blocked on stdin.
    sys.stdout.flush()
    os._exit(0)


def _unpack(archive: Archive, *, is_layer: bool) -> dict[str, Any]:
    source = TarSource(archive)
    extraction = Extraction(source, is_layer=is_layer)
    extraction.run()
    diff_id = source.diff_id()
    return {
        **archive.blob(diff_id),
        "diff_id": diff_id,
        "size": extraction.size,
        "entries": extraction.entries,
        "opaque": extraction.opaque,
        "warnings": dict(extraction.warnings),
    }


def _of_os_error(error: OSError) -> dict[str, Any]:
    name = shown(str(error.filename or "the archive"))
    words = (error.strerror or "input/output error").lower()
    if error.errno in _DISK_FULL:
        return {"error": f"no space left on device while unpacking {name}", "kind": "failed"}
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EFBIG, errno.EMLINK):
        return {"error": f"cannot unpack {name}: {words}", "kind": "refused"}
    return {"error": f"cannot unpack {name}: {words}", "kind": "failed"}
