"""The supervisor's process: refuse early, open the socket, nest the tasks, shut down in order.

    engine's tasks (one for each running container)          outermost: live longest
      └── shim link's reader
            └── API connections ── accept loop               innermost: end first

SIGTERM and SIGINT end the supervisor and leave the containers running: the shim goes on holding
their pipes and statuses, and the next supervisor takes them over.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import grp
import importlib.util
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import TaskStatus

from logs.pump import MarkFile
from runtime import kernel, kernel_check
from runtime.cgroups import Cgroups
from runtime.errors import RuntimeRefused
from runtime.images.errors import ImageError
from runtime.images.store import ImageStore
from supervisor import engine_log
from supervisor.api.server import serve
from supervisor.config import BACKENDS, RefusedDirectory, Settings, claim_directories
from supervisor.engine import Engine
from supervisor.pumping import Stages
from supervisor.recovery import recover
from supervisor.shim_link import ShimLink

log = structlog.get_logger()

BACKLOG = 4096
SOCKET_MODE = 0o660

GC_THRESHOLDS = (10_000, 20, 1_000)
"""With a thousand containers a full collection took 34 to 84 ms and found nothing: rare ones do."""
DOCKER_GROUP = "docker"


class CannotStart(Exception):
    """The daemon refuses to start; the text says why and what to do."""


REFUSALS = (CannotStart, RefusedDirectory, RuntimeRefused, ImageError)
"""What ends a start in one line of text; anything else is our mistake and shows its traceback."""


def main(root: str, run_dir: str, backend: str, ready_fd: int | None, debug: bool) -> int:
    """Run the supervisor in the foreground until SIGTERM or SIGINT.

    Args:
        root: Directory for what lasts.
        run_dir: Directory for sockets and pids.
        backend: One of `supervisor.config.BACKENDS`.
        ready_fd: Gets `ready` and a newline once the socket listens, or else one line of error.
        debug: Log more.

    Returns:
        0 after a clean shutdown, 1 where it could not start.
    """
    settings = Settings(Path(root).absolute(), Path(run_dir).absolute(), backend, debug)
    engine_log.set_up(debug)
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # the shim must not hold it: its reader waits for EOF
    try:
        with contextlib.ExitStack() as stack:
            _check_machine(settings)
            stack.enter_context(_only_one(settings))
            _raise_descriptor_limit()
            kernel.set_child_subreaper()
            options: dict[str, Any] = {"use_uvloop": True} if backend == "uvloop" else {}
            anyio.run(
                _supervise,
                settings,
                ready_fd,
                backend="asyncio" if backend == "uvloop" else backend,
                backend_options=options,
            )
    except (*REFUSALS, BaseExceptionGroup) as error:
        refusals = list(_leaves(error))
        if not all(isinstance(one, REFUSALS) for one in refusals):
            raise
        text = "; ".join(str(one) for one in refusals)
        print(f"mdocker daemon: {text}", file=sys.stderr)
        _report(ready_fd, text)
        return 1
    return 0


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _report(ready_fd: int | None, text: str) -> None:
    if ready_fd is None:
        return
    with contextlib.suppress(OSError):  # whoever started us is gone: there is nobody to tell
        os.write(ready_fd, text.encode() + b"\n")
        os.close(ready_fd)


def _check_machine(settings: Settings) -> None:
    if settings.backend not in BACKENDS:
        raise CannotStart(
            f"unknown backend {settings.backend!r}: choose one of {', '.join(BACKENDS)}"
        )
    if settings.backend == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise CannotStart("the uvloop backend is not installed: pip install 'mdocker[uvloop]'")
    if os.geteuid() != 0:
        raise CannotStart("containers need root: run it as root or by sudo")
    missing = kernel_check.missing()
    if missing:
        raise CannotStart(
            f"this kernel ({os.uname().release}) lacks {', '.join(missing)}: "
            "mdocker needs Linux 5.10 or newer"
        )


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """While starting, a refusal of the kernel's is a line for people, not a traceback."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        raise CannotStart(f"{what}: {error.strerror or error}{where}") from error


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the run directory's and the root's lock, and the pid file, for as long as we live."""
    with contextlib.ExitStack() as stack:
        with _refusing("cannot claim the engine's directories"):
            claim_directories(settings)
            for directory in (settings.run_dir, settings.root):
                stack.callback(os.close, _lock(directory))
            pid_file = settings.run_dir / "supervisor.pid"
            pid_file.write_text(f"{os.getpid()}\n")
            stack.callback(pid_file.unlink, missing_ok=True)
        yield


def _lock(directory: Path) -> int:
    """Lock a directory for this process; returns the descriptor that holds the lock."""
    lock = os.open(directory / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if not isinstance(error, BlockingIOError):
            raise
        raise CannotStart(
            f"another supervisor uses {directory}: stop it, or choose other "
            "directories by --root and --run-dir"
        ) from None
    return lock


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _listen(settings: Settings) -> socket.socket:
    """Bind the API's socket: mode 0660, group docker where there is one."""
    path = settings.socket
    path.unlink(missing_ok=True)  # we hold the lock, so nobody listens on it
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise CannotStart(f"cannot listen on {path}: {error.strerror or error}") from error
    finally:
        os.umask(old_mask)
    with contextlib.suppress(KeyError):
        os.chown(path, 0, grp.getgrnam(DOCKER_GROUP).gr_gid)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _stages(settings: Settings, shim: ShimLink, found: dict[str, tuple[int, ...]]) -> Stages:
    """The pump's stages; they go on with the staging pipes that the shim has kept."""
    with _refusing("cannot make the log pump"):
        return Stages(MarkFile(settings.run_dir / "marks"), shim.hold, found)


async def _supervise(settings: Settings, ready_fd: int | None) -> None:
    with _refusing("cannot open the image store"):
        cgroups = Cgroups.detect(settings.cgroup_parent)
        images = ImageStore(settings.root / "images")
        images.refresh_host()
    async with ShimLink.connect(settings.run_dir) as shim:
        async with anyio.create_task_group() as tasks:
            engine: Engine | None = None
            with anyio.CancelScope() as until_signal:
                await tasks.start(_cancel_at_signal, until_signal)
                adopted, found = await shim.adopt()
                stages = _stages(settings, shim, found)
                engine = Engine(settings, tasks, shim, images, cgroups, stages)
                await recover(engine, adopted)
                await _serve_until_cancelled(engine, ready_fd)
            alive = engine is not None and engine.any_alive
            tasks.cancel_scope.cancel("shutdown")
        if not alive:
            await shim.quit()
            cgroups.remove_parent()
    log.info("supervisor.stopped", containers_left_running=alive)


async def _cancel_at_signal(
    scope: anyio.CancelScope, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        task_status.started()
        async for number in received:
            name = signal.Signals(number).name
            log.info("supervisor.stopping", signal=name)
            scope.cancel(f"{name} ends the supervisor")


async def _serve_until_cancelled(engine: Engine, ready_fd: int | None) -> None:
    settings = engine.settings
    listener = _listen(settings)
    try:
        # What lives from here on is worth collecting, what was imported is not.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        async with anyio.create_task_group() as connections:
            await connections.start(serve, engine, listener)
            log.info(
                "supervisor.ready",
                socket=str(settings.socket),
                backend=settings.backend,
                containers=len(engine.containers),
            )
            _report(ready_fd, "ready")
            await anyio.sleep_forever()
    finally:
        listener.close()
        settings.socket.unlink(missing_ok=True)
