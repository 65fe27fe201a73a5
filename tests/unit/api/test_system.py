"""version and info, and what every answer carries."""

import tomllib
from pathlib import Path

import pytest

from supervisor.release import VERSION
from supervisor.states import State
from tests.unit.api.test_containers import add


def test_the_version_is_the_projects():
    project = Path(__file__).parents[3] / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["version"] == VERSION


@pytest.mark.anyio
async def test_version_and_info(engine_and_client):
    async with engine_and_client() as (engine, connect), connect() as client:
        add(engine, "c1")
        add(engine, "c2", State.EXITED)
        version = (await client.request("GET", "/version")).json
        assert (version["ApiVersion"], version["MinAPIVersion"]) == ("1.50", "1.24")
        assert version["Components"][0]["Name"] == "Engine"
        answer = await client.request("GET", "/v1.50/info")
        info = answer.json
        assert answer.headers["api-version"] == "1.50"
        assert (info["Containers"], info["ContainersRunning"], info["ContainersStopped"]) == (
            2,
            1,
            1,
        )
        assert info["ID"] == "an-id"
        assert info["NCPU"] >= 1
        assert info["MemTotal"] > 2**20
        assert info["Swarm"]["LocalNodeState"] == "inactive"
