"""The options of `build`: what the image shall be, and what its RUN steps may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mdocker.options import flag


# No NamedTuple: cyclopts reads the options' help from the annotations of a dataclass only.
@dataclass(frozen=True, slots=True)
class BuildOptions:
    """All as typed; `mdocker/build_request.py` turns them into the API's request."""

    tag: Annotated[
        tuple[str, ...], flag("--tag", "-t", help="A name for the image, NAME[:TAG]; repeatable")
    ] = ()
    file: Annotated[
        str,
        flag(
            "--file",
            "-f",
            help="The Dockerfile (PATH/Dockerfile), also outside of PATH; - for standard input",
        ),
    ] = ""
    build_arg: Annotated[
        tuple[str, ...],
        flag("--build-arg", help="Set an ARG, NAME=VALUE; NAME alone takes the environment's"),
    ] = ()
    target: Annotated[str, flag("--target", help="Build up to this stage (its name or number)")] = (
        ""
    )
    label: Annotated[tuple[str, ...], flag("--label", help="A label of the image, KEY=VALUE")] = ()
    no_cache: Annotated[
        bool, flag("--no-cache", help="Run every step, also those that were run before")
    ] = False
    cache_from: Annotated[
        tuple[str, ...],
        flag("--cache-from", help="An image whose steps need not be run again (NAME[,NAME...])"),
    ] = ()
    pull: Annotated[
        bool, flag("--pull", help="Ask the registry for newer images of FROM, also if here is one")
    ] = False
    platform: Annotated[str, flag("--platform", help="Of the images of FROM: OS[/ARCH]")] = ""
    quiet: Annotated[
        bool, flag("--quiet", "-q", help="Print the image's id alone, or all if it fails")
    ] = False
    iidfile: Annotated[str, flag("--iidfile", help="Write the image's id to a file")] = ""
    rm: Annotated[
        bool,
        flag("--rm", help="Remove the steps' containers (default); --rm=false keeps them"),
    ] = True
    force_rm: Annotated[bool, flag("--force-rm", help="Remove them also if the build fails")] = (
        False
    )
    network: Annotated[
        str, flag("--network", help="Of the RUN steps: none (only a loopback) or host")
    ] = ""
    add_host: Annotated[
        tuple[str, ...],
        flag("--add-host", help="A line more in the /etc/hosts of the RUN steps, NAME:ADDRESS"),
    ] = ()
    memory: Annotated[
        str, flag("--memory", "-m", help="Memory limit of each RUN step, such as 512m")
    ] = ""
    memory_swap: Annotated[
        str, flag("--memory-swap", help="Memory and swap together; -1 is no limit of swap")
    ] = ""
    cpu_shares: Annotated[int, flag("--cpu-shares", "-c", help="CPU weight (1024)")] = 0
    cpu_period: Annotated[int, flag("--cpu-period", help="CFS period in microseconds")] = 0
    cpu_quota: Annotated[int, flag("--cpu-quota", help="CFS quota in microseconds")] = 0
    cpuset_cpus: Annotated[
        str, flag("--cpuset-cpus", help="The CPUs that they may use, such as 0-2,5")
    ] = ""
    cpuset_mems: Annotated[
        str, flag("--cpuset-mems", help="The memory nodes that they may use, such as 0")
    ] = ""
    shm_size: Annotated[str, flag("--shm-size", help="Size of their /dev/shm (64m)")] = ""
    ulimit: Annotated[
        tuple[str, ...],
        flag("--ulimit", help="A limit of each of their processes: NAME=SOFT[:HARD]"),
    ] = ()
    cgroup_parent: Annotated[
        str, flag("--cgroup-parent", help="The cgroup that they are in, such as /jobs/7")
    ] = ""
