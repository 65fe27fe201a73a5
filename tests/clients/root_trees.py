"""Root file systems as tars, made of what is on this machine: there is no registry yet."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")

_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\noperator:x:37:37:Operator:/var:/bin/false\n"
    "postgres:x:70:70::/var/lib/postgresql:/bin/sh\n",
    "etc/group": "root:x:0:\nuser:x:1000:\nnobody:x:65534:\n",
}
_DIRECTORIES = (
    "etc",
    "root",
    "tmp",
    "var",
    "var/tmp",
    "var/opt",
    "home",
    "mnt",
    "opt",
    "proc",
    "sys",
    "dev",
)


def busybox_tar(*trees: tuple[Path, str], links: dict[str, str] | None = None) -> bytes:
    """Return the tar of a root file system of busybox, with the usual directories.

    Args:
        trees: Files and directories of this machine to add, each with its path within.
        links: Further symbolic links, by their path.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("bin", *_DIRECTORIES):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name.endswith("tmp") else 0o755
            archive.addfile(entry)
        for name, text in _FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        archive.add(BUSYBOX, "bin/busybox")
        applets = subprocess.check_output([BUSYBOX, "--list"], text=True).split()
        targets = {f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"}
        for name, target in (targets | (links or {})).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for source, name in trees:
            archive.add(source, name, filter=_no_tests)
    return out.getvalue()


def python_tar() -> bytes:
    """Return a root file system of busybox and the Python that runs this."""
    binary = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    modules = (standard / "lib-dynload").glob("*.so")
    listed = subprocess.run(
        ["ldd", binary, *modules], capture_output=True, text=True, check=False
    ).stdout
    libraries = {Path(found) for found in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.M)}
    trees = [(library.resolve(), str(library)[1:]) for library in sorted(libraries)]
    trees += [(binary, str(binary)[1:]), (standard, str(standard)[1:])]
    return busybox_tar(*trees, links={"bin/python": str(binary), "bin/python3": str(binary)})


_LEFT_OUT = re.compile(
    r"/(site-packages|dist-packages|test|idlelib|ensurepip|config-3[^/]*|lib2to3)$"
)


def _no_tests(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if _LEFT_OUT.search(entry.name) else entry
