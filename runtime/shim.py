"""The shim: one small process that owns all inits, so that no supervisor's death harms one.

It clones inits, holds duplicates of their descriptors, reaps every exit, and answers one supervisor
at a time over a SOCK_SEQPACKET socket (`runtime.shim_protocol` draws the talk). It is
single-threaded, blocks nowhere but in epoll, and knows nothing of what a container means.

Why it is written as it is: a start with a Python init copies this process (`runtime.native` tells
of the others), so its imports are few, its objects are frozen out of the collector, and the
collector is off (nothing here makes reference cycles).

- Connection: a new one replaces the old one. When it ends everything is kept and a new supervisor
  started (`runtime.succession`). If none is to follow and nothing is held, the shim ends.
- Exits are pushed as soon as they are reaped and kept until Forget. A supervisor that does not
  read is not waited for: messages queue here, and at `_QUEUE_LIMIT` nothing more is read from it.
- Signals: SIGINT and SIGQUIT are ignored; SIGTERM ends the shim only if no container lives; SIGHUP
  has it look after its names in RUN_DIR (`runtime.run_dir`) if no supervisor is there to do so.
- Children: each init is the first process of a pid namespace, and whatever it starts dies with it;
  one in another's pid namespace leaves its orphans to that one's first process, and one in the
  machine's is their subreaper itself. So nobody's orphans come here and the shim is none. Inits
  that an earlier shim cloned are handed over by the supervisor (`HandOver`); they are not our
  children (`runtime.endings`).
"""

from __future__ import annotations

# C modules: `signal` and `socket` import enum, which every fork would pay for.
import _signal  # type: ignore[import-not-found]  # typeshed has none
import _socket
import errno
import gc
import os
import select
import struct
import sys
import time

from runtime import native, run_dir, shim_protocol, spawner
from runtime.fast import FastStarts, prepare
from runtime.joining import Joining
from runtime.kernel import DOOR, Kernel
from runtime.network import NamespacePool
from runtime.shim_exec import Execs
from runtime.shim_setup import fit_out, note_pid, reserve_low_descriptors
from runtime.strangers import Strangers
from runtime.succession import Succession

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from runtime.becoming import Host

_QUEUE_LIMIT = 512
_PACKETS_PER_TURN = 16
_EVENTS_PER_TURN = 32  # epoll's buffer is made anew each turn
_POOL_SIZE = 8


class Shim:
    """All of it: the sockets, the containers, what waits to be sent."""

    def __init__(
        self,
        door: Kernel,
        listener: socket.socket,
        host: Host,
        fast: FastStarts | None,
        faults: int,
        code: str = "",
    ) -> None:
        self._door = door
        self._listener = listener
        self._fast = fast
        self._faults = faults
        self._code = code
        self._untidy = False
        self._diagnoses: dict[int, spawner.Diagnosis] = {}  # by pidfd of the child or the init
        self._host = host
        self._pool = NamespacePool(door, _POOL_SIZE)
        self._containers: dict[str, spawner.Held] = {}
        self._alive: dict[int, spawner.Held] = {}  # by pidfd
        self._held: dict[str, tuple[int, ...]] = {}
        self._supervisor: socket.socket | None = None
        self._supervisor_fd = -1
        # (packet, descriptors that go with it, descriptors to close once it has gone)
        self._queue: list[tuple[bytes, list[int], list[int]]] = []
        self._reserve = os.dup(listener.fileno())
        self._interest = 0
        self._ended = False
        self._woken_r, self._woken_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.epoll()
        self._joining = Joining(door, self._containers)
        self._execs = Execs(door, host, fast, self._poll, self._send, self._release, self._joining)
        self._succession = Succession(self._poll, _complain)
        self._strangers = Strangers(self._poll, _complain)
        self._listener.setblocking(False)
        self._poll.register(listener.fileno(), select.EPOLLIN)
        self._poll.register(self._woken_r, select.EPOLLIN)
        self._poll.register(faults, select.EPOLLIN)
        for number in (_signal.SIGTERM, _signal.SIGHUP):
            _signal.signal(number, _ignore_but_wake)
        _signal.set_wakeup_fd(self._woken_w, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until there is nothing left to hold and nobody to hold it for."""
        while not self._ended:
            at_leisure = self._pool.wants_more or self._untidy
            timeout = 0 if at_leisure else self._succession.timeout()
            events = self._poll.poll(timeout, _EVENTS_PER_TURN)
            self._succession.start_if_due()
            if self._succession.hopeless and not self._containers:
                _complain("no supervisor comes up and there is nothing to look after")
                self._ended = True
            if not events and self._pool.wants_more:
                self._pool.make_one()
            elif not events and self._fast is not None:
                self._untidy = False
                self._fast.trim()
            for fd, bits in events:
                try:
                    self._handle(fd, bits)
                except Exception as error:  # noqa: BLE001 - the parent of all containers lives on
                    self._survive(fd, error)
            if events and self._fast is not None and self._fast.score_is_changed:
                self._untidy = True

    def _survive(self, fd: int, error: Exception) -> None:
        """A fault of ours: say so, and be rid of what would bring it back at once."""
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
        _complain(f"a fault of mdocker's own, please report it: {error!r} at {place}")
        if fd == self._supervisor_fd:
            self._lost_supervisor()
        elif fd in self._alive or fd in self._diagnoses or fd in self._execs:
            self._poll.unregister(fd)

    def _handle(self, fd: int, bits: int) -> None:
        if fd in self._diagnoses:
            self._go_on(self._diagnoses[fd], fd)
        elif fd in self._alive:
            self._reap(self._alive[fd])
        elif self._succession.owns(fd):
            self._succession.handle(fd)
            self._end_if_idle()
        elif self._strangers.owns(fd):
            self._strangers.hear(self._alive.values())
        elif fd in self._execs:
            self._execs.ended(fd)
        elif fd == self._supervisor_fd:
            if bits & select.EPOLLOUT:
                self._flush()
            if bits & ~select.EPOLLOUT:
                self._read()
        elif fd == self._listener.fileno():
            self._accept()
        elif fd == self._faults:
            self._diagnose()
        elif fd == self._woken_r:
            self._heed(os.read(self._woken_r, 512))

    def _heed(self, signals: bytes) -> None:
        if _signal.SIGTERM in signals:
            self._ended = not self._alive
        if _signal.SIGHUP in signals and self._supervisor is None:
            run_dir.stay_reachable(self._listener, self._reserve, self._poll, _complain)

    # The connection

    def _accept(self) -> None:
        # One descriptor is always kept for this: the old connection's or the reserve.
        self._drop_supervisor()
        os.close(self._reserve)
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # typeshed hides it
        except OSError as error:
            self._reserve = os.dup(self._listener.fileno())
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                _complain(f"accept a supervisor: {error}")
                # The whole machine is out of files or memory, which no event will tell the end of.
                time.sleep(0.05)
            return
        self._reserve = -1
        self._supervisor = _socket.socket(fileno=fd)  # type: ignore[assignment]
        self._supervisor_fd = fd
        os.set_blocking(fd, False)
        self._interest = select.EPOLLIN
        self._poll.register(fd, self._interest)
        self._succession.connected(self._supervisor)  # type: ignore[arg-type]

    def _drop_supervisor(self) -> None:
        if self._supervisor is None:
            return
        self._poll.unregister(self._supervisor_fd)
        self._supervisor.close()
        self._supervisor = None
        self._supervisor_fd = -1
        self._reserve = os.dup(self._listener.fileno())
        queue, self._queue = self._queue, []
        for _, _, closing in queue:
            _close_all(closing)
        self._execs.end_all()

    def _lost_supervisor(self) -> None:
        self._drop_supervisor()
        run_dir.stay_reachable(self._listener, self._reserve, self._poll, _complain)
        self._succession.disconnected()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        """Nobody is there, nobody will come, and nothing is held: go."""
        if self._supervisor is None and not self._containers and not self._succession.awaited:
            # Another may have connected meanwhile, and must not find a shim that is leaving.
            self._accept()
            self._ended = self._supervisor is None

    def _read(self) -> None:
        for _ in range(_PACKETS_PER_TURN):
            if self._supervisor is None or len(self._queue) >= _QUEUE_LIMIT:
                break
            try:
                message = shim_protocol.receive(self._supervisor)
            except BlockingIOError:
                break
            except shim_protocol.FdsLost as lost:
                words = f"the shim may open no more descriptors: {lost.strerror}"
                self._pool.drain()
                if lost.message_type == shim_protocol.Exec.TYPE:
                    self._send(shim_protocol.ExecRefused(lost.message_id, lost.errno or 0, words))
                elif lost.message_id:
                    self._send(shim_protocol.SpawnRefused(lost.message_id, lost.errno or 0, words))
                else:
                    _complain(words)
                continue
            except (OSError, shim_protocol.ProtocolFault) as error:
                _complain(f"read from the supervisor: {error}")
                self._lost_supervisor()
                break
            if message is None:
                self._lost_supervisor()
                break
            self._obey(message)
        self._watch()

    def _watch(self) -> None:
        """Tell epoll what we want of the supervisor: no reading while too much waits for it."""
        if self._supervisor is None:
            return
        interest = select.EPOLLIN if len(self._queue) < _QUEUE_LIMIT else 0
        if self._queue:
            interest |= select.EPOLLOUT
        if interest != self._interest:
            self._interest = interest
            self._poll.modify(self._supervisor_fd, interest)

    def _send(self, message: shim_protocol.Message) -> None:
        """Send now or queue; without a supervisor there is nobody to tell."""
        if self._supervisor is None:
            return
        packet, fds = shim_protocol.encode(message)
        self._queue.append((packet, fds, []))
        if len(self._queue) == 1:
            self._flush()

    def _flush(self) -> None:
        sent = 0
        try:
            for packet, fds, closing in self._queue:
                assert self._supervisor is not None
                shim_protocol.send_packet(self._supervisor, packet, fds)
                _close_all(closing)
                closing.clear()
                sent += 1
        except BlockingIOError:
            pass
        except OSError:
            del self._queue[:sent]
            self._lost_supervisor()
            return
        del self._queue[:sent]
        self._watch()

    def _release(self, fds: tuple[int, ...]) -> None:
        """Close descriptors, but not before every message that may carry them was sent."""
        if self._queue:
            self._queue[-1][2].extend(fds)
        else:
            _close_all(fds)

    # What the supervisor asks for

    def _obey(self, message: shim_protocol.Message) -> None:
        if isinstance(message, shim_protocol.Spawn):
            self._spawn(message)
        elif isinstance(message, shim_protocol.Exec):
            code = self._execs.start(message, self._containers.get(message.container))
            if code == errno.EMFILE:
                self._pool.drain()
            _close_all(message.descriptors())
        elif isinstance(message, shim_protocol.Forget):
            self._forget(message.id)
        elif isinstance(message, shim_protocol.CloseStdin):
            self._close_stdin(message.id)
        elif isinstance(message, shim_protocol.Hold):
            self._release(self._held.pop(message.name, ()))
            if message.fds:
                self._held[message.name] = message.fds
        elif isinstance(message, shim_protocol.HandOver):
            self._take_over(message)
        elif isinstance(message, shim_protocol.Successor):
            self._succession.serves(message)
        elif isinstance(message, shim_protocol.Farewell):
            self._succession.farewell()
        elif isinstance(message, shim_protocol.Adopt):
            self._hand_over()
        elif isinstance(message, shim_protocol.Quit):
            self._ended = not self._alive
        else:
            _complain(f"a supervisor doesn't send {message.TYPE}")
            _close_all(message.descriptors())

    def _spawn(self, message: shim_protocol.Spawn) -> None:
        try:
            if message.id in self._containers:
                words = "the shim still holds a container of this id; Forget it first"
                raise spawner.Refused(errno.EEXIST, words)
            self._joining.be_home()
            held = spawner.spawn(
                self._door, message, self._pool, self._host, self._joining, self._fast
            )
            spawner.watch(self._door, self._poll, held.pidfd)
        except spawner.Refused as refused:
            if refused.errno == errno.EMFILE:
                self._pool.drain()
            _close_all(message.descriptors())
            self._send(shim_protocol.SpawnRefused(message.id, refused.errno, str(refused)))
            return
        self._untidy = self._fast is not None
        held.stdout_r, held.stderr_r = message.stdout_r, message.stderr_r
        theirs = [message.spec, message.status_w, message.stdout_w, message.stderr_w]
        if message.fds:
            stdin_r, held.stdin_w = message.fds
            theirs.append(stdin_r)
        self._containers[message.id] = held
        self._alive[held.pidfd] = held
        self._send(shim_protocol.Spawned(message.id, held.pid, held.start_ticks, held.pidfd))
        _close_all(theirs)

    def _reap(self, held: spawner.Held) -> None:
        status = spawner.reap(held.pidfd) if held.ours else self._strangers.learn(held)
        if status is None:
            return
        self._poll.unregister(held.pidfd)
        self._ended_with(held, status)

    # Inits of an earlier shim

    def _take_over(self, message: shim_protocol.HandOver) -> None:
        """Hold what the shim before us held, whose child it was."""
        if message.id in self._containers:
            _close_all(message.fds)
            return
        held = self._containers[message.id] = self._strangers.take(message)
        if held.wait_status is None:
            self._alive[held.pidfd] = held
            self._poll.register(held.pidfd, select.EPOLLIN)

    def _ended_with(self, held: spawner.Held, status: int) -> None:
        held.wait_status = status
        held.time_ns = time.time_ns()
        # The pidfd stays open until Forget: a Spawned that carries it may still be in the queue.
        del self._alive[held.pidfd]
        self._send(shim_protocol.Exited(held.id, held.pid, status, held.time_ns))

    # Fast starts that failed (runtime.native)

    def _diagnose(self) -> None:
        """A child of a fast start has given up: find out why, in words."""
        record = os.read(self._faults, native.FAULT_BYTES)
        token, _, result = struct.unpack("=QQq", record)
        if self._execs.diagnose(token, -result):
            return
        for held in self._alive.values():
            if held.token == token:
                plan = self._fast.plan_of(token) if self._fast else None
                if plan is None:
                    return  # killed meanwhile; its end will be told like any other
                diagnosis = spawner.Diagnosis(self._door, held, plan, -result)
                self._diagnoses[held.pidfd] = diagnosis
                if not diagnosis.hopeful and not diagnosis.too_late:
                    _complain(f"{held.id} failed to start (errno {-result}), nobody knows why")
                return

    def _go_on(self, diagnosis: spawner.Diagnosis, pidfd: int) -> None:
        """The child is gone: run the Python init. Or that one is: tell the container's end."""
        status = spawner.reap(pidfd)
        if status is None:
            return
        held = diagnosis.held
        self._poll.unregister(pidfd)
        del self._diagnoses[pidfd]
        if pidfd == held.pidfd:
            if diagnosis.run(self._host, self._joining):
                self._diagnoses[diagnosis.pidfd] = diagnosis
                self._poll.register(diagnosis.pidfd, select.EPOLLIN)
                return
        else:
            self._door.close(pidfd)
        self._ended_with(held, status)

    def _forget(self, container_id: str) -> None:
        held = self._containers.get(container_id)
        if held is None:
            return
        if held.wait_status is None:
            _complain(f"won't forget {container_id}, which is alive")
            return
        del self._containers[container_id]
        self._release((*held.streams, held.pidfd) if held.pidfd >= 0 else held.streams)

    def _close_stdin(self, container_id: str) -> None:
        held = self._containers.get(container_id)
        if held is not None and held.stdin_w >= 0:
            stdin_w, held.stdin_w = held.stdin_w, -1
            self._release((stdin_w,))

    def _hand_over(self) -> None:
        for held in self._containers.values():
            fds = held.streams
            if held.wait_status is None:
                fds = (held.pidfd, *fds)
            self._send(
                shim_protocol.Adopted(
                    id=held.id,
                    pid=held.pid,
                    start_ticks=held.start_ticks,
                    wait_status=held.wait_status,
                    time_ns=held.time_ns,
                    fds=fds,
                )
            )
        for name, stage in self._held.items():
            self._send(shim_protocol.Held(name, stage))
        self._send(shim_protocol.AdoptEnd(len(self._containers), os.getpid(), self._code))


def _close_all(fds: list[int] | tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)


def _complain(words: str) -> None:
    """One line on stderr, which is RUN_DIR/shim.log; lost if that disk is full."""
    try:
        os.write(2, f"mdocker-shim: {words}\n".encode(errors="backslashreplace"))
    except OSError:
        return


def _ignore_but_wake(_number: int, _frame: object) -> None:
    """A handler so that the signal reaches the wake-up descriptor and does nothing else."""


def main() -> None:
    """Be the shim; argv is [-c, RUN_DIR, LISTEN_FD, …, HOW, CODE], see `runtime.shim_launch`."""
    listener_fd, faults = reserve_low_descriptors(int(sys.argv[2]))
    host = fit_out()
    note_pid(sys.argv[1])
    fast = prepare(DOOR, host) if sys.argv[4] == "fast" else None
    listener: socket.socket = _socket.socket(fileno=listener_fd)  # type: ignore[assignment]
    shim = Shim(DOOR, listener, host, fast, faults, sys.argv[5])
    gc.collect()
    gc.freeze()
    gc.disable()
    shim.run()
