"""Parsers of strangers' text under atheris, which steers by the code that a text reaches.

`python -m tests.fuzz.parsers NAME CORPUS -max_total_time=60` runs one; the rest are libFuzzer's
options. A parser may refuse, by its own errors; whatever else it raises is a fault, and so is a
text that takes it longer than libFuzzer's -timeout.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["runtime", "supervisor", "logs", "mdocker"]):
    from logs.options import LogOptionRefused
    from logs.options import parse as parse_log_options
    from runtime import users
    from runtime.errors import InitRefused
    from runtime.images import configuration, instructions, references
    from runtime.images.errors import ImageError
    from runtime.seccomp import profile, program
    from runtime.shim_protocol import ProtocolFault, decode
    from supervisor.api import create, filters, parameters
    from supervisor.building import dockerfile, ignoring
    from supervisor.errors import EngineError
    from supervisor.registries import challenges, credentials, manifests

from tests.unit.api.fakes import HOST

Target = Callable[[bytes], object]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _create(data: bytes) -> None:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        create.merge(create.read({"Image": "host", "Cmd": ["true"], **body}), HOST)


def _filters(data: bytes) -> None:
    known = ("label", "exited", "status", "publish", "since", "until", "dangling", "name")
    request = SimpleNamespace(parameter=lambda _name: _text(data))
    found = filters.parse(request, known)
    filters.single_flag(found, "dangling")
    if "exited" in found:
        filters.exit_codes(found, "exited")
    if "publish" in found:
        filters.ports(found, "publish")
    for name in found.get("name", ()):
        filters.pattern(name, "name").search("a" * 200)


def _manifest(data: bytes) -> None:
    made = manifests.make(data, "", "x")
    if made.is_list:
        manifests.parse_list(made)
    else:
        manifests.parse_image(made)


def _users(data: bytes) -> None:
    user, _, files = data.partition(b"\n")
    passwd, _, group = files.partition(b"\0")
    users.resolve(user, passwd, group, [user])


def _dockerfile(data: bytes) -> None:
    for line in dockerfile.read(data).lines:
        if line.keyword in ("CMD", "ENV", "LABEL", "EXPOSE", "HEALTHCHECK", "VOLUME", "USER"):
            with contextlib.suppress(ValueError):  # its way to refuse
                instructions.parse(line.keyword, line.text)


def _ignoring(data: bytes) -> None:
    rules, _, path = data.partition(b"\0")
    ignoring.excludes(ignoring.rules(rules), _text(path).strip("/") or "a/b/c")


def _seccomp(data: bytes) -> None:
    found = profile.read(_text(data), ("CAP_SYS_ADMIN",))
    if found is not None:
        program.assemble(found)


def _log_options(data: bytes) -> None:
    driver, *words = _text(data).split("\n")
    parse_log_options(driver, dict(word.partition("=")[::2] for word in words))


TARGETS: dict[str, tuple[Target, Iterable[bytes]]] = {
    "create": (
        _create,
        (
            b'{"HostConfig":{"Memory":6291456,"NanoCpus":10000000,"CapAdd":["ALL"],"Ulimits":'
            b'[{"Name":"nofile","Soft":1,"Hard":2}],"Devices":[{"PathOnHost":"/dev/null"}],'
            b'"SecurityOpt":["seccomp={}"],"Sysctls":{"net.x":"1"}}}',
            b'{"Healthcheck":{"Test":["CMD","x"],"Interval":1000000}}',
            b'{"HostConfig":{"Binds":["a:/b:ro,z"],"Mounts":[{"Type":"tmpfs","Target":"/x"}]}}',
        ),
    ),
    "references": (
        lambda data: references.parse(_text(data)),
        (b"docker.io/library/a:b@sha256:" + b"0" * 64, b"[::1]:5000/a/b__c"),
    ),
    "filters": (_filters, (b'{"label":{"a=b":true},"publish":["80-90/tcp"],"exited":["0"]}',)),
    "moments": (
        lambda data: parameters.parse_moment(_text(data), "since"),
        (b"2024-01-02T03:04:05.000000006Z", b"1700000000.123", b"-1h30m"),
    ),
    "dockerfile": (
        _dockerfile,
        (b'FROM a AS b\nENV A="b c" D=e\\\n f\nHEALTHCHECK --interval=1s CMD ["x"]\n',),
    ),
    "dockerignore": (_ignoring, (b"**/*.py\n!a/[b-c]?\0a/bd", b"\\a\n[^x]\0x")),
    "manifest": (
        _manifest,
        (
            b'{"schemaVersion":2,"config":{"digest":"sha256:' + b"a" * 64 + b'","size":1,'
            b'"mediaType":"application/vnd.oci.image.config.v1+json"},"layers":[]}',
            b'{"manifests":[{"digest":"sha256:' + b"a" * 64 + b'","size":1,"platform":{}}]}',
        ),
    ),
    "configuration": (
        configuration.checked,
        (
            b'{"os":"linux","architecture":"a","rootfs":{"diff_ids":[]},"config":{"Env":["A"]},'
            b'"created":"2024-01-02T03:04:05Z","history":[{"empty_layer":true}]}',
        ),
    ),
    "challenges": (
        lambda data: challenges.choose(challenges.parse([_text(data)])),
        (b'Bearer realm="https://x",scope="a,b", Basic realm=x',),
    ),
    "credentials": (
        lambda data: credentials.from_header(_text(data)),
        (b"eyJ1c2VybmFtZSI6ImEiLCJwYXNzd29yZCI6ImIifQ==",),
    ),
    "users": (_users, (b"a:b\na:x:1:2::/h:\n5:x:9:9\0b:x:3:a\n",)),
    "log options": (_log_options, (b"json-file\nmax-size=10m\nmax-file=3\ntag={{.ID}}",)),
    "seccomp": (
        _seccomp,
        (
            b'{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"archMap":[{"architecture":'
            b'"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]}],'
            b'"syscalls":[{"names":["read","ipc","socketcall"],"action":"SCMP_ACT_ALLOW","args":['
            b'{"index":0,"value":8,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}],"includes":{"caps":'
            b'["CAP_SYS_ADMIN"],"minKernel":"4.8"},"excludes":{"arches":["s390"]}}]}',
        ),
    ),
    "shim packet": (
        lambda data: decode(data, []),
        (b'{"t":"spawn","n":3,"id":"x"}', b'{"t":"forget","n":0,"id":"x"}'),
    ),
}

REFUSALS = (
    *(EngineError, ImageError, InitRefused, ProtocolFault, LogOptionRefused),
    profile.ProfileRefused,
)


def main() -> None:
    """Fuzz the target that the command line names; ends with libFuzzer's own status."""
    name, corpus, *options = sys.argv[1:]
    target, seeds = TARGETS[name]
    os.makedirs(corpus, exist_ok=True)
    for number, seed in enumerate(seeds):
        with open(os.path.join(corpus, f"seed{number}"), "wb") as file:
            file.write(seed)

    def once(data: bytes) -> None:
        try:
            target(data)
        except REFUSALS as refusal:
            # What is refused is told to somebody.
            assert str(refusal), f"{type(refusal).__name__} without words"

    atheris.Setup([sys.argv[0], corpus, *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
