"""What the image store refuses, as one tree.

    ImageError                     status  meaning
    ├── InvalidReference           400     a name that can't be one
    ├── InvalidChange              400     a Dockerfile instruction that `import` can't apply
    ├── AmbiguousImage             400     a short id that fits several images
    ├── ImageNotFound              404
    ├── ImageConflict              409     in use, referenced more than once, …
    │   └── BuiltInImage           409     `host` can be neither removed nor replaced
    ├── ImportRefused              400     the archive can't become an image
    │   └── ImportFailed           500     it could, but this machine failed (disk full, killed)
    └── StoreCorrupted             500     a file of the store is not what we wrote

The text is one line, for people. `status` is what the Engine API answers.
"""

from __future__ import annotations

from typing import ClassVar


class ImageError(Exception):
    """Base of all refusals of the image store."""

    status: ClassVar[int] = 500


class InvalidReference(ImageError):
    """The text is no image name, tag or digest; texts are Docker's."""

    status = 400


class InvalidChange(ImageError):
    """A `--change` instruction is unknown or malformed; the text names it."""

    status = 400


class AmbiguousImage(ImageError):
    """A prefix of an image id fits more than one image."""

    status = 400

    def __init__(self, reference: str) -> None:
        super().__init__(
            f"multiple images found with provided prefix: {reference} (give more digits of the id)"
        )


class ImageNotFound(ImageError):
    """No image has this name or id."""

    status = 404

    def __init__(self, reference: str) -> None:
        super().__init__(f"No such image: {reference}")


class ImageConflict(ImageError):
    """The image can't be removed or renamed now; the text says who stands in the way."""

    status = 409


class BuiltInImage(ImageConflict):
    """`host` belongs to the engine."""


class ImportRefused(ImageError):
    """The archive can't become an image; the text names the entry where it went wrong."""

    status = 400


class ImportFailed(ImportRefused):
    """The archive may be fine but this machine failed: disk full, unpacking process killed."""

    status = 500


class StoreCorrupted(ImageError):
    """A file of the store does not hold what the store wrote; nothing was changed."""
