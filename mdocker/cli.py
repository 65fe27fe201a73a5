"""The cyclopts App: help pages, and every value that the plain binder leaves to it.

Commands are registered as strings, so that importing this module imports none of them.
"""

from __future__ import annotations

from cyclopts import App, Group

from mdocker.help_page import HelpPage
from mdocker.table import ALIASES, COMMANDS, CONTAINERS, ENGINE, IMAGES, LOOK, VOLUMES, Command

INTRODUCTION = """\
Runs many containers under one supervisor, and speaks the Docker Engine API.

Before the command: -H/--host unix:///PATH, --root DIR, --run-dir DIR (or MDOCKER_HOST,
MDOCKER_ROOT, MDOCKER_RUN_DIR). An engine is started when none listens.

Try: mdocker run -d --name bird host sleep 60; mdocker ps; mdocker stop -t 1 bird
"""


def make_app() -> App:
    """Build the App with all commands, none of them imported."""
    groups = {
        name: Group(name, sort_key=order)
        for order, name in enumerate((CONTAINERS, LOOK, IMAGES, VOLUMES, ENGINE))
    }
    app = App(
        name="mdocker",
        help=INTRODUCTION,
        usage="Usage: mdocker [GLOBAL OPTIONS] COMMAND ...",
        help_format="plaintext",
        help_formatter=HelpPage(),
        help_flags=["--help"],
        version_flags=[],
        group_commands=Group("Commands", sort_key=9),
    )
    for command in COMMANDS:
        *above, name = command.name.split()
        _app_above(app, above, groups[command.group]).command(
            command.path,
            name=name,
            help=command.help,
            group=None if above else groups[command.group],
            usage=f"Usage: mdocker {command.name} {command.usage}",
        )
    return app


def _app_above(app: App, words: list[str], group: Group) -> App:
    """Return the App of what several commands are about, such as volumes; made at first use."""
    if not words:
        return app
    (name,) = words
    if name not in app:
        about = App(
            name=name,
            group=group,
            help=", ".join(
                full.removeprefix(f"{name} ")
                for full in (*(command.name for command in COMMANDS), *ALIASES)
                if full.startswith(f"{name} ")
            ),
            usage=f"Usage: mdocker {name} COMMAND ...",
            help_flags=["--help"],
            version_flags=[],
            group_commands=Group("Commands", sort_key=9),
        )
        app.command(about)
    return app[name]


def app_of(app: App, command: Command) -> App:
    """Return the App of one command."""
    for word in command.name.split():
        app = app[word]
    return app
