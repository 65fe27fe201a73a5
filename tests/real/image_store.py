"""A store of a test's own that must be clean at its end, and archives built in the test."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path

from runtime.images.store import ImageStore


@contextlib.contextmanager
def clean_store(root: Path):
    """An ImageStore; at the end nothing is in staging, no descriptor and no child is left of it."""
    store = ImageStore(root)
    before, others = open_files(), children()
    yield store
    assert list((root / "staging").iterdir()) == []
    assert open_files() == before
    assert children() == others


def open_files():
    """Our descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith("/proc/"):
                found[int(name)] = target
    return found


def children():
    """Pids of our children, zombies included."""
    found = []
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += Path(f"/proc/self/task/{task}/children").read_text().split()
    return found


def archive(*entries, **options) -> bytes:
    """A tar of TarInfo, (TarInfo, bytes) or ready-made bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:
        for item in entries:
            if isinstance(item, tarfile.TarInfo):
                tar.addfile(item)
            else:
                info, data = item
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def entry(name, kind=tarfile.REGTYPE, link="", **fields) -> tarfile.TarInfo:
    """A TarInfo."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def described(root: Path):
    """All that can be known of a tree: path -> what is there; hard links by their first name."""
    root = root.resolve()  # layers are called by links to them
    found = {}
    first_names: dict[tuple[int, int], bytes] = {}
    for path in [os.fsencode(root), *_paths(os.fsencode(root))]:
        status = os.lstat(path)
        name = path[len(os.fsencode(root)) :] or b"/"
        kind = stat.S_IFMT(status.st_mode)
        what = {
            "mode": oct(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "mtime": status.st_mtime_ns,
            "xattrs": {
                key: os.getxattr(path, key, follow_symlinks=False)
                for key in os.listxattr(path, follow_symlinks=False)
            },
        }
        if kind != stat.S_IFDIR:
            what["same as"] = first_names.setdefault((status.st_dev, status.st_ino), name)
            what["links"] = status.st_nlink
        if kind == stat.S_IFREG:
            what["size"] = status.st_size
            what["sparse"] = status.st_blocks * 512 < status.st_size
            with open(path, "rb") as file:
                what["content"] = hashlib.file_digest(file, "sha256").hexdigest()
        elif kind == stat.S_IFLNK:
            what["target"] = os.readlink(path)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            what["device"] = status.st_rdev
        found[name] = what
    return found


def _paths(root: bytes):
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(folders + files):
            yield os.path.join(folder, name)
