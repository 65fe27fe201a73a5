"""All of tests/real on a pure cgroup v2 kernel: `python -m tests.vm.suite [PYTEST ARGUMENTS]`.

Boots Debian's kernel in software emulation over this machine's file system, to which the guest
writes only in its own memory and on a disk of its own, and runs pytest there. Arguments are
pytest's (a path, -k, -x ...); without any, tests/real. The exit status is pytest's, and the last
lines are its summary. Everything that the guest said is kept in .cache/vm-suite: output (pytest's),
console (the kernel's), progress (a line of JSON for each test and its end).

    --kernel PACKAGE.deb   another kernel, such as Debian 11's linux-image-5.10.0-*-amd64
    --command WORDS        run this (sh -c WORDS) in the guest instead of pytest
    --processors N         of the guest (default: 2)
    --folder DIRECTORY     where what the guest said is kept; one run at a time uses it
    --slowness N           how much slower than a real machine it is taken to be (default: 10);
                           time limits of tests are stretched by it
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.vm import initramfs
from tests.vm.disks import EMPTY, copied, own_disk, usr_disk
from tests.vm.kernel import Kernel, Unavailable, obtain, open_package
from tests.vm.machine import BUSYBOX, CACHE, CHECKOUT, qemu_words, require_qemu
from tests.vm.suite_guest import ARGUMENTS, OUTPUT, STATUS

FOLDER = CACHE.with_name("vm-suite")
_MEGABYTES = 4096
_TEST_SECONDS = 60
"""As in pyproject.toml."""
_SILENCE = 1800
"""Seconds without any test's beginning or end after which the machine is taken for dead."""
_WHOLE = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "tests/real")
"""As `make test` has it."""
_PACKAGES = ("mdocker", "supervisor", "runtime", "logs", "tests")
_NOTHING_TO_DO = (4, 5)
"""pytest's exit statuses for arguments that are wrong, and for such that select no test."""
_PR_SET_PDEATHSIG = 1


def main(words: list[str]) -> int:
    """Returns the exit status."""
    options, arguments = _parser().parse_known_args(words)
    if not any(word.startswith("tests") for word in arguments):
        arguments += _WHOLE
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options, arguments)
    except Unavailable as reason:
        print(f"no virtual machine: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nended; what there was is in {options.folder}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.vm.suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--command")
    parser.add_argument("--processors", type=int, default=2)
    parser.add_argument("--slowness", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    return parser


def _run(options: argparse.Namespace, arguments: list[str]) -> int:
    require_qemu()
    # Another's kernel not in CACHE itself: the suite would take it for its own.
    others = CACHE.with_name("vm-others")
    kernel = open_package(options.kernel, others) if options.kernel else obtain(CACHE)
    share = options.folder
    share.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(share.with_name(share.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
    except BlockingIOError:
        raise Unavailable(f"another run uses {share}; choose another directory: --folder") from None
    shutil.rmtree(share, ignore_errors=True)
    share.mkdir()
    command = (
        ["/bin/sh", "-c", options.command]
        if options.command
        else _pytest(arguments, options.slowness)
    )
    asked = {
        "command": command,
        "folder": str(CHECKOUT),
        "environment": {
            "MDOCKER_PROGRESS": f"{initramfs.SHARE}/progress",
            "MDOCKER_SLOWNESS": str(options.slowness),
        },
    }
    (share / ARGUMENTS).write_text(json.dumps(asked))
    if not options.command and (wrong := _collected(arguments)):
        print(wrong, file=sys.stderr)
        return 4
    usr = usr_disk(CACHE.with_name("vm-disks"))
    with tempfile.TemporaryDirectory(prefix="mdocker-vm-") as scratch:
        archive = _archive(kernel, Path(scratch))
        disk = own_disk(Path(scratch))
        words = [
            *qemu_words(kernel, archive, options.processors, _MEGABYTES),
            *("-serial", f"file:{share / 'console'}"),
            *("-drive", f"file={disk},if=virtio,format=raw,cache=unsafe,discard=unmap"),
            *("-drive", f"file={usr},if=virtio,format=raw,readonly=on"),
            *("-fsdev", f"local,id=share,path={share},security_model=none"),
            *("-device", f"virtio-9p-pci,fsdev=share,mount_tag={initramfs.SHARE_TAG}"),
        ]
        print(f"{kernel.release}, {options.processors} processors; everything in {share}")
        began = time.monotonic()
        told = _boot(words, Watch(share))
    output = share / OUTPUT
    lines = output.read_text(errors="replace").splitlines() if output.exists() else []
    print("\n".join(lines if options.command else _summary(lines)))
    status = share / STATUS
    print(f"{kernel.release}: {time.monotonic() - began:.0f} s in all")
    if not status.exists():
        console = (share / "console").read_text(errors="replace")
        print(f"the machine ended before its time: {told}\n{console[-4000:]}", file=sys.stderr)
        return 3
    return int(status.read_text())


def _pytest(arguments: list[str], slowness: float) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
        *("--ignore", "tests/real/test_pure_v2.py"),  # which boots a machine of its own
        *("-p", "tests.vm.progress", "-p", "tests.vm.patience"),
        *("-ra", "--tb=short", "--durations=25", f"--timeout={_TEST_SECONDS * slowness:.0f}"),
        *arguments,
    ]


def _collected(arguments: list[str]) -> str:
    """Byte-code now, and pytest's own of the tests: in emulation that takes minutes.

    It is kept beside the modules, as ever. Returns what pytest says where these arguments are none
    that it can do anything with, else "".
    """
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    collect = ["pytest", "-p", "no:cacheprovider", "--collect-only", "-q", *arguments]
    for words in (["compileall", "-q", *_PACKAGES], collect):
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,  # a module that doesn't compile will say so in the guest
        )
    return done.stdout if done.returncode in _NOTHING_TO_DO else ""


def _archive(kernel: Kernel, scratch: Path) -> Path:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }
    # A shell stays PID 1: it reaps whatever is orphaned, as a machine's init does.
    command = f"cd {CHECKOUT} && {sys.executable} -m tests.vm.suite_guest; echo guest ended: $?"
    archive = scratch / "initramfs"
    archive.write_bytes(
        initramfs.build(
            BUSYBOX,
            kernel.suite_modules,
            environment,
            command,
            folders=(*EMPTY, *map(str, copied())),
        )
    )
    return archive


def _boot(words: list[str], watch: Watch) -> str:
    """Until it powers itself off, or is silent for too long; returns what qemu said."""
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # a Ctrl-C is ours to hear
        preexec_fn=_end_with_us,
    ) as process:
        try:
            while True:
                try:
                    told, _ = process.communicate(timeout=1)
                    return told.decode(errors="replace")
                except subprocess.TimeoutExpired:
                    if watch.look() > _SILENCE:
                        process.kill()
                        told, _ = process.communicate()
                        return f"silent for {_SILENCE} s, and ended. {told.decode()}"
        except BaseException:
            process.kill()
            raise
        finally:
            watch.end()


def _end_with_us() -> None:
    """Also by kill -9: nobody would ever end a machine that nobody waits for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Watch:
    """What the guest's tests say, as one line that changes, or a line a minute where it can't."""

    def __init__(self, share: Path) -> None:
        self._path = share / "progress"
        self._at = 0
        self._began = self._heard = self._told = time.monotonic()
        self._done = {"passed": 0, "failed": 0, "skipped": 0}
        self._of = 0
        self._now = "booting"
        self._terminal = sys.stdout.isatty()

    def look(self) -> float:
        """Read on, and show it; returns for how many seconds there was nothing new."""
        now = time.monotonic()
        for line in self._lines():
            self._heard = now
            self._note(line)
        if self._terminal:
            self._print("\r\033[K" + self._text()[: shutil.get_terminal_size().columns - 1], end="")
        elif now - self._told >= 60:
            self._told = now
            self._print(self._text())
        return now - self._heard

    def end(self) -> None:
        """The rest, and a line's end."""
        self.look()
        self._print("" if self._terminal else self._text())

    def _lines(self) -> list[dict]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines()]

    def _note(self, line: dict) -> None:
        if "of" in line:
            self._of = line["of"]
        elif "begun" in line:
            self._now = line["begun"]
        else:
            self._done[line["outcome"]] += 1
            if line["outcome"] == "failed":
                self._print(("\r\033[K" if self._terminal else "") + f"FAILED {line['test']}")
                self._print(line["text"])

    def _text(self) -> str:
        done = ", ".join(f"{count} {name}" for name, count in self._done.items() if count)
        seconds = int(time.monotonic() - self._began)
        count = f"{sum(self._done.values())}/{self._of}"
        return f"{seconds // 60}:{seconds % 60:02} {count} ({done or 'none yet'}) {self._now}"

    @staticmethod
    def _print(text: str, end: str = "\n") -> None:
        print(text, end=end, flush=True)


def _summary(lines: list[str]) -> list[str]:
    """From pytest's first heading on: failures, durations, summary."""
    for number, line in enumerate(lines):
        if line.startswith("=====") and "test session starts" not in line:
            return lines[number:]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
