"""What may stand where a command line is being typed: the answer to a shell's TAB.

`mdocker completion SHELL` prints a few lines that have the shell ask `mdocker __complete …` at
each TAB. So there is one source of truth, the commands themselves, and what is offered is never
older than they are. It must be quick: a command's module is imported only if its options matter,
and the engine is asked over a bare socket (HTTP/1.0, whose answer is all that comes), for two
seconds at most. None is started, and whatever goes wrong is silence: nobody types in order to
read errors.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from mdocker import settings
from mdocker.binding import Option
from mdocker.paths import target
from mdocker.states import exists, is_paused, rests, runs
from mdocker.table import ALIASES, COMMANDS, Command

_PATIENCE_S = 2.0
_FILES = "files"
_OPEN = "open"
_WORDS = "words"


class Offer(NamedTuple):
    """What a shell is to offer.

    Attributes:
        values: Whole words, each with what there is to say about it.
        mode: `words`; `open`, to which more can be typed without a space; `files`, for which the
            shell offers the names of files itself.
    """

    values: Sequence[tuple[str, str]] = ()
    mode: str = _WORDS


class Spot(NamedTuple):
    """Where somebody is typing.

    Attributes:
        text: What is typed of the word so far, behind `before`.
        before: What stands in the same word before it, such as `--signal=`.
        option: Whose value it is; None for a plain word or an option's name.
        plain: The plain words before it.
        given: The options before it, with their values.
        ended: Options can't stand here any more.
    """

    text: str
    before: str
    option: Option | None
    plain: list[str]
    given: dict[str, str | bool]
    ended: bool


def locate(words: Sequence[str], options: Mapping[str, Option], *, interspersed: bool) -> Spot:
    """Tell what the last of the words is, by the rules of `binding.parse`; mistakes are passed."""
    *done, text = words
    plain: list[str] = []
    given: dict[str, str | bool] = {}
    pending: Option | None = None
    ended = False
    waiting = iter(done)
    for word in waiting:
        if word == "--" or (not interspersed and not _is_option(word)):
            plain += [*([] if word == "--" else [word]), *waiting]
            ended = True
        elif not _is_option(word):
            plain.append(word)
        else:
            for one, value in _read(word, options):
                pending = one if value is None else None
                given[one.field] = value or ""
            if pending is not None and (next_word := next(waiting, None)) is not None:
                given[pending.field] = next_word
                pending = None
    if pending is not None:
        return Spot(text, "", pending, plain, given, ended)
    name, equals, value = text.partition("=")
    option = options.get(name) if text.startswith("--") and equals and not ended else None
    if option is not None and option.kind is not bool:
        return Spot(value, f"{name}=", option, plain, given, ended)
    return Spot(text, "", None, plain, given, ended)


def _is_option(word: str) -> bool:
    return len(word) > 1 and word[0] == "-"


def _read(word: str, options: Mapping[str, Option]) -> Iterator[tuple[Option, str | bool | None]]:
    """Yield the options of a word, each with its value; None if that is the next word."""
    name, equals, value = word.partition("=")
    if name.startswith("--"):
        if name in options:
            if options[name].kind is bool:
                yield options[name], value.lower() not in ("0", "f", "false")
            else:
                yield options[name], value if equals else None
        return
    for position, letter in enumerate(word[1:], 2):
        option = options.get(f"-{letter}")
        if option is None:
            return
        if option.kind is not bool:
            yield option, word[position:].removeprefix("=") or None
            return
        yield option, True


class _Engine:
    """The engine, as far as a TAB may bother it."""

    def __init__(self, place: settings.Settings) -> None:
        self._place = place

    def containers(self, fits: Callable[[str], bool]) -> list[tuple[str, str]]:
        """Return the names of containers, by their state."""
        return [
            (name.removeprefix("/"), f"{one['Image']}, {one['Status']}")
            for one in self._ask(target("/containers/json", {"all": True}))
            if fits(one["State"])
            for name in one["Names"]
        ]

    def images(self) -> list[tuple[str, str]]:
        """Return the names of images, those tagged latest without it."""
        return [
            (tag.removesuffix(":latest"), "")
            for one in self._ask("/images/json")
            for tag in one.get("RepoTags") or ()
        ]

    def volumes(self) -> list[tuple[str, str]]:
        """Return the names of volumes."""
        return [(one["Name"], "") for one in self._ask("/volumes", "Volumes")]

    def _connected(self) -> socket.socket:
        if self._place.remote is not None:
            from mdocker import tls

            sock = tls.dial(self._place.remote)
            sock.settimeout(_PATIENCE_S)
            return sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(_PATIENCE_S)
        try:
            sock.connect(self._place.socket)
        except BaseException:
            sock.close()
            raise
        return sock

    def _ask(self, path: str, within: str = "") -> list[dict[str, Any]]:
        deadline = time.monotonic() + _PATIENCE_S
        answer = b""
        with self._connected() as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            while piece := sock.recv(1 << 18):
                answer += piece
                sock.settimeout(max(0.001, deadline - time.monotonic()))
        found = json.loads(answer.partition(b"\r\n\r\n")[2])
        if within and isinstance(found, dict):
            found = found.get(within)
        return found if isinstance(found, list) else []


_CONTAINERS: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(("stop", "kill", "attach", "exec", "top", "stats", "pause", "wait"), runs),
    **dict.fromkeys(("start", "rm"), rests),
    **dict.fromkeys(("restart", "logs", "inspect", "timeline", "update"), exists),
    "container inspect": exists,
    **dict.fromkeys(("rename", "port", "diff", "export", "commit", "cp"), exists),
    "unpause": is_paused,
}
"""Commands that take containers, and in which states."""

_ONE = frozenset(
    {"rename", "port", "exec", "top", "attach", "diff", "export", "commit", "pull", "push"}
)
"""Of these and of `_IMAGES`, those whose first word alone is one."""

_IMAGES = frozenset(
    {"run", "create", "rmi", "inspect", "image inspect", "tag", "save", "history", "pull", "push"}
)
_VOLUMES = frozenset({"volume inspect", "volume rm"})
_SHELLS = ("bash", "zsh", "fish")
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
_HEALTHS = ("none", "starting", "healthy", "unhealthy")
_EVENTS = ("create", "start", "die", "stop", "kill", "restart", "pause", "unpause", "rename", "oom",
           "health_status", "destroy")  # fmt: skip

_OPTION_VALUES = {
    "network": ("none", "host"),
    "pid": ("private", "host"),
    "ipc": ("private", "shareable", "host", "none"),
    "uts": ("host",),
    "log_driver": ("json-file", "k8s-file", "none"),
    "restart": ("no", "always", "unless-stopped", "on-failure", "on-failure:"),
    "health_on_failure": ("none", "kill", "restart", "stop"),
    "backend": ("asyncio", "trio", "uvloop"),
    "type": ("container", "image", "volume"),
    "format": ("json", "table"),
    "pull": ("missing", "always", "never"),
}

_LOG_OPTIONS = {
    "max-size": (), "max-file": (), "compress": ("true", "false"),
    "mode": ("blocking", "non-blocking"), "max-buffer-size": (), "labels": (), "labels-regex": (),
    "env": (), "env-regex": (), "tag": (),
}  # fmt: skip
"""The keys of --log-opt (docs/logs.md), and what each may be where that is one of a few words."""
_SHARED = frozenset({"network", "pid", "ipc"})
"""Options that name another container, too."""

_TLS = frozenset({"tlscacert", "tlscert", "tlskey"})
_PLACES = frozenset({"host", "root", "run_dir"}) | _TLS
_OPTION_FILES = _PLACES | {
    "env_file",
    "label_file",
    "cidfile",
    "iidfile",
    "file",
    "output",
    "input",
}


def offer(words: Sequence[str]) -> Offer:
    """Return what may stand in the place of the last word (`mdocker` itself is not among them).

    Raises:
        OSError: The engine does not answer.
        ValueError, LookupError, TypeError: It answers something else.
    """
    from mdocker.launch import GLOBAL

    spot = locate(words, GLOBAL, interspersed=False)
    if not spot.plain:
        if spot.option is not None:
            return Offer(mode=_FILES)
        if spot.text.startswith("-"):
            return _fitting(_names(GLOBAL), spot)
        return _fitting([*_commands(), ("help", "")], spot)
    name, *typed = spot.plain
    if name == "help":
        if not typed:
            return _fitting(_commands(), spot)
        name, *typed = typed
    below = _below(name)
    if below and not typed:
        return _fitting(below, spot)
    if below:
        name = f"{name} {typed.pop(0)}"
        name = ALIASES.get(name, name)
    command = next(one for one in COMMANDS if one.name == name)
    places: dict[str, Any] = {
        field: str(value) for field, value in spot.given.items() if field in _PLACES
    }
    place = settings.resolve(**places)
    return _of_command(command, [*typed, spot.text], _Engine(place))


def _commands() -> list[tuple[str, str]]:
    """Return each command's first word; one that several begin with comes once."""
    found: dict[str, str] = {}
    for one in COMMANDS:
        first, more, _ = one.name.partition(" ")
        found.setdefault(first, one.group if more else one.help)
    return list(found.items())


def _below(name: str) -> list[tuple[str, str]]:
    """Return the second words that may follow a first one; of names for the same the first."""
    about = {one.name: one.help for one in COMMANDS}
    found: dict[str, tuple[str, str]] = {}
    for full, meant in (*((one.name, one.name) for one in COMMANDS), *ALIASES.items()):
        first, _, rest = full.partition(" ")
        if first == name and rest:
            found.setdefault(meant, (rest, about.get(meant, "")))
    return list(found.values())


def _of_command(command: Command, words: Sequence[str], engine: _Engine) -> Offer:
    options: Mapping[str, Option] = {}
    if any(word.startswith("-") for word in words):
        from mdocker.binding import shape_of
        from mdocker.launch import load

        options = shape_of(load(command)).options
    spot = locate(words, options, interspersed=not command.payload)
    if spot.option is not None:
        return _value(command, spot.option, spot, engine)
    if spot.text.startswith("-") and not spot.ended:
        return _fitting(_names({**options, "--help": _HELP}), spot)
    return _word(command, spot, engine)


_HELP = Option("", "", ("--help",), bool, "Show the page of this command")


def _names(options: Mapping[str, Option]) -> Iterable[tuple[str, str]]:
    """Return the long spelling of each option, the short one where there is no other."""
    for option in dict.fromkeys(options.values()):
        yield option.names[0], option.help


def _word(command: Command, spot: Spot, engine: _Engine) -> Offer:
    found: list[tuple[str, str]] = []
    first = not spot.plain
    if command.name in ("import", "build"):
        return Offer(mode=_FILES) if first else Offer()
    if command.name == "completion":
        found = [(shell, "") for shell in _SHELLS] if first else []
    else:
        many = command.name not in _ONE and not command.payload
        if command.payload and not first:
            return Offer(mode=_FILES)
        if command.name == "cp" and (":" in spot.text or "/" in spot.text):
            return Offer(mode=_FILES)
        fits = _CONTAINERS.get(command.name)
        if fits is not None and (first or many):
            forced = command.name == "rm" and spot.given.get("force")
            found += engine.containers(exists if forced else fits)
        if command.name in _IMAGES and (first or many):
            found += engine.images()
        if command.name in _VOLUMES:
            found += engine.volumes()
        if command.name == "cp":
            return _fitting([(f"{name}:", about) for name, about in found], spot, _OPEN)
    return _fitting([one for one in found if one[0] not in spot.plain], spot)


def _value(command: Command, option: Option, spot: Spot, engine: _Engine) -> Offer:
    if option.field in _OPTION_FILES:
        return Offer(mode=_FILES)
    if option.field in ("signal", "stop_signal"):
        import signal

        prefix = "SIG" if spot.text.startswith("S") else ""
        names = sorted(prefix + one.name.removeprefix("SIG") for one in signal.Signals)
        return _fitting([(name, "") for name in names], spot)
    if option.field == "filter":
        return _filter(command, spot, engine)
    if option.field == "log_opt":
        return _pairs({key: partial(_plain, *values) for key, values in _LOG_OPTIONS.items()}, spot)
    if option.field == "volume":
        if spot.text.startswith(("/", ".", "~")):
            return Offer(mode=_FILES)
        return _fitting([(f"{name}:", about) for name, about in engine.volumes()], spot, _OPEN)
    if option.field == "volumes_from":
        return _fitting(engine.containers(exists), spot)
    found = [(value, "") for value in _OPTION_VALUES.get(option.field, ())]
    if option.field in _SHARED:
        found += [(f"container:{name}", about) for name, about in engine.containers(runs)]
    return _fitting(found, spot)


def _filter(command: Command, spot: Spot, engine: _Engine) -> Offer:
    """Offer what --filter may be, which differs from command to command."""
    keys: dict[str, Callable[[], Iterable[tuple[str, str]]]]

    def fixed(*values: str) -> Callable[[], Iterable[tuple[str, str]]]:
        return partial(_plain, *values)

    def containers() -> Iterable[tuple[str, str]]:
        return engine.containers(exists)

    if command.name == "events":
        keys = {"container": containers, "event": fixed(*_EVENTS), "image": engine.images,
                "label": fixed(), "type": fixed("container", "image", "volume", "daemon"),
                "volume": engine.volumes}  # fmt: skip
    elif command.name == "images":
        keys = {"before": engine.images, "dangling": fixed("true", "false"), "label": fixed(),
                "reference": engine.images, "since": engine.images,
                "until": fixed()}  # fmt: skip
    elif command.name.endswith(" prune"):
        keys = {"label": fixed(), "label!": fixed(), "until": fixed("24h")}
    elif command.name.startswith("volume "):
        keys = {"dangling": fixed("true", "false"), "driver": fixed("local"), "label": fixed(),
                "name": engine.volumes}  # fmt: skip
    else:
        keys = {
            "ancestor": engine.images, "before": containers, "exited": fixed(),
            "expose": fixed(), "health": fixed(*_HEALTHS), "id": fixed(),
            "is-task": fixed("true", "false"), "label": fixed(), "name": containers,
            "network": fixed("none", "host"), "publish": fixed(), "since": containers,
            "status": fixed(*_STATES), "volume": engine.volumes,
        }  # fmt: skip
    return _pairs(keys, spot)


def _plain(*values: str) -> Iterable[tuple[str, str]]:
    return [(value, "") for value in values]


def _pairs(keys: Mapping[str, Callable[[], Iterable[tuple[str, str]]]], spot: Spot) -> Offer:
    """Offer the keys of KEY=VALUE, and behind one what it may be."""
    key, equals, _ = spot.text.partition("=")
    if not equals:
        return _fitting([(f"{name}=", "") for name in keys], spot, _OPEN)
    found = keys[key]() if key in keys else ()
    return _fitting([(f"{key}={value}", about) for value, about in found], spot)


def _fitting(found: Iterable[tuple[str, str]], spot: Spot, mode: str = _WORDS) -> Offer:
    return Offer(
        [(spot.before + value, about) for value, about in found if value.startswith(spot.text)],
        mode,
    )


def complete(words: Sequence[str]) -> int:
    """Answer a shell: a line with the mode, then a line for each word that it may offer.

    Args:
        words: The shell, then as it asks. bash: the line up to the cursor, and where readline
            breaks words. fish, zsh: the line's words behind the command, up to the cursor.
    """
    try:
        shell, *typed = words
        if shell == "bash":
            lines = _for_bash(*typed)
        else:
            found = offer(typed)
            separator = "\t" if shell == "fish" else ":"
            lines = [found.mode]
            for value, about in found.values:
                shown = value if shell == "fish" else value.replace(":", "\\:")
                lines.append(f"{shown}{separator}{about}" if about else shown)
    except Exception:  # noqa: BLE001 - see the module's first words
        return 1
    sys.stdout.write("".join(line + "\n" for line in lines))
    return 0


def _for_bash(line: str, breaks: str) -> list[str]:
    """Return the mode and the words, each behind the last of readline's breaks in it.

    readline takes `--signal=` and `host:` for words of their own, and would write what we offer
    behind them.
    """
    import shlex

    quote = ""
    for quote in ("", "'", '"'):
        try:
            # A letter at the cursor, so that there is a word there.
            words = shlex.split(f"{line}\0{quote}")
            break
        except ValueError:
            continue
    words[-1] = words[-1].removesuffix("\0")
    found = offer(words[1:])
    typed = words[-1]
    cut = 0 if quote else 1 + max(typed.rfind(letter) for letter in breaks)
    return [found.mode, *(value[cut:] for value, _ in found.values)]
