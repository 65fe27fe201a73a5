"""The clients' own public test suites, unchanged, against a supervisor of ours.

    python -m tests.clients.suites [SUITE...] [--record]

Each suite is fetched through its package registry (an sdist of PyPI that carries tests, or a Debian
source package), unpacked below .cache/clients and run in an environment of its own. What passes
is listed in tests/clients/passing/SUITE.txt; a listed test that passes no more fails the run, one
that passes anew is told, and `--record` writes the list anew. No foreign code is kept here.

As root, with the network for the first run; `make client-suites` does all of it.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.clients.root_trees import busybox_tar, python_tar
from tests.real.engine_process import CHECKOUT, Answer, EngineProcess
from tests.real.registry_process import PROGRAM as REGISTRY
from tests.real.registry_process import RegistryProcess

CACHE = CHECKOUT / ".cache" / "clients"

_TEST_S = 60
"""A test that takes longer hangs."""


class CanNotRun(Exception):
    """A suite can't be had or run here; the text says why."""


@dataclass(frozen=True)
class Suite:
    """One client's suite.

    Attributes:
        name: Of its list and its folder.
        fetch: Fetches the source into a folder and returns where it lies.
        python: The interpreter that its environment is made of.
        needs: What pip installs there.
        paths: What pytest is given.
        images: Names of images, and what makes their tar.
        pulled: The same of images that are at the registry alone.
        options: Further options of pytest.
        sees_system: Whether the interpreter's own packages are seen, too.
        before: What stands before the command.
    """

    name: str
    fetch: Callable[[Path], Path]
    python: str
    needs: tuple[str, ...]
    paths: tuple[str, ...]
    images: dict[str, Callable[[], bytes]]
    pulled: dict[str, Callable[[], bytes]] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    sees_system: bool = False
    before: tuple[str, ...] = ()

    @property
    def listing(self) -> Path:
        """The list of what passes."""
        return Path(__file__).parent / "passing" / f"{self.name}.txt"


def _call(*words: str | Path, **options: object) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise CanNotRun(f"{words[0]} failed: {done.stderr.strip()[-500:]}")


def sdist(project: str, version: str) -> Callable[[Path], Path]:
    """Return what fetches a release's source from PyPI."""

    def fetch(folder: Path) -> Path:
        wanted = folder / f"{project}-{version}"
        if not wanted.exists():
            _call(
                *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
                *("--no-binary", ":all:", "-d", folder, f"{project}=={version}"),
            )
            with tarfile.open(folder / f"{project}-{version}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
        return wanted

    return fetch


_DEBIAN_SOURCES = """\
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def debian_source(package: str, folder_name: str) -> Callable[[Path], Path]:
    """Return what fetches a Debian source package; the machine's own apt lists stay as they are."""

    def fetch(folder: Path) -> Path:
        wanted = folder / folder_name
        if wanted.exists():
            return wanted
        if shutil.which("apt-get") is None:
            raise CanNotRun("needs apt-get")
        (folder / "apt" / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "apt" / "src.sources").write_text(_DEBIAN_SOURCES)
        options = (
            *("-q", "-o", f"Dir::Etc::sourcelist={folder}/apt/src.sources"),
            *("-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::Cache={folder}/apt"),
            *("-o", f"Dir::State::lists={folder}/apt/lists", "-o", "APT::Sandbox::User=root"),
        )
        _call("apt-get", *options, "update", cwd=folder)
        _call("apt-get", *options, "source", "--download-only", package, cwd=folder)
        for path in folder.glob(f"{package}_*.orig.tar.*"):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        return wanted

    return fetch


def _hello_tar() -> bytes:
    """An image that shares nothing with another one, so that something is freed with it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 6
        tar.addfile(entry, io.BytesIO(b"hello\n"))
    return out.getvalue()


SUITES = (
    Suite(
        "docker-py",
        # The last release whose sdist carries the tests; it can't do with a newer requests.
        sdist("docker", "7.0.0"),
        sys.executable,
        (
            "docker==7.0.0",
            "requests<2.32",
            "paramiko",
            "websocket-client",
            "pytest<8",
            "pytest-timeout",
            "setuptools<81",
        ),
        ("tests/integration",),
        {"alpine:3.10": busybox_tar, "alpine:latest": busybox_tar, "busybox:latest": busybox_tar},
        {"hello-world:latest": _hello_tar},
    ),
    Suite(
        "aiodocker",
        sdist("aiodocker", "0.27.0"),
        sys.executable,
        (
            "aiodocker==0.27.0",
            *("pytest<9.1", "pytest-asyncio==1.3.0", "pytest-timeout", "testcontainers"),
            *("async-timeout", "asyncssh", "packaging", "paramiko"),
        ),
        ("tests",),
        {"python:3.13-alpine": python_tar},
        options=("-o", "addopts="),
        # It has tests of files that can't be read, which root has none of without this.
        before=(
            "setpriv",
            "--bounding-set=-dac_override,-dac_read_search",
            "--inh-caps=-dac_override,-dac_read_search",
        ),
    ),
    Suite(
        "docker-compose",
        debian_source("docker-compose", "compose-1.29.2"),
        "/usr/bin/python3",
        ("pytest<8", "pytest-timeout", "ddt", "mock"),
        ("tests/integration", "tests/acceptance"),
        {
            "busybox:1.31.0-uclibc": busybox_tar,
            "busybox:latest": busybox_tar,
            "busybox:1.27.2": busybox_tar,
            "alpine:3.10.1": busybox_tar,
        },
        sees_system=True,
    ),
)


@contextmanager
def _engine(suite: Suite) -> Iterator[EngineProcess]:
    """Give a supervisor of the suite's own, with the images that the suite counts on.

    They are at a registry, too, which stands in for Docker Hub, and some are there alone.
    """
    if not shutil.which(REGISTRY):
        raise CanNotRun(f"needs {REGISTRY}")
    with tempfile.TemporaryDirectory(prefix="mdocker-suite-") as base, ExitStack() as stack:
        registry = RegistryProcess(Path(base) / "registry").start()
        stack.callback(registry.close)
        mirror = ("--registry-mirror", f"http://{registry.address}")
        engine = EngineProcess(Path(base), options=mirror).start()
        stack.callback(engine.close)
        made: dict[Callable[[], bytes], bytes] = {}
        for image, make in (suite.images | suite.pulled).items():
            made[make] = made.get(make) or make()
            there = f"{registry.address}/library/{image}"
            _import(engine, there, made[make])
            _asked(engine.post(f"/images/{there}/push"))
            if image in suite.images:
                _asked(engine.post(f"/images/{there}/tag?repo={image}"))
            _asked(engine.delete(f"/images/{there}"))
        yield engine


def _import(engine: EngineProcess, name: str, tar: bytes) -> None:
    repository, _, tag = name.rpartition(":")
    path = f"/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=CMD%20sh"
    _asked(engine.post(path, tar, {"Content-Type": "application/x-tar"}))


def _asked(answer: Answer) -> None:
    if answer.status >= 400 or b'"error"' in answer.body:
        raise CanNotRun(f"an image could not be made: {answer}")


@contextmanager
def _shared_folder(folder: Path) -> Iterator[Path]:
    """Make a folder that is a shared mount, as all of a machine is that systemd has booted.

    Tests bind their temporary folders with the propagation rshared.
    """
    folder.mkdir()
    _call("mount", "--bind", folder, folder)
    try:
        _call("mount", "--make-shared", folder)
        yield folder
    finally:
        _call("umount", "--lazy", folder)


def _environment(suite: Suite) -> Path:
    """Return the interpreter of the suite's environment, which is made if need be."""
    where = CACHE / f"{suite.name}-python"
    done = where / "installed"
    if not done.exists() or done.read_text() != " ".join(suite.needs):
        if not Path(suite.python).exists():
            raise CanNotRun(f"needs {suite.python}")
        options = ("--system-site-packages",) if suite.sees_system else ()
        shutil.rmtree(where, ignore_errors=True)
        _call(suite.python, "-m", "venv", *options, where)
        _call(where / "bin/python", "-m", "pip", "install", "-q", *suite.needs)
        done.write_text(" ".join(suite.needs))
    return where / "bin/python"


Outcomes = dict[str, tuple[str, str]]
"""What became of each test (passed, failed, skipped), and the first line of why."""


def run(suite: Suite, listed: Collection[str]) -> Outcomes:
    """Run a suite, and those tests that have passed before once more if they fail.

    Raises:
        CanNotRun: It can't be had here.
    """
    if os.geteuid() != 0:
        raise CanNotRun("real containers need root")
    CACHE.mkdir(parents=True, exist_ok=True)
    source = suite.fetch(CACHE)
    python = _environment(suite)
    outcomes = _pytest(suite, source, python, suite.paths)
    lost = [name for name in listed if outcomes.get(name, ("failed",))[0] != "passed"]
    nodes = [node for name in lost if (node := _node(source, name))]
    if nodes:
        # A busy machine is no reason to say that something was lost.
        outcomes |= _pytest(suite, source, python, nodes)
    return outcomes


def _pytest(suite: Suite, source: Path, python: Path, tests: Sequence[str]) -> Outcomes:
    report = CACHE / f"{suite.name}.xml"
    report.unlink(missing_ok=True)
    with (
        _engine(suite) as engine,
        _shared_folder(engine.base / "tmp") as temporary,
        (CACHE / f"{suite.name}.log").open("ab") as log,
    ):
        environment = {
            **engine.environment,
            "DOCKER_CONFIG": str(engine.base),
            "TMPDIR": str(temporary),
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "COMPOSE_HTTP_TIMEOUT": str(_TEST_S),
        }
        environment.pop("PYTHONPATH")
        # Without one, docker-py keeps its contexts in the working directory.
        (engine.base / "config.json").write_text("{}")
        done = subprocess.run(
            [
                *suite.before,
                *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"),
                *(f"--junit-xml={report}", f"--timeout={_TEST_S}", "-o", "junit_family=xunit1"),
                *("-o", "junit_logging=out-err", "-o", "junit_log_passing_tests=false"),
                *("-W", "ignore", *suite.options),
                *tests,
            ],
            cwd=source, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            check=False,
        )  # fmt: skip
    if done.returncode not in (0, 1):
        raise CanNotRun(f"pytest did not come to its end; see {CACHE}/{suite.name}.log")
    return dict(_outcomes(report))


def _node(source: Path, name: str) -> str:
    """Return pytest's name of a test, given the report's; nothing if it is gone."""
    plain, bracket, parameters = name.partition("[")
    words = plain.split(".")
    words[-1] += bracket + parameters
    for length in range(len(words) - 1, 0, -1):
        path = Path(*words[:length]).with_suffix(".py")
        if (source / path).exists():
            return "::".join((str(path), *words[length:]))
    return ""


_UNSTEADY = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,64}\b|\d{5,}")


_REFUSED = re.compile(r"mdocker (?:does not|cannot) [^\"'\\\n]+")
"""Our own words, where a client repeats them: they say more than `assert 1 == 0`."""


def _outcomes(report: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    found: Outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        outcome, why = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if child.tag == "skipped" else "failed"
                why = (child.get("message") or child.text or "").strip().splitlines()[:1]
                words = _REFUSED.search(ElementTree.tostring(case, "unicode", "text"))
                why = words[0] if words else why[0] if why else ""
        # An error of the tear-down comes as a second case of the same name.
        if name not in found or found[name][0] == "passed":
            found[name] = (outcome, why)
    yield from found.items()


_KINDS = (
    # aiodocker makes its swarms in a docker in a container.
    ("swarms", r"swarm|docker-compose\.dind\.yml"),
    ("plugins", r"plugins"),
    ("builds", r"builds|test_build_"),
    ("images from and to registries", r"pull access denied|registries|pushing"),
    ("images as files", r"(saving|loading) of images"),
    (
        "networks and ports",
        r"networks|NetworkMode|HostConfig\.(Links|PortBindings|PublishAllPorts)|MacAddress",
    ),
    ("privileges and devices", r"HostConfig\.(CapAdd|CapDrop|Privileged|Devices|Oom)"),
    ("the suite's own surroundings", r"credential store|DockerContextTLSError|http\+docker is inv"),
)
"""What a failure is about, by its words or its test's name; the first that fits."""


def kind(name: str, why: str) -> str:
    """Return what a failure is about, "else" where that is not told."""
    words = f"{name} {why}"
    return next((kind for kind, pattern in _KINDS if re.search(pattern, words)), "else")


def _judge(suite: Suite, outcomes: Outcomes, listed: set[str], *, record: bool) -> bool:
    """Compare with the list, print what there is to say; tell whether nothing was lost."""
    passed = {name for name, (outcome, _) in outcomes.items() if outcome == "passed"}
    counts = Counter(outcome for outcome, _ in outcomes.values())
    print(
        f"{suite.name}: {counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['skipped']} skipped"
    )
    kinds = Counter(
        kind(name, why) for name, (outcome, why) in outcomes.items() if outcome == "failed"
    )
    print("  failed:", ", ".join(f"{what} {count}" for what, count in kinds.most_common()))
    reasons = Counter(
        _UNSTEADY.sub("…", why)[:160] for outcome, why in outcomes.values() if outcome == "failed"
    )
    for why, count in reasons.most_common(15):
        print(f"  {count:4} × {why}")
    lost = sorted(listed - passed)
    for name in lost:
        print(f"  LOST {name}: {outcomes.get(name, ('not run', ''))}")
    for name in sorted(passed - listed):
        print(f"  new  {name}")
    if record:
        suite.listing.parent.mkdir(exist_ok=True)
        suite.listing.write_text("".join(f"{name}\n" for name in sorted(passed)))
        return True
    return not lost


def main() -> int:
    """Run the suites that the command line names; all without a name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = [suite.name for suite in SUITES]
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(names))
    parser.add_argument("--record", action="store_true", help="write the lists anew")
    asked = parser.parse_args()
    if unknown := set(asked.suites) - set(names):
        parser.error(f"no such suite: {', '.join(unknown)}; there are {', '.join(names)}")
    good = True
    for suite in SUITES:
        if asked.suites and suite.name not in asked.suites:
            continue
        began = time.monotonic()
        try:
            listed = (
                set(suite.listing.read_text().splitlines()) if suite.listing.exists() else set()
            )
            (CACHE / f"{suite.name}.log").unlink(missing_ok=True)
            outcomes = run(suite, listed)
        except CanNotRun as error:
            print(f"{suite.name}: not run: {error}")
            good = False
            continue
        good = _judge(suite, outcomes, listed, record=asked.record) and good
        print(f"  in {time.monotonic() - began:.0f} s; all of it: {CACHE}/{suite.name}.log")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
