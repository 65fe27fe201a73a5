"""What `json-file` adds to each record of a container: labels, environment and tag, as Docker does.

`--log-opt labels=a,b`, `labels-regex`, `env`, `env-regex` choose; `tag` is a template. The chosen
ones stand in the records as `"attrs":{"key":"value"}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from logs.errors import LogOptionRefused
from logs.patterns import Pattern, PatternError

ATTRIBUTE_OPTIONS = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})

_PLACE = re.compile(r"\{\{\s*(.*?)\s*\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Subject:
    """What a log may tell of its container.

    Attributes:
        env: `KEY=VALUE` words.
        command: The payload's words.
    """

    id: str
    name: str = ""
    image_id: str = ""
    image_name: str = ""
    command: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    env: Sequence[str] = ()


_FIELDS: dict[str, Callable[[Subject], str]] = {
    ".ID": lambda of: of.id[:12],
    ".FullID": lambda of: of.id,
    ".Name": lambda of: of.name,
    ".ImageID": lambda of: of.image_id.removeprefix("sha256:")[:12],
    ".ImageFullID": lambda of: of.image_id,
    ".ImageName": lambda of: of.image_name,
    ".Command": lambda of: " ".join(of.command),
    ".DaemonName": lambda _of: "docker",
}


def check_attributes(asked: Mapping[str, str]) -> None:
    """Refuse what `attributes` could not do later.

    Raises:
        LogOptionRefused: no regular expression, or a template's field that there is not.
    """
    for name in ("labels-regex", "env-regex"):
        try:
            Pattern(asked.get(name, ""))
        except PatternError as error:
            raise LogOptionRefused(
                f"invalid {name}: '{asked[name]}' is no regular expression: {error}"
            ) from None
    template = asked.get("tag", "")
    for place in _PLACE.findall(template):
        if place not in _FIELDS:
            known = " ".join(f"{{{{{name}}}}}" for name in _FIELDS)
            raise LogOptionRefused(f"invalid tag: no field {{{{{place}}}}}: use one of {known}")
    if "{{" in _PLACE.sub("", template):
        raise LogOptionRefused(f"invalid tag: '{template}' has a {{{{ without its }}}}")


def attributes(asked: Mapping[str, str], of: Subject) -> bytes:
    """The attributes as JSON; b"" if there are none.

    The keys are in order, and `<`, `>`, `&` and U+2028/9 are escaped, as Go's encoder has it.
    """
    if not ATTRIBUTE_OPTIONS & asked.keys():
        return b""
    env = dict(word.split("=", 1) for word in of.env if "=" in word)
    chosen: dict[str, str] = {}
    for option, known in (("labels", of.labels), ("env", env)):
        names = [name for name in asked.get(option, "").split(",") if name in known]
        pattern = asked.get(f"{option}-regex", "")
        if pattern:
            names += filter(Pattern(pattern).found_in, known)
        chosen |= {name: known[name] for name in names}
    tag = _PLACE.sub(lambda place: _FIELDS[place[1]](of), asked.get("tag", ""))
    if tag:
        chosen["tag"] = tag
    return _go_json(chosen) if chosen else b""


def _go_json(chosen: Mapping[str, str]) -> bytes:
    text = json.dumps(chosen, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "replace")
