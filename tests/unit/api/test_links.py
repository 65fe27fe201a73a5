"""Links: taken where Docker does nothing with them, refused in words everywhere else."""

import pytest

from tests.unit.api.test_containers import add

pytestmark = pytest.mark.anyio


async def asked(engine_and_client, links, mode):
    host = {"Links": links} | ({"NetworkMode": mode} if mode else {})
    async with engine_and_client() as (engine, connect), connect() as client:
        db = add(engine, "db")
        links[:] = [link.replace("ID", db.id) for link in links]
        body = {"Image": "host", "HostConfig": host}
        return await client.request("POST", "/containers/create", body)


@pytest.mark.parametrize("link", ["db", "db:store", "ID:db", "/db:/app/store"])
async def test_in_the_network_none_they_lead_nowhere(engine_and_client, link):
    """docker-compose run links a container to those of its service, whatever their network."""
    answer = await asked(engine_and_client, [link], "none")
    assert answer.status == 201
    (warning,) = answer.json["Warnings"]
    assert warning.startswith("links have no effect: ")


@pytest.mark.parametrize(
    ("link", "mode", "status", "text"),
    [
        ("db", "host", 400, "conflicting options: host type networking can't be used with links."),
        ("db", "", 501, "mdocker does not support HostConfig.Links yet: "),
        ("db", "default", 501, "mdocker does not support HostConfig.Links yet: "),
        ("cache:x", "none", 400, "could not get container for cache: No such container: cache"),
        (":x", "none", 400, "bad format for links: :x"),
    ],
)
async def test_links_that_can_not_be(engine_and_client, link, mode, status, text):
    answer = await asked(engine_and_client, [link], mode)
    assert (answer.status, answer.message[: len(text)]) == (status, text)
