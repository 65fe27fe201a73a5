"""The exec resource against a command that is scripted: what is asked, answered, and remembered."""

import contextlib
import os
import struct

import anyio
import pytest

from supervisor import exec_sessions
from supervisor.exec_link import ExecLost, ExecRefused
from supervisor.execs import Command, NotExecuted
from supervisor.exits import Ending
from supervisor.states import State
from supervisor.stdin import Stdin
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio

UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "tcp")]


def frame(stream, data):
    return struct.pack(">BxxxL", stream, len(data)) + data


class Script:
    """What a command does when it is entered: it echoes its input, then ends with `code`."""

    def __init__(self, trouble=None, refusal=None, code=0):
        self.entered = []
        self.left = []
        self.trouble, self.refusal, self.code = trouble, refusal, code
        self.go_on = anyio.Event()
        self.may_execute = anyio.Event()
        self.may_execute.set()

    @contextlib.asynccontextmanager
    async def __call__(self, engine, container, exec_id, name, command):
        self.entered.append((container.id, name, command))
        await anyio.lowlevel.checkpoint()
        if self.trouble is not None:
            raise self.trouble
        running = Running(self, command)
        try:
            yield running
        finally:
            running.close()
            self.left.append(exec_id)


class Running:
    left_over = False
    pid = 4711

    def __init__(self, script, command):
        self._script, self._command = script, command
        self._pipes = []
        self.output = self.errors = self._out = self._err = -1
        self.stdin = None
        if command.stdout or command.terminal is not None:
            self.output, self._out = self._pipe()
        if command.stderr and command.terminal is None:
            self.errors, self._err = self._pipe()
        if command.stdin:
            self._in, writer = self._pipe()
            self.stdin = Stdin(os.dup(writer), lambda: None)
            self._close(writer)

    def _pipe(self):
        ends = os.pipe2(os.O_NONBLOCK)
        self._pipes += ends
        return ends

    def _close(self, descriptor):
        self._pipes.remove(descriptor)
        os.close(descriptor)

    async def executed(self):
        await self._script.may_execute.wait()
        if self._script.refusal is not None:
            raise self._script.refusal

    async def ending(self):
        if self.stdin is not None:
            while True:
                await anyio.wait_readable(self._in)
                data = os.read(self._in, 65536)
                if not data:
                    break
                os.write(self._out, data)
        else:
            await self._script.go_on.wait()
            if self._out >= 0:
                os.write(self._out, b"out")
            if self._err >= 0:
                os.write(self._err, b"err")
        for end in (self._out, self._err):
            if end >= 0:
                self._close(end)
        return Ending(code=self._script.code)

    def close(self):
        if self.stdin is not None:
            self.stdin.close()
        for end in self._pipes:
            os.close(end)


@pytest.fixture
def served(engine_and_client, monkeypatch):
    """A context manager: (engine, connect) where commands do as the script says."""

    @contextlib.asynccontextmanager
    async def serving(script):
        monkeypatch.setattr(exec_sessions, "entered", script)
        async with engine_and_client() as (engine, connect), anyio.create_task_group() as tasks:
            engine.begin = tasks.start_soon
            yield engine, connect
            script.go_on.set()

    return serving


async def created(client, **asked):
    answer = await client.request(
        "POST",
        "/containers/bird/exec",
        {"Cmd": ["x", "y"], "AttachStdout": True, "AttachStderr": True, **asked},
    )
    assert answer.status == 201, answer.body
    return answer.json["Id"]


async def test_what_is_asked_reaches_the_command(served):
    script = Script()
    async with served(script) as (engine, connect), connect() as client:
        container = add(engine, "bird", State.RUNNING)
        exec_id = await created(
            client,
            Env=["A=b"],
            User="u:g",
            WorkingDir="/w",
            Privileged=True,
            Tty=True,
            ConsoleSize=[5, 6],
            detachKeys="ctrl-x",
            Container="bird",
        )
        script.go_on.set()
        answer = await client.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        assert (answer.status, answer.body) == (200, b"")
        about = (await client.request("GET", f"/exec/{exec_id}/json")).json
        assert about["DetachKeys"] == "ctrl-x"
        assert about["ProcessConfig"] == {
            "tty": True,
            "entrypoint": "x",
            "arguments": ["y"],
            "privileged": True,
            "user": "u:g",
        }
    ((where, name, command),) = script.entered
    assert (where, name) == (container.id, f"exec-{exec_id[:32]}")
    assert command == Command(
        args=("x", "y"),
        env=("A=b",),
        user="u:g",
        cwd="/w",
        privileged=True,
        terminal=(5, 6),
        stdout=False,
        stderr=False,
        leave_others=True,
    )


async def test_detached_without_a_terminal_it_outlives_us_and_has_no_streams(served):
    script = Script()
    async with served(script) as (engine, connect), connect() as client:
        add(engine, "bird", State.RUNNING)
        exec_id = await created(client, AttachStdin=True)
        assert (
            await client.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        ).status == 200
    command = script.entered[0][2]
    assert (command.lasting, command.stdin, command.stdout, command.stderr) == (
        True,
        False,
        False,
        False,
    )


async def test_streams_come_in_frames_and_the_end_is_known_behind_them(served):
    script = Script(code=7)
    async with served(script) as (engine, connect), connect() as client, connect() as other:
        add(engine, "bird", State.RUNNING)
        exec_id = await created(client)
        await client.begin("POST", f"/exec/{exec_id}/start", {}, UPGRADE)
        head = await client.receive()
        assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        assert b"multiplexed-stream" in head
        about = (await other.request("GET", f"/exec/{exec_id}/json")).json
        assert (about["Running"], about["ExitCode"], about["Pid"]) == (True, None, 4711)
        assert (await other.request("GET", "/containers/bird/json")).json["ExecIDs"] == [exec_id]
        script.go_on.set()
        seen = await client.everything()
        assert sorted((frame(1, b"out"), frame(2, b"err"))) == sorted((seen[:11], seen[11:]))
        about = (await other.request("GET", f"/exec/{exec_id}/json")).json
        assert (about["Running"], about["ExitCode"]) == (False, 7)
        assert (await other.request("GET", "/containers/bird/json")).json["ExecIDs"] is None
    told = [event.action for event in engine.events.past()]
    assert told == ["exec_create: x y", "exec_start: x y", "exec_die"]


async def test_a_client_reads_the_head_while_the_command_gets_ready(served):
    script = Script()
    script.go_on.set()
    script.may_execute = anyio.Event()
    async with served(script) as (engine, connect), connect() as client:
        add(engine, "bird", State.RUNNING)
        exec_id = await created(client)
        await client.begin("POST", f"/exec/{exec_id}/start", {}, UPGRADE)
        assert (await client.receive()).endswith(b"\r\n\r\n")
        script.may_execute.set()
        assert len(await client.everything()) == 2 * 11


async def test_an_old_version_gets_the_old_words_for_the_same(served):
    script = Script()
    script.go_on.set()
    async with served(script) as (engine, connect), connect() as client:
        add(engine, "bird", State.RUNNING)
        asked = {"Cmd": "x", "AttachStdout": True, "Tty": True, "ConsoleSize": [1, 2]}
        answer = await client.request("POST", "/v1.41/containers/bird/exec", asked)
        exec_id = answer.json["Id"]
        await client.begin("POST", f"/v1.41/exec/{exec_id}/start", {"ConsoleSize": [3, 4]})
        head = await client.receive()
        assert b"raw-stream" in head
    assert script.entered[0][2].terminal == (0, 0)


async def test_input_is_passed_on_and_ends_with_the_clients(served):
    script = Script()
    async with served(script) as (engine, connect), connect() as client:
        add(engine, "bird", State.RUNNING)
        exec_id = await created(client, AttachStdin=True)
        await client.begin("POST", f"/exec/{exec_id}/start", {"Tty": True}, UPGRADE)
        await client.receive()
        await client.send(b"word")
        assert await client.receive() == b"word"
        client.half_close()
        assert await client.everything() == b""
    assert script.left == [exec_id]


async def test_keys_are_looked_for_at_a_terminal(served):
    script = Script()
    async with served(script) as (engine, connect), connect() as client:
        add(engine, "bird", State.RUNNING)
        exec_id = await created(client, AttachStdin=True, Tty=True, DetachKeys="ctrl-a")
        await client.begin("POST", f"/exec/{exec_id}/start", {"Tty": True}, UPGRADE)
        await client.receive()
        await client.send(b"word")
        assert await client.receive() == b"word"
        await client.send(b"\x01gone")
        assert await client.everything() == b""
        session = engine.exec_sessions.find(exec_id)
        assert session.is_running
        assert engine.events.past()[-1].action == "exec_detach"
        session.stdin.end()


async def test_a_client_that_vanishes_before_it_runs_ends_its_input(served):
    script = Script()
    async with served(script) as (engine, connect):
        add(engine, "bird", State.RUNNING)
        async with connect() as client:
            exec_id = await created(client, AttachStdin=True)
            await client.begin("POST", f"/exec/{exec_id}/start", {}, UPGRADE)
            while not script.entered:  # noqa: ASYNC110
                await anyio.sleep(0.001)
    assert script.left == [exec_id]


@pytest.mark.parametrize(
    ("trouble", "status", "words"),
    [
        (ExecRefused(3, "the container has ended"), 409, "is not running"),
        (ExecRefused(24, "too many open files"), 500, "too many open files"),
        (ExecLost("the shim died"), 500, "the shim died: try again"),
        (OSError(2, "No such file"), 409, "is not running"),
        (OSError(24, "Too many open files"), 500, "Too many open files"),
    ],
)
async def test_what_can_not_be_entered_is_told(served, trouble, status, words):
    script = Script(trouble=trouble)
    async with served(script) as (engine, connect), connect() as client:
        container = add(engine, "bird", State.RUNNING)
        container.run = object()
        exec_id = await created(client)
        answer = await client.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
        assert (answer.status, words in answer.message) == (status, True)
        about = (await client.request("GET", f"/exec/{exec_id}/json")).json
        assert (about["Running"], about["ExitCode"]) == (False, 126)
        container.run = None


@pytest.mark.parametrize("code", [125, 126, 127])
async def test_what_can_not_be_executed_is_a_part_of_the_output_or_a_refusal(served, code):
    script = Script(refusal=NotExecuted("exec failed: no", code))
    async with served(script) as (engine, connect), connect() as client, connect() as other:
        add(engine, "bird", State.RUNNING)
        exec_id = await created(client)
        await other.begin("POST", f"/exec/{exec_id}/start", {}, UPGRADE)
        assert (await other.everything()).endswith(
            frame(1, b"OCI runtime exec failed: exec failed: no\r\n")
        )
        about = (await client.request("GET", f"/exec/{exec_id}/json")).json
        assert about["ExitCode"] == (127 if code == 127 else 126)
        again = await created(client)
        answer = await client.request("POST", f"/exec/{again}/start?refusing=1", {})
        assert (answer.status, answer.message) == (400, "OCI runtime exec failed: exec failed: no")
    assert script.left == [exec_id, again]


async def test_ended_ones_are_forgotten_in_time_and_the_oldest_of_too_many(served, monkeypatch):
    script = Script()
    script.go_on.set()
    monkeypatch.setattr(exec_sessions, "MOST_IDLE", 3)
    async with served(script) as (engine, connect), connect() as client:
        add(engine, "bird", State.RUNNING)
        made = [await created(client) for _ in range(4)]
        assert (await client.request("GET", f"/exec/{made[0]}/json")).message == (
            f"No such exec instance: {made[0]}"
        )
        for exec_id in made[1:]:
            path = f"/exec/{exec_id}/start"
            assert (await client.request("POST", path, {"Detach": True})).status == 200
        for exec_id in made[1:]:
            while engine.exec_sessions.find(exec_id).exit_code is None:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        assert len(engine.exec_sessions._ended) == 3
        monkeypatch.setattr(exec_sessions, "FORGOTTEN_AFTER_S", 0.0)
        assert (await client.request("GET", f"/exec/{made[1]}/json")).status == 404
        assert not engine.exec_sessions._ended
