"""From words to a command's arguments, by the rules that Docker's users have in their fingers.

Two steps. `parse` reads the words as pflag does: `-de A=B`, `-eA=B`, `-m512m`, `--name=x`,
an option takes the next word whatever it looks like, `--` ends the options, and for `run` and
`create` so does the image: what follows belongs to the payload. Then either `bind` fills the
command's parameters at once, or, where a value needs more than that (a wrong number, --help),
`canonical` spells the line so that cyclopts reads it in one way only.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from mdocker.errors import FAILED, UsageError

_TAKES_MORE = 0x04
"""Set in a function's co_flags if it has a *parameter (inspect.CO_VARARGS)."""


class PlainFlag(NamedTuple):
    """What `options.flag` says, without cyclopts."""

    names: tuple[str, ...]
    help: str


class Option(NamedTuple):
    """One option of a command.

    Attributes:
        field: The parameter (or field of the flattened named tuple) that it fills.
        holder: The name of the flattened parameter, empty for a parameter of its own.
        names: All spellings, the long one first.
        kind: bool, int, float, str, or tuple for an option that may be repeated.
        help: A few words about it.
    """

    field: str
    holder: str
    names: tuple[str, ...]
    kind: type
    help: str = ""

    @property
    def title(self) -> str:
        """The option as error texts name it: `-n, --tail`."""
        return ", ".join(sorted(self.names, key=len))


class Shape(NamedTuple):
    """What a command takes.

    Attributes:
        words: Names of the words that must be there, in order.
        rest: Whether any number of further words may follow.
        optional: How many further words may follow when `rest` is false.
        options: Every spelling and what it means.
        flattened: Parameters that are named tuplees of options, with their classes.
    """

    words: tuple[str, ...]
    rest: bool
    optional: int
    options: dict[str, Option]
    flattened: dict[str, Callable[..., Any]]


class Parsed(NamedTuple):
    """A line that is well formed. `values` is in the order in which they were typed."""

    values: list[tuple[Option, str | bool]]
    words: list[str]


def _marks() -> dict[str, Any]:
    return {
        "flag": lambda *names, help: PlainFlag(names, help),
        "flattened": lambda: "flattened",
        "injected": lambda: "injected",
    }


def _kind(hint: object) -> type:
    arguments = [argument for argument in typing.get_args(hint) if argument is not type(None)]
    if typing.get_origin(hint) is tuple:
        return tuple
    if arguments:
        return _kind(arguments[0])
    if hint not in (bool, int, float, str):
        raise TypeError(f"an option can't be of type {hint!r}")
    return typing.cast(type, hint)


def _mark(hint: object) -> tuple[Any, Any]:
    """Split `Annotated[type, mark]`; the mark is None where there is none."""
    if typing.get_origin(hint) is typing.Annotated:
        return typing.get_args(hint)[:2]
    return hint, None


def shape_of(command: FunctionType) -> Shape:
    """Read a command's parameters.

    Raises:
        TypeError: An option has a type that can't be bound.
    """
    hints = typing.get_type_hints(command, localns=_marks(), include_extras=True)
    options: dict[str, Option] = {}
    flattened: dict[str, Callable[..., Any]] = {}

    def add(field: str, holder: str, hint: object, mark: PlainFlag) -> None:
        option = Option(field, holder, mark.names, _kind(hint), mark.help)
        options.update(dict.fromkeys(mark.names, option))

    for name in _parameters(command):
        hint, mark = _mark(hints[name])
        if isinstance(mark, PlainFlag):
            add(name, "", hint, mark)
        elif mark == "flattened":
            flattened[name] = hint
            namespace = vars(sys.modules[hint.__module__])
            for field, inner in typing.get_type_hints(
                hint, namespace, _marks(), include_extras=True
            ).items():
                inner_hint, inner_mark = _mark(inner)
                if isinstance(inner_mark, PlainFlag):
                    add(field, name, inner_hint, inner_mark)
    code = command.__code__
    optional = len(command.__defaults__ or ())
    words = code.co_varnames[: code.co_argcount - optional]
    rest = bool(code.co_flags & _TAKES_MORE)
    return Shape(words, rest, optional, options, flattened)


def _parameters(command: FunctionType) -> tuple[str, ...]:
    """Return the names of all parameters but *more (inspect would cost 5 ms of every start)."""
    code = command.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


def _truth(option: Option, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise UsageError(f'invalid argument "{text}" for "{option.title}": must be true or false')


def parse(
    words: Sequence[str],
    options: Mapping[str, Option],
    *,
    interspersed: bool = True,
    later: Callable[[str], None] | None = None,
) -> Parsed:
    """Read words as pflag does.

    Args:
        words: What was typed after the command's name.
        options: Every spelling and what it means.
        interspersed: Whether options may stand behind the first plain word.
        later: Called with the spelling of an option that is unknown; raises if it has more to
            say about it than that.

    Raises:
        UsageError: An option is unknown, lacks its value, or is a switch with a value.
    """
    values: list[tuple[Option, str | bool]] = []
    plain: list[str] = []
    index = 0

    def unknown(spelling: str, text: str) -> UsageError:
        if later is not None:
            later(spelling)
        return UsageError(text)

    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            plain.extend(words[index:])
            break
        if len(word) < 2 or word[0] != "-":
            plain.append(word)
            if not interspersed:
                plain.extend(words[index:])
                break
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            option = options.get(name)
            if option is None:
                raise unknown(name, f"unknown flag: {name}")
            if option.kind is bool:
                values.append((option, _truth(option, value) if equals else True))
            elif equals:
                values.append((option, value))
            elif index < len(words):
                values.append((option, words[index]))
                index += 1
            else:
                raise UsageError(f"flag needs an argument: {name}")
        else:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                option = options.get("-" + letter)
                if option is None:
                    text = f"unknown shorthand flag: '{letter}' in {word}"
                    raise unknown("-" + letter, text)
                if option.kind is bool:
                    if letters.startswith("="):
                        values.append((option, _truth(option, letters[1:])))
                        break
                    values.append((option, True))
                elif letters:
                    values.append((option, letters.removeprefix("=")))
                    break
                elif index < len(words):
                    values.append((option, words[index]))
                    index += 1
                else:
                    raise UsageError(f"flag needs an argument: '{letter}' in {word}")
    return Parsed(values, plain)


def check_words(name: str, shape: Shape, parsed: Parsed) -> None:
    """Refuse too few or too many plain words, as Docker words it.

    Raises:
        UsageError: With exit code 1, as Docker has it for this mistake alone.
    """
    least = len(shape.words)
    most = least + shape.optional
    count = len(parsed.words)

    def arguments(number: int) -> str:
        return f"{number} argument{'' if number == 1 else 's'}"

    if count < least:
        at_least = "at least " if shape.rest or shape.optional else ""
        raise UsageError(f"'mdocker {name}' requires {at_least}{arguments(least)}", FAILED)
    if not shape.rest and count > most:
        if most == 0:
            raise UsageError(f"'mdocker {name}' accepts no arguments", FAILED)
        at_most = "at most " if shape.optional else ""
        raise UsageError(f"'mdocker {name}' requires {at_most}{arguments(most)}", FAILED)


def canonical(parsed: Parsed) -> list[str]:
    """Spell a parsed line so that it has one reading: `--name=value` … `--` words."""
    last: dict[Option, str | bool] = {}
    spelled: list[str] = []
    for option, value in parsed.values:
        if option.kind is tuple:
            spelled.append(f"{option.names[0]}={value}")
        else:
            last[option] = value
    for option, value in last.items():
        text = value if isinstance(value, str) else ("true" if value else "false")
        spelled.append(f"{option.names[0]}={text}")
    return [*spelled, "--", *parsed.words]


class NotPlain(Exception):
    """A value that the plain binder leaves to cyclopts."""


def _convert(option: Option, value: str | bool) -> object:
    if isinstance(value, bool) or option.kind is str:
        return value
    digits = value.removeprefix("-")
    whole, dot, fraction = digits.partition(".")
    if option.kind is int and dot:
        # cyclopts would round it: `-t .4` is not what 0 means.
        raise UsageError(f'invalid argument "{value}" for "{option.title}": must be a whole number')
    if not (whole.isascii() and whole.isdigit()):
        raise NotPlain
    if option.kind is int:
        return int(value)
    if option.kind is float and (not dot or (fraction.isascii() and fraction.isdigit())):
        return float(value)
    raise NotPlain


def bind(shape: Shape, parsed: Parsed) -> tuple[list[str], dict[str, Any]]:
    """Fill the command's parameters, those that are injected aside.

    Raises:
        NotPlain: A value needs cyclopts (which may well refuse it).
    """
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {name: {} for name in shape.flattened}
    for option, value in parsed.values:
        target = inner[option.holder] if option.holder else own
        if option.kind is tuple:
            target[option.field] = (*target.get(option.field, ()), value)
        else:
            target[option.field] = _convert(option, value)
    for name, make in shape.flattened.items():
        own[name] = make(**inner[name])
    return parsed.words, own
