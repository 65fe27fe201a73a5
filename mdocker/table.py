"""Every command: its name, where it lives, one line of help, its group. Strings only.

`mdocker/cli.py` makes the cyclopts App of it; `mdocker/launch.py` finds the one command that
was typed, and imports that alone.
"""

from __future__ import annotations

from typing import NamedTuple

CONTAINERS = "Containers"
LOOK = "Look"
IMAGES = "Images"
VOLUMES = "Volumes"
ENGINE = "Engine"


class Command(NamedTuple):
    """One command.

    Attributes:
        name: What a person types: one word, or two where several commands are about one thing.
        path: `module:function`.
        help: One line, for the list of commands.
        group: The heading it stands under.
        usage: The words after its name, for the help page.
        payload: Whether everything after the first plain word belongs to the payload.
    """

    name: str
    path: str
    help: str
    group: str
    usage: str
    payload: bool = False


_C = "CONTAINER [CONTAINER...]"

COMMANDS: tuple[Command, ...] = (
    Command(
        "run",
        "mdocker.commands.run:run",
        "Create and start a container, or N at once",
        CONTAINERS,
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        True,
    ),
    Command(
        "create",
        "mdocker.commands.run:create",
        "Create a container without starting it",
        CONTAINERS,
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        True,
    ),
    Command(
        "exec",
        "mdocker.commands.exec:execute",
        "Run a command in a running container",
        CONTAINERS,
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        True,
    ),
    Command(
        "start",
        "mdocker.commands.lifecycle:start",
        "Start containers that were created or have stopped",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "stop",
        "mdocker.commands.lifecycle:stop",
        "Stop containers: a signal, then SIGKILL after the timeout",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "kill",
        "mdocker.commands.lifecycle:kill",
        "Send a signal to containers (SIGKILL)",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "restart",
        "mdocker.commands.lifecycle:restart",
        "Stop and start containers again",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "pause",
        "mdocker.commands.pause:pause",
        "Stop all processes of containers where they are",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "unpause",
        "mdocker.commands.pause:unpause",
        "Let paused containers go on",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "rm",
        "mdocker.commands.lifecycle:rm",
        "Remove containers",
        CONTAINERS,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "wait",
        "mdocker.commands.lifecycle:wait",
        "Wait for containers to end, print their exit codes",
        CONTAINERS,
        _C,
    ),
    Command(
        "rename",
        "mdocker.commands.lifecycle:rename",
        "Give a container another name",
        CONTAINERS,
        "CONTAINER NEW_NAME",
    ),
    Command(
        "update",
        "mdocker.commands.update:update",
        "Change the limits and the restart policy of containers",
        CONTAINERS,
        f"[OPTIONS] {_C}",
    ),
    Command(
        "container prune",
        "mdocker.commands.prune:container",
        "Remove all containers that do not run",
        CONTAINERS,
        "[OPTIONS]",
    ),
    Command(
        "cp",
        "mdocker.commands.copy:copy",
        "Copy files between a container and this machine",
        CONTAINERS,
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    ),
    Command(
        "export",
        "mdocker.commands.export:export",
        "Write a container's root file system as a tar",
        CONTAINERS,
        "[OPTIONS] CONTAINER",
    ),
    Command(
        "commit",
        "mdocker.commands.commit:commit",
        "Make an image of what a container is now",
        CONTAINERS,
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    ),
    Command(
        "diff",
        "mdocker.commands.diff:diff",
        "Show what a container has changed in its image's files",
        LOOK,
        "CONTAINER",
    ),
    Command("ps", "mdocker.commands.look:ps", "List containers", LOOK, "[OPTIONS]"),
    Command(
        "logs",
        "mdocker.commands.streams:logs",
        "Show what containers have printed, one or several",
        LOOK,
        "[OPTIONS] CONTAINER [CONTAINER...] | --all",
    ),
    Command(
        "attach",
        "mdocker.commands.streams:attach",
        "Type into a running container, show what it prints",
        LOOK,
        "[OPTIONS] CONTAINER",
    ),
    Command(
        "inspect",
        "mdocker.commands.inspect:inspect",
        "Show everything about containers, images or volumes",
        LOOK,
        "[OPTIONS] NAME|ID [NAME|ID...]",
    ),
    Command(
        "container inspect",
        "mdocker.commands.inspect:inspect_container",
        "Show everything about containers",
        LOOK,
        "[OPTIONS] CONTAINER [CONTAINER...]",
    ),
    Command(
        "port",
        "mdocker.commands.port:port",
        "Show which addresses lead to a container's ports",
        LOOK,
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
    ),
    Command(
        "timeline",
        "mdocker.commands.timeline:timeline",
        "Show the phases of containers' lives as bars",
        LOOK,
        f"[OPTIONS] {_C}",
    ),
    Command(
        "top",
        "mdocker.commands.top:top",
        "Show the processes of a container",
        LOOK,
        "CONTAINER [ps OPTIONS]",
        True,
    ),
    Command(
        "stats",
        "mdocker.commands.stats:stats",
        "Show what containers use, live",
        LOOK,
        "[OPTIONS] [CONTAINER...]",
    ),
    Command(
        "events",
        "mdocker.commands.streams:events",
        "Show what happens, as it happens",
        LOOK,
        "[OPTIONS]",
    ),
    Command(
        "images",
        "mdocker.commands.images:images",
        "List images",
        IMAGES,
        "[OPTIONS] [REPOSITORY[:TAG]]",
    ),
    Command(
        "import",
        "mdocker.commands.images:import_",
        "Make an image of a root file system's tar",
        IMAGES,
        "[OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]",
    ),
    Command(
        "build",
        "mdocker.commands.build:build",
        "Build an image as a Dockerfile says",
        IMAGES,
        "[OPTIONS] PATH | URL | -",
    ),
    Command(
        "save",
        "mdocker.commands.image_archives:save",
        "Write images as one tar, for 'load' of any engine",
        IMAGES,
        "[OPTIONS] IMAGE [IMAGE...]",
    ),
    Command(
        "load",
        "mdocker.commands.image_archives:load",
        "Load images from a tar that 'save' has written",
        IMAGES,
        "[OPTIONS]",
    ),
    Command(
        "pull",
        "mdocker.commands.transfers:pull",
        "Download an image from a registry",
        IMAGES,
        "[OPTIONS] NAME[:TAG|@DIGEST]",
    ),
    Command(
        "push",
        "mdocker.commands.transfers:push",
        "Upload an image to a registry",
        IMAGES,
        "[OPTIONS] NAME[:TAG]",
    ),
    Command(
        "tag",
        "mdocker.commands.images:tag",
        "Give an image one more name",
        IMAGES,
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    ),
    Command(
        "history",
        "mdocker.commands.image_history:history",
        "Show what an image was made of",
        IMAGES,
        "[OPTIONS] IMAGE",
    ),
    Command(
        "rmi",
        "mdocker.commands.images:rmi",
        "Remove images",
        IMAGES,
        "[OPTIONS] IMAGE [IMAGE...]",
    ),
    Command(
        "image inspect",
        "mdocker.commands.inspect:inspect_image",
        "Show everything about images",
        IMAGES,
        "[OPTIONS] IMAGE [IMAGE...]",
    ),
    Command(
        "image prune",
        "mdocker.commands.prune:image",
        "Remove images that no container uses",
        IMAGES,
        "[OPTIONS]",
    ),
    Command(
        "network prune",
        "mdocker.commands.prune:network",
        "Remove networks that no container uses",
        ENGINE,
        "[OPTIONS]",
    ),
    Command(
        "volume create",
        "mdocker.commands.volumes:create",
        "Create a volume",
        VOLUMES,
        "[OPTIONS] [NAME]",
    ),
    Command("volume ls", "mdocker.commands.volumes:ls", "List volumes", VOLUMES, "[OPTIONS]"),
    Command(
        "volume inspect",
        "mdocker.commands.volumes:inspect",
        "Show everything about volumes",
        VOLUMES,
        "[OPTIONS] VOLUME [VOLUME...]",
    ),
    Command(
        "volume rm",
        "mdocker.commands.volumes:rm",
        "Remove volumes",
        VOLUMES,
        "[OPTIONS] VOLUME [VOLUME...]",
    ),
    Command(
        "volume prune",
        "mdocker.commands.volumes:prune",
        "Remove volumes that no container has",
        VOLUMES,
        "[OPTIONS]",
    ),
    Command(
        "login",
        "mdocker.commands.login:login",
        "Log in to a registry",
        ENGINE,
        "[OPTIONS] [SERVER]",
    ),
    Command(
        "logout",
        "mdocker.commands.login:logout",
        "Forget the login to a registry",
        ENGINE,
        "[SERVER]",
    ),
    Command(
        "version",
        "mdocker.commands.system:version",
        "Show the versions of client and engine",
        ENGINE,
        "[OPTIONS]",
    ),
    Command(
        "system df",
        "mdocker.commands.disk_usage:disk_usage",
        "Show what images, containers, logs and volumes weigh",
        ENGINE,
        "[OPTIONS]",
    ),
    Command(
        "system check",
        "mdocker.commands.store_check:check",
        "Read all images again, tell what is not as it was stored",
        ENGINE,
        "[OPTIONS]",
    ),
    Command(
        "system prune",
        "mdocker.commands.prune:system",
        "Remove all that is not used",
        ENGINE,
        "[OPTIONS]",
    ),
    Command("info", "mdocker.commands.system:info", "Show the engine's state", ENGINE, "[OPTIONS]"),
    Command(
        "completion",
        "mdocker.commands.completion:completion",
        "Teach bash, zsh or fish to complete mdocker's lines",
        ENGINE,
        "bash|zsh|fish",
    ),
    Command(
        "daemon",
        "mdocker.commands.daemon:daemon",
        "Run the engine in the foreground",
        ENGINE,
        "[OPTIONS]",
    ),
)

_OF_CONTAINERS = (
    *("attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs"),
    *("pause", "port", "ps", "rename", "restart", "rm", "run", "start", "stats", "stop", "top"),
    *("unpause", "update", "wait"),
)
_OF_IMAGES = ("build", "history", "import", "load", "pull", "push", "save", "tag")

ALIASES: dict[str, str] = {
    # Of several for the same a TAB offers the first.
    **dict.fromkeys(("container ls", "container list"), "ps"),
    **{f"container {name}": name for name in _OF_CONTAINERS},
    **dict.fromkeys(("image ls", "image list"), "images"),
    **{f"image {name}": name for name in _OF_IMAGES},
    **dict.fromkeys(("image rm", "image remove"), "rmi"),
    **{f"system {name}": name for name in ("events", "info")},
    "builder build": "build",
    "container remove": "rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
}
"""Docker's longer names of commands, and what they are called here."""
