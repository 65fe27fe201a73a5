"""Short names of layers, by which overlayfs is told of them.

    <root>/short/<the first digits of a diff id> -> ../layers/<diff id>/fs

mount(2) takes one page of options, into which the paths of fifty layers would fit. Named from this
directory (`runtime.mounts.fitting_options`) it is as many as overlayfs stacks.

What the links say is in the layers' own names, too: whatever is amiss when the store is opened is
made anew from them, so a crash can cost none, and nothing needs to be synced.
"""

from __future__ import annotations

import os
from pathlib import Path

MOST_LAYERS = 490
"""Of an image. overlayfs stacks 500 (OVL_MAX_STACK, fs/overlayfs/params.c), and to look at a
container its own layer and places for its mounts lie on those of its image."""

_LEAST_DIGITS = 6
"""With as many layers as there may be they leave room in the page for two paths of 300 letters, of
the upper directory and the work directory."""


class ShortNames:
    """The names of one store's layers. Whoever adds or removes one must hold the store's lock."""

    def __init__(self, directory: Path, layers: Path) -> None:
        """Reads the names, and mends them: each layer gets one, and nothing else has one.

        Raises:
            OSError: The links can't be read or made.
        """
        self._directory = directory
        self._layers = layers
        # A name may be another layer's after its own is gone: nobody keeps one for long.
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        here = {name for name in os.listdir(layers) if len(name) == 64}
        for name in sorted(os.listdir(directory)):
            digits = _layer_of(directory / name)
            if digits in here and digits not in self._names and digits.startswith(name):
                self._keep(digits, name)
                continue
            try:
                (directory / name).unlink()
            except OSError:
                self._taken.add(name)  # somebody's directory
        for digits in sorted(here - self._names.keys()):
            self.add(digits)

    def path(self, digits: str) -> str:
        """An absolute path of a layer's files; looks at no disk.

        Args:
            digits: Of the layer's diff id.

        Raises:
            KeyError: There is no such layer.
        """
        return f"{self._directory}/{self._names[digits]}"

    def add(self, digits: str) -> None:
        """Names a layer that is there, or is about to be.

        Raises:
            OSError: The link can't be made.
        """
        if digits not in self._names:
            names = (digits[:length] for length in range(_LEAST_DIGITS, len(digits) + 1))
            self._keep(digits, next(name for name in names if name not in self._taken))
        link = self._directory / self._names[digits]
        try:
            link.symlink_to(_target(digits))
        except FileExistsError:
            if _layer_of(link) != digits:
                link.unlink()
                link.symlink_to(_target(digits))

    def remove(self, digits: str) -> None:
        """Takes a layer's name away.

        Raises:
            OSError: The link can't be removed; it is still the layer's.
        """
        if digits in self._names:
            (self._directory / self._names[digits]).unlink(missing_ok=True)
            self._taken.discard(self._names.pop(digits))

    def amiss(self) -> list[str]:
        """What is wrong with the links, in words; reads each of them."""
        return [
            f"the short name {self.path(digits)} does not lead to layer {digits}"
            for digits, name in list(self._names.items())
            if _layer_of(self._directory / name) != digits and (self._layers / digits).is_dir()
        ]

    def _keep(self, digits: str, name: str) -> None:
        self._names[digits] = name
        self._taken.add(name)


def _target(digits: str) -> str:
    return f"../layers/{digits}/fs"


def _layer_of(link: Path) -> str:
    """The layer that a link leads to; empty if it is none of ours."""
    try:
        target = os.readlink(link)
    except OSError:
        return ""
    digits = target.removeprefix("../layers/").removesuffix("/fs")
    return digits if target == _target(digits) else ""
