"""A removal that fails: whoever waits for it is told, and it can be asked for again."""

import json
import subprocess

import pytest


@pytest.fixture
def held(engine):
    """A container that removes itself, and whose directory can't be moved: it is a mount point."""
    container = engine.create("sleep", "1000", HostConfig={"AutoRemove": True})
    directory = engine.root / "containers" / container
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    assert engine.post(f"/containers/{container}/start").status == 204
    try:
        yield container
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
    assert engine.delete(f"/containers/{container}").status == 204


def test_whoever_waits_for_a_removal_that_fails_is_told(engine, held):
    path = f"/containers/{held}/wait?condition=removed"
    with engine.stream("POST", path) as waiting:
        assert engine.post(f"/containers/{held}/kill").status == 204
        told = json.loads(waiting.read())
    assert told["StatusCode"] == 137
    assert "Device or resource busy" in told["Error"]["Message"]
    assert engine.inspect(held)["State"]["Status"] == "dead"


def test_a_forced_removal_does_not_wait_for_one_that_has_failed(engine, held):
    answer = engine.delete(f"/containers/{held}?force=1")
    assert (answer.status, "Device or resource busy" in answer.message) == (500, True)
