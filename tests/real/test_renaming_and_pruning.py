"""Other names, and what goes when nobody uses it: with real containers and a real image store."""

from __future__ import annotations

import json
import tarfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

from tests.real.image_store import archive, entry


def renamed(engine, container, name):
    return engine.post(f"/containers/{container}/rename?name={quote(name, safe='')}")


def past(engine):
    """What has happened until now."""
    lines = engine.get(f"/events?since=1&until={time.time():.6f}").body.splitlines()
    return [json.loads(line) for line in lines]


def until(stream, action):
    """What a stream of events tells, up to an action."""
    found = []
    while not found or found[-1]["Action"] != action:
        found.append(json.loads(stream.readline()))
    return found


def test_names_that_can_not_be(engine):
    robin = engine.create("true", name="robin")
    wren = engine.create("true", name="wren")
    taken = renamed(engine, "robin", "wren")
    assert (taken.status, taken.message) == (
        409,
        'Error when allocating new name: Conflict. The container name "/wren" is already in use '
        f'by container "{wren}". You have to remove (or rename) that container to be able to '
        "reuse that name.",
    )
    same = renamed(engine, "robin", "/robin")
    words = "Renaming a container with the same name as its current name"
    assert (same.status, same.message) == (400, words)
    empty = renamed(engine, "robin", "")
    assert (empty.status, empty.message) == (400, "Neither old nor new names may be empty")
    for name in ("x", "/", "a b", "_a", "a/b"):
        wrong = renamed(engine, "robin", name)
        assert wrong.status == 400, name
        assert wrong.message == (
            f"Error when allocating new name: Invalid container name ({name}), only "
            "[a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    assert engine.inspect(robin)["Name"] == "/robin"
    for one in (robin, wren):
        assert engine.delete(f"/containers/{one}").status == 204


def test_a_name_changes_while_it_is_being_stopped(engine):
    container = engine.run(
        "sh", "-c", "trap 'until [ -e /tmp/go ]; do sleep 0.02; done; exit 4' TERM; echo up; "
        "while :; do sleep 0.02; done", name="finch"
    )  # fmt: skip
    with engine.stream("GET", f"/containers/{container}/logs?stdout=1&follow=1") as logs:
        assert logs.read(11)[8:] == b"up\n"
    told = {}

    def stop():
        told["stop"] = engine.post("/containers/finch/stop?t=30")

    stopping = threading.Thread(target=stop)
    with engine.stream("GET", "/events") as stream:
        stopping.start()
        found = until(stream, "kill")
        assert renamed(engine, "finch", "tit").status == 204
        assert engine.get("/containers/finch/json").status == 404
        pid = engine.inspect("tit")["State"]["Pid"]
        Path(f"/proc/{pid}/root/tmp/go").touch()
        found += until(stream, "stop")
    stopping.join(30)
    assert told["stop"].status == 204
    assert engine.inspect("tit")["State"]["ExitCode"] == 4
    assert [one["Action"] for one in found] == ["kill", "rename", "die", "stop"]
    rename = found[1]["Actor"]["Attributes"]
    assert (rename["oldName"], rename["name"]) == ("/finch", "tit")
    assert engine.delete("/containers/tit").status == 204


def test_a_link_is_not_removed_but_refused(engine):
    container = engine.create("true", name="robin")
    for path in ("robin", "robin/wren"):
        answer = engine.delete(f"/containers/{path}?link=1")
        assert (answer.status, answer.message) == (
            501,
            f"mdocker does not support removing links: remove {path!r} without link",
        )
    assert engine.delete("/containers/robin/wren").status == 404
    assert engine.delete(f"/containers/{container}").status == 204


def imported(engine, name, size, labels=""):
    """An image of one file, as the API imports it; its id."""
    body = archive((entry("file"), name.encode() * size))
    query = f"fromSrc=-&repo={quote(name)}" if name else "fromSrc=-"
    if labels:
        query += f"&changes={quote('LABEL ' + labels)}"
    with_body = engine.request(
        "POST", f"/images/create?{query}", body, {"Content-Type": "application/x-tar"}
    )
    return json.loads(with_body.body.splitlines()[-1])["status"]


def test_what_no_container_uses_goes(engine):
    used = imported(engine, "used", 100)
    labelled = imported(engine, "labelled", 100, "keep=yes")
    imported(engine, "unused", 1000)
    container = engine.create("/file", image="used")
    before = len(past(engine))
    only_unnamed = engine.post("/images/prune").json
    assert only_unnamed == {"ImagesDeleted": None, "SpaceReclaimed": 0}
    filters = quote(json.dumps({"dangling": ["false"], "label!": ["keep"]}))
    answer = engine.post(f"/images/prune?filters={filters}").json
    assert answer["ImagesDeleted"][0] == {"Untagged": "unused:latest"}
    assert answer["SpaceReclaimed"] == 6000 + tarfile.RECORDSIZE  # the archive that it came in
    told = [one["Action"] for one in past(engine)[before:]]
    assert told == ["prune", "untag", "delete", "prune"]
    left = {one["Id"] for one in engine.get("/images/json").json}
    assert {used, labelled} <= left
    assert engine.delete(f"/containers/{container}").status == 204
    filters = quote(json.dumps({"dangling": ["false"]}))
    assert len(engine.post(f"/images/prune?filters={filters}").json["ImagesDeleted"]) == 6
    assert [one["RepoTags"] for one in engine.get("/images/json").json] == [["host:latest"]]
