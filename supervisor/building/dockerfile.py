"""A Dockerfile's text becomes lines, one for each instruction.

Lines are put together by the library dockerfile-parse. What Docker does and it does not is done
before it sees them: empty lines and comments within an instruction, a last line that would go on, a
keyword without anything behind it.

Reference: https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

from runtime.images.words import split
from supervisor.building.errors import BUILDKIT, DockerfileRefused

LARGEST = 1024 * 1024
"""Bytes of a Dockerfile; larger ones are refused."""

MOST_LINES = 20_000
"""Of a Dockerfile: joining takes time by their square."""

KEYWORDS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    "STOPSIGNAL USER VOLUME WORKDIR".split()
)

_BOM = "\ufeff"
_COMMENT = re.compile(r"\s*#")
_DIRECTIVE = re.compile(r"\s*#\s*(\w+)\s*=(.*)", re.ASCII)
_DIRECTIVES = frozenset({"check", "escape", "syntax"})
_HEREDOC = re.compile(r"\d*<<-?(['\"]?)[A-Za-z_]\w*\1", re.ASCII)
_WITH_HEREDOCS = frozenset({"ADD", "COPY", "RUN"})
_FLAGS_ARE_TEXT = frozenset({"HEALTHCHECK", "ONBUILD"})
_FLAG = re.compile(r"--(\S*)\s*")


class Line(NamedTuple):
    """One instruction.

    Attributes:
        number: Of its first line in the file, from 1.
        keyword: In upper case.
        flags: What stands between keyword and text, such as ("chown", "1:2"); None for no value.
        text: The rest, with its lines joined.
        source: All of it as it was written, with its lines joined.
    """

    number: int
    keyword: str
    flags: tuple[tuple[str, str | None], ...]
    text: str
    source: str


class Dockerfile(NamedTuple):
    """What a file says.

    Attributes:
        escape: The character that ends a line which goes on, and takes the next one's meaning.
    """

    lines: tuple[Line, ...]
    escape: str


def read(data: bytes) -> Dockerfile:
    """Take a file apart.

    Raises:
        DockerfileRefused: It is no Dockerfile; the text names the line.
    """
    try:
        text = data.decode("utf-8").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DockerfileRefused("the file is no text in UTF-8", line) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DockerfileRefused("the file holds a NUL character", line)
    raw = text.split("\n")
    if len(raw) > MOST_LINES:
        raise DockerfileRefused(f"it has more than {MOST_LINES} lines")
    escape = _escape(raw)
    lines = tuple(
        line_of(number, source, escape) for number, source in _joined(_tidied(raw, escape))
    )
    if not lines:
        raise DockerfileRefused("file with no instructions")
    return Dockerfile(lines, escape)


def line_of(number: int, source: str, escape: str) -> Line:
    """Take one instruction apart, whose lines are joined.

    Raises:
        DockerfileRefused: Nobody knows the keyword, or BuildKit alone does what it asks for.
    """
    word, _, rest = source.partition(" ")
    keyword = word.upper()
    if keyword not in KEYWORDS:
        raise DockerfileRefused(f"unknown instruction: {keyword}", number)
    text = rest.strip()
    flags = []
    if keyword not in _FLAGS_ARE_TEXT:
        while (match := _FLAG.match(text)) is not None:
            text = text[match.end() :]
            if not match[1]:
                break  # `--` ends them
            name, equals, value = match[1].partition("=")
            flags.append((name, value if equals else None))
    if keyword in _WITH_HEREDOCS:
        _refuse_heredocs(number, keyword, text, escape)
    return Line(number, keyword, tuple(flags), text, source)


def _refuse_heredocs(number: int, keyword: str, text: str, escape: str) -> None:
    if "<<" not in text or text.startswith("["):
        return
    try:
        words = split(text, escape)
    except ValueError:  # a quote that the shell may understand
        words = text.split()
    for word in words:
        if _HEREDOC.fullmatch(word):
            raise DockerfileRefused(f"{keyword} with a heredoc ({word}) {BUILDKIT}", number)


def _escape(raw: list[str]) -> str:
    """The escape character; a directive for it stands before anything else.

    Raises:
        DockerfileRefused: It can't be that, or was said twice.
    """
    seen: set[str] = set()
    escape = "\\"
    for number, line in enumerate(raw, 1):
        match = _DIRECTIVE.fullmatch(line)
        name = match[1].lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            break
        if name in seen:
            raise DockerfileRefused(f"only one {name} parser directive can be used", number)
        seen.add(name)
        if name == "escape":
            escape = match[2].strip()
            if escape not in ("\\", "`"):
                raise DockerfileRefused(
                    f"invalid escape token '{escape}' does not match ` or \\", number
                )
    return escape


def _tidied(raw: list[str], escape: str) -> str:
    """The text as dockerfile-parse understands it, each line where it was."""
    goes_on = re.compile(rf".*{re.escape(escape)}\s*", re.DOTALL)
    alone = re.compile(rf"(\s*[^\s#]\S*?){re.escape(escape)}\s*")
    found = []
    within = False
    for line in raw:
        tidy = line.rstrip("\r")
        if _COMMENT.match(tidy):
            found.append(tidy)
            continue
        if within and not tidy.strip():
            found.append("#")  # a comment ends nothing
            continue
        if not within and (match := alone.fullmatch(tidy)):
            tidy = f"{match[1]} {escape}"
        within = goes_on.fullmatch(tidy) is not None
        found.append(tidy)
    return "\n".join([*found, "", ""])


def _joined(text: str) -> list[tuple[int, str]]:
    """Each instruction's first line, from 1, and its whole text."""
    import dockerfile_parse  # type: ignore[import-untyped]

    parser = dockerfile_parse.DockerfileParser(
        fileobj=io.BytesIO(text.encode()), cache_content=True, env_replace=False
    )
    found = []
    for one in parser.structure:
        if one["instruction"] != "COMMENT" or not _COMMENT.match(one["content"]):
            word = one["content"].split(None, 1)[0]
            found.append((one["startline"] + 1, f"{word} {one['value']}".rstrip()))
    return found
