"""Docker's longer names of commands: `container ls` for `ps`."""

import pytest

from mdocker.launch import launch
from mdocker.table import ALIASES, COMMANDS


def test_each_means_a_command_that_is_there():
    assert set(ALIASES.values()) <= {command.name for command in COMMANDS}
    assert not set(ALIASES) & {command.name for command in COMMANDS}


def test_every_command_about_containers_has_one():
    longer = (*ALIASES, *(command.name for command in COMMANDS))
    below = {name.removeprefix("container ") for name in longer if " " in name}
    about = {
        command.name
        for command in COMMANDS
        if command.group in ("Containers", "Look") and " " not in command.name
    }
    # Ours alone, and one that is about the engine.
    assert about - below == {"timeline", "events"} - below


def test_they_do_the_same(engine, mdocker):
    engine.json("GET", "/containers/json", [])
    engine.json("GET", "/images/json", [])
    assert mdocker("container", "ls", "-aq") == mdocker("ps", "-aq") == (0, "", "")
    assert mdocker("image", "ls", "-q") == (0, "", "")
    asked = [request[1] for request in engine.requests]
    assert asked == ["/containers/json", "/containers/json", "/images/json"]


@pytest.mark.parametrize("words", [("help", "container", "ls"), ("container", "ls", "--help")])
def test_help(mdocker, words):
    assert mdocker(*words).out.startswith("Usage: mdocker ps [OPTIONS]")


def test_what_there_is_not(capfd):
    assert launch(["container", "colour"]) == 1
    error = capfd.readouterr().err
    assert "unknown command: container colour: there are prune, inspect, ls, list, attach" in error
    assert launch(["network", "ls"]) == 1
    error = capfd.readouterr().err
    assert "network ls: there is prune; networks and published ports come later" in error
