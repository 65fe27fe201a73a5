"""An exec's spec as its child wants it: bytes and numbers, made before the fork."""

from __future__ import annotations

from runtime import json_text
from runtime.plan import PayloadPlan, as_bytes, keyring


class ExecPlan(PayloadPlan):
    """Everything that the child of an exec does, prepared.

    Attributes:
        layers: Where /etc/passwd and group are to be found, the topmost first; or nothing.
        silent: Its descriptors that are /dev/null.
        lasting: It outlives its supervisor.
        apart: Enter by `runtime.exec_apart`.
    """

    __slots__ = ("apart", "lasting", "layers", "silent")

    apart: bool
    layers: list[bytes]
    silent: list[int]
    lasting: bool


def compile_exec(data: bytes) -> ExecPlan:
    """Turn the bytes of `runtime.exec_spec.ExecSpec.to_json` into a plan.

    Raises:
        ValueError: it is no JSON, or a value in it can't be used; the text says which.
        KeyError: a field is missing.
    """
    spec = json_text.load(data)
    plan = ExecPlan()
    plan.take(spec, b"")
    plan.keyring = keyring(spec["container"]) if spec["container"] else b""
    plan.unified = as_bytes(spec["cgroup"])
    plan.joins = [as_bytes(path) + b"/cgroup.procs" for path in spec["joins"]]
    plan.layers = [as_bytes(path) for path in spec["layers"]]
    plan.memory_limited = spec["memory_limited"]
    plan.silent = [int(number) for number in spec["silent"]]
    plan.lasting = spec["lasting"]
    plan.apart = spec["apart"]
    return plan
