"""The fast init: a list of system calls that a few machine instructions work through.

A forked Python costs a container's start more than all of its mounts: the page tables are copied,
each object touched is a page copied on both sides, and execve throws all of it away again. So on
x86_64 the ordinary start has no Python after the clone. The shim writes what the init would do as a
table of steps (`runtime.program`), and a child that shares the shim's memory (CLONE_VM) executes
the table; it writes to nothing but its own slot, needs no stack, and is gone from our memory with
its execve.

    slot:  token | failed step | its result | busy      ← 32 bytes, `busy` cleared by the kernel
           texts, arrays, structures
           steps, 64 bytes each:
               call number | 5 arguments | 3 errnos to pass over | jumps: passed over, failed, done

A step whose result is an errno goes on at `passed over` if the errno is one of its three, else at
`failed` (0: give up). Call number -1 is no call: is the byte at argument 0 equal to argument 1?

A child that gives up writes (token, step, result) to descriptor 4, the shim's fault pipe, and
waits. Then the shim takes its descriptors back with pidfd_getfd(2), ends it, and lets the Python
init (`runtime.init`) run into the same trouble: that one finds the words for people. So this file
needs to know nothing of why a start fails, and every other kind of machine does without it.

What the sharing must not break: the child takes no signal handlers along (CLONE_CLEAR_SIGHAND); it
is not dumpable, like the shim, so nobody of its uid can attach to it; and a container with a memory
limit is never started this way, as the kernel's OOM killer kills all who share a victim's memory.
"""

from __future__ import annotations

import ctypes
import os

from runtime import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.plan import Plan

FAULT_FD = 4
"""Where a child that gives up writes; the shim keeps the pipe's write end at this number."""

FAULT_BYTES = 24

SCRATCH_BYTES = 4096

# spawn(clone_args, size, steps, slot) -> pid. GNU as:
#   push %rbx; push %r12; mov %rdx,%rbx; mov %rcx,%r12    # survive a system call
#   mov $435,%eax; syscall                                # clone3
#   test %rax,%rax; jz loop; pop %r12; pop %rbx; ret      # the parent goes home
# loop:                                                   # the child; no stack from here on
#   mov (%rbx),%rax; mov 8(%rbx),%rdi; mov 16(%rbx),%rsi
#   test %rax,%rax; js compare
#   mov 24(%rbx),%rdx; mov 32(%rbx),%r10; mov 40(%rbx),%r8; syscall
#   test %rax,%rax; js error
# ok:     movswq 60(%rbx),%rcx
# follow: shl $6,%rcx; add %rcx,%rbx; jmp loop            # steps are 64 bytes
# error:  mov %eax,%edx; neg %edx; movswq 56(%rbx),%rcx
#   cmp 48(%rbx),%dx; je follow; cmp 50(%rbx),%dx; je follow; cmp 52(%rbx),%dx; je follow
# failed: movswq 58(%rbx),%rcx; test %rcx,%rcx; jnz follow
#   mov %rbx,8(%r12); mov %rax,16(%r12)
#   mov $1,%eax; mov $4,%edi; mov %r12,%rsi; mov $24,%edx; syscall  # write(4, slot, 24)
#   cmp $24,%rax; jne quit
# wait:   mov $34,%eax; syscall; jmp wait                 # pause
# quit:   mov $231,%eax; mov $125,%edi; syscall; hlt      # exit_group(125): the shim is gone
# compare: movzbl (%rdi),%eax; cmp %rsi,%rax; je ok; mov $-1,%rax; jmp failed
_CODE = bytes.fromhex(
    "5341544889d34989ccb8b30100000f054885c07404415c5bc3488b03488b7b08488b73104885c00f888000000048"
    "8b53184c8b53204c8b43280f054885c0780e480fbf4b3c48c1e1064801cbebcb89c2f7da480fbf4b38663b533074"
    "e8663b533274e2663b533474dc480fbf4b3a4885c975d249895c24084989442410b801000000bf040000004c89e6"
    "ba180000000f054883f8187509b8220000000f05ebf7b8e7000000bf7d0000000f05f40fb6074839f0748b48c7c0"
    "ffffffffebab"
)
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_MAP_PRIVATE, _MAP_ANONYMOUS = 2, 32
_HEAD_BYTES = 32
_BUSY_AT = 24
_SLOT_BYTES = 128 * 1024
_IDLE_SLOTS = 2
_LOOKED_AT = 4

_spawn_type = ctypes.PYFUNCTYPE(
    ctypes.c_long,
    ctypes.POINTER(libc.CloneArgs),
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)


class Slot:
    """Memory for one start: what the child reads, and the few words that it writes.

    Attributes:
        address: Of the first byte of texts.
        room: Bytes for texts and steps.
        scratch: Address of a page that the child may write to.
        plan: Of the start under way or last made here.
        token: Of that start.
    """

    __slots__ = ("_base", "_busy", "address", "plan", "room", "scratch", "token")

    def __init__(self) -> None:
        self._base = _map(-1, _SLOT_BYTES, _PROT_READ | _PROT_WRITE, _MAP_PRIVATE | _MAP_ANONYMOUS)
        self._busy = ctypes.c_uint32.from_address(self._base + _BUSY_AT)
        self.address = self._base + _HEAD_BYTES
        self.room = _SLOT_BYTES - _HEAD_BYTES - SCRATCH_BYTES
        self.scratch = self._base + _SLOT_BYTES - SCRATCH_BYTES
        self.plan: Plan | None = None
        self.token = 0

    @property
    def busy(self) -> bool:
        """A child may still be reading here."""
        return self._busy.value != 0

    def fill(self, token: int, texts: bytes | bytearray, steps: bytes) -> int:
        """Write everything; returns the address of the first step."""
        self.token = token
        ctypes.memmove(self._base, token.to_bytes(8, "little"), 8)
        ctypes.memmove(self.address, bytes(texts), len(texts))
        first = self.address + (len(texts) + 7 & ~7)
        ctypes.memmove(first, steps, len(steps))
        return first

    def spawn(self, code: Code, first: int, clone_flags: int, cgroup_fd: int) -> tuple[int, int]:
        """Clone the child that executes the steps from `first`; returns (pid, pidfd).

        Raises:
            OSError: the kernel refused; the slot is free again.
        """
        pidfd = ctypes.c_int(-1)
        arguments = libc.CloneArgs(
            flags=clone_flags | _CLONE_VM | _CLONE_CHILD_CLEARTID,
            pidfd=ctypes.addressof(pidfd),
            child_tid=self._base + _BUSY_AT,
            exit_signal=17,  # SIGCHLD
            cgroup=cgroup_fd,
        )
        self._busy.value = 1
        pid = code.spawn(arguments, ctypes.sizeof(arguments), first, self._base)
        if pid < 0:
            self._busy.value = 0
            raise OSError(-pid, os.strerror(-pid))
        return pid, pidfd.value

    def free(self) -> None:
        """Give the memory back."""
        libc.munmap(self._base, _SLOT_BYTES)


_CLONE_VM = 0x100
_CLONE_CHILD_CLEARTID = 0x200000


class Code:
    """The machine instructions, executable."""

    def __init__(self) -> None:
        # A file of its own, mapped read-only: nothing is ever writable and executable.
        fd = os.memfd_create("mdocker-init", os.MFD_CLOEXEC)
        try:
            os.write(fd, _CODE)
            address = _map(fd, len(_CODE), _PROT_READ | _PROT_EXEC, _MAP_PRIVATE)
        finally:
            os.close(fd)
        self.spawn = _spawn_type(address)


class Slots:
    """The slots: those of starts under way, and idle ones."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []

    def take(self) -> Slot:
        """A slot that no child reads any more.

        Raises:
            OSError: no memory.
        """
        # A few are looked at and go to the end, so that children which hang (a dead network file
        # system) don't hide the idle ones behind them.
        for _ in range(min(_LOOKED_AT, len(self._slots))):
            slot = self._slots.pop(0)
            self._slots.append(slot)
            if not slot.busy:
                return slot
        slot = Slot()
        self._slots.append(slot)
        return slot

    @property
    def in_use(self) -> bool:
        """Whether a child shares our memory."""
        return any(slot.busy for slot in self._slots)

    def trim(self) -> None:
        """Give back what a burst of starts has left idle."""
        idle = [slot for slot in self._slots if not slot.busy]
        for slot in idle[_IDLE_SLOTS:]:
            self._slots.remove(slot)
            slot.free()

    def find(self, token: int) -> Slot | None:
        """The slot of a start under way."""
        for slot in self._slots:
            if slot.token == token:
                return slot
        return None


def _map(fd: int, length: int, protection: int, bits: int) -> int:
    address: int | None = libc.mmap(None, length, protection, bits, fd, 0)
    if address is None or address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return address
