"""Our engine as a person has it: an installed, compiled package and a supervisor of its own."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.api import Api, Reply, Request, fan_out
from bench.cli import IMAGE, Cli
from bench.harness import BenchError, warn
from bench.machine import find
from bench.namespace import unmount_below
from bench.peers import plain_environment
from bench.processes import all_pids, children, end, run, tagged, wait_gone

PACKAGES = ("mdocker", "supervisor", "runtime", "logs")
SCRIPT = "#!{python}\nimport sys\nfrom mdocker.__main__ import main\n\nsys.exit(main())\n"


def install(directory: Path) -> Path:
    """Copies the checkout's packages and compiles them, as pip does; the colleagues' edits and
    PYTHONDONTWRITEBYTECODE then change nothing. Returns the directory for PYTHONPATH."""
    checkout = Path(os.environ.get("MDOCKER_BENCH_SOURCE", Path(__file__).parent.parent))
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout / package, directory / package, ignore=ignored)
    script = directory / "bin" / "mdocker"
    script.parent.mkdir()
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(0o755)
    compiled = [sys.executable, "-m", "compileall", "-q", *(str(directory / p) for p in PACKAGES)]
    run(compiled, env=_environment(directory))
    return directory


def _environment(site: Path, **more: str) -> dict[str, str]:
    environment = plain_environment(PYTHONPATH=str(site), **more)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("PYTHONUNBUFFERED", None)
    return environment


class Engine:
    """A supervisor with a root and a run directory of its own; leaving it removes all of it."""

    def __init__(self, site: Path, directory: Path, run_dir: Path, archive: Path | None) -> None:
        self.site, self.directory, self.run_dir = site, directory, run_dir
        self._archive = archive
        self.socket = run_dir / "mdocker.sock"
        self.api = Api(self.socket)
        self.image = IMAGE if archive else "host"
        self.backend = os.environ.get("MDOCKER_BENCH_BACKEND", "asyncio")
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir()
        self.run_dir.mkdir()
        try:
            self._start()
        except BaseException:
            self._finish()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish()

    def _start(self) -> None:
        self._launch()
        if self._archive:
            path = f"/images/create?fromSrc=-&repo={IMAGE}&tag=latest"
            reply = self.api.call("POST", path, self._archive.read_bytes()).demand(200)
            if b'"error"' in reply.body:
                raise BenchError(f"import of the image: {reply.body.decode()[-300:]}")

    def _launch(self) -> None:
        """Starts a supervisor and waits until it says that it is ready."""
        reader, writer = os.pipe()
        command = [sys.executable, "-m", "mdocker", "daemon", "--root", str(self.directory)]
        command += ["--run-dir", str(self.run_dir), "--ready-fd", str(writer)]
        command += ["--backend", self.backend]
        with (self.directory.parent / "daemon.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(self.site),
                cwd=self.site,
                pass_fds=(writer,),
                start_new_session=True,
            )
        os.close(writer)
        try:
            told = b""
            while select.select([reader], [], [], 30)[0] and (data := os.read(reader, 4096)):
                told += data
        finally:
            os.close(reader)
        if told != b"ready\n":
            words = told.decode(errors="replace").strip() or self._last_words()
            raise BenchError(f"our engine does not start: {words}")

    def revive(self) -> float:
        """Kills the supervisor with SIGKILL; the seconds until the one that follows by itself has
        answered a request."""
        dead = self.supervisor
        self.api.close()
        begun = time.monotonic()
        os.kill(dead, signal.SIGKILL)
        wait_gone([dead], 15)
        self.api.call("GET", "/_ping").demand(200)
        took = time.monotonic() - begun
        if self.supervisor == dead:
            raise BenchError("the supervisor was not killed")
        return took

    def _last_words(self) -> str:
        logs = (self.directory.parent / "daemon.log", self.run_dir / "shim.log")
        texts = [log.read_text(errors="replace").strip() for log in logs if log.exists()]
        return " | ".join(text[-400:] for text in texts if text) or "it says nothing"

    @property
    def supervisor(self) -> int:
        """The pid of the supervisor, or of the last one."""
        try:
            return int((self.run_dir / "supervisor.pid").read_text())
        except (OSError, ValueError):
            assert self._daemon is not None
            return self._daemon.pid

    def shims(self) -> list[int]:
        """The pid of the shim, as its file tells it; empty before there is one."""
        try:
            pid = int((self.run_dir / "shim.pid").read_text())
        except (OSError, ValueError):
            return []
        return [pid] if Path(f"/proc/{pid}").exists() else []

    def processes(self) -> list[int]:
        """All that is ours: the supervisor and the shim."""
        return [self.supervisor, *self.shims()]

    # ---- by the API

    def configuration(self, *command: str, driver: str | None = None) -> dict[str, object]:
        """The body of a create request, as small as clients send it."""
        host: dict[str, object] = {"NetworkMode": "none"}
        if driver:
            # All of it is read back, so nothing may be rotated away.
            kept_whole = {} if driver == "none" else {"max-size": "-1"}
            host["LogConfig"] = {"Type": driver, "Config": kept_whole}
        return {"Image": self.image, "Cmd": list(command), "HostConfig": host}

    def create(self, *command: str, driver: str | None = None) -> str:
        """Creates a container and returns its id."""
        body = self.configuration(*command, driver=driver)
        told = self.api.call("POST", "/containers/create", body).demand(201).json()
        assert isinstance(told, dict)
        return str(told["Id"])

    def start(self, container: str) -> Reply:
        return self.api.call("POST", f"/containers/{container}/start").demand(204)

    def wait(self, container: str) -> int:
        """Waits for the end of a container; its exit code."""
        told = self.api.call("POST", f"/containers/{container}/wait").demand(200).json()
        assert isinstance(told, dict)
        return int(told["StatusCode"])

    def remove(self, container: str) -> None:
        self.api.call("DELETE", f"/containers/{container}?force=1").demand(204)

    def start_many(self, count: int, *command: str, at_once: int = 16) -> tuple[list[str], float]:
        """Creates and starts containers over `at_once` connections; their ids and the seconds."""
        body = self.configuration(*command)
        requests = [Request("POST", "/containers/create", body)] * count
        created, creating = fan_out(self.api, requests, at_once)
        ids = [str(reply.demand(201).json()["Id"]) for reply in created]  # type: ignore[index]
        starts = [Request("POST", f"/containers/{container}/start") for container in ids]
        started, starting = fan_out(self.api, starts, at_once)
        for reply in started:
            reply.demand(204)
        return ids, creating + starting

    def running(self) -> int:
        """How many containers run."""
        told = self.api.call("GET", "/containers/json").demand(200).json()
        assert isinstance(told, list)
        return len(told)

    def remove_all(self) -> None:
        """Kills and removes every container."""
        told = self.api.call("GET", "/containers/json?all=1").demand(200).json()
        assert isinstance(told, list)
        doomed = [Request("DELETE", f"/containers/{entry['Id']}?force=1") for entry in told]
        if doomed:
            for reply in fan_out(self.api, doomed, 16)[0]:
                reply.demand(204, 404)

    def log_file(self, container: str, driver: str = "json-file") -> Path:
        """Where a container's log is kept."""
        name = f"{container}-json.log" if driver == "json-file" else "ctr.log"
        return self.directory / "containers" / container / name

    # ---- by command lines

    def mdocker(self) -> OurCli:
        """Our own command line, pointed at this engine."""
        environment = _environment(
            self.site,
            MDOCKER_HOST=f"unix://{self.socket}",
            MDOCKER_ROOT=str(self.directory),
            MDOCKER_RUN_DIR=str(self.run_dir),
        )
        return OurCli(self, "mdocker", [str(self.site / "bin" / "mdocker")], environment)

    def docker(self) -> OurCli:
        """The docker CLI, pointed at this engine; BenchError when it isn't installed."""
        client = find("docker")
        if client is None:
            raise BenchError("no docker CLI")
        settings = str(self.directory.parent / "client")
        environment = plain_environment(DOCKER_HOST=f"unix://{self.socket}", DOCKER_CONFIG=settings)
        return OurCli(self, "docker CLI", [client], environment)

    # ---- the end

    def _finish(self) -> None:
        parents = self._cgroups()
        with contextlib.suppress(BenchError, OSError):
            if self._daemon is not None:
                self.remove_all()
        self.api.close()
        shims = self.shims()
        if self._daemon is not None:
            last = self.supervisor
            with contextlib.suppress(ProcessLookupError):
                os.kill(last, signal.SIGTERM)
            if self._daemon.poll() is None and last == self._daemon.pid:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._daemon.wait(15)
            if staying := wait_gone([last], 15):
                warn("the supervisor is still there 15 s after SIGTERM; it is killed now")
                with contextlib.suppress(BenchError):
                    end([*shims, *staying])
            self._daemon.poll()
        if staying := wait_gone(shims, 5):
            warn("the shim is still there 5 s after its supervisor; it is killed now")
            with contextlib.suppress(BenchError):
                end(staying)
        with contextlib.suppress(BenchError):
            end(tagged(str(self.run_dir)))
        for parent in parents:
            self._clear(parent)
        if left := unmount_below(self.directory):
            warn(f"our engine left {len(left)} mounts behind; they are unmounted now")
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.run_dir, ignore_errors=True)

    def _cgroups(self) -> set[Path]:
        """The control groups above our containers' own, from where the shim's children are."""
        root = Path("/sys/fs/cgroup")
        root = root / "unified" if (root / "unified").is_dir() else root
        found = set()
        for shim in self.shims():
            for child in children(shim):
                with contextlib.suppress(OSError):
                    for line in Path(f"/proc/{child}/cgroup").read_text().splitlines():
                        place = line.partition("::")[2]
                        if line.startswith("0::") and place.count("/") >= 2:
                            found.add(root / place.lstrip("/").split("/")[0])
        return found

    def _clear(self, parent: Path) -> None:
        """Ends what the engine left in its control group, and says so."""
        if not parent.is_dir():
            return
        inside = [pid for pid in all_pids() if _is_in(pid, parent.name)]
        warn(f"our engine left its cgroup {parent.name} with {len(inside)} processes behind")
        with contextlib.suppress(OSError):
            (parent / "cgroup.kill").write_text("1")
        wait_gone(inside, 5)
        for below, _, _ in os.walk(parent, topdown=False):
            with contextlib.suppress(OSError):
                Path(below).rmdir()


def _is_in(pid: int, name: str) -> bool:
    try:
        return f"/{name}/" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


class OurCli(Cli):
    """A command line that talks to our engine."""

    def __init__(self, engine: Engine, name: str, argv: list[str], env: dict[str, str]) -> None:
        super().__init__(argv, env)
        self.name = name
        self.image = engine.image
        self._engine = engine

    def background(self) -> list[int]:
        return self._engine.processes()

    def log_file(self, container: str) -> Path:
        return self._engine.log_file(container)


def settle(seconds: float) -> None:
    """Lets an engine finish what it still does in the background, before it is measured at rest."""
    time.sleep(seconds)
