"""From the options of `build` to the query of POST /build. Pure but for the environment that
`--build-arg NAME` copies from.
"""

from __future__ import annotations

import os
from typing import Any

from mdocker.build_options import BuildOptions
from mdocker.create_request import extra_host, memory_swap
from mdocker.environment import entries
from mdocker.limit_request import ulimit
from mdocker.paths import Query, json_text, repeated, target
from mdocker.units import parse_size


def build_target(options: BuildOptions, dockerfile: str, remote: str) -> str:
    """Return the request's target. Only what was asked is in it; the engine has the defaults.

    Args:
        options: The options of the command line.
        dockerfile: The Dockerfile's name in the context; empty for the usual one.
        remote: Where the engine shall fetch the context from; empty if it is sent.

    Raises:
        UsageError: A value is wrong.
    """
    limits: dict[str, int] = {
        "memory": parse_size(options.memory, "-m, --memory") if options.memory else 0,
        "memswap": memory_swap(options.memory_swap),
        "cpushares": options.cpu_shares,
        "cpuperiod": options.cpu_period,
        "cpuquota": options.cpu_quota,
        "shmsize": parse_size(options.shm_size, "--shm-size") if options.shm_size else 0,
    }
    said: dict[str, str] = {
        "dockerfile": dockerfile,
        "remote": remote,
        "target": options.target,
        "platform": options.platform,
        "networkmode": options.network,
        "cpusetcpus": options.cpuset_cpus,
        "cpusetmems": options.cpuset_mems,
        "cgroupparent": options.cgroup_parent,
        "ulimits": _json([ulimit(word) for word in options.ulimit]),
        "buildargs": _json(_build_args(options.build_arg)),
        "labels": _json(_labels(options.label)),
        "cachefrom": _json([one for word in options.cache_from for one in word.split(",") if one]),
    }
    query: Query = {
        "rm": options.rm,
        "forcerm": options.force_rm or None,
        "nocache": options.no_cache or None,
        "pull": options.pull or None,
        "q": options.quiet or None,
        **{key: number or None for key, number in limits.items()},
        **{key: text or None for key, text in said.items()},
    }
    path = repeated(target("/build", query), "t", options.tag)
    return repeated(path, "extrahosts", map(extra_host, options.add_host))


def _json(value: dict[str, Any] | list[Any]) -> str:
    return json_text(value) if value else ""


def _build_args(words: tuple[str, ...]) -> dict[str, str | None]:
    """By name; None for one that nobody has set, which leaves an ARG its default."""
    found: dict[str, str | None] = {}
    for entry in entries((), words, os.environ):
        name, equals, value = entry.partition("=")
        found[name] = value if equals else None
    return found


def _labels(words: tuple[str, ...]) -> dict[str, str]:
    return {
        key: value for key, _, value in (entry.partition("=") for entry in entries((), words, {}))
    }
