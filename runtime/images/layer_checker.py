"""The checking child: confined to a layer, it holds that against its archive.

    argv     LAYER_DIRECTORY RESULT_FD KIND
             KIND: `lowest` where no image has anything below it, else `layer`
    stdin    the archive, as it is kept
    result   lines of JSON:
             {"read": bytes of the archive so far}                     now and then
             {"path", "words"}                                         a difference
             {"digest", "diff_id", "differences", "opaque": [place, …]}   at the end
             or {"error": text}; nothing if it was killed

It ends with whoever reads its result, and lets everybody else go first.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping

from runtime.images.comparison import compare, opaque_of
from runtime.images.confinement import READING, confine, die_with_reader
from runtime.images.entry_names import shown
from runtime.images.expectation import Expected, expected_of
from runtime.images.tar_source import CHUNK, Archive, Refusal, TarSource

MOST_TOLD = 20
"""Differences of one layer that are told one by one; more are counted."""

_EVERY = 16 << 20
_INPUT = 0
_LAST_IN_LINE = 19


def main(directory: str, result: str, kind: str) -> None:
    """Checks `directory` against stdin and reports. Never raises: the report is the answer."""
    result_fd = int(result)
    report = _Report(result_fd)
    try:
        os.nice(_LAST_IN_LINE)
        archive = _Counted(_INPUT, report)
        archive.load()
        confine(directory, READING)
        die_with_reader(result_fd)
        _check(archive, report, is_lowest=kind == "lowest")
    except Refusal as refusal:
        report.say({"error": str(refusal)})
    except OSError as error:
        name = f"{shown(os.fsdecode(error.filename))}: " if error.filename else ""
        report.say({"error": f"{name}{error.strerror or error}".lower()})
    except Exception as error:  # noqa: BLE001 - a bug of ours must reach the user as words
        report.say({"error": f"{type(error).__name__}: {error}"})
    os._exit(0)


def _check(archive: _Counted, report: _Report, *, is_lowest: bool) -> None:
    source = TarSource(archive)
    root = expected_of(source, is_layer=True)
    diff_id = source.diff_id()
    differences = _differences(root)
    if differences and is_lowest:
        # Where nothing is below, what hides it may have been left out: imports did that.
        other = expected_of(TarSource(archive.again()), is_layer=False)
        differences = _differences(other) and differences
    for path, words in differences[:MOST_TOLD]:
        report.say({"path": path, "words": words})
    report.say(
        {
            "digest": archive.blob(diff_id)["digest"],
            "diff_id": f"sha256:{diff_id}",
            "differences": len(differences),
            "opaque": sorted(opaque_of(root)),
        }
    )


def _differences(root: Expected) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    compare(root, lambda path, words: found.append((shown(path), words)))
    return found


class _Counted(Archive):
    """An archive that tells how far it was read."""

    def __init__(self, fd: int, report: _Report) -> None:
        super().__init__(fd)
        self._report = report
        self._told = 0

    def read(self, length: int = CHUNK) -> bytes:
        piece = super().read(length)
        if self.came - self._told >= _EVERY:
            self._told = self.came
            self._report.say({"read": self.came})
        return piece

    def again(self) -> Archive:
        """The same archive from its beginning, with what was loaded for it."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        other = Archive(self._fd)
        other.load()
        return other


class _Report:
    """Where the answers go; lines are short enough to be written at once, by any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def say(self, line: Mapping[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # then `die_with_reader` ends us
            os.write(self._fd, json.dumps(line).encode() + b"\n")
