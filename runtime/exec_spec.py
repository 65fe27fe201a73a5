"""What to run in a container that runs already: the frozen input of one exec.

As with `runtime.spec`, the supervisor writes `to_json` to a sealed memfd, and the shim reads the
same JSON through `runtime.exec_plan` without importing this module.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from runtime.spec import DEFAULT_CAPABILITIES, SECCOMP_FLAGS, Rlimit, rlimit_values


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecSpec:
    """One command in a running container.

    Attributes:
        args: Its argv; the first word is looked up in PATH inside the container.
        env: `KEY=VALUE` words. PATH and HOME are added when they are missing.
        cwd: Absolute directory in the container; a missing one is refused. "" means "/".
        user: Docker's `user[:group]`, each by name or number; "" is root.
        groups: Supplementary groups beside those of the user, each by name or number.
        capabilities: What it may have at most (`CAP_…` names): as a rule what the payload has. With
            more than that, leave `layers` out: it must not share the shim's memory.
        no_new_privileges: Set PR_SET_NO_NEW_PRIVS.
        seccomp: As in `Spec`, as a rule the payload's.
        seccomp_flags: As in `Spec`.
        apparmor: As in `Spec`.
        container: The id of the container, whose session keyring it joins; "" for one of its own.
        uid_map: Of the container's user namespace, as in `Spec`; nothing if it has none of its own.
        gid_map: The same for groups.
        terminal: Lines and columns of a terminal of its own in place of stdin, stdout and stderr,
            (0, 0) where they are not known yet; None for no terminal.
        rlimits: What each of its processes may have: as a rule what the payload's may.
        oom_score_adj: As in `runtime.spec.Spec`.
        silent: Which of its 1 (stdout) and 2 (stderr) are the container's /dev/null.
        lasting: It goes on when the supervisor that began it is gone.
        cgroup: The v2 directory that it is born into, below the container's.
        joins: The container's v1 directories, for its limits.
        memory_limited: Memory is limited, so that a process of the container can be OOM-killed.
        apart: Somebody in its pid namespace may trace others: it is born there only when it has
            given up everything (`runtime.exec_apart`).
        layers: Its root's layers on the host, the writable one first, if none of /etc is mounted
            over there: a fast start finds the user in them. Without them it is no fast one.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    seccomp: str = ""
    seccomp_flags: int = SECCOMP_FLAGS
    apparmor: str = ""
    container: str = ""
    uid_map: tuple[tuple[int, int, int], ...] = ()
    gid_map: tuple[tuple[int, int, int], ...] = ()
    terminal: tuple[int, int] | None = None
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    silent: tuple[int, ...] = ()
    lasting: bool = False
    cgroup: str
    joins: tuple[str, ...] = ()
    memory_limited: bool = False
    apart: bool = False
    layers: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The spec as compact JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["rlimits"] = rlimit_values(self.rlimits)
        return json.dumps(values, separators=(",", ":")).encode()
