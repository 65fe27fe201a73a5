"""kill -9 of the engine in the middle of pull, load, build, commit, import: the store stays whole.

    python -m tests.soak.store_kills --kills 50 --seed 7

An operation is begun, and the engine killed at a moment of the time that it takes, by chance. The
next engine must have: all images that anybody was told of, whole, so that containers start from
them; nothing of what was not told, or all of it; nothing in staging; no container of a build; and
no finding of `system check`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import http.client
import io
import itertools
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

from runtime.cgroups import Cgroups
from supervisor.config import Settings
from tests.clients.root_trees import busybox_tar
from tests.real.engine_process import EngineProcess, UnixConnection
from tests.real.image_store import archive, entry
from tests.real.made_images import many_files
from tests.real.oci_layout import OciLayout
from tests.real.registry_process import RegistryProcess

TAR = {"Content-Type": "application/x-tar"}
JSON = {"Content-Type": "application/json"}

OPERATIONS = ("pull", "load", "build", "commit", "import")

TOLD = {
    "pull": '"Status: ',
    "load": "Loaded image",
    "build": "Successfully tagged",
    "commit": '"Id":"sha256:',
    "import": '"status":"sha256:',
}
"""What a client hears once the image is there."""

DOCKERFILE = b"""FROM keep:1
COPY files /copied
RUN echo built > /built && head -c 300000 /dev/urandom > /random
ENV A=b
RUN rm /copied/a && mkdir -p /d/e/f
CMD ["cat", "/built"]
"""


class Broken(Exception):
    """What must hold did not."""


class Task(threading.Thread):
    """A request that an engine may die of: what its client was told.

    Attributes:
        told: The lines of the answer so far.
        done: It has been told that the image is there.
        error: What the engine said went wrong, if it said that.
    """

    def __init__(self, engine, success, path, body=None, headers=None):
        super().__init__(daemon=True)
        self._success = success
        self._engine = engine
        self._request = path, body, headers or {}
        self.told = []
        self.done = False
        self.error = ""

    def run(self):
        path, body, headers = self._request
        connection = UnixConnection(self._engine.socket, timeout=60)
        # The engine's death: refused, reset, or an answer without its end.
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            connection.request("POST", f"/v1.50{path}", body, headers)
            answer = connection.getresponse()
            for line in answer:
                if line.strip():
                    self.told.append(json.loads(line))
                    self.done = self.done or self._success in line.decode()
            last = self.told[-1] if self.told else {}
            self.error = str(last.get("error") or (answer.status >= 400 and last) or "")
        connection.close()


class StoreKills:
    """An engine, its registry, and what can be done with images.

    Attributes:
        kills: How often the engine died in the middle of each operation.
        survived: How often an operation had ended before the kill.
    """

    def __init__(self, base, seed, backend="asyncio", operations=OPERATIONS):
        self.operations = operations
        self.chance = random.Random(seed)
        self.kills = collections.Counter()
        self.survived = collections.Counter()
        self.registry = RegistryProcess(base / "registry").start()
        self.engine = EngineProcess(base / "engine", backend)
        self._layout = OciLayout(base / "layout")
        self._durations = {}
        self._container = ""
        self._archive = b""

    def begin(self):
        """Start the engine; do everything once undisturbed, which says how long it takes."""
        filling = random.Random(1).randbytes(2_000_000)
        layers = [busybox_tar(), many_files(600), archive((entry("filling"), filling))]
        image = self._layout.add_image([self._layout.add_layer(tar) for tar in layers])
        name = self._layout.upload(image, self.registry, "soak/pulled:1")
        keep = self._layout.add_image([self._layout.add_layer(layers[0])])
        self._layout.upload(keep, self.registry, "soak/keep:1")
        self._pulled = name
        self.engine.start()
        path = f"/images/create?fromImage={self.registry.address}/soak/keep&tag=1"
        self._undisturbed("pull", path)
        self._ask("POST", f"/images/{self.registry.address}/soak/keep:1/tag?repo=keep&tag=1", 201)
        self._container = self.engine.run(
            *("sh", "-c", "head -c 1000000 /dev/urandom > /noise; echo made; exec sleep 1000000"),
            image="keep:1",
        )
        with self.engine.stream(
            "GET", f"/containers/{self._container}/logs?follow=1&stdout=1"
        ) as lines:
            lines.read(8)
        self._pull_to_save()
        for name in self.operations:
            request = getattr(self, f"_{name}")()
            began = time.monotonic()
            self._undisturbed(name, *request)
            self._durations[name] = time.monotonic() - began

    def close(self):
        self.engine.close()
        self.registry.close()

    # --- what is done: path, body, headers ---

    def _pull(self):
        return f"/images/create?fromImage={self._pulled.replace(':1', '')}&tag=1", None, {}

    def _load(self):
        return "/images/load", self._archive, TAR

    def _import(self):
        return "/images/create?fromSrc=-&repo=imported&tag=1", many_files(500), TAR

    def _commit(self):
        return f"/commit?container={self._container}&repo=committed&tag=1", b"{}", JSON

    def _build(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, data in {
                "Dockerfile": DOCKERFILE,
                "files/a": b"a",
                "files/b": os.urandom(500_000),  # so that no cache has it
            }.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return "/build?t=built:1&forcerm=1", out.getvalue(), TAR

    _NAMES = {  # noqa: RUF012
        "load": "loaded:1",
        "import": "imported:1",
        "commit": "committed:1",
        "build": "built:1",
    }

    def _name_of(self, what):
        return self._pulled if what == "pull" else self._NAMES[what]

    def _pull_to_save(self):
        """An archive to be loaded: what was pulled, by another name."""
        self._undisturbed("pull", *self._pull())
        self._ask("POST", f"/images/{self._pulled}/tag?repo=loaded&tag=1", 201)
        answer = self.engine.get("/images/loaded:1/get")
        if answer.status != 200:
            raise Broken(f"save: {answer}")
        self._archive = answer.body
        for name in ("loaded:1", self._pulled):
            self._ask("DELETE", f"/images/{name}?force=1", 200)

    # --- one kill ---

    def kill_once(self, *whats):
        """Begin something, or several, kill the engine, and look at what the next one has."""
        for what in whats:
            self._without(what)
        tasks = {
            what: Task(self.engine, TOLD[what], *getattr(self, f"_{what}")()) for what in whats
        }
        longest = max(self._durations[what] for what in whats)
        for task in tasks.values():
            task.start()
        time.sleep(longest * self.chance.uniform(0, 1))
        self.engine.kill()
        for what, task in tasks.items():
            task.join()
            if task.error:
                raise Broken(f"{what} failed before the kill: {task.error}")
            if task.done:
                self._durations[what] *= 0.8  # the machine has become quicker
            (self.survived if task.done else self.kills)[what] += 1
        self.engine.start()
        for what, task in tasks.items():
            self._look(what, must=task.done)

    def _without(self, what):
        answer = self.engine.delete(f"/images/{self._name_of(what)}?force=1")
        if answer.status not in (200, 404):
            raise Broken(f"rmi: {answer}")

    def _look(self, what, must):
        """Whatever must hold after any death."""
        try:
            self.engine.swept()
        except AssertionError as error:
            raise Broken(f"{what}: left in staging: {error}") from error
        found = self.engine.get("/mdocker/check")
        lines = [json.loads(line) for line in found.body.splitlines()]
        findings = [line["Finding"] for line in lines if "Finding" in line]
        if findings or "Summary" not in lines[-1]:
            raise Broken(f"{what}: {findings or lines[-1]}")
        listed = self.engine.get("/containers/json?all=1").json
        if [one["Id"] for one in listed] != [self._container]:
            raise Broken(f"{what}: containers: {[one['Names'] for one in listed]}")
        if listed[0]["State"] != "running":
            raise Broken(f"{what}: the container of the commit is {listed[0]['State']}")
        self._no_strange_cgroup(what)
        here = {tag for image in self.engine.get("/images/json").json for tag in image["RepoTags"]}
        if "keep:1" not in here or (must and self._name_of(what) not in here):
            raise Broken(f"{what}: told as done, and not there: {sorted(here)}")
        # What is imported is no root file system.
        for name in {"keep:1", self._name_of(what)} & here - {"imported:1"}:
            code, _, err = self.engine.result("true", image=name)
            if code:
                raise Broken(f"{what}: a container of {name} ends with {code}: {err}")

    def _no_strange_cgroup(self, what):
        settings = Settings(self.engine.root, self.engine.run_dir)
        left = set(Cgroups.detect(settings.cgroup_parent).containers()) - {self._container}
        if left:
            raise Broken(f"{what}: cgroups of nobody: {left}")

    def _undisturbed(self, what, path, body=None, headers=None):
        task = Task(self.engine, TOLD[what], path, body, headers)
        task.run()
        if not task.done:
            raise Broken(f"{path}: {task.error or task.told[-3:]}")

    def _ask(self, method, path, status):
        answer = self.engine.request(method, path)
        if answer.status != status:
            raise Broken(f"{method} {path}: {answer}")


def main():
    """Run by the command line's wishes; returns 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.store_kills", description=__doc__)
    parser.add_argument(
        "--kills", type=int, default=50, help="how many that come in time; default 50"
    )
    parser.add_argument("--seed", type=int, help="default: one is drawn, and printed")
    parser.add_argument("--backend", default="asyncio", choices=("asyncio", "trio", "uvloop"))
    parser.add_argument("--at-once", type=int, default=1, help="things under way at each kill")
    parser.add_argument("--only", nargs="+", default=OPERATIONS, choices=OPERATIONS)
    parser.add_argument("--keep", action="store_true", help="keep its directory and its log")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    directory = Path(tempfile.mkdtemp(prefix="mdocker-store-kills-"))
    print(f"store kills: seed {seed}, {asked.kills} kills, in {directory}", flush=True)
    soak = StoreKills(directory, seed, asked.backend, asked.only)
    try:
        soak.begin()
        turns = itertools.cycle(asked.only)
        while sum(soak.kills.values()) < asked.kills:
            soak.kill_once(*itertools.islice(turns, asked.at_once))
    except Broken as broken:
        print(f"BROKEN after {sum(soak.kills.values())} kills: {broken}")
        return 1
    finally:
        soak.close()
        if not asked.keep:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"killed in the middle: {dict(soak.kills)}; too late: {dict(soak.survived)}: all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
