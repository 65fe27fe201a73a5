"""Version prefix, paths and methods, and the whole of the specification."""

import pytest

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.50"])
async def test_every_version_in_range_is_taken(engine_and_client, prefix):
    async with engine_and_client() as (_, connect), connect() as client:
        assert (await client.request("GET", f"{prefix}/version")).json["ApiVersion"] == "1.50"


async def test_other_versions_are_refused_in_dockers_words(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        old = await client.request("GET", "/v1.23/version")
        assert old.status == 400
        assert old.message.startswith(
            "client version 1.23 is too old. Minimum supported API version is 1.24"
        )
        new = await client.request("GET", "/v1.99/version")
        assert new.status == 400
        assert new.message == (
            "client version 1.99 is too new. Maximum supported API version is 1.50"
        )


async def test_an_unknown_path_and_a_wrong_method(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        unknown = await client.request("GET", "/v1.50/nosuch")
        assert (unknown.status, unknown.message) == (404, "page not found")
        wrong = await client.request("DELETE", "/version")
        assert wrong.status == 405
        assert (await client.request("GET", "/containers/x/start")).status == 405


async def test_the_absolute_form_and_escapes(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        assert (await client.request("GET", "http://localhost/v1.50/_ping")).status == 200
        answer = await client.request("GET", "/images/docker.io%2Flibrary%2Fnosuch/json")
        assert answer.message == "No such image: docker.io/library/nosuch:latest"


async def test_a_container_of_an_images_name_with_slashes_is_not_there(engine_and_client):
    """`docker inspect some/image` asks for a container first, and for an image at a 404."""
    async with engine_and_client() as (_, connect), connect() as client:
        for method, rest in (
            ("GET", "/json"),
            ("GET", "/logs?stdout=1"),
            ("GET", "/attach/ws"),
            ("POST", "/start"),
            ("POST", "/attach?stdout=1"),
            ("DELETE", ""),
        ):
            answer = await client.request(method, f"/v1.50/containers/reg:5000/some/image:1{rest}")
            said = (answer.status, answer.message)
            assert said == (404, "No such container: reg:5000/some/image:1"), (method, rest)


def operations():
    """Every operation of API 1.50, from its specification's list of paths."""
    return [line.split() for line in OPERATIONS.strip().splitlines()]


async def test_every_operation_of_the_specification_is_known(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        for method, path in operations():
            if path in ("/events", "/images/create", "/auth", "/distribution/{name}/json"):
                continue  # some have no end, others ask a registry
            path = path.replace("{id}", "x").replace("{name}", "x/y")
            answer = await client.request(method, f"/v1.50{path}", {} if method == "POST" else None)
            assert answer.status != 405, (method, path)
            if answer.status == 404:
                assert b"page not found" not in answer.body, (method, path)
            if answer.status == 501 and method != "HEAD":
                assert answer.message.startswith("mdocker does not do ")


async def test_swarm_and_plugins(engine_and_client):
    async with engine_and_client() as (_, connect), connect() as client:
        services = await client.request("GET", "/v1.50/services")
        assert services.status == 503
        assert services.message.startswith("This node is not a swarm manager. ")
        assert (await client.request("GET", "/plugins")).json == []


OPERATIONS = """
GET /containers/json
POST /containers/create
GET /containers/{id}/json
GET /containers/{id}/top
GET /containers/{id}/logs
GET /containers/{id}/changes
GET /containers/{id}/export
GET /containers/{id}/stats
POST /containers/{id}/resize
POST /containers/{id}/start
POST /containers/{id}/stop
POST /containers/{id}/restart
POST /containers/{id}/kill
POST /containers/{id}/update
POST /containers/{id}/rename
POST /containers/{id}/pause
POST /containers/{id}/unpause
POST /containers/{id}/attach
GET /containers/{id}/attach/ws
POST /containers/{id}/wait
DELETE /containers/{id}
HEAD /containers/{id}/archive
GET /containers/{id}/archive
PUT /containers/{id}/archive
POST /containers/prune
GET /images/json
POST /build
POST /build/prune
POST /images/create
GET /images/{name}/json
GET /images/{name}/history
POST /images/{name}/push
POST /images/{name}/tag
DELETE /images/{name}
GET /images/search
POST /images/prune
POST /auth
GET /info
GET /version
GET /_ping
HEAD /_ping
POST /commit
GET /events
GET /system/df
GET /images/{name}/get
GET /images/get
POST /images/load
POST /containers/{id}/exec
POST /exec/{id}/start
POST /exec/{id}/resize
GET /exec/{id}/json
GET /volumes
POST /volumes/create
GET /volumes/{name}
PUT /volumes/{name}
DELETE /volumes/{name}
POST /volumes/prune
GET /networks
GET /networks/{id}
DELETE /networks/{id}
POST /networks/create
POST /networks/{id}/connect
POST /networks/{id}/disconnect
POST /networks/prune
GET /plugins
GET /plugins/privileges
POST /plugins/pull
GET /plugins/{name}/json
DELETE /plugins/{name}
POST /plugins/{name}/enable
POST /plugins/{name}/disable
POST /plugins/{name}/upgrade
POST /plugins/create
POST /plugins/{name}/push
POST /plugins/{name}/set
GET /nodes
GET /nodes/{id}
DELETE /nodes/{id}
POST /nodes/{id}/update
GET /swarm
POST /swarm/init
POST /swarm/join
POST /swarm/leave
POST /swarm/update
GET /swarm/unlockkey
POST /swarm/unlock
GET /services
POST /services/create
GET /services/{id}
DELETE /services/{id}
POST /services/{id}/update
GET /services/{id}/logs
GET /tasks
GET /tasks/{id}
GET /tasks/{id}/logs
GET /secrets
POST /secrets/create
GET /secrets/{id}
DELETE /secrets/{id}
POST /secrets/{id}/update
GET /configs
POST /configs/create
GET /configs/{id}
DELETE /configs/{id}
POST /configs/{id}/update
GET /distribution/{name}/json
POST /session
"""
