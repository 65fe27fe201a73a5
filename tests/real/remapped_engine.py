"""An engine whose containers have user namespaces, by an /etc/subuid of the test's own."""

from __future__ import annotations

import os
from pathlib import Path

from runtime import flags
from runtime.kernel import DOOR
from tests.real.engine_process import EngineProcess

FIRST, COUNT = 300_000, 65_536
LINE = f"dockremap:{FIRST}:{COUNT}\n"


class RemappedEngine(EngineProcess):
    """Started in a mount namespace where /etc/subuid and /etc/subgid are two other files.

    Attributes:
        image: Of its containers. `host` where /usr can be shown with shifted ids.
    """

    def __init__(self, base, options=("--userns-remap", "default"), **more):
        super().__init__(base, options=options, **more)
        self.base.mkdir(parents=True, exist_ok=True)
        self.subuid = self.base / "subuid"
        self.subuid.write_text(LINE)
        self.image = "host"
        script = (
            'file=$1; shift; for one in /etc/subuid /etc/subgid; do mount --bind "$file" $one; '
            'done; exec "$@"'
        )
        self.before = ("unshare", "--mount", "sh", "-ec", script, "sh", str(self.subuid))

    def create(self, *command, image=None, **config):
        return super().create(*command, image=image or self.image, **config)

    def use(self, image, tar):
        """Import an image, and have all containers made of it."""
        answer = self.request(
            "POST",
            f"/images/create?fromSrc=-&repo={image}",
            tar.read_bytes(),
            {"Content-Type": "application/x-tar"},
        )
        assert answer.status == 200, answer
        self.image = image


def shifts_ids(directory: Path) -> bool:
    """Whether this kernel shows files there with shifted ids."""
    tree = DOOR.open_tree(os.fsencode(directory), flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC)
    stop_r, stop_w = os.pipe()
    ready_r, ready_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            DOOR.unshare(flags.CLONE_NEWUSER)
            os.write(ready_w, b"1")
            os.close(stop_w)
            os.read(stop_r, 1)
        finally:
            os._exit(0)
    os.close(ready_w)
    try:
        if not os.read(ready_r, 1):
            return False  # no user namespaces either
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {FIRST} {COUNT}\n")
        user = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
        try:
            DOOR.shift_ids(tree, user)
        except OSError:
            return False
        finally:
            os.close(user)
        return True
    finally:
        for fd in (stop_r, stop_w, ready_r, tree):
            os.close(fd)
        os.waitpid(pid, 0)
