"""Requests made from the Engine API's specification by schemathesis, valid ones and broken ones.

What they name is mostly put in place of what a generator invents, so that they get past the door: a
container that is there, the built-in image, a command that runs. Host paths and devices are kept to
harmless ones, for it is real root that they reach.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import tarfile
import time
import urllib.parse
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import InvalidArgument, Unsatisfiable
from schemathesis import GenerationMode

from tests.fuzz.findings import Findings
from tests.fuzz.watched_engine import WatchedEngine
from tests.real.engine_process import UnixConnection

COMMANDS = (
    ["true"],
    ["sh", "-c", "echo out; echo err >&2; exec sleep 3"],
    ["sleep", "5"],
    ["cat"],
    ["sh", "-c", "kill -9 $$"],
    ["nosuchcommand"],
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/dev/nosuch")
ENDLESS = ("/attach", "/wait", "/logs", "/events", "/stats", "/start", "/session", "/archive")
"""Ends of paths whose answers, or what comes behind them, may last: they are looked at and left."""

ANSWER_S = 30.0
"""Any other answer that takes longer hangs."""

LOOK_S = 0.3
MOST_ANSWER = 4 * 1024 * 1024
_ELSEWHERE = ("/nodes", "/swarm", "/services", "/tasks", "/secrets", "/configs", "/plugins")
"""Paths of what one engine by itself does not do: asked now and then."""

_KEPT = 25
_EXAMPLES = 12


@schemathesis.serializer(
    "application/x-tar", "application/octet-stream", "application/tar", "text/plain"
)
def _as_it_is(_context: object, value: Any) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()


class Driver:
    """Sends cases, and keeps a small population that they can mean.

    Attributes:
        sent: Cases so far.
        statuses: How they were answered.
    """

    def __init__(
        self, engine: WatchedEngine, findings: Findings, sandbox: Path, chance: random.Random
    ) -> None:
        self._engine = engine
        self._findings = findings
        self._sandbox = sandbox
        self._chance = chance
        self._names: list[str] = ["none"]
        self._execs: list[str] = ["none"]
        self.sent = 0
        self.statuses: Counter[int] = Counter()

    # -- what a case means

    def _path(self, case: Any) -> str:
        words = dict(case.path_parameters or {})
        pick = self._chance.choice
        for name in words:
            if self._chance.random() < 0.15:
                continue
            if case.path.startswith("/exec"):
                words[name] = pick(self._execs)
            elif case.path.startswith("/containers"):
                words[name] = pick(self._names)
            elif case.path.startswith("/images"):
                words[name] = pick(["host", "fuzzed", "fuzzed:1"])
            elif case.path.startswith("/volumes"):
                words[name] = pick(["fuzz1", "fuzz2"])
            elif case.path.startswith("/networks"):
                words[name] = pick(["host", "none", "bridge"])
        path = case.path
        for name, value in words.items():
            path = path.replace(f"{{{name}}}", urllib.parse.quote(str(value), safe=""))
        return str(path)

    def _query(self, case: Any) -> str:
        query = dict(case.query or {})
        for name in ("t", "timeout"):
            if name in query and self._chance.random() < 0.8:
                query[name] = self._chance.choice([0, 1])
        # As a number that is no number, or one that would have it wait for a day, it is sent by
        # the parser's own fuzzers, which need not wait for it.
        if case.path.endswith(("/stop", "/restart")):
            query["t"] = self._chance.choice([0, 1, "x", ""])
        if case.path == "/containers/create" and self._chance.random() < 0.9:
            query = {key: value for key, value in query.items() if key == "name"}
            query["name"] = f"fuzz-{self._chance.randrange(10**6)}"
        if case.path == "/images/create" and "fromSrc" in query:
            query["fromSrc"] = self._chance.choice(["-", "http://127.0.0.1:1/x.tar"])
        if case.path == "/build":
            query.pop("remote", None)
            query["t"] = "fuzzed"
        if case.path == "/commit":
            query["container"] = self._chance.choice(self._names)
            query["repo"] = "fuzzed"
        if "path" in query and self._chance.random() < 0.7:
            query["path"] = self._chance.choice(["/tmp", "/etc/passwd", "/etc", "/proc/self", "."])
        return urllib.parse.urlencode(query, doseq=True, errors="surrogatepass") if query else ""

    def _body(self, case: Any) -> tuple[bytes | None, str]:
        kind = str(case.media_type or "")
        body = case.body
        if case.path in ("/build", "/images/load") or case.path.endswith("/archive"):
            if case.method.upper() in ("GET", "HEAD"):
                return None, ""
            return self._archive(case.path), "application/x-tar"
        if isinstance(body, bytes):
            return body, kind
        if type(body).__name__ == "NotSet" or body is None:
            return None, ""
        if isinstance(body, dict):
            if case.path == "/containers/create":
                body = self._container(body)
            elif case.path.endswith("/exec"):
                body = {**body, "Cmd": self._chance.choice(COMMANDS), "Env": ["A=b"]}
            elif case.path == "/volumes/create":
                body = {**body, "Name": self._chance.choice(["fuzz1", "fuzz2"]), "DriverOpts": {}}
            elif case.path == "/commit":
                body = {key: value for key, value in body.items() if key != "Cmd"}
            self._tame(body)
        try:
            return json.dumps(body).encode(errors="replace"), "application/json"
        except (TypeError, ValueError):
            return repr(body).encode(errors="replace"), kind

    def _container(self, body: dict[str, Any]) -> dict[str, Any]:
        chance = self._chance
        body = {**body, "Image": "host", "Cmd": chance.choice(COMMANDS)}
        for name in ("Entrypoint", "Shell"):
            body.pop(name, None)
        # Many options at once are always refused for one of them: a few are looked at each time.
        host = body.get("HostConfig")
        if isinstance(host, dict):
            names = list(host)
            chance.shuffle(names)
            body["HostConfig"] = {name: host[name] for name in names[: chance.randrange(4)]}
            if chance.random() < 0.7:
                body["HostConfig"]["NetworkMode"] = chance.choice(["none", "host", "none"])
        names = [name for name in body if name not in ("Image", "Cmd", "HostConfig")]
        chance.shuffle(names)
        for name in names[chance.randrange(4) :]:
            del body[name]
        return body

    def _tame(self, value: Any, name: str = "") -> None:
        """Keep what reaches the machine itself to harmless places; in place, all through."""
        if isinstance(value, dict):
            for key in list(value):
                inner = value[key]
                if key in ("Source", "PathOnHost") and isinstance(inner, str):
                    value[key] = self._place(key)
                elif key == "Binds" and isinstance(inner, list):
                    value[key] = [self._bind(one) for one in inner]
                elif key == "CgroupParent" and isinstance(inner, str) and inner:
                    value[key] = f"mdocker-fuzz-{self._chance.randrange(3)}"
                elif key == "Delay" or key.endswith("Period") or key == "Interval":
                    continue
                else:
                    self._tame(inner, key)
        elif isinstance(value, list):
            for inner in value:
                self._tame(inner, name)

    def _place(self, key: str) -> str:
        if key == "PathOnHost":
            return self._chance.choice(DEVICES)
        return str(self._sandbox / self._chance.choice(["a", "b", "missing/c"]))

    def _bind(self, one: Any) -> Any:
        if not isinstance(one, str):
            return one
        rest = one.partition(":")[2]
        return f"{self._place('Source')}:{rest or '/mnt'}"

    def _archive(self, path: str) -> bytes:
        chance = self._chance
        if chance.random() < 0.3:
            return chance.randbytes(chance.randrange(2000))
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for number in range(chance.randrange(4)):
                entry = tarfile.TarInfo(chance.choice(["a", "../b", "/c", "d/e", "x" * 300]))
                entry.type = chance.choice([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
                entry.linkname = chance.choice(["/etc/passwd", "..", ""])
                entry.mode = chance.choice([0o644, 0o4755, 0, 0o7777])
                content = b"x" * number * 700 if entry.isreg() else b""
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            if path == "/build":
                lines = ["FROM host", "RUN true", "COPY . /x", "ENV A=b", "USER 5", "NONSENSE"]
                text = "\n".join(lines[: 1 + chance.randrange(6)]).encode()
                entry = tarfile.TarInfo("Dockerfile")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        data = bytearray(out.getvalue())
        if chance.random() < 0.4:
            for _ in range(chance.randrange(1, 8)):
                data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)

    # -- the conversation

    def send(self, case: Any) -> None:
        """Send one case and judge its answer."""
        self.sent += 1
        path, query = self._path(case), self._query(case)
        body, kind = self._body(case)
        headers = {
            str(name): str(value).encode("latin-1", "replace").decode("latin-1")
            for name, value in (case.headers or {}).items()
        }
        if kind:
            headers["Content-Type"] = kind
        target = f"/v1.50{path}{'?' + query if query else ''}"
        example = f"{case.method.upper()} {target} {headers} {(body or b'')[:600]!r}"
        endless = path.endswith(ENDLESS) or "/ws" in path
        connection = UnixConnection(self._engine.process.socket, timeout=ANSWER_S)
        began = time.monotonic()
        try:
            connection.request(case.method.upper(), target, body, headers)
            if endless:
                connection.sock.settimeout(LOOK_S)
            response = connection.getresponse()
            read = response.read(MOST_ANSWER)
        except TimeoutError:
            if not endless:
                self._findings.note("hang", f"{case.method} {case.path}", example)
            return
        except (http.client.HTTPException, ValueError, UnicodeError):
            return  # a header that http.client won't send, or a stream of another protocol
        except OSError:
            self._engine.look(example)
            return
        finally:
            connection.close()
        self.statuses[response.status] += 1
        took = time.monotonic() - began
        if took > ANSWER_S and not endless:
            self._findings.note("slow", f"{case.method} {case.path}", f"{took:.1f} s {example}")
        self._judge(case, response.status, read, example)
        self._remember(case, response.status, read)

    def _judge(self, case: Any, status: int, read: bytes, example: str) -> None:
        where = f"{case.method} {case.path}"
        if status >= 400 and case.method.upper() != "HEAD":
            try:
                message = json.loads(read)["message"]
            except (ValueError, KeyError, TypeError):
                self._findings.note("no message", f"{where} {status} {read[:200]!r}", example)
                return
            if not message or "Traceback" in message or "Error:" in message[:40]:
                self._findings.note("poor words", f"{where} {status} {message}", example)
        if self.sent % 20 == 0:
            self._engine.look(example)
            self._engine.ping(example)

    def _remember(self, case: Any, status: int, read: bytes) -> None:
        if status != 201:
            return
        with suppress(ValueError, KeyError, TypeError):
            made = json.loads(read)["Id"]
            if case.path == "/containers/create":
                self._names.append(made)
                # Most operations want one that runs.
                if self._chance.random() < 0.8:
                    self._engine.process.post(f"/containers/{made}/start")
            elif case.path.endswith("/exec"):
                self._execs.append(made)
        del self._execs[:-_KEPT]
        while len(self._names) > _KEPT:
            self._engine.process.delete(f"/containers/{self._names.pop(1)}?force=1&v=1")


def run(
    engine: WatchedEngine,
    findings: Findings,
    specification: Path,
    sandbox: Path,
    seconds: float,
    number: int,
) -> Driver:
    """Send cases of every operation, round after round, until the time is over."""
    chance = random.Random(number)
    for name in ("a", "b"):
        (sandbox / name).mkdir(parents=True, exist_ok=True)
    schema = schemathesis.openapi.from_path(str(specification))
    operations = [found.ok() for found in schema.get_all_operations()]
    driver = Driver(engine, findings, sandbox, chance)
    end = time.monotonic() + seconds
    creating = next(one for one in operations if one.path == "/containers/create")
    while time.monotonic() < end:
        chance.shuffle(operations)
        for operation in (creating, *operations):
            if time.monotonic() >= end:
                break
            if operation.path.startswith(_ELSEWHERE) and chance.random() < 0.9:
                continue
            modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
            mode = modes[chance.random() < 0.35]
            # Of a request without parameters there is no broken one.
            with suppress(Unsatisfiable, InvalidArgument):
                _some(driver, operation.as_strategy(generation_mode=mode), chance.getrandbits(60))
    engine.look()
    return driver


def _some(driver: Driver, strategy: Any, number: int) -> None:
    @seed(number)
    @given(strategy)
    @settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def each(case: Any) -> None:
        driver.send(case)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        each()
