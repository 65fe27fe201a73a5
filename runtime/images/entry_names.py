"""Where entries may go: names and link targets are checked as text, before a file is touched.

The chroot is what keeps an archive in its place; these checks are for the person who should hear
that the archive is wrong, and keep layers free of links that lead out. All names here are
relative, without "." parts; "" is the root.
"""

from __future__ import annotations

from runtime.images.tar_source import Refusal

_MOST_LINKS = 40
_LONGEST_SHOWN = 160


def shown(name: str) -> str:
    """A name fit for one line of text."""
    # ascii() and not a codec: codecs are modules, and the chroot has none to load.
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def checked_name(name: str) -> str:
    """The name of an entry, normalised.

    Raises:
        Refusal: It is absolute, has a `..` part or a NUL.
    """
    if name.startswith("/"):
        raise Refusal(f"{shown(name)}: absolute names are not allowed in an image archive")
    if "\0" in name:
        raise Refusal(f"{shown(name)}: the name holds a NUL character")
    parts = name.split("/")
    if ".." in parts:
        raise Refusal(f"{shown(name)}: the name leads out of the image ('..')")
    if "" in parts or "." in parts:
        return "/".join(part for part in parts if part not in ("", "."))
    return name


def checked_link_source(name: str, target: str) -> str:
    """The name that a hard link points to, normalised.

    Raises:
        Refusal: It is absolute or has a `..` part.
    """
    if not target or target.startswith("/") or ".." in target.split("/") or "\0" in target:
        raise Refusal(f"{shown(name)}: hard link leads out of the image ({shown(target)})")
    return checked_name(target)


def check_symlink(name: str, target: str) -> None:
    """Checks the target of a symbolic link at `name`, whose parent directory is resolved.

    An absolute target is fine: it is followed inside the container.

    Raises:
        Refusal: The target is empty, holds a NUL, or climbs above the root.
    """
    if not target or "\0" in target:
        raise Refusal(f"{shown(name)}: symbolic link without a valid target")
    if target.startswith("/"):
        return
    depth = name.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if depth < 0:
                raise Refusal(
                    f"{shown(name)}: symbolic link leads out of the image ({shown(target)})"
                )
        elif part not in ("", "."):
            depth += 1


class Links:
    """The symbolic links that the archive made so far, to tell where a name really is.

    Names are followed in memory: all that is in the layer was put there by its archive.
    """

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}
        self._resolved: dict[str, str] = {}

    def add(self, name: str, target: str) -> None:
        """Records a link, checked before, whose parent directory is resolved."""
        self._targets[name] = target
        self._resolved.clear()

    def get(self, name: str) -> str | None:
        """The target if a link is there."""
        return self._targets.get(name)

    def discard(self, name: str) -> None:
        """The link was replaced by something else."""
        if self._targets.pop(name, None) is not None:
            self._resolved.clear()

    def discard_below(self, directory: str) -> None:
        """The directory was replaced by something else."""
        prefix = f"{directory}/"
        gone = [name for name in self._targets if name.startswith(prefix)]
        for name in gone:
            del self._targets[name]
        self._resolved.clear()

    def resolve_directory(self, directory: str) -> str:
        """Where a directory really is, links followed as the container would.

        Raises:
            Refusal: A link leads out, or there are too many of them.
        """
        if not self._targets or not directory:
            return directory
        found = self._resolved.get(directory)
        if found is None:
            found = self._resolved[directory] = self._follow(directory)
        return found

    def _follow(self, directory: str) -> str:
        todo = directory.split("/")[::-1]
        done: list[str] = []
        followed = 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    raise Refusal(f"{shown(directory)}: leads out through a symbolic link")
                done.pop()
                continue
            done.append(part)
            target = self._targets.get("/".join(done))
            if target is None:
                continue
            followed += 1
            if followed > _MOST_LINKS:
                raise Refusal(f"{shown(directory)}: too many levels of symbolic links")
            done.pop()
            if target.startswith("/"):
                done.clear()
            todo.extend(target.split("/")[::-1])
        return "/".join(done)
