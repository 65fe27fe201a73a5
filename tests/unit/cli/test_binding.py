"""Words are read as Docker's own client reads them, and both binders agree."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdocker import binding
from mdocker.cli import app_of, make_app
from mdocker.errors import UsageError
from mdocker.launch import load
from mdocker.table import COMMANDS

BY_NAME = {command.name: command for command in COMMANDS}
SHAPES = {command.name: binding.shape_of(load(command)) for command in COMMANDS}


def bind(line):
    """Bind words split at spaces; returns (positional words, options, container options)."""
    name, *words = line if isinstance(line, list) else line.split(" ")
    shape = SHAPES[name]
    parsed = binding.parse(words, shape.options, interspersed=not BY_NAME[name].payload)
    binding.check_words(name, shape, parsed)
    words, options = binding.bind(shape, parsed)
    return words, options, options.pop("options", None)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run host", ["host"]),
        ("run -d host sh -c x --name y", ["host", "sh", "-c", "x", "--name", "y"]),
        ("run host -- sh", ["host", "--", "sh"]),
        ("run -- host sh -d", ["host", "sh", "-d"]),
        ("run -d -- host -x", ["host", "-x"]),
        ("run host -1 --", ["host", "-1", "--"]),
        ("run -e A=B host echo --help", ["host", "echo", "--help"]),
        ("run -", ["-"]),
        ("stop a -t 3 b", ["a", "b"]),
        ("stop -t 3 -- -a", ["-a"]),
        ("logs -f bird -n 5", ["bird"]),
    ],
)
def test_what_belongs_to_the_payload(line, words):
    assert bind(line)[0] == words


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("run -de A=B host", "env", ("A=B",)),
        ("run -eA=B host", "env", ("A=B",)),
        ("run -e A=B -e C host", "env", ("A=B", "C")),
        ("run --env=A=B host", "env", ("A=B",)),
        ("run -e=A=B host", "env", ("A=B",)),
        ("run -e -d host", "env", ("-d",)),
        ("run --name=x host", "name", "x"),
        ("run --name= host", "name", ""),
        ("run --name x --name y host", "name", "y"),
        ("run -m512m host", "memory", "512m"),
        ("run -m=512m host", "memory", "512m"),
        ("run -c -5 host", "cpu_shares", -5),
        ("run --pids-limit=-1 host", "pids_limit", -1),
        ("run --stop-timeout -1 host", "stop_timeout", -1),
        ("run -h box host", "hostname", "box"),
        ("run --entrypoint= host", "entrypoint", ""),
        ("run host", "entrypoint", None),
        ("run --net host host", "network", ("host",)),
        ("run --rm=false host", "rm", False),
        ("run -l a=b -l c host", "label", ("a=b", "c")),
    ],
)
def test_container_options(line, field, value):
    assert getattr(bind(line)[2], field) == value


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("run -d host", "detach", True),
        ("run -d=false host", "detach", False),
        ("run -dq host", "detach", True),
        ("run --detach=T host", "detach", True),
        ("run --sig-proxy=false host", "sig_proxy", False),
        ("run -d --replicas 3 host", "replicas", 3),
        ("stop -t -1 a", "timeout", -1),
        ("stop a --time=3", "timeout", 3),
        ("logs -fn5 a", "tail", "5"),
        ("logs -n -1 a", "tail", "-1"),
        ("ps -aq", "quiet", True),
        ("ps -n2", "last", 2),
        ("ps -f status=exited -f label=a", "filter", ("status=exited", "label=a")),
    ],
)
def test_options(line, field, value):
    assert bind(line)[1][field] == value


@pytest.mark.parametrize(
    ("line", "text", "code"),
    [
        ("ps --foo", "unknown flag: --foo", 125),
        ("ps -x", "unknown shorthand flag: 'x' in -x", 125),
        ("ps -ax", "unknown shorthand flag: 'x' in -ax", 125),
        ("run --name", "flag needs an argument: --name", 125),
        ("run -de", "flag needs an argument: 'e' in -de", 125),
        ("run --detach=maybe host", 'invalid argument "maybe" for "-d, --detach"', 125),
        ("run", "'mdocker run' requires at least 1 argument", 1),
        ("rename a", "'mdocker rename' requires 2 arguments", 1),
        ("rename a b c", "'mdocker rename' requires 2 arguments", 1),
        ("ps a", "'mdocker ps' accepts no arguments", 1),
        ("images a b", "'mdocker images' requires at most 1 argument", 1),
        ("import", "'mdocker import' requires at least 1 argument", 1),
    ],
)
def test_wrong_lines(line, text, code):
    with pytest.raises(UsageError, match="^" + __import__("re").escape(text)) as caught:
        bind(line)
    assert caught.value.code == code


def test_a_number_that_is_none_goes_to_cyclopts():
    with pytest.raises(binding.NotPlain):
        bind("stop -t soon a")


@pytest.mark.parametrize(
    "line",
    [
        "run --replicas 1.5 host",
        "run --replicas .5 host",
        "run --replicas +1.5 host",
        "run --replicas 1_0.5 host",
        "stop -t 0.4 a",
        "stop -t .5 a",
        "stop -t -1.0 a",
        "run --pids-limit 7. host",
    ],
)
def test_a_fraction_is_no_whole_number(line):
    with pytest.raises(UsageError, match=r'invalid argument ".*" for ".*": must be a whole number'):
        bind(line)


def value_for(option):
    if option.kind is bool:
        return st.sampled_from(["true", "false"])
    if option.kind is int:
        return st.integers(-(10**6), 10**6).map(str)
    return st.text(
        st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]),
        max_size=8,
    )


@st.composite
def lines(draw):
    """Any well-formed line of any command."""
    name = draw(st.sampled_from(sorted(SHAPES)))
    shape = SHAPES[name]
    words = []
    options = sorted(set(shape.options.values()), key=lambda o: o.names)
    if options:
        for option in draw(st.lists(st.sampled_from(options), max_size=6)):
            spelling = draw(st.sampled_from(option.names))
            value = draw(value_for(option))
            if option.kind is bool and value == "true" and draw(st.booleans()):
                words.append(spelling)
            elif option.kind is bool or draw(st.booleans()):
                words.append(f"{spelling}={value}")
            elif not spelling.startswith("--") and draw(st.booleans()) and value[:1] != "=":
                words.append(spelling + value if value else spelling + "=")
            else:
                words += [spelling, value]
    plain = draw(
        st.lists(
            st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=6),
            min_size=len(shape.words),
            max_size=len(shape.words) + (4 if shape.rest else shape.optional),
        )
    )
    return [name, *words, "--", *plain]


@given(lines())
def test_both_binders_agree(line):
    """What the plain binder makes of a line is what cyclopts makes of it."""
    name, *words = line
    shape = SHAPES[name]
    parsed = binding.parse(words, shape.options, interspersed=not BY_NAME[name].payload)
    plain_words, plain = binding.bind(shape, parsed)
    function, bound, _ = make_app().parse_args(
        [*name.split(), *binding.canonical(parsed)], exit_on_error=False, print_error=False
    )
    assert function is load(BY_NAME[name])
    assert list(bound.args) == plain_words
    by_cyclopts = dict(bound.kwargs)
    for holder in shape.flattened:
        plain.setdefault(holder, shape.flattened[holder]())
        by_cyclopts.setdefault(holder, shape.flattened[holder]())
    assert by_cyclopts == plain


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_resolves(command):
    """Laziness fails late: each string of the table names a function with a docstring."""
    module, _, function = command.path.partition(":")
    loaded = getattr(importlib.import_module(module), function)
    assert loaded.__doc__
    assert app_of(make_app(), command).default_command is loaded
    assert len(command.help) <= 60


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_no_two_options_share_a_spelling(command):
    spellings = {}
    for option in set(SHAPES[command.name].options.values()):
        for name in option.names:
            assert spellings.setdefault(name, option) is option
            assert name.startswith("--") == (len(name) > 2)
