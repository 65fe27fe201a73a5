"""The header WWW-Authenticate: which ways to say who asks a server accepts. Pure.

Grammar: RFC 9110, 11.6.1; the parameters of Bearer: the distribution project's token
specification (https://distribution.github.io/distribution/spec/auth/token/).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?:[ \t]+|(?=,)|$)", re.ASCII)
_PARAMETER = re.compile(
    rf'[\s,]*({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))[ \t]*(?=,|$)',
    re.ASCII | re.DOTALL,
)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)", re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Challenge:
    """One way that is accepted.

    Attributes:
        scheme: In lower case: bearer, basic.
        parameters: Their names in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def scopes(self) -> tuple[str, ...]:
        """What a token has to be for, such as `repository:bird/nest:pull`."""
        return tuple(self.parameters.get("scope", "").split())


def parse(values: Iterable[str]) -> list[Challenge]:
    """Read all challenges of an answer; what is malformed ends its header, and is left out."""
    return [challenge for value in values for challenge in _challenges(value)]


def choose(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the one that we follow: Bearer, else Basic; None if there is neither."""
    known = {challenge.scheme: challenge for challenge in reversed(list(challenges))}
    return known.get("bearer") or known.get("basic")


def _challenges(value: str) -> Iterable[Challenge]:
    place = 0
    while found := _SCHEME.match(value, place):
        scheme, place = found[1].lower(), found.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(value, place):
            name, quoted, plain = parameter.groups()
            text = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), text)
            place = parameter.end()
        if not parameters and (token := _TOKEN68.match(value, place)):
            place = token.end()
        yield Challenge(scheme, parameters)
