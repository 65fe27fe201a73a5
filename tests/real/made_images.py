"""Images for tests: busybox in several layers, and one with thousands of files."""

from __future__ import annotations

import io
import tarfile

from tests.clients.root_trees import busybox_tar
from tests.real.image_store import archive, entry

TIME = 1_700_000_000

XATTR = {"SCHILY.xattr.user.colour": "blue"}


def busybox_layers():
    """The tars of an image that changes, covers, and takes away what lower layers hold.

    On top there are `/birds/wren` ("third"), `/birds/robin` and its hard link `/birds/also-robin`,
    `/birds/link` -> wren, `/only/new` (of `/only`, which a layer makes opaque), `/big` (1 MiB of
    zeros), a long name below `/deep`; gone are `/birds/gone` and `/old`.
    """
    directory = tarfile.DIRTYPE
    second = archive(
        entry("birds", directory, mtime=TIME),
        (entry("birds/wren", mtime=TIME), b"second"),
        (entry("birds/gone", mtime=TIME), b"not for long"),
        (entry("birds/robin", mtime=TIME, mode=0o4755, uid=1000, gid=1000), b"robin\n" * 1000),
        entry("only", directory, mtime=TIME),
        (entry("only/covered", mtime=TIME), b"covered"),
        entry("old", directory, mtime=TIME),
        (entry("old/file", mtime=TIME), b"old"),
        (entry("big", mtime=TIME), bytes(1 << 20)),
    )
    deep = "deep/" + "/".join(["directory"] * 20)
    third = archive(
        entry("birds", directory, mtime=TIME, mode=0o750),
        (entry("birds/wren", mtime=TIME, pax_headers=XATTR), b"third"),
        (entry("birds/.wh.gone"), b""),
        entry("birds/link", tarfile.SYMTYPE, "wren", mtime=TIME),
        (entry("birds/robin", mtime=TIME, mode=0o755), b"robin\n"),
        entry("birds/also-robin", tarfile.LNKTYPE, "birds/robin", mtime=TIME, mode=0o755),
        entry("only", directory, mtime=TIME),
        (entry("only/.wh..wh..opq"), b""),
        (entry("only/new", mtime=TIME), b"new"),
        (entry(".wh.old"), b""),
        (entry(f"{deep}/{'n' * 200}", mtime=TIME), b"long"),
        format=tarfile.PAX_FORMAT,
    )
    return [busybox_tar(), second, third]


def many_files(count=3000, size=500):
    """The tar of a layer of small files, a hundred in each directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for number in range(count):
            name = f"many/{number // 100:03}/{number:05}"
            info = entry(name, mtime=TIME, mode=0o600 if number % 7 else 0o755)
            info.size = size + number % 100
            tar.addfile(info, io.BytesIO(f"{number:08}".encode() * (info.size // 8 + 1)))
    return out.getvalue()


def add_busybox(layout, tag="latest", compressions=("gzip", "gzip", "gzip")):
    """Put the image of `busybox_layers` into a layout; returns its descriptor."""
    tars = zip(busybox_layers(), compressions, strict=True)
    image = layout.add_image([layout.add_layer(tar, how) for tar, how in tars])
    layout.tag(image, tag)
    return image


def add_many_files(layout, tag="many", count=3000):
    """Put an image of thousands of files over busybox into a layout; returns its descriptor."""
    layers = [layout.add_layer(tar) for tar in (busybox_tar(), many_files(count))]
    image = layout.add_image(layers)
    layout.tag(image, tag)
    return image
