"""podman and dockerd, each with a root of its own in a temporary directory and nothing left after.

Both run in a private mount namespace, so their mounts die with it. crun 1.8.1 refuses a hybrid
cgroup tree, so there podman's has no /sys/fs/cgroup/unified.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.cli import IMAGE, Cli
from bench.harness import BenchError, warn
from bench.machine import find
from bench.namespace import MountNamespace, unmount_below
from bench.processes import end, run, tagged

UNIFIED = "/sys/fs/cgroup/unified"
CGROUP_PARENT = "mdocker-bench"


def program(name: str) -> str:
    """The path of a peer's program; BenchError "not installed" without it."""
    path = find(name)
    if path is None:
        raise BenchError("not installed")
    return path


def plain_environment(**more: str) -> dict[str, str]:
    """Our own environment without what would send a client elsewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DOCKER_", "CONTAINER", "MDOCKER_", "NO_COLOR"))
    }
    kept["PATH"] = kept.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin"
    return {**kept, **more}


class Peer(Cli):
    """A peer as a context manager; leaving it ends and removes all that it made."""

    def __init__(self, directory: Path, archive: Path) -> None:
        super().__init__(())
        self.directory = directory
        self._archive = archive
        self._space: MountNamespace | None = None

    def __enter__(self) -> Self:
        self.directory.mkdir()
        try:
            self.begin()
        except BaseException:
            self.finish()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.finish()

    def begin(self) -> None:
        raise NotImplementedError

    def join(self, without: tuple[str, ...] = ()) -> MountNamespace:
        self._space = MountNamespace(self.directory / "private", without)
        return self._space

    def finish(self) -> None:
        if self._space is not None:
            with contextlib.suppress(BenchError, OSError):
                self.remove_all()
        self.end_daemons()
        with contextlib.suppress(BenchError):
            end(tagged(str(self.directory)))
        if self._space is not None:
            self._space.close()
            self._space = None
        if left := unmount_below(self.directory):
            warn(f"{self.name} left {len(left)} mounts behind; they are unmounted now")
        shutil.rmtree(self.directory, ignore_errors=True)
        remove_cgroups(CGROUP_PARENT)

    def end_daemons(self) -> None:
        """What a daemon wants before its processes are killed; nothing for those without one."""


def remove_cgroups(name: str) -> None:
    """Removes the empty control groups called `name` from every hierarchy."""
    root = Path("/sys/fs/cgroup")
    places = [root / name, *(place / name for place in root.iterdir() if place.is_dir())]
    for place in places:
        if place.is_dir():
            for below, _, _ in os.walk(place, topdown=False):
                with contextlib.suppress(OSError):
                    Path(below).rmdir()


class Podman(Peer):
    """podman with crun and conmon, by the cgroupfs manager; no daemon."""

    name = "podman"

    def begin(self) -> None:
        podman, runtime = program("podman"), find("crun") or program("runc")
        program("conmon")
        here = self.directory
        hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 1048576)
        tasks = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 32768)
        tasks = tasks if tasks > 0 else 32768
        (here / "containers.conf").write_text(
            "[containers]\n"
            f'default_ulimits = ["nofile={hard}:{hard}", "nproc={tasks}:{tasks}"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'runtime = "{Path(runtime).name}"\n'
        )
        (here / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{here}/root"\nrunroot = "{here}/run"\n'
        )
        environment = plain_environment(
            CONTAINERS_CONF=str(here / "containers.conf"),
            CONTAINERS_STORAGE_CONF=str(here / "storage.conf"),
        )
        flags = ["--root", f"{here}/root", "--runroot", f"{here}/run", "--tmpdir", f"{here}/tmp"]
        Cli.__init__(self, [podman, *flags], environment, self.join((UNIFIED,)).enter)
        self.call("import", str(self._archive), IMAGE)

    def run_arguments(self, *command: str, options: tuple[str, ...] | list[str] = ()) -> list[str]:
        # json-file is podman's other name for k8s-file, and none is none
        return super().run_arguments(
            *command, options=("--cgroup-parent", f"/{CGROUP_PARENT}", *options)
        )

    def remove_all(self) -> None:
        self.call("rm", "-af", "-t", "0", timeout=300)

    def monitors(self) -> list[int]:
        return tagged(str(self.directory), "conmon")

    def log_file(self, container: str) -> Path:
        return Path(self.call("inspect", "--format", "{{.HostConfig.LogConfig.Path}}", container))

    def end_daemons(self) -> None:
        remove_cgroups("libpod_parent")


class Docker(Peer):
    """dockerd with a containerd of its own, and the docker CLI."""

    name = "docker"

    def begin(self) -> None:
        dockerd, client = program("dockerd"), program("docker")
        program("containerd")
        here = self.directory
        self.socket = here / "docker.sock"
        environment = plain_environment(
            DOCKER_HOST=f"unix://{self.socket}", DOCKER_CONFIG=str(here / "client")
        )
        Cli.__init__(self, [client], environment, None)
        flags = [
            *("--data-root", f"{here}/data", "--exec-root", f"{here}/exec"),
            *("--pidfile", f"{here}/pid", "-H", f"unix://{self.socket}"),
            *("--iptables=false", "--ip6tables=false", "--bridge=none"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2"),
            *("--cgroup-parent", f"/{CGROUP_PARENT}", "--log-level", "error"),
        ]
        with (here / "dockerd.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [dockerd, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=self.join().enter,
                start_new_session=True,
            )
        self._await_socket()
        self.call("import", str(self._archive), IMAGE)

    def _await_socket(self, timeout: float = 60.0) -> None:
        # dockerd tells nobody but systemd when it is ready, so this one has to be asked
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(BenchError):
                self.call("version", timeout=10)
                return
            if self._daemon.poll() is not None:
                words = (self.directory / "dockerd.log").read_text()[-400:].strip()
                raise BenchError(f"dockerd does not start: {words}")
            time.sleep(0.1)
        raise BenchError(f"dockerd is not ready after {timeout} s")

    def background(self) -> list[int]:
        return [*tagged(str(self.directory), "dockerd"), *tagged(str(self.directory), "containerd")]

    def monitors(self) -> list[int]:
        return tagged(str(self.directory), "containerd-shim-runc-v2")

    def log_file(self, container: str) -> Path:
        return Path(self.call("inspect", "--format", "{{.LogPath}}", container))

    def end_daemons(self) -> None:
        if (daemon := getattr(self, "_daemon", None)) is not None:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


class Bundle:
    """An OCI runtime by itself: `crun run` of one program, as podman and docker do beneath."""

    def __init__(self, name: str, directory: Path, rootfs: Path, *command: str) -> None:
        self._program = program(name)
        self._directory = directory
        self._space = MountNamespace(directory / "private", (UNIFIED,))
        try:
            self._prepare(rootfs, command)
        except BaseException:
            self.close()
            raise

    def _prepare(self, rootfs: Path, command: tuple[str, ...]) -> None:
        # joining a mount namespace sets the working directory to /, so the bundle is named
        run([self._program, "spec", "-b", str(self._directory)], enter=self._space.enter)
        path = self._directory / "config.json"
        spec = json.loads(path.read_text())
        spec["process"]["args"] = list(command)
        spec["process"]["terminal"] = False
        spec["process"].pop("rlimits", None)
        spec["root"] = {"path": str(rootfs), "readonly": True}
        spec["linux"]["cgroupsPath"] = f"/{CGROUP_PARENT}/bundle"
        path.write_text(json.dumps(spec))

    def timed(self) -> float:
        """The milliseconds of one run, from fork to the end of the runtime."""
        command = [self._program, "--root", f"{self._directory}/state", "run"]
        begun = time.monotonic()
        run([*command, "-b", str(self._directory), "bench"], enter=self._space.enter)
        return (time.monotonic() - begun) * 1000

    def close(self) -> None:
        self._space.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        remove_cgroups(CGROUP_PARENT)
