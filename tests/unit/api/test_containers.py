"""The containers resource over HTTP, against the scripted engine."""

import json
import time

import anyio
import pytest

from supervisor.api.durations import human, rfc3339_nano
from supervisor.container import Container, ContainerConfig, Life
from supervisor.states import State

pytestmark = pytest.mark.anyio


def add(engine, name, state=State.RUNNING, **more):
    config = {"image": "host", "image_id": "sha256:" + "a" * 64, "cmd": ("top", "-b x")}
    number = len(engine.containers)
    container = Container(
        id=f"{number:02x}" * 32,
        name=name,
        config=ContainerConfig(**(config | more.pop("config", {}))),
        created_ns=(1_700_000_000 + number) * 10**9,
        life=Life(state=state, **more),
    )
    engine.containers.add(container)
    return container


async def test_start_and_stop_answer_204_and_then_304(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.CREATED)
        for path, status in (
            ("start", 204),
            ("start", 304),
            ("stop?t=3&signal=INT", 204),
            ("stop", 304),
        ):
            answer = await client.request("POST", f"/v1.50/containers/c1/{path}")
            assert (answer.status, answer.body) == (status, b"")
            assert "content-type" not in answer.headers
        assert ("stop", "c1", 3, "INT") in engine.calls
        assert ("stop", "c1", None, None) in engine.calls


@pytest.mark.parametrize("path", ["start", "stop", "kill", "wait", "restart", "attach"])
async def test_no_such_container(engine_and_client, path):
    async with engine_and_client() as (_, connect), connect() as client:
        answer = await client.request("POST", f"/containers/nosuch/{path}")
        assert (answer.status, answer.message) == (404, "No such container: nosuch")


@pytest.mark.parametrize(
    ("t", "passed"), [("-1", -1), ("0", 0), ("2147483647", 2147483647), ("", None)]
)
async def test_timeouts_that_can_be(engine_and_client, t, passed):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        for verb in ("stop", "restart"):
            assert (await client.request("POST", f"/containers/c1/{verb}?t={t}")).status == 204
            assert (verb, "c1", passed, None) in engine.calls


@pytest.mark.parametrize(
    "t", ["-2", "2147483648", "99999999999999999999999999", "1.5", "abc", "%D9%A1", "1e3"]
)
async def test_timeouts_that_can_not_be(engine_and_client, t):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        answer = await client.request("POST", f"/containers/c1/stop?t={t}")
        assert answer.status == 400
        assert answer.message.startswith("invalid t ")
        assert engine.calls == []


async def test_kill(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        assert (await client.request("POST", "/containers/c1/kill")).status == 204
        assert (await client.request("POST", "/containers/c1/kill?signal=HUP")).status == 204
        assert engine.calls == [("kill", "c1", "SIGKILL"), ("kill", "c1", "HUP")]
        bad = await client.request("POST", "/containers/c1/kill?signal=FOO")
        assert (bad.status, bad.message) == (400, "Invalid signal: FOO")
        engine.exit(engine.containers.find("c1"), 0)
        gone = await client.request("POST", "/containers/c1/kill")
        assert gone.status == 409
        assert gone.message.startswith("cannot kill container: c1: container ")


async def test_a_start_that_fails_is_a_400_with_the_words_clients_look_for(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.CREATED, config={"cmd": ("nosuch",)})
        answer = await client.request("POST", "/containers/c1/start")
        assert answer.status == 400
        assert "executable file not found" in answer.message


async def test_a_start_takes_no_options(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.CREATED)
        answer = await client.request("POST", "/containers/c1/start", {"HostConfig": {"Memory": 1}})
        assert answer.status == 400
        assert answer.message.startswith("a start takes no body since API 1.24")
        assert (await client.request("POST", "/containers/c1/start", {})).status == 204
        bad = await client.request("POST", "/containers/c1/start?checkpoint=x")
        assert bad.status == 501


async def test_rename_and_remove(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        assert (await client.request("POST", "/containers/c1/rename?name=c2")).status == 204
        running = await client.request("DELETE", "/containers/c2")
        assert running.status == 409
        assert (await client.request("DELETE", "/containers/c2?force=1&v=1")).status == 204
        assert engine.containers.all() == []


async def test_wait_sends_its_head_before_the_end(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(engine, "c1")
        await client.begin("POST", "/containers/c1/wait?condition=next-exit")
        head = await client.head()
        assert head.status_code == 200
        assert dict(head.headers)[b"content-type"] == b"application/json"
        engine.exit(container, 3)
        assert json.loads(await client.piece()) == {"StatusCode": 3, "Error": None}
        assert await client.piece() is None
        assert (await client.request("GET", "/_ping")).status == 200


async def test_wait_for_one_that_has_exited_and_for_a_removal(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1", State.EXITED, exit_code=7)
        answer = await client.request("POST", "/containers/c1/wait")
        assert answer.json == {"StatusCode": 7, "Error": None}
        bad = await client.request("POST", "/containers/c1/wait?condition=tuesday")
        assert bad.status == 400
        assert "tuesday" in bad.message
        await client.begin("POST", "/containers/c1/wait?condition=removed")
        await client.head()
        async with connect() as other:
            assert (await other.request("DELETE", "/containers/c1")).status == 204
        assert json.loads(await client.piece())["StatusCode"] == 7


async def test_a_waiting_client_that_hangs_up_is_let_go(engine_and_client):
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        async with connect() as client:
            await client.begin("POST", "/containers/c1/wait")
            await client.head()
        async with connect() as half:
            await half.begin("POST", "/containers/c1/wait")
            await half.head()
            half.half_close()  # that is no hang-up
            async with connect() as other:
                assert (await other.request("GET", "/_ping")).status == 200
            engine.exit(engine.containers.find("c1"), 9)
            assert json.loads(await half.piece())["StatusCode"] == 9


async def test_a_stop_goes_on_when_the_client_hangs_up(engine_and_client):
    async with engine_and_client() as (engine, connect):
        add(engine, "c1")
        entered, release, finished = anyio.Event(), anyio.Event(), anyio.Event()

        async def slow_stop(container, timeout, signal):
            entered.set()
            await release.wait()
            finished.set()
            return True

        engine.stop = slow_stop
        async with connect() as client:
            await client.begin("POST", "/containers/c1/stop")
            await entered.wait()
        release.set()
        with anyio.fail_after(5):
            await finished.wait()


async def test_list_shows_what_docker_shows(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        now = time.time_ns()
        add(engine, "up", started_ns=now - 5 * 10**9, config={"labels": {"a": "b"}})
        add(engine, "done", State.EXITED, exit_code=3, finished_ns=now - 180 * 10**9)
        add(engine, "new", State.CREATED)
        (up,) = (await client.request("GET", "/v1.50/containers/json")).json
        assert up["Names"] == ["/up"]
        assert up["Id"] == "00" * 32
        assert (up["Image"], up["ImageID"]) == ("host", "sha256:" + "a" * 64)
        assert up["Command"] == "top '-b x'"
        assert up["Created"] == 1_700_000_000
        assert (up["Ports"], up["Mounts"], up["Labels"]) == ([], [], {"a": "b"})
        assert (up["State"], up["Status"]) == ("running", "Up 5 seconds")
        assert up["HostConfig"] == {"NetworkMode": "default"}
        assert list(up["NetworkSettings"]["Networks"]) == ["none"]
        assert "SizeRw" not in up
        everything = (await client.request("GET", "/containers/json?all=1")).json
        assert [one["Names"] for one in everything] == [["/new"], ["/done"], ["/up"]]
        assert everything[0]["Status"] == "Created"
        assert everything[1]["Status"] == "Exited (3) 3 minutes ago"
        sized = (await client.request("GET", "/containers/json?size=1")).json
        assert sized[0]["SizeRootFs"] == 1234


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, "running"),
        ({"status": {"exited": True}}, "exited"),
        ({"status": ["created", "running"]}, "created running"),
        ({"name": ["^/?run"]}, "running"),
        ({"name": ["nosuch"]}, ""),
        ({"id": ["0000"]}, "running"),
        ({"label": ["a"]}, "running"),
        ({"label": {"a=b": True}}, "running"),
        ({"label": {"a=c": True}}, ""),
        ({"label": {"a": True, "z": True}}, ""),
        ({"label": {"a": True, "z": False}}, "running"),
        ({"ancestor": ["host"]}, "running"),
        ({"ancestor": ["nosuch"]}, ""),
        ({"before": ["exited"]}, "running"),
        ({"since": ["running"]}, "created exited"),
        ({"network": ["none"]}, "running"),
        ({"network": ["host"]}, ""),
        ({"health": ["none"]}, "running"),
        ({"health": ["healthy"]}, ""),
        ({"is-task": ["true"]}, ""),
        ({"is-task": ["false"]}, "running"),
        ({"volume": ["v"]}, ""),
        ({"publish": ["80"]}, ""),
        ({"publish": ["1-65535/udp"]}, ""),
        ({"expose": ["80"]}, ""),
        ({"expose": ["8080"]}, "served"),
        ({"expose": ["80", "8000-8080/tcp"]}, "served"),
        ({"expose": ["8080/udp"]}, ""),
        ({"status": None}, "running"),
    ],
)
async def test_filters(engine_and_client, filters, names):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "running", started_ns=1, config={"labels": {"a": "b"}})
        add(engine, "exited", State.EXITED, exit_code=3)
        add(engine, "created", State.CREATED)
        if "expose" in filters:
            add(engine, "served", config={"exposed_ports": ("8080/tcp",)})
        answer = await client.request("GET", f"/containers/json?filters={quoted(filters)}")
        assert " ".join(one["Names"][0][1:] for one in answer.json) == names


async def test_exited_needs_all_and_limit_implies_it(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "a", State.EXITED, exit_code=3)
        add(engine, "b", State.EXITED, exit_code=0)
        path = f"/containers/json?all=1&filters={quoted({'exited': ['3']})}"
        assert [one["Names"] for one in (await client.request("GET", path)).json] == [["/a"]]
        limited = await client.request("GET", "/containers/json?limit=1")
        assert [one["Names"] for one in limited.json] == [["/b"]]


def quoted(filters):
    from urllib.parse import quote

    return quote(json.dumps(filters))


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ('{"nosuch":["x"]}', "invalid filter 'nosuch'"),
        ("{", "invalid filters: "),
        ("[]", "invalid filters: "),
        ('{"label":3}', "invalid filters: "),
        (
            '{"status":["asleep"]}',
            "invalid filter 'status=asleep': invalid value for state (asleep): must be one of "
            "created, running, paused, restarting, removing, exited, dead",
        ),
        (
            '{"health":["fine"]}',
            "invalid filter 'health=fine': invalid value for health (fine): must be one of "
            "none, starting, healthy, unhealthy",
        ),
        (
            '{"exited":["0","x"]}',
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ('{"is-task":["x"]}', "invalid filter 'is-task=[x]'"),
        ('{"publish":["1:2"]}', "filter for 'publish' should not contain ':': 1:2"),
        (
            '{"expose":["x"]}',
            'error while looking up for expose x: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (
            '{"publish":["70000/tcp"]}',
            "error while looking up for publish 70000/tcp: "
            'strconv.ParseUint: parsing "70000": value out of range',
        ),
        (
            '{"publish":["9-8"]}',
            "error while looking up for publish 9-8: Invalid range specified for the Port: 9-8",
        ),
        ('{"expose":["/tcp"]}', "error while looking up for expose /tcp: Empty string specified"),
        ('{"name":["("]}', "invalid filter 'name=("),
        ('{"name":["(a|a)*b"]}', "invalid filter 'name=(a|a)*b': the pattern is too complex"),
        ('{"name":["a*a*a*a*a*b"]}', "invalid filter 'name=a*a*a*a*a*b': the pattern is too com"),
        ('{"before":["nosuch"]}', "No such container: nosuch"),
    ],
)
async def test_bad_filters(engine_and_client, filters, text):
    from urllib.parse import quote

    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        answer = await client.request("GET", f"/containers/json?filters={quote(filters)}")
        assert answer.status in (400, 404)
        assert answer.message.startswith(text)


async def test_inspect_has_docker_shape(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        container = add(
            engine,
            "c1",
            started_ns=1_700_000_001_500_000_000,
            pid=77,
            config={"env": ("A=b",), "stop_signal": "SIGINT", "user": "bob"},
        )
        shown = (await client.request("GET", "/v1.50/containers/c1/json")).json
        assert shown["Name"] == "/c1"
        assert (shown["Path"], shown["Args"]) == ("top", ["-b x"])
        assert shown["Created"] == "2023-11-14T22:13:20Z"
        assert shown["State"] == {
            "Status": "running", "Running": True, "Paused": False, "Restarting": False,
            "OOMKilled": False, "Dead": False, "Pid": 77, "ExitCode": 0, "Error": "",
            "StartedAt": "2023-11-14T22:13:21.5Z", "FinishedAt": "0001-01-01T00:00:00Z",
            "NextRestartAt": "0001-01-01T00:00:00Z",
        }  # fmt: skip
        assert shown["Config"]["Env"] == ["A=b"]
        assert shown["Config"]["Hostname"] == container.id[:12]
        assert shown["Config"]["StopSignal"] == "SIGINT"
        assert "StopTimeout" not in shown["Config"]
        assert shown["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
        assert shown["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
        assert shown["HostConfig"]["ShmSize"] == 64 * 2**20
        assert "/proc/kcore" in shown["HostConfig"]["MaskedPaths"]
        assert shown["GraphDriver"]["Name"] == "overlay2"
        assert shown["GraphDriver"]["Data"]["LowerDir"] == "/layers/top:/layers/bottom"
        assert shown["GraphDriver"]["Data"]["UpperDir"].endswith(f"{container.id}/upper")
        assert list(shown["NetworkSettings"]["Networks"]) == ["none"]
        assert (shown["Mounts"], shown["ExecIDs"], shown["Driver"]) == ([], None, "overlay2")
        assert "SizeRw" not in shown
        sized = (await client.request("GET", "/v1.50/containers/c1/json?size=1")).json
        assert sized["SizeRw"] == 0


async def test_prune_takes_filters(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        keep = add(engine, "keep", State.EXITED, config={"labels": {"keep": ""}})
        drop = add(engine, "drop", State.EXITED)
        path = f"/containers/prune?filters={quoted({'label!': ['keep'], 'until': ['24h']})}"
        answer = await client.request("POST", path)
        assert answer.json == {"ContainersDeleted": [drop.id], "SpaceReclaimed": 4096}
        assert engine.containers.all() == [keep]
        bad = await client.request("POST", f"/containers/prune?filters={quoted({'name': ['x']})}")
        assert (bad.status, bad.message) == (400, "invalid filter 'name'")
        bad = await client.request("POST", f"/containers/prune?filters={quoted({'until': ['x']})}")
        assert bad.status == 400


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "Less than a second"), (1.9, "1 second"), (59, "59 seconds"),
        (60, "About a minute"), (119, "About a minute"), (120, "2 minutes"),
        (59 * 60 + 59, "59 minutes"), (3600, "About an hour"), (5400, "2 hours"),
        (47 * 3600, "47 hours"), (48 * 3600, "2 days"), (13 * 86400, "13 days"),
        (14 * 86400, "2 weeks"), (59 * 86400, "8 weeks"), (60 * 86400, "2 months"),
        (729 * 86400, "24 months"), (731 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations_in_dockers_words(seconds, words):
    assert human(seconds) == words


def test_times_as_go_prints_them():
    assert rfc3339_nano(0) == "0001-01-01T00:00:00Z"
    assert rfc3339_nano(10**9) == "1970-01-01T00:00:01Z"
    assert rfc3339_nano(10**9 + 120) == "1970-01-01T00:00:01.00000012Z"
