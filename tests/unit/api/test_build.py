"""POST /build with helpers that a test plays, and a store that makes steps; on both backends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from runtime.images.errors import ImportFailed
from tests.unit.api.fakes import HOST
from tests.unit.api.test_archive import FakeJob, playing
from tests.unit.api.test_images import chunked, head
from tests.unit.api.test_streams import hangup_is_seen as gone

pytestmark = pytest.mark.anyio

__all__ = ["playing"]

DOCKERFILE = b"FROM host\nARG WHO=bird\nLABEL a=$WHO\nENV X=1\n"


def context(dockerfile=DOCKERFILE, ignored=None):
    """A helper that unpacks a context and tells of its Dockerfile."""

    def play(job):
        job.read_all()
        others = [None] * (len(job.order["texts"]) - 2)
        job.tell(done=[ignored, dockerfile.decode(), *others])

    return play


def steps_of(engine, fail_at=""):
    """Give a scripted store steps; returns what was made, by its words."""
    made = {}

    def add_step(parent, config, step, name=""):
        if fail_at and fail_at in step.created_by:
            raise ImportFailed("no space left on device")
        image = replace(
            HOST,
            id=f"sha256:{len(made):064x}",
            tags=(),
            parent=parent.id,
            config=config,
            built_in=False,
            history=(*parent.history, {"created_by": step.created_by}),
        )
        made[step.created_by] = image
        engine.images.known.append(image)
        return image

    engine.images.add_step = add_step
    return made


def lines(answer):
    return [json.loads(line) for line in answer.body.splitlines()]


async def test_steps_of_settings(engine_and_client, playing):
    playing(context())
    async with engine_and_client() as (engine, connect), connect() as client:
        made = steps_of(engine)
        answer = await client.request(
            "POST", "/build?t=mine:1&buildargs=%7B%22WHO%22:%22wren%22%7D"
        )
        assert answer.status == 200
        told = lines(answer)
        assert "".join(line.get("stream", "") for line in told) == (
            "Step 1/4 : FROM host\n ---> aaaaaaaaaaaa\n"
            "Step 2/4 : ARG WHO=bird\n ---> 000000000000\n"
            "Step 3/4 : LABEL a=$WHO\n ---> 000000000000\n"
            "Step 4/4 : ENV X=1\n ---> 000000000000\n"
            "Successfully built 000000000000\nSuccessfully tagged mine:1\n"
        )
        last = list(made.values())[-1]
        assert list(made) == [
            "/bin/sh -c #(nop)  ARG WHO=bird",
            "/bin/sh -c #(nop)  LABEL a=wren",
            "/bin/sh -c #(nop)  ENV X=1",
        ]
        assert last.config["Labels"] == {"made-by": "mdocker", "a": "wren"}
        assert last.config["Env"] == [*HOST.config["Env"], "X=1"]
        assert {"aux": {"ID": last.id}} in told
        assert engine.images.tagged_with == (last.id, "mine:1")
        assert list(engine.builds.users()) == []
        assert not list((engine.root / "builds").iterdir())
        # Once more: all of it is there.
        answer = await client.request("POST", "/build")
        assert answer.body.count(b"Using cache") == 1  # another value of WHO
        answer = await client.request("POST", "/build")
        assert answer.body.count(b"Using cache") == 3


async def test_it_is_refused_before_the_context_is_read(engine_and_client, playing):
    playing(context())
    async with engine_and_client() as (_, connect):
        for query, status in (("version=2", 501), ("labels=%5B", 400), ("platform=a/b/c/d", 400)):
            async with connect() as client:
                await client.send(head(f"/build?{query}", b"Content-Length: 1000000"))
                assert (await client.answer()).status == status
        assert FakeJob.made == ()


async def test_what_goes_wrong_before_and_behind_the_first_line(engine_and_client, playing):
    async with engine_and_client() as (engine, connect), connect() as client:
        playing(lambda job: job.tell(error="this is not a tar archive", kind="refused"))
        answer = await client.request("POST", "/build", b"x")
        assert (answer.status, answer.message) == (400, "this is not a tar archive")
        playing(context(b"FROM host\nFOO\n"))
        answer = await client.request("POST", "/build")
        assert answer.status == 400 and "line 2: unknown instruction: FOO" in answer.message
        playing(context())
        steps_of(engine, fail_at="LABEL")
        answer = await client.request("POST", "/build")
        assert answer.status == 200
        assert lines(answer)[-1] == {
            "errorDetail": {"message": "no space left on device"},
            "error": "no space left on device",
        }
        assert list(engine.builds.users()) == []


async def test_a_client_that_hangs_up_while_it_sends(engine_and_client, playing):
    playing(context())
    async with engine_and_client() as (engine, connect):
        async with connect() as client:
            await client.send(head("/build", b"Transfer-Encoding: chunked") + chunked(b"x" * 1000))
            await gone(lambda: not FakeJob.made)
            await client.hang_up()
        await gone(lambda: any((engine.root / "builds").iterdir()))


async def test_a_dockerfile_that_is_left_out_is_not_copied(engine_and_client, playing):
    orders = []

    def play(job):
        orders.append(job.order)
        if job.order["kind"] == "context":
            context(ignored="*\n!x\n")(job)
        else:
            job.tell(done={})

    playing(play)
    async with engine_and_client() as (engine, connect), connect() as client:
        steps_of(engine)
        assert (await client.request("POST", "/build?dockerfile=a/D")).status == 200
    assert [one["kind"] for one in orders] == ["context", "exclude"]
    assert orders[0]["texts"] == [".dockerignore", "a/D"]
    assert orders[1]["rules"] == [(False, ["a", "D"]), (False, [r"\.dockerignore"])]
