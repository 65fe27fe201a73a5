"""Which entry of a manifest list is for which machine. Pure.

What counts as the same, and what else a machine can run, is containerd's rule
(https://pkg.go.dev/github.com/containerd/platforms): an arm64 runs arm, an amd64 runs 386, and a
newer variant runs the older ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime.images.configuration import architecture
from supervisor.errors import BadParameter
from supervisor.registries.errors import NoMatchingPlatform
from supervisor.registries.manifests import Descriptor, PlatformSpec

_SYSTEMS = frozenset({"darwin", "freebsd", "linux", "netbsd", "openbsd", "solaris", "windows"})
_MACHINES = frozenset(
    {
        *("386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"),
        *("ppc64", "ppc64le", "riscv64", "s390x", "wasm"),
    }
)
_ALIASES = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def parse(text: str) -> PlatformSpec:
    """Read a platform as people write it: `linux/arm64/v8`, `amd64`; "" is this machine's.

    Raises:
        BadParameter: It is none (Docker's words).
    """
    if not text:
        return here()
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(map(_PART.fullmatch, parts)):
        raise BadParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        word = "darwin" if parts[0] == "macos" else parts[0]
        if word in _SYSTEMS:
            return normalised(PlatformSpec(word, here().architecture, here().variant))
        if word in _MACHINES or word in _ALIASES:
            return normalised(PlatformSpec("linux", word))
        raise BadParameter(f'"{text}": unknown operating system or architecture: invalid argument')
    return normalised(PlatformSpec(*parts))


def here() -> PlatformSpec:
    """Return the platform of this machine."""
    return normalised(PlatformSpec("linux", architecture()))


def normalised(platform: PlatformSpec) -> PlatformSpec:
    """Return the one of several ways to write it that is compared: no variant where it is usual."""
    system = platform.os.lower()
    machine, variant = platform.architecture.lower(), platform.variant.lower()
    if machine in _ALIASES:
        machine, usual = _ALIASES[machine]
        variant = variant or usual
    if variant.isdigit():
        variant = f"v{variant}"
    if machine == "arm":
        variant = variant or "v7"
    elif (machine, variant) in (("arm64", "v8"), ("arm64", "v8.0"), ("amd64", "v1")):
        variant = ""
    return PlatformSpec("darwin" if system == "macos" else system, machine, variant)


def shown(platform: PlatformSpec) -> str:
    """Return it as people write it: linux/amd64, or linux/arm/v7."""
    return "/".join(word for word in platform[:3] if word)


def fitness(offered: PlatformSpec, wanted: PlatformSpec) -> int | None:
    """Return how well what is for one platform suits another: 0 is best, None not at all."""
    chain = _runs(normalised(wanted))
    found = normalised(offered)
    return chain.index(found) if found in chain else None


def choose(entries: Sequence[Descriptor], wanted: PlatformSpec) -> Descriptor:
    """Return the best of a list's entries; the first of several that are equally good.

    Raises:
        NoMatchingPlatform: There is none (Docker's words).
    """
    fitting = []
    for entry in entries:
        # Without a platform it is for all (an index of one); attestations are for unknown/unknown.
        rank = 10_000 if entry.platform is None else fitness(entry.platform, wanted)
        if rank is not None:
            fitting.append((rank, entry))
    if not fitting:
        raise NoMatchingPlatform(
            f"no matching manifest for {shown(wanted)} in the manifest list entries"
        )
    return min(fitting, key=lambda one: one[0])[1]


def _runs(platform: PlatformSpec) -> list[PlatformSpec]:
    """Return what a machine can run, the best first."""
    system, machine, variant = platform[:3]
    found = [platform]

    def older(machine: str, newest: int, oldest: int) -> None:
        found.extend(
            normalised(PlatformSpec(system, machine, f"v{number}"))
            for number in range(newest, oldest - 1, -1)
        )

    number = int(variant[1:]) if re.fullmatch(r"v[0-9]", variant, re.ASCII) else 0
    if machine == "amd64":
        older("amd64", number - 1, 1)
        found.append(PlatformSpec(system, "386"))
    elif machine == "arm":
        older("arm", number - 1, 5)
    elif machine == "arm64":
        if variant:
            found.append(PlatformSpec(system, "arm64"))
        older("arm", 8, 5)
    return found
