"""The parent's half of unpacking: start the child, feed it, commit what it made.

    job = store.begin_import("name:tag", "", [])     or begin_commit, Hold.begin_layer …
    write the archive to job.stdin_fd; BrokenPipeError means that the child has ended: stop
    job.close_stdin()
    wait until job.result_fd is readable
    image = job.finish()            or, at any moment, job.abort()

Where the archive is a file in the store's staging already, the child reads it by itself.

The child is the only one that parses what a stranger wrote; see `unpacker`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from runtime import flags
from runtime.images import confined_child
from runtime.images.errors import ImportFailed, ImportRefused
from runtime.images.model import Blob
from runtime.images.tar_source import is_kept_as_it_is
from runtime.images.trees import remove_tree
from runtime.kernel import DOOR

_PIPE_SIZE = 1 << 20
_INSIDE = flags.RESOLVE_IN_ROOT | flags.RESOLVE_NO_SYMLINKS
_PARTS = 15
"""Names that are short enough together, each of 255 bytes at most."""
BLOB = "blob"
"""In an unpacked layer's directory: the archive, as it is kept."""

Kind = Literal["root", "layer", "archive"]
"""What comes: an image's root, a layer that lies above others and says what of them it hides, or an
archive of images, whose files are only put aside."""

Report = dict[str, Any]
"""What the child says at its end; see `unpacker`."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A layer in staging that is complete.

    Attributes:
        directory: Holds `fs` and `blob`.
        blob: What `blob` is.
        diff_id: Hex digest of the uncompressed archive.
        size: Bytes of file content.
        is_empty: There was not one entry in the archive.
    """

    directory: Path
    blob: Blob
    diff_id: str
    size: int
    is_empty: bool


class UnpackJob(Generic[_T]):
    """One archive being unpacked. Not thread-safe; `finish` or `abort` must be called, once.

    Attributes:
        result_fd: Readable once the child has ended, well or not.
        warnings: After `finish`: what of the archive could not be kept, each with its count.
    """

    def __init__(
        self,
        directory: Path,
        commit: Callable[[Unpacked], _T],
        forget: Callable[[Path], None],
        *,
        is_layer: bool = False,
        file: Path | None = None,
    ) -> None:
        """Starts the child; it unpacks into `directory`/fs and keeps the archive beside it.

        Args:
            is_layer: What comes lies above other layers, and says what of them it hides.
            file: The archive, in the same file system; nothing is to be written to `stdin_fd`.

        Raises:
            OSError: No descriptors, no disk, no process; nothing is left.
        """
        self._commit = commit
        self._begin(directory, forget, "layer" if is_layer else "root", file)

    def _begin(
        self,
        directory: Path,
        forget: Callable[[Path], None],
        kind: Kind,
        file: Path | None = None,
    ) -> None:
        self.warnings: dict[str, int] = {}
        self._directory = directory
        self._forget = forget
        self._ended = False
        self._linked: Path | None = None
        stdin_r, stdin_w, result_r, blob = -1, -1, -1, -1
        try:
            _make_layer_directory(directory)
            if file is not None:
                stdin_r = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                stdin_w = os.dup(stdin_r)  # to see how far the child has read
                self._linked = file if is_kept_as_it_is(os.pread(stdin_r, 8, 0)) else None
            if kind != "archive" and self._linked is None:
                blob = os.open(directory / BLOB, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if file is None:
                stdin_r, stdin_w = os.pipe2(os.O_CLOEXEC)
                with contextlib.suppress(OSError):  # beyond the user's quota of pipe pages
                    fcntl.fcntl(stdin_w, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            result_r, result_w = os.pipe2(os.O_CLOEXEC)
            try:
                words = [str(directory / "fs"), str(result_w), kind, str(blob)]
                kept = (result_w, blob) if blob >= 0 else (result_w,)
                self._process = confined_child.start("unpacker", words, stdin_r, kept)
            finally:
                os.close(result_w)
        except BaseException:
            for fd in (stdin_w, result_r):
                if fd >= 0:
                    os.close(fd)
            # By path: there may be no descriptor left to look into it.
            with contextlib.suppress(FileNotFoundError):
                (directory / BLOB).unlink(missing_ok=True)
                (directory / "fs").rmdir()
                directory.rmdir()
            forget(directory)
            raise
        finally:
            for fd in (stdin_r, blob):
                if fd >= 0:
                    os.close(fd)
        self._stdin_fd = stdin_w
        self.result_fd = result_r

    @property
    def stdin_fd(self) -> int:
        """Where the archive goes; may be set non-blocking. -1 once it is closed."""
        return self._stdin_fd

    @property
    def taken(self) -> int:
        """Bytes of the file that the child has read; for a job of a file, before its end."""
        return os.lseek(self._stdin_fd, 0, os.SEEK_CUR)

    @property
    def pid(self) -> int:
        """The child's."""
        return self._process.pid

    def close_stdin(self) -> None:
        """Says that the archive is complete. Again is harmless."""
        fd, self._stdin_fd = self._stdin_fd, -1
        if fd >= 0:
            os.close(fd)

    def finish(self) -> _T:
        """Waits for the child, then puts into the store what it made (with fsync: tens of ms).

        Blocks while the child works: wait for `result_fd` first. On a refusal the half layer is
        removed, which takes as long as it is large: call it from a worker thread.

        Raises:
            ImportRefused: The archive is no good; the text names the entry.
            ImportFailed: This machine failed: disk full, child killed.
        """
        self._take_end()
        try:
            report = self._report()
            if "error" in report:
                refused = report.get("kind") == "refused"
                raise (ImportRefused if refused else ImportFailed)(str(report["error"]))
            self.warnings = dict(report.get("warnings", {}))
            return self._made(report)
        except OSError as error:
            raise ImportFailed(f"cannot store the image: {words_of(error)}") from error
        finally:
            self._close()
            self._remove()

    def _made(self, report: Report) -> _T:
        """What a child that ended well has made, completed and put where it belongs."""
        _mark_opaque(self._directory / "fs", report["opaque"])
        if self._linked is not None:
            os.link(self._linked, self._directory / BLOB)
        blob = Blob(report["digest"], report["blob_size"], report["media_type"])
        unpacked = Unpacked(
            self._directory, blob, report["diff_id"], report["size"], not report["entries"]
        )
        return self._commit(unpacked)

    def abort(self) -> None:
        """Kills the child and removes the half layer. Harmless after `finish` or `abort`."""
        if self._ended:
            return
        self._take_end()
        self._process.kill()
        self._process.wait()
        self._close()
        self._remove()

    def _take_end(self) -> None:
        if self._ended:
            raise RuntimeError("this job has been finished or aborted")
        self._ended = True
        self.close_stdin()

    def _report(self) -> Report:
        os.set_blocking(self.result_fd, True)
        data = bytearray()
        while piece := os.read(self.result_fd, 65536):
            data += piece
        code = self._process.wait()
        if not data.endswith(b"\n"):
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise ImportFailed(f"the unpacking process ended without an answer ({how})")
        report: Report = json.loads(data)
        return report

    def _close(self) -> None:
        fd, self.result_fd = self.result_fd, -1
        if fd >= 0:
            os.close(fd)

    def _remove(self) -> None:
        """What was committed has been renamed away and is not here any more."""
        with contextlib.suppress(OSError):  # the sweep of the next start-up tries again
            remove_tree(self._directory)
        self._forget(self._directory)


def _make_layer_directory(directory: Path) -> None:
    """The mode and owner of a root directory that the archive does not mention."""
    directory.mkdir(mode=0o700)
    layer = directory / "fs"
    layer.mkdir()
    os.chown(layer, 0, 0)
    layer.chmod(0o755)


def _mark_opaque(layer: Path, names: Iterable[str]) -> None:
    """Marks directories that hide all below them (overlayfs.rst, "whiteouts and opaque ...").

    An archive made the tree, so no name is followed out of it, nor through a link.
    """
    root = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            fd = _open_inside(root, os.fsencode(name))
            try:
                os.setxattr(fd, "trusted.overlay.opaque", b"y")
            finally:
                os.close(fd)
    finally:
        os.close(root)


def _open_inside(root: int, name: bytes) -> int:
    """A directory of a layer, however deep: piece by piece, as a path has 4095 bytes at most."""
    parts = name.split(b"/")
    fd = os.dup(root)
    for at in range(0, len(parts), _PARTS):
        above, piece = fd, b"/".join(parts[at : at + _PARTS]) or b"."
        try:
            fd = DOOR.openat2(above, piece, os.O_RDONLY | os.O_DIRECTORY, _INSIDE)
        finally:
            os.close(above)
    return fd


def words_of(error: OSError) -> str:
    """What a refusal of this machine's disk is called."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on device"
    return str(error)
