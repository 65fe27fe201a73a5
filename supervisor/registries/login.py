"""`docker login`: does a registry accept these credentials?"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from supervisor.errors import BadParameter
from supervisor.registries.backoff import retry_after
from supervisor.registries.client import Registries
from supervisor.registries.credentials import Credentials
from supervisor.registries.endpoints import HUB
from supervisor.registries.errors import LoginRefused, RegistryFault, TooManyRequests, Unauthorized
from supervisor.registries.exchange import Question


async def log_in(registries: Registries, credentials: Credentials) -> str:
    """Try credentials with the registry that they are for; Docker Hub if they name none.

    Returns:
        A token that stands for them from now on, "" where the registry has none to give.

    Raises:
        BadParameter: What they name is no registry.
        LoginRefused: The registry does not accept them.
        RegistryError: It can't be asked.
    """
    exchange = await registries.exchange(_host(credentials.server_address), credentials)
    try:
        async with exchange.ask(Question("GET", "/v2/", ())) as answer:
            status, url = answer.status, answer.url
            patience = retry_after(answer.headers.get("retry-after", ""))
        if status == 200:
            endpoint = await exchange.endpoint()
            token = await exchange.authenticator(endpoint).refresh_token()
    except Unauthorized as error:
        raise LoginRefused(str(error)) from error
    if status == 200:
        # Who comes with a token has one already.
        return credentials.identity_token or token
    words = f"login attempt to {url} failed with status: {status} {_phrase(status)}".rstrip()
    if status in (401, 403):
        raise LoginRefused(words)
    if status == 429:
        raise TooManyRequests(f"toomanyrequests: {words}", patience)
    raise RegistryFault(words)


def _host(address: str) -> str:
    """The registry's host in what a person or a client wrote for it."""
    text = address.strip()
    if not text:
        return HUB
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        host = parts.hostname
        parts.port  # noqa: B018  it is checked when it is looked at
    except ValueError:
        host = None
    if not host or any(sign.isspace() or not sign.isprintable() for sign in parts.netloc):
        raise BadParameter(f"unable to parse server address: {text[:200]!r} is no host")
    if parts.username is not None:
        raise BadParameter("unable to parse server address: it has a user's name in it")
    return parts.netloc


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
