"""`start`, `stop`, `kill`, `restart`, `rm`, `wait`, `rename`: several at once, all to the end."""

from __future__ import annotations

import threading

import pytest


@pytest.mark.parametrize(
    ("words", "path", "query"),
    [
        (["start", "a"], "start", {}),
        (["stop", "a"], "stop", {}),
        (["stop", "-t", "3", "-s", "INT", "a"], "stop", {"t": "3", "signal": "INT"}),
        (["stop", "--time", "0", "a"], "stop", {"t": "0"}),
        (["stop", "-t", "-1", "a"], "stop", {"t": "-1"}),
        (["kill", "a"], "kill", {}),
        (["kill", "-s", "HUP", "a"], "kill", {"signal": "HUP"}),
        (["restart", "-t1", "a"], "restart", {"t": "1"}),
    ],
)
def test_one_request_each(engine, mdocker, words, path, query):
    engine.json("POST", f"/containers/a/{path}", None, 204)
    assert mdocker(*words) == (0, "a\n", "")
    assert engine.requests == [("POST", f"/containers/a/{path}", query, b"")]


def test_not_modified_is_fine(engine, mdocker):
    engine.json("POST", "/containers/a/stop", None, 304)
    assert mdocker("stop", "a") == (0, "a\n", "")


def test_rm(engine, mdocker):
    engine.json("DELETE", "/containers/[ab]", None, 204)
    assert mdocker("rm", "-fv", "a", "b") == (0, "a\nb\n", "")
    assert {request[1] for request in engine.requests} == {"/containers/a", "/containers/b"}
    assert engine.requests[0][2] == {"force": "1", "v": "1"}


def test_rename(engine, mdocker):
    engine.json("POST", "/containers/a/rename", None, 204)
    assert mdocker("rename", "a", "b") == (0, "", "")
    assert engine.requests[0][2] == {"name": "b"}


def test_odd_names_stay_one_name(engine, mdocker):
    engine.json("POST", "/containers/.*/stop", None, 204)
    assert mdocker("stop", "/a", "x?y", "é/z").code == 0
    assert {request[1] for request in engine.requests} == {
        "/containers/a/stop",
        "/containers/x?y/stop",
        "/containers/é/z/stop",
    }


def test_an_empty_name_is_none(engine, mdocker):
    result = mdocker("rm", "")
    assert result.code == 1
    assert "value is empty" in result.err
    assert not engine.requests


@pytest.mark.parametrize("command", ["start", "stop", "kill", "restart", "wait"])
def test_a_failure_keeps_no_other_from_its_turn(engine, mdocker, command):
    engine.json("POST", f"/containers/[ac]/{command}", {"StatusCode": 0}, 200)
    engine.refuse("POST", f"/containers/b/{command}", 404, "No such container: b")
    result = mdocker(command, "a", "b", "c")
    assert result.code == 1
    assert len(result.out.split()) == 2
    assert result.err == "mdocker: No such container: b\n"


def test_forced_removal_of_what_is_gone(engine, mdocker):
    engine.refuse("DELETE", "/containers/a", 404, "No such container: a")
    assert mdocker("rm", "-f", "a").code == 0
    assert mdocker("rm", "a").code == 1


def test_wait_prints_codes_in_order(engine, mdocker):
    later = threading.Event()

    def wait(call, name):
        if name == "a":
            later.wait(5)
        else:
            later.set()
        call.answer(200, {"StatusCode": ord(name)})

    engine.on("POST", "/containers/(.)/wait", wait)
    assert mdocker("wait", "a", "b") == (0, "97\n98\n", "")


def test_all_requests_are_in_flight_at_once(engine, mdocker):
    """None of 150 stops is answered before the last has arrived."""
    barrier = threading.Barrier(150)

    def stop(call, name):
        barrier.wait(10)
        call.answer(204)

    engine.on("POST", "/containers/(.*)/stop", stop)
    names = [f"c{number}" for number in range(150)]
    result = mdocker("stop", *names)
    assert result == (0, "".join(name + "\n" for name in names), "")


def listed(**states):
    return [
        {"Id": f"{name}0", "Names": [f"/{name}"], "State": state} for name, state in states.items()
    ]


@pytest.fixture
def five(engine):
    """One container in each of five states."""
    engine.json(
        "GET",
        "/containers/json",
        listed(up="running", calm="paused", soon="restarting", done="exited", new="created"),
    )
    engine.json("POST", "/containers/.*/.*", None, 204)
    engine.json("DELETE", "/containers/.*", None, 204)
    return engine


@pytest.mark.parametrize("option", ["--all", "--filter=label=a"])
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["stop"], ["up", "calm", "soon"]),
        (["restart"], ["up", "calm", "soon"]),
        (["start"], ["done", "new"]),
        (["rm"], ["done", "new"]),
        (["rm", "-f"], ["up", "calm", "soon", "done", "new"]),
    ],
    ids=" ".join,
)
def test_all_that_can_be_meant(five, mdocker, words, names, option):
    assert mdocker(*words, option) == (0, "".join(name + "\n" for name in names), "")
    filters = {"filters": '{"label":{"a":true}}'} if "filter" in option else {}
    assert five.requests[0][2] == {"all": "1"} | filters
    acted = {request[1].split("/")[2] for request in five.requests[1:]}
    assert acted == set(names)


def test_kill_all(five, mdocker):
    assert mdocker("kill", "-a", "-s", "HUP") == (0, "up\ncalm\nsoon\n", "")
    assert mdocker("kill", "--filter", "label=a").code == 125


@pytest.mark.parametrize("command", ["stop", "start", "rm", "restart"])
def test_all_of_none(engine, mdocker, command):
    engine.json("GET", "/containers/json", [])
    assert mdocker(command, "--all") == (0, "", "")
    assert mdocker(command, "--filter", "name=x") == (0, "", "")


def test_a_bad_filter_is_the_engines_to_refuse(engine, mdocker):
    engine.refuse("GET", "/containers/json", 400, "invalid filter 'nosuch'")
    assert mdocker("stop", "-f", "nosuch=1") == (1, "", "mdocker: invalid filter 'nosuch'\n")


@pytest.mark.parametrize("command", ["stop", "kill", "rm", "start", "restart"])
def test_names_or_all(engine, mdocker, command):
    assert "requires at least 1 argument, or --all" in mdocker(command).err
    result = mdocker(command, "--all", "a")
    assert result.code == 1
    assert "names or --all, not both" in result.err
    if command != "kill":
        assert "names or --filter, not both" in mdocker(command, "--filter", "id=1", "a").err
    assert not engine.requests


def test_an_engine_that_goes_away_in_the_middle(engine, mdocker):
    def stop(call, name):
        if name == "a":
            call.answer(204)
        call.close_connection = True

    engine.on("POST", "/containers/(.)/kill", stop)
    result = mdocker("kill", "a", "b")
    assert result.code == 1
    assert result.out == "a\n"
    assert "the engine" in result.err


def test_one_that_hangs_up_for_ever_is_given_up(engine, mdocker, monkeypatch):
    from mdocker import fanout

    def hang_up(call, name):
        call.close_connection = True

    monkeypatch.setattr(fanout, "_PAUSE_S", 0.001)
    monkeypatch.setattr(fanout, "PATIENCE_S", 0.05)
    engine.on("POST", "/containers/(.)/stop", hang_up)
    result = mdocker("stop", "a", "b")
    assert (result.code, result.out) == (1, "")
    assert len(engine.requests) > 4


def test_engines_may_die_as_often_as_they_like_while_they_answer(engine, mdocker, monkeypatch):
    from mdocker import fanout

    def wait(call, name):
        call.begin("application/json")
        if len(engine.requests) < 5:
            call.close_connection = True
        else:
            call.chunk(b'{"StatusCode": 3}')
            call.finish_chunks()

    monkeypatch.setattr(fanout, "_PAUSE_S", 0.001)
    monkeypatch.setattr(fanout, "PATIENCE_S", 0.0)
    engine.on("POST", "/containers/(.)/wait", wait)
    assert mdocker("wait", "a") == (0, "3\n", "")


def test_an_engine_that_hangs_up_after_each_answer(engine, mdocker):
    """More jobs than lines, and every line serves one request only."""

    def create(call):
        call.close_connection = True
        call.send_response_only(201)
        data = b'{"Id": "%s"}' % call.query["name"].encode()
        call.send_header("Connection", "close")
        call.send_header("Content-Length", str(len(data)))
        call.end_headers()
        call.wfile.write(data)

    engine.on("POST", "/containers/create", create)
    engine.json("POST", "/containers/(.*)/start", None, 204)
    result = mdocker("run", "-d", "--name", "b", "--replicas", "50", "host")
    assert result == (0, "".join(f"b-{number}\n" for number in range(1, 51)), "")


def test_descriptors_run_out(engine, mdocker, monkeypatch):
    """With room for three connections all requests are made all the same."""
    from mdocker import client, fanout

    monkeypatch.setattr(fanout, "_raise_descriptor_limit", lambda: None)
    engine.json("POST", "/containers/.*/stop", None, 204)
    opened = 0
    dial = client.dial

    def scarce(path):
        nonlocal opened
        opened += 1
        if opened > 3:
            raise OSError(24, "Too many open files")
        return dial(path)

    monkeypatch.setattr(client, "dial", scarce)
    names = [f"c{number}" for number in range(40)]
    assert mdocker("stop", *names).out.split() == names
    assert engine.connections == 3


def test_no_engine(mdocker, engine, tmp_path):
    result = mdocker("--host", f"unix://{tmp_path}/nope.sock", "ps")
    assert result.code == 1
    assert "no engine listens at" in result.err
    assert "mdocker daemon" in result.err
    assert result.err.count("\n") == 1


def test_something_else_listens(engine, mdocker):
    def garbage(call):
        call.wfile.write(b"220 smtp ready\r\n")
        call.close_connection = True

    engine.on("GET", "/containers/json", garbage)
    result = mdocker("ps")
    assert result.code == 1
    assert "the engine closed the connection in the middle" in result.err


def test_errors_without_json(engine, mdocker):
    def fail(call):
        call.send_response_only(500)
        call.send_header("Content-Length", "4")
        call.end_headers()
        call.wfile.write(b"oops")

    engine.on("GET", "/containers/json", fail)
    assert mdocker("ps") == (1, "", "mdocker: oops\n")


def test_start_attached_to_one_only(engine, mdocker):
    for words in (["x", "y"], ["--all"], ["-f", "label=a"]):
        for option in ("-a", "-i", "-ai"):
            result = mdocker("start", option, *words)
            assert result.code == 1
            assert "you cannot start and attach multiple containers at once" in result.err
