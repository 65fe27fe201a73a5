"""A container's own user namespace: made, its map written, entered, and ids of files shifted to it.

The root file system is put together by the machine's root, who alone may mount overlays on shared
layers and shift ids (mount_setattr(2), MOUNT_ATTR_IDMAP). Yet what the payload's capabilities shall
hold for (network, host name, IPC) must be made inside (namespaces belong to the user namespace of
their maker). So a child of the init's, the scout, makes all of these and waits; the init writes the
maps, enters them by the scout's pidfd, and lets it go. The user namespace is entered last, with a
copy of its mounts: mounts that come from a more privileged namespace are locked in it
(mount_namespaces(7)), so that no capability inside takes a mask or a read-only flag away.

On disk the ids are those inside, unshifted: layers are shared with containers of other maps and of
none, and a commit reads what any container would have written. What is ours is covered, in the
init's mount namespace, by a copy of itself whose ids are shifted by the container's map.
"""

from __future__ import annotations

import errno
import os

from runtime import flags, idmap
from runtime.errors import InitRefused
from runtime.process_stat import start_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from runtime.kernel import Kernel
    from runtime.plan import Donor, PayloadPlan, Plan
    from runtime.users import Identity

MADE_INSIDE = flags.CLONE_NEWUTS | flags.CLONE_NEWIPC | flags.CLONE_NEWNET
"""What the scout makes, of what is to be the container's own."""

_OPEN = os.O_RDONLY | os.O_CLOEXEC
_LONGEST_REPORT = 64
_CLONE = flags.OPEN_TREE_CLONE | flags.OPEN_TREE_CLOEXEC | flags.AT_RECURSIVE


def of_donor(door: Kernel, donor: Donor) -> int:
    """A descriptor of the user namespace of another container's init.

    Raises:
        InitRefused: That run of it is over.
    """
    ended = f"container {donor.id}, whose user namespace it shares, has ended"
    try:
        fd = door.open(b"/proc/%d/ns/user" % donor.pid, _OPEN)
        # Looked at after it was opened: the same process then had this pid all the while.
        same = start_ticks(donor.pid) == donor.start_ticks
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        raise InitRefused(ended, errno.ESRCH, 125) from None
    if not same:
        raise InitRefused(ended, errno.ESRCH, 125)
    return fd


def make(door: Kernel, plan: Plan, kinds: int, joined: int) -> int:
    """Make a user namespace with the plan's map, and what belongs to it, and enter the latter.

    Args:
        kinds: Which of `MADE_INSIDE` are made and entered.
        joined: A user namespace that is there and shall be theirs; -1 for a new one.

    Returns:
        A descriptor of the user namespace, which is not entered.

    Raises:
        InitRefused: It may have no second process.
        OSError: The kernel refuses; ENOSPC where /proc/sys/user allows no more of a kind.
    """
    report_r, report_w = os.pipe2(os.O_CLOEXEC)
    leave_r, leave_w = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = door.clone3(flags.CLONE_PIDFD, -1)
    except BlockingIOError as error:
        raise InitRefused(
            "make its user namespace: that takes a second process for a moment, which its "
            "--pids-limit or the machine does not allow",
            error.errno or 0,
            125,
        ) from None
    if pid == 0:
        os.close(report_r)
        os.close(leave_w)
        _scout(door, kinds, joined, report_w, leave_r)
    door.close(report_w)
    door.close(leave_r)
    try:
        report = os.read(report_r, _LONGEST_REPORT)
        if not report.startswith(b"/proc/"):
            code = int(report or errno.ECHILD)
            # ENOSPC: there are as many as /proc/sys/user/max_*_namespaces allows (namespaces(7)).
            where = "/proc/sys/user" if code == errno.ENOSPC else None
            raise OSError(code, os.strerror(code), where)
        if joined >= 0:
            fd = joined
        else:
            _write(door, report + b"/uid_map", idmap.lines(plan.uids))
            _write(door, report + b"/gid_map", idmap.lines(plan.gids))
            fd = door.open(report + b"/ns/user", _OPEN)
        if kinds:
            door.setns(pidfd, kinds)
        return fd
    finally:
        door.close(report_r)
        door.close(leave_w)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        door.close(pidfd)


def _scout(door: Kernel, kinds: int, joined: int, report_w: int, leave_r: int) -> NoReturn:
    """Be the child: make the namespaces, tell where they are, and hold them until it is let go."""
    try:
        try:
            # Its pid as the machine's /proc has it, where its parent looks; not that of its own pid
            # namespace.
            place = b"/proc/" + os.readlink(b"/proc/self")
            if joined >= 0:
                door.setns(joined, flags.CLONE_NEWUSER)
                door.unshare(kinds)
            else:
                door.unshare(flags.CLONE_NEWUSER | kinds)
            os.write(report_w, place)
        except OSError as error:
            os.write(report_w, b"%d" % (error.errno or errno.EIO))
        os.read(leave_r, 1)
    finally:
        os._exit(0)


def _write(door: Kernel, path: bytes, data: bytes) -> None:
    fd = door.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        door.write(fd, data)
    except OSError as error:
        raise OSError(error.errno or 0, error.strerror, os.fsdecode(path)) from None
    finally:
        door.close(fd)


def shift(door: Kernel, paths: Iterable[bytes], user_fd: int) -> None:
    """Cover each of these directories by a copy of itself whose ids are those of a user namespace.

    In the caller's mount namespace, which must be private. What is below another one of them, or
    named twice, is covered with it.

    Raises:
        InitRefused: A file system can't do that (EINVAL).
        OSError: The kernel refuses.
    """
    covered: list[bytes] = []
    for path in sorted({os.path.realpath(path) for path in paths}):
        if any(path.startswith(above + b"/") for above in covered):
            continue
        covered.append(path)
        tree = door.open_tree(path, _CLONE)
        try:
            door.shift_ids(tree, user_fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            raise InitRefused(
                f"the kernel can't shift the ids of files in {os.fsdecode(path)}, as a user "
                "namespace needs: on ext4, xfs and btrfs it can (Linux 5.19 for a container's "
                "layers), on tmpfs from 6.3 on, on overlayfs and NFS it can't; keep them on "
                "another file system or use --userns host",
                error.errno or 0,
                125,
            ) from None
        target = door.open(path, os.O_PATH | os.O_CLOEXEC)
        door.move_mount(tree, target, path)
        door.close(target)
        door.close(tree)


def build_as_root_of(door: Kernel, plan: Plan, permitted: int) -> None:
    """Have files made from now on belong to the root inside, while all of the capabilities stay.

    overlayfs works with the ids of who mounts it: the machine's root has none in a shifted upper
    directory (EOVERFLOW).

    Args:
        permitted: The caller's permitted capabilities.
    """
    door.set_file_ids(idmap.outside(plan.uids, 0), idmap.outside(plan.gids, 0))
    # With the change of id those that files need have gone (capabilities(7), "Effect of user ID
    # changes on capabilities"), and the process may have become dumpable.
    door.capset(permitted, permitted, 0)
    door.prctl(flags.PR_SET_DUMPABLE, 0)


def write_as_root_of(door: Kernel, plan: Plan, path: bytes, value: bytes, permitted: int) -> None:
    """Write to a file as the root inside, by effective uid.

    It is what counts for the sysctls of an IPC namespace, on kernels where these are its user
    namespace's root's and not the machine's (ipc_permissions in ipc/ipc_sysctl.c).
    """
    door.setresgid(-1, idmap.outside(plan.gids, 0), -1)
    door.setresuid(-1, idmap.outside(plan.uids, 0), -1)
    try:
        _write(door, path, value)
    finally:
        door.setresuid(-1, 0, -1)
        door.setresgid(-1, 0, -1)
        build_as_root_of(door, plan, permitted)


def mapped(wanted: PayloadPlan, identity: Identity) -> int:
    """The machine's uid of who the payload shall be.

    Raises:
        InitRefused: An id of it has no place in the map.
    """
    for kind, extents, ids in (
        ("uid", wanted.uids, (identity.uid,)),
        ("gid", wanted.gids, (identity.gid, *identity.groups)),
    ):
        for one in ids:
            if idmap.outside(extents, one) < 0:
                spelled = idmap.lines(extents).decode().strip().replace("\n", ", ")
                raise InitRefused(
                    f"{kind} {one} is not in its user namespace, whose {kind}s are (first inside, "
                    f"first outside, how many): {spelled}",
                    errno.EINVAL,
                    125,
                )
    return idmap.outside(wanted.uids, identity.uid)


def enter(door: Kernel, user_fd: int) -> int:
    """Become root of a user namespace; returns the capabilities that there are, all of them ours.

    Args:
        user_fd: It, or the pidfd of a process in it; closed then.
    """
    door.setns(user_fd, flags.CLONE_NEWUSER)
    door.close(user_fd)
    door.setgroups([])
    door.setresgid(0, 0, 0)
    door.setresuid(0, 0, 0)
    door.prctl(flags.PR_SET_DUMPABLE, 0)
    return door.bounding_set()
