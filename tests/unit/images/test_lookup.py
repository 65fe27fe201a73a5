"""Which image a name or an id means."""

from __future__ import annotations

import pytest

from runtime.images.catalogue import Catalogue
from runtime.images.errors import AmbiguousImage, ImageNotFound, InvalidReference, StoreCorrupted
from runtime.images.lookup import Known, find
from runtime.images.model import Image


def image(start, *tags):
    return Image(f"sha256:{start.ljust(64, '0')}", tags, 0, 0, {}, "amd64", "linux", ())


HOST = image("ff", "host:latest")
BOX = image("abc1", "busybox:latest", "me/box:2")
FACE = image("face", "abc2:latest")
TWIN = image("abc2", "twin:latest")
BROKEN = image("bad", "broken:latest")
ALL = [BOX, FACE, TWIN]
KNOWN = Known(
    Catalogue(
        {one.id: 1 for one in [*ALL, BROKEN]},
        {tag: one.id for one in [*ALL, BROKEN] for tag in one.tags},
    ),
    {one.id: one for one in ALL},
    {BROKEN.id: "gone"},
)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("busybox", BOX),
        ("docker.io/library/busybox:latest", BOX),
        ("index.docker.io/me/box:2", BOX),
        (BOX.id, BOX),
        (BOX.hex, BOX),
        ("abc1", BOX),
        ("sha256:abc1", BOX),
        ("abc2", FACE),
        ("abc20", TWIN),
        ("host", HOST),
        (HOST.id, HOST),
        ("ff0", HOST),
    ],
)
def test_found(reference, found):
    assert find(reference, KNOWN, lambda: HOST) is found


@pytest.mark.parametrize(
    ("reference", "error", "words"),
    [
        ("abc", AmbiguousImage, "multiple images found with provided prefix: abc"),
        ("nosuch", ImageNotFound, "No such image: nosuch:latest"),
        ("me/box", ImageNotFound, "No such image: me/box:latest"),
        ("busybox:2", ImageNotFound, "No such image: busybox:2"),
        ("0" * 64, ImageNotFound, f"No such image: {'0' * 64}"),
        ("Busybox", InvalidReference, "must be lowercase"),
        ("", InvalidReference, "invalid reference format"),
        ("broken", StoreCorrupted, "image broken:latest is damaged: gone"),
        ("bad0", StoreCorrupted, "image bad0 is damaged: gone"),
        (BROKEN.hex, StoreCorrupted, "is damaged: gone"),
    ],
)
def test_not_found(reference, error, words):
    with pytest.raises(error, match=words):
        find(reference, KNOWN, lambda: HOST)


def test_the_host_image_is_not_built_for_the_others():
    def build():
        raise AssertionError("built")

    assert find("busybox", KNOWN, build) is BOX
    assert find(BOX.id, KNOWN, build) is BOX
    with pytest.raises(ImageNotFound):
        find("nosuch", KNOWN, build)
