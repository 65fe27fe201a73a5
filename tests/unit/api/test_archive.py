"""A container's files by the API, with helpers that a test plays; on both backends."""

import base64
import json
import os
import threading

import anyio
import pytest

from supervisor import helper_process as helpers
from supervisor.api import archive
from supervisor.states import State
from tests.unit.api.test_containers import add
from tests.unit.api.test_images import chunked, head
from tests.unit.api.test_streams import hangup_is_seen as gone

pytestmark = pytest.mark.anyio


class FakeJob:
    """A helper that is a thread: `play` is given it, and tells and reads as the real one does."""

    play = None
    made = ()

    def __init__(self, order, container, output=-1):
        self.order = order
        self.pid = 4242
        self.closed = self.reaped = False
        self.data = b""
        self._read, self.input_fd = os.pipe()
        self.output_fd, self._write = os.pipe()
        self.result_fd, self._result = os.pipe()
        self.pidfd = os.eventfd(0)
        for fd in (self.input_fd, self.output_fd, self.result_fd):
            os.set_blocking(fd, False)
        FakeJob.made += (self,)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            type(self).play(self)
        except BrokenPipeError:
            pass
        finally:
            for fd in (self._read, self._write, self._result):
                os.close(fd)
            os.eventfd_write(self.pidfd, 1)

    def tell(self, **told):
        os.write(self._result, json.dumps(told).encode() + b"\n")

    def write(self, data):
        os.write(self._write, data)

    def read_all(self):
        while piece := os.read(self._read, 65536):
            self.data += piece

    def close_input(self):
        fd, self.input_fd = self.input_fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self):
        self.closed = True
        self.close_input()
        os.close(self.output_fd)
        os.close(self.result_fd)

    def reap(self):
        self._thread.join()
        os.close(self.pidfd)
        self.reaped = True

    def fate(self):
        return "killed by SIGKILL"


@pytest.fixture
def playing(monkeypatch):
    """Sets what the next helpers do."""
    monkeypatch.setattr(helpers, "ArchiveJob", FakeJob)
    FakeJob.made = ()

    def play(script):
        monkeypatch.setattr(FakeJob, "play", script)

    yield play
    assert all(job.closed and job.reaped for job in FakeJob.made)


def upload(job):
    job.tell(begun=True)
    job.read_all()
    job.tell(done={"warnings": {"trusted.* attributes can't be kept here": 2}})


def events(engine):
    return [event.action for event in engine.events.past()]


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (1_500_000_000_123_000_000, "2017-07-14T02:40:00.123Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1_500_000_000, "1969-12-31T23:59:58.5Z"),
    ],
)
async def test_a_stat_is_in_a_header(engine_and_client, playing, ns, shown):
    about = {"name": "f", "size": 3, "mode": 420, "linkTarget": "", "mtime_ns": ns}
    playing(lambda job: job.tell(stat=about))
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        raw = b"HEAD /containers/c1/archive?path=%FF HTTP/1.1\r\nHost: d\r\n\r\n"
        await client.send(raw)
        answer = (await client.receive()).decode()
        assert answer.startswith("HTTP/1.1 200")
        line = next(one for one in answer.splitlines() if one.startswith("X-Docker"))
        told = json.loads(base64.b64decode(line.partition(": ")[2]))
        assert told == {"name": "f", "size": 3, "mode": 420, "linkTarget": "", "mtime": shown}
        assert FakeJob.made[0].order["path"] == "\udcff"
        assert events(engine) == []


async def test_an_archive_is_streamed(engine_and_client, playing):
    about = {"name": "d", "size": 3, "mode": 420, "linkTarget": "", "mtime_ns": 1}

    def play(job):
        job.tell(stat=about)
        for _ in range(30):
            job.write(b"x" * 50_000)
        os.close(job._write)
        job._write = os.open("/dev/null", os.O_WRONLY)
        job.tell(done={})

    playing(play)
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        answer = await client.request("GET", "/containers/c1/archive?path=/d&sparse=1")
        assert (answer.status, len(answer.body)) == (200, 1_500_000)
        assert answer.headers["content-type"] == "application/x-tar"
        assert FakeJob.made[0].order["sparse"] is True
        assert events(engine) == ["archive-path"]


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("missing", 404, "Could not find the file /x in container c1"),
        ("refused", 400, "the words"),
        ("read-only", 403, "the words"),
        ("failed", 500, "cannot copy files of container c1: the words"),
    ],
)
async def test_refusals(engine_and_client, playing, kind, status, text):
    playing(lambda job: job.tell(error="the words", kind=kind))
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        for method, body in (("GET", None), ("PUT", b"tar")):
            answer = await client.request(method, "/containers/c1/archive?path=/x", body)
            assert (answer.status, answer.message) == (status, text)
        assert events(engine) == []


async def test_a_helper_that_is_killed(engine_and_client, playing):
    playing(lambda job: None)
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        answer = await client.request("GET", "/containers/c1/changes")
        assert (answer.status, answer.message) == (
            500,
            "the process for the files of container c1 has ended (killed by SIGKILL)",
        )


async def test_an_archive_that_can_not_be_completed_is_cut(engine_and_client, playing):
    def play(job):
        job.tell(begun=True)
        job.write(b"half")
        job.tell(error="input/output error", kind="failed")

    playing(play)
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        await client.begin("GET", "/containers/c1/export")
        received = await client.everything()
        assert b"half" in received
        assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_an_upload_is_fed_to_its_helper(engine_and_client, playing, framing):
    playing(upload)
    path = "/v1.50/containers/c1/archive?path=/d&noOverwriteDirNonDir=true&copyUIDGID=1"
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        lines = {"chunked": b"Transfer-Encoding: chunked", "length": b"Content-Length: 600000"}
        await client.send(head(path, lines[framing]).replace(b"POST", b"PUT"))
        for _ in range(20):
            piece = b"tar" * 10_000
            await client.send(chunked(piece) if framing == "chunked" else piece)
        if framing == "chunked":
            await client.send(b"0\r\n\r\n")
        client.has_sent()
        answer = await client.answer()
        assert (answer.status, answer.json) == (
            200,
            {"Warnings": ["trusted.* attributes can't be kept here (2)"]},
        )
        (job,) = FakeJob.made
        assert job.data == b"tar" * 200_000
        assert (job.order["no_overwrite"], job.order["owner"]) == (True, None)
        assert events(engine) == ["extract-to-dir"]


async def test_a_refusal_reaches_a_client_that_still_sends(engine_and_client, playing):
    def play(job):
        job.tell(begun=True)
        os.read(job._read, 10)
        job.tell(error="no space left on device (at f)", kind="failed")

    playing(play)
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        path = "/containers/c1/archive?path=/d"
        await client.send(head(path, b"Content-Length: 40000000").replace(b"POST", b"PUT"))
        async with anyio.create_task_group() as group:
            group.start_soon(client.send, b"x" * 40_000_000)
            answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"no space left on device (at f)" in answer


async def test_a_client_that_hangs_up_half_way_ends_its_helper(engine_and_client, playing):
    playing(upload)
    async with engine_and_client() as (engine, connect):
        add(engine, "c1", State.EXITED)
        async with connect() as client:
            path = "/containers/c1/archive?path=/d"
            await client.send(head(path, b"Content-Length: 99").replace(b"POST", b"PUT") + b"tar")
            await gone(lambda: not FakeJob.made)
        await gone(lambda: not FakeJob.made[0].reaped)
        assert events(engine) == []
        assert len(engine.limits.uploads) == 0


async def test_who_is_silent_while_others_wait_is_ended(engine_and_client, playing, monkeypatch):
    playing(upload)
    monkeypatch.setattr(archive, "SILENCE_S", 0.05)
    path = "/containers/c1/archive?path=/d"
    async with engine_and_client() as (engine, connect), connect() as slow, connect() as quick:
        add(engine, "c1", State.EXITED)
        await slow.send(head(path, b"Content-Length: 99").replace(b"POST", b"PUT") + b"tar")
        await gone(lambda: not FakeJob.made)
        answer = await quick.request("PUT", path, b"whole")
        assert answer.status == 200
        slow.has_sent()
        answer = await slow.answer()
        assert (answer.status, answer.message[:24]) == (408, "no more of the archive c")


async def test_a_removal_tells_the_client_whose_upload_it_ends(engine_and_client, playing):
    playing(upload)
    path = "/containers/c1/archive?path=/d"
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", State.EXITED)
        await client.send(head(path, b"Content-Length: 99").replace(b"POST", b"PUT") + b"tar")
        await gone(lambda: not FakeJob.made)
        await engine.limits.uploads.end(container.id)
        client.has_sent()
        answer = await client.answer()
        assert (answer.status, answer.message) == (
            409,
            "container c1 was removed while files were copied to it",
        )


@pytest.mark.parametrize(
    ("state", "words"),
    [(State.REMOVING, "which is being removed"), (State.DEAD, "which is Dead: remove it again")],
)
async def test_containers_that_have_no_files_any_more(engine_and_client, playing, state, words):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", state)
        for method, path, verb in (
            ("GET", "archive?path=/", "copy files of"),
            ("PUT", "archive?path=/", "copy files to"),
            ("GET", "export", "export"),
            ("GET", "changes", "compare"),
        ):
            answer = await client.request(method, f"/containers/c1/{path}")
            text = f"You cannot {verb} container {container.id} {words}"
            assert (answer.status, answer.message) == (409, text)
