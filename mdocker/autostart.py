"""Starting the engine when none listens, exactly once.

Two clients that find no engine at the same moment both come here. A lock on a file in the run
directory lets one in; the other waits, looks again, and finds the first one's engine.
"""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sys
from pathlib import Path
from socket import socket

from mdocker import client
from mdocker.comeback import await_engine
from mdocker.errors import EngineUnreachable
from mdocker.settings import Settings

DAEMON = (sys.executable, "-m", "mdocker", "daemon")


RESPAWN_S = 2.0
"""How long the next engine may take to follow one that was killed, before we start one."""

LISTEN_S = 10.0
"""How long an engine that is there already may take to listen."""

ANOTHER = "another supervisor"
"""The first words of an engine that is refused because there is one."""


class AnotherRuns(EngineUnreachable):
    """An engine was not needed: there is one already, though it does not answer yet."""


def start(place: Settings) -> socket:
    """Start an engine for these settings and connect to it.

    Returns when the engine has said that it listens. It is detached: a session of its own, no
    terminal, its words in RUN_DIR/supervisor.log.

    Raises:
        EngineUnreachable: It can't be started; the text is the engine's own, if it had one.
    """
    if os.geteuid() != 0:
        raise EngineUnreachable(
            f"no engine listens at {place.socket}, and only root can start one: "
            "run this as root, or start 'mdocker daemon' as root first"
        )
    run_dir = Path(place.run_dir).absolute()
    try:
        run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        _check_ours(run_dir)
        lock = _open(run_dir / "autostart.lock", os.O_RDWR)
    except OSError as error:
        raise EngineUnreachable(
            f"unable to use {run_dir} as the run directory: {error.strerror or error}; "
            "name another by --run-dir or MDOCKER_RUN_DIR"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        dial = functools.partial(client.dial, place.socket)
        died = EngineUnreachable(f"the engine at {place.socket} died, and none came back")
        # The shim starts the next one at once: the first try is the only one where none died.
        patience = RESPAWN_S if _has_died(run_dir) else 0.0
        try:
            return await_engine(dial, died, patience)
        except EngineUnreachable:
            try:
                _start(place, run_dir)
            except AnotherRuns as refused:
                if _listens_elsewhere(str(refused), run_dir):
                    raise
                # It was quicker than we were, and is about to listen; if not, its words tell who.
                try:
                    return await_engine(dial, died, LISTEN_S)
                except EngineUnreachable:
                    raise refused from None
        try:
            return dial()
        except OSError as error:
            raise EngineUnreachable(
                f"the engine was started and does not answer at {place.socket} "
                f"({error.strerror}): see {run_dir / 'supervisor.log'}"
            ) from error
    finally:
        os.close(lock)


def _check_ours(run_dir: Path) -> None:
    """Leave nothing in a directory that the engine will refuse.

    Raises:
        EngineUnreachable: It is somebody else's, or others can write to it.
        OSError: It can't be looked at.
    """
    found = run_dir.stat()
    if found.st_uid != os.geteuid():
        reason = f"it is owned by uid {found.st_uid}, not by {os.geteuid()}: chown it"
    elif found.st_mode & 0o022:
        reason = "others can write to it: chmod go-w it"
    else:
        return
    raise EngineUnreachable(
        f"unable to use {run_dir} as the run directory: {reason}, or name another by --run-dir"
    )


def _has_died(run_dir: Path) -> bool:
    """Whether an engine ended there without having been asked to: its pid file is left."""
    try:
        pid = int((run_dir / "supervisor.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError) as error:
        return isinstance(error, ProcessLookupError)
    return True


def _start(place: Settings, run_dir: Path) -> None:
    log_path = run_dir / "supervisor.log"
    sys.stderr.write(f"mdocker: no engine runs yet, starting one (log: {log_path})\n")
    sys.stderr.flush()
    root = str(Path(place.root).absolute())
    ready, ready_w = os.pipe2(os.O_CLOEXEC)
    try:
        with os.fdopen(_open(log_path, os.O_WRONLY | os.O_APPEND), "ab") as log:
            before = log.tell()
            process = subprocess.Popen(
                [
                    *DAEMON,
                    *("--root", root, "--run-dir", str(run_dir), "--ready-fd", str(ready_w)),
                ],
                # -m looks for the package in the working directory first: a checkout stays one.
                cwd=Path(__file__).parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(ready_w,),
                start_new_session=True,
            )
    except OSError as error:
        os.close(ready)
        raise EngineUnreachable(f"unable to start the engine: {error}") from error
    finally:
        os.close(ready_w)
    with os.fdopen(ready, "rb") as pipe:
        # One line, or nothing if the engine dies.
        word = pipe.readline().decode(errors="replace").strip()
    if word == "ready":
        # It outlives us; nobody is to wait for it, nor to be warned that nobody did.
        process.returncode = 0
    else:
        process.wait()
        reason = word or _last_line(log_path, before) or "it ended without a word"
        kind = AnotherRuns if reason.startswith(ANOTHER) else EngineUnreachable
        raise kind(f"unable to start the engine: {reason} (log: {log_path})")


def _listens_elsewhere(words: str, run_dir: Path) -> bool:
    """Whether the engine that has our root directory has another run directory, as it says."""
    _, named, rest = words.partition("run directory ")
    return bool(named) and os.path.realpath(rest.partition(":")[0]) != os.path.realpath(run_dir)


def _open(path: Path, flags: int) -> int:
    """Open a file of the run directory, and never one that a link there points to."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _last_line(log_path: Path, before: int) -> str:
    """Return the last line that the engine wrote on stderr since the log had this size."""
    with log_path.open("rb") as log:
        log.seek(before)
        lines = log.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
