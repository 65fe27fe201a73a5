"""Arguments, .dockerignore, what is copied where, and what is told."""

from __future__ import annotations

import base64
import json

import anyio
import pytest

from supervisor.building import copying, ignoring
from supervisor.building.arguments import Arguments
from supervisor.building.context import check_remote, checked_path
from supervisor.building.errors import StepFailed
from supervisor.building.fetching import _name, _time
from supervisor.building.instructions import Copy
from supervisor.building.output import CommandOutput, Output
from supervisor.errors import BadParameter, Unsupported
from supervisor.progress import Progress


def test_arguments_and_where_they_hold():
    found = Arguments(
        {"A": "given", "none": None, "HTTP_PROXY": "p", "other": "x", "no_proxy": "n"}
    )
    found.declare_outside([("A", "1"), ("B", "2"), ("C", None)])
    assert found.outside() == {"A": "given", "B": "2"}
    found.begin_stage()
    proxies = {"HTTP_PROXY": "p", "no_proxy": "n"}
    assert found.inside({}) == proxies
    assert found.counting({}) == {}
    found.declare([("A", None), ("B", None), ("D", "4"), ("none", "default"), ("no_proxy", None)])
    assert found.inside({}) == proxies | {"A": "given", "B": "2", "D": "4", "none": "default"}
    assert "no_proxy" in found.counting({}) and "HTTP_PROXY" not in found.counting({})
    # ENV is stronger.
    assert "D" not in found.inside({"D": "x"})
    assert found.unused() == ["other"]
    found.begin_stage()
    assert found.inside({}) == proxies


@pytest.mark.parametrize(
    ("lines", "out", "kept"),
    [
        ("a", ["a", "a/b"], ["b", "b/a"]),
        ("/a/", ["a", "a/b"], ["b/a"]),
        ("*.o", ["x.o"], ["d/x.o", "x.oo"]),
        ("**/*.o", ["x.o", "d/x.o", "d/e/x.o"], ["x.c"]),
        ("a/**", ["a/b", "a/b/c"], ["b"]),
        ("**", ["a", "a/b"], []),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["z", "a/b"]),
        ("**.o", ["x.o", "d/x.o"], ["x.c"]),
        ("a**b", ["ab", "axb", "ax/yb", "ax/y/zb"], ["ba", "b/ab"]),
        ("a**", ["ab", "ab/c", "a/b/c"], ["b/a"]),
        ("# a\n\n*\n!keep", ["a", "keeper"], ["keep", "keep/b"]),
        ("*\n!a/b\na/b/c", ["a/x", "a/b/c"], ["a/b", "a/b/d"]),
        ("[a-c]?", ["ax", "c1"], ["d1", "a"]),
        ("./a/../b", ["b"], ["a"]),
        ("/", [], ["a"]),
        ("\ufeffa", ["a"], ["b"]),
    ],
)
def test_ignored(lines, out, kept):
    rules = ignoring.rules(lines.encode())
    assert [path for path in out + kept if ignoring.excludes(rules, path)] == out


def test_what_is_no_pattern_and_files_of_a_build():
    with pytest.raises(BadParameter, match=r"\.dockerignore: \[a: syntax error in pattern"):
        ignoring.rules(b"a\n[a")
    rules = ignoring.rules(b"Docker*\n")
    assert ignoring.among(rules, ("Dockerfile", ".dockerignore")) == [(False, ["Dockerfile"])]


def test_no_pattern_takes_long():
    stars = "/".join(["**", "a*a*a*b"] * 60)
    assert not ignoring.excludes(ignoring.rules(stars.encode()), "/".join(["a" * 60] * 60))
    for line in (b"a**b/" * 5, b"a**b**c**" * 50):
        try:
            found = ignoring.rules(line)
        except BadParameter as refusal:
            assert "**" in str(refusal)
        else:
            assert len(found) < 20


def order(copy, working_dir="/w", files=()):
    return copying.order_of(copy, {"WorkingDir": working_dir}, [["/c"]], files)


@pytest.mark.parametrize(
    ("destination", "where", "as_directory"),
    [
        ("x", "/w/x", False),
        ("x/", "/w/x", True),
        (".", "/w", True),
        ("..", "/", True),
        ("/x/./y/../z", "/x/z", False),
        ("//x", "/x", False),
        ("/", "/", True),
        ("/x/.", "/x", True),
    ],
)
def test_destinations(destination, where, as_directory):
    found = order(Copy("COPY", ("a",), destination))
    assert (found["destination"], found["as_directory"]) == (where, as_directory)


def test_sources():
    found = order(Copy("COPY", ("/a/./b", ".", "d*/[e]", "./x/"), "/"))
    assert [one.get("path") for one in found["sources"]] == ["a/b", "", None, "x"]
    assert len(found["sources"][2]["pattern"]) == 2
    found = order(Copy("ADD", ("http://x/y", "a", "HTTPS://z"), "/"), files=["y", "z"])
    assert found["sources"] == [
        {"root": 0, "path": "a"},
        {"root": 1, "path": "y"},
        {"root": 2, "path": "z"},
    ]
    assert order(Copy("COPY", ("../../a",), "/", "stage"))["sources"] == [{"root": 0, "path": "a"}]
    for source in ("..", "../a", "a/../../b", "/../a"):
        with pytest.raises(StepFailed, match="forbidden path outside the build context"):
            order(Copy("COPY", (source,), "/"))


@pytest.mark.parametrize(
    ("path", "found"), [("", "Dockerfile"), ("a/./b", "a/b"), ("/a", "a"), ("a/../b", "b")]
)
def test_paths_of_a_dockerfile(path, found):
    assert checked_path(path) == found


def test_what_is_no_context():
    for url in ("git://x/y", "git@x:y", "github.com/x/y", "https://x/y.git#main:d", "ssh://x/y"):
        with pytest.raises(Unsupported, match="clone it"):
            check_remote(url)
    with pytest.raises(BadParameter):
        check_remote("/a/path")
    check_remote("HTTPS://x/y.tar")


@pytest.mark.parametrize(
    ("disposition", "url", "name"),
    [
        ("", "http://x/a/b.tar?q=1", "b.tar"),
        ("", "http://x/a%20b", "a b"),
        ("", "http://x/a%2F..", ""),
        ("", "http://x/%00", ""),
        ('attachment; filename="../c d"', "http://x/", "c d"),
        ("", "http://x/", ""),
    ],
)
def test_names_of_downloads(disposition, url, name):
    assert _name(disposition, url) == name


def test_times_of_downloads():
    assert _time("Sat, 01 Jan 2022 00:00:00 GMT") == 1640995200 * 10**9
    assert _time("") == _time("yesterday") == 0


def test_letters_that_are_cut():
    printed = CommandOutput()
    word = "é".encode()
    assert printed.text(1, b"a" + word[:1]) == "a"
    assert printed.text(2, b"wrong\n") == "\x1b[91mwrong\n\x1b[0m"
    assert printed.text(1, word[1:]) == "é"
    assert printed.text(1, word[:1]) == ""
    assert printed.rest() == "\ufffd"


@pytest.mark.anyio
async def test_a_build_waits_for_its_client():
    """Whoever prints without end fills no memory: each piece waits until the last was taken."""
    progress = Progress()
    output = Output(progress)
    said = []

    async def talk():
        for number in range(3):
            await output.say(str(number))
            said.append(number)
        progress.close()

    async with anyio.create_task_group() as group:
        group.start_soon(talk)
        await anyio.wait_all_tasks_blocked()
        assert said == []
        taken = [json.loads(lines) async for lines in progress.lines()]
    assert said == [0, 1, 2]
    assert [one["stream"] for one in taken] == ["0", "1", "2"]


@pytest.mark.anyio
async def test_a_quiet_build_talks_when_it_fails():
    progress = Progress()
    output = Output(progress, quiet=True)
    await output.say("step")
    assert not progress.begun
    output.failed("words", 3)
    progress.close()
    lines = b"".join([piece async for piece in progress.lines()]).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"stream": "step"},
        {"errorDetail": {"code": 3, "message": "words"}, "error": "words"},
    ]


def test_credentials_by_registry():
    from supervisor.api.build_options import _credentials
    from supervisor.building.bases import _credentials as chosen

    known = {
        "https://index.docker.io/v1/": {"username": "hub"},
        "https://a.example.org/v2/": {"username": "ann"},
        "b.example.org:5000": {"username": "bob"},
    }
    header = base64.urlsafe_b64encode(json.dumps(known).encode()).decode()
    found = _credentials(header)
    assert set(found) == set(known)
    for domain, name in (
        ("docker.io", "hub"),
        ("a.example.org", "ann"),
        ("b.example.org:5000", "bob"),
    ):
        assert chosen(found, domain).username == name
    assert chosen(found, "c.example.org") is None
    for wrong in ("!", base64.b64encode(b"[]").decode(), base64.b64encode(b"x").decode()):
        with pytest.raises(BadParameter, match="X-Registry-Config"):
            _credentials(wrong)
