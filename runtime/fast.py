"""Fast starts: plans that `runtime.native` can execute, on machines where it works."""

from __future__ import annotations

import errno
import os
import resource

from runtime import native, oom_score, program, steps
from runtime.errors import RuntimeRefused
from runtime.layer_files import Unusual

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from runtime.becoming import Ends, Host
    from runtime.exec_plan import ExecPlan
    from runtime.kernel import Kernel
    from runtime.plan import PayloadPlan, Plan

    AnyPlan = TypeVar("AnyPlan", bound=PayloadPlan)

_CAP_SYS_PTRACE = 1 << 19
_SUID_DUMPABLE = b"/proc/sys/fs/suid_dumpable"


class Packed:
    """A program in its slot."""

    __slots__ = ("_code", "_first", "slot")

    def __init__(self, code: native.Code, slot: native.Slot, first: int) -> None:
        self._code = code
        self.slot = slot
        self._first = first

    def spawn(self, clone_flags: int, cgroup_fd: int) -> tuple[int, int, int]:
        """Clone a child that executes it; returns (pid, pidfd, token).

        Raises:
            OSError: the kernel would not clone.
        """
        token = self.slot.token
        return *self.slot.spawn(self._code, self._first, clone_flags, cgroup_fd), token


class FastStarts:
    """What is needed for starts without Python in the child.

    Attributes:
        score_is_changed: Our own oom_score_adj is to be put back, at leisure.
    """

    def __init__(self, host: Host) -> None:
        self._code = native.Code()
        self._slots = native.Slots()
        self._programs = program.Programs(host)
        self._tokens = 0
        self._most_descriptors = host.nofile[1]
        # What a child sets there that shares our memory, it sets for us (__set_oom_adj in
        # fs/proc/base.c): it is put back when there is none.
        self._own_score = _read(oom_score.PATH.encode()) if host.oom_score_adj else b""
        self.score_is_changed = False

    def pack_init(self, plan: Plan, ends: Ends) -> Packed | None:
        """Make a program that executes the plan; None if it needs the Python init.

        Raises:
            OSError: no memory.
        """
        packed = self._pack(self._programs.compile, plan, ends)
        if packed is not None:
            packed.slot.plan = plan
        return packed

    def pack_exec(self, plan: ExecPlan, ends: Ends) -> Packed | None:
        """Make a program that enters a running container; None if it needs the Python child.

        Raises:
            OSError: no memory.
        """
        # Who enters a container can be signalled by those inside. With another setting, a change of
        # user makes the memory that it shares with us worth a core dump, which before Linux 5.16
        # killed all who share it (proc_sys_fs(5); coredump_wait in fs/coredump.c).
        if not plan.layers or _read(_SUID_DUMPABLE) != b"0":
            return None
        return self._pack(self._programs.compile_exec, plan, ends)

    def _pack(
        self, compile_to: Callable[[AnyPlan, Ends, steps.Texts], bytes], plan: AnyPlan, ends: Ends
    ) -> Packed | None:
        # See runtime.native: who shares an OOM victim's memory dies with it.
        if plan.memory_limited or plan.terminal is not None or plan.uids:
            return None
        # A program can't do with less: somebody has lowered our own limit meanwhile (prlimit(2)).
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < self._most_descriptors:
            return None
        slot = self._slots.take()
        texts = steps.Texts(slot.address, slot.room, slot.scratch)
        try:
            packed = compile_to(plan, ends, texts)
        except (Unusual, RuntimeRefused):
            return None
        if len(texts.content) + len(packed) > slot.room:
            return None
        self._tokens += 1
        self.score_is_changed = bool(self._own_score)
        return Packed(self._code, slot, slot.fill(self._tokens, texts.content, packed))

    def trim(self) -> None:
        """Give back memory that a burst of starts has left, and be spared again (`oom_score`)."""
        self._slots.trim()
        if self.score_is_changed and not self._slots.in_use:
            self.score_is_changed = False
            try:
                oom_score.write(self._own_score)
            except OSError:
                return  # the capability was taken from us meanwhile

    def plan_of(self, token: int) -> Plan | None:
        """The plan of a child that has given up; None if it is gone and its slot used again."""
        slot = self._slots.find(token)
        return None if slot is None else slot.plan


# Settings under which fast starts are not safe or can't tell of failures, each with that value:
# dumpable for everybody after a change of user (proc_sys_fs(5)), and that would be the shim's
# memory; no ptrace access for anybody, which pidfd_getfd needs (Yama, LSM/Yama.rst).
_FORBIDDING = (
    (_SUID_DUMPABLE, b"1"),
    (b"/proc/sys/kernel/yama/ptrace_scope", b"3"),
)


def prepare(
    door: Kernel, host: Host, forbidding: tuple[tuple[bytes, bytes], ...] = _FORBIDDING
) -> FastStarts | None:
    """Fast starts, or None where this machine or its kernel is not made for them."""
    if not program.usable() or not host.permitted & _CAP_SYS_PTRACE:
        return None
    if any(_read(path) == value for path, value in forbidding):
        return None
    for call in (lambda: door.pidfd_getfd(-1, 0), lambda: door.mount_setattr(-1, 0)):
        try:
            call()
        except OSError as error:
            if error.errno != errno.EBADF:
                return None
    try:
        return FastStarts(host)
    except OSError:
        return None  # a policy forbids executable memory


def _read(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # this kernel has no such setting
    try:
        return os.read(fd, 64).strip()
    finally:
        os.close(fd)
