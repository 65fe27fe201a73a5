"""What a registry's refusal means: its status and its `errors` become one of our errors.

The codes are those of the OCI distribution specification, "Error Codes". Which of several texts a
client is told follows dockerd, whose words tools look for.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from supervisor.registries import challenges
from supervisor.registries.backoff import retry_after
from supervisor.registries.connections import Answer
from supervisor.registries.errors import (
    BlobUnknown,
    Denied,
    ManifestUnknown,
    NotThere,
    PullDenied,
    RegistryError,
    RegistryFault,
    RepositoryUnknown,
    TooManyRequests,
    Unauthorized,
    UploadUnknown,
)

LONGEST_BODY = 64 * 1024
LONGEST_WORDS = 1000

_MEANT = {
    "insufficient_scope": ("DENIED", "requested access to the resource is denied"),
    "invalid_token": ("UNAUTHORIZED", "authentication required"),
}
"""The error of a Bearer challenge (RFC 6750, 3.1), and what registries call it."""


class Refusal(NamedTuple):
    """The first thing that a registry says against a request.

    Attributes:
        code: Such as MANIFEST_UNKNOWN; "" where it has none.
        message: Its words.
    """

    code: str
    message: str

    @property
    def words(self) -> str:
        """Both, as Docker shows them: `manifest unknown: manifest unknown`."""
        name = self.code.lower().replace("_", " ") if self.code != "TOOMANYREQUESTS" else ""
        name = name or self.code.lower()
        return f"{name}: {self.message}" if name and self.message else name or self.message


class Subject(NamedTuple):
    """What was asked for, as errors name it.

    Attributes:
        name: The repository, as people write it.
        reference: `name:tag` or `name@digest`, "" where it is about no manifest.
        pull: To read, not to write.
    """

    name: str
    reference: str = ""
    pull: bool = True


async def refusal(answer: Answer, subject: Subject) -> RegistryError:
    """Read why a request was refused; returns the error to raise."""
    said = await _read(answer)
    where = f'{answer.method.capitalize()} "{answer.url}"'
    status, code = answer.status, said.code
    if status == 429 or code == "TOOMANYREQUESTS":
        words = said.message or "the registry's limit of requests is reached: try again later"
        return TooManyRequests(
            f"toomanyrequests: {words}", retry_after(answer.headers.get("retry-after", ""))
        )
    if code == "DENIED" or (status == 403 and not code):
        words = said.words or "denied: requested access to the resource is denied"
        return PullDenied(subject.name, words) if subject.pull else Denied(words)
    if code == "UNAUTHORIZED" or status == 401:
        return Unauthorized(f"{where}: {said.words or 'unauthorized: authentication required'}")
    if status >= 500:
        error = RegistryFault(f"{where}: {_unexpected(answer, said)}")
        error.temporary = True
        error.retry_after = retry_after(answer.headers.get("retry-after", ""))
        return error
    if code == "MANIFEST_UNKNOWN" or (status == 404 and subject.reference and not code):
        words = said.words if code else "manifest unknown: manifest unknown"
        return ManifestUnknown(subject.reference or subject.name, words)
    if code == "NAME_UNKNOWN":
        return RepositoryUnknown(subject.name, said.words)
    if code == "BLOB_UNKNOWN":
        return BlobUnknown(f"{where}: {said.words}")
    if code == "BLOB_UPLOAD_UNKNOWN":
        return UploadUnknown(f"{where}: {said.words}")
    if status == 404:
        return NotThere(f"{where}: {_unexpected(answer, said)}")
    return RegistryFault(f"{where}: {_unexpected(answer, said)}")


def _unexpected(answer: Answer, said: Refusal) -> str:
    words = said.words
    return f"{words} ({answer.status})" if words else f"the registry answers {answer.status}"


async def _read(answer: Answer) -> Refusal:
    for challenge in challenges.parse(answer.every("www-authenticate")):
        meant = _MEANT.get(challenge.parameters.get("error", ""))
        if answer.status == 401 and challenge.scheme == "bearer" and meant is not None:
            described = challenge.parameters.get("error_description", "")
            return Refusal(meant[0], described[:LONGEST_WORDS] or meant[1])
    if answer.method == "HEAD":
        return Refusal("", "")
    try:
        return parse(await answer.body(LONGEST_BODY))
    except RegistryError:
        return Refusal("", "")


def parse(body: bytes) -> Refusal:
    """Read a refusal's body; what is not understood says nothing."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Refusal("", "")
    if not isinstance(found, dict):
        return Refusal("", "")
    listed = found.get("errors")
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        code, message = listed[0].get("code"), listed[0].get("message")
        return Refusal(_text(code).upper(), _text(message))
    # Token servers and proxies have words of their own for it.
    for name in ("details", "message", "error_description", "error"):
        if text := _text(found.get(name)):
            return Refusal("", text)
    return Refusal("", "")


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(sign if sign.isprintable() else " " for sign in value[:LONGEST_WORDS])
