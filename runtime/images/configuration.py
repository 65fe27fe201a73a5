"""The image configuration blob: Docker's and OCI's JSON, written and read.

Fields: https://github.com/opencontainers/image-spec/blob/main/config.md
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from runtime.images.entry_names import shown
from runtime.images.errors import ImportRefused
from runtime.images.model import Image
from runtime.images.short_names import MOST_LAYERS

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# uname(2) machine -> Go's GOARCH.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "loongarch64": "loong64",
}
BUILT_IN = "host"
"""What `Image.base` says of images whose layers lie on this machine's own files."""
# OCI leaves unknown fields to who put them there.
_BASE = "mdocker.base"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_KINDS = {str: "text", list: "list", dict: "object", bool: "yes or no", int: "number"}
# Part -> field -> its type, and the type of what is in it. All may be absent, or null.
_FIELDS: dict[str, dict[str, tuple[type, type | None]]] = {
    "": {
        "architecture": (str, None),
        "variant": (str, None),
        "author": (str, None),
        "created": (str, None),
        "config": (dict, None),
        "container_config": (dict, None),
        "container": (str, None),
        "history": (list, dict),
    },
    "rootfs": {"diff_ids": (list, str)},
    "container_config": {"Image": (str, None)},
    "config": {
        "ArgsEscaped": (bool, None),
        "Cmd": (list, str),
        "Domainname": (str, None),
        "Entrypoint": (list, str),
        "Env": (list, str),
        "ExposedPorts": (dict, dict),
        "Healthcheck": (dict, None),
        "Hostname": (str, None),
        "Labels": (dict, str),
        "OnBuild": (list, str),
        "Shell": (list, str),
        "StopSignal": (str, None),
        "StopTimeout": (int, None),
        "User": (str, None),
        "Volumes": (dict, dict),
        "WorkingDir": (str, None),
    },
    "config.Healthcheck": {
        "Test": (list, str),
        "Interval": (int, None),
        "Timeout": (int, None),
        "StartPeriod": (int, None),
        "StartInterval": (int, None),
        "Retries": (int, None),
    },
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def architecture() -> str:
    """This machine's architecture as images name it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


class Step(NamedTuple):
    """What is said of the step that made an image.

    Attributes:
        author: Of the image, too.
        created_by: The command that has changed its files.
        empty_layer: It has changed none.
        container: Id of the container that the image was made of.
        container_image: What that container's image was called.
        command: What it has run, word by word, which `created_by` does not tell.
    """

    comment: str
    author: str = ""
    created_by: str = ""
    empty_layer: bool = False
    container: str = ""
    container_image: str = ""
    command: tuple[str, ...] = ()


def encode(
    inherited: Mapping[str, Any],
    created_ns: int,
    diff_ids: Iterable[str],
    step: Step,
    parent: Image | None = None,
) -> bytes:
    """The blob of a new image. The same input gives the same bytes.

    Args:
        diff_ids: All of its layers, the lowest first; those of the parent are among them.
        parent: What it was made of: its history goes on.
    """
    created = format_time(created_ns)
    told: dict[str, Any] = {"created": created}
    if step.created_by:
        told["created_by"] = step.created_by
    if step.author:
        told["author"] = step.author
    told["comment"] = step.comment
    if step.empty_layer:
        told["empty_layer"] = True
    document: dict[str, Any] = {
        "architecture": parent.architecture if parent else architecture(),
        "os": "linux",
        "created": created,
        "config": dict(inherited),
        "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
        "history": [*(parent.history if parent else ()), told],
    }
    if step.author:
        document["author"] = step.author
    if step.container:
        document["container"] = step.container
        document["container_config"] = {"Image": step.container_image}
        if step.command:
            document["container_config"]["Cmd"] = list(step.command)
    base = _base(parent)
    if base:
        document[_BASE] = base
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _base(parent: Image | None) -> str:
    if parent is None:
        return ""
    return BUILT_IN if parent.built_in else parent.base


def decode(
    image_id: str,
    document: Mapping[str, Any],
    tags: tuple[str, ...],
    size: int,
    built_in: bool = False,
    parent: str = "",
) -> Image:
    """An image from its blob.

    Raises:
        KeyError, TypeError, ValueError: The document is no image configuration.
    """
    history = tuple(document.get("history") or ())
    inherited = document.get("config") or {}
    container_config = document.get("container_config") or {}
    return Image(
        id=image_id,
        tags=tags,
        created_ns=parse_time(document.get("created") or "1970-01-01T00:00:00Z"),
        size=size,
        config={key: value for key, value in inherited.items() if value not in (None, "")},
        architecture=document["architecture"],
        os=document["os"],
        diff_ids=tuple(document["rootfs"].get("diff_ids") or ()),
        comment=history[-1].get("comment", "") if history else "",
        built_in=built_in,
        history=history,
        author=document.get("author") or "",
        parent=parent,
        base=document.get(_BASE) or "",
        container=document.get("container") or "",
        container_image=container_config.get("Image") or "",
        container_command=_command(container_config.get("Cmd")),
        variant=document.get("variant") or "",
    )


def checked(blob: bytes) -> dict[str, Any]:
    """A configuration that a stranger wrote: for Linux, and each part of the right type.

    Fields that nobody here reads are left as they are.

    Raises:
        ImportRefused: It is none; the text says what is wrong.
    """
    try:
        document = json.loads(blob)
    except (ValueError, RecursionError):
        raise ImportRefused("the image's configuration is not JSON") from None
    _check(document, dict, "")
    _check(document.get("rootfs"), dict, "rootfs")
    if document.get("os") != "linux":
        raise ImportRefused(f"the image is for {shown(str(document.get('os')))}, not for linux")
    for where, fields in _FIELDS.items():
        part: Any = document
        for step in where.split(".") if where else ():
            part = (part or {}).get(step)
        for name, (kind, inner) in fields.items():
            value = (part or {}).get(name)
            if value is not None:
                _check(value, kind, f"{where}.{name}".lstrip("."))
                _check_inside(value, inner, f"{where}.{name}".lstrip("."))
    diff_ids = document["rootfs"].get("diff_ids") or []
    check_count(len(diff_ids))
    if not document.get("architecture"):
        raise ImportRefused("the image's configuration is damaged: it names no architecture")
    if not all(_DIGEST.fullmatch(one) for one in diff_ids):
        raise ImportRefused("the image's configuration names layers by something else than sha256")
    try:
        # There and back: some that can be read are beyond what can be shown.
        format_time(parse_time(document.get("created") or "1970-01-01T00:00:00Z"))
    except (ValueError, OverflowError):
        raise ImportRefused(
            "the image's configuration is damaged: created is no time that can be"
        ) from None
    return dict(document)


def check_count(layers: int) -> None:
    """Refuse an image of which no container could be started.

    Raises:
        ImportRefused: It has too many layers; the text says what to do.
    """
    if layers > MOST_LAYERS:
        raise ImportRefused(
            f"max depth exceeded: the image has {layers} layers, and the kernel stacks no more "
            f"than {MOST_LAYERS}: export a container of one with fewer, and import that as one"
        )


def _check(value: object, kind: type, where: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ImportRefused(
            "the image's configuration is damaged: "
            + (f"{where} is no {_KINDS[kind]}" if where else "it is no object")
        )


def _check_inside(value: object, kind: type | None, where: str) -> None:
    if kind is None:
        return
    inside = value.values() if isinstance(value, dict) else value
    assert isinstance(inside, Iterable)
    for one in inside:
        _check(one, kind, f"a part of {where}")


def _command(words: object) -> tuple[str, ...]:
    """A list of words; what others have written there may be something else."""
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return ()
    return tuple(words)


def format_time(ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def parse_time(text: str) -> int:
    """ns since the epoch of an RFC 3339 time.

    Raises:
        ValueError: It is none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text}")
    moment, fraction, zone = match.groups()
    whole = datetime.fromisoformat(moment + ("+00:00" if zone == "Z" else zone))
    return int(whole.timestamp()) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
