"""Logs, attach and events: heads at once, pieces as they come, and clients that go away."""

import errno
import json
import struct

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec
import pytest
import structlog

from logs.drivers import Stream, open_log
from logs.framing import Demultiplexer
from supervisor.api import streams
from supervisor.api.http import Connection
from supervisor.container import Life
from supervisor.states import State
from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio

UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "tcp")]


def frame(stream, data):
    return struct.pack(">BxxxL", stream, len(data)) + data


def said(framed):
    """Framed bytes as "1:text 2:text", with neighbours of one stream joined."""
    text, last = "", 0
    for stream, data in Demultiplexer().feed(framed):
        text += ("" if stream == last else f" {int(stream)}:") + data.decode()
        last = stream
    return text.strip(" ")


def with_log(engine, tmp_path, *records, running=True):
    """A container with a real log, in which each (stream, bytes) is."""
    container = add(engine, "c1", State.RUNNING if running else State.EXITED)
    log = open_log("json-file", tmp_path, container.id)
    container.log_path = str(log.path)
    for stream, data in records:
        log.stream(stream).append(data)
    if running:
        engine.log = log
    else:
        log.close()
    return container, log


async def hangup_is_seen(still_there):
    """Wait for something to go that tells nobody when it goes."""
    with anyio.fail_after(5):
        while still_there():  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def test_logs_of_one_that_has_ended(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        with_log(
            engine, tmp_path, (Stream.STDOUT, b"a\nb\n"), (Stream.STDERR, b"c\n"), running=False
        )
        answer = await client.request("GET", "/v1.50/containers/c1/logs?stdout=1&stderr=1")
        assert answer.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert said(answer.body) == "1:a\nb\n 2:c\n"
        old = await client.request("GET", "/v1.41/containers/c1/logs?stdout=1&tail=2")
        assert old.headers["content-type"] == "application/vnd.docker.raw-stream"
        assert said(old.body) == "1:b\n"
        stamped = await client.request("GET", "/containers/c1/logs?stderr=1&timestamps=1")
        assert stamped.body[8:12] == b"20" + stamped.body[10:12]
        assert stamped.body.endswith(b"Z c\n")
        # following one that has ended shows what there is, and ends
        followed = await client.request("GET", "/containers/c1/logs?stderr=1&follow=1&tail=all")
        assert followed.body == frame(2, b"c\n")


async def test_each_line_is_a_frame_for_those_that_take_frames_for_lines(
    engine_and_client, tmp_path
):
    """docker-py: `for line in container.logs(stream=True)`. Ours, which asks for places, joins."""
    async with engine_and_client() as (engine, connect), connect() as client:
        _, log = with_log(
            engine, tmp_path, (Stream.STDOUT, b"a\nb\n"), (Stream.STDERR, b"c\nd"), running=True
        )
        await client.begin("GET", "/v1.50/containers/c1/logs?stdout=1&stderr=1&follow=1")
        await client.head()
        shown = await client.piece()
        lines = frame(1, b"a\n") + frame(1, b"b\n") + frame(2, b"c\n")
        while len(shown) < len(lines):
            shown += await client.piece()
        assert shown == lines
        log.stream(Stream.STDOUT).append(b"e\nf\n")
        more = frame(1, b"e\n") + frame(1, b"f\n")
        shown = await client.piece()
        while len(shown) < len(more):
            shown += await client.piece()
        assert shown == more


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "Bad parameters: you must choose at least one stream"),
        ("?stdout=0&stderr=false", 400, "Bad parameters: you must choose at least one stream"),
        ("?stdout=1&since=tuesday", 400, 'invalid since "tuesday"'),
        ("?stdout=1&until=1.2.3", 400, 'invalid until "1.2.3"'),
    ],
)
async def test_logs_that_can_not_be(engine_and_client, query, status, text):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        answer = await client.request("GET", f"/containers/c1/logs{query}")
        assert (answer.status, answer.message[: len(text)]) == (status, text)


async def test_logs_of_the_driver_none(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", config={"log_driver": "none"})
        answer = await client.request("GET", "/containers/c1/logs?stdout=1")
        assert answer.status == 501
        assert answer.message == "configured logging driver does not support reading"


async def test_logs_of_one_that_never_ran_are_empty(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.CREATED).log_path = str(tmp_path / "not-yet")
        answer = await client.request("GET", "/containers/c1/logs?stdout=1&follow=1")
        assert (answer.status, answer.body) == (200, b"")


async def test_follow_shows_what_is_written_and_ends_with_the_container(
    engine_and_client, tmp_path
):
    async with engine_and_client() as (engine, connect), connect() as client:
        _, log = with_log(engine, tmp_path, (Stream.STDOUT, b"before\n"))
        await client.begin("GET", "/containers/c1/logs?stdout=1&stderr=1&follow=1")
        assert (await client.head()).status_code == 200
        assert await client.piece() == frame(1, b"before\n")
        log.stream(Stream.STDERR).append(b"live\n")
        assert await client.piece() == frame(2, b"live\n")
        log.close()
        assert await client.piece() is None
        assert (await client.request("GET", "/_ping")).status == 200


async def test_a_silent_follower_gets_its_head_and_is_let_go(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect):
        _, log = with_log(engine, tmp_path)
        async with connect() as client:
            await client.begin("GET", "/containers/c1/logs?stdout=1&follow=1")
            assert (await client.head()).status_code == 200
            await hangup_is_seen(lambda: not log._watchers)
        await hangup_is_seen(lambda: log._watchers)
        log.close()


async def test_a_slow_follower_holds_up_nobody(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as slow:
        _, log = with_log(engine, tmp_path)
        await slow.begin("GET", "/containers/c1/logs?stdout=1&follow=1")
        await slow.head()
        text = b"x" * 999 + b"\n"
        for _ in range(50):
            log.stream(Stream.STDOUT).append(text * 1000)
        async with connect() as other:
            for _ in range(10):
                assert (await other.request("GET", "/_ping")).status == 200
        log.close()
        reader, size = Demultiplexer(), 0
        while (piece := await slow.piece()) is not None:
            size += sum(len(data) for _, data in reader.feed(piece))
        assert size == 50_000_000


async def test_a_writer_that_sends_on_loses_nothing_to_a_slow_client(
    engine_and_client, tmp_path, monkeypatch
):
    """The log is written in a thread, which sends small pieces itself until the socket is full."""
    kept = []
    push = Connection.push_piece

    def pushed(connection, piece):
        whole = push(connection, piece)
        kept.append(not whole)
        return whole

    monkeypatch.setattr(Connection, "push_piece", pushed)
    monkeypatch.setattr(streams, "SEND_BUFFER", 8192)
    async with engine_and_client() as (engine, connect), connect() as client:
        _, log = with_log(engine, tmp_path)
        log.deliver = anyio.from_thread.run_sync
        await client.begin("GET", "/containers/c1/logs?stdout=1&follow=1")
        await client.head()
        await hangup_is_seen(lambda: not log._watchers)
        lines = [b"%06d %s\n" % (number, b"x" * 200) for number in range(2000)]

        def write():
            for line in lines:
                log.stream(Stream.STDOUT).append(line)
            log.close()

        text, reader = b"", Demultiplexer()
        await anyio.to_thread.run_sync(write)
        while (piece := await client.piece()) is not None:
            text += b"".join(data for _, data in reader.feed(piece))
        assert text == b"".join(lines)
        assert set(kept) == {False, True}  # some were sent on, then the socket was full


async def test_attach_upgrades_and_streams_frames(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.CREATED)
        await client.begin(
            "POST",
            "/v1.50/containers/c1/attach?stream=1&stdout=1&stderr=1&stdin=1",
            None,
            UPGRADE,
        )
        head = await client.receive()
        assert head == (
            b"HTTP/1.1 101 UPGRADED\r\n"
            b"Content-Type: application/vnd.docker.multiplexed-stream\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        client.half_close()
        (attachment,) = engine.attachments
        attachment.send.send_nowait((1, b"out\n"))
        assert await client.receive() == frame(1, b"out\n")
        attachment.send.send_nowait((2, b"err\n"))
        assert await client.receive() == frame(2, b"err\n")
        attachment.send.close()
        assert await client.receive() == b""
        assert engine.calls[-1] == ("detach", "c1")


async def test_attach_without_upgrade_and_with_an_old_version(engine_and_client):
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        for version, headers, status in (
            ("v1.50", [], b"200 OK"),
            ("v1.41", UPGRADE, b"101 UPGRADED"),
        ):
            async with connect() as client:
                path = f"/{version}/containers/c1/attach?stream=1&stdout=1"
                await client.begin("POST", path, None, headers)
                assert (await client.receive()).startswith(
                    b"HTTP/1.1 %b\r\nContent-Type: application/vnd.docker.raw-stream\r\n" % status
                )


async def test_an_attached_client_that_hangs_up_is_let_go(engine_and_client):
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        async with connect() as client:
            await client.begin("POST", "/containers/c1/attach?stream=1&stdout=1", None, UPGRADE)
            await client.receive()
            assert not engine.attachments[0].closed
        await hangup_is_seen(lambda: not engine.attachments[0].closed)


async def test_attach_with_logs_only_shows_them_and_ends(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        with_log(engine, tmp_path, (Stream.STDOUT, b"a\n"))
        await client.begin("POST", "/containers/c1/attach?logs=1&stdout=1", None, UPGRADE)
        assert (await client.everything()).endswith(b"\r\n\r\n" + frame(1, b"a\n"))
        engine.log.close()


async def test_attach_to_a_paused_one(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.PAUSED)
        answer = await client.request("POST", "/containers/c1/attach?stream=1&stdout=1")
        assert answer.status == 409
        assert answer.message == ("container c1 is paused, unpause the container before attach")


async def test_attach_to_one_that_does_not_run(engine_and_client):
    """Docker's clients wait for its next start; who asks for one that runs is refused."""
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED)
        answer = await client.request("POST", "/containers/c1/attach?stream=1&stdout=1&running=1")
        assert answer.status == 409
        assert answer.message == "You cannot attach to a stopped container, start it first"
        add(engine, "c2", State.RESTARTING)
        answer = await client.request("POST", "/containers/c2/attach?stream=1&stdout=1&running=1")
        assert answer.status == 409
        assert "is restarting" in answer.message


@pytest.mark.parametrize("state", [State.EXITED, State.PAUSED])
async def test_coming_back_to_what_no_log_keeps(engine_and_client, state):
    """It ran when the client was attached first: how it is now is no reason to refuse."""
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", state)
        container.config = msgspec.structs.replace(container.config, log_driver="none")
        path = "/containers/c1/attach?stream=1&stdout=1&running=1&places=1&resume=-"
        await client.begin("POST", path, None, UPGRADE)
        assert (await client.everything()).endswith(b"\r\n\r\n" + frame(4, b"end\n"))


async def test_events_come_line_by_line_at_once(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        await client.begin("GET", "/v1.50/events")
        await client.head()
        engine.events.publish("container", "die", "ab" * 32, {"image": "host", "exitCode": "3"})
        event = json.loads(await client.piece())
        assert event == {
            "status": "die", "id": "ab" * 32, "from": "host", "Type": "container",
            "Action": "die", "scope": "local",
            "Actor": {"ID": "ab" * 32, "Attributes": {"image": "host", "exitCode": "3"}},
            "time": event["timeNano"] // 10**9, "timeNano": event["timeNano"],
        }  # fmt: skip


async def test_events_of_the_past_by_filters(engine_and_client):
    from urllib.parse import quote

    async with engine_and_client() as (engine, connect), connect() as client:
        publish = engine.events.publish
        publish("container", "start", "11", {"name": "a", "image": "host", "k": "v"})
        publish("container", "die", "22", {"name": "b", "image": "box:1"})
        publish("image", "import", "sha256:33", {"name": "box:1"})

        def quoted(filters):
            return quote(json.dumps(filters))

        for filters, wanted in (
            ({}, ["start", "die", "import"]),
            ({"type": ["container"]}, ["start", "die"]),
            ({"event": {"die": True}}, ["die"]),
            ({"container": ["a"]}, ["start"]),
            ({"container": ["2"]}, ["die"]),
            ({"image": ["box"]}, ["die", "import"]),
            ({"image": ["host"]}, ["start"]),
            ({"label": ["k=v"]}, ["start"]),
            ({"scope": ["swarm"]}, []),
            ({"volume": ["v"]}, []),
        ):
            until = engine.events.latest_ns
            path = f"/events?since=1&until={until // 10**9}.{until % 10**9:09d}"
            body = (await client.request("GET", f"{path}&filters={quoted(filters)}")).body
            found = [json.loads(line)["Action"] for line in body.splitlines()]
            assert found == wanted, filters
        never = await client.request("GET", "/events?since=10&until=5")
        words = "`since` time (10) cannot be after `until` time (5)"
        assert (never.status, never.message) == (400, words)
        bad = await client.request("GET", f"/events?filters={quoted({'nosuch': ['x']})}")
        assert (bad.status, bad.message) == (400, "invalid filter 'nosuch'")


async def test_an_events_client_that_hangs_up_is_let_go(engine_and_client):
    async with engine_and_client() as (engine, connect):
        async with connect() as client:
            await client.begin("GET", "/events")
            await client.head()
            await hangup_is_seen(lambda: not engine.events.listeners)
        await hangup_is_seen(lambda: engine.events.listeners)


async def test_streams_end_when_the_server_does(tmp_path):
    from tests.unit.api.fakes import serving

    async with serving(tmp_path) as (engine, connect), connect() as one, connect() as other:
        add(engine, "c1").life = Life(state=State.RUNNING)
        await one.begin("GET", "/events")
        await one.head()
        await other.begin("POST", "/containers/c1/wait")
        await other.head()
        engine.serving.cancel()
        with anyio.CancelScope(shield=True):
            assert await one.everything() == b""
            assert await other.everything() == b""


async def test_lost_output_is_told_to_the_attached_client(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        await client.begin("POST", "/containers/c1/attach?stream=1&stdout=1", None, UPGRADE)
        await client.receive()
        engine.attachments[0].lost = "output was lost: No space left on device"
        engine.attachments[0].send.close()
        assert await client.everything() == frame(3, b"output was lost: No space left on device")


async def test_a_stream_that_fails_half_way_is_cut_not_completed(
    engine_and_client, tmp_path, monkeypatch
):
    def broken(*_, **__):
        yield frame(1, b"good\n")
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(streams, "read", broken)
    with structlog.testing.capture_logs() as logged:
        async with engine_and_client() as (engine, connect):
            add(engine, "c1", State.EXITED)
            async with connect() as client:
                await client.send(b"GET /containers/c1/logs?stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n")
                answer = await client.everything()
                assert b"good\n" in answer
                assert not answer.endswith(b"0\r\n\r\n")
            async with connect() as client:
                assert (await client.request("GET", "/_ping")).status == 200
    assert [entry["event"] for entry in logged] == ["api.request_failed", "api.stream_cut"]


async def test_a_client_that_is_gone_before_its_answer_begins_is_let_go(engine_and_client):
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        async with connect() as client:
            await client.begin("GET", "/containers/c1/logs?stdout=1&follow=1")
        async with connect() as client:
            await client.begin("GET", "/events")
        await hangup_is_seen(lambda: engine.events.listeners)
        async with connect() as client:
            assert (await client.request("GET", "/_ping")).status == 200
