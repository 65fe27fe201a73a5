"""`version` and `info`."""

from __future__ import annotations

import json
import platform
import sys
from typing import Annotated, Any

from mdocker import __version__
from mdocker.client import Engine
from mdocker.errors import FAILED, CliError
from mdocker.messages import Json
from mdocker.options import flag, injected
from mdocker.output import complain, say, warn
from mdocker.times import to_ansic
from mdocker.units import human_binary_size

API_VERSION = "1.50"


def version(
    *,
    format: Annotated[
        str, flag("--format", "-f", help="json, or a Go template such as {{.Server.Version}}")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show the versions of client and engine."""
    client = {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "PythonVersion": platform.python_version(),
        "Os": sys.platform,
        "Arch": _architecture(),
    }
    problem: CliError | None = None
    try:
        server: dict[str, Any] | None = engine.json("GET", "/version")
    except CliError as error:
        server, problem = None, error
    if format:
        say(_formatted(format, {"Client": client, "Server": server}))
    else:
        say("Client: mdocker")
        say(f" Version:           {client['Version']}")
        say(f" API version:       {client['ApiVersion']}")
        say(f" Python version:    {client['PythonVersion']}")
        say(f" OS/Arch:           {client['Os']}/{client['Arch']}")
        if server is not None:
            _print_server(server)
    if problem is not None:
        complain(str(problem))
        return FAILED
    return 0


def _print_server(server: dict[str, Any]) -> None:
    platform_name = (server.get("Platform") or {}).get("Name") or "mdocker"
    say(f"\nServer: {platform_name}")
    say(" Engine:")
    say(f"  Version:          {server.get('Version', '')}")
    say(
        f"  API version:      {server.get('ApiVersion', '')} "
        f"(minimum version {server.get('MinAPIVersion', '')})"
    )
    say(f"  OS/Arch:          {server.get('Os', '')}/{server.get('Arch', '')}")
    say(f"  Kernel:           {server.get('KernelVersion', '')}")
    if server.get("BuildTime"):
        say(f"  Built:            {to_ansic(server['BuildTime'])}")


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def info(
    *,
    format: Annotated[
        str, flag("--format", "-f", help="json, or a Go template such as {{.NCPU}}")
    ] = "",
    engine: Annotated[Engine, injected()],
) -> int:
    """Show the engine's state."""
    about = engine.json("GET", "/info")
    if format:
        say(_formatted(format, about))
        return 0
    say("Client: mdocker")
    say(f" Version:    {__version__}")
    say(f" Socket:     {engine.place.socket}\n")
    say("Server:")
    say(f" Containers: {about.get('Containers', 0)}")
    say(f"  Running: {about.get('ContainersRunning', 0)}")
    say(f"  Paused: {about.get('ContainersPaused', 0)}")
    say(f"  Stopped: {about.get('ContainersStopped', 0)}")
    say(f" Images: {about.get('Images', 0)}")
    for title, key in (
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Logging Driver", "LoggingDriver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Default Runtime", "DefaultRuntime"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
    ):
        if about.get(key) not in (None, ""):
            say(f" {title}: {about[key]}")
        if key == "DefaultRuntime":
            _say_security(about)
    if about.get("MemTotal"):
        say(f" Total Memory: {human_binary_size(about['MemTotal'])}")
    for title, key in (("Name", "Name"), ("ID", "ID"), ("Root Dir", "DockerRootDir")):
        if about.get(key):
            say(f" {title}: {about[key]}")
    _say_registries(about)
    for warning in about.get("Warnings") or []:
        warn(warning)
    return 0


def _say_security(about: Json) -> None:
    """Show what confines containers, as Docker's client does."""
    options = about.get("SecurityOptions") or []
    if options:
        say(" Security Options:")
    for option in options:
        name, *more = (word.partition("=")[::2] for word in option.split(","))
        say(f"  {name[1] or name[0]}")
        for key, value in more:
            say(f"   {key.capitalize()}: {value}")


def _say_registries(about: Json) -> None:
    """Show how the engine reaches registries, in Docker's order."""
    for title, key in (
        ("HTTP Proxy", "HttpProxy"),
        ("HTTPS Proxy", "HttpsProxy"),
        ("No Proxy", "NoProxy"),
    ):
        if about.get(key):
            say(f" {title}: {about[key]}")
    registries = about.get("RegistryConfig") or {}
    indexes = (registries.get("IndexConfigs") or {}).items()
    insecure = [name for name, one in indexes if not one.get("Secure")]
    insecure += registries.get("InsecureRegistryCIDRs") or []
    mirrors = registries.get("Mirrors") or []
    for title, names in (("Insecure Registries", insecure), ("Registry Mirrors", mirrors)):
        if names:
            say(f" {title}:")
        for name in names:
            say(f"  {name}")


def _formatted(format: str, value: Json) -> str:
    if format == "json":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    from mdocker.template import Template

    return Template(format).render(value)
