"""A command that is asked about each request before anything is done: `--authorization-command`.

It gets one line of JSON on its standard input, and allows the request by printing `yes` and ending
with 0. Whatever else happens refuses it, with what it has printed: no such program, a crash,
silence, more than `LIMIT_S`. Others are served meanwhile.

It is not asked about what the body says, which may be any number of gigabytes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import signal
import subprocess
from collections.abc import AsyncGenerator, Sequence

import anyio
import anyio.to_thread
import structlog

from supervisor import signals
from supervisor.api.messages import Request
from supervisor.api.peers import Peer, shown
from supervisor.api.router import without_version
from supervisor.errors import EngineError

log = structlog.get_logger()

LIMIT_S = 10.0
"""How long it may take for an answer and its end."""

AT_ONCE = 8
"""So many are asked at once about requests of one user; more of that user's wait."""

STARTING = 4
"""Threads that start it: a start waits for the disk where the program is."""

LONGEST_ANSWER = 4096

KILL_LIMIT_S = 10.0
"""What outlives SIGKILL this long is in uninterruptible sleep: reported, not awaited."""

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Forbidden(EngineError):
    """The command has not said yes."""

    status = 403


class Authorization:
    """The command, and who waits for it."""

    def __init__(self, command: Sequence[str]) -> None:
        """Args:
        command: Its words, the first the path of a program.
        """
        self._command = tuple(command)
        self._limiters: dict[str, tuple[anyio.CapacityLimiter, int]] = {}
        self._starting = anyio.CapacityLimiter(STARTING)

    @property
    def name(self) -> str:
        """What the command is called in words."""
        return os.path.basename(self._command[0])

    async def check(self, peer: Peer, request: Request) -> None:
        """Return if the command says yes.

        Raises:
            Forbidden: It has not; the text has its words.
        """
        async with self._turn(peer.who):
            words = await self._ask(peer, request)
        if words is not None:
            raise Forbidden(f"authorization denied by {self.name}: {words}")

    @contextlib.asynccontextmanager
    async def _turn(self, who: str) -> AsyncGenerator[None, None]:
        limiter, users = self._limiters.get(who, (None, 0))
        limiter = limiter or anyio.CapacityLimiter(AT_ONCE)
        self._limiters[who] = (limiter, users + 1)
        try:
            # By request, not by task: this one may ask again on a connection that it keeps.
            borrower = object()
            await limiter.acquire_on_behalf_of(borrower)
            try:
                yield
            finally:
                limiter.release_on_behalf_of(borrower)
        finally:
            limiter, users = self._limiters[who]
            if users == 1:
                del self._limiters[who]
            else:
                self._limiters[who] = (limiter, users - 1)

    async def _ask(self, peer: Peer, request: Request) -> str | None:
        """Why not, or None for yes."""
        begin = functools.partial(_start, self._command, peer, request)
        try:
            asked = await anyio.to_thread.run_sync(begin, limiter=self._starting)
        except OSError as error:
            return f"it can't be asked: {error.strerror or error}"
        try:
            with anyio.move_on_after(LIMIT_S):
                said = await asked.answer()
                if len(said) > LONGEST_ANSWER:
                    return f"it says more than {LONGEST_ANSWER} bytes"
                await anyio.wait_readable(asked.pidfd)
                return _judged(said, asked.reap())
            return f"it has not answered within {LIMIT_S:g} s"
        finally:
            await asked.end()


class _Asked:
    """The command at work on one question."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdout is not None
        self._output = process.stdout.fileno()
        self.pidfd = os.pidfd_open(process.pid)
        os.set_blocking(self._output, False)

    async def answer(self) -> bytes:
        """All that it prints, or more than `LONGEST_ANSWER` of it."""
        said = b""
        while len(said) <= LONGEST_ANSWER:
            try:
                piece = os.read(self._output, LONGEST_ANSWER)
            except BlockingIOError:
                await anyio.wait_readable(self._output)
                continue
            if not piece:
                break
            said += piece
        return said

    def reap(self) -> int:
        """How it ended, which it has: a status, or a negated signal."""
        return self._process.wait()

    async def end(self) -> None:
        """Kill what is left of it, and let go."""
        assert self._process.stdout is not None
        if self._process.returncode is None:
            # Not reaped, so the number is still its own and its session's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with anyio.move_on_after(KILL_LIMIT_S, shield=True):
                await anyio.wait_readable(self.pidfd)
                self._process.wait()
            if self._process.returncode is None:
                log.error("authorization.command_hangs", pid=self._process.pid)
        os.close(self.pidfd)
        self._process.stdout.close()


def _judged(said: bytes, status: int) -> str | None:
    text = said.decode(errors="replace").strip()
    if text == "yes" and status == 0:
        return None
    if status < 0:
        return f"it was ended by {signals.name(-status)}"
    if text and text != "yes":
        return shown(text)
    return f"it ended with {status}" + ("" if text else " and said nothing")


def _start(command: Sequence[str], peer: Peer, request: Request) -> _Asked:
    """Start the command with its question. Runs in a thread. Raises OSError."""
    question = os.memfd_create("mdocker-question", os.MFD_CLOEXEC)
    try:
        os.write(question, json.dumps(_question(peer, request)).encode() + b"\n")
        os.lseek(question, 0, os.SEEK_SET)
        process = subprocess.Popen(
            command,
            stdin=question,
            stdout=subprocess.PIPE,
            env=_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(question)
    try:
        return _Asked(process)
    except OSError:  # no descriptor for it
        process.kill()
        process.wait()
        raise


def _question(peer: Peer, request: Request) -> dict[str, object]:
    told: dict[str, object] = {
        "method": request.method,
        "path": without_version(request.path),
        "query": request.raw_query.decode("latin-1"),
        "user": peer.subject if peer.uid is None else _name(peer.uid),
    }
    if peer.uid is None:
        told |= {"tls": True, "address": peer.address}
    return told | peer.told()


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
