"""Image names as people write them, normalised as Docker does. Pure.

    [domain[:port]/]path[:tag][@digest]

`busybox`, `library/busybox` and `docker.io/library/busybox:latest` are one image. The short
("familiar") form is what the store keeps and shows. Grammar and texts follow the public
specification of distribution references (https://github.com/distribution/reference).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from runtime.images.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
OFFICIAL_PREFIX = "library/"
LONGEST_NAME = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?", re.ASCII)
_SEGMENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(
    r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII
)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_IMAGE_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})", re.ASCII)

_INVALID = "invalid reference format"


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed name.

    Attributes:
        domain: Registry, `docker.io` if none was written.
        path: Repository within the registry, with `library/` for Docker's official images.
        tag: As written, empty if none was.
        digest: `sha256:…` as written, empty if none was.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar_name(self) -> str:
        """The repository as people see it: without `docker.io/` and `library/`."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        rest = self.path.removeprefix(OFFICIAL_PREFIX)
        if "/" not in rest:
            return rest
        # `docker.io/a.b/c` without its registry would mean one called `a.b`.
        return self.name if _looks_like_host(self.path.partition("/")[0]) else self.path

    @property
    def name(self) -> str:
        """The repository in full."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """The whole reference in its short form; no tag is added."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return self.familiar_name + tag + digest

    def tagged(self) -> str:
        """`name:tag` in its short form, with `latest` where neither tag nor digest was given.

        This is the key of the store's table of tags.
        """
        if self.digest:
            return self.familiar
        return f"{self.familiar_name}:{self.tag or DEFAULT_TAG}"


def parse(text: str) -> Reference:
    """Parses a name as Docker does.

    Raises:
        InvalidReference: With Docker's text.
    """
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReference(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    path, tag, digest = _split_suffixes(remainder)
    if path != path.lower() and _PATH.fullmatch(path.lower()):
        raise InvalidReference(f"{_INVALID}: repository name ({path}) must be lowercase")
    if not (_DOMAIN.fullmatch(domain) and _PATH.fullmatch(path)):
        raise InvalidReference(_INVALID)
    if tag is not None and not _TAG.fullmatch(tag):
        raise InvalidReference(_INVALID)
    if digest is not None:
        _check_digest(digest)
    if len(f"{domain}/{path}") > LONGEST_NAME:
        raise InvalidReference(f"repository name must not be more than {LONGEST_NAME} characters")
    return Reference(domain, path, tag or "", digest or "")


def with_tag(text: str, tag: str) -> str:
    """A name with a tag in place of the one it has, if any.

    Raises:
        InvalidReference: One of them can't be; Docker's texts.
    """
    reference = parse(text)
    if not _TAG.fullmatch(tag):
        raise InvalidReference("invalid tag format")
    return replace(reference, tag=tag).familiar


def id_prefix(text: str) -> str | None:
    """The hex digits if the text may be an image id or the beginning of one, else None."""
    match = _ID_PREFIX.fullmatch(text)
    return match.group(1) if match else None


def _split_domain(text: str) -> tuple[str, str]:
    """Tells a registry from the first part of a path: it has a dot, a port or capitals."""
    first, slash, rest = text.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first != first.lower()
    if not slash or not looks_like_host:
        domain, remainder = DEFAULT_DOMAIN, text
    else:
        domain, remainder = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = OFFICIAL_PREFIX + remainder
    return domain, remainder


def _looks_like_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def _split_suffixes(remainder: str) -> tuple[str, str | None, str | None]:
    """path, tag and digest; None where there is none (an empty one is a mistake)."""
    rest, at, digest = remainder.partition("@")
    path, colon, tag = rest.partition(":")
    return path, tag if colon else None, digest if at else None


def _check_digest(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise InvalidReference(_INVALID)
    if digest.startswith("sha256:") and not _SHA256.fullmatch(digest):
        raise InvalidReference("invalid checksum digest length")
    if not digest.startswith("sha256:"):
        raise InvalidReference("unsupported digest algorithm")
