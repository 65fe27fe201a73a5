"""What clients need who come back: places, and requests that go on behind them."""

import json
import struct

import anyio
import pytest

from logs.drivers import Stream
from supervisor import events
from supervisor.container import Life
from supervisor.states import State
from supervisor.waiting import tell_removal
from tests.unit.api.test_containers import add
from tests.unit.api.test_streams import UPGRADE, hangup_is_seen, with_log

pytestmark = pytest.mark.anyio

BOTH = "stdout=1&stderr=1"


def frames(data):
    """(stream, payload) of each frame."""
    while data:
        stream, length = struct.unpack_from(">BxxxL", data)
        yield stream, data[8 : 8 + length]
        data = data[8 + length :]


def places(data):
    """The words of the place frames."""
    return [payload.decode().strip() for stream, payload in frames(data) if stream == 4]


async def get(client, path):
    answer = await client.request("GET", path)
    assert answer.status == 200, answer.body
    return answer


async def test_logs_tell_places_and_go_on_behind_them(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        with_log(engine, tmp_path, (Stream.STDOUT, b"a\n"), (Stream.STDERR, b"b\n"), running=False)
        path = f"/v1.50/containers/c1/logs?{BOTH}&places=1"
        first = await get(client, path)
        assert first.headers["mdocker-resume"] == "0-0-0.0.0"
        (end,) = places(first.body)
        whole = await get(client, f"{path}&resume={first.headers['mdocker-resume']}")
        assert whole.body == first.body
        rest = await get(client, f"{path}&follow=1&resume={end}")
        assert (rest.body, rest.headers["mdocker-resume"]) == (b"", end)
        assert "mdocker-missed" not in rest.headers
        # A client that does not ask is told nothing.
        plain = await get(client, f"/v1.50/containers/c1/logs?{BOTH}")
        assert "mdocker-resume" not in plain.headers
        assert places(plain.body) == []


async def test_a_follower_is_told_each_place(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        _, log = with_log(engine, tmp_path, (Stream.STDOUT, b"old\n"))
        path = f"/v1.50/containers/c1/logs?{BOTH}&follow=1&places=1"
        await client.begin("GET", f"{path}&tail=0")
        head = await client.head()
        before = dict(head.headers)[b"mdocker-resume"].decode()
        log.stream(Stream.STDOUT).append(b"new\n")
        piece = await client.piece()
        (after,) = places(piece)
        for place, shown in ((before, b"new\n"), (after, b"")):
            async with connect() as other:
                await other.begin("GET", f"{path}&resume={place}")
                await other.head()
                if shown:
                    found = [data for stream, data in frames(await other.piece()) if stream == 1]
                    assert found == [shown]
                else:
                    log.close()
                    assert await other.piece() is None


async def test_a_place_that_is_gone_is_said(engine_and_client, tmp_path):
    async with engine_and_client() as (engine, connect), connect() as client:
        with_log(engine, tmp_path, (Stream.STDOUT, b"a\n"), running=False)
        path = f"/containers/c1/logs?{BOTH}&places=1&resume=7-5-abc.0.0"
        answer = await get(client, path)
        assert answer.headers["mdocker-missed"] == "1"
        assert (1, b"a\n") in frames(answer.body)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/containers/c1/logs?{BOTH}&resume=nonsense"),
        ("GET", f"/containers/c1/logs?{BOTH}&resume=-1-2-3"),
        ("GET", "/events?resume=yesterday"),
        ("GET", "/events?resume=-5"),
        ("GET", f"/events?resume={10**19}"),
        ("POST", "/containers/c1/wait?resume=5"),
        ("POST", "/containers/c1/wait?resume=c1.5"),
        ("POST", f"/containers/c1/wait?resume={'1' * 64}.soon"),
    ],
)
async def test_what_is_no_place_is_refused(engine_and_client, tmp_path, method, path):
    async with engine_and_client() as (engine, connect), connect() as client:
        with_log(engine, tmp_path, running=False)
        answer = await client.request(method, path)
        assert answer.status == 400
        assert "give what Mdocker-Resume said" in answer.message


async def test_an_attachment_goes_on_from_the_log(engine_and_client, tmp_path):
    """It has ended meanwhile: what came behind the place, and the end of it all."""
    async with engine_and_client() as (engine, connect):
        with_log(engine, tmp_path, (Stream.STDOUT, b"one\ntwo\n"), running=False)
        query = f"stream=1&{BOTH}&places=1"
        async with connect() as client:
            path = f"/v1.50/containers/c1/attach?{query}&resume=0-0-0.2.0"
            await client.begin("POST", path, None, UPGRADE)
            head, _, body = (await client.everything()).partition(b"\r\n\r\n")
        assert b"Mdocker-Resume: " in head
        assert list(frames(body)) == [(1, b"one\ntwo\n"), (4, b"end\n")]
        assert engine.attachments == []
        async with connect() as client:
            path = "/containers/c1/attach?stream=1&resume=none"
            assert (await client.request("POST", path)).status == 400


async def test_where_no_log_is_kept_no_place_is_known(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", config={"log_driver": "none"})
        path = f"/v1.50/containers/c1/attach?stream=1&{BOTH}&places=1"
        await client.begin("POST", path, None, UPGRADE)
        assert b"\r\nMdocker-Resume: -\r\n" in await client.receive()


async def waited(client, path):
    answer = await client.request("POST", path)
    assert answer.status == 200, answer.body
    return answer.headers["mdocker-resume"], answer.json["StatusCode"]


async def test_a_wait_is_for_the_end_that_came_first(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", State.RUNNING)
        async with connect() as other:
            await other.begin("POST", "/containers/c1/wait?condition=next-exit")
            token = dict((await other.head()).headers)[b"mdocker-resume"].decode()
        since = int(token.partition(".")[2])
        assert token.startswith(container.id)
        engine.ends.note(container.id, 4, since + 1)
        engine.ends.note(container.id, 5, since + 2)
        for condition in ("", "not-running", "next-exit"):
            path = f"/containers/c1/wait?condition={condition}&resume={token}"
            assert await waited(client, path) == (token, 4)
        # Its name may be another's by now: the token says whose end it was.
        assert await waited(client, f"/containers/other/wait?resume={token}") == (token, 4)
        tell_removal(container)
        engine.containers.discard(container)
        assert await waited(client, f"/containers/c1/wait?resume={token}") == (token, 4)
        assert (await waited(client, f"/containers/{container.id}/wait"))[1] == 5
        assert (await waited(client, f"/containers/{container.id[:12]}/wait"))[1] == 5
        assert (await client.request("POST", "/containers/c1/wait")).status == 404


async def test_a_wait_whose_end_is_on_record_alone(engine_and_client):
    """The supervisor died between the record and its memory of the end."""
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", State.EXITED)
        container.life = Life(state=State.EXITED, finished_ns=50, exit_code=6)
        token = f"{container.id}.40"
        path = f"/containers/c1/wait?condition=next-exit&resume={token}"
        assert await waited(client, path) == (token, 6)


async def test_a_wait_that_is_resumed_before_the_end_goes_on(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1", State.RUNNING)
        token = f"{container.id}.40"
        await client.begin("POST", f"/containers/c1/wait?condition=next-exit&resume={token}")
        assert dict((await client.head()).headers)[b"mdocker-resume"].decode() == token
        engine.exit(container, 8)
        assert json.loads(await client.piece())["StatusCode"] == 8


@pytest.mark.parametrize("token", ["x", "5", f"{'ab' * 32}.soon", f"{'ab' * 32}", "ab.5"])
async def test_a_wait_with_a_token_that_is_none(engine_and_client, token):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.RUNNING)
        answer = await client.request("POST", f"/containers/c1/wait?resume={token}")
        assert answer.status == 400
        assert "give what Mdocker-Resume said" in answer.message


async def test_events_go_on_behind_the_last(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        for action in ("create", "start", "die"):
            engine.events.publish("container", action, "ab" * 32, {})
        times = [event.time_ns for event in engine.events.past()]
        await client.begin("GET", f"/events?resume={times[0]}")
        headers = dict((await client.head()).headers)
        assert headers[b"mdocker-resume"] == b"%d" % times[0]
        assert b"mdocker-begins" not in headers
        found = [json.loads(await client.piece())["Action"] for _ in range(2)]
        assert found == ["start", "die"]
        engine.events.publish("container", "destroy", "ab" * 32, {})
        assert json.loads(await client.piece())["Action"] == "destroy"
        async with connect() as other:
            await other.begin("GET", "/events")
            place = dict((await other.head()).headers)[b"mdocker-resume"]
            assert place == b"%d" % engine.events.latest_ns


async def test_events_that_were_forgotten_meanwhile_are_said(engine_and_client, monkeypatch):
    monkeypatch.setattr(events, "REMEMBERED", 2)
    async with engine_and_client() as (engine, connect), connect() as client:
        for action in ("create", "start", "die", "destroy"):
            engine.events.publish("container", action, "ab" * 32, {})
        begins = engine.events.begins_ns
        await client.begin("GET", "/events?resume=5")
        assert dict((await client.head()).headers)[b"mdocker-begins"] == b"%d" % begins


async def test_a_listener_that_is_too_slow_is_cut_and_not_completed(engine_and_client, monkeypatch):
    monkeypatch.setattr(events, "REMEMBERED", 50)
    async with engine_and_client() as (engine, connect), connect() as client:
        await client.begin("GET", "/events")
        await client.head()
        await hangup_is_seen(lambda: not engine.events.listeners)
        for number in range(2000):
            engine.events.publish("container", "start", "ab" * 32, {"text": "x" * 10_000})
            if number % 100 == 0:
                await anyio.lowlevel.checkpoint()
        assert not (await client.everything()).endswith(b"0\r\n\r\n")
        assert engine.events.listeners == 0


async def test_health_events_are_found_by_their_first_word(engine_and_client):
    from urllib.parse import quote

    async with engine_and_client() as (engine, connect), connect() as client:
        engine.events.publish("container", "health_status: healthy", "ab" * 32, {"name": "web-1"})
        now = engine.events.latest_ns
        for filters, count in (
            ({"event": ["health_status"]}, 1),
            ({"event": ["health_status: healthy"]}, 1),
            ({"event": ["health_status: unhealthy"]}, 0),
            ({"container": ["web"]}, 1),
            ({"container": ["eb-1"]}, 0),
        ):
            until = f"{now // 10**9}.{now % 10**9:09d}"
            path = f"/events?since=1&until={until}&filters={quote(json.dumps(filters))}"
            assert len((await get(client, path)).body.splitlines()) == count, filters
