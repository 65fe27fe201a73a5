"""Top: what `ps` says of a container's processes, with the pids of the host.

The host's own ps is run, as in Docker, so that all of its options are there. Where the machine has
none, its ordinary table is made of /proc.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread
import structlog

from runtime import process_list
from supervisor.container import Container
from supervisor.errors import BadParameter, Conflict, EngineFault, Unsupported
from supervisor.lifecycle import attributes
from supervisor.states import ALIVE, State

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

DEFAULT = "-ef"
"""Docker's."""

LIMIT_S = 20.0
"""A process of the machine whose memory map is locked for long keeps ps waiting."""

_SPACES = re.compile(r"[\t\n\v\f\r ]+")
_RENAMED = re.compile(r"\s+(\S*)=\s*(PID\S*)")


class Listing(NamedTuple):
    """Processes, as ps shows them."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


async def processes(engine: Engine, container: Container, options: str) -> Listing:
    """List a container's processes; see `Engine.top`."""
    options = options or DEFAULT
    check_options(options)
    if container.state is State.RESTARTING:
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    if container.state not in ALIVE:
        raise Conflict(f"container {container.id} is not running")
    async with engine.limits.listings:
        pids = await anyio.to_thread.run_sync(
            engine.cgroups.pids, container.id, limiter=engine.limits.readers
        )
        program = shutil.which("ps", path=os.environ.get("PATH", os.defpath))
        if program is not None:
            listing = parse(await _output(program, options.split(" "), pids), pids)
        elif options == DEFAULT:
            rows = await anyio.to_thread.run_sync(
                process_list.rows, pids, limiter=engine.limits.readers
            )
            listing = Listing(process_list.TITLES, tuple(rows))
        else:
            raise Unsupported(
                f"this machine has no ps, so there is only {DEFAULT}, not {options!r}: "
                "install procps"
            )
    engine.events.publish("container", "top", container.id, attributes(container))
    return listing


def check_options(options: str) -> None:
    """Refuse options that give another column the name of the pids', or that no program can get.

    Raises:
        EngineFault: Docker's words and status.
        BadParameter: A NUL character.
    """
    if "\0" in options:
        raise BadParameter(f"invalid ps_args: {options!r} holds a NUL character")
    for name, value in _RENAMED.findall(options):
        if name != "pid":
            raise EngineFault(f'specifying "{name}={value}" is not allowed')


async def _output(program: str, options: list[str], pids: set[int]) -> str:
    chosen = f"-q{','.join(map(str, sorted(pids)))}"
    done = await _run([program, *options, chosen])
    if done.returncode:
        # Some options, such as f, can't stand beside -q.
        done = await _run([program, *options])
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise EngineFault(words[0] if words else f"ps: exit status {done.returncode}")
    return done.stdout.decode(errors="replace")


async def _run(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    # Of another language the titles would be others. Without a terminal no line is cut.
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    try:
        with anyio.fail_after(LIMIT_S):
            return await anyio.run_process(command, check=False, env=environment, cwd="/")
    except TimeoutError as error:
        raise EngineFault(f"ps has not answered within {LIMIT_S:g} s") from error
    except OSError as error:
        raise EngineFault(f"cannot run ps: {error.strerror}") from error


def parse(output: str, pids: set[int]) -> Listing:
    """Pick a container's processes out of what ps has printed.

    Threads that stand below their process (option m, with "-" for a pid) belong to it.

    Raises:
        EngineFault: No column is called PID (Docker's words).
    """
    lines = output.split("\n")
    titles = _fields(lines[0])
    if "PID" not in titles:
        raise EngineFault("Couldn't find PID field in ps output")
    column = titles.index("PID")
    found = []
    ours = False
    for line in lines[1:]:
        fields = _fields(line)
        if len(fields) <= column:
            continue
        if fields[column] != "-":
            try:
                ours = int(fields[column]) in pids
            except ValueError:
                raise EngineFault(f"Unexpected pid '{fields[column]}' in ps output") from None
        if ours:
            # The last column may hold spaces.
            last = len(titles) - 1
            found.append((*fields[:last], " ".join(fields[last:])))
    return Listing(tuple(titles), tuple(found))


def _fields(line: str) -> list[str]:
    return [word for word in _SPACES.split(line) if word]
