"""A build's context out of a git repository: fetched by git itself, as Docker's client does it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from mdocker.errors import CliError

# What a hook is told of its own repository is not for this one.
_OF_ANOTHER = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES"),
        *("COMMON_DIR", "NAMESPACE", "PREFIX", "SHALLOW_FILE"),
    )
)
_ADDRESS = re.compile(r"git://|git@|ssh://|github\.com/|https?://[^#]*\.git(?:#|$)")


class NotFetched(CliError):
    """It can't be had; the text says why."""


class Address(NamedTuple):
    """What `URL#REF:DIRECTORY` says.

    Attributes:
        url: As git understands it.
        reference: A branch, tag or commit; HEAD where none is named.
        directory: In the repository; empty for all of it.
    """

    url: str
    reference: str
    directory: str


def is_address(place: str) -> bool:
    """Whether a word means a repository, as Docker sees it."""
    return _ADDRESS.match(place) is not None


def parse(place: str) -> Address:
    """Take an address apart.

    Raises:
        NotFetched: Its reference would be an option to git.
    """
    url, _, fragment = place.partition("#")
    reference, _, directory = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if reference.startswith("-"):
        raise NotFetched(f"unable to prepare context: invalid refspec: {reference}")
    return Address(url, reference or "HEAD", directory)


@contextmanager
def fetched(place: str) -> Iterator[str]:
    """Fetch a repository; give the directory, which is there until the block is left.

    Without .git, whose files differ from one fetch to the next, so nothing would ever be cached.

    Raises:
        NotFetched: There is no git, it fails, or there is no such directory.
    """
    address = parse(place)
    with tempfile.TemporaryDirectory(prefix="mdocker-build-git-") as top:
        store = os.path.join(top, ".git")
        tree = os.path.join(top, "tree")
        os.mkdir(tree)
        git = ("git", f"--git-dir={store}", f"--work-tree={tree}")
        _run(*git, "init", "--quiet")
        _run(*git, "remote", "add", "origin", address.url)
        wanted = (*git, "fetch", "--quiet", "origin", address.reference)
        try:
            # Not every server can leave history behind.
            _run(*wanted, "--depth=1")
        except NotFetched:
            _run(*wanted)
        _run(*git, "checkout", "--quiet", "FETCH_HEAD")
        if os.path.lexists(os.path.join(tree, ".gitmodules")):
            _run(*git, "-C", tree, "submodule", "--quiet", "update", "--init", "--recursive")
        directory = os.path.realpath(os.path.join(tree, address.directory.lstrip("/")))
        inside = os.path.commonpath((directory, os.path.realpath(tree)))
        if inside != os.path.realpath(tree) or not os.path.isdir(directory):
            raise NotFetched(
                f"unable to prepare context: not a directory in {address.url}: {address.directory}"
            )
        yield directory


def _run(*words: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER}
    try:
        subprocess.run(
            words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, check=True
        )
    except FileNotFoundError as error:
        raise NotFetched("unable to prepare context: unable to find 'git': install it") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise NotFetched(
            f"unable to prepare context: 'git {words[3]}' failed: {said or error.returncode}"
        ) from error
