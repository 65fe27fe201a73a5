"""Commands asked of a shim that answers, refuses, dies, or says it too late."""

import os
import signal

import anyio
import pytest

from runtime import shim_protocol as protocol
from supervisor.exec_link import ExecLink, ExecLost, ExecRefused

pytestmark = pytest.mark.anyio


class Shim:
    """Stands for the shim's side: what was sent, and the answers that a test gives."""

    def __init__(self):
        self.sent = []
        self.asked = anyio.Event()
        self.link = ExecLink(self._send, self._reachable)
        self.reachable = True

    async def _reachable(self):
        if not self.reachable:
            raise OSError(107, "the shim does not come up")

    async def _send(self, message):
        self.sent.append(message)
        self.asked.set()


def a_pidfd():
    """A descriptor that counts as readable: of a process that has ended with 7."""
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    pidfd = os.pidfd_open(pid)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    return pid, pidfd


def reap(pid):
    os.waitpid(pid, 0)


def is_reaped(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


async def started(shim, results):
    try:
        results.append(await shim.link.start("e1", "c1", (0, 1, 2, 2)))
    except (ExecLost, ExecRefused) as error:
        results.append(error)


async def ask(shim, answer):
    """Start an exec, and let `answer` be what happens then."""
    results = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(started, shim, results)
        await shim.asked.wait()
        answer()
    return results[0]


async def test_the_answer_is_the_callers_pidfd_and_the_end_is_told():
    shim = Shim()
    pid, pidfd = a_pidfd()
    try:
        got = await ask(shim, lambda: shim.link.take(protocol.Execed("e1", pid, pidfd)))
        assert got == pidfd
        assert shim.sent == [protocol.Exec("e1", "c1", 0, 1, 2, 2, ())]
        assert not shim.link.has_ended("e1")
        shim.link.take(protocol.ExecExited("e1", pid, 7 << 8, 5))
        ending = await shim.link.ending("e1", pidfd)
        assert (ending.code, ending.time_ns) == (7, 5)
        shim.link.forget("e1")
        shim.link.take(protocol.ExecExited("e1", pid, 9, 6))  # nobody asks any more
    finally:
        reap(pid)
        os.close(pidfd)


async def test_a_refusal_is_told_in_its_words():
    shim = Shim()
    got = await ask(shim, lambda: shim.link.take(protocol.ExecRefused("e1", 3, "no such luck")))
    assert isinstance(got, ExecRefused)
    assert str(got) == "no such luck"


async def test_a_shim_that_dies_before_it_answers_leaves_nobody_waiting():
    shim = Shim()
    assert isinstance(await ask(shim, shim.link.lost), ExecLost)
    shim.reachable = False
    results = []
    await started(shim, results)
    assert "does not come up" in str(results[0])


async def test_a_question_or_answer_that_lost_its_descriptors_is_a_refusal_of_an_exec_only():
    shim = Shim()
    assert not shim.link.refused("c1", 24, "too many open files")
    got = await ask(shim, lambda: shim.link.refused("e1", 24, "too many open files"))
    assert isinstance(got, ExecRefused)
    assert (got.errno, str(got)) == (24, "too many open files")


async def test_an_orphan_is_waited_for_and_buried_by_us():
    shim = Shim()
    pid, pidfd = a_pidfd()
    try:
        await ask(shim, lambda: shim.link.take(protocol.Execed("e1", pid, pidfd)))
        shim.link.lost()
        assert (await shim.link.ending("e1", pidfd)).code == 7
        assert is_reaped(pid)
    finally:
        os.close(pidfd)


def of_a_parent_who_does_not_reap():
    """A process that has ended with 7, and its parent, which waits for a line."""
    ours, theirs = os.pipe()
    until, go = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(go)
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.write(theirs, b"%d" % pid)
        os.read(until, 1)
        os._exit(0)
    os.close(theirs)
    os.close(until)
    pid = int(os.read(ours, 20))
    os.close(ours)
    return pid, parent, go


async def test_how_an_orphan_has_ended_is_known_before_its_new_parent_reaps_it():
    shim = Shim()
    pid, parent, go = of_a_parent_who_does_not_reap()
    pidfd = os.pidfd_open(pid)
    try:
        await ask(shim, lambda: shim.link.take(protocol.Execed("e1", pid, pidfd)))
        shim.link.lost()
        assert (await shim.link.ending("e1", pidfd)).code == 7
    finally:
        os.close(go)
        reap(parent)
        os.close(pidfd)


async def test_an_orphan_that_lives_is_waited_for_without_the_shim():
    shim = Shim()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    pidfd = os.pidfd_open(pid)
    try:
        await ask(shim, lambda: shim.link.take(protocol.Execed("e1", pid, pidfd)))
        endings = []

        async def wait():
            endings.append(await shim.link.ending("e1", pidfd))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.lowlevel.checkpoint()
            shim.link.lost()
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert endings[0].signal == signal.SIGKILL
    finally:
        os.close(pidfd)


async def test_an_answer_that_nobody_waits_for_leaves_no_descriptor():
    shim = Shim()
    reader, writer = os.pipe()
    os.close(writer)
    shim.link.take(protocol.Execed("other", 1, reader))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


@pytest.mark.parametrize("at_once", [False, True])
async def test_one_that_entered_apart_is_followed_by_another_process(at_once):
    shim = Shim()
    (first, pidfd), (second, later) = a_pidfd(), a_pidfd()

    def told():
        shim.link.take(protocol.Execed("e1", first, pidfd))
        if at_once:
            followed()  # before who has asked gets its turn

    def followed():
        shim.link.take(protocol.Execed("e1", second, later))

    try:
        assert await ask(shim, told) == pidfd
        if not at_once:
            assert (shim.link.pid_of("e1"), shim.link.pids) == (first, {first})
            followed()
        assert (shim.link.pid_of("e1"), shim.link.pids) == (second, {second})
        # Of the two it is the second whose end counts, also when the shim is gone.
        shim.link.lost()
        ending = await shim.link.ending("e1", pidfd)
        assert ending.code == 7
        assert is_reaped(second) and not is_reaped(first)
        shim.link.forget("e1")
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(later)
        os.fstat(pidfd)
    finally:
        os.close(pidfd)
        if not is_reaped(first):
            reap(first)
