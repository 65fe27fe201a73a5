"""Building, by our client, the docker CLI, docker-py and aiodocker.

The engine is one for all tests, so what one has built is in the others' cache.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import tarfile
import time

import pytest

from tests.real.registry_process import PASSWORD, USER, RegistryProcess
from tests.real.test_copy import DOCKER, OURS, Client

DOCKERFILE = """\
ARG BASE=box:1
FROM $BASE AS maker
ARG SONG=none
WORKDIR /made
COPY --chown=user src/ .
RUN echo $SONG > song; echo loud; echo quiet >&2

FROM box:1
ENV NEST=/nest WOOD="deep wood"
COPY --from=maker /made $NEST/
USER user
EXPOSE 80 53/udp
VOLUME /eggs
LABEL kind=bird
HEALTHCHECK --interval=5s CMD test -e /nest/song
STOPSIGNAL SIGINT
ENTRYPOINT ["cat"]
CMD ["/nest/song", "/nest/leaf"]
"""
FILES = {
    "Dockerfile": DOCKERFILE,
    "src/leaf": "green\n",
    "src/deep/root": "brown\n",
    "src/left.out": "never\n",
    ".dockerignore": "**/*.out\nDockerfile\n",
}
LEGACY = "DEPRECATED: The legacy builder"


@pytest.fixture
def tree(tmp_path):
    """A directory, as FILES has it."""
    root = tmp_path / "tree"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(params=["mdocker", "docker"])
def client(request, engine, tmp_path):
    """A command line; of docker's the classic builder, which says that it is old."""
    config = tmp_path / "config"
    config.mkdir()
    if request.param == "docker" and DOCKER is None:
        pytest.skip("needs the docker CLI (docker.io)")
    made = Client(engine, OURS if request.param == "mdocker" else (DOCKER,), "", config)
    made.environment |= {"DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(config)}
    made.name = request.param
    return made


def build(client, *words, stdin=b"", **options):
    """Build; returns (exit code, the steps as lines, what went wrong)."""
    code, out, err = client("build", "--network", "none", *words, stdin=stdin, **options)
    said = re.sub(r"\b(sha256:)?[0-9a-f]{12,64}\b", "ID", out.decode())
    lines = [line for line in said.splitlines() if "Sending build context" not in line]
    if err.startswith(LEGACY):
        err = err.partition("\n\n")[2]
    wrong = [line.removeprefix("mdocker: ") for line in err.splitlines()]
    return code, lines, wrong


STEPS = [line for line in DOCKERFILE.splitlines() if line]


def test_an_image_of_two_stages(client, engine, tree):
    song = f"--build-arg=SONG={client.name}'s"
    words = ("-t", "wren:1", "-t", "wren", "--label", "more=1")
    code, lines, wrong = build(client, song, *words, str(tree))
    assert (code, wrong) == (0, [])
    steps = [line for line in lines if line.startswith("Step ")]
    told = [*STEPS, "LABEL more=1"]
    assert steps == [f"Step {n}/{len(told)} : {text}" for n, text in enumerate(told, 1)]
    assert "loud" in lines
    assert any("quiet" in line for line in lines)
    assert lines[-3:] == [
        "Successfully built ID",
        "Successfully tagged wren:1",
        "Successfully tagged wren:latest",
    ]
    config = engine.get("/images/wren:1/json").json["Config"]
    assert config["Env"][-2:] == ["NEST=/nest", "WOOD=deep wood"]
    assert (config["User"], config["StopSignal"]) == ("user", "SIGINT")
    assert (config["Entrypoint"], config["Cmd"]) == (["cat"], ["/nest/song", "/nest/leaf"])
    assert config["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert config["Volumes"] == {"/eggs": {}}
    assert config["Labels"] == {"kind": "bird", "more": "1"}
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "test -e /nest/song"]
    assert config["Healthcheck"]["Interval"] == 5_000_000_000
    assert engine.result(image="wren:1")[1] == f"{client.name}'s\ngreen\n"
    words = ("-c", "cd /nest; find . | sort; stat -c %U leaf")
    out = engine.result(*words, image="wren:1", Entrypoint=["sh"])[1]
    assert out.split() == [".", "./deep", "./deep/root", "./leaf", "./song", "user"]
    again = build(client, song, "-t", "wren:2", str(tree))
    assert again[1].count(" ---> Using cache") == len(STEPS) - 3
    changed = build(client, f"{song} second", str(tree))
    # The song first counts where it is sung, and the stage that has it copied knows what it heard.
    at = changed[1].index(next(line for line in changed[1] if " : RUN " in line))
    assert changed[1][:at].count(" ---> Using cache") == 3
    assert changed[1][at:].count(" ---> Using cache") == 1


def test_nothing_is_kept_of_it_but_the_image(client, engine, tree):
    assert build(client, "-t", "wren", "--target", "maker", str(tree))[0] == 0
    assert engine.get("/containers/json?all=1").json == []
    (tree / "Dockerfile").write_text("FROM box:1\nCOPY . /c\n")
    assert build(client, "-t", "robin", str(tree))[0] == 0
    out = engine.result("find", "/c", image="robin")[1]
    assert "Dockerfile" not in out
    assert "/c/.dockerignore" in out


def test_a_step_that_fails(client, engine, tree):
    (tree / "Dockerfile").write_text("FROM box:1\nRUN echo so far; exit 3\nRUN echo never\n")
    code, lines, wrong = build(client, "-t", "failed", str(tree))
    assert code == 3
    assert "so far" in lines
    assert wrong == ["The command '/bin/sh -c echo so far; exit 3' returned a non-zero code: 3"]
    assert engine.get("/images/failed/json").status == 404


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("FROM box:1\nBIRD x\n", "dockerfile parse error line 2: unknown instruction: BIRD"),
        (
            "FROM box:1\nCOPY src/left.out /\n",
            "COPY failed: file not found in build context or excluded by .dockerignore: stat "
            "src/left.out: file does not exist",
        ),
    ],
)
def test_what_can_not_be_built(client, tree, text, error):
    (tree / "Dockerfile").write_text(text)
    code, _, wrong = build(client, str(tree))
    assert code == 1
    assert wrong[-1].endswith(error)


def test_dockerfiles_from_elsewhere(client, engine, tree, tmp_path):
    text = b"FROM box:1\nRUN echo typed > /typed\n"
    assert build(client, "-t", "wren", "-", stdin=text)[0] == 0
    assert engine.result("cat", "/typed", image="wren")[1] == "typed\n"
    text = b"FROM box:1\nCOPY . /c/\n"
    assert build(client, "-t", "wren", "-f", "-", str(tree), stdin=text)[0] == 0
    kept = "/c /c/.dockerignore /c/src /c/src/deep /c/src/deep/root /c/src/leaf"
    assert sorted(engine.result("find", "/c", image="wren")[1].split()) == kept.split()
    (tmp_path / "Else").write_bytes(text)
    assert build(client, "-t", "robin", "-f", str(tmp_path / "Else"), str(tree))[0] == 0
    assert sorted(engine.result("find", "/c", image="robin")[1].split()) == kept.split()


def test_quiet_and_its_id_in_a_file(client, engine, tree, tmp_path):
    file = tmp_path / "id"
    code, out, err = client("build", "-q", "--network", "none", "--iidfile", str(file), str(tree))
    about = engine.get(f"/images/{file.read_text().strip()}/json").json
    assert (code, out.decode()) == (0, f"{about['Id']}\n")
    assert err.partition("\n\n")[2] == "" and (not err or err.startswith(LEGACY))


def test_odd_files(client, engine, tree):
    """Names, modes, links, holes: all of it arrives."""
    source = tree / "odd"
    source.mkdir()
    (source / "sp ace").write_text("1")
    (source / "ünï").write_text("2")
    os.close(os.open(os.fsencode(source) + b"/caf\xe9", os.O_CREAT | os.O_WRONLY))
    (source / "link").symlink_to("sp ace")
    os.link(source / "sp ace", source / "twin")
    (source / "closed").mkdir(mode=0o700)
    (source / "set").write_text("3")
    (source / "set").chmod(0o755)
    deep = source / "/".join(["n" * 100] * 4)
    deep.mkdir(parents=True)
    with open(source / "holes", "wb") as file:
        file.truncate(50_000_000)
        file.seek(40_000_000)
        file.write(b"here")
    (tree / "Dockerfile").write_text('FROM box:1\nCOPY odd /o/\nCOPY ["odd/sp ace", "/a b/"]\n')
    code, _, wrong = build(client, "-t", "wren", str(tree))
    assert (code, wrong) == (0, [])
    script = (
        "cd /o; cat 'sp ace' ünï twin '/a b/sp ace'; echo; readlink link; stat -c %a closed set; "
        "stat -c %s holes; tail -c 10000000 holes | head -c 4; echo; ls | wc -l; "
        "find . -type d | wc -l"
    )
    out = engine.result("sh", "-c", script, image="wren")[1]
    assert out.splitlines() == ["1211", "sp ace", "700", "755", "50000000", "here", "9", "6"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=str)
def test_a_client_that_leaves_ends_the_build(client, engine, tree, number):
    (tree / "Dockerfile").write_text("FROM box:1\nRUN echo on its way; sleep 600\n")
    process = subprocess.Popen(
        [*client.words, "build", "--network", "none", "-t", "cut", str(tree)],
        env=client.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        # The command's own line, not that of the step, which has these words, too.
        assert b"on its way\n" in iter(process.stdout.readline, b"")
        process.send_signal(number)
        code = process.wait(20)
    # Docker's, interrupted, tells success now and then: its own race.
    assert code != 0 or (client.name, number) == ("docker", signal.SIGINT)
    deadline = time.monotonic() + 20
    while engine.get("/containers/json?all=1").json:
        assert time.monotonic() < deadline
    assert engine.get("/images/cut/json").status == 404


@pytest.fixture(scope="module")
def guarded(engine, tmp_path_factory):
    """A registry behind a password, with box:1 in it as `nest`, which is here no more."""
    registry = RegistryProcess(tmp_path_factory.mktemp("registry"), login="basic").start()
    name = f"{registry.address}/nest"
    auth = {"username": USER, "password": PASSWORD, "serveraddress": registry.address}
    assert engine.post(f"/images/box:1/tag?repo={name}").status == 201
    header = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()}
    answer = engine.request("POST", f"/images/{name}/push?tag=latest", b"", header)
    assert b'"error"' not in answer.body, answer
    assert engine.delete(f"/images/{name}").status == 200
    yield registry, name
    registry.close()


def test_an_image_of_a_registry_behind_a_password(client, guarded, engine, tree):
    registry, name = guarded
    engine.delete(f"/images/{name}?force=1")
    (tree / "Dockerfile").write_text(f"FROM {name}\nLABEL from=there\n")
    code, _, wrong = build(client, "-t", "wren", str(tree))
    assert (code, "no basic auth credentials" in wrong[-1]) == (1, True)
    login = base64.b64encode(registry.credentials.encode()).decode()
    config = client.environment["DOCKER_CONFIG"] + "/config.json"
    with open(config, "w") as file:
        json.dump({"auths": {registry.address: {"auth": login}}}, file)
    code, lines, wrong = build(client, "-t", "wren", str(tree))
    assert (code, wrong) == (0, [])
    assert any("Pulling from nest" in line for line in lines)
    assert engine.get("/images/wren/json").json["Config"]["Labels"] == {"from": "there"}
    code, lines, _ = build(client, "--pull", str(tree))
    assert code == 0
    assert any("Image is up to date" in line for line in lines)


class TestDockerPy:
    docker = pytest.importorskip("docker", reason="needs docker-py (pip install docker)")

    @pytest.fixture
    def images(self, engine):
        with contextlib.closing(self.docker.DockerClient(f"unix://{engine.socket}")) as made:
            yield made.images

    def test_of_a_directory(self, images, tree):
        image, lines = images.build(
            path=str(tree), tag="wren:1", buildargs={"SONG": "tweet"}, rm=True,
            labels={"more": "1"}, network_mode="none",
        )  # fmt: skip
        assert image.tags == ["wren:1"]
        assert image.labels == {"kind": "bird", "more": "1"}
        said = [line["stream"] for line in lines if "stream" in line]
        assert "Successfully tagged wren:1\n" in said

    def test_of_a_dockerfile_alone(self, images):
        text = b"FROM box:1\nLABEL a=b\n"
        image, _ = images.build(fileobj=io.BytesIO(text), rm=True)
        assert image.labels == {"a": "b"}

    def test_of_an_archive(self, images, tree):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            archive.add(tree, ".")
        image, _ = images.build(
            fileobj=io.BytesIO(out.getvalue()), custom_context=True, encoding="gzip",
            target="maker", nocache=True, forcerm=True, network_mode="none",
            container_limits={"memory": 64 * 1024**2}, shmsize=1024**2,
        )  # fmt: skip
        assert image.attrs["Config"]["WorkingDir"] == "/made"

    def test_of_what_can_not_be(self, images):
        with pytest.raises(self.docker.errors.BuildError, match="returned a non-zero code: 4"):
            images.build(fileobj=io.BytesIO(b"FROM box:1\nRUN exit 4\n"), network_mode="none")
        with pytest.raises(self.docker.errors.APIError, match="unknown instruction: BIRD"):
            images.build(fileobj=io.BytesIO(b"FROM box:1\nBIRD x\n"))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiodocker(engine, tree, anyio_backend):
    aiodocker = pytest.importorskip("aiodocker", reason="needs aiodocker (pip install aiodocker)")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(tree, ".")
    out.seek(0)
    async with aiodocker.Docker(f"unix://{engine.socket}") as client:
        lines = await client.images.build(
            fileobj=out, encoding="gzip", tag="wren:1", buildargs={"SONG": "tweet"}
        )
        said = [line["stream"] for line in lines if "stream" in line]
        assert "Successfully tagged wren:1\n" in said
        assert (await client.images.inspect("wren:1"))["Config"]["User"] == "user"
