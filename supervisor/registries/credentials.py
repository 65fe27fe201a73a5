"""Who asks: the content of the header X-Registry-Auth, as clients send it."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json

from supervisor.errors import BadParameter

LONGEST_HEADER = 256 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials for one registry. Its repr shows no secret.

    Attributes:
        username: With `password`, for Basic authentication and for tokens.
        identity_token: An OAuth2 refresh token, in place of a password.
        registry_token: A Bearer token to send as it is.
        server_address: The registry they are meant for, as the client says.
    """

    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    identity_token: str = dataclasses.field(default="", repr=False)
    registry_token: str = dataclasses.field(default="", repr=False)
    server_address: str = ""

    def __bool__(self) -> bool:
        """Whether there is anything to show to a registry."""
        return bool(self.username or self.identity_token or self.registry_token)


def from_header(value: str) -> Credentials | None:
    """Read X-Registry-Auth: base64url (padded or not) of a JSON object.

    Returns:
        None where there are none: no header, an empty one, or an object without any.

    Raises:
        BadParameter: It is something else. The text repeats nothing of it.
    """
    if not value:
        return None
    if len(value) > LONGEST_HEADER:
        raise _malformed("it is too long")
    try:
        standard = value.strip().replace("+", "-").replace("/", "_").rstrip("=")
        padded = standard + "=" * (-len(standard) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _malformed("it is no base64url of a JSON object") from None
    return from_object(found) or None


def from_object(found: object) -> Credentials:
    """Read credentials as the API's AuthConfig has them; null has none.

    Raises:
        BadParameter: It is no such object.
    """
    if found is None:
        return Credentials()
    if not isinstance(found, dict):
        raise _malformed("it is no JSON object")
    fields = {name.lower(): value for name, value in found.items()}
    texts = {}
    for name in ("username", "password", "auth", "identitytoken", "registrytoken", "serveraddress"):
        value = fields.get(name)
        if not isinstance(value, str | None):
            raise _malformed(f"its {name} is no text")
        texts[name] = value or ""
    if not (texts["registrytoken"].isascii() and texts["registrytoken"].isprintable()):
        raise _malformed("its registrytoken is no token")
    username, password = texts["username"], texts["password"]
    if texts["auth"] and not username:
        username, password = _split(texts["auth"])
    return Credentials(
        username, password, texts["identitytoken"], texts["registrytoken"], texts["serveraddress"]
    )


def _split(auth: str) -> tuple[str, str]:
    """Name and password of the old field `auth`: base64 of `name:password`."""
    try:
        name, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _malformed("its auth is no base64 of name:password") from None
    if not colon:
        raise _malformed("its auth is no base64 of name:password")
    return name, password.rstrip("\0")


def _malformed(why: str) -> BadParameter:
    return BadParameter(f"invalid X-Registry-Auth header: {why}")
