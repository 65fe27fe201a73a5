"""Words of a Dockerfile line: quotes, backslashes, `key=value` pairs and variables. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::([-+])((?:[^}\\]|\\.)*))?\})", re.ASCII)


def split(text: str) -> list[str]:
    """Splits at blanks outside of quotes; quotes and backslashes stay in the words.

    Raises:
        ValueError: A quote is not closed.
    """
    words: list[str] = []
    word = ""
    quote = ""
    escaped = False
    for char in text:
        if escaped:
            word += char
            escaped = False
        elif char == "\\" and quote != "'":
            word += char
            escaped = True
        elif quote:
            word += char
            if char == quote:
                quote = ""
        elif char in "\"'":
            word += char
            quote = char
        elif char.isspace():
            if word:
                words.append(word)
            word = ""
        else:
            word += char
    if quote:
        raise ValueError(f"unexpected end of statement while looking for matching {quote}")
    if word:
        words.append(word)
    return words


def pairs(text: str) -> list[tuple[str, str]]:
    """`key=value …`, or the old form `key the rest`; values as written, for `substituted`.

    Raises:
        ValueError: A word without "=", or an empty key.
    """
    words = split(text)
    if "=" not in words[0]:
        key, _, rest = text.partition(words[0])[2].partition(" ")
        value = (key + rest).strip()
        if not value:
            raise ValueError("must have two arguments")
        return [(words[0], value)]
    found = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"can't find = in {word!r}: must be of the form key=value")
        if not key:
            raise ValueError("names can not be blank")
        found.append((key, value))
    return found


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """Takes quotes and backslashes away and puts variables in, as Docker's shell words do.

    `$name`, `${name}`, `${name:-default}` and `${name:+alternative}`; unknown ones are empty.
    Nothing is replaced within single quotes or after a backslash.

    Raises:
        ValueError: `${` without its end.
    """
    result = ""
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\\" and quote != "'":
            following = text[position + 1 : position + 2]
            # Within double quotes a backslash protects only what would be special there.
            keep = quote == '"' and following not in ('"', "$", "\\")
            result += (char if keep else "") + following
            position += 2
        elif char == "$" and quote != "'":
            match = _VARIABLE.match(text, position)
            if match is not None:
                result += _value(match, variables)
                position = match.end()
            elif text.startswith("${", position):
                raise ValueError("unsupported modifier or missing } in substitution")
            else:
                result += char
                position += 1
        elif char in "\"'" and quote in ("", char):
            quote = "" if quote else char
            position += 1
        else:
            result += char
            position += 1
    return result


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    plain, braced, modifier, word = match.groups()
    value = variables.get(plain or braced, "")
    if modifier == "-":
        return value or substituted(word, variables)
    if modifier == "+":
        return substituted(word, variables) if value else ""
    return value
