"""A Dockerfile's text becomes lines, and lines typed instructions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images import instructions as settings
from supervisor.building import instructions
from supervisor.building.dockerfile import KEYWORDS, read
from supervisor.building.errors import DockerfileRefused
from supervisor.building.instructions import Arg, Copy, From, Maintainer, Run, plan


def lines(text):
    return [(one.number, one.keyword, one.text) for one in read(text.encode()).lines]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM x", [(1, "FROM", "x")]),
        ("from x\nrun  a  b ", [(1, "FROM", "x"), (2, "RUN", "a  b")]),
        ("\n# words\n\n  FROM x\r\n", [(4, "FROM", "x")]),
        ("RUN a \\\n  b\\\nc\nCMD d", [(1, "RUN", "a   bc"), (4, "CMD", "d")]),
        ("RUN a \\\n# words\n\n  # more\n b\nCMD c", [(1, "RUN", "a  b"), (6, "CMD", "c")]),
        ("RUN a \\   \n b", [(1, "RUN", "a  b")]),
        ("RUN\\\n a", [(1, "RUN", "a")]),
        ("RUN \\\n\\\n a", [(1, "RUN", "a")]),
        ("RUN a \\", [(1, "RUN", "a")]),
        ("RUN a \\\n\n", [(1, "RUN", "a")]),
        ("RUN a # no comment", [(1, "RUN", "a # no comment")]),
        ("# escape=`\nRUN a\\\nCMD b `\n c", [(2, "RUN", "a\\"), (3, "CMD", "b  c")]),
        ("# syntax=docker/dockerfile:1\n# ESCAPE = `\nRUN a `\n b", [(3, "RUN", "a  b")]),
        ("# words\n# escape=`\nRUN a \\\n b", [(3, "RUN", "a  b")]),
        ("\ufeffFROM x", [(1, "FROM", "x")]),
        ("CMD", [(1, "CMD", "")]),
        ("ENV\tA=1", [(1, "ENV", "A=1")]),
        ("RUN echo $((1<<3)) a<<b", [(1, "RUN", "echo $((1<<3)) a<<b")]),
        ('RUN ["cat", "<<EOF"]', [(1, "RUN", '["cat", "<<EOF"]')]),
        ("RUN it's <<", [(1, "RUN", "it's <<")]),
    ],
)
def test_lines(text, found):
    assert lines(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "dockerfile parse error: file with no instructions"),
        ("# a\n", "dockerfile parse error: file with no instructions"),
        ("FROM x\n\nfoo bar", "dockerfile parse error line 3: unknown instruction: FOO"),
        ("FROM x\nfoo", "dockerfile parse error line 2: unknown instruction: FOO"),
        ("COMMENT x", "line 1: unknown instruction: COMMENT"),
        ("# escape=x\nFROM x", "line 1: invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM x", "line 2: only one escape parser directive can be used"),
        ("FROM x\nRUN cat <<EOF\nfoo\nEOF", "line 2: RUN with a heredoc (<<EOF) requires BuildKit"),
        ("FROM x\nCOPY <<-'E' /x\nfoo\nE", "line 2: COPY with a heredoc (<<-'E') requires BuildK"),
        ('FROM x\nRUN 3<<"E" cat', "line 2: RUN with a heredoc"),
    ],
)
def test_no_lines(text, words):
    with pytest.raises(DockerfileRefused) as refusal:
        read(text.encode())
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "# escape=" + " " * 500_000 + "x",
        "#" + " " * 500_000 + "x",
        "RUN " + "\\ " * 300_000 + "x",
        "RUN" + "\\" * 300_000 + "x",
        "RUN x" + " " * 500_000 + "\\\n",
        "RUN \\\n" * 19_000,
        "RUN \\\n" * 30_000,
        "RUN x <<" + "<<" * 200_000,
        "ENV A=${" * 100_000,
        "LABEL " + "a=b " * 100_000,
    ],
)
def test_no_text_takes_long(text):
    try:
        plan(read(f"{text}\nFROM x\n".encode()))
    except DockerfileRefused as refusal:
        assert str(refusal)


def test_what_is_no_text():
    with pytest.raises(DockerfileRefused, match="line 2: the file is no text in UTF-8"):
        read(b"FROM x\nRUN \xff\n")
    with pytest.raises(DockerfileRefused, match="line 2: the file holds a NUL character"):
        read(b"FROM x\nRUN \0\n")


@given(st.text(alphabet=st.sampled_from("RUN \\`#\n\t<E'\"[]=$-FROM"), max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        found = plan(read(text.encode()))
    except DockerfileRefused as refusal:
        assert "\n" not in str(refusal)
        return
    assert found.stages


words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@given(st.lists(words, min_size=1, max_size=6), st.data())
def test_however_a_line_is_broken_it_is_the_same(parts, data):
    breaks = st.sampled_from([" ", " \\\n", " \\\n\n", " \\\n# words\n", " \\ \n\t# a \\\n"])
    text = "".join(part + data.draw(breaks) for part in parts)
    ((_, keyword, found),) = lines(f"RUN {text}")
    assert keyword == "RUN" and found.split() == parts


def step(text):
    *_, last = read(f"FROM x\n{text}".encode()).lines
    return instructions.read(last, "\\").instruction


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM a", From("a")),
        ("FROM a:1 as B-c", From("a:1", "b-c")),
        ("FROM --platform=linux/arm64 a AS b", From("a", "b", "linux/arm64")),
        ("ARG A", Arg((("A", None),))),
        ('ARG A= B="x y" C=$A', Arg((("A", ""), ("B", '"x y"'), ("C", "$A")))),
        ("RUN a  b", Run(settings.Command(("a  b",), is_line=True))),
        ('RUN ["a", "b c"]', Run(settings.Command(("a", "b c")))),
        ("RUN ['a']", Run(settings.Command(("['a']",), is_line=True))),
        ("COPY a b c/", Copy("COPY", ("a", "b"), "c/")),
        ('COPY ["a b", "c"]', Copy("COPY", ("a b",), "c")),
        ("COPY --from=0 --chown=a:b x y", Copy("COPY", ("x",), "y", "0", "a:b")),
        ("ADD --chown=1 http://x/y /z", Copy("ADD", ("http://x/y",), "/z", "", "1")),
        ("COPY -- --from=x y", Copy("COPY", ("--from=x",), "y")),
        ("MAINTAINER a b", Maintainer("a b")),
        ("ONBUILD  RUN a", settings.OnBuild("RUN a")),
        ("WORKDIR /a b", settings.WorkDir("/a b")),
        ("EXPOSE 80 $P", settings.Expose(("80", "$P"))),
    ],
)
def test_instructions(text, found):
    assert step(text) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b"'),
        ("FROM --as=x a", "Unknown flag: as"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =x", "ARG names can not be blank"),
        ('ARG A="x', 'while looking for matching "'),
        ("RUN", "RUN requires at least one argument"),
        ("RUN []", "RUN requires at least one argument"),
        ("RUN --mount=type=cache,target=/x a", "the --mount option requires BuildKit"),
        ("RUN --network=none a", "the --network option requires BuildKit"),
        ("COPY", "COPY requires at least two arguments"),
        ("COPY a", "COPY requires at least two arguments, but only one was provided"),
        ("COPY --chmod=755 a b", "the --chmod option requires BuildKit"),
        ("COPY --link a b", "the --link option requires BuildKit"),
        ("COPY --from= a b", "Missing a value on flag: from"),
        ("COPY --chown a b", "Missing a value on flag: chown"),
        ("COPY --chown=1 --chown=2 a b", "Duplicate flag specified: chown"),
        ("ADD --from=x a b", "Unknown flag: from"),
        ("ADD --checksum=x a b", "the --checksum option requires BuildKit"),
        ("ENV --x=1 A=1", "Unknown flag: x"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form"),
        ("HEALTHCHECK --x=1 CMD a", "HEALTHCHECK Unknown flag: x"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD FOO", "unknown instruction: FOO"),
        ("ONBUILD COPY a", "COPY requires at least two arguments"),
    ],
)
def test_malformed_instructions(text, words):
    with pytest.raises(DockerfileRefused) as refusal:
        step(text)
    assert words in str(refusal.value)
    assert str(refusal.value).startswith("dockerfile parse error line 2: ")


def test_stages():
    found = plan(read(b"ARG A\nARG B=1\nFROM a AS one\nRUN x\nFROM one\nFROM b\nENV A=1\nCMD c\n"))
    assert [one.source for one in found.arguments] == ["ARG A", "ARG B=1"]
    assert [(one.origin.name, len(one.steps)) for one in found.stages] == [
        ("one", 1),
        ("", 0),
        ("", 2),
    ]
    for text in (b"RUN x\nFROM a\n", b"ARG A\n"):
        with pytest.raises(DockerfileRefused, match="no build stage in current context"):
            plan(read(text))


def test_each_keyword_is_read_by_somebody():
    for keyword in KEYWORDS:
        try:
            step(f"{keyword} RUN=b c")
        except DockerfileRefused as refusal:
            assert f"unknown instruction: {keyword}" not in str(refusal)
