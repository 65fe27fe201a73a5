"""Kernel constants, from the kernel's uapi headers (linux/mount.h, sched.h, prctl.h …).

Plain integers, not `IntFlag`: the shim imports this module, and importing `enum` would make every
fork of it 15 % dearer (docs/decisions.md). `mount_words` spells a value where people read it.
"""

from __future__ import annotations

# clone3(2), unshare(2), setns(2)
CLONE_PIDFD = 0x00001000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_PARENT = 0x00008000
CLONE_PARENT_SETTID = 0x00100000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_CLEAR_SIGHAND = 0x1_0000_0000
CLONE_INTO_CGROUP = 0x2_0000_0000

# What each container has of its own beside its pid and network namespaces, which are made apart,
# unless it shares one of them with the host or another container.
OWN_NAMESPACES = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_RELATIME = 1 << 21

# umount2(2)
MNT_DETACH = 2

# open_tree(2), move_mount(2), mount_setattr(2)
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x00100000

# fsopen(2), fsconfig(2), fsmount(2)
FSOPEN_CLOEXEC = 1
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
FSMOUNT_CLOEXEC = 1

# openat2(2)
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

# close_range(2)
CLOSE_RANGE_CLOEXEC = 4

# prctl(2)
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

# seccomp(2)
SECCOMP_SET_MODE_FILTER = 1

# keyctl(2), linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1
KEYCTL_SETPERM = 5
KEY_SPEC_SESSION_KEYRING = -3
KEY_POS_ALL = 0x3F000000
KEY_USR_SEARCH = 0x00080000

# statvfs(3): what a mount's flags are called there, and for mount(2)
ST_TO_MS = (
    (1, MS_RDONLY),
    (2, MS_NOSUID),
    (4, MS_NODEV),
    (8, MS_NOEXEC),
    (1024, MS_NOATIME),
    (2048, MS_NODIRATIME),
    (4096, MS_RELATIME),
)

_MOUNT_NAMES = {
    MS_RDONLY: "RDONLY",
    MS_NOSUID: "NOSUID",
    MS_NODEV: "NODEV",
    MS_NOEXEC: "NOEXEC",
    MS_REMOUNT: "REMOUNT",
    MS_NOATIME: "NOATIME",
    MS_NODIRATIME: "NODIRATIME",
    MS_BIND: "BIND",
    MS_REC: "REC",
    MS_PRIVATE: "PRIVATE",
    MS_SLAVE: "SLAVE",
    MS_RELATIME: "RELATIME",
}


def mount_words(flags: int) -> str:
    """Spell mount(2) flags as `BIND|REC`; bits without a name come last, in hexadecimal."""
    words = [name for bit, name in _MOUNT_NAMES.items() if flags & bit]
    rest = flags & ~sum(_MOUNT_NAMES)
    if rest:
        words.append(hex(rest))
    return "|".join(words) or "0"
