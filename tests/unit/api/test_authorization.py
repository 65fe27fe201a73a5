"""The command that is asked about each request: only its yes is one."""

import json
import os
import time
from pathlib import Path

import anyio
import pytest

from supervisor import access
from supervisor.api import authorization, peers
from supervisor.api.peers import Peer
from tests.unit.api.fakes import serving

pytestmark = pytest.mark.anyio


def command(tmp_path, script, name="may"):
    """Options with a shell script as the command."""
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return access.checked(authorization=f"{path} 'one word' {tmp_path}")


def children():
    return Path("/proc/self/task").glob("*/children")


def none_is_left(before):
    """Whether no process and no descriptor is there that was not before."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        living = "".join(path.read_text() for path in children())
        if not living and len(os.listdir("/proc/self/fd")) <= before:
            return True
    return False


async def test_what_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "_comm", lambda pid: "client")
    script = f'cat >> {tmp_path}/asked; echo "$#" "$1" "$2" >> {tmp_path}/asked; pwd; env; echo yes'
    monkeypatch.setenv("SECRET_OF_THE_ENGINE", "hunter2")
    async with (
        serving(tmp_path, access=command(tmp_path, script)) as (_, connect),
        connect() as client,
    ):
        path = "/v1.50/containers/a%2Fb/../json?all=1&name=%20"
        answer = await client.request("GET", path)
        assert answer.status == 403  # it says more than yes
        for words in ("/\\n", "PATH=/usr/local/sbin:", "yes"):
            assert words in answer.message
        assert "hunter2" not in answer.message
    question, arguments = (tmp_path / "asked").read_text().splitlines()
    assert (
        json.loads(question)
        == {
            "method": "GET",
            "path": "/containers/a/b/../json",
            "query": "all=1&name=%20",
            "user": "root" if os.geteuid() == 0 else str(os.geteuid()),
            "pid": os.getpid(),
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "comm": "client",
        }
        or os.geteuid()
    )
    assert arguments == f"2 one word {tmp_path}"


async def test_who_came_by_tls_is_told_by_name(tmp_path, monkeypatch):
    eve = Peer(subject='eve "x"', address="10.0.0.1:5")
    monkeypatch.setattr(peers, "of_unix", lambda connected: eve)
    script = f"cat > {tmp_path}/asked; echo yes"
    async with (
        serving(tmp_path, access=command(tmp_path, script)) as (_, connect),
        connect() as client,
    ):
        assert (await client.request("GET", "/_ping")).status == 200
    told = json.loads((tmp_path / "asked").read_text())
    assert (told["user"], told["subject"], told["tls"]) == ('eve "x"', 'eve "x"', True)
    assert told["address"] == "10.0.0.1:5"
    assert "uid" not in told


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no; exit 0", "no"),
        ("echo 'not on Sundays'; exit 1", "not on Sundays"),
        ("exit 0", "it ended with 0 and said nothing"),
        ("exit 7", "it ended with 7 and said nothing"),
        ("echo yes; exit 1", "it ended with 1"),
        ("echo yes; kill -SEGV $$", "it was ended by SIGSEGV"),
        ("echo yes; kill -40 $$", "it was ended by 40"),
        ("echo YES", "YES"),
        ("echo yes; echo yes", "yes\\nyes"),
        ("echo yes >&2", "it ended with 0 and said nothing"),
        ("printf 'a\\033[2Jb\\000yes'", "a\\x1b[2Jb\\x00yes"),
        ("printf '\\377\\376'", "\ufffd\ufffd"),
    ],
)
async def test_whatever_is_no_yes_refuses_with_its_words(tmp_path, script, words):
    async with (
        serving(tmp_path, access=command(tmp_path, script)) as (engine, connect),
        connect() as client,
    ):
        for method, path in (("GET", "/_ping"), ("POST", "/containers/create?name=bird")):
            answer = await client.request(method, path, {"Image": "host", "Cmd": ["true"]})
            assert answer.status == 403
            assert answer.message == f"authorization denied by may: {words}"
        assert engine.calls == []


async def test_one_that_cant_be_started_refuses(tmp_path):
    missing = access.checked(authorization=f"{tmp_path}/missing")
    plain = tmp_path / "plain"
    plain.write_text("echo yes")
    for options, words in (
        (missing, "No such file or directory"),
        (access.checked(authorization=str(plain)), "Permission denied"),
        (access.checked(authorization=str(tmp_path)), "Permission denied"),
    ):
        async with serving(tmp_path, access=options) as (_, connect), connect() as client:
            answer = await client.request("GET", "/_ping")
            assert answer.status == 403
            assert f": it can't be asked: {words}" in answer.message


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 1000",
        "echo yes; exec sleep 1000",
        "sleep 1000 & echo yes; exit 0",  # its child has its output: was that all?
        "echo yes; exec >&-; exec sleep 1000",
        "trap '' TERM INT; while :; do sleep 1000; done",
    ],
)
async def test_one_that_does_not_end_refuses_and_is_ended(tmp_path, monkeypatch, script):
    monkeypatch.setattr(authorization, "LIMIT_S", 0.2)
    async with (
        serving(tmp_path, access=command(tmp_path, script)) as (_, connect),
        connect() as client,
    ):
        await client.request("GET", "/_ping")
        before = len(os.listdir("/proc/self/fd"))
        answer = await client.request("GET", "/_ping")
        assert answer.status == 403
        assert answer.message.endswith("it has not answered within 0.2 s")
        assert await anyio.to_thread.run_sync(none_is_left, before)


async def test_one_that_prints_for_ever_refuses(tmp_path):
    async with (
        serving(tmp_path, access=command(tmp_path, "exec yes")) as (_, connect),
        connect() as client,
    ):
        await client.request("GET", "/_ping")
        before = len(os.listdir("/proc/self/fd"))
        with anyio.fail_after(authorization.LIMIT_S / 2):
            answer = await client.request("GET", "/_ping")
        assert answer.message == "authorization denied by may: it says more than 4096 bytes"
        assert await anyio.to_thread.run_sync(none_is_left, before)


async def test_others_are_served_while_one_is_thought_about(tmp_path):
    for name in ("gate", "asked"):
        os.mkfifo(tmp_path / name)
    script = (
        f"read question; case $question in *slow*) echo > {tmp_path}/asked;"
        f" read word < {tmp_path}/gate; echo $word;; *) echo yes;; esac"
    )
    async with (
        serving(tmp_path, access=command(tmp_path, script)) as (_, connect),
        connect() as slow,
        connect() as other,
    ):
        await slow.begin("GET", "/containers/slow/json")
        with anyio.fail_after(20):
            await anyio.to_thread.run_sync((tmp_path / "asked").read_text)
            for _ in range(3):
                assert (await other.request("GET", "/_ping")).status == 200
            await anyio.to_thread.run_sync((tmp_path / "gate").write_text, "yes\n")
            assert (await slow.answer()).status == 404  # allowed, so looked for


async def test_one_users_questions_are_asked_a_few_at_once(tmp_path, monkeypatch):
    """More wait for these; another user's don't."""
    users = iter(range(1, 1000))
    monkeypatch.setattr(peers, "of_unix", lambda connected: Peer(1, next(users) // 12, 0))
    os.mkfifo(tmp_path / "gate")
    script = f"cat > {tmp_path}/$$.asked; read word < {tmp_path}/gate; echo yes"
    async with (
        serving(tmp_path, access=command(tmp_path, script)) as (_, connect),
        contexts(connect, 13) as clients,
        anyio.create_task_group() as group,
    ):
        for client in clients[:11]:  # those of uid 0
            await client.begin("GET", "/_ping")
        with anyio.fail_after(20):
            await asked(tmp_path, authorization.AT_ONCE)
            await clients[11].begin("GET", "/_ping")
            await asked(tmp_path, authorization.AT_ONCE + 1)
            opened = os.open(tmp_path / "gate", os.O_RDWR)
            os.write(opened, b"x\n" * 64)
            for client in clients[:12]:
                assert (await client.answer()).status == 200
            os.close(opened)
        group.cancel_scope.cancel()


async def asked(tmp_path, count):
    while len(list(tmp_path.glob("*.asked"))) < count:
        await anyio.to_thread.run_sync(time.sleep, 0.01)
    assert len(list(tmp_path.glob("*.asked"))) == count


class contexts:
    """Several clients at once."""

    def __init__(self, connect, count):
        self._clients = [connect() for _ in range(count)]

    async def __aenter__(self):
        for client in self._clients:
            await client.__aenter__()
        return self._clients

    async def __aexit__(self, *_):
        for client in self._clients:
            await client.__aexit__()
