"""One probe with a scripted command: its output, its time, its end, and Docker's words for them."""

import contextlib
import errno
import os
from types import SimpleNamespace

import anyio
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from supervisor import probing
from supervisor.container import Container, ContainerConfig, HealthCheck
from supervisor.events import EventBus
from supervisor.exec_link import ExecLost, ExecRefused
from supervisor.execs import NotExecuted
from supervisor.exits import Ending, unknown

S = 10**9


@pytest.fixture
def anyio_backend():
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Command:
    """What runs: it writes `output`, then ends after `seconds` with `ending`."""

    def __init__(self, output=b"", seconds=0.0, ending=None, start_s=0.0, refusal=None):
        self.ending_told = ending or Ending(code=0)
        self.killed_at = None
        self.left = False
        self._seconds, self._start_s, self._refusal = seconds, start_s, refusal
        self.output, self._write = os.pipe2(os.O_NONBLOCK)
        os.write(self._write, output)

    async def executed(self):
        await anyio.sleep(self._start_s)
        if self._refusal:
            raise self._refusal

    async def ending(self):
        if self.killed_at is None:
            await anyio.sleep(self._seconds)
        return self.ending_told

    def kill(self):
        self.killed_at = anyio.current_time()
        self.ending_told = Ending(code=137, signal=9)

    def close(self):
        os.close(self.output)
        os.close(self._write)


async def probed(monkeypatch, command, timeout_ns=10 * S, test=("CMD", "x"), refusal=None):
    """The outcome of a probe of `command`, and the events that it made."""

    @contextlib.asynccontextmanager
    async def entered(engine, container, exec_id, name, args):
        await anyio.lowlevel.checkpoint()
        if refusal is not None:
            raise refusal
        try:
            yield command
        finally:
            command.left = True

    monkeypatch.setattr(probing, "entered", entered)
    engine = SimpleNamespace(events=EventBus())
    config = ContainerConfig(image="host", image_id="sha256:1", health=HealthCheck(test))
    container = Container("c" * 64, "bird", config, 1)
    try:
        outcome = await probing.probe(engine, container, timeout_ns)
    finally:
        command.close()
    return outcome, [event.action for event in engine.events.past()]


@pytest.mark.anyio
async def test_a_success_and_a_failure(monkeypatch):
    outcome, told = await probed(monkeypatch, Command(b"fine\n", 3))
    assert (outcome.kind, outcome.probe.exit_code, outcome.probe.output) == ("success", 0, "fine\n")
    assert told == ["exec_create: x", "exec_start: x", "exec_die"]
    outcome, _ = await probed(monkeypatch, Command(b"", 0, Ending(code=2)))
    assert (outcome.kind, outcome.probe.exit_code, outcome.killed) == ("failure", 2, False)


@pytest.mark.anyio
async def test_one_that_takes_too_long_is_killed_at_its_time(monkeypatch):
    command = Command(b"so far", 1000, start_s=4)
    began = anyio.current_time()
    outcome, told = await probed(monkeypatch, command, 1500 * 10**6)
    assert command.killed_at - began == 5.5  # the time counts from its execve
    assert command.left
    assert (outcome.kind, outcome.probe.exit_code) == ("timeout", -1)
    assert outcome.probe.output == "Health check exceeded timeout (1.5s): so far"
    assert told[-1] == "exec_die"


@pytest.mark.anyio
async def test_one_that_does_not_even_start_is_given_up(monkeypatch):
    outcome, _ = await probed(monkeypatch, Command(start_s=1000))
    assert (outcome.kind, outcome.probe.exit_code) == ("failure", -1)
    assert "not started within 10 s" in outcome.probe.output


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (ExecRefused(errno.EAGAIN, "no more processes"), "failure", "no more processes"),
        (ExecLost("the shim died"), "lost", "the shim died"),
        (OSError(errno.EBUSY, "busy"), "timeout", "does not end after SIGKILL"),
    ],
)
async def test_what_can_not_be_entered(monkeypatch, refusal, kind, words):
    outcome, told = await probed(monkeypatch, Command(), refusal=refusal)
    assert (outcome.kind, outcome.probe.exit_code) == (kind, -1)
    assert words in outcome.probe.output
    assert told == ["exec_create: x"]


@pytest.mark.anyio
async def test_what_can_not_be_executed(monkeypatch):
    outcome, _ = await probed(monkeypatch, Command(refusal=NotExecuted("no such file")))
    assert (outcome.kind, outcome.probe.output) == ("failure", "no such file")


@pytest.mark.anyio
@pytest.mark.parametrize("refusal", [ExecRefused(errno.EMFILE, "full"), OSError(12, "no memory")])
async def test_what_we_lack_is_the_caller_s_to_hear(monkeypatch, refusal):
    with pytest.raises(OSError, match=r"full|no memory"):
        await probed(monkeypatch, Command(), refusal=refusal)


@pytest.mark.anyio
async def test_an_end_that_nobody_saw_says_why_and_is_no_event(monkeypatch):
    outcome, told = await probed(monkeypatch, Command(ending=unknown(5)))
    assert outcome.kind == "lost"
    assert "exit code is unknown" in outcome.probe.output
    assert told[-1] == "exec_start: x"


@pytest.mark.anyio
async def test_one_that_was_killed_by_others_says_so(monkeypatch):
    outcome, _ = await probed(monkeypatch, Command(ending=Ending(code=137, signal=9)))
    assert outcome.killed


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (250_000_000, "250ms"),
        (1_500_000_000, "1.5s"),
        (30 * S, "30s"),
        (90 * S, "1m30s"),
        (3600 * S, "1h0m0s"),
        (86_400 * S + 1, "24h0m0.000000001s"),
    ],
)
def test_durations_are_spelled_as_go_does(ns, text):
    assert probing.go_duration(ns) == text


@given(st.integers(0, 2**62))
def test_any_duration_can_be_read_back(ns):
    from mdocker.units import parse_duration

    assert parse_duration(probing.go_duration(ns)) == ns
