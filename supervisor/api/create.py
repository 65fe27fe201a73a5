"""A create request becomes a ContainerConfig: merged with the image's, or refused in words."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from logs.drivers import LogDriverUnknown, LogOptionRefused, check_options
from runtime.images.model import Image
from supervisor import security_words, signals
from supervisor.api import exposed_ports, limit_options, limits, namespace_options, wire
from supervisor.api.console_size import console_size
from supervisor.api.device_options import checked_devices
from supervisor.api.health_options import checked_health
from supervisor.api.namespace_options import checked_namespaces, refuse_conflicts
from supervisor.api.options import refuse_unsupported
from supervisor.api.parameters import checked_seconds
from supervisor.api.privilege_options import checked_privileges
from supervisor.api.resolving_options import checked_resolving
from supervisor.api.restart_options import checked_policy
from supervisor.container import ContainerConfig, RestartPolicy
from supervisor.errors import BadParameter, NotFound, Unsupported
from supervisor.shared_namespaces import donor_id

NO_NETWORKS = (
    "networks are not supported yet: this container has only a loopback interface (--network none)"
)


def read(body: Mapping[str, Any]) -> wire.Asked:
    """Return the request's options, typed, after refusing those that we don't do.

    Raises:
        BadParameter: An option has a value of the wrong type, or no image is named.
        Unsupported: An option that we don't do yet is in use; the text names it.
    """
    refuse_conflicts(body)
    refuse_unsupported(body)
    try:
        asked = msgspec.convert(body, wire.Asked)
    except msgspec.ValidationError as error:
        raise BadParameter(f"invalid request: {error}") from error
    if not asked.Image:
        raise BadParameter("no image specified: name one in Image, such as host")
    return asked


def check_platform(asked: str, image: Image, reference: str) -> None:
    """Refuse a `platform` parameter that neither machine nor image is.

    Raises:
        NotFound: The image is for another platform (clients then try to pull, and are told).
    """
    if not asked:
        return
    system, _, rest = asked.lower().partition("/")
    wanted = (system, rest.partition("/")[0] or image.architecture)
    actual = (image.os, image.architecture)
    if wanted != actual:
        raise NotFound(
            f"image {reference} is for {'/'.join(actual)}, not for the platform asked: {asked}"
        )


def merge(asked: wire.Asked, image: Image) -> tuple[ContainerConfig, list[str]]:
    """Return the container's configuration, with the image's defaults merged in, and warnings.

    Raises:
        BadParameter: A value that can't be, or a network that is not there.
        Unsupported: A log driver, network or security option that we don't do yet.
    """
    host = asked.HostConfig or wire.AskedHostConfig()
    defaults = image.config
    entrypoint, cmd = _command(asked, defaults)
    driver, log_options = _log(host.LogConfig)
    network_mode, warnings = _network(host.NetworkMode or "default", asked.NetworkingConfig)
    namespaces = checked_namespaces(host)
    warnings += namespace_options.warnings(host, namespaces) + limits.warnings(host)
    stop_signal = asked.StopSignal or defaults.get("StopSignal") or ""
    if stop_signal:
        signals.parse(stop_signal)
    labels = {**(defaults.get("Labels") or {}), **(asked.Labels or {})}
    config = ContainerConfig(
        image=asked.Image or "",
        image_id=image.id,
        entrypoint=entrypoint,
        cmd=cmd,
        env=_environment(defaults.get("Env") or (), asked.Env or ()),
        working_dir=_working_dir(asked.WorkingDir or defaults.get("WorkingDir") or ""),
        user=_plain("User", asked.User or defaults.get("User") or ""),
        groups=tuple(_plain("GroupAdd", group) for group in host.GroupAdd or ()),
        hostname=_host_word("Hostname", asked.Hostname or ""),
        domainname=_host_word("Domainname", asked.Domainname or ""),
        labels=labels,
        exposed_ports=exposed_ports.merged(
            defaults.get("ExposedPorts") or (), asked.ExposedPorts or ()
        ),
        stop_signal=stop_signal,
        stop_timeout=checked_seconds(asked.StopTimeout, "StopTimeout"),
        runtime=host.Runtime or asked.Runtime or "mdocker",
        isolation=host.Isolation or "",
        userns_mode=host.UsernsMode or "",
        network_mode=network_mode,
        namespaces=namespaces,
        resolving=checked_resolving(host, network_mode),
        init=host.Init,
        resources=limits.checked_resources(host),
        ulimits=limit_options.checked_ulimits(host.Ulimits),
        oom_score_adj=limit_options.checked_oom_score(host.OomScoreAdj),
        sysctls=host.Sysctls or {},
        cgroup_parent=limit_options.checked_cgroup_parent(host.CgroupParent),
        log_driver=driver,
        log_options=log_options,
        auto_remove=bool(host.AutoRemove),
        cid_file=host.ContainerIDFile or "",
        restart=_restart(host),
        health=checked_health(asked.Healthcheck, defaults, labels),
        privileges=checked_privileges(host),
        devices=checked_devices(host),
        security_options=_security_options(host.SecurityOpt or ()),
        shm_size=limits.checked_shm_size(host.ShmSize),
        attach_stdin=bool(asked.AttachStdin),
        attach_stdout=bool(asked.AttachStdout),
        attach_stderr=bool(asked.AttachStderr),
        tty=bool(asked.Tty),
        open_stdin=bool(asked.OpenStdin),
        stdin_once=bool(asked.StdinOnce),
        console_size=console_size(host.ConsoleSize),
    )
    limit_options.check_sysctls(config)
    return config, warnings


def _security_options(words: Sequence[str]) -> tuple[str, ...]:
    """As they were asked for, to be seen as in Docker, once they are known to be some."""
    security_words.parse(words)
    return tuple(_plain("SecurityOpt", word) for word in words)


def _words(value: list[str] | str | None) -> list[str] | None:
    return value.split() if isinstance(value, str) else value


def _command(
    asked: wire.Asked, defaults: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Docker's rule: the image's Cmd belongs to the image's Entrypoint, and goes when that does."""
    entrypoint, cmd = _words(asked.Entrypoint), _words(asked.Cmd)
    if not entrypoint:
        if not cmd:
            cmd = list(defaults.get("Cmd") or ())
        if entrypoint is None:
            entrypoint = list(defaults.get("Entrypoint") or ())
    if entrypoint == [""]:
        # `--entrypoint ""` takes the image's away.
        entrypoint = []
    entrypoint, cmd = entrypoint or [], cmd or []
    if not (*entrypoint, *cmd, "")[0]:
        raise BadParameter("no command specified")
    for word in (*entrypoint, *cmd):
        _plain("Cmd", word)
    return tuple(entrypoint), tuple(cmd)


def _environment(image: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The image's, changed key by key; a `KEY` without `=` takes one away, and stays to be seen."""
    merged = {word.partition("=")[0]: word for word in image}
    for word in asked:
        key = word.partition("=")[0]
        if not key:
            raise BadParameter(f"invalid environment variable: {word}")
        merged[key] = _plain("Env", word)
    return tuple(merged.values())


def _working_dir(path: str) -> str:
    if not path:
        return ""
    if not path.startswith("/"):
        raise BadParameter(
            f"the working directory '{path}' is invalid, it needs to be an absolute path"
        )
    return posixpath.normpath(_plain("WorkingDir", path)).replace("//", "/")


def _host_word(option: str, name: str) -> str:
    # The kernel's limit for both: sethostname(2), HOST_NAME_MAX.
    if len(name.encode(errors="replace")) > 64 or any(c.isspace() or c == "/" for c in name):
        raise BadParameter(
            f"invalid {option.lower()}: {name!r}: at most 64 bytes, no spaces, no slashes"
        )
    return _plain(option, name)


def _plain(option: str, text: str) -> str:
    """Refuse what no kernel interface and no UTF-8 file can hold."""
    if "\0" in text:
        raise BadParameter(f"invalid {option}: {text!r} holds a NUL character")
    return text


def _log(asked: wire.AskedLogConfig | None) -> tuple[str, dict[str, str]]:
    driver = (asked.Type if asked else "") or "json-file"
    options = (asked.Config if asked else None) or {}
    try:
        check_options(driver, options)
    except LogDriverUnknown as error:
        raise Unsupported(str(error)) from error
    except LogOptionRefused as error:
        raise BadParameter(str(error)) from error
    return driver, options


def _restart(host: wire.AskedHostConfig) -> RestartPolicy:
    policy = checked_policy(host.RestartPolicy)
    if host.AutoRemove and policy.name != "no":
        raise BadParameter("can't create 'AutoRemove' container with restart policy")
    return policy


def _network(mode: str, networking: wire.AskedNetworking | None) -> tuple[str, list[str]]:
    if mode == "bridge":
        raise Unsupported(
            "mdocker does not support HostConfig.NetworkMode bridge yet: use none or host"
        )
    if mode not in ("default", "none", "host") and not donor_id(mode):
        raise _no_network(mode)
    endpoints = (networking.EndpointsConfig if networking else None) or {}
    for name, settings in endpoints.items():
        if name not in ("default", mode):
            if name in ("bridge", "none", "host"):
                raise Unsupported(f"mdocker does not support NetworkingConfig {name} yet")
            raise _no_network(name)
        refuse_unsupported(settings or {}, f"NetworkingConfig.EndpointsConfig.{name}", ())
    return mode, [NO_NETWORKS] if mode == "default" else []


def _no_network(name: str) -> BadParameter:
    # Not 404, though Docker's start says so: clients take a 404 at create for a missing image.
    return BadParameter(f"network {name} not found")
