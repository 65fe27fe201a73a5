"""Who asks, shown to one registry: Basic, or Bearer tokens of the token server that it names.

    request ──▶ 401 with a challenge ──▶ token server: "may I …?" ──▶ the request with the token

Tokens are kept for each scope until they end. Protocol: the distribution project's documents
auth/token (GET) and auth/oauth (POST, with a refresh token).
"""

from __future__ import annotations

import base64
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit, urlunsplit

import anyio
import msgspec

from supervisor.registries import challenges
from supervisor.registries.challenges import Challenge
from supervisor.registries.connections import Answer
from supervisor.registries.credentials import Credentials
from supervisor.registries.errors import RegistryError, RegistryFault, Unauthorized
from supervisor.registries.refusals import parse as parse_refusal

CLIENT_ID = "mdocker"
SHORTEST_LIFE_S = 60.0
"""What a token is good for if its server does not say, or says less (the specification's)."""
MARGIN_S = 10.0
"""A token is asked for anew so long before its end: it has to arrive, too."""

Scopes = tuple[str, ...]

Ask = Callable[..., Awaitable[tuple[Answer, bytes]]]
"""Asks a token server: method, URL, headers, form; returns the answer and its body."""


class _Token(NamedTuple):
    text: str
    refresh: str
    good_until: float


class Authenticator:
    """Shows the credentials of one client to one registry.

    Args:
        ask: How a token server is asked.
        credentials: None for who has none.
        secure: The registry's own certificate was checked: secrets leave by https alone.
    """

    def __init__(self, ask: Ask, credentials: Credentials | None, *, secure: bool) -> None:
        self._ask = ask
        self._credentials = credentials or Credentials()
        self._secure = secure
        self._challenge: Challenge | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._asking = anyio.Lock()

    async def header(self, scopes: Scopes) -> str | None:
        """Return what a request's Authorization should be; None where nothing is known yet.

        Args:
            scopes: What the request needs, such as `repository:bird/nest:pull`.

        Raises:
            RegistryError: There is no token to be had.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            return self._basic()
        return f"Bearer {(await self._token(scopes)).text}"

    async def after_refusal(
        self, answer: Answer, scopes: Scopes, shown: str | None
    ) -> tuple[str | None, Scopes]:
        """Return what to show in place of what was answered with 401, and the scopes to name.

        Args:
            shown: The Authorization that was refused.

        Returns:
            None where there is nothing better than what was shown.

        Raises:
            Unauthorized: The registry wants to know who asks, and nobody has said.
            RegistryError: There is no token to be had.
        """
        chosen = challenges.choose(challenges.parse(answer.every("www-authenticate")))
        if chosen is None or self._credentials.registry_token:
            return None, scopes
        self._challenge = chosen
        if chosen.scheme == "basic":
            if not self._credentials.username:
                where = f'{answer.method.capitalize()} "{answer.url}"'
                raise Unauthorized(
                    f"{where}: no basic auth credentials; 'docker login' or 'mdocker login' to "
                    f"{answer.origin.authority} first"
                )
            word = self._basic()
            return (word if word != shown else None), scopes
        scopes = merged((*scopes, *chosen.scopes))
        old = self._tokens.get(scopes)
        if old is not None and shown == f"Bearer {old.text}":
            del self._tokens[scopes]  # it has ended, or was taken back
        return f"Bearer {(await self._token(scopes)).text}", scopes

    async def refresh_token(self) -> str:
        """Return a token that stands for name and password from now on, "" if there is none.

        Raises:
            RegistryError: There is no token to be had.
        """
        if self._challenge is None or self._challenge.scheme != "bearer":
            return ""
        return (await self._fetch(self._challenge, (), offline=True)).refresh

    def _basic(self) -> str:
        pair = f"{self._credentials.username}:{self._credentials.password}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"

    async def _token(self, scopes: Scopes) -> _Token:
        async with self._asking:
            found = self._tokens.get(scopes)
            if found is None or found.good_until < time.monotonic():
                assert self._challenge is not None
                found = self._tokens[scopes] = await self._fetch(self._challenge, scopes)
            return found

    async def _fetch(
        self, challenge: Challenge, scopes: Iterable[str], *, offline: bool = False
    ) -> _Token:
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RegistryFault(f"the registry names a token server that is none: {realm[:200]!r}")
        if self._secure and parts.scheme == "http" and self._credentials:
            raise RegistryFault(
                f"the registry's token server {realm[:200]} is not asked: it speaks plain http, "
                "and would be shown your password"
            )
        service = challenge.parameters.get("service", "")
        asked = time.monotonic()
        if self._credentials.identity_token:
            answer, body = await self._exchange(realm, service, scopes)
        else:
            answer, body = await self._get(realm, service, scopes, offline=offline)
        if answer.status != 200:
            raise _refused(answer, body)
        return _read(answer, body, asked)

    async def _get(
        self, realm: str, service: str, scopes: Iterable[str], *, offline: bool
    ) -> tuple[Answer, bytes]:
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if self._credentials.username:
            query.append(("account", self._credentials.username))
            headers["Authorization"] = self._basic()
        if offline:
            query += [("offline_token", "true"), ("client_id", CLIENT_ID)]
        parts = urlsplit(realm)
        joined = "&".join(word for word in (parts.query, urlencode(query)) if word)
        return await self._ask("GET", urlunsplit(parts._replace(query=joined)), headers, None)

    async def _exchange(
        self, realm: str, service: str, scopes: Iterable[str]
    ) -> tuple[Answer, bytes]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._credentials.identity_token,
            "service": service,
            "scope": " ".join(scopes),
            "client_id": CLIENT_ID,
        }
        return await self._ask("POST", realm, {}, urlencode(form).encode())


def merged(scopes: Iterable[str]) -> Scopes:
    """Return each resource once, with all that is to be done with it.

    Registries name the actions in any order, and another one each time.
    """
    found: dict[str, set[str]] = {}
    for scope in scopes:
        # KIND:NAME:ACTIONS, where a name may have colons; anything else stays as it is.
        resource, _, actions = scope.rpartition(":") if scope.count(":") > 1 else (scope, "", "")
        found.setdefault(resource, set()).update(actions.split(",") if actions else ())
    return tuple(
        f"{resource}:{','.join(sorted(actions))}" if actions else resource
        for resource, actions in found.items()
    )


def _refused(answer: Answer, body: bytes) -> RegistryError:
    said = parse_refusal(body)
    where = f'{answer.method.capitalize()} "{answer.url}"'
    if answer.status in (400, 401, 403):
        # OAuth2 servers answer a bad refresh token with 400 (RFC 6749, 5.2).
        words = said.words if said.code else f"unauthorized: {said.message or 'access denied'}"
        return Unauthorized(f"{where}: {words}")
    error = RegistryFault(
        f"{where}: the token server answers {answer.status} {said.words}".rstrip()
    )
    error.temporary = answer.status >= 500 or answer.status == 429
    return error


def _read(answer: Answer, body: bytes, asked: float) -> _Token:
    """Read a token, and until when it is good. Raises RegistryFault where there is none."""
    try:
        found: Any = msgspec.json.decode(body)
        text = found.get("token") or found.get("access_token")
        refresh = found.get("refresh_token") or ""
        life = float(found.get("expires_in") or 0)
    except (ValueError, TypeError, AttributeError, RecursionError):
        text, refresh, life = None, "", 0.0
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        raise RegistryFault(f"the token server {answer.url} answers without a token")
    good_until = asked + max(life, SHORTEST_LIFE_S) - MARGIN_S
    return _Token(text, refresh if isinstance(refresh, str) else "", good_until)
