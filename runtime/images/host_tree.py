"""Generates the tree that image `host` lays under this machine's /usr.

Nothing private is copied: only what is world-readable and named here. Real people of the machine
are not in its passwd; system accounts keep the numbers that they have here, since files under
/usr belong to those numbers.
"""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

# Links on a merged-/usr system, real directories elsewhere (then they are bound like /usr).
ROOT_LINKS = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")

_DIRECTORIES = {
    "proc": 0o555,
    "sys": 0o555,
    "dev": 0o755,
    "tmp": 0o1777,
    "run": 0o755,
    "run/lock": 0o1777,
    "root": 0o700,
    "home": 0o755,
    "mnt": 0o755,
    "media": 0o755,
    "srv": 0o755,
    "opt": 0o755,
    "usr": 0o755,
    "etc": 0o755,
    "var": 0o755,
    "var/tmp": 0o1777,
    "var/log": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/spool": 0o755,
}
_LINKS = {"var/run": "/run", "var/lock": "/run/lock", "etc/mtab": "/proc/self/mounts"}

# Public configuration that programs under /usr can't do without, files and directories.
_COPIED = (
    "etc/alternatives",
    "etc/crypto-policies",
    "etc/java-*",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    "etc/localtime",
    "etc/os-release",
    "etc/pki/ca-trust/extracted",
    "etc/pki/tls",
    "etc/protocols",
    "etc/resolv.conf",
    "etc/services",
    "etc/ssl",
    "etc/terminfo",
    "etc/timezone",
)
# Never entered, whatever their mode.
_PRIVATE = frozenset({"private"})
_LARGEST_COPY = 16 << 20

_NSSWITCH = """\
passwd:     files
group:      files
hosts:      files dns
networks:   files
protocols:  files
services:   files
"""
_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

# name: (uid, gid, home), Debian's numbers where this machine has none of its own.
_USERS = {
    "root": (0, 0, "/root"),
    "daemon": (1, 1, "/usr/sbin"),
    "bin": (2, 2, "/bin"),
    "sys": (3, 3, "/dev"),
    "games": (5, 60, "/usr/games"),
    "man": (6, 12, "/var/cache/man"),
    "lp": (7, 7, "/var/spool/lpd"),
    "mail": (8, 8, "/var/mail"),
    "www-data": (33, 33, "/var/www"),
    "nobody": (65534, 65534, "/nonexistent"),
}
_GROUPS = {
    "root": 0,
    "daemon": 1,
    "bin": 2,
    "sys": 3,
    "adm": 4,
    "tty": 5,
    "disk": 6,
    "lp": 7,
    "mail": 8,
    "man": 12,
    "kmem": 15,
    "www-data": 33,
    "shadow": 42,
    "utmp": 43,
    "video": 44,
    "staff": 50,
    "games": 60,
    "users": 100,
    "nogroup": 65534,
}

Signature = list[int | str] | None


def signature(path: str) -> Signature:
    """What tells one version of a file, link or directory from the next; None if it is missing."""
    try:
        status = os.lstat(path)
        if not stat.S_ISLNK(status.st_mode):
            return [status.st_mode, status.st_size, status.st_mtime_ns]
        return [status.st_mode, status.st_size, status.st_mtime_ns, os.readlink(path)]
    except OSError:
        return None


def shell() -> str:
    """The shell that `host` starts by default."""
    return "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"


class HostTree:
    """Builds one tree and notes what it was built from.

    Attributes:
        inputs: Path on this machine -> signature when it was read.
        size: Bytes of file content written.
        real_directories: Those of ROOT_LINKS that are no links here, such as "/bin".
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.inputs: dict[str, Signature] = {}
        self.size = 0
        self.real_directories: list[str] = []

    def build(self) -> None:
        """Writes the tree into an existing, empty directory.

        Raises:
            OSError: The tree is incomplete; its owner removes it.
        """
        for name, mode in _DIRECTORIES.items():
            directory = self.target / name
            directory.mkdir()
            directory.chmod(mode)
        for name, destination in _LINKS.items():
            (self.target / name).symlink_to(destination)
        self._link_roots()
        self._write_accounts()
        self._write("etc/nsswitch.conf", _NSSWITCH)
        self._write("etc/hosts", _HOSTS)
        self._write("etc/hostname", "")
        self._write("etc/shells", "/bin/sh\n/bin/bash\n")
        for pattern in _COPIED:
            for name in glob.glob(pattern, root_dir="/") if "*" in pattern else (pattern,):
                self._copy(name)
        if not (self.target / "etc/resolv.conf").exists():
            self._write("etc/resolv.conf", "")

    def _link_roots(self) -> None:
        for name in ROOT_LINKS:
            path = f"/{name}"
            if Path(path).is_symlink():
                self.inputs[path] = signature(path)
                (self.target / name).symlink_to(Path(path).readlink())
            elif Path(path).is_dir():
                self._make_directory(self.target / name)
                self.real_directories.append(path)

    def _write_accounts(self) -> None:
        users = dict(_accounts_here("/etc/passwd"))
        groups = dict(_accounts_here("/etc/group"))
        self.inputs["/etc/passwd"] = signature("/etc/passwd")
        self.inputs["/etc/group"] = signature("/etc/group")
        passwd = []
        for name, (uid, gid, home) in _USERS.items():
            here = users.get(name)
            if here is not None:
                uid, gid = int(here[2]), int(here[3])
            program = shell() if name == "root" else "/usr/sbin/nologin"
            passwd.append(f"{name}:*:{uid}:{gid}:{name}:{home}:{program}\n")
        group = []
        for name, gid in _GROUPS.items():
            here = groups.get(name)
            group.append(f"{name}:*:{int(here[2]) if here else gid}:\n")
        self._write("etc/passwd", "".join(passwd))
        self._write("etc/group", "".join(group))

    def _write(self, name: str, text: str) -> None:
        path = self.target / name
        path.write_text(text)
        path.chmod(0o644)
        self.size += len(text)

    def _make_directory(self, path: Path) -> None:
        """Makes it, and its parents below the target, with mode 0755 whatever our umask is."""
        if path == self.target or path.is_dir():
            return
        self._make_directory(path.parent)
        path.mkdir()
        path.chmod(0o755)

    def _copy(self, name: str) -> None:
        """Copies a file, link or directory; what is missing here is left out and remembered."""
        path = f"/{name}"
        parent = os.path.dirname(path)
        if os.path.realpath(parent) != parent:
            # /etc/pki/tls/certs and the like may hang below a link: that link was copied.
            return
        self.inputs[path] = signature(path)
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            return
        destination = self.target / name
        self._make_directory(destination.parent)
        if stat.S_ISLNK(mode):
            self._copy_link(path, destination)
        elif stat.S_ISDIR(mode):
            self._copy_directory(path, destination)
        elif stat.S_ISREG(mode):
            self._copy_file(path, destination)

    def _copy_directory(self, path: str, destination: Path) -> None:
        self.inputs[path] = signature(path)
        self._make_directory(destination)
        with os.scandir(path) as entries:
            for entry in entries:
                copy = destination / entry.name
                if entry.is_symlink():
                    self._copy_link(entry.path, copy)
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name not in _PRIVATE:
                        self._copy_directory(entry.path, copy)
                elif entry.is_file(follow_symlinks=False):
                    self._copy_file(entry.path, copy)

    def _copy_link(self, path: str, destination: Path) -> None:
        """Keeps a link that ends in /usr, copies the file where it ends elsewhere."""
        direct = os.readlink(path)
        if direct.startswith("/usr/"):
            destination.symlink_to(direct)
            return
        end = os.path.realpath(path)
        if end.startswith("/usr/") or (end.startswith("/etc/") and Path(end).is_dir()):
            # A directory of /etc (Fedora's /etc/ssl/certs) is copied where it really is.
            destination.symlink_to(end)
        elif Path(end).is_file():
            self._copy_file(end, destination)

    def _copy_file(self, path: str, destination: Path) -> None:
        """Copies a public file; others are as if they were missing."""
        status = os.stat(path)
        self.inputs[path] = signature(path)
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & stat.S_IROTH:
            return
        if status.st_size > _LARGEST_COPY:
            return
        shutil.copyfile(path, destination)
        destination.chmod(0o755 if status.st_mode & stat.S_IXOTH else 0o644)
        os.utime(destination, ns=(status.st_mtime_ns, status.st_mtime_ns))
        self.size += status.st_size


def _accounts_here(path: str) -> Iterator[tuple[str, list[str]]]:
    """name -> fields of passwd or group lines that are well formed."""
    try:
        lines = Path(path).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdigit() and (fields[3].isdigit() or "group" in path):
            yield fields[0], fields
