"""One command line from words to an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from mdocker import binding, settings
from mdocker.errors import BROKEN_PIPE, FAILED, INTERRUPTED, CliError, UsageError
from mdocker.table import ALIASES, COMMANDS, Command

GLOBAL = {
    spelling: option
    for option in (
        binding.Option(
            "host", "", ("--host", "-H"), str, "The engine: unix:///PATH or tcp://HOST:PORT (TLS)"
        ),
        binding.Option("root", "", ("--root",), str, "Where the engine's state is"),
        binding.Option("run_dir", "", ("--run-dir",), str, "Where its socket is"),
        binding.Option("tls", "", ("--tls",), bool, "Refused: it would trust any engine"),
        binding.Option("tlsverify", "", ("--tlsverify",), bool, "As tcp:// always does"),
        binding.Option(
            "tlscacert", "", ("--tlscacert",), str, "Who signs engines' certificates (PEM)"
        ),
        binding.Option("tlscert", "", ("--tlscert",), str, "The client's certificate (PEM)"),
        binding.Option("tlskey", "", ("--tlskey",), str, "Its key (PEM)"),
        binding.Option("help", "", ("--help", "-h"), bool, "Show all commands"),
        binding.Option("version", "", ("--version", "-v"), bool, "Show the client's version"),
    )
    for spelling in option.names
}
"""What may stand before the command."""


def launch(words: Sequence[str]) -> int:
    """Run a command line, print what went wrong as one line, return the exit code."""
    typed = ""
    if words[:1] == ["__complete"]:
        from mdocker.completing import complete

        return complete(words[1:])
    try:
        parsed = binding.parse(words, GLOBAL, interspersed=False)
        given: dict[str, Any] = {option.field: value for option, value in parsed.values}
        if given.pop("version", False):
            return _print_version()
        helping = given.pop("help", False)
        place = settings.resolve(**given)
        if not parsed.words:
            return _show_help([])
        typed = parsed.words[0]
        if typed == "help":
            return _show_help(parsed.words[1:])
        if helping or _is_group(parsed.words):
            return _show_help(parsed.words)
        command, arguments = _find(parsed.words)
        typed = command.name
        return _run(command, arguments, place)
    except UsageError as error:
        _say(str(error))
        _hint(typed)
        return error.code
    except CliError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    except OSError as error:
        # What concerns files and the engine was told apart before; a full disk is our stdout's.
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
        _say(f"unable to write the output: {error.strerror}" if full else str(error))
        return FAILED


def _find(words: Sequence[str]) -> tuple[Command, Sequence[str]]:
    """Return the command that a line begins with, and the words behind it."""
    typed = words[0]
    if alias := ALIASES.get(" ".join(words[:2])):
        words = [*alias.split(), *words[2:]]
    for command in COMMANDS:
        count = command.name.count(" ") + 1
        if command.name == " ".join(words[:count]):
            return command, words[count:]
    from mdocker.later import COMMANDS as LATER

    if _below(typed):
        known = ", ".join(_below(typed))
        there = f"there {'are' if ', ' in known else 'is'} {known}"
        more = f"; {LATER[typed]}" if typed in LATER else ""
        raise UsageError(f"unknown command: {' '.join(words[:2])}: {there}{more}", FAILED)
    if typed in LATER:
        raise UsageError(f"'{typed}' is not supported yet: {LATER[typed]}", FAILED)
    raise UsageError(f"unknown command: {typed}", FAILED)


def _below(word: str) -> list[str]:
    """The second words of the commands that begin with this one, if they have two."""
    names = [name.partition(" ") for name in (*(command.name for command in COMMANDS), *ALIASES)]
    return [rest for first, _, rest in names if first == word and rest]


def _is_group(words: Sequence[str]) -> bool:
    return bool(_below(words[0])) and list(words[1:2]) in ([], ["--help"], ["-h"])


def load(command: Command) -> FunctionType:
    """Import a command's function."""
    module, _, function = command.path.partition(":")
    loaded: FunctionType = getattr(importlib.import_module(module), function)
    return loaded


def _run(command: Command, words: Sequence[str], place: settings.Settings) -> int:
    function = load(command)
    shape = binding.shape_of(function)
    if _asks_for_help(command, shape, words):
        return _show_help(command.name.split())

    def later(spelling: str) -> None:
        from mdocker.later import refuse

        refuse(command, spelling)

    parsed = binding.parse(words, shape.options, interspersed=not command.payload, later=later)
    binding.check_words(command.name, shape, parsed)
    try:
        arguments: Sequence[Any]
        arguments, options = binding.bind(shape, parsed)
    except binding.NotPlain:
        arguments, options = _bind_by_cyclopts(command, parsed)
    from mdocker.client import Engine

    with Engine(place) as engine:
        code: int = function(*arguments, **options, engine=engine)
    return code


def _asks_for_help(command: Command, shape: binding.Shape, words: Sequence[str]) -> bool:
    """Tell whether --help (or -h, where that is nothing else) stands among the options.

    Walks the words as `binding.parse` does, with the help switches added.
    """
    names = tuple(name for name in ("--help", "-h") if name not in shape.options)
    switch = binding.Option("", "", names, bool)
    options = {**shape.options, **dict.fromkeys(names, switch)}
    if not any(word.startswith("-") and ("h" in word) for word in words):
        return False
    try:
        parsed = binding.parse(words, options, interspersed=not command.payload)
    except UsageError:
        return False
    return any(option is switch and value for option, value in parsed.values)


def _bind_by_cyclopts(
    command: Command, parsed: binding.Parsed
) -> tuple[Sequence[Any], dict[str, Any]]:
    from cyclopts import CycloptsError

    from mdocker.cli import make_app

    try:
        _, bound, _ = make_app().parse_args(
            [*command.name.split(), *binding.canonical(parsed)],
            exit_on_error=False,
            print_error=False,
        )
    except CycloptsError as error:
        raise UsageError(" ".join(str(error).split()).rstrip(".")) from error
    return bound.args, dict(bound.kwargs)


def _show_help(words: Sequence[str]) -> int:
    from inspect import cleandoc

    from mdocker.cli import app_of, make_app

    app = make_app()
    path: list[str] = []
    if words and _is_group(words):
        path = list(words[:1])
    elif words:
        command, _ = _find(words)
        # The list has one line for each command; its own page says everything.
        app_of(app, command).help = cleandoc(load(command).__doc__ or command.help)
        path = command.name.split()
    app.help_print(path)
    return 0


def _print_version() -> int:
    from mdocker import __version__

    sys.stdout.write(f"mdocker version {__version__}\n")
    return 0


def _say(text: str) -> None:
    from mdocker.output import legible

    with contextlib.suppress(OSError):
        # If it can't be written, the end of the command will say so.
        sys.stdout.flush()
    sys.stderr.write(f"mdocker: {legible(text, 2)}\n")


def _hint(typed: str) -> None:
    known = any(command.name == typed for command in COMMANDS) or bool(_below(typed))
    sys.stderr.write(f"See 'mdocker {typed + ' ' if known else ''}--help'.\n")
