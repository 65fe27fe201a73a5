"""Who asks is told to who asks back, and to nobody else."""

import base64
import dataclasses
import json
from urllib.parse import parse_qs

import pytest

from supervisor.registries import authentication
from supervisor.registries.authentication import Authenticator
from supervisor.registries.credentials import Credentials
from supervisor.registries.errors import (
    Denied,
    LoginRefused,
    PullDenied,
    RegistryError,
    RegistryFault,
    Unauthorized,
)
from supervisor.registries.login import log_in
from tests.unit.registries.fake_registry import Told, client, refused, repository, serving
from tests.unit.registries.manifest_texts import IMAGE, text

pytestmark = pytest.mark.anyio

BIRD = Credentials("bird", "nest of: twigs")
BASIC = f"Basic {base64.b64encode(b'bird:nest of: twigs').decode()}"
MANIFEST = Told(headers={"Content-Type": "application/json"}, body=text(IMAGE))


class TokenRegistry:
    """A registry and its token server, at one address."""

    def __init__(self):
        self.life = 300
        self.good = set()
        self.granted = 0
        self.refuses = None
        self.names = "repository:bird/nest:pull"
        self.more = ""

    def __call__(self, asked):
        if asked.path == "/token":
            return self.token(asked)
        shown = asked.headers.get("authorization", "")
        if shown.removeprefix("Bearer ") in self.good:
            return MANIFEST if asked.method == "GET" else Told(201)
        return self.challenge(asked)

    def challenge(self, asked):
        realm = f"http://{asked.headers['host']}/token"
        scope = f',scope="{self.names}"' if self.names else ""
        return Told(
            401,
            {"WWW-Authenticate": f'Bearer realm="{realm}",service="the nest"{scope}{self.more}'},
        )

    def token(self, asked):
        if self.refuses is not None:
            return self.refuses
        self.granted += 1
        token = f"token-{self.granted}"
        self.good.add(token)
        told = {"token": token, "expires_in": self.life}
        if "offline_token" in asked.query:
            told["refresh_token"] = "for later"
        return Told(body=json.dumps(told).encode())


async def test_a_token_is_asked_for_with_what_the_challenge_names_and_kept():
    registry = TokenRegistry()
    registry.names = "repository:bird/nest:pull repository:bird/egg:pull"
    async with repository(registry, credentials=BIRD) as (fake, nest):
        await nest.manifest("1")
        await nest.manifest("2")
        token = next(one for one in fake.asked if one.path == "/token")
        assert parse_qs(token.target.partition("?")[2]) == {
            "service": ["the nest"],
            "scope": ["repository:bird/nest:pull", "repository:bird/egg:pull"],
            "account": ["bird"],
        }
        assert token.headers["authorization"] == BASIC
        kinds = [one.path for one in fake.asked]
        assert kinds.count("/v2/bird/nest/manifests/2") <= 2
        assert fake.asked[-1].headers["authorization"].startswith("Bearer token-")
        granted = registry.granted
        await nest.manifest("3")
        await nest.manifest("4")
        assert registry.granted == max(granted, 2)


async def test_without_credentials_a_token_is_asked_for_all_the_same():
    registry = TokenRegistry()
    async with repository(registry) as (fake, nest):
        await nest.manifest("1")
        token = next(one for one in fake.asked if one.path == "/token")
        assert "authorization" not in token.headers
        assert "account" not in token.query


async def test_writing_is_asked_for_where_it_is_needed():
    registry = TokenRegistry()
    registry.names = ""
    async with repository(registry, push=True) as (fake, nest):
        await nest.put_manifest("1", "x", b"{}")
        token = next(one for one in fake.asked if one.path == "/token")
        assert token.query["scope"] == "repository:bird/nest:pull,push"


async def test_actions_in_another_order_are_the_same():
    """Found with Debian's registry, which names them in the order of a Go map."""
    registry = TokenRegistry()
    registry.names = "repository:bird/nest:push,pull"
    async with repository(registry, push=True) as (_, nest):
        await nest.put_manifest("1", "x", b"{}")
        await nest.put_manifest("2", "x", b"{}")
        assert registry.granted == 1


@pytest.mark.parametrize(
    ("scopes", "found"),
    [
        (["a:b:pull", "a:b:push,pull", "c:d:e"], ("a:b:pull,push", "c:d:e")),
        (["registry:catalog:*"], ("registry:catalog:*",)),
        (["repository:nest:5000/x:pull"], ("repository:nest:5000/x:pull",)),
        (["a:b:pull", "a:b:pull"], ("a:b:pull",)),
        (["openid", "a:b"], ("openid", "a:b")),
        ([], ()),
    ],
)
def test_scopes_are_merged(scopes, found):
    assert authentication.merged(scopes) == found


async def test_a_token_that_has_ended_is_followed_by_another():
    registry = TokenRegistry()
    async with repository(registry) as (_, nest):
        await nest.manifest("1")
        registry.good.clear()
        await nest.manifest("2")
        assert registry.granted == 2


async def test_a_token_is_not_used_to_its_very_end(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(authentication.time, "monotonic", lambda: now)
    registry = TokenRegistry()
    async with repository(registry) as (_, nest):
        await nest.manifest("1")
        now += registry.life - 11
        await nest.manifest("2")
        assert registry.granted == 1
        now += 2
        await nest.manifest("3")
        assert registry.granted == 2


async def test_an_identity_token_is_exchanged_by_a_form():
    registry = TokenRegistry()
    async with repository(registry, credentials=Credentials(identity_token="for later")) as (
        fake,
        nest,
    ):
        await nest.manifest("1")
        token = next(one for one in fake.asked if one.path == "/token")
        assert token.method == "POST"
        assert parse_qs(token.body.decode()) == {
            "grant_type": ["refresh_token"],
            "refresh_token": ["for later"],
            "service": ["the nest"],
            "scope": ["repository:bird/nest:pull"],
            "client_id": ["mdocker"],
        }


async def test_a_registry_token_is_sent_as_it_is():
    registry = TokenRegistry()
    registry.good.add("given")
    async with repository(registry, credentials=Credentials(registry_token="given")) as (
        fake,
        nest,
    ):
        await nest.manifest("1")
        assert registry.granted == 0
        assert fake.asked[0].headers["authorization"] == "Bearer given"
    async with repository(registry, credentials=Credentials(registry_token="old")) as (_, nest):
        with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
            await nest.manifest("1")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (
            Told(401, body=b'{"details":"incorrect username or password"}'),
            "unauthorized: incorrect",
        ),
        (refused(401, "UNAUTHORIZED", "who are you"), "unauthorized: who are you"),
        (Told(403), "unauthorized: access denied"),
    ],
)
async def test_the_token_server_refuses(told, words):
    registry = TokenRegistry()
    registry.refuses = told
    async with repository(registry, credentials=BIRD) as (fake, nest):
        with pytest.raises(Unauthorized, match=words) as refusal:
            await nest.manifest("1")
        assert "/token" in str(refusal.value)
        assert "scope" not in str(refusal.value)
        assert len(fake.asked) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"token": 7}', b'{"token": "a\\nb"}', b'{"token":"x","expires_in":"y"}'],
)
async def test_a_token_server_without_a_token(body):
    registry = TokenRegistry()
    registry.refuses = Told(body=body)
    async with repository(registry) as (_, nest):
        with pytest.raises(RegistryFault, match="answers without a token"):
            await nest.manifest("1")


async def test_a_scope_that_is_not_granted_is_a_denial():
    registry = TokenRegistry()
    registry.more = ',error="insufficient_scope"'
    registry.refuses = Told(body=b'{"token": "for nothing"}')
    async with repository(registry) as (fake, nest):
        with pytest.raises(PullDenied, match=r"pull access denied for .*/bird/nest, repo"):
            await nest.manifest("1")
        assert len(fake.asked) == 3
    async with repository(registry, push=True) as (_, nest):
        with pytest.raises(Denied, match=r"^denied: requested access to the resource is denied$"):
            await nest.put_manifest("1", "x", b"{}")


async def test_basic():
    def answer(asked):
        if asked.headers.get("authorization") == BASIC:
            return MANIFEST
        return Told(401, {"WWW-Authenticate": 'Basic realm="nest"'})

    async with repository(answer, credentials=BIRD) as (fake, nest):
        await nest.manifest("1")
        await nest.manifest("2")
        assert len(fake.asked) == 3
    async with repository(answer) as (fake, nest):
        with pytest.raises(Unauthorized, match="no basic auth credentials; 'docker login'"):
            await nest.manifest("1")
    async with repository(answer, credentials=Credentials("bird", "wrong")) as (fake, nest):
        with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
            await nest.manifest("1")
        assert len(fake.asked) == 2


async def test_a_password_is_not_shown_to_a_token_server_without_tls():
    asked = []

    async def ask(*words):
        asked.append(words)

    class Challenge:
        method, url, status = "GET", "https://nest/v2/", 401

        def every(self, name):
            return ['Bearer realm="http://nest/token"']

    with pytest.raises(RegistryFault, match="speaks plain http"):
        await Authenticator(ask, BIRD, secure=True).after_refusal(Challenge(), (), None)
    assert asked == []


async def login(registry, credentials):
    """Log in at a registry of its own; what is refused comes out as it is, in no group."""
    refusal = None
    async with serving(registry) as fake, client() as registries:
        there = dataclasses.replace(credentials, server_address=f"http://{fake.address}/v2/")
        try:
            return await log_in(registries, there)
        except RegistryError as error:
            refusal = error
    raise refusal


async def test_a_login_with_tokens_returns_one_for_later():
    registry = TokenRegistry()
    registry.names = ""
    assert await login(registry, BIRD) == "for later"
    registry.refuses = Told(401, body=b'{"details":"incorrect username or password"}')
    with pytest.raises(LoginRefused, match="unauthorized: incorrect username or password"):
        await login(registry, BIRD)


async def test_a_login_with_basic():
    def answer(asked):
        if asked.headers.get("authorization") == BASIC:
            return Told()
        return Told(401, {"WWW-Authenticate": 'Basic realm="nest"'})

    assert await login(answer, BIRD) == ""
    with pytest.raises(
        LoginRefused, match=r"login attempt to http://.*/v2/ failed with status: 401"
    ):
        await login(answer, Credentials("bird", "wrong"))
    with pytest.raises(LoginRefused, match="no basic auth credentials"):
        await login(answer, Credentials())
    assert await login(lambda asked: Told(), BIRD) == ""
    with pytest.raises(RegistryFault, match="failed with status: 500"):
        await login(lambda asked: Told(500), BIRD)


async def test_only_the_registry_itself_names_the_token_server():
    """Found: where a registry redirects to could have name and password sent where it likes."""

    def elsewhere(asked):
        if asked.path == "/token":
            return Told(body=b'{"token": "caught"}')
        realm = f"http://{asked.headers['host']}/token"
        return Told(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})

    async with serving(elsewhere) as thief:
        there = Told(307, {"Location": f"http://{thief.address}/blob"})
        async with repository(lambda asked: there, credentials=BIRD) as (_, nest):
            with pytest.raises(Unauthorized):
                await nest.manifest("1")
        assert [one.path for one in thief.asked] == ["/blob"]
        assert "authorization" not in thief.asked[0].headers
