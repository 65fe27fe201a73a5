"""`daemon`: the engine in the foreground."""

from __future__ import annotations

import gc
import importlib
import os
from typing import Annotated

from mdocker.client import Engine
from mdocker.errors import FAILED, UsageError
from mdocker.options import flag, injected
from mdocker.settings import Settings, resolve

_ENGINE = "supervisor.daemon:main"
_BACKENDS = ("asyncio", "trio", "uvloop")
_DOWNLOADS, _UPLOADS = 3, 5
_REGISTRIES = frozenset(
    {
        "--registry-mirror",
        "--insecure-registry",
        "--max-concurrent-downloads",
        "--max-concurrent-uploads",
    }
)
_TLS_FILES = ("--tlscacert", "--tlscert", "--tlskey")
_ACCESS = frozenset(
    {"--host", "--tls", "--tlsverify", *_TLS_FILES, "--group", "--authorization-command"}
)
_ISOLATION = frozenset(
    {"--seccomp-profile", "--userns-remap", "--no-new-privileges", "--default-ulimit"}
)
_PROCESS = frozenset({"--backend", "--debug", "--no-respawn", "--ready-fd"})
_ENGINE_OPTIONS = _REGISTRIES | _ACCESS | _ISOLATION | _PROCESS
_GO_WITH = {
    "--install": _REGISTRIES | _ACCESS | _ISOLATION | {"--backend", "--debug", "--dry-run"},
    "--uninstall": frozenset(),
    # The engine that runs keeps its event loop and all else that it was started with.
    "--upgrade": frozenset({"--no-wait"}),
    "--check": _ENGINE_OPTIONS,
}


def daemon(
    *,
    root: Annotated[
        str, flag("--root", help="Where containers and images are kept (/var/lib/mdocker)")
    ] = "",
    run_dir: Annotated[
        str, flag("--run-dir", help="Where the socket and the pid files are (/run/mdocker)")
    ] = "",
    backend: Annotated[
        str, flag("--backend", help="Event loop: asyncio (default), trio or uvloop")
    ] = "asyncio",
    debug: Annotated[bool, flag("--debug", "-D", help="Say more on stderr")] = False,
    no_respawn: Annotated[
        bool,
        flag("--no-respawn", help="Killed, the engine stays away; else another starts by itself"),
    ] = False,
    registry_mirror: Annotated[
        tuple[str, ...],
        flag("--registry-mirror", help="Ask this first for Docker Hub's images: https://HOST"),
    ] = (),
    insecure_registry: Annotated[
        tuple[str, ...],
        flag(
            "--insecure-registry",
            help="HOST[:PORT] or CIDR: check no certificate, use http if need be",
        ),
    ] = (),
    max_concurrent_downloads: Annotated[
        int, flag("--max-concurrent-downloads", help="Layers that a pull fetches at once (3)")
    ] = _DOWNLOADS,
    max_concurrent_uploads: Annotated[
        int, flag("--max-concurrent-uploads", help="Layers that a push sends at once (5)")
    ] = _UPLOADS,
    host: Annotated[
        tuple[str, ...],
        flag(
            "--host",
            "-H",
            help="Listen here, too: unix:///PATH, or tcp://HOST:PORT with --tlsverify",
        ),
    ] = (),
    tls: Annotated[
        bool, flag("--tls", help="Refused: TLS without --tlsverify lets in whoever connects")
    ] = False,
    tlsverify: Annotated[
        bool, flag("--tlsverify", help="By TCP only clients with a certificate of --tlscacert")
    ] = False,
    tlscacert: Annotated[
        str, flag("--tlscacert", help="Who signs clients' certificates (~/.docker/ca.pem)")
    ] = "",
    tlscert: Annotated[
        str, flag("--tlscert", help="The engine's certificate (~/.docker/cert.pem)")
    ] = "",
    tlskey: Annotated[
        str, flag("--tlskey", help="Its key, without a password (~/.docker/key.pem)")
    ] = "",
    group: Annotated[
        str | None,
        flag("--group", "-G", help="Who may use the sockets beside root (docker); '' for nobody"),
    ] = None,
    authorization_command: Annotated[
        str,
        flag(
            "--authorization-command",
            help="Asked about each request, by JSON on its stdin: must say 'yes' (docs/service.md)",
        ),
    ] = "",
    seccomp_profile: Annotated[
        str,
        flag(
            "--seccomp-profile",
            help="System calls of containers that say nothing: FILE (Docker's format), unconfined, "
            "or builtin (default)",
        ),
    ] = "",
    userns_remap: Annotated[
        str,
        flag(
            "--userns-remap",
            help="Root in containers is a nobody here, with the ids in /etc/subuid and subgid of: "
            "default (dockremap), USER[:GROUP] or UID[:GID]; --userns host is without",
        ),
    ] = "",
    no_new_privileges: Annotated[
        bool,
        flag(
            "--no-new-privileges",
            help="No program in a container gains rights by being executed (setuid), unless the "
            "container says --security-opt no-new-privileges=false",
        ),
    ] = False,
    default_ulimit: Annotated[
        tuple[str, ...],
        flag(
            "--default-ulimit",
            help="NAME=SOFT[:HARD] for containers without that --ulimit of their own",
        ),
    ] = (),
    ready_fd: Annotated[
        int | None,
        flag("--ready-fd", help="Descriptor to write 'ready' to when the socket listens"),
    ] = None,
    install: Annotated[
        bool, flag("--install", help="Have systemd run the engine from now on, at each boot too")
    ] = False,
    uninstall: Annotated[
        bool, flag("--uninstall", help="Take that back; containers that run go on")
    ] = False,
    dry_run: Annotated[
        bool, flag("--dry-run", help="With --install: print the units, change nothing")
    ] = False,
    upgrade: Annotated[
        bool,
        flag("--upgrade", help="Swap the running engine for this version; nothing is refused"),
    ] = False,
    no_wait: Annotated[
        bool, flag("--no-wait", help="With --upgrade: leave as soon as it is agreed upon")
    ] = False,
    check: Annotated[
        bool,
        flag("--check", help="Exit 0 if this version could run here, else say why; start nothing"),
    ] = False,
    engine: Annotated[Engine, injected()],
) -> int:
    """Run the engine in the foreground. It says on stderr what it does.

    SIGTERM or Ctrl-C ends it; containers go on, and the next engine with the same --root and
    --run-dir takes them over. Other commands start one by themselves when none listens.
    """
    if backend not in _BACKENDS:
        raise UsageError(
            f'invalid argument "{backend}" for "--backend": must be {" or ".join(_BACKENDS)}',
            FAILED,
        )
    modes = {"--install": install, "--uninstall": uninstall, "--upgrade": upgrade, "--check": check}
    options = {
        "--backend": backend != _BACKENDS[0],
        "--debug": debug,
        "--no-respawn": no_respawn,
        "--ready-fd": ready_fd is not None,
        "--dry-run": dry_run,
        "--no-wait": no_wait,
        "--registry-mirror": bool(registry_mirror),
        "--insecure-registry": bool(insecure_registry),
        "--max-concurrent-downloads": max_concurrent_downloads != _DOWNLOADS,
        "--max-concurrent-uploads": max_concurrent_uploads != _UPLOADS,
        "--host": bool(host),
        "--tls": tls,
        "--tlsverify": tlsverify,
        "--tlscacert": bool(tlscacert),
        "--tlscert": bool(tlscert),
        "--tlskey": bool(tlskey),
        "--group": group is not None,
        "--authorization-command": bool(authorization_command),
        "--userns-remap": bool(userns_remap),
        "--seccomp-profile": bool(seccomp_profile),
        "--no-new-privileges": no_new_privileges,
        "--default-ulimit": bool(default_ulimit),
    }
    # It works in / later on.
    if seccomp_profile not in ("", "builtin", "unconfined"):
        seccomp_profile = os.path.abspath(seccomp_profile)
    files = tuple(path and os.path.abspath(path) for path in (tlscacert, tlscert, tlskey))
    _refuse_what_would_be_ignored(modes, options)
    if upgrade:
        from mdocker import upgrade as upgrading

        place = resolve(run_dir=run_dir) if run_dir else engine.place
        upgrading.upgrade(place, wait=not no_wait)
        return 0
    if install or uninstall:
        place = engine.place._replace(
            root=root or engine.place.root, run_dir=run_dir or engine.place.run_dir
        )
        more = ["--backend", backend] if options["--backend"] else []
        more += ["--debug"] if debug else []
        for name, values in (
            ("--registry-mirror", registry_mirror),
            ("--insecure-registry", insecure_registry),
            ("--max-concurrent-downloads", (str(max_concurrent_downloads),)),
            ("--max-concurrent-uploads", (str(max_concurrent_uploads),)),
            ("--host", host),
            *zip(_TLS_FILES, ((path,) for path in files), strict=True),
            ("--group", (str(group),)),
            ("--authorization-command", (authorization_command,)),
            ("--userns-remap", (userns_remap,)),
            ("--seccomp-profile", (seccomp_profile,)),
            ("--default-ulimit", default_ulimit),
        ):
            if options[name]:
                more += [word for value in values for word in (name, value)]
        switches = ("--tls", "--tlsverify", "--no-new-privileges")
        more += [name for name in switches if options[name]]
        if install and not dry_run and any(options[name] for name in _ACCESS):
            _try(place, more)
        _service(place, tuple(more), install, dry_run, host, group)
        return 0
    if ready_fd is not None:
        try:
            # Whoever waits at its other end waits for us, not for the processes that we start.
            os.set_inheritable(ready_fd, False)
        except OSError as error:
            raise UsageError(f"--ready-fd {ready_fd}: {error.strerror}", FAILED) from error
    # The client turned the collector off, for good reasons that end here.
    gc.enable()
    root = os.path.abspath(root or engine.place.root)
    run_dir = os.path.abspath(run_dir or engine.place.run_dir)
    module, _, function = _ENGINE.partition(":")
    main = getattr(importlib.import_module(module), function)
    os.chdir("/")
    code: int = main(
        root,
        run_dir,
        backend,
        ready_fd,
        debug,
        not no_respawn,
        check,
        registry_mirror,
        insecure_registry,
        max_concurrent_downloads,
        max_concurrent_uploads,
        hosts=host,
        tls_files=files,
        with_tls=tls,
        tlsverify=tlsverify,
        group=group,
        authorization_command=authorization_command,
        userns_remap=userns_remap,
        seccomp_profile=seccomp_profile,
        no_new_privileges=no_new_privileges,
        default_ulimits=default_ulimit,
    )
    return code


def _refuse_what_would_be_ignored(modes: dict[str, bool], options: dict[str, bool]) -> None:
    """Refuse what can't be done together. Raises UsageError."""
    chosen = [name for name, given in modes.items() if given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)}: choose one", FAILED)
    mode = chosen[0] if chosen else ""
    for name, given in options.items():
        if given and name not in _GO_WITH.get(mode, _ENGINE_OPTIONS):
            where = [other for other, names in _GO_WITH.items() if name in names]
            only = f" without {mode}" if name in _ENGINE_OPTIONS else ""
            only = only or f" with {' or '.join(where)}"
            raise UsageError(f"{name} has a meaning only{only}", FAILED)


def _try(place: Settings, options: list[str]) -> None:
    """Raise UsageError if an engine with these options would not start."""
    import subprocess
    import sys

    command = (sys.executable, "-m", "mdocker", "daemon", "--check")
    where = ("--root", os.path.abspath(place.root), "--run-dir", os.path.abspath(place.run_dir))
    done = subprocess.run((*command, *where, *options), stderr=subprocess.PIPE, text=True)
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise UsageError(words[0].removeprefix("mdocker daemon: "), FAILED)


def _service(
    place: Settings,
    options: tuple[str, ...],
    install: bool,
    dry_run: bool,
    hosts: tuple[str, ...],
    group: str | None,
) -> None:
    from mdocker import service

    systemd = service.Systemd()
    if not install:
        service.uninstall(systemd)
        return
    described = service.describe(place, options, systemd, hosts, group)
    if dry_run:
        service.show(described, systemd)
    else:
        service.install(described, systemd)
