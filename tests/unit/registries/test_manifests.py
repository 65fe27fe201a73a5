"""Manifests over a socket: what is asked and believed, and what refusals become."""

import json

import pytest

from runtime.images import references
from supervisor.registries import manifests
from supervisor.registries.connections import Patience
from supervisor.registries.errors import (
    Denied,
    ManifestUnknown,
    NotThere,
    PullDenied,
    Refused,
    RegistryFault,
    RegistryUnreachable,
    RepositoryUnknown,
    TooManyRequests,
    Unauthorized,
    UnsupportedManifest,
    WrongContent,
)
from tests.unit.registries.fake_registry import Told, client, digest, refused, repository, serving
from tests.unit.registries.manifest_texts import IMAGE, INDEX, text

pytestmark = pytest.mark.anyio


def manifest(data, kind=manifests.OCI_MANIFEST, **headers):
    return Told(headers={"Content-Type": kind, **headers}, body=data)


async def test_by_tag_and_by_digest():
    data = text(IMAGE)
    async with repository(lambda asked: manifest(data)) as (fake, nest):
        found = await nest.manifest("1.0")
        assert (found.media_type, found.digest, found.data, found.is_list) == (
            manifests.OCI_MANIFEST,
            digest(data),
            data,
            False,
        )
        assert await nest.manifest(digest(data)) == found
        assert fake.paths() == [
            ("GET", "/v2/bird/nest/manifests/1.0"),
            ("GET", f"/v2/bird/nest/manifests/{digest(data)}"),
        ]
        for kind in manifests.KNOWN:
            assert kind in fake.asked[0].headers["accept"]


async def test_a_list_stays_a_list():
    async with repository(lambda asked: manifest(text(INDEX), manifests.DOCKER_LIST)) as (_, nest):
        assert (await nest.manifest("latest")).is_list


async def test_what_is_not_what_its_digest_says_is_refused():
    wrong = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    async with repository(lambda asked: manifest(text(IMAGE), **wrong)) as (fake, nest):
        with pytest.raises(WrongContent, match="manifest verification failed for digest"):
            await nest.manifest("latest")
        with pytest.raises(WrongContent):
            await nest.manifest("sha256:" + "0" * 64)
        assert len(fake.asked) == 2


async def test_one_that_is_too_big_is_not_read():
    endless = Told(body=b" " * (5 * 1024 * 1024), length=None)
    async with repository(lambda asked: endless) as (_, nest):
        with pytest.raises(RegistryFault, match="more than the 4194304 bytes"):
            await nest.manifest("latest")


async def test_one_that_comes_by_drops_is_given_up():
    patience = Patience(5.0, 5.0, 0.05)
    told = Told(body=text(IMAGE), stall=10)
    async with repository(lambda asked: told, patience=patience) as (_, nest):
        with pytest.raises(RegistryUnreachable, match="10 bytes came in"):
            await nest.manifest("latest")


@pytest.mark.parametrize(
    ("told", "pull", "push"),
    [
        (
            refused(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            (ManifestUnknown, "manifest for {}/bird/nest:1 not found: manifest unknown: "),
            None,
        ),
        (Told(404), (ManifestUnknown, "manifest for {}/bird/nest:1 not found: "), None),
        (
            refused(404, "NAME_UNKNOWN", "repository name not known to registry"),
            (RepositoryUnknown, "repository {}/bird/nest not found: name unknown: repository"),
            None,
        ),
        (
            refused(403, "DENIED", "requested access to the resource is denied"),
            (
                PullDenied,
                "pull access denied for {}/bird/nest, repository does not exist or may require "
                "'docker login': denied: requested access to the resource is denied",
            ),
            (Denied, "denied: requested access to the resource is denied"),
        ),
        (
            Told(401, {"WWW-Authenticate": 'Bearer realm="x",error="insufficient_scope"'}),
            (RegistryFault, "names a token server that is none: 'x'"),
            None,
        ),
        (refused(401, "UNAUTHORIZED", "who are you"), (Unauthorized, "unauthorized: who"), None),
        (Told(401), (Unauthorized, "unauthorized: authentication required"), None),
        (refused(500, "UNKNOWN", "boom"), (RegistryFault, r"unknown: boom \(500\)"), None),
        (Told(503, body=b"<html>"), (RegistryFault, "the registry answers 503"), None),
        (Told(400), (RegistryFault, "the registry answers 400"), None),
        (Told(429), (TooManyRequests, "^toomanyrequests: the registry's limit"), None),
        (refused(429, "TOOMANYREQUESTS", "no"), (TooManyRequests, "^toomanyrequests: no$"), None),
    ],
)
async def test_refusals(told, pull, push):
    async with repository(lambda asked: told) as (fake, nest):
        kind, words = pull
        with pytest.raises(kind, match=words.replace("{}", fake.address)):
            await nest.manifest("1")
    if push is not None:
        async with repository(lambda asked: told, push=True) as (_, nest):
            with pytest.raises(push[0], match=push[1]):
                await nest.put_manifest("1", manifests.OCI_MANIFEST, b"{}")


async def test_a_failure_of_the_registry_is_tried_again_and_no_refusal_is():
    answers = [Told(503), Told(502), manifest(text(IMAGE))]
    async with repository(lambda asked: answers.pop(0)) as (fake, nest):
        await nest.manifest("1")
        assert len(fake.asked) == 3
    async with repository(lambda asked: Told(404)) as (fake, nest):
        with pytest.raises(NotThere):
            await nest.manifest("1")
        assert len(fake.asked) == 1


async def test_where_nobody_listens_is_said_at_once():
    async with client() as registries:
        nest = registries.repository(references.parse("127.0.0.1:1/nest"), None)
        with pytest.raises(Refused, match=r"dial tcp 127\.0\.0\.1:1: connect: connection ref"):
            await nest.manifest("1")


async def test_a_mirror_that_lies_is_followed_by_the_next():
    liar = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    async with (
        serving(lambda asked: manifest(text(IMAGE), **liar)) as lying,
        serving(lambda asked: manifest(text(IMAGE))) as honest,
        client(mirrors=(f"http://{lying.address}/", f"http://{honest.address}/")) as registries,
    ):
        bird = registries.repository(references.parse("bird"), None)
        assert (await bird.manifest("latest")).data == text(IMAGE)
        assert len(lying.asked) == 1


async def test_mirrors_are_asked_for_tags_too():
    async with (
        serving(lambda asked: Told(404)) as empty,
        serving(lambda asked: Told(body=b'{"tags": ["1", "2"]}')) as full,
        client(mirrors=(f"http://{empty.address}/", f"http://{full.address}/")) as registries,
    ):
        bird = registries.repository(references.parse("bird"), None)
        assert await bird.tags() == ["1", "2"]
        assert len(empty.asked) == 1


@pytest.mark.parametrize(
    ("kind", "document", "words"),
    [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", {}, "schema 1"),
        ("application/json", {"schemaVersion": 1}, "schema 1"),
        (manifests.OCI_INDEX, IMAGE | {"mediaType": manifests.OCI_MANIFEST}, "by its own word"),
        (manifests.OCI_MANIFEST, IMAGE | INDEX, "of one image and of several"),
        (manifests.OCI_INDEX, IMAGE | INDEX, "of one image and of several"),
        ("text/html", {}, "unsupported media type text/html"),
        (manifests.OCI_MANIFEST, [], "no JSON object"),
        (manifests.OCI_MANIFEST, {"mediaType": 7}, "no text"),
    ],
)
async def test_what_is_no_manifest_of_ours(kind, document, words):
    data = json.dumps(document).encode()
    async with repository(lambda asked: manifest(data, kind)) as (_, nest):
        with pytest.raises(UnsupportedManifest, match=words):
            await nest.manifest("latest")


async def test_a_type_that_says_nothing_is_read_from_what_came():
    async with repository(lambda asked: manifest(text(IMAGE), "text/plain")) as (_, nest):
        assert (await nest.manifest("1")).media_type == manifests.OCI_MANIFEST
    async with repository(lambda asked: manifest(text(INDEX), "text/plain")) as (_, nest):
        assert (await nest.manifest("1")).media_type == manifests.OCI_INDEX


async def test_one_is_put_under_a_tag():
    data = text(IMAGE)
    answer = Told(201, {"Docker-Content-Digest": digest(data)})
    async with repository(lambda asked: answer, push=True) as (fake, nest):
        assert await nest.put_manifest("1", manifests.OCI_MANIFEST, data) == digest(data)
        asked = fake.asked[0]
        assert (asked.method, asked.path) == ("PUT", "/v2/bird/nest/manifests/1")
        assert (asked.headers["content-type"], asked.body) == (manifests.OCI_MANIFEST, data)
    answer = Told(201, {"Docker-Content-Digest": "sha256:" + "0" * 64})
    async with repository(lambda asked: answer, push=True) as (_, nest):
        with pytest.raises(WrongContent):
            await nest.put_manifest("1", manifests.OCI_MANIFEST, data)


async def test_tags_come_page_by_page():
    pages = {
        "/v2/bird/nest/tags/list": (["1", "2"], '</v2/bird/nest/tags/list?last=2&n=2>; rel="next"'),
        "/v2/bird/nest/tags/list?last=2&n=2": (["3"], "<tags/list?last=3>; rel=next"),
        "/v2/bird/nest/tags/tags/list?last=3": (None, '<x>; rel="prev"'),
    }

    def answer(asked):
        names, link = pages[asked.target]
        return Told(headers={"Link": link}, body=json.dumps({"tags": names}).encode())

    async with repository(answer) as (_, nest):
        assert await nest.tags() == ["1", "2", "3"]


@pytest.mark.parametrize(
    "told",
    [
        Told(body=b"[]"),
        Told(body=b'{"tags": [1]}'),
        Told(body=b'{"tags": ["../../x"]}'),
        Told(body=b"{"),
        Told(headers={"Link": '<http://elsewhere/>; rel="next"'}, body=b'{"tags": []}'),
    ],
)
async def test_what_is_no_list_of_tags(told):
    async with repository(lambda asked: told) as (_, nest):
        with pytest.raises(RegistryFault):
            await nest.tags()
