"""Words of a Dockerfile line: quotes, backslashes, `key=value` pairs and variables. Pure.

The escape character is a backslash, or a backquote where a Dockerfile's `# escape=` says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# As in a shell, $1 and $@ are names, too: nobody sets them, so they are empty.
_NAME = re.compile(r"[A-Za-z_]\w*|\d+|[@*#?$!-]", re.ASCII)
_MODIFIERS = "-+?"

LONGEST = 1 << 20
"""Characters that variables may make of one text: each may have the others in it, many times."""


def split(text: str, escape: str = "\\") -> list[str]:
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
        elif char == escape and quote != "'":
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
        raise _unclosed(quote)
    if word:
        words.append(word)
    return words


def pairs(text: str, escape: str = "\\") -> list[tuple[str, str]]:
    """`key=value …`, or the old form `key the rest`; values as written, for `substituted`.

    Raises:
        ValueError: A word without "=", or an empty key.
    """
    words = split(text, escape)
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


def substituted(text: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Takes quotes and backslashes away and puts variables in, as Docker's shell words do.

    `$name`, `${name}`, `${name:-default}`, `${name:+alternative}` and `${name:?words}`, and without
    the colon, where an empty value counts as one; unknown names are empty. Nothing is replaced
    within single quotes or after a backslash.

    Raises:
        ValueError: A quote or `${` without its end, another modifier, what `?` says, or too much.
    """
    try:
        return _Substitution(text, variables, escape).run()
    except RecursionError:
        raise ValueError("syntax error: too many substitutions within one another") from None


class _Substitution:
    """One text, read once from the left."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str) -> None:
        self._text = text
        self._variables = variables
        self._escape = escape
        self._at = 0
        self._put_in = 0

    def run(self) -> str:
        return self._until("")

    def _next(self) -> str:
        """The next character, "" at the end."""
        char = self._text[self._at : self._at + 1]
        self._at += 1
        return char

    def _until(self, end: str) -> str:
        """Up to a character outside of quotes, which is taken away; "" for the end of it all."""
        result = ""
        while char := self._next():
            if char == end:
                return result
            if char == "'":
                result += self._in_single_quotes()
            elif char == '"':
                result += self._in_double_quotes()
            elif char == "$":
                result += self._variable()
            elif char == self._escape:
                result += self._next()
            else:
                result += char
        if end:
            raise ValueError(f"syntax error: missing {end} in substitution")
        return result

    def _in_single_quotes(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise _unclosed("'")
        start, self._at = self._at, end + 1
        return self._text[start:end]

    def _in_double_quotes(self) -> str:
        result = ""
        while char := self._next():
            if char == '"':
                return result
            if char == "$":
                result += self._variable()
            elif char == self._escape:
                following = self._next()
                # It protects only what would be special here.
                result += following if following in ('"', "$", char) else char + following
            else:
                result += char
        raise _unclosed('"')

    def _variable(self) -> str:
        """What stands behind a dollar sign."""
        if self._text[self._at : self._at + 1] != "{":
            name = self._name()
            return self._value(name) or "" if name else "$"
        self._at += 1
        name = self._name()
        if not name:
            raise ValueError("syntax error: bad substitution")
        char = self._next()
        value = self._value(name)
        if char == "}":
            return value or ""
        if char == ":":
            char = self._next()
            value = value or None
        if not char:
            raise ValueError("syntax error: missing } in substitution")
        if char not in _MODIFIERS:
            raise ValueError(f"unsupported modifier ({char}) in substitution")
        word = self._until("}")
        if char == "+":
            return "" if value is None else word
        if value is None and char == "?":
            raise ValueError(f"{name}: {word or 'not allowed to be unset'}")
        return word if value is None else value

    def _value(self, name: str) -> str | None:
        value = self._variables.get(name)
        self._put_in += len(value or "")
        if self._put_in > LONGEST:
            raise ValueError(f"variables make more than {LONGEST} characters of it")
        return value

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]


def _unclosed(quote: str) -> ValueError:
    return ValueError(f"unexpected end of statement while looking for matching {quote}")
