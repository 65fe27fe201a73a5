"""Which user namespace a container gets: `--userns-remap` of the engine, `--userns` of a container.

Ids of the machine that a user may have in such a namespace are in /etc/subuid and /etc/subgid
(subuid(5)): NAME-OR-NUMBER:FIRST:COUNT. Several lines of one user follow one another inside. They
are read, and nothing is ever added there.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime import capabilities, idmap
from runtime.spec import Bind, Donor, Tmpfs
from supervisor.container import Extents, UserNamespace
from supervisor.errors import BadParameter, DonorNotShareable, StartFailed

if TYPE_CHECKING:
    from supervisor.container import Container, ContainerConfig

SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")
USUAL_USER = "dockremap"
"""Whose ids `default` means, as with dockerd; who need not be in /etc/passwd here."""
EVERY_CAPABILITY = capabilities.mask(capabilities.NAMES)
"""What root has in a user namespace, whatever the machine's root lacks."""

_FEWEST = 65_536
_MOST_DIGITS = 10
_NOBODY = 2**32 - 1  # (uid_t) -1, which is no id
_MOST_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")


class RefusedRemapping(Exception):
    """There is no such map; the text says why and what to do."""


class Remapping:
    """What `--userns-remap` asks for.

    Attributes:
        asked: As it was asked; "" for containers in the machine's user namespace.
    """

    def __init__(self, asked: str = "") -> None:
        self.asked = asked
        self._maps: tuple[Extents, Extents] | None = None

    def applies(self, config: ContainerConfig) -> bool:
        """Whether a container has a user namespace of its own (or another container's)."""
        mode = config.userns_mode
        return mode == "private" or (mode != "host" and bool(self.asked))

    def maps(self) -> tuple[Extents, Extents]:
        """The maps of uids and gids: those asked for, read once, or `default`'s.

        Raises:
            RefusedRemapping: There are none.
        """
        if not self.asked:
            return read("default")
        if self._maps is None:
            self._maps = read(self.asked)
        return self._maps

    def check(self, config: ContainerConfig) -> None:
        """Refuse what a container in a user namespace can't have, as Docker does.

        Raises:
            BadParameter: The text says what.
        """
        if not self.applies(config):
            return
        if config.privileges.privileged:
            raise BadParameter(
                "privileged mode is incompatible with user namespaces.  You must run the container "
                "in the host namespace when running privileged mode"
            )
        if config.network_mode == "host":
            raise BadParameter(
                "cannot share the host's network namespace when user namespaces are enabled"
            )
        if config.namespaces.pid == "host":
            raise BadParameter(
                "cannot share the host PID namespace when user namespaces are enabled"
            )
        for point in config.mounts.points:
            if point.propagation.removeprefix("r") == "shared":
                raise BadParameter(
                    f"bind {point.source} with {point.propagation}: no mount made in a user "
                    "namespace reaches the machine: use rslave, or --userns host"
                )
        try:
            self.maps()
        except RefusedRemapping as error:
            option = f"--userns {config.userns_mode}" if config.userns_mode else "--userns-remap"
            raise BadParameter(f"{option}: {error}") from error

    def resolve(
        self, container: Container, donors: Sequence[tuple[str, Container]]
    ) -> tuple[str | Donor, UserNamespace | None]:
        """The user namespace of a start: as a spec has it, and for the record.

        Args:
            donors: What kind of namespace it joins of whom; all of them run.

        Raises:
            DonorNotShareable: They are in different user namespaces.
            StartFailed: There is no map any more, or it was created under an engine without, and
                asks for what can't be now.
        """
        try:
            self.check(container.config)
        except BadParameter as error:
            raise StartFailed(str(error), 128) from error
        own: UserNamespace | None = None
        if self.applies(container.config):
            uids, gids = self.maps()
            own = UserNamespace(f"{container.id}.{os.urandom(4).hex()}", uids, gids)
        if not donors:
            return ("private" if own else "host"), own
        names = {donor.life.user_namespace for _, donor in donors}
        for kind, donor in donors:
            theirs = donor.life.user_namespace
            if len(names) == 1 and (theirs is None) == (own is None):
                continue
            what = "has a user namespace of its own" if theirs else "has none of its own"
            raise DonorNotShareable(
                f"can't join {kind} of container {donor.id}: it {what}, and only containers of one "
                "user namespace can share others: start both with the same --userns"
            )
        (shared,) = names
        if shared is None:
            return "host", None
        (_, first), *_ = donors
        assert first.run is not None
        return Donor(first.id, first.run.pid, first.run.start_ticks), shared


def directories(
    lower: Sequence[str], own: Path, files: Path, binds: Sequence[Bind | Tmpfs]
) -> tuple[str, ...]:
    """What is ours on disk of what a container mounts, and so is shown with its ids.

    Args:
        lower: The image's layers.
        own: The container's directory.
        files: That of its network files.
    """
    # A volume is filled by way of directories beside it (`runtime.copy_up`).
    bound = [
        os.path.dirname(one.source) if one.fill else one.source
        for one in binds
        if isinstance(one, Bind) and one.shifted
    ]
    return tuple(dict.fromkeys([*lower, str(own), str(files), *bound]))


def read(asked: str, subuid: Path = SUBUID, subgid: Path = SUBGID) -> tuple[Extents, Extents]:
    """The maps of uids and gids that a word of dockerd's means.

    Args:
        asked: "default", USER, USER:GROUP, UID or UID:GID.

    Raises:
        RefusedRemapping: There is no such user, group or range.
    """
    user, colon, group = asked.partition(":")
    if asked == "default":
        names = {USUAL_USER}
        groups = names
    else:
        if not user or (colon and not group):
            raise RefusedRemapping(
                f"invalid user namespace remapping {asked!r}: it is default, USER[:GROUP] or "
                "UID[:GID]"
            )
        names = _user(user)
        groups = _group(group) if group else names
    return _map("uid", names, subuid), _map("gid", groups, subgid)


def _user(word: str) -> set[str]:
    """All names under which a user may be found there."""
    try:
        found = pwd.getpwuid(int(word)) if _is_number(word) else pwd.getpwnam(word)
    except (KeyError, OverflowError):
        if _is_number(word):
            return {word}
        raise RefusedRemapping(f"there is no user {word} on this machine") from None
    return {found.pw_name, str(found.pw_uid)}


def _group(word: str) -> set[str]:
    try:
        found = grp.getgrgid(int(word)) if _is_number(word) else grp.getgrnam(word)
    except (KeyError, OverflowError):
        if _is_number(word):
            return {word}
        raise RefusedRemapping(f"there is no group {word} on this machine") from None
    return {found.gr_name, str(found.gr_gid)}


def _map(kind: str, names: set[str], file: Path) -> Extents:
    ranges = [(first, count) for owner, first, count in _lines(file) if owner in names]
    name = min(names, key=str.isdigit)
    if not ranges:
        free = max((first + count for _, first, count in _lines(file)), default=0)
        raise RefusedRemapping(
            f"{file} has no {kind}s for {name}: add a line for it, such as "
            f"{name}:{max(free, 100_000)}:{_FEWEST}"
        )
    extents: list[tuple[int, int, int]] = []
    inside = 0
    for first, count in ranges:
        if first == 0:
            raise RefusedRemapping(f"{file}: {name} may have the machine's root, {kind} 0: refused")
        extents.append((inside, first, count))
        inside += count
    if len(extents) > idmap.MOST_EXTENTS:
        raise RefusedRemapping(
            f"{file}: {name} has {len(extents)} lines, and the kernel takes {idmap.MOST_EXTENTS}"
        )
    return tuple(extents)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _lines(file: Path) -> Iterator[tuple[str, int, int]]:
    try:
        text = file.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return
    except OSError as error:
        raise RefusedRemapping(f"cannot read {file}: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().split(":")
        if not line.strip() or line.startswith("#"):
            continue
        if len(words) != 3 or not (_is_number(words[1]) and _is_number(words[2])):
            raise RefusedRemapping(f"{file}, line {number}: not NAME:FIRST:COUNT: {line.strip()}")
        first, count = int(words[1]), int(words[2])
        if not count or first + count > _NOBODY:
            raise RefusedRemapping(f"{file}, line {number}: there are no such ids: {line.strip()}")
        yield words[0], first, count


def lacking(most: Path = _MOST_USER_NAMESPACES) -> str:
    """Why this kernel makes no user namespaces; "" where it does."""
    if not Path("/proc/self/ns/user").exists():
        return "this kernel has no user namespaces (CONFIG_USER_NS)"
    try:
        if most.read_text().strip() == "0":
            return f"{most} is 0: user namespaces are switched off"
    except FileNotFoundError:
        return ""
    return ""
