"""What the engine is: _ping, version, info."""

from __future__ import annotations

import functools
import os
import platform
import socket
import time
from typing import Any

import anyio.to_thread
import msgspec

from runtime import cgroup_abilities
from runtime.images.configuration import architecture
from supervisor import init_program
from supervisor.api.durations import rfc3339_nano
from supervisor.api.limits import cpus, pure_v2
from supervisor.api.messages import Reply, Request
from supervisor.api.router import NEWEST, OLDEST, version_text
from supervisor.confinement import has_apparmor, has_seccomp
from supervisor.engine import Engine
from supervisor.errors import Unsupported
from supervisor.registries import proxies
from supervisor.registries.configuration import RegistryOptions
from supervisor.release import VERSION
from supervisor.states import State

_encode = msgspec.json.Encoder().encode

BASE_HEADERS: list[tuple[bytes, bytes]] = [
    (b"Api-Version", version_text(NEWEST).encode()),
    (b"Docker-Experimental", b"false"),
    (b"Ostype", b"linux"),
    # Older clients read the system from this header, by the pattern "Docker/… (…)".
    (b"Server", f"Docker/mdocker-{VERSION} (linux)".encode()),
]

_PING = Reply(
    body=b"OK",
    content_type=b"text/plain; charset=utf-8",
    headers=(
        (b"Builder-Version", b"1"),
        (b"Swarm", b"inactive"),
        (b"Cache-Control", b"no-cache, no-store, must-revalidate"),
        (b"Pragma", b"no-cache"),
    ),
)


async def ping(_engine: Engine, _request: Request) -> Reply:
    """GET and HEAD /_ping"""
    return _PING


async def version(_engine: Engine, _request: Request) -> Reply:
    """GET /version"""
    kernel = os.uname().release
    python = f"python{platform.python_version()}"
    shown = {
        "Platform": {"Name": "mdocker"},
        "Components": [
            {
                "Name": "Engine",
                "Version": VERSION,
                "Details": {
                    "ApiVersion": version_text(NEWEST),
                    "Arch": architecture(),
                    "BuildTime": "",
                    "Experimental": "false",
                    "GitCommit": "",
                    "GoVersion": python,
                    "KernelVersion": kernel,
                    "MinAPIVersion": version_text(OLDEST),
                    "Os": "linux",
                },
            }
        ],
        "Version": VERSION,
        "ApiVersion": version_text(NEWEST),
        "MinAPIVersion": version_text(OLDEST),
        "GitCommit": "",
        "GoVersion": python,
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        "BuildTime": "",
    }
    return Reply(body=_encode(shown))


async def info(engine: Engine, _request: Request) -> Reply:
    """GET /info"""
    containers = engine.containers.all()
    states = [container.state for container in containers]
    running = states.count(State.RUNNING) + states.count(State.RESTARTING)
    paused = states.count(State.PAUSED)
    descriptors = await anyio.to_thread.run_sync(_descriptors, limiter=engine.limits.readers)
    limits = await anyio.to_thread.run_sync(
        cgroup_abilities.look, engine.cgroups, limiter=engine.limits.readers
    )
    init = await anyio.to_thread.run_sync(_init_binary, limiter=engine.limits.readers)
    shown: dict[str, Any] = {
        "ID": engine.engine_id,
        "Containers": len(containers),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(containers) - running - paused,
        "Images": len(engine.images.images()),
        "Driver": "overlay2",
        "DriverStatus": [["Backend", engine.backend]],
        "DockerRootDir": str(engine.root),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["host", "none"],
            "Authorization": engine.settings.access.plugins,
            "Log": ["json-file", "k8s-file", "none"],
        },
        **limits.flags,
        **_NOT_YET,
        "NFd": descriptors,
        "NGoroutines": 0,
        "NEventsListener": engine.events.listeners,
        "SystemTime": rfc3339_nano(time.time_ns()),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        **_machine(),
        "ServerVersion": VERSION,
        "Debug": engine.settings.debug,
        "ExperimentalBuild": False,
        "LiveRestoreEnabled": True,
        **_registries(engine.settings.registries),
        "GenericResources": None,
        "Labels": [],
        # Clients that name Docker's default mean the runtime there is.
        "Runtimes": {name: {"path": "mdocker"} for name in ("mdocker", "runc")},
        "DefaultRuntime": "mdocker",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "Isolation": "",
        "InitBinary": init,
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "SecurityOptions": [
            *(["name=apparmor"] if has_apparmor() else []),
            *([f"name=seccomp,profile={engine.settings.seccomp.shown}"] if has_seccomp() else []),
            *(["name=userns"] if engine.remapping.asked else []),
            "name=cgroupns",
            *(["name=no-new-privileges"] if engine.settings.no_new_privileges else []),
        ],
        "CDISpecDirs": [],
        "Warnings": [
            "WARNING: networks are not supported yet",
            *limits.warnings,
            *engine.warnings,
        ],
    }
    return Reply(body=_encode(shown))


def _registries(options: RegistryOptions) -> dict[str, Any]:
    """How registries are reached, and which proxies lead to them."""
    networks = ["::1/128", "127.0.0.0/8", *(one for one in options.insecure if "/" in one)]
    hub = {"Name": "docker.io", "Mirrors": list(options.mirrors), "Secure": True, "Official": True}
    indexes = {"docker.io": hub}
    for name in options.insecure:
        if "/" not in name:
            indexes[name] = {"Name": name, "Mirrors": [], "Secure": False, "Official": False}
    between = proxies.from_environment(os.environ)
    return {
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": networks,
            "IndexConfigs": indexes,
            "Mirrors": list(options.mirrors),
        },
        "HttpProxy": proxies.masked(between.http),
        "HttpsProxy": proxies.masked(between.https),
        "NoProxy": between.exempt,
    }


_NOT_YET = {
    "IPv4Forwarding": False,
    "BridgeNfIptables": False,
    "BridgeNfIp6tables": False,
}
"""What we don't do is said to be absent."""


def _init_binary() -> str:
    try:
        return os.path.basename(init_program.find())
    except Unsupported:
        return ""


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@functools.cache
def _machine() -> dict[str, Any]:
    """What can't change while we run."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "KernelVersion": os.uname().release,
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": cpus(),
        "MemTotal": pages * page_size,
        "Name": socket.gethostname(),
        "CgroupVersion": "2" if pure_v2() else "1",
    }
