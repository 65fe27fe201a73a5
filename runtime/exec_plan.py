"""An exec's spec as its child wants it: bytes and numbers, made before the fork."""

from __future__ import annotations

from runtime import capabilities, json_text
from runtime.plan import as_bytes, environment


class ExecPlan:
    """Everything that the child of an exec does, prepared.

    Attributes:
        unified: The v2 cgroup directory that clone3 puts it into.
        joins: cgroup.procs files of v1 directories to enter.
        env: The environment without what depends on the user (HOME).
        keep: Capabilities as a bit mask.
        layers: Where /etc/passwd and group are to be found, the topmost first; or nothing.
        memory_limited: A process of it can be OOM-killed.
    """

    __slots__ = (
        "args",
        "cwd",
        "env",
        "joins",
        "keep",
        "layers",
        "memory_limited",
        "no_new_privileges",
        "unified",
        "user",
    )

    args: list[bytes]
    env: dict[bytes, bytes]
    cwd: bytes
    user: bytes
    keep: int
    no_new_privileges: bool
    unified: bytes
    joins: list[bytes]
    layers: list[bytes]
    memory_limited: bool


def compile_exec(data: bytes) -> ExecPlan:
    """Turn the bytes of `runtime.exec_spec.ExecSpec.to_json` into a plan.

    Raises:
        ValueError: it is no JSON, or a value in it can't be used; the text says which.
        KeyError: a field is missing.
    """
    spec = json_text.load(data)
    plan = ExecPlan()
    plan.args = [as_bytes(word) for word in spec["args"]]
    if not plan.args or not plan.args[0]:
        raise ValueError("no command specified")
    plan.env = environment(spec["env"], b"")
    plan.cwd = as_bytes(spec["cwd"]) or b"/"
    plan.user = as_bytes(spec["user"])
    plan.keep = capabilities.mask(spec["capabilities"])
    plan.no_new_privileges = spec["no_new_privileges"]
    plan.unified = as_bytes(spec["cgroup"])
    plan.joins = [as_bytes(path) + b"/cgroup.procs" for path in spec["joins"]]
    plan.layers = [as_bytes(path) for path in spec["layers"]]
    plan.memory_limited = spec["memory_limited"]
    return plan
