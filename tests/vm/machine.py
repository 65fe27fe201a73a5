"""One boot of the virtual machine: qemu in software emulation, until it powers itself off."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.vm import initramfs
from tests.vm.kernel import Kernel, Unavailable, obtain

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".cache" / "vm"
BUSYBOX = Path("/bin/busybox")
QEMU = "qemu-system-x86_64"

# Quiet: each line on an emulated serial port costs as much as a fork. panic=-1 with qemu's
# -no-reboot ends the machine when its PID 1 does.
_COMMAND_LINE = "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off random.trust_cpu=on"


@dataclass(frozen=True)
class Boot:
    """What one boot gave.

    Attributes:
        lines: What the guest reported, one JSON object each.
        console: The text of the guest's console.
        seconds: From the start of qemu to its end.
        ended: It ended by itself, not by the watchdog.
    """

    lines: tuple[dict, ...]
    console: str
    seconds: float
    ended: bool


def boot(module: str, folder: Path, limit: float, kernel: Kernel | None = None) -> Boot:
    """Boot, run `python -m module REPORT` in the guest, and wait for the machine's end.

    The guest sees this machine's file system read-only, so the same interpreter, virtualenv and
    checkout are there; /run is its own.

    Args:
        module: What to run; it writes JSON lines to the file that its argument names.
        folder: For the files of this boot.
        limit: Seconds after which a watchdog kills it.
        kernel: Another one than Debian's current.

    Raises:
        Unavailable: No qemu, no busybox or no kernel.
    """
    require_qemu()
    kernel = kernel or obtain(CACHE)
    archive = initramfs.build(BUSYBOX, kernel.modules, _environment(), _command(module))
    (folder / "initramfs").write_bytes(archive)
    _compile()
    console, results = folder / "console", folder / "results"
    command = [
        # One processor: emulating two that wait for each other costs half as much again.
        *qemu_words(kernel, folder / "initramfs", processors=1, megabytes=1024),
        *("-serial", f"file:{console}", "-serial", f"file:{results}"),
    ]
    began = time.monotonic()
    ended, told = _run(command, limit)
    seconds = time.monotonic() - began
    return Boot(
        lines=_lines(results),
        console=told + (console.read_text(errors="replace") if console.exists() else ""),
        seconds=seconds,
        ended=ended,
    )


def require_qemu() -> None:
    """Raises `Unavailable` where it isn't installed."""
    if shutil.which(QEMU) is None:
        raise Unavailable(f"no {QEMU} (apt-get install --no-install-recommends qemu-system-x86)")


def qemu_words(kernel: Kernel, archive: Path, processors: int, megabytes: int) -> list[str]:
    """The command line of a machine that sees this one's file system, read-only.

    Args:
        kernel: To boot.
        archive: Its initramfs.
        processors: How many; each is a thread here.
        megabytes: Of memory.
    """
    return [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        # A fifth level of page tables is walked in software, too: a tenth of the time.
        *("-machine", "pc", "-accel", "tcg", "-cpu", "max,la57=off"),
        *("-smp", str(processors), "-m", str(megabytes)),
        *("-kernel", str(kernel.image), "-initrd", str(archive)),
        *("-append", _COMMAND_LINE),
        "-fsdev",
        "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
        *("-device", f"virtio-9p-pci,fsdev=root,mount_tag={initramfs.TAG}"),
    ]


def _run(command: list[str], limit: float) -> tuple[bool, str]:
    """Returns whether it ended by itself, and what qemu said."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            told, _ = process.communicate(timeout=limit)
            ended = process.returncode == 0
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
            ended = False
        except BaseException:
            process.kill()
            raise
    return ended, told.decode(errors="replace")


def _environment() -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TMPDIR": "/run/tmp",
        "PYTHONPATH": str(CHECKOUT),
    }


def _command(module: str) -> str:
    # A shell stays PID 1: it reaps whatever is orphaned, as a machine's init does.
    return f"{sys.executable} -m {module} {initramfs.RESULTS}; echo guest ended: $?"


def _compile() -> None:
    """Byte-code now: the guest can't keep its own, and would compile at each start, slowly."""
    folders = ("mdocker", "supervisor", "runtime", "logs", "tests/real", "tests/vm")
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", *folders],
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
        check=False,  # a module that doesn't compile will say so in the guest
    )


def _lines(results: Path) -> tuple[dict, ...]:
    found = []
    for line in results.read_text(errors="replace").splitlines() if results.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # torn by the end of the machine: its check counts as not reported
    return tuple(found)
