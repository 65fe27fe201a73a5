"""Options of Docker's that this client knows and does not do yet: refused by name, with why.

An option that is parsed and ignored would be a lie, and "unknown flag" would send people
looking for a typing mistake.
"""

from __future__ import annotations

from mdocker.errors import FAILED, REFUSED, UsageError
from mdocker.table import Command

_PORTS = "networks and published ports come later; use --network host"
_REAL_TIME = (
    "cgroups v2 share out no real-time time, and v1 only what each cgroup above was given; "
    "use --cpu-shares or --cpu-quota"
)
_AT_START = "what runs keeps those that it was started with: create it anew"

_RUN = {
    **dict.fromkeys(("--publish", "-p", "--publish-all", "-P", "--expose", "--link"), _PORTS),
    **dict.fromkeys(("--ip", "--ip6", "--mac-address", "--network-alias"), _PORTS),
    "--gpus": "there are no device drivers; name the nodes, such as --device /dev/nvidia0",
    **dict.fromkeys(("--cpu-rt-period", "--cpu-rt-runtime"), _REAL_TIME),
    "--runtime": "there is one runtime, mdocker's own",
    "--isolation": "that is for Windows",
}

_OTHERS = {
    "update": {
        **dict.fromkeys(("--cpu-rt-period", "--cpu-rt-runtime"), _REAL_TIME),
        **dict.fromkeys(("--ulimit", "--sysctl", "--oom-score-adj"), _AT_START),
    },
    "rm": dict.fromkeys(("--link", "-l"), "links between containers are not done"),
    "images": dict.fromkeys(("--digests", "--tree"), "registries come later"),
    "build": {
        **dict.fromkeys(
            (
                *("--secret", "--ssh", "--output", "-o", "--progress", "--cache-to", "--load"),
                *("--push", "--builder", "--attest", "--sbom", "--provenance", "--metadata-file"),
                *("--no-cache-filter", "--build-context", "--allow", "--annotation", "--call"),
                "--check",
            ),
            "that is BuildKit's; this is the classic builder",
        ),
        "--squash": "steps stay layers of their own",
        "--compress": "a context is sent over a unix socket, where that would only cost time",
        "--isolation": "that is for Windows",
        "--security-opt": "its steps are confined as containers are that ask for nothing",
        "--disable-content-trust": "images are not signed",
    },
    "import": {"--platform": "an image is always for this machine's platform"},
}

COMMANDS = {
    "search": "registries have no search in common: look at their web pages",
    "builder": "the build cache are the images themselves: 'mdocker image prune' clears it",
    "network": _PORTS,
}
"""Docker's commands that are not here yet, and why."""

_GLOBAL = frozenset(
    {"--host", "-H", "--root", "--run-dir"}
    | {"--tls", "--tlsverify", "--tlscacert", "--tlscert", "--tlskey"}
)


def refuse(command: Command, spelling: str) -> None:
    """Raise what is to say about an option that the command does not have, if anything is.

    Raises:
        UsageError: It comes later, or stands at the wrong place.
    """
    known = _RUN if command.name in ("run", "create") else _OTHERS.get(command.name, {})
    if spelling in known:
        code = REFUSED if command.payload else FAILED
        raise UsageError(f"{spelling} is not supported yet: {known[spelling]}", code)
    if spelling in _GLOBAL:
        raise UsageError(
            f"{spelling} must stand before the command: mdocker {spelling} … {command.name}"
        )
