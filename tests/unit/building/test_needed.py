"""What a build has made, or found, is needed from that moment on: a prune may be under way."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from supervisor.building import bases, builder, commands, dockerfile, instructions
from supervisor.building.asked import Asked
from supervisor.building.builder import Build
from supervisor.container import ContainerConfig
from supervisor.mount_points import Mounts
from tests.unit.building.test_cache import image

pytestmark = pytest.mark.anyio

BASE, MADE = image("sha256:base"), image("sha256:made", parent="sha256:base")


class Client:
    """Hears what is said, and looks what is needed meanwhile."""

    progress = None

    def __init__(self, needed):
        self.needed = needed
        self.seen = {}

    async def say(self, text):
        self.seen[text.strip()] = set(self.needed)

    def made(self, image_id):
        pass


async def built(monkeypatch, *, cached):
    needed = set()
    seen = {}

    async def find(*_):
        return BASE

    @contextlib.asynccontextmanager
    async def container_of(*_, **__):
        yield SimpleNamespace(id="c", short_id="c")

    async def run(*_):
        pass

    async def committed(*_):
        return MADE

    async def remove(*_):
        seen["remove"] = set(needed)

    monkeypatch.setattr(bases, "find", find)
    for name, what in (("run", run), ("committed", committed), ("remove", remove)):
        monkeypatch.setattr(commands, name, what)
    monkeypatch.setattr(commands, "container_of", container_of)
    monkeypatch.setattr(builder.cache, "find", lambda *_: MADE if cached else None)
    client = Client(needed)
    asked = Asked(ContainerConfig(image="", image_id="", cmd=()), lambda config: Mounts())
    plan = instructions.plan(dockerfile.read(b"FROM base\nRUN true\n"))
    await Build(SimpleNamespace(), asked, plan, None, client, needed).run()
    return client.seen | seen


async def test_a_step_that_was_found(monkeypatch):
    seen = await built(monkeypatch, cached=True)
    assert seen["---> Using cache"] >= {BASE.id, MADE.id}


async def test_a_step_that_was_made_before_its_container_goes(monkeypatch):
    seen = await built(monkeypatch, cached=False)
    assert seen["remove"] >= {BASE.id, MADE.id}
