"""What one user may have of the server, while others are served."""

import anyio
import pytest
import structlog

from supervisor.api import accounts, http, messages, peers, server
from supervisor.api.accounts import BEGINNING, Account, Accounts, HoldsTooMuch
from supervisor.api.peers import Peer

pytestmark = pytest.mark.anyio

ROOT = Peer(1, 0, 0)
ADA = Peer(2, 1000, 1000)
EVE = Peer(3, 1001, 1001)


@pytest.fixture
def come(monkeypatch):
    """Says who connects next."""

    def whoever(peer):
        monkeypatch.setattr(peers, "of_unix", lambda connected: peer)

    return whoever


def test_connections_of_one_user_of_all_and_of_root():
    door = Accounts(80)
    ada, eve, root = (door.of(peer) for peer in (ADA, EVE, ROOT))
    assert [door.admit(ada) for _ in range(41)] == [True] * 40 + [False]
    assert [door.admit(eve) for _ in range(31)] == [True] * 30 + [False]
    assert all(door.admit(root) for _ in range(100))
    door.leave(ada)
    assert door.admit(eve)
    assert not door.admit(ada)


def test_accounts_are_forgotten_with_their_last_connection():
    door = Accounts(80)
    for number in range(1000):
        account = door.of(Peer(number, number + 1, 0))
        assert door.admit(account)
        door.leave(account)
    ada = door.of(ADA)
    assert door.admit(ada)
    assert door.of(Peer(77, 1000, 5)) is ada
    assert door.of(Peer(subject="1000")) is not ada


async def test_a_flood_lets_others_requests_in_between():
    door = Accounts(80)
    begun = []

    async def ask(account, name):
        await door.turn(account)
        account.answering += 1
        begun.append(name)

    flood, ada, root = door.of(EVE), door.of(ADA), door.of(ROOT)
    for account in (flood, ada):
        assert door.admit(account)
    async with anyio.create_task_group() as group:
        for number in range(500):
            group.start_soon(ask, flood, number)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        before = len(begun)
        assert before == BEGINNING  # the rest waits, as nobody gives turns yet
        ada.answering = 100  # it has many under way, too: so it waits for its turn
        group.start_soon(ask, ada, "ada")
        group.start_soon(ask, root, "root")
        group.start_soon(door.run)
        with anyio.fail_after(10):
            while len(begun) < 502:
                await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert begun.index("root") <= before + BEGINNING
    assert begun.index("ada") <= before + 3 * BEGINNING
    assert sorted(one for one in begun if isinstance(one, int)) == list(range(500))


async def test_who_leaves_the_queue_takes_nobodys_turn():
    door = Accounts(80)
    ada = door.of(ADA)
    assert door.admit(ada)
    ada.answering = BEGINNING
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0):
            await door.turn(ada)
        assert not ada.waiting
        group.start_soon(door.run)
        with anyio.fail_after(10):
            await door.turn(ada)
        group.cancel_scope.cancel()


def test_bytes_of_unfinished_requests():
    ada, root = Account("uid 1000", unlimited=False), Account("uid 0", unlimited=True)
    ada.hold(accounts.HELD_BYTES)
    with pytest.raises(HoldsTooMuch, match="uid 1000 that are under way hold 67108864 bytes"):
        ada.hold(1)
    ada.release(1)
    ada.hold(1)
    root.hold(10 * accounts.HELD_BYTES)


async def test_a_crowd_is_told_and_root_is_served(engine_and_client, monkeypatch, come):
    monkeypatch.setattr(server, "most_connections", lambda: 8)
    async with engine_and_client() as (_, connect):
        come(EVE)
        with structlog.testing.capture_logs() as logs:
            async with connect() as one, connect() as two, connect() as three, connect() as four:
                for client in (one, two, three, four):
                    assert (await client.request("GET", "/_ping")).status == 200
                for _ in range(3):
                    async with connect() as fifth:
                        answer = await fifth.everything()
                        assert answer.startswith(b"HTTP/1.1 503 ")
                        assert b'"uid 1001 has 4 connections open: close some' in answer
                        assert b"Connection: close\r\n" in answer
                come(ROOT)
                async with connect() as root:
                    assert (await root.request("GET", "/_ping")).status == 200
                come(EVE)
                await two.hang_up()
                with anyio.fail_after(10):
                    while True:
                        async with connect() as fifth:
                            await fifth.send(b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n")
                            if (await fifth.receive()).startswith(b"HTTP/1.1 200"):
                                break
        told = [one for one in logs if one["event"] == "api.too_many_connections"]
        assert told[0] == {
            "event": "api.too_many_connections",
            "log_level": "warning",
            "who": "uid 1001",
            "open": 4,
        }
        assert len(told) <= 2  # not for each that is refused


async def test_a_head_that_comes_in_drops_is_not_waited_for(engine_and_client, monkeypatch):
    monkeypatch.setattr(http, "HEAD_SECONDS", 0.1)
    async with engine_and_client() as (_, connect):
        async with connect() as client:
            await dribble(client, b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: ")
        async with connect() as client:
            assert (await client.request("GET", "/_ping")).status == 200
            await anyio.sleep(0.15)  # longer than a head may take: between two it may rest
            assert (await client.request("GET", "/_ping")).status == 200
            await dribble(client, b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: ")


async def dribble(client, begin):
    """A byte each few milliseconds, until the server has had enough of it."""
    with anyio.fail_after(10), pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
        await client.send(begin)
        while True:
            await client.send(b"a")
            with anyio.move_on_after(0.005):
                await client.stream.receive()


async def test_a_body_that_comes_in_drops_is_not_waited_for(engine_and_client, monkeypatch):
    monkeypatch.setattr(messages, "WHOLE_BODY_SECONDS", 0.1)
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(
            b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100000\r\n\r\n"
        )
        answer = b""
        with anyio.fail_after(10):
            while not answer:
                await client.send(b" ")
                with anyio.move_on_after(0.005):
                    answer = await client.receive()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the body was not whole after" in answer


async def test_what_is_held_of_one_user_is_limited(engine_and_client, monkeypatch, come):
    monkeypatch.setattr(accounts, "HELD_BYTES", 100_000)
    body = {"Image": "host", "Cmd": ["true"], "Labels": {"much": "x" * 80_000}}
    half = (
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
        b"Content-Length: 90000\r\n\r\n" + b" " * 60_000
    )
    head = b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * 60_000
    async with engine_and_client() as (_, connect):
        for unfinished in (half, head):
            come(EVE)
            async with connect() as slow, connect() as other:
                await slow.send(unfinished)
                with anyio.fail_after(10):
                    while (await other.request("POST", "/containers/create", body)).status != 429:
                        pass
                come(ADA)
                async with connect() as ada:
                    answer = await ada.request("POST", "/containers/create", body)
                    assert answer.status == 201
                    # Half and half of hers: each is over before the next begins.
                    answer = await ada.request("POST", "/containers/create", body)
                    assert answer.status == 201
                come(EVE)
            async with connect() as other:
                with anyio.fail_after(10):  # what was held is counted back when its end is seen
                    while (await other.request("POST", "/containers/create", body)).status != 201:
                        pass


async def test_a_head_beyond_what_is_held_of_one_user_is_refused(
    engine_and_client, monkeypatch, come
):
    monkeypatch.setattr(accounts, "HELD_BYTES", 100_000)
    come(EVE)
    async with engine_and_client() as (_, connect), connect() as client:
        await client.send(b"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + b"a" * 150_000)
        answer = await client.everything()
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"uid 1001 that are under way hold" in answer
