"""Trees of all kinds of files, and what is to be compared of them."""

from __future__ import annotations

import os
import socket
import stat


def make(root):
    """Fill a new directory with one of everything that a tar can hold."""
    root.mkdir()
    (root / "plain").write_bytes(b"plain\n" * 1000)
    os.chmod(root / "plain", 0o640)
    os.chown(root / "plain", 1234, 5678)
    os.utime(root / "plain", ns=(1, 981173106_123456789))
    (root / "old").write_bytes(b"")
    os.utime(root / "old", ns=(1, -1_500_000_000))
    os.link(root / "plain", root / "zz-hard")
    (root / "soft").symlink_to("plain")
    (root / "broken").symlink_to("../../nowhere/at/all")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "setuid").write_bytes(b"#!")
    os.chmod(root / "setuid", 0o6755)
    (root / "-dash").write_bytes(b"1")
    (root / "new\nline").write_bytes(b"2")
    (root / "späße").write_bytes(b"3")
    (root / ("long" * 60)).write_bytes(b"4")
    (root / ".wh.not-a-whiteout").write_bytes(b"5")
    with open(os.fsencode(root) + b"/not-\xff-utf8", "wb") as file:
        file.write(b"6")
    os.setxattr(root / "plain", "user.colour", b"\x00\xffblue=%")
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(1, 7))
    with open(root / "sparse", "wb") as file:
        file.seek(300 << 20)
        file.write(b"end")
        file.truncate(400 << 20)
    (root / "directory" / "below" / "empty").mkdir(parents=True)
    (root / "directory" / "below" / "file").write_bytes(os.urandom(300_000))
    os.chmod(root / "directory", 0o1777)
    os.chown(root / "directory", 42, 43)
    os.setxattr(root / "directory", "user.of", b"a directory")
    os.utime(root / "directory", ns=(1, 1_000_000_000_000_000_001))
    return root


def add_socket(root):
    """No tar can hold one."""
    one = socket.socket(socket.AF_UNIX)
    one.bind(str(root / "socket"))
    one.close()


def snapshot(root, owners=True):
    """All that is to be the same of two trees, by relative name."""
    root = os.fsencode(root)
    found, inodes = {}, {}
    for folder, directories, names in os.walk(root):
        for name in [b".", *directories, *names] if folder == root else [*directories, *names]:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            relative = os.path.relpath(path, root)
            about = [kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns]
            if owners:
                about += [status.st_uid, status.st_gid]
            if kind == stat.S_IFLNK:
                about.append(os.readlink(path))
            elif kind == stat.S_IFREG:
                about.append(inodes.setdefault(status.st_ino, relative))
                about.append(_content(path, status.st_size))
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                about.append(status.st_rdev)
            if kind in (stat.S_IFREG, stat.S_IFDIR):
                about.append({one: os.getxattr(path, one) for one in os.listxattr(path)})
            found[relative] = about
    return found


def _content(path, size):
    if size > 1 << 20:
        with open(path, "rb") as file:
            file.seek(size - (100 << 20))
            return size, file.read(16)
    with open(path, "rb") as file:
        return file.read()
