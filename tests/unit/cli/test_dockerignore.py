"""What .dockerignore leaves out."""

from __future__ import annotations

import os
import re
import tempfile

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mdocker import dockerignore
from mdocker.dockerignore import BadPattern, Rules


def excluded(path, *lines):
    return Rules(lines).excludes(path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("**", "file"),
        ("**/", "dir/file"),
        ("**/**", "dir/file"),
        ("dir/**", "dir/dir2/file"),
        ("**/dir", "dir"),
        ("**/dir", "a/dir/file"),
        ("**/dir2/*", "dir/dir2/file"),
        ("**/dir2/**", "dir/dir2/dir3/file"),
        ("**file", "dir/my-file"),
        ("**file*", "dir/file.txt"),
        ("**/file", "dir/dir/file"),
        ("**/file*.txt*", "dir/dir/file.txt"),
        ("**/**/*.txt", "file.txt"),
        ("a**/*.txt", "a/dir/dir/file.txt"),
        ("a/*.txt**", "a/file.txt"),
        ("a[b-d]e", "ace"),
        ("a[^b-d]e", "aze"),
        (".*", ".foo"),
        ("abc?def", "abcZdef"),
        ("a(b)c/def", "a(b)c/def"),
        ("a.|)$(}+{bc", "a.|)$(}+{bc"),
        (r"a\*b", "a*b"),
        (r"[\]a]", "]"),
        (r"[x\-]", "-"),
        ("[a-ζ]*", "α"),
        ("docs", "docs/a/b"),
        ("/docs/", "docs"),
        ("  ./a/../docs  ", "docs"),
        ("docs\r\n", "docs"),
        ("\ufeffdocs", "docs"),
        ("\\#docs", "#docs"),
        ("sp ace", "sp ace"),
        ("caf\udce9", "caf\udce9"),
    ],
)
def test_it_is_left_out(pattern, path):
    assert excluded(path, pattern)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*.txt", "a/file.txt"),
        ("**/**/*.txt2", "dir/dir/file.txt"),
        ("a/*.txt", "a/dir/file.txt"),
        ("a[b-d]e", "ae"),
        (".*", "foo"),
        ("abc.def", "abcZdef"),
        ("abc?def", "abc/def"),
        ("abc/**", "abc"),
        ("**/.foo", "bar.foo"),
        ("docs", "docs2"),
        ("docs", "a/docs"),
        ("../docs", "docs"),
        (".", "docs"),
        ("/", "docs"),
        ("#docs", "#docs"),
        ("", "docs"),
    ],
)
def test_it_is_kept(pattern, path):
    assert not excluded(path, pattern)


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["*", "!keep"], True),
        (["*", "! /keep/ "], True),
        (["!keep", "*"], False),
        (["keep", "!keep/in"], False),
        (["**", "!**/kee?"], True),
        (["kee*", "!keep", "k*"], False),
    ],
)
def test_the_last_line_that_matches_decides(lines, kept):
    assert Rules(lines).excludes("keep") is not kept


@pytest.mark.parametrize(
    ("lines", "path", "out"),
    [
        (["a/b", "!a"], "a/b/c", True),
        (["a/b", "!a/b/c"], "a/b/c", False),
        (["a", "!a/b"], "a/b/c", False),
        (["a", "!a/b"], "a/c", True),
        (["a", "!a/b", "a/b/c"], "a/b/c", True),
        (["a", "!a/b", "a"], "a/b", False),
        (["**", "!util/docker/web"], "util/docker/web/foo", False),
        (["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", True),
    ],
)
def test_what_holds_below_a_directory(lines, path, out):
    """As the docker CLI 28.2.2 sends it."""
    assert Rules(lines).excludes(path) is out


@pytest.mark.parametrize(
    ("exception", "directory", "leads"),
    [
        ("!a/b/c", "a", True),
        ("!a/b/c", "a/b", True),
        ("!a/b/c", "a/b/c", False),
        ("!a/b/c", "b", False),
        ("!a/*/c", "a/x", True),
        ("!*", "a", False),
        ("!**/c", "any/where", True),
        ("!a/**", "b", False),
        ("!a/x**", "a/b", True),
        ("a/b/c", "a", False),
    ],
)
def test_where_an_exception_may_be(exception, directory, leads):
    assert Rules(["**", exception]).may_keep_below(directory) is leads


@pytest.mark.parametrize(
    "pattern",
    ["[]a]", "[-]", "[x-]", "[-x]", "a\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "[z-a]", "!", "! "],
)
def test_what_is_no_pattern_is_told_with_its_line(pattern):
    with pytest.raises(BadPattern, match=r"^mine, line 2: .* syntax error in pattern: "):
        Rules(["fine", pattern], "mine")


NAMES = st.sampled_from(["a", "b", "ab", "a.c", ".b", "a-b"])
PARTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*.c", "?", ".b", "[ab]", "[a-c]*", "a?c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
PATTERNS = st.builds(
    lambda slash, parts, end: slash + "/".join(parts) + end,
    st.sampled_from(["", "/"]),
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "/", " "]),
)


@given(st.lists(PATTERNS, max_size=3), st.lists(PATTERNS, max_size=3), PATHS)
def test_single_paths_are_judged_as_docker_py_judges_them(lines, exceptions, path):
    """But for `**`, which it finds at one depth alone, and for exceptions of what is above."""
    build = pytest.importorskip("docker.utils.build")
    assume("/" not in path or not Rules(exceptions).excludes(path.rpartition("/")[0]))
    lines = [*lines, *(f"!{line}" for line in exceptions)]
    assert Rules(lines).excludes(path) == build.PatternMatcher(lines).matches(path)


@given(
    st.lists(PATTERNS, max_size=2),
    st.lists(st.sampled_from(["**/", "a/**/", "**/a/", "*/**/"]), min_size=1, max_size=2),
    PARTS,
    st.lists(PATHS, min_size=1, max_size=6),
)
def test_a_tree_is_walked_as_docker_py_walks_it(lines, stars, last, paths):
    build = pytest.importorskip("docker.utils.build")
    lines = [*lines, *(f"{star}{last}" for star in stars)]
    with tempfile.TemporaryDirectory() as root:
        for path in paths:
            os.makedirs(os.path.join(root, path), exist_ok=True)
        theirs = set(build.PatternMatcher(lines).walk(root))
        rules = Rules(lines)
        ours = {
            os.path.relpath(os.path.join(above, name), root)
            for above, names, _ in os.walk(root)
            for name in names
        }
        assert {path for path in ours if not rules.excludes(path)} == theirs


@pytest.mark.parametrize("pattern", ["*a" * 40 + "b", "**/*" * 12 + "x", "**/" + "*a" * 20 + "/b"])
def test_no_pattern_takes_for_ever(pattern):
    name = "a" * 200
    assert not excluded(name, pattern)
    assert not excluded("a/b/c/d/e/f/g/h/i/j/k/l/m/n/" + name, pattern)
    assert excluded(f"a/b/c/d/e/f/g/h/i/j/k/l/m/n/{name}/x", "**/*" * 12 + "x")
    assert excluded(name + "b", "*a" * 40 + "b")


@given(
    st.lists(st.sampled_from(["*", "**", "**/", "/", "a", "b", "?", "[a-b]", "\\*"]), max_size=9),
    st.text("ab/*\n", max_size=12),
)
def test_many_stars_mean_the_same_as_few(parts, path):
    pieces = dockerignore._pieces("".join(parts))
    expression = re.compile("".join(piece.expression for piece in pieces))
    walked = dockerignore._Walk(pieces).fullmatch(path)
    assert walked == bool(expression.fullmatch(path))
