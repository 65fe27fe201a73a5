"""Pull and push with Debian's registry, skopeo on the other side, and real clients here."""

import base64
import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.real.engine_process import EngineProcess, UnixConnection
from tests.real.hostile_registry import HostileRegistry
from tests.real.made_images import add_busybox, busybox_layers
from tests.real.oci_layout import OciLayout, push, raw_manifest, skopeo

DOCKER = shutil.which("docker")
MDOCKER = (sys.executable, "-m", "mdocker")

on_one = pytest.mark.parametrize("engine", ["asyncio"], indirect=True)
"""What is the same on both backends needs to be seen once."""


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    made = OciLayout(tmp_path_factory.mktemp("layout") / "oci")
    made.busybox = add_busybox(made)
    return made


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def engine(request, tmp_path_factory):
    process = EngineProcess(tmp_path_factory.mktemp("engine"), backend=request.param).start()
    process.own = f"birds-{request.param}"  # repositories of its own
    yield process
    process.close()


@pytest.fixture(autouse=True)
def no_images(engine):
    """Each test begins without images, and leaves no half layers."""
    yield
    answer = engine.post("/containers/prune")
    assert answer.status == 200, answer
    for image in engine.get("/images/json?all=1").json:
        if image["RepoTags"] != ["host:latest"]:
            assert engine.delete(f"/images/{image['Id']}?force=1").status == 200
    assert left(engine) == ([], [], [])


def left(engine):
    """Layers, blobs and half-made things in the store."""
    images = engine.root / "images"
    places = (images / "layers", images / "blobs/sha256", images / "staging")
    return tuple(sorted(path.name for path in place.iterdir()) for place in places)


def eventually(holds):
    """Wait until something is so."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, holds
        time.sleep(0.01)


def cli(engine, *words, config=None):
    """`mdocker …`, which must be good; returns stdout and stderr."""
    process = engine.spawn(*words)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 0, (words, out, err)
    return out, err


def pulled(engine, name):
    """Pull by the API; returns the lines."""
    before, digest, after = name.partition(":sha256:")
    repository, tag = (before, f"sha256:{after}") if digest else name.rsplit(":", 1)
    answer = engine.post(f"/images/create?fromImage={repository}&tag={tag}")
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.splitlines()]


def pushed(engine, name):
    """Push by the API; returns the lines."""
    repository, _, tag = name.rpartition(":")
    answer = engine.post(f"/images/{repository}/push?tag={tag}")
    assert answer.status == 200, answer
    return [json.loads(line) for line in answer.body.splitlines()]


def test_what_skopeo_has_pushed_runs_here(engine, registry, layout):
    name = layout.push("latest", registry, f"{engine.own}/wren")
    script = (
        "cat /birds/wren; echo; ls /birds /only; test -e /old; echo $?; stat -c %a /birds/robin"
    )
    out, err = cli(engine, "run", "--rm", name, "sh", "-c", script)
    listed = "third /birds: also-robin link robin wren /only: new 1 755"
    assert out.split() == listed.split()
    assert err.splitlines()[:2] == [
        f"Unable to find image '{name}' locally",
        f"latest: Pulling from {engine.own}/wren",
    ]
    assert err.splitlines()[-1] == f"Status: Downloaded newer image for {name}"
    image = engine.get(f"/images/{name}/json").json
    manifest = raw_digest(registry, f"{engine.own}/wren", "latest")
    assert image["RepoDigests"] == [f"{name.rpartition(':')[0]}@{manifest}"]
    assert image["Id"] == layout.image_id(layout.busybox)
    lines = pulled(engine, f"{name.rpartition(':')[0]}:{manifest}")
    assert {"status": f"Digest: {manifest}"} in lines


def raw_digest(registry, repository, tag):
    answer = registry.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers=ACCEPT)
    return answer.headers["Docker-Content-Digest"]


ACCEPT = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


def test_what_we_push_skopeo_reads(engine, registry, layout, tmp_path):
    base = layout.upload(layout.busybox, registry, f"{engine.own}/base:1")
    pulled(engine, base)
    container = engine.run("sh", "-c", "echo new > /birds/new; rm /big", image=base)
    assert engine.wait(container) == 0
    repository = f"{registry.address}/{engine.own}/mine"
    assert engine.post(f"/commit?container={container}&repo={repository}&tag=2").status == 201
    name = f"{repository}:2"
    out, _ = cli(engine, "push", name)
    lines = out.splitlines()
    assert lines[0] == f"The push refers to repository [{repository}]"
    assert sum(f"Mounted from {engine.own}/base" in line for line in lines) == 3
    assert sum(line.endswith(": Pushed") for line in lines) == 1
    found = re.fullmatch(r"2: digest: (sha256:\w{64}) size: (\d+)", lines[-1])
    told = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    assert told["Digest"] == found[1]
    assert len(told["Layers"]) == 4
    target = tmp_path / "copied"
    skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{target}:x")
    image = engine.get(f"/images/{name}/json").json
    config = raw_manifest(registry, f"{engine.own}/mine:2")["config"]["digest"]
    assert config == image["Id"]
    # Another time nothing is sent, and the image is what it was.
    before = len(registry.requests())
    assert pushed(engine, name)[-2] == {"status": lines[-1]}
    sent = [one for one in registry.requests()[before:] if one[0] in ("POST", "PATCH")]
    assert sent == []
    # What skopeo makes of it comes back.
    again = push(f"oci:{target}:x", registry, f"{engine.own}/again:1")
    pulled(engine, again)
    assert engine.result("cat", "/birds/new", image=again)[:2] == (0, "new\n")


@on_one
@pytest.mark.parametrize("kind", ["gzip", "zstd", "plain"])
def test_an_image_goes_on_as_it_came(engine, registry, layout, kind):
    """By its digest: whatever its layers are, the manifest is the one that it came with."""
    compression = "" if kind == "plain" else kind
    layers = [layout.add_layer(tar, compression) for tar in busybox_layers()]
    image = layout.add_image(layers, User="")
    name = layout.upload(image, registry, f"birds/{kind}:1")
    pulled(engine, name)
    assert engine.result("cat", "/birds/wren", image=name)[:2] == (0, "third")
    other = f"{registry.address}/elsewhere/{kind}:1"
    assert engine.post(f"/images/{name}/tag?repo={other}").status == 201
    lines = pushed(engine, other)
    if kind == "plain":
        told = raw_manifest(registry, f"elsewhere/{kind}:1")
        assert [one["digest"] for one in told["layers"]] == [one["digest"] for one, _ in layers]
    assert {"status": f"1: digest: {image['digest']} size: {image['size']}"} in lines


@on_one
def test_a_plain_import_is_compressed_and_comes_back(engine, registry, tmp_path):
    archive = tmp_path / "root.tar"
    archive.write_bytes(busybox_layers()[0])
    name = f"{registry.address}/birds/imported:1"
    cli(engine, "import", str(archive), name)
    pushed(engine, name)
    told = raw_manifest(registry, "birds/imported:1")
    (layer,) = told["layers"]
    assert layer["mediaType"].endswith("tar.gzip")
    assert layer["size"] < archive.stat().st_size * 0.7
    assert engine.delete(f"/images/{name}").status == 200
    assert left(engine) == ([], [], [])
    pulled(engine, name)
    assert engine.result("/bin/echo", "back", image=name)[:2] == (0, "back\n")


@on_one
def test_what_lies_on_this_machine_is_not_pushed(engine, registry):
    container = engine.run("true")
    engine.wait(container)
    repository = f"{registry.address}/birds/ours"
    assert engine.post(f"/commit?container={container}&repo={repository}&tag=1").status == 201
    answer = engine.post(f"/images/{repository}/push?tag=1")
    assert (answer.status, "it lies on this machine's own files" in answer.message) == (400, True)


@contextlib.contextmanager
def gated(layout):
    """A registry whose blobs of layers come when `gate` is set, but for their beginnings."""
    gate = threading.Event()
    with HostileRegistry(layout) as registry:

        def wait(asked, told):
            if asked.kind != "blob" or len(told.body) < 10_000:
                return told

            def pieces():
                yield told.body[:1000]
                gate.wait(30)
                yield told.body[1000:]

            return dataclasses.replace(told, body=pieces(), length=len(told.body))

        registry.lie = wait
        registry.gate = gate
        registry.big = max(
            (one for one in layout.manifest(layout.busybox)["layers"]), key=lambda one: one["size"]
        )["digest"]
        try:
            yield registry
        finally:
            gate.set()


def blobs_asked(registry):
    return [one.path.rpartition("/")[2] for one in registry.asked if one.kind == "blob"]


@pytest.mark.parametrize(
    ("engine", "how"), [("asyncio", signal.SIGKILL), ("trio", signal.SIGINT)], indirect=["engine"]
)
def test_a_client_that_goes_ends_its_pull(engine, layout, how):
    with gated(layout) as registry:
        process = engine.spawn("pull", registry.serve(layout.busybox))
        eventually(lambda: registry.big in blobs_asked(registry))
        eventually(lambda: left(engine)[2])
        process.send_signal(how)
        process.communicate()
        assert process.returncode == (130 if how == signal.SIGINT else -9)
        eventually(lambda: left(engine) == ([], [], []))
        assert children(engine) == []


def children(engine):
    """Unpacking processes of the engine's."""
    with open(f"/proc/{engine.process.pid}/task/{engine.process.pid}/children") as file:
        pids = file.read().split()
    found = []
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"unpack" in file.read():
                found.append(pid)
    return found


def test_two_pulls_share_a_download_and_one_may_leave(engine, layout):
    with gated(layout) as registry:
        name = registry.serve(layout.busybox)
        first = engine.spawn("pull", name)
        eventually(lambda: registry.big in blobs_asked(registry))
        second = engine.spawn("pull", name)
        eventually(lambda: len([one for one in registry.asked if one.kind == "manifest"]) == 2)
        config = layout.image_id(layout.busybox)
        eventually(lambda: blobs_asked(registry).count(config) == 2)
        assert "Pulling from" in second.stdout.readline() + second.stdout.readline()
        third = engine.spawn("pull", name)
        eventually(lambda: blobs_asked(registry).count(config) == 3)
        assert "Pulling from" in third.stdout.readline() + third.stdout.readline()
        first.kill()
        first.communicate()
        registry.gate.set()
        for one in (second, third):
            out, err = one.communicate(timeout=30)
            assert (one.returncode, err) == (0, ""), out
        counts = {blob: blobs_asked(registry).count(blob) for blob in blobs_asked(registry)}
        assert counts.pop(config) == 3
        assert set(counts.values()) == {1}, counts
    assert engine.result("cat", "/birds/wren", image=name)[:2] == (0, "third")


@on_one
def test_one_that_does_not_read_holds_up_nothing(engine, registry, layout):
    name = layout.upload(layout.busybox, registry, "birds/slow:1")
    connection = UnixConnection(engine.socket)
    repository, _, tag = name.rpartition(":")
    connection.request("POST", f"/images/create?fromImage={repository}&tag={tag}")
    eventually(lambda: engine.get(f"/images/{name}/json").status == 200)
    response = connection.getresponse()
    assert f"Downloaded newer image for {name}" in response.read().decode()
    connection.close()


class Docker:
    """The docker CLI against one engine, with a configuration of its own."""

    def __init__(self, engine, config):
        self._environment = {**engine.environment, "DOCKER_CONFIG": str(config)}

    def __call__(self, *words, stdin=""):
        done = subprocess.run(
            [DOCKER, *words],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=40,
        )
        return done.returncode, done.stdout, done.stderr


@on_one
@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI (docker.io)")
def test_the_docker_cli(engine, registry, layout, tmp_path):
    docker = Docker(engine, tmp_path)
    name = layout.upload(layout.busybox, registry, "birds/cli:latest")
    bare = name.removesuffix(":latest")
    code, out, err = docker("run", "--rm", bare, "cat", "/birds/wren")
    assert (code, out) == (0, "third"), err
    assert err.startswith(f"Unable to find image '{name}' locally\nlatest: Pulling from birds/cli")
    code, out, err = docker("pull", bare)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "Using default tag: latest",
        "latest: Pulling from birds/cli",
        f"Digest: {layout.busybox['digest']}",
        f"Status: Image is up to date for {name}",
        name,
    ]
    assert docker("pull", "-q", bare) == (0, f"{name}\n", "")
    assert docker("tag", bare, f"{bare}:2")[0] == 0
    code, out, err = docker("push", "--all-tags", bare)
    assert (code, err) == (0, ""), out
    assert sum("digest: " in line for line in out.splitlines()) == 2
    code, out, err = docker("pull", f"{bare}:nosuch")
    assert (code, out) == (1, "")
    assert err.startswith("Error response from daemon: manifest for")
    code, out, err = docker("push", f"{bare}-nosuch")
    assert code == 1
    assert err == f"tag does not exist: {bare}-nosuch:latest\n"
    code, out, err = docker("pull", "--platform", "linux/s390x", bare)
    assert code == 1 and "is for linux/amd64" in err


@on_one
@pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI (docker.io)")
def test_a_terminal_shows_bars(engine, registry, layout, tmp_path):
    name = layout.upload(layout.busybox, registry, "birds/bars:1")
    shown = on_a_terminal([DOCKER, "pull", name], {**engine.environment, "DOCKER_CONFIG": "/n"})
    assert shown.count("Pull complete") >= 3 and "Status: Downloaded newer image" in shown
    assert engine.delete(f"/images/{name}").status == 200
    shown = on_a_terminal([*MDOCKER, "pull", name], engine.environment)
    assert "\x1b[3A\r" in shown
    assert shown.count("Pull complete") >= 3 and "Status: Downloaded newer image" in shown


def on_a_terminal(words, environment):
    """What a command writes on a terminal."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        words, env=environment, stdin=slave, stdout=slave, stderr=slave, cwd="/"
    )
    os.close(slave)
    data = b""
    with contextlib.suppress(OSError):
        while piece := os.read(master, 65536):
            data += piece
    os.close(master)
    assert process.wait(30) == 0, data
    return data.decode()


@on_one
def test_docker_py(engine, registry, layout):
    docker = pytest.importorskip("docker")
    client = docker.DockerClient(f"unix://{engine.socket}", version="1.50", timeout=30)
    try:
        name = layout.upload(layout.busybox, registry, "birds/py:1")
        repository = name.removesuffix(":1")
        image = client.images.pull(repository, tag="1")
        assert image.id == layout.image_id(layout.busybox)
        assert image.tag(repository, "2")
        lines = list(client.images.push(repository, tag="2", stream=True, decode=True))
        (aux,) = [line["aux"] for line in lines if "aux" in line]
        told = layout.busybox
        assert aux == {"Tag": "2", "Digest": told["digest"], "Size": told["size"]}
        assert sorted(one.tags for one in client.images.pull(repository, all_tags=True)) == [
            [f"{repository}:1", f"{repository}:2"]
        ]
        out = client.containers.run(name, ["cat", "/birds/wren"], remove=True)
        assert out == b"third"
        with pytest.raises(docker.errors.NotFound, match="manifest unknown"):
            client.images.pull(repository, tag="3")
    finally:
        client.close()


@on_one
def test_events_tell_of_pulls_and_pushes(engine, registry, layout):
    name = layout.upload(layout.busybox, registry, "birds/events:1")
    since = time.time_ns()
    pulled(engine, name)
    pushed(engine, name)
    until = time.time_ns()
    query = "&".join(
        f"{key}={at // 10**9}.{at % 10**9:09}" for key, at in (("since", since), ("until", until))
    )
    told = [json.loads(line) for line in engine.get(f"/events?{query}").body.splitlines()]
    assert [(one["Action"], one["Actor"]["ID"]) for one in told] == [("pull", name), ("push", name)]
    assert told[0]["Actor"]["Attributes"] == {"name": name.removesuffix(":1")}


@on_one
def test_who_asks_is_told_to_the_registry(tmp_path, engine, registry_with_password, layout):
    """Credentials come from the client's configuration, and go no further than the header."""
    registry = registry_with_password
    name = layout.upload(layout.busybox, registry, "birds/secret:1")
    config = tmp_path / "config.json"
    config.write_text("{}")
    environment = {**engine.environment, "DOCKER_CONFIG": str(tmp_path)}

    def run():
        words = [*MDOCKER, "run", "--rm", name, "cat", "/birds/wren"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, cwd="/")

    done = run()
    assert (done.returncode, done.stdout) == (125, "")
    assert f"Unable to find image '{name}' locally\nmdocker: " in done.stderr
    auth = base64.b64encode(registry.credentials.encode()).decode()
    config.write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))
    done = run()
    assert (done.returncode, done.stdout) == (0, "third"), done.stderr
    assert registry.credentials.partition(":")[2] not in engine.log_text()


@on_one
def test_an_engine_that_ends_ends_its_pulls_and_the_next_one_does_them(tmp_path, layout):
    engine = EngineProcess(tmp_path).start()
    try:
        with gated(layout) as registry:
            process = engine.spawn("pull", registry.serve(layout.busybox))
            eventually(lambda: registry.big in blobs_asked(registry))
            engine.terminate()
            assert left(engine) == ([], [], [])
            assert "Traceback" not in engine.log_text()
            registry.gate.set()
            engine.start()
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, (out, err)
            assert "Status: Downloaded newer image" in out
        assert engine.result("cat", "/birds/wren", image=registry.name())[:2] == (0, "third")
    finally:
        engine.close()
