"""Where a build's context comes from: a directory, standard input, or an address.

The rules and words are Docker's (docker/cli, cli/command/image/build/context.go): which file is the
Dockerfile, and how one that is not in the context gets there.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import NamedTuple

from mdocker.context_sending import ContextSending, single
from mdocker.copy_rules import words
from mdocker.dockerignore import Rules
from mdocker.errors import CliError
from mdocker.git_context import fetched, is_address

_PIECE = 1024 * 1024
_HEAD = 1024
_IGNORE = ".dockerignore"
_DOCKERFILE = "Dockerfile"
# What an archive begins with: gzip, bzip2, xz and zstd.
_PACKED = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
_CHECKSUM = slice(148, 156)
_URL = re.compile(r"https?://")


class NoContext(CliError):
    """There is none, or no Dockerfile in it; the text says which."""


class Context(NamedTuple):
    """What a build is made of.

    Attributes:
        read: Gives the next piece of the context's archive, b"" at its end.
        dockerfile: The Dockerfile's name in it; empty for the usual one.
        remote: Where the engine shall fetch the context from; empty if it is sent.
    """

    read: Callable[[], bytes]
    dockerfile: str = ""
    remote: str = ""


def find_context(place: str, file: str, stack: ExitStack) -> Context:
    """Find out what a command line means; nothing of it is read yet, but for its beginning.

    Args:
        place: A directory, an address, or - for standard input.
        file: The Dockerfile's path, from here; - for standard input, empty for the usual one.
        stack: Left when the context has been read.

    Raises:
        NoContext, NotFetched: There is none.
    """
    if place == "-":
        if file == "-":
            raise NoContext(
                "invalid argument: can't use stdin for both build context and dockerfile"
            )
        return _from_stdin(file)
    if os.path.exists(place):
        return _from_directory(place, file)
    if is_address(place):
        directory = stack.enter_context(fetched(place))
        inside = file if file in ("", "-") else os.path.join(directory, file)
        return _from_directory(directory, inside, only_inside=True)
    if _URL.match(place):
        if file == "-":
            raise NoContext(
                "unable to prepare context: a Dockerfile of standard input needs a directory"
            )
        return Context(_of(iter(())), file, place)
    raise NoContext(f'unable to prepare context: path "{place}" not found')


def _of(pieces: Iterator[bytes]) -> Callable[[], bytes]:
    return partial(next, pieces, b"")


def _from_stdin(file: str) -> Context:
    head = b""
    while len(head) < _HEAD and (piece := os.read(0, _PIECE)):
        head += piece
    rest = iter(partial(os.read, 0, _PIECE), b"")
    if is_archive(head):
        return Context(_of(chain([head], rest)), file)
    if file:
        raise NoContext(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag "
            "correspond to Dockerfiles"
        )
    return Context(_of(single(_DOCKERFILE, head + b"".join(rest))))


def is_archive(head: bytes) -> bool:
    """Whether a file that begins so (1024 bytes, or all of it) is a tar, packed or not."""
    if head.startswith(_PACKED):
        return True
    block = head[:512]
    if len(block) < 512:
        return False
    try:
        said = int(block[_CHECKSUM].strip(b" \0") or b"x", 8)
    except ValueError:
        # Two blocks of zeros are an archive of nothing.
        return len(head) >= _HEAD and not any(head[:_HEAD])
    return said == sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")


def _from_directory(place: str, file: str, *, only_inside: bool = False) -> Context:
    root = os.path.realpath(place)
    if not os.path.isdir(root):
        raise NoContext(f"unable to prepare context: context must be a directory: {root}")
    if file == "-":
        content = b"".join(iter(partial(os.read, 0, _PIECE), b""))
        return _with_dockerfile(root, _IGNORE, content)
    path = _dockerfile(root, file)
    name = os.path.relpath(path, root)
    outside = name.startswith("../")
    if outside and only_inside:
        raise NoContext(
            f"unable to prepare context: the Dockerfile ({name}) must be within the build context"
        )
    own = f"{path}{_IGNORE}"
    if outside or os.path.lexists(own):
        return _with_dockerfile(root, own if os.path.lexists(own) else _IGNORE, _content(path))
    rules = _rules(root, _IGNORE)
    sending = ContextSending(root, rules, always=(name, _IGNORE))
    return Context(_of(sending.context()), name)


def _dockerfile(root: str, file: str) -> str:
    """The Dockerfile's path, without links."""
    path = os.path.abspath(file) if file else os.path.join(root, _DOCKERFILE)
    if not file and not os.path.lexists(path):
        other = os.path.join(root, _DOCKERFILE.lower())
        path = other if os.path.lexists(other) else path
    try:
        return os.path.realpath(path, strict=True)
    except OSError as error:
        raise NoContext(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
            f"lstat {path}: {words(error)}"
        ) from error


def _inside(root: str, name: str) -> str:
    """The path of a file in a directory, without links; empty if none is there.

    A link that leads out would have a stranger's repository say which of our files is sent.
    """
    path = os.path.realpath(os.path.join(root, name))
    inside = os.path.commonpath((path, root)) == root
    return path if inside and os.path.lexists(path) else ""


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise NoContext(f"unable to open Dockerfile: open {path}: {words(error)}") from error


def _rules(root: str, name: str) -> Rules:
    try:
        with open(os.path.join(root, name), encoding="utf-8", errors="surrogateescape") as file:
            return Rules(file, os.path.basename(name))
    except FileNotFoundError:
        return Rules(())
    except OSError as error:
        raise NoContext(f"unable to read {name}: {words(error)}") from error


def _with_dockerfile(root: str, ignore: str, content: bytes) -> Context:
    """A context whose Dockerfile is none of its files: it goes along, and not into the image.

    The engine takes both files out of the context again where .dockerignore names them.
    """
    rules = _rules(root, ignore)
    name = f".dockerfile.{hashlib.sha256(content).hexdigest()[:20]}"
    kept = ignore == _IGNORE or not rules.excludes(_IGNORE)
    listed = _inside(root, _IGNORE) if kept else ""
    lines = _content(listed) if listed else _IGNORE.encode()
    written = {name: content, _IGNORE: lines + f"\n{name}\n".encode()}
    return Context(_of(ContextSending(root, rules, written=written).context()), name)
