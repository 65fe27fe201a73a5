"""Blobs on their way into a registry: streamed, held to their word, given up without a trace."""

import anyio
import pytest

from supervisor.registries.errors import (
    Denied,
    RegistryFault,
    RegistryUnreachable,
    UploadUnknown,
    WrongContent,
)
from tests.unit.registries.fake_registry import Told, digest, refused, repository

pytestmark = pytest.mark.anyio

PIECES = [b"a" * 70_000, b"", b"b" * 10]
DATA = b"".join(PIECES)
DIGEST = digest(DATA)


async def pieces(*more):
    for piece in (*PIECES, *more):
        yield piece


class Uploading:
    """A registry that takes uploads."""

    def __init__(self, where="/v2/bird/nest/blobs/uploads/u?state=1"):
        self.where = where
        self.got = b""
        self.kept = {}
        self.refuses = {}

    def __call__(self, asked):
        if asked.method in self.refuses:
            return self.refuses[asked.method]
        if asked.method == "POST":
            return Told(202, {"Location": self.where.replace("HOST", asked.headers["host"])})
        if asked.method in ("PATCH", "PUT"):
            self.got += asked.body
        if asked.method == "PATCH":
            return Told(202, {"Location": "/v2/bird/nest/blobs/uploads/u?state=2"})
        if asked.method == "PUT":
            if digest(self.got) != asked.query["digest"]:
                return refused(400, "DIGEST_INVALID", "provided digest did not match")
            self.kept[asked.query["digest"]] = self.got
            return Told(201)
        return Told(204)


async def test_known_size_and_digest_go_in_one_request():
    registry = Uploading()
    async with repository(registry, push=True) as (fake, nest):
        assert await nest.upload_blob(pieces(), len(DATA), DIGEST) == (DIGEST, len(DATA))
        assert [one.method for one in fake.asked] == ["POST", "PUT"]
        put = fake.asked[-1]
        assert put.query == {"state": "1", "digest": DIGEST}
        assert put.headers["content-length"] == str(len(DATA))
        assert put.headers["content-type"] == "application/octet-stream"
        assert registry.kept == {DIGEST: DATA}


@pytest.mark.parametrize("size", [None, len(DATA)])
async def test_a_digest_that_is_not_known_yet_is_told_at_the_end(size):
    registry = Uploading("http://HOST/v2/bird/nest/blobs/uploads/u")
    async with repository(registry, push=True) as (fake, nest):
        assert await nest.upload_blob(pieces(), size, None) == (DIGEST, len(DATA))
        assert [one.method for one in fake.asked] == ["POST", "PATCH", "PUT"]
        assert ("content-length" in fake.asked[1].headers) is (size is not None)
        assert fake.asked[2].query == {"state": "2", "digest": DIGEST}
        assert registry.kept == {DIGEST: DATA}


@pytest.mark.parametrize(
    ("size", "wanted", "words"),
    [
        (len(DATA) + 1, DIGEST, f"has {len(DATA)} bytes, and {len(DATA) + 1} were announced"),
        (len(DATA) - 1, DIGEST, f"more than the {len(DATA) - 1} bytes"),
        (len(DATA), "sha256:" + "0" * 64, f"has the digest {DIGEST}"),
        (5, None, "more than the 5 bytes"),
        (len(DATA) + 1, None, "were announced"),
        (None, "sha256:" + "0" * 64, f"has the digest {DIGEST}"),
    ],
)
async def test_what_is_not_what_was_announced_is_given_up(size, wanted, words):
    registry = Uploading()
    async with repository(registry, push=True) as (fake, nest):
        with pytest.raises(WrongContent, match=words):
            await nest.upload_blob(pieces(), size, wanted)
        assert fake.asked[-1].method == "DELETE"
        assert registry.kept == {}


async def test_trouble_at_the_source_stays_what_it_is_and_gives_up():
    async def broken():
        yield DATA
        raise OSError("the disk is gone")

    async with repository(Uploading(), push=True) as (fake, nest):
        with pytest.raises(OSError, match="the disk is gone"):
            await nest.upload_blob(broken(), None, None)
        assert fake.asked[-1].method == "DELETE"


async def test_cancelled_it_is_given_up():
    async def endless(scope):
        yield DATA
        scope.cancel()
        await anyio.sleep_forever()

    async with repository(Uploading(), push=True) as (fake, nest):
        with anyio.CancelScope() as scope:
            await nest.upload_blob(endless(scope), None, None)
        assert scope.cancelled_caught
        assert fake.asked[-1].method == "DELETE"


@pytest.mark.parametrize(
    ("method", "told", "kind", "temporary"),
    [
        ("POST", Told(403), Denied, False),
        ("POST", Told(202), RegistryFault, False),
        ("PUT", Told(500), RegistryFault, True),
        ("PUT", Told(400), RegistryFault, False),
        ("PUT", Told(201, {"Docker-Content-Digest": "sha256:x"}), RegistryFault, False),
        ("PUT", refused(404, "BLOB_UPLOAD_UNKNOWN", "gone"), UploadUnknown, True),
        ("PUT", Told(201, body=b"xx", length=5), RegistryUnreachable, True),
    ],
)
async def test_a_registry_that_does_not_want_it(method, told, kind, temporary):
    registry = Uploading()
    registry.refuses[method] = told
    if told.length == 5:
        registry.refuses[method] = Told(500, body=b"xx", length=5)
        kind = RegistryFault
    async with repository(registry, push=True) as (_, nest):
        with pytest.raises(kind) as refusal:
            await nest.upload_blob(pieces(), len(DATA), DIGEST)
        assert refusal.value.temporary is temporary


async def test_a_blob_of_another_repository_is_mounted():
    async with repository(lambda asked: Told(201), push=True) as (fake, nest):
        assert await nest.mount_blob(DIGEST, "bird/egg")
        assert fake.asked[0].query == {"mount": DIGEST, "from": "bird/egg"}
        assert fake.asked[0].path == "/v2/bird/nest/blobs/uploads/"


async def test_a_registry_that_does_not_mount_has_its_upload_given_up():
    async with repository(Uploading(), push=True) as (fake, nest):
        assert not await nest.mount_blob(DIGEST, "bird/egg")
        assert [one.method for one in fake.asked] == ["POST", "DELETE"]
    async with repository(lambda asked: Told(403), push=True) as (_, nest):
        assert not await nest.mount_blob(DIGEST, "not/ours")


async def test_whether_a_blob_is_there():
    answers = [Told(200), Told(404), Told(503), Told(200)]
    async with repository(lambda asked: answers.pop(0), push=True) as (fake, nest):
        assert await nest.has_blob(DIGEST)
        assert not await nest.has_blob(DIGEST)
        assert await nest.has_blob(DIGEST)
        assert fake.paths()[0] == ("HEAD", f"/v2/bird/nest/blobs/{DIGEST}")
    async with repository(lambda asked: Told(403), push=True) as (_, nest):
        with pytest.raises(Denied):
            await nest.has_blob(DIGEST)
