"""What confines a container's processes beside namespaces: system call filters, AppArmor.

A filter is made once for each profile and set of capabilities, in a thread, and kept.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio.to_thread
import structlog

from runtime.spec import DEFAULT_CAPABILITIES, SECCOMP_FLAGS
from supervisor.errors import BadParameter, EngineFault, Unsupported
from supervisor.security_words import BUILTIN, UNCONFINED

if TYPE_CHECKING:
    from supervisor.container import ContainerConfig

log = structlog.get_logger()

_MOST_KEPT = 32
_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")
_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
_NONE_IN_KERNEL = "seccomp is not enabled in your kernel, cannot run a custom seccomp profile"


class Filter(NamedTuple):
    """A filter as `runtime.spec.Spec` has it.

    Attributes:
        program: In base64; "" for none.
        flags: SECCOMP_FILTER_FLAG_*.
        forbidden: Which of execve and execveat never pass.
    """

    program: str = ""
    flags: int = SECCOMP_FLAGS
    forbidden: frozenset[str] = frozenset()


class Unfit(Exception):
    """A profile that can't be used; the text says why."""


class Unavailable(Exception):
    """There is nothing to make a filter with; the text says what to do."""


class Filters:
    """The filters of one engine; made inside its event loop."""

    def __init__(self, default: str = "", actions: Path = _ACTIONS, lost: str = "") -> None:
        """Have none yet.

        Args:
            default: What containers get that say nothing: "" for the built-in profile,
                "unconfined", or a profile's JSON.
            actions: Where the kernel tells that it filters.
            lost: Why there is no default: whoever would get it is refused.
        """
        self._default = default
        self._lost = lost
        self._there = actions.exists()  # a kernel's abilities do not change while it runs
        self._made: dict[tuple[str, frozenset[str]], Filter] = {}
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def prepare(self) -> str:
        """Make what a container gets that asks for nothing, before one does.

        Returns:
            What people should know: that there can be none; else "".
        """
        if not self._there:
            return "WARNING: this kernel filters no system calls: containers may make all of them"
        if self._lost:
            return f"WARNING: {self._lost}"
        try:
            await self._of(self._default or BUILTIN, DEFAULT_CAPABILITIES)
        except (Unfit, Unavailable, OSError) as error:
            log.warning("seccomp.no_filter", reason=str(error))
            return f"WARNING: {error}"
        return ""

    async def check(self, config: ContainerConfig, capabilities: Collection[str]) -> None:
        """Refuse a container whose filter can't be made.

        Raises:
            BadParameter: Its own profile is none, or this kernel has no filters or no AppArmor.
            Unsupported: There is no libseccomp.
            EngineFault: No descriptors to make it with.
        """
        security = config.security
        if security.apparmor not in ("", UNCONFINED) and not has_apparmor():
            raise BadParameter(
                f"apparmor={security.apparmor}: AppArmor is not enabled in your kernel: leave the "
                "option out, or use apparmor=unconfined"
            )
        if security.seccomp not in ("", BUILTIN, UNCONFINED) and not self._there:
            raise BadParameter(_NONE_IN_KERNEL)
        try:
            filter = await self._of(self._profile(config), capabilities)
        except Unavailable as error:
            raise Unsupported(str(error)) from error
        except Unfit as error:
            raise BadParameter(str(error)) from error
        except OSError as error:
            raise EngineFault(f"can't make its system call filter: {error.strerror}") from error
        _check_executes(filter, config, BadParameter)

    async def of(self, config: ContainerConfig, capabilities: Collection[str]) -> Filter:
        """The filter for processes of a container that may have `capabilities`.

        Raises:
            EngineFault: It can't be made, or lets nothing be executed.
        """
        try:
            filter = await self._of(self._profile(config), capabilities)
        except (Unfit, Unavailable) as error:
            raise EngineFault(str(error)) from error
        except OSError as error:
            raise EngineFault(f"can't make its system call filter: {error.strerror}") from error
        _check_executes(filter, config, EngineFault)
        return filter

    def _profile(self, config: ContainerConfig) -> str:
        asked = config.security.seccomp
        if config.privileges.privileged and not asked:
            return UNCONFINED
        if self._lost and not asked:
            raise Unfit(self._lost)
        return asked or self._default or BUILTIN

    async def _of(self, profile: str, capabilities: Collection[str]) -> Filter:
        if profile == UNCONFINED or not self._there:
            return Filter()
        key = (profile, frozenset(capabilities))
        if key not in self._made:
            made = await anyio.to_thread.run_sync(
                self._make, key, limiter=self._one_at_a_time, abandon_on_cancel=False
            )
            while len(self._made) >= _MOST_KEPT:
                self._made.pop(next(iter(self._made)), None)
            self._made[key] = made
        return self._made[key]

    def _make(self, key: tuple[str, frozenset[str]]) -> Filter:
        if made := self._made.get(key):
            return made  # while this one waited for its turn
        # Late: an engine is sooner ready without them.
        import base64

        from runtime.seccomp import profile as profiles
        from runtime.seccomp.names import LibraryMissing
        from runtime.seccomp.program import assemble

        text, capabilities = key
        try:
            if text == BUILTIN:
                text = Path(profiles.__file__).with_name("default.json").read_text()
            profile = profiles.read(text, capabilities)
            if profile is None:
                return Filter()
            program = assemble(profile)
        except profiles.ProfileRefused as error:
            raise Unfit(str(error)) from error
        except LibraryMissing as error:
            raise Unavailable(str(error)) from error
        return Filter(base64.b64encode(program.program).decode(), program.flags, program.forbidden)


def _check_executes(
    filter: Filter, config: ContainerConfig, refusal: type[BadParameter | EngineFault]
) -> None:
    # An init is started by its descriptor, and starts the command.
    for call in ("execveat", "execve") if config.init else ("execve",):
        if call in filter.forbidden:
            raise refusal(
                f"the seccomp profile forbids {call}: the container's command could not be "
                f"executed; allow {call} in it"
            )


def apparmor(config: ContainerConfig) -> str:
    """The profile that a container's processes change to; "" for none."""
    asked = config.security.apparmor
    return "" if asked == UNCONFINED else asked


def has_apparmor(enabled: Path = _APPARMOR) -> bool:
    """Whether AppArmor confines anything on this machine."""
    try:
        return enabled.read_text().startswith("Y")
    except OSError:
        return False


def has_seccomp(actions: Path = _ACTIONS) -> bool:
    """Whether the kernel filters system calls."""
    return actions.exists()
