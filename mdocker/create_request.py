"""From the options of `run` and `create` to the body of POST /containers/create. Pure but for
the files that the options name and the environment that `-e NAME` copies from.
"""

from __future__ import annotations

import os
from typing import Any

from mdocker import limit_request
from mdocker.container_options import ContainerOptions
from mdocker.device_request import devices
from mdocker.environment import entries
from mdocker.errors import UsageError
from mdocker.health_request import health_check
from mdocker.mount_options import mount_request
from mdocker.privilege_request import privileges, security_words
from mdocker.restart_option import restart_policy
from mdocker.stream_options import Attached, StreamOptions, stream_config, terminal_size
from mdocker.units import parse_cpus, parse_size


def create_body(
    image: str,
    command: tuple[str, ...],
    options: ContainerOptions,
    streams: StreamOptions,
    attached: Attached,
) -> dict[str, Any]:
    """Build the request's body. Only what was asked is in it; the engine has the defaults.

    Args:
        image: As typed.
        command: The words behind it.
        options: The options of the command line.
        streams: Those about its streams.
        attached: The streams that a client will show and feed (the foreground `run`).

    Raises:
        UsageError: A value is wrong, or a file can't be read.
    """
    environment = entries(options.env_file, options.env, os.environ)
    volumes, mounts = mount_request(options)
    config: dict[str, Any] = {
        "Image": image,
        **stream_config(streams, attached),
        "Hostname": options.hostname,
        "Domainname": options.domainname,
        "User": options.user,
        "WorkingDir": options.workdir,
        "Env": environment,
        "Labels": _labels(options),
        "StopSignal": options.stop_signal,
        "Healthcheck": health_check(options),
        "HostConfig": _host_config(options) | terminal_size(streams) | mounts,
        **volumes,
    }
    if command:
        config["Cmd"] = list(command)
    if options.entrypoint is not None:
        # An empty word is how the API takes the image's entrypoint away.
        config["Entrypoint"] = [options.entrypoint]
    if options.stop_timeout is not None:
        config["StopTimeout"] = options.stop_timeout
    return {key: value for key, value in config.items() if value not in ("", False, [], {})}


def _host_config(options: ContainerOptions) -> dict[str, Any]:
    if len(options.network) > 1:
        raise UsageError("a container can have one --network only")
    limits: dict[str, Any] = {
        "Memory": parse_size(options.memory, "-m, --memory") if options.memory else 0,
        "MemorySwap": memory_swap(options.memory_swap),
        "MemoryReservation": parse_size(options.memory_reservation, "--memory-reservation")
        if options.memory_reservation
        else 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "BlkioWeight": options.blkio_weight,
        "NanoCpus": parse_cpus(options.cpus, "--cpus") if options.cpus else 0,
        "CpuShares": options.cpu_shares,
        "CpuPeriod": options.cpu_period,
        "CpuQuota": options.cpu_quota,
        "ShmSize": parse_size(options.shm_size, "--shm-size") if options.shm_size else 0,
    }
    host: dict[str, Any] = {key: value for key, value in limits.items() if value}
    # Asked for by name, so that the engine need not warn of what --help says: no network yet.
    host["NetworkMode"] = options.network[0] if options.network else "none"
    modes = {
        "PidMode": options.pid,
        "IpcMode": options.ipc,
        "UTSMode": options.uts,
        "CgroupnsMode": options.cgroupns,
        "UsernsMode": options.userns,
    }
    host |= {key: mode for key, mode in modes.items() if mode}
    names: dict[str, list[str]] = {
        "ExtraHosts": [extra_host(word) for word in options.add_host],
        "Dns": list(options.dns),
        "DnsSearch": list(options.dns_search),
        "DnsOptions": list(options.dns_option),
    }
    host |= {key: words for key, words in names.items() if words}
    if options.init:
        host["Init"] = True
    policy = restart_policy(options.restart, options.restart_delay, options.restart_max_delay)
    if policy:
        host["RestartPolicy"] = policy
    if options.rm:
        if policy.get("Name", "no") != "no":
            raise UsageError("conflicting options: cannot specify both --restart and --rm")
        host["AutoRemove"] = True
    if options.pids_limit is not None:
        host["PidsLimit"] = options.pids_limit
    host |= limit_request.limits(options)
    if options.memory_swappiness != -1:
        host["MemorySwappiness"] = options.memory_swappiness
    if options.group_add:
        host["GroupAdd"] = list(options.group_add)
    host |= privileges(options) | devices(options)
    if words := security_words(options):
        host["SecurityOpt"] = words
    if options.log_driver or options.log_opt:
        host["LogConfig"] = {
            "Type": options.log_driver,
            "Config": _pairs(options.log_opt, "--log-opt"),
        }
    return host


def extra_host(word: str) -> str:
    """A line of /etc/hosts, NAME:ADDRESS, as the API has it.

    Docker's client takes `NAME=ADDRESS`, too, and IPv6 addresses in brackets.

    Raises:
        UsageError: It is none.
    """
    sign = min("=:", key=lambda mark: word.find(mark) % (len(word) + 1))
    name, _, address = word.partition(sign)
    if not name or not address:
        raise UsageError(f"--add-host: {word}: it is NAME:ADDRESS, such as db:10.0.0.5")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return f"{name}:{address}"


def memory_swap(text: str) -> int:
    """Memory and swap together, in bytes; -1 for no limit of swap, 0 where nothing is said."""
    if text == "-1":
        return -1
    return parse_size(text, "--memory-swap") if text else 0


def _pairs(words: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise UsageError(f'invalid argument "{word}" for "{option}": must be KEY=VALUE')
        pairs[key] = value
    return pairs


def _labels(options: ContainerOptions) -> dict[str, str]:
    labels = {}
    for entry in entries(options.label_file, options.label, {}):
        key, _, value = entry.partition("=")
        labels[key] = value
    return labels
