"""The cyclopts App: help pages, and every value that the plain binder leaves to it.

Commands are registered as strings, so that importing this module imports none of them.
"""

from __future__ import annotations

from cyclopts import App, Group

from mdocker.table import COMMANDS, CONTAINERS, ENGINE, IMAGES, LOOK

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
        for order, name in enumerate((CONTAINERS, LOOK, IMAGES, ENGINE))
    }
    app = App(
        name="mdocker",
        help=INTRODUCTION,
        usage="Usage: mdocker [GLOBAL OPTIONS] COMMAND ...",
        help_format="plaintext",
        help_formatter="plain",
        help_flags=["--help"],
        version_flags=[],
        group_commands=Group("Commands", sort_key=9),
    )
    for command in COMMANDS:
        app.command(
            command.path,
            name=command.name,
            help=command.help,
            group=groups[command.group],
            usage=f"Usage: mdocker {command.name} {command.usage}",
        )
    return app
