"""POST /commit of real containers: what runs, what it says, and what is left when it goes wrong."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from tests.real.engine_process import EngineProcess

SCRIPT = "echo mine >/root/file; rm /etc/shells; echo ready; exec sleep 1000"


def committed(engine, container, changes=(), body=None, **query):
    words = urlencode(
        [("container", container), *query.items(), *(("changes", c) for c in changes)]
    )
    return engine.post(f"/commit?{words}", body)


def made(engine, container, changes=(), body=None, **query):
    answer = committed(engine, container, changes, body, **query)
    assert answer.status == 201, answer
    return answer.json["Id"]


def first_line(engine, container):
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        return logs.read(9)


def told(engine, **filters):
    query = quote(json.dumps(filters))
    lines = engine.get(f"/events?since=1&until={time.time()}&filters={query}").body.splitlines()
    return [json.loads(line) for line in lines]


def names(engine):
    return sorted(tag for image in engine.get("/images/json").json for tag in image["RepoTags"])


def staging(engine):
    return list((engine.root / "images/staging").iterdir())


@pytest.fixture(scope="module")
def bird(engine):
    container = engine.run("sh", "-c", SCRIPT, name="bird", Labels={"a": "1"})
    assert first_line(engine, container)
    return container


def test_of_one_that_runs(engine, bird):
    image = made(
        engine, "bird", ["CMD cat /root/file", "ENV K=v"], repo="nest", tag="1",
        author="Ann <ann@example.org>", comment="with a file",
    )  # fmt: skip
    assert engine.inspect(bird)["State"]["Status"] == "running"
    assert engine.result(image="nest:1")[:2] == (0, "mine\n")
    code, out, _ = engine.result("sh", "-c", "echo $K; ls /etc/shells /usr/bin/env", image="nest:1")
    assert (code, out) == (2, "v\n/usr/bin/env\n")
    shown = engine.get("/images/nest:1/json").json
    host = engine.get("/images/host/json").json
    assert (shown["Id"], shown["Parent"]) == (image, host["Id"])
    assert (shown["Author"], shown["Comment"]) == ("Ann <ann@example.org>", "with a file")
    assert shown["Config"]["Cmd"] == ["/bin/sh", "-c", "cat /root/file"]
    assert shown["Config"]["Labels"] == {"a": "1"}
    assert shown["Size"] == 5 and len(shown["RootFS"]["Layers"]) == 1
    listed = {one["Id"]: one for one in engine.get("/images/json").json}
    assert listed[image]["ParentId"] == host["Id"]
    actions = [one["Action"] for one in told(engine, container=[bird])]
    assert actions[-3:] == ["pause", "unpause", "commit"]
    event = told(engine, container=[bird], event=["commit"])[-1]["Actor"]["Attributes"]
    assert (event["comment"], event["imageID"]) == ("with a file", image)
    assert (event["imageRef"], event["name"], event["a"]) == ("nest:1", "bird", "1")
    tagged = told(engine, type=["image"], event=["tag"])[-1]["Actor"]
    assert tagged == {"ID": image, "Attributes": {"a": "1", "name": "nest:1"}}


def test_without_a_name_or_a_pause(engine, bird):
    before = len(told(engine, container=[bird], event=["pause"]))
    tags = names(engine)
    image = made(engine, bird, pause="0")
    assert names(engine) == tags
    assert engine.get(f"/images/{image}/json").json["RepoTags"] == []
    assert len(told(engine, container=[bird], event=["pause"])) == before
    assert (
        told(engine, container=[bird], event=["commit"])[-1]["Actor"]["Attributes"]["imageRef"]
        == ""
    )
    assert engine.delete(f"/images/{image}").status == 200


def test_of_one_that_does_not_run_and_of_layers_upon_layers(engine):
    """What has never run has changed nothing; what is committed again keeps all that was before."""
    image = "host"
    container = engine.create("true", name="egg")
    assert engine.get(f"/images/{made(engine, container)}/json").json["RootFS"]["Layers"] in (
        None,
        [],
    )
    for number in range(2):
        script = f"echo {number} >/srv/{number}; rm -f /srv/{number - 1}"
        container = engine.run("sh", "-c", script, image=image)
        assert engine.wait(container) == 0
        image = made(engine, container, repo=f"step-{number}")
        assert engine.delete(f"/containers/{container}").status == 204
    assert engine.result("sh", "-c", "cat /srv/*", image="step-1")[1] == "1\n"
    assert len(engine.get("/images/step-1/json").json["RootFS"]["Layers"]) == 2
    assert engine.delete("/images/step-0").json == [{"Untagged": "step-0:latest"}]
    # With its child the image without a name goes as well.
    gone = engine.delete("/images/step-1").json
    assert [next(iter(one)) for one in gone] == ["Untagged", *["Deleted"] * 4]
    assert engine.delete("/containers/egg").status == 204


def test_one_that_is_paused_stays_so(engine):
    container = engine.run("sh", "-c", SCRIPT)
    assert first_line(engine, container)
    assert engine.post(f"/containers/{container}/pause").status == 204
    made(engine, container)
    assert engine.inspect(container)["State"]["Status"] == "paused"
    assert [one["Action"] for one in told(engine, container=[container])][-2:] == [
        "pause",
        "commit",
    ]
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_volumes_and_mounts_are_not_in_it(engine, busybox):
    host = {"Binds": ["/usr/share:/bound:ro"], "Tmpfs": {"/quick": ""}}
    container = engine.run(
        "sh", "-c", "echo 1 >/data/one; echo 2 >/quick/two; echo 3 >/three",
        image=busybox, Volumes={"/data": {}}, HostConfig=host,
    )  # fmt: skip
    assert engine.wait(container) == 0
    image = made(engine, container, repo="mounted")
    assert engine.get("/images/mounted/json").json["Config"]["Volumes"] == {"/data": {}}
    script = "cat /three; ls -A /data /quick /bound; ls /etc"
    code, out, _ = engine.result("sh", "-c", script, image=image)
    assert code == 0
    assert out.startswith("3\n/bound:\n\n/data:\n\n/quick:\n")
    layer = Path(engine.get(f"/images/{image}/json").json["GraphDriver"]["Data"]["UpperDir"])
    assert {one.name for one in layer.iterdir()} == {"three", "data", "quick", "bound"}
    assert engine.delete(f"/containers/{container}?v=1").status == 204


def test_a_configuration_in_the_request(engine, bird):
    image = made(engine, bird, ["LABEL b=2"], {"Cmd": ["x"], "Env": ["A=1"], "Hostname": "h"})
    config = engine.get(f"/images/{image}/json").json["Config"]
    assert (config["Cmd"], config["Labels"]) == (["x"], {"a": "1", "b": "2"})
    assert config["Env"][0] == "A=1" and config["Env"][1].startswith("PATH=")


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("container=nosuch", 404, "No such container: nosuch"),
        ("", 400, 'invalid name or ID supplied: ""'),
        ("container=bird&repo=Bad", 400, "must be lowercase"),
        ("container=bird&repo=a&tag=-x", 400, "invalid tag format"),
        (f"container=bird&repo=a@sha256:{'a' * 64}", 400, "digest reference"),
        ("container=bird&repo=host", 409, "host:latest is taken by the built-in image"),
        ("container=bird&changes=RUN+x", 400, "RUN is not a valid change command"),
        ("container=bird&changes=ENV+A", 400, "ENV must have two arguments"),
        ("container=bird&changes=STOPSIGNAL+SIGNOSUCH", 400, "SIGNOSUCH"),
    ],
)  # fmt: skip
def test_what_is_refused(engine, bird, query, status, words):
    before = engine.get("/images/json").json
    answer = engine.post(f"/commit?{query}")
    assert (answer.status, words in answer.message) == (status, True), answer
    assert engine.get("/images/json").json == before
    assert staging(engine) == []
    assert engine.inspect("bird")["State"]["Status"] == "running"


def test_a_file_that_no_image_can_hold(engine):
    container = engine.run("sh", "-c", "touch /srv/.wh.x; echo ready!!!; exec sleep 1000")
    assert first_line(engine, container)
    answer = committed(engine, container)
    assert (answer.status, "/srv/.wh.x: names that begin with .wh. " in answer.message) == (
        400,
        True,
    )
    assert staging(engine) == []
    assert engine.inspect(container)["State"]["Status"] == "running"
    assert engine.delete(f"/containers/{container}?force=1").status == 204


def test_a_full_disk(tmp_path):
    """The image's half goes, and the container goes on."""
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mountpoint)]
    subprocess.run(mount, check=True)
    engine = EngineProcess(tmp_path / "engine", root=mountpoint / "root").start()
    try:
        fill = "head -c 6m /dev/urandom >/srv/file; echo ready!!!; exec sleep 1000"
        container = engine.run("sh", "-c", fill)
        assert first_line(engine, container)
        answer = committed(engine, container, repo="full")
        assert (answer.status, "no space left on device" in answer.message) == (500, True), answer
        assert names(engine) == ["host:latest"]
        assert staging(engine) == []
        assert engine.inspect(container)["State"]["Status"] == "running"
        shrink = {"Cmd": ["truncate", "-s", "1m", "/srv/file"]}
        asked = engine.post(f"/containers/{container}/exec", shrink).json["Id"]
        engine.post(f"/exec/{asked}/start", {"Detach": False})
        assert made(engine, container, repo="fits")
    finally:
        engine.close()
        subprocess.run(["umount", mountpoint], check=True)


def test_what_images_weigh(engine, busybox):
    container = engine.run("sh", "-c", "head -c 5000 /dev/zero >/srv-file", image=busybox)
    assert engine.wait(container) == 0
    image = made(engine, container)
    weighed = {one["Id"]: one for one in engine.get("/system/df?type=image").json["Images"]}
    base = weighed[engine.get("/images/busybox/json").json["Id"]]
    archive = 512 + 5000 + 120 + 2 * 512  # one header, whole blocks, an end
    assert 5000 + archive <= weighed[image]["Size"] - base["Size"] <= 5000 + 10240 + archive
    assert weighed[image]["SharedSize"] == base["SharedSize"] == base["Size"]
    assert engine.delete(f"/containers/{container}").status == 204
    assert engine.delete(f"/images/{image}").status == 200


def test_the_command_line(engine, bird):
    with engine.spawning() as start:
        words = ["-a", "me", "-m", "a b", "-c", 'CMD ["cat", "/root/file"]', "-c", "ENV A b c"]
        out, err = start("commit", *words, "bird", "line:2").communicate(timeout=30)
        assert (out[:7], err) == ("sha256:", "")
        out, err = start("commit", "--pause=false", "bird", "Bad").communicate(timeout=30)
        assert (out, "must be lowercase" in err) == ("", True)
    config = engine.get("/images/line:2/json").json
    assert (config["Author"], config["Comment"]) == ("me", "a b")
    assert engine.result(image="line:2")[1] == "mine\n"
