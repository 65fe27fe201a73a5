"""The path rules of `cp`: what goes where under which name. No request, no file is opened.

They are those of Docker's client (docker/cli cp.go, moby/go-archive copy.go), which follow cp -r
with two marks of their own: a path that ends in `/` says that it is a directory, and one that ends
in `/.` means what is in the directory and not the directory itself.
"""

from __future__ import annotations

import os
import posixpath
import stat
from typing import NamedTuple

from mdocker.errors import CliError

_MOST_LINKS = 10

# os.FileMode of Go, in which the engine tells modes.
GO_DIRECTORY = 1 << 31
GO_SYMLINK = 1 << 27
_GO_DEVICE = 1 << 26
_GO_IRREGULAR = 1 << 19


class Refused(CliError):
    """The paths do not fit together, or a local file can't be had; the text is Docker's."""


class Place(NamedTuple):
    """One side of a copy.

    Attributes:
        path: Absolute, cleaned, with the mark at its end.
        exists: Something is there.
        is_directory: It is a directory.
        rename: What the copy is called instead of the last part of `path`; empty for that.
    """

    path: str
    exists: bool = False
    is_directory: bool = False
    rename: str = ""


class Plan(NamedTuple):
    """How a copy is unpacked.

    Attributes:
        directory: Where.
        name: What its top entry is called there; None where it keeps its name.
    """

    directory: str
    name: str | None


def split_argument(argument: str) -> tuple[str, str]:
    """Split CONTAINER:PATH; the container is empty for a local path.

    A local path with a colon is told by a `/` or `.` at its beginning, as scp has it.
    """
    if argument.startswith("/"):
        return "", argument
    container, colon, path = argument.partition(":")
    if not colon or container.startswith("."):
        return "", argument
    return container, path


def local(path: str) -> str:
    """A local path, absolute and cleaned, with the mark at its end."""
    return marked(clean(os.path.join(os.getcwd(), path)), path)


def clean(path: str) -> str:
    """Without empty parts, `.` and `..`, as Go's filepath.Clean has it."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def marked(cleaned: str, original: str) -> str:
    """A cleaned path with the mark that it had: a slash or `/.` at its end."""
    if _means_contents(original) and not _means_contents(cleaned):
        cleaned = cleaned if cleaned.endswith("/") else cleaned + "/"
        cleaned += "."
    if original.endswith("/") and not cleaned.endswith("/"):
        cleaned += "/"
    return cleaned


def _means_contents(path: str) -> bool:
    return base(path) == "."


def base(path: str) -> str:
    """The last part of a path, as Go's filepath.Base has it."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def split_entry(path: str) -> tuple[str, str]:
    """The directory and the entry in it that a path means; `.` for a directory's contents."""
    cleaned = clean(path)
    if _means_contents(path):
        cleaned = ("" if cleaned == "/" else cleaned) + "/."
    directory, _, last = cleaned.rpartition("/")
    return directory or "/", last or "/"


def top_name(path: str) -> str:
    """What the first part of all names is in the engine's archive of a path; empty for the root."""
    cleaned = marked(clean(f"/{path}"), path)
    return "" if not cleaned.strip("/") else base(cleaned)


def followed(path: str, target: str) -> tuple[str, str]:
    """Where a followed link leads, with the link's mark, and what the copy is called then."""
    target = marked(target, path)
    return target, base(path) if base(path) != base(target) else ""


def local_source(path: str, *, follow: bool) -> Place:
    """Look at what is to be copied; links in its directory are followed, itself only if asked.

    Raises:
        Refused: It is not there, or no directory though it says so.
    """
    rename = ""
    if follow:
        path, rename = followed(path, _real(path))
    else:
        asked = path
        directory, _, last = path.rpartition("/")
        path = f"{_real(directory or '/').rstrip('/')}/{last}"
        if not last and base(path) != base(asked):
            rename = base(asked)  # a directory by a link to it, called by the link's name
    return Place(path, True, stat.S_ISDIR(_status(path).st_mode), rename)


def _real(path: str) -> str:
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise Refused(f"lstat {error.filename or path}: {words(error)}") from error


def _status(path: str) -> os.stat_result:
    try:
        return os.lstat(path)
    except OSError as error:
        raise Refused(f"lstat {path}: {words(error)}") from error


def local_destination(path: str) -> Place:
    """Look at where something is to be copied; a link there is followed, even to nowhere.

    Raises:
        Refused: The directory that it would be in is not there.
    """
    original = path
    for _ in range(_MOST_LINKS + 1):
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            break
        except OSError as error:
            raise Refused(f"lstat {path}: {words(error)}") from error
        if not stat.S_ISLNK(mode):
            return Place(path, True, stat.S_ISDIR(mode))
        path = clean(os.path.join(split_entry(path)[0], os.readlink(path)))
    else:
        raise Refused(f"too many symlinks in {original}")
    directory = split_entry(path)[0]
    try:
        mode = os.stat(directory).st_mode
    except OSError as error:
        raise Refused(f"stat {directory}: {words(error)}") from error
    if not stat.S_ISDIR(mode):
        raise Refused("not a directory")
    return Place(path)


def plan(source: Place, destination: Place) -> Plan:
    """Decide where a copy is unpacked, and under which name.

    Raises:
        Refused: A directory onto a file, or a file onto a directory that is not there.
    """
    directory, name = split_entry(destination.path)
    if destination.exists and destination.is_directory:
        return Plan(destination.path, source.rename or None)
    if destination.exists and source.is_directory:
        raise Refused(
            f"cannot copy directory {source.path} onto {destination.path}, which is no directory"
        )
    if not destination.exists and not source.is_directory:
        path = destination.path
        if path.endswith("/") or _means_contents(path):
            raise Refused(f"no such directory: {path}; make it first")
    return Plan(directory, name)


def check_output(path: str) -> None:
    """See that a file or directory can be written at a path.

    Raises:
        Refused: Its directory is not there, or it is a device.
    """
    directory = os.path.dirname(clean(path))
    if directory not in ("", ".") and not os.path.exists(directory):
        raise Refused(f'invalid output path: directory "{directory}" does not exist')
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise Refused(f"stat {path}: {words(error)}") from error
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise Refused(
            f'invalid output path: "{path}" must be a directory or a regular file: got a device'
        )


def refused_kind(go_mode: int) -> str:
    """Why nothing can be copied onto what has this mode; empty if it can."""
    if go_mode & _GO_DEVICE:
        return "got a device"
    if go_mode & _GO_IRREGULAR:
        return "got an irregular file"
    return ""


def words(error: OSError) -> str:
    """A system call's failure as Go spells it."""
    return (error.strerror or "input/output error").lower()
