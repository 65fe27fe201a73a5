"""Help pages at the width of the terminal."""

from __future__ import annotations

import pytest

from mdocker.launch import launch
from mdocker.table import COMMANDS

GROUPS = ("", "container", "image", "volume", "system", "network")


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_lines_are_broken_once_and_indented(mdocker, monkeypatch, columns):
    """No page has a line that is too long, or one that is broken where its source was, too."""
    monkeypatch.setenv("COLUMNS", str(columns))
    page = mdocker("run", "--help").out
    lines = page.splitlines()
    assert max(map(len, lines)) <= columns
    assert [line for line in lines if line != line.rstrip()] == []
    options = lines[lines.index("Parameters:") + 1 :]
    assert [line for line in options if line and not line.startswith(("  -", "      "))] == []
    joined = " ".join(page.split())
    assert "on-failure[:MAX] (its exit code is not 0; MAX times), always, unless-stopped" in joined


def test_a_paragraph_fills_its_lines(mdocker, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, _, page = mdocker("attach", "--help").out.partition("as it\ndoes.\n\n")
    about, _, _ = page.partition("\n\n")
    assert [len(line) > 65 for line in about.splitlines()[:-1]] == [True, True]


def test_no_page_is_wider_than_can_be_read(mdocker, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    assert max(map(len, mdocker("run", "--help").out.splitlines())) <= 100


@pytest.mark.parametrize("name", [*(command.name for command in COMMANDS), *GROUPS])
def test_every_page_fits(mdocker, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    page = mdocker(*name.split(), "--help").out
    lines = page.splitlines()
    assert [line for line in lines if len(line) > 80 or line != line.rstrip()] == []
    assert page.startswith("Usage: mdocker ")
    assert page.endswith("\n")


@pytest.mark.parametrize(
    ("command", "instead"),
    [("search", "look at their web pages")],
)
def test_a_command_of_dockers_that_comes_later_names_what_there_is(capfd, command, instead):
    assert launch([command, "x"]) != 0
    error = capfd.readouterr().err
    assert f"'{command}' is not supported yet: " in error
    assert instead in error
