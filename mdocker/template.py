"""Go templates for --format: the everyday kind, and a clear error for everything else.

    {{.State.Status}}   {{json .Mounts}}   {{index .Config.Labels "a"}}   {{len .Args}}
    {{range .Mounts}}{{.Source}} {{end}}   {{range $name, $net := .Networks}}…{{else}}…{{end}}
    {{if eq .State.Status "running"}}…{{else if …}}…{{end}}   {{with .Error}}{{.}}{{end}}
    {{$n := .Name}}{{$n | upper}}   {{(index .Mounts 0).Source}}   {{- trims -}}   {{/* says */}}

A template is compiled to closures: a node is a function of the scope that returns a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mdocker.errors import TemplateError
from mdocker.template_functions import (
    FUNCTIONS,
    MISSING,
    NIL,
    OpenMap,
    Value,
    for_headings,
    spell,
    truth,
)

_TOKEN = re.compile(
    r"""\s+
    |(?P<text>"(?:[^"\\\n]|\\.)*")
    |(?P<raw>`[^`]*`)
    |(?P<number>[-+]?\d+(?:\.\d+)?(?![\w.]))
    |(?P<variable>\$\w*)
    |(?P<field>\.[A-Za-z_]\w*)
    |(?P<dot>\.(?!\w))
    |(?P<word>[A-Za-z_]\w*)
    |(?P<sign>:=|=|\||\(|\)|,)
    """,
    re.VERBOSE,
)
_ACTION = re.compile(r"\{\{(-\s)?(.*?)(\s-)?\}\}", re.DOTALL)
_OPEN_MAPS = frozenset(
    {
        *("Labels", "Annotations", "Sysctls", "StorageOpt", "Tmpfs", "Volumes", "Options"),
        *("ExposedPorts", "PortBindings", "Ports", "Networks", "Attributes"),
    }
)
"""Fields that hold maps with any keys: a key that is not there is no mistake."""


class _Token(NamedTuple):
    kind: str
    text: str


class _Scope:
    """The dot and the variables at one place of the template."""

    __slots__ = ("dot", "functions", "root", "variables")

    def __init__(
        self, dot: Value, root: Value, variables: dict[str, Value], functions: Mapping[str, Value]
    ) -> None:
        self.dot = dot
        self.root = root
        self.variables = variables
        self.functions = functions

    def inner(self, dot: Value) -> _Scope:
        return _Scope(dot, self.root, dict(self.variables), self.functions)


_Node = Callable[[_Scope], Value]
_Piece = Callable[[_Scope], str]


class Template:
    """A compiled template.

    Raises:
        TemplateError: The text is no template that this engine understands.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        try:
            self._body = _Parser(_split(text)).whole()
        except TemplateError as error:
            raise TemplateError(f'unable to use the template "{text}": {error}') from None

    def render(self, value: Value) -> str:
        """Fill the template with a value as JSON knows them (or a mapping of texts).

        Raises:
            TemplateError: The value has no such field, or a function refuses what it got.
        """
        return self._render(value, FUNCTIONS)

    def headings(self, headings: Mapping[str, Value]) -> str:
        """Fill the template with a table's headings; functions leave them as they are."""
        functions = {name: for_headings(name, made) for name, made in FUNCTIONS.items()}
        return self._render(headings, functions)

    def _render(self, value: Value, functions: Mapping[str, Value]) -> str:
        try:
            return self._body(_Scope(value, value, {"$": value}, functions))
        except TemplateError as error:
            raise TemplateError(f'unable to fill the template "{self._text}": {error}') from None


def _split(text: str) -> list[tuple[str, str]]:
    """Split into ("text", …) and ("action", …), with the trimming done."""
    parts: list[tuple[str, str]] = []
    position = 0
    trim = False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()]
        if trim:
            before = before.lstrip()
        if match[1]:
            before = before.rstrip()
        parts.append(("text", before))
        action = match[2].strip()
        if not (action.startswith("/*") and action.endswith("*/")):
            parts.append(("action", action))
        trim = bool(match[3])
        position = match.end()
    rest = text[position:]
    if "{{" in rest:
        raise TemplateError('there is a "{{" without its "}}"')
    parts.append(("text", rest.lstrip() if trim else rest))
    return [part for part in parts if part != ("text", "")]


def _tokens(action: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(action):
        match = _TOKEN.match(action, position)
        if match is None:
            raise TemplateError(f'"{action[position:]}" is not understood')
        if match.lastgroup is not None:
            adjoining = position > 0 and not action[position - 1].isspace()
            kind = match.lastgroup
            # `.a.b` and `$x.b` are one value; `f .b` is a function and its argument.
            if kind == "field" and adjoining and tokens and tokens[-1].text not in ("(", "|", ","):
                kind = "member"
            tokens.append(_Token(kind, match[0]))
        position = match.end()
    return tokens


class _Parser:
    """Turns the parts of a template into closures."""

    def __init__(self, parts: list[tuple[str, str]]) -> None:
        self._parts = parts
        self._at = 0

    def whole(self) -> _Piece:
        body, end = self._block()
        if end is not None:
            raise TemplateError(f"there is an {{{{{end}}}}} too many")
        return body

    def _block(self) -> tuple[_Piece, str | None]:
        """Parse up to an `else …` or `end`, which is returned; None at the template's end."""
        pieces: list[_Piece] = []
        while self._at < len(self._parts):
            kind, text = self._parts[self._at]
            self._at += 1
            if kind == "text":
                pieces.append(lambda scope, text=text: text)  # type: ignore[misc]
                continue
            word = text.split(maxsplit=1)[0] if text else ""
            if word in ("end", "else"):
                return _all(pieces), text
            pieces.append(self._action(word, text))
        return _all(pieces), None

    def _action(self, word: str, text: str) -> _Piece:
        if word in ("if", "with", "range"):
            return self._control(word, text[len(word) :].strip())
        if word in ("define", "template", "block", "break", "continue"):
            raise TemplateError(f"{{{{{word}}}}} is not supported")
        if not text:
            raise TemplateError("there is an empty {{}}")
        names, node = _pipeline(text)
        if names:
            name = names[0]

            def assign(scope: _Scope) -> str:
                scope.variables[name] = node(scope)
                return ""

            return assign
        return lambda scope: spell(node(scope))

    def _control(self, word: str, text: str) -> _Piece:
        if not text:
            raise TemplateError(f"{{{{{word}}}}} needs a value")
        names, node = _pipeline(text)
        if len(names) > 1 and word != "range":
            raise TemplateError(f"{{{{{word}}}}} can set one variable only")
        body, end = self._block()
        otherwise: _Piece = _all([])
        if end is not None and end.startswith("else"):
            rest = end[4:].strip()
            if rest:
                inner, _, condition = rest.partition(" ")
                if inner not in ("if", "with"):
                    raise TemplateError(f"{{{{else {rest}}}}} is not supported")
                # `else if` shares the outer one's `end`.
                return _CONTROLS[word](names, node, body, self._control(inner, condition.strip()))
            otherwise, end = self._block()
        if end != "end":
            raise TemplateError(f"the {{{{{word} …}}}} has no {{{{end}}}}")
        return _CONTROLS[word](names, node, body, otherwise)


def _all(pieces: list[_Piece]) -> _Piece:
    return lambda scope: "".join([piece(scope) for piece in pieces])


def _if(names: list[str], node: _Node, body: _Piece, otherwise: _Piece) -> _Piece:
    def run(scope: _Scope) -> str:
        value = node(scope)
        inner = scope.inner(scope.dot)
        inner.variables.update(dict.fromkeys(names, value))
        return body(inner) if truth(value) else otherwise(inner)

    return run


def _with(names: list[str], node: _Node, body: _Piece, otherwise: _Piece) -> _Piece:
    def run(scope: _Scope) -> str:
        value = node(scope)
        inner = scope.inner(value if truth(value) else scope.dot)
        inner.variables.update(dict.fromkeys(names, value))
        return body(inner) if truth(value) else otherwise(inner)

    return run


def _range(names: list[str], node: _Node, body: _Piece, otherwise: _Piece) -> _Piece:
    def run(scope: _Scope) -> str:
        value = node(scope)
        if isinstance(value, Mapping):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif value is None or value == "":
            pairs = []
        else:
            raise TemplateError(f"range can't go over {spell(value)}")
        if not pairs:
            return otherwise(scope.inner(scope.dot))
        out = []
        for key, item in pairs:
            inner = scope.inner(item)
            if len(names) == 1:
                inner.variables[names[0]] = item
            elif names:
                inner.variables.update(zip(names, (key, item), strict=True))
            out.append(body(inner))
        return "".join(out)

    return run


_CONTROLS = {"if": _if, "with": _with, "range": _range}


def _pipeline(text: str) -> tuple[list[str], _Node]:
    """Parse `[$a[, $b] :=] command | command …`."""
    tokens = _tokens(text)
    names: list[str] = []
    for at, token in enumerate(tokens):
        if token.text in (":=", "="):
            names = [name.text for name in tokens[:at:2]]
            commas = [comma.text for comma in tokens[1:at:2]]
            if (
                not 1 <= len(names) <= 2
                or any(not name.startswith("$") or len(name) < 2 for name in names)
                or commas != [","] * (len(names) - 1)
            ):
                raise TemplateError(f'"{text}" sets no variable')
            tokens = tokens[at + 1 :]
            break
    node, at = _commands(tokens, 0)
    if at < len(tokens):
        raise TemplateError(f'"{tokens[at].text}" is not expected in "{text}"')
    return names, node


def _commands(tokens: list[_Token], at: int) -> tuple[_Node, int]:
    node: _Node | None = None
    while True:
        operands: list[_Node] = []
        function = ""
        if at < len(tokens) and tokens[at].kind == "word":
            word = tokens[at].text
            if word not in _LITERALS:
                if word not in FUNCTIONS and word not in ("and", "or"):
                    raise TemplateError(f'the function "{word}" is not defined')
                function = word
                at += 1
        while at < len(tokens) and tokens[at].text not in ("|", ")"):
            operand, at = _operand(tokens, at)
            operands.append(operand)
        if not function and not operands:
            raise TemplateError("a value is missing")
        node = _command(function, operands, node)
        if at >= len(tokens) or tokens[at].text != "|":
            return node, at
        at += 1


_LITERALS: dict[str, Value] = {"true": True, "false": False, "nil": None}


def _operand(tokens: list[_Token], at: int) -> tuple[_Node, int]:
    token = tokens[at]
    at += 1
    node: _Node
    if token.text == "(":
        node, at = _commands(tokens, at)
        if at >= len(tokens):
            raise TemplateError('there is a "(" without its ")"')
        at += 1
    elif token.kind == "field":
        node = _member(lambda scope: scope.dot, token.text[1:], "")
    elif token.kind == "dot":

        def node(scope: _Scope) -> Value:
            return scope.dot

    elif token.kind == "variable":
        node = _variable(token.text)
    elif token.kind in ("text", "raw", "number") or token.text in _LITERALS:
        node = _constant(_literal(token))
    elif token.kind == "word" and token.text in FUNCTIONS:
        node = _command(token.text, [], None)
    else:
        raise TemplateError(f'"{token.text}" is not expected here')
    path = token.text if token.kind == "field" else ""
    while at < len(tokens) and tokens[at].kind == "member":
        node = _member(node, tokens[at].text[1:], path)
        path = tokens[at].text
        at += 1
    return node, at


def _literal(token: _Token) -> Value:
    if token.kind == "raw":
        return token.text[1:-1]
    if token.kind == "number":
        return float(token.text) if "." in token.text else int(token.text)
    if token.kind == "text":
        try:
            return json.loads(token.text, strict=False)
        except ValueError:
            raise TemplateError(f"{token.text} has an escape that is not understood") from None
    return _LITERALS[token.text]


def _constant(value: Value) -> _Node:
    return lambda scope: value


def _variable(name: str) -> _Node:
    def look_up(scope: _Scope) -> Value:
        if name not in scope.variables:
            raise TemplateError(f'the variable "{name}" is not set')
        return scope.variables[name]

    return look_up


def _member(node: _Node, name: str, parent: str) -> _Node:
    def look_up(scope: _Scope) -> Value:
        value = node(scope)
        if value is MISSING:
            return MISSING
        if not isinstance(value, Mapping) or value is NIL:
            what = "nothing" if value is None or value is NIL else "no structure"
            raise TemplateError(f'there is no field "{name}": {parent or "."} is {what}')
        if name in value:
            return value[name]
        if isinstance(value, OpenMap) or parent.removeprefix(".") in _OPEN_MAPS:
            return MISSING
        raise TemplateError(
            f'there is no field "{name}" in {parent or "."}; there are: {", ".join(sorted(value))}'
        )

    return look_up


def _command(function: str, operands: list[_Node], piped: _Node | None) -> _Node:
    if piped is not None:
        operands = [*operands, piped]
    if function in ("and", "or"):
        if not operands:
            raise TemplateError(f"{function} needs a value")

        def choose(scope: _Scope) -> Value:
            value = None
            for operand in operands:
                value = operand(scope)
                if truth(value) == (function == "or"):
                    break
            return value

        return choose
    if function:

        def call(scope: _Scope) -> Value:
            arguments = [operand(scope) for operand in operands]
            arguments = [None if one is MISSING else one for one in arguments]
            try:
                return scope.functions[function](*arguments)
            except TypeError:
                raise TemplateError(f"{function} does not take {len(arguments)} values") from None

        return call
    first, *rest = operands

    def method(scope: _Scope) -> Value:
        value = first(scope)
        if callable(value):
            return value(*(operand(scope) for operand in rest))
        if rest:
            raise TemplateError("a value that is no function has an argument")
        return value

    return method
