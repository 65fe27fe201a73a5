"""aiodocker, the client for asyncio."""

from __future__ import annotations

import asyncio
import io
import tarfile

import pytest

from tests.clients.not_done import still_refused, words

aiodocker = pytest.importorskip("aiodocker", reason="needs aiodocker (pip install aiodocker)")
aiohttp = pytest.importorskip("aiohttp", reason="comes with aiodocker")

pytestmark = pytest.mark.anyio

QUIET = {"Image": "host", "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": "none"}}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
async def client(engine):
    async with aiodocker.Docker(f"unix://{engine.socket}") as made:
        yield made


@pytest.fixture
async def bird(client):
    return await client.containers.run(
        {**QUIET, "Cmd": ["sh", "-c", "echo tweet; echo squawk >&2; exec sleep 600"]}, name="bird"
    )


async def test_the_engine(client, engine):
    assert (await client.version())["ApiVersion"] == "1.50"
    assert (await client.system.info())["DockerRootDir"] == str(engine.root)


async def test_life(client, bird):
    shown = await bird.show()
    assert shown["Name"] == "/bird" and shown["State"]["Running"]
    await bird.rename("raven")
    await bird.restart(t=0)
    await bird.kill(signal="HUP")
    await bird.stop(t=0)
    assert (await bird.wait())["StatusCode"] == 137
    await bird.start()
    await bird.delete(force=True)
    with pytest.raises(aiodocker.DockerError, match="No such container: raven") as missing:
        await client.containers.get("raven")
    assert missing.value.status == 404


async def test_logs(client, bird):
    following = bird.log(stdout=True, stderr=True, follow=True)
    seen = {await anext(following), await anext(following)}
    assert seen == {"tweet\n", "squawk\n"}
    await bird.kill()
    assert [line async for line in following] == []
    assert await bird.log(stdout=True) == ["tweet\n"]
    assert await bird.log(stderr=True, tail=1) == ["squawk\n"]


async def test_a_web_socket(client):
    config = {"Image": "box:1", "Cmd": ["cat"], "OpenStdin": True, "Tty": True}
    container = await client.containers.create(config)
    sock = await container.websocket(stdin=True, stdout=True, stream=True)
    await container.start()
    await sock.send_str("tweet\n")
    said = b""
    while said.count(b"tweet\r\n") < 2:  # its echo, and cat's
        said += await sock.receive_bytes()
    await sock.send_bytes(b"\x10\x11")
    assert (await sock.receive()).type == aiohttp.WSMsgType.CLOSE
    assert (await container.show())["State"]["Running"]
    again = await container.websocket(stdin=True, stdout=True, stream=True)
    await again.send_bytes(b"\x04")
    while (message := await again.receive()).type == aiohttp.WSMsgType.BINARY:
        pass
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1000)
    assert (await container.wait())["StatusCode"] == 0


async def test_attach(client):
    config = {"Image": "box:1", "Cmd": ["sh", "-c", "echo out; echo err >&2"]}
    container = await client.containers.create(config)
    async with container.attach(stdout=True, stderr=True) as stream:
        await container.start()
        messages = []
        while (message := await stream.read_out()) is not None:
            messages.append((message.stream, message.data))
    assert sorted(messages) == [(1, b"out\n"), (2, b"err\n")]


async def test_thirty_at_once(client):
    made = await asyncio.gather(
        *(client.containers.run(QUIET, name=f"n{number}") for number in range(30))
    )
    assert len(await client.containers.list()) == 30
    await asyncio.gather(*(container.stop(t=0) for container in made))
    assert await client.containers.list() == []
    codes = await asyncio.gather(*(container.wait() for container in made))
    assert {code["StatusCode"] for code in codes} == {137}


async def test_events(client):
    listening = client.events.subscribe()
    container = await client.containers.run({**QUIET, "Cmd": ["true"]}, name="crow")
    seen = []
    while "die" not in seen:
        event = await listening.get()
        if event["Actor"]["ID"] == container.id:
            seen.append(event["Action"])
    # It listens in a task of its own, maybe a little later than the container is made.
    assert seen[-2:] == ["start", "die"]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"name": ["bird"]}, 1),
        ({"status": ["exited"]}, 0),
        ({"label": ["x"]}, 0),
        ({"network": ["none"], "ancestor": ["host"]}, 1),
    ],
    ids=str,
)
async def test_filters(client, bird, filters, count):
    assert len(await client.containers.list(all=True, filters=filters)) == count


async def test_images(client):
    assert "box:1" in {tag for one in await client.images.list() for tag in one["RepoTags"]}
    assert (await client.images.inspect("box:1"))["Config"]["Cmd"]
    with pytest.raises(aiodocker.DockerError, match="No such image: nosuch:latest") as missing:
        await client.images.inspect("nosuch")
    assert missing.value.status == 404
    with pytest.raises(aiodocker.DockerError, match="connection refused"):
        await client.images.pull("127.0.0.1:1/nosuch:1")


async def test_commit(client, bird):
    made = await bird.commit(
        repository="nest", tag="4", author="me", message="c", changes=["ENV A=1"], pause=False
    )
    about = await client.images.inspect("nest:4")
    assert (about["Id"], about["Author"], about["Comment"]) == (made["Id"], "me", "c")
    assert "A=1" in about["Config"]["Env"]
    with pytest.raises(aiodocker.DockerError, match="must be lowercase") as refused:
        await bird.commit(repository="Nest")
    assert refused.value.status == 400


async def test_exec(bird):
    command = await bird.exec(["sh", "-c", "echo out; read x; echo got $x >&2; exit 4"], stdin=True)
    said = []
    async with command.start() as stream:
        await stream.write_in(b"tweet\n")
        while (message := await stream.read_out()) is not None:
            said.append((message.stream, message.data))
    assert said == [(1, b"out\n"), (2, b"got tweet\n")]
    assert (await command.inspect())["ExitCode"] == 4


async def test_a_terminal(client):
    config = {"Image": "box:1", "Cmd": ["sh", "-c", "read x; echo got $x"]}
    container = await client.containers.create({**config, "Tty": True, "OpenStdin": True})
    said = b""
    async with container.attach(stdin=True, stdout=True) as stream:
        await container.start()
        await container.resize(h=30, w=100)
        await stream.write_in(b"tweet\n")
        while (message := await stream.read_out()) is not None:
            said += message.data
    assert b"got tweet\r\n" in said


async def test_files(bird):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("song")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"tweet"))
    await bird.put_archive("/tmp", out.getvalue())
    with await bird.get_archive("/tmp/song") as archive:
        assert archive.extractfile("song").read() == b"tweet"


async def test_pause_and_stats(bird):
    await bird.pause()
    assert (await bird.show())["State"]["Status"] == "paused"
    await bird.unpause()
    (sample,) = await bird.stats(stream=False)
    assert sample["pids_stats"]["current"] >= 1


async def test_volumes(client):
    volume = await client.volumes.create({"Name": "aio"})
    assert (await volume.show())["Name"] == "aio"
    await volume.delete()
    assert "aio" not in str(await client.volumes.list())


REFUSED = {
    "creating and changing networks": lambda c: c.networks.create({"Name": "mine"}),
}


@pytest.mark.parametrize("what", still_refused(REFUSED))
async def test_what_is_not_done_is_refused_by_name(client, bird, what):
    with pytest.raises(aiodocker.DockerError) as refused:
        await REFUSED[what](client)
    assert (refused.value.status, refused.value.message) == (501, words(what))


async def test_an_option_that_is_not_done_is_refused_by_name(client):
    wish = {**QUIET, "HostConfig": {"PublishAllPorts": True}}
    with pytest.raises(aiodocker.DockerError) as refused:
        await client.containers.create(wish)
    assert refused.value.status in (400, 501) and "PublishAllPorts" in refused.value.message
