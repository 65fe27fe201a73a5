"""Blobs: checked while they stream, gone on with where they broke, refused where they are wrong."""

import anyio
import pytest

from runtime.images import references
from supervisor.registries.backoff import Backoff
from supervisor.registries.connections import Patience
from supervisor.registries.credentials import Credentials
from supervisor.registries.errors import (
    BlobUnknown,
    RegistryFault,
    RegistryUnreachable,
    TooManyRequests,
    WrongContent,
)
from tests.unit.registries.fake_registry import (
    Told,
    client,
    digest,
    part,
    read,
    refused,
    repository,
    serving,
)

pytestmark = pytest.mark.anyio

DATA = bytes(range(256)) * 2000
DIGEST = digest(DATA)


async def test_a_blob_is_read_as_it_is():
    async with repository(lambda asked: part(asked, DATA)) as (fake, nest):
        assert await read(nest, DIGEST, len(DATA)) == DATA
        assert fake.asked[-1].target == f"/v2/bird/nest/blobs/{DIGEST}"
        assert fake.asked[-1].headers["accept-encoding"] == "identity"
        assert fake.asked[-1].headers["user-agent"].startswith("mdocker/")


async def test_it_comes_in_large_pieces():
    """If httpcore calls the number otherwise one day, this tells."""
    data = DATA * 4
    async with (
        repository(lambda asked: part(asked, data)) as (_, nest),
        nest.blob(digest(data), len(data)) as pieces,
    ):
        assert max([len(piece) async for piece in pieces]) > 65536


async def test_the_empty_blob():
    async with repository(lambda asked: part(asked, b"")) as (_, nest):
        assert await read(nest, digest(b""), 0) == b""


async def test_what_breaks_off_is_gone_on_with_by_range_and_told():
    offsets, waits = [], []

    def answer(asked):
        offsets.append(asked.offset)
        told = part(asked, DATA)
        return Told(told.status, told.headers, told.body, cut=150_000)

    async with repository(answer) as (_, nest):
        data = await read(nest, DIGEST, len(DATA), waiting=waits.append)
    assert data == DATA
    assert offsets[0] == 0
    assert offsets == sorted(offsets)
    assert len(offsets) > 2
    assert len(waits) == len(offsets) - 1


async def test_a_connection_that_breaks_off_often_but_brings_much_is_no_failure():
    data = DATA * 20
    tries = []

    def answer(asked):
        tries.append(asked.offset)
        told = part(asked, data)
        return Told(told.status, told.headers, told.body, cut=1_200_000)

    async with repository(answer) as (_, nest):
        assert await read(nest, digest(data), len(data)) == data
    assert len(tries) > 5


async def test_a_server_without_ranges_is_read_over():
    """It answers 200 with all of it; what is there already is left out."""
    answers = iter([Told(body=DATA, cut=len(DATA) - 10), Told(body=DATA)])
    async with repository(lambda asked: next(answers)) as (fake, nest):
        assert await read(nest, DIGEST, len(DATA)) == DATA
        assert fake.asked[-1].offset > 0


async def test_it_is_given_up_after_five_tries_that_brought_nothing():
    answers = []

    def answer(asked):
        answers.append(asked.offset)
        return Told(body=DATA, cut=0) if asked.offset == 0 else Told(body=b"", status=503)

    async with repository(answer) as (_, nest):
        with pytest.raises(RegistryUnreachable, match="unexpected EOF"):
            await read(nest, DIGEST, len(DATA))
    assert len(answers) == 5


async def test_an_end_that_comes_too_soon_is_no_end():
    """Without an announced length an end looks like any other."""
    answers = iter([Told(body=DATA[:1000], length=None), Told(body=DATA, length=None)])
    async with repository(lambda asked: next(answers)) as (_, nest):
        assert await read(nest, DIGEST, len(DATA)) == DATA


async def test_a_wrong_digest_is_an_error_and_its_last_piece_is_kept_back():
    wrong = DATA[:-1] + b"?"
    async with repository(lambda asked: part(asked, wrong)) as (fake, nest):
        got = b""
        with pytest.raises(WrongContent, match=f"verification failed for digest {DIGEST}"):
            async with nest.blob(DIGEST, len(DATA)) as pieces:
                async for piece in pieces:
                    got += piece
        assert b"?" not in got[-1:]
        assert len(got) < len(DATA)
        assert len(fake.asked) == 1  # it is not asked again in the hope for better


@pytest.mark.parametrize(
    "told",
    [
        Told(body=DATA + b"more"),
        Told(body=DATA[:-1]),
        Told(body=DATA + b"more", length=None),
        Told(body=DATA, length=10**15, cut=len(DATA)),
    ],
    ids=["longer", "shorter", "longer-in-chunks", "a-petabyte"],
)
async def test_another_size_is_refused(told):
    async with repository(lambda asked: told) as (fake, nest):
        with pytest.raises(WrongContent, match="bytes"):
            await read(nest, DIGEST, len(DATA))
        assert len(fake.asked) == 1


@pytest.mark.parametrize(
    "where", ["bytes 0-9/512000", "bytes 5-9/3", "nonsense", "bytes 100000-511999/999999"]
)
async def test_another_part_than_the_one_asked_for_is_no_part(where):
    def answer(asked):
        if not asked.offset:
            return Told(body=DATA, cut=100_000)
        return Told(206, {"Content-Range": where}, DATA[asked.offset :])

    async with repository(answer) as (_, nest):
        with pytest.raises((RegistryFault, WrongContent)):
            await read(nest, DIGEST, len(DATA))


async def test_redirected_elsewhere_no_secret_goes_along():
    async with serving(lambda asked: part(asked, DATA)) as elsewhere:

        def answer(asked):
            if "authorization" not in asked.headers:
                return Told(401, {"WWW-Authenticate": 'Basic realm="nest"'})
            return Told(307, {"Location": f"http://{elsewhere.address}/store?signature=s"})

        bird = Credentials("bird", "secret")
        async with repository(answer, credentials=bird) as (_, nest):
            assert await read(nest, DIGEST, len(DATA)) == DATA
    assert [one.target for one in elsewhere.asked] == ["/store?signature=s"]
    assert "authorization" not in elsewhere.asked[0].headers


async def test_redirections_end():
    async with repository(lambda asked: Told(302, {"Location": asked.target + "x"})) as (
        fake,
        nest,
    ):
        with pytest.raises(RegistryFault, match="stopped after 10 redirects"):
            await read(nest, DIGEST, len(DATA))
        assert len(fake.asked) >= 10


@pytest.mark.parametrize("where", ["ftp://x/", "http://[", "//", "http://a b/", "http://\x7f/"])
async def test_a_redirection_to_no_address(where):
    async with repository(lambda asked: Told(302, {"Location": where})) as (_, nest):
        with pytest.raises((RegistryFault, RegistryUnreachable)):
            await read(nest, DIGEST, len(DATA))


async def test_who_stalls_is_given_up():
    once = Backoff(tries=1)
    async with repository(
        lambda asked: Told(body=DATA, stall=1000),
        patience=Patience(5.0, 0.05),
        backoff=once,
    ) as (_, nest):
        with pytest.raises(RegistryUnreachable, match="the registry is silent"):
            await read(nest, DIGEST, len(DATA))


async def test_who_stalls_once_is_gone_on_with():
    answers = iter([Told(body=DATA, stall=1000)])
    silent = Patience(30.0, 0.25)  # a machine that is busy elsewhere may be silent, too, and again
    many = Backoff(tries=100, first_s=0.001, most_s=0.002)
    async with repository(
        lambda asked: next(answers, Told(body=DATA)), patience=silent, backoff=many
    ) as (fake, nest):
        assert await read(nest, DIGEST, len(DATA)) == DATA
        assert len(fake.asked) >= 2


async def test_a_blob_that_is_not_there():
    async with repository(
        lambda asked: refused(404, "BLOB_UNKNOWN", "blob unknown to registry")
    ) as (fake, nest):
        with pytest.raises(BlobUnknown, match="blob unknown: blob unknown to registry"):
            await read(nest, DIGEST, len(DATA))
        assert len(fake.asked) == 1


async def test_a_limit_is_waited_for_as_long_as_it_asks_if_that_is_not_long():
    answers = iter([refused(429, "TOOMANYREQUESTS", "slow down", {"Retry-After": "0"})])
    async with repository(lambda asked: next(answers, Told(body=DATA))) as (_, nest):
        assert await read(nest, DIGEST, len(DATA)) == DATA
    limited = refused(429, "TOOMANYREQUESTS", "slow down", {"Retry-After": "3600"})
    async with repository(lambda asked: limited) as (fake, nest):
        with pytest.raises(TooManyRequests, match=r"^toomanyrequests: slow down$"):
            await read(nest, DIGEST, len(DATA))
        assert len(fake.asked) == 1


async def test_whoever_stops_reading_leaves_nothing_open():
    async with repository(lambda asked: Told(body=DATA)) as (_, nest):
        async with nest.blob(DIGEST, len(DATA)) as pieces:
            async for piece in pieces:
                assert piece
                break
        with anyio.move_on_after(0):
            await read(nest, DIGEST, len(DATA))
        assert await read(nest, DIGEST, len(DATA)) == DATA


async def test_mirrors_are_asked_first_without_secrets_and_are_followed_by_the_next():
    bird = Credentials("bird", "secret")
    nowhere = "http://127.0.0.1:1/"
    async with (
        serving(lambda asked: Told(404)) as empty,
        serving(lambda asked: part(asked, DATA)) as full,
        client(mirrors=(nowhere, f"http://{empty.address}/", f"http://{full.address}/")) as ours,
    ):
        nest = ours.repository(references.parse("busybox"), bird)
        assert await read(nest, DIGEST, len(DATA)) == DATA
        assert empty.asked[0].target == f"/v2/library/busybox/blobs/{DIGEST}"
        assert all("authorization" not in one.headers for one in (*empty.asked, *full.asked))
