"""`pull`, `push`, and the pull before a run: what is asked, and what a person sees of it."""

from __future__ import annotations

import io
import json

import pytest

from mdocker import image_names, transfer_lines
from mdocker.transfer_lines import Layers

ID = "a1" * 32
LINES = [
    {"status": "Pulling from library/box", "id": "latest"},
    {"status": "Pulling fs layer", "progressDetail": {}, "id": "abc"},
    {"status": "Downloading", "progressDetail": {"current": 1, "total": 2}, "id": "abc"},
    {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
    {"status": "Pull complete", "progressDetail": {}, "id": "abc"},
    {"progressDetail": {}, "aux": {"Tag": "latest"}},
    {"status": "Digest: sha256:12"},
]
SHOWN = """\
latest: Pulling from library/box
abc: Pulling fs layer
abc: Pull complete
Digest: sha256:12
"""


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """Nobody's credentials but the test's."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"reg.io": {"auth": "YTpi"}}}))


def telling(engine, path, lines):
    """Have the engine answer with these lines; what it was asked is in the list returned."""
    asked = []

    def answer(call, *_):
        asked.append((call.query, call.headers.get("X-Registry-Auth")))
        call.begin("application/json")
        for line in lines:
            call.chunk(json.dumps(line).encode() + b"\r\n")
        call.finish_chunks()

    engine.on("POST", path, answer)
    return asked


@pytest.mark.parametrize(
    ("words", "query", "first", "last"),
    [
        (
            "box",
            {"fromImage": "docker.io/library/box", "tag": "latest"},
            "Using default tag: latest\n",
            "docker.io/library/box:latest\n",
        ),
        (
            "reg.io/a/box:1 --platform linux/arm64",
            {"fromImage": "reg.io/a/box", "tag": "1", "platform": "linux/arm64"},
            "",
            "reg.io/a/box:1\n",
        ),
        (
            "box@sha256:12",
            {"fromImage": "docker.io/library/box", "tag": "sha256:12"},
            "",
            "docker.io/library/box@sha256:12\n",
        ),
        (
            "-a localhost:5000/box",
            {"fromImage": "localhost:5000/box"},
            "",
            "localhost:5000/box\n",
        ),
    ],
)
def test_pull(engine, mdocker, words, query, first, last):
    asked = telling(engine, "/images/create", LINES)
    assert mdocker("pull", *words.split()) == (0, first + SHOWN + last, "")
    ((found, auth),) = asked
    assert found == query
    assert (auth == "e30=") == ("reg.io" not in words)
    assert mdocker("pull", "-q", *words.split()) == (0, last, "")


def test_push(engine, mdocker):
    asked = telling(engine, "/images/reg.io/box/push", LINES)
    assert mdocker("push", "reg.io/box") == (0, "Using default tag: latest\n" + SHOWN, "")
    assert mdocker("push", "-a", "reg.io/box") == (0, SHOWN, "")
    assert mdocker("image", "push", "-q", "reg.io/box:2") == (0, "reg.io/box:2\n", "")
    assert [query for query, _ in asked] == [{"tag": "latest"}, {}, {"tag": "2"}]
    assert all(auth and auth != "e30=" for _, auth in asked)


@pytest.mark.parametrize("command", ["pull", "push"])
def test_refused(engine, mdocker, command):
    code, _, err = mdocker(command, "-a", "box:1")
    assert (code, "tag can't be used with --all-tags/-a" in err) == (1, True)
    engine.refuse("POST", "/images/.*", 404, "manifest unknown")
    assert mdocker(command, "box:1") == (1, "", "mdocker: manifest unknown\n")
    said = [LINES[0], {"errorDetail": {"message": "disk full"}, "error": "disk full"}]
    telling(engine, "/images/.*", said)
    code, out, err = mdocker(command, "box:1")
    assert (code, err) == (1, "mdocker: disk full\n")
    assert out == "latest: Pulling from library/box\n"


def test_an_engine_that_dies_is_asked_again(engine, mdocker, monkeypatch):
    """It may be killed, or become another version: the next one does it."""
    asked = []

    def die(call):
        asked.append(call)
        call.begin("application/json")
        call.chunk(json.dumps(LINES[0]).encode() + b"\r\n")
        if len(asked) % 3:
            call.close_connection = True
            return
        call.finish_chunks()

    engine.on("POST", "/images/create", die)
    line = SHOWN.splitlines(keepends=True)[0]
    code, out, err = mdocker("pull", "box:1")
    assert (code, err, len(asked)) == (0, "", 3)
    assert out == f"{line}docker.io/library/box:1\n"
    monkeypatch.setattr("mdocker.transfers.MOST_DEATHS", 1)
    code, _, err = mdocker("pull", "box:1")
    assert (code, len(asked)) == (1, 5)
    assert err.startswith("mdocker: the engine closed the connection")


@pytest.fixture
def without_image(engine):
    """An engine that has an image only once that was pulled."""
    engine.pulled = telling(engine, "/images/create", LINES)

    def create(call):
        if engine.pulled:
            call.answer(201, {"Id": ID})
        else:
            call.refuse(404, "No such image: box:latest")

    engine.on("POST", "/containers/create", create)
    engine.json("POST", f"/containers/{ID}/start", None, 204)
    return engine


def test_run_pulls_what_is_missing(without_image, mdocker):
    code, out, err = mdocker("run", "-d", "--name", "x", "--platform", "linux/amd64", "box")
    assert (code, out) == (0, f"{ID}\n")
    assert err == f"Unable to find image 'box:latest' locally\n{SHOWN}"
    ((query, _),) = without_image.pulled
    assert query["platform"] == "linux/amd64"
    creates = without_image.seen("POST", "/containers/create")
    assert [query for _, _, query, _ in creates] == [{"name": "x", "platform": "linux/amd64"}] * 2


def test_quietly(without_image, mdocker):
    assert mdocker("create", "-q", "box") == (0, f"{ID}\n", "")


def test_the_policies(without_image, mdocker):
    code, _, err = mdocker("run", "-d", "--pull", "never", "box")
    assert (code, without_image.pulled) == (125, [])
    assert "No such image: box:latest (see 'mdocker images'; get it by 'mdocker pull'" in err
    assert mdocker("run", "-d", "--pull=always", "box") == (0, f"{ID}\n", SHOWN)
    assert mdocker("run", "-d", "--pull=always", "box") == (0, f"{ID}\n", SHOWN)
    assert len(without_image.pulled) == 2
    assert mdocker("run", "-d", "box") == (0, f"{ID}\n", "")
    code, _, err = mdocker("run", "--pull", "often", "box")
    assert code == 125
    assert "invalid pull option: 'often': must be one of always, missing, never" in err


def test_what_can_not_be_pulled(without_image, mdocker):
    without_image.refuse("POST", "/images/create", 404, "manifest unknown")
    said = "Unable to find image 'box:latest' locally\nmdocker: manifest unknown\n"
    assert mdocker("run", "box") == (125, "", said)
    without_image.refuse("GET", "/images/box/json", 404, "No such image: box:latest")
    assert mdocker("run", "-d", "--replicas", "2", "box") == (125, "", said)


def test_another_container_that_is_missing_is_no_image(engine, mdocker):
    engine.refuse("POST", "/containers/create", 404, "No such container: giver")
    asked = telling(engine, "/images/create", LINES)
    code, _, err = mdocker("run", "--volumes-from", "giver", "host")
    assert (code, err, asked) == (125, "mdocker: No such container: giver\n", [])


def test_replicas_pull_once(without_image, mdocker):
    def inspect(call):
        call.refuse(404, "No such image: box:latest")

    without_image.on("GET", "/images/box/json", inspect)
    code, out, err = mdocker("run", "-d", "--replicas", "3", "box")
    assert (code, out) == (0, f"{ID}\n" * 3)
    assert err == f"Unable to find image 'box:latest' locally\n{SHOWN}"
    assert len(without_image.pulled) == 1


@pytest.mark.parametrize(
    ("typed", "full", "familiar"),
    [
        ("box", "docker.io/library/box:latest", "box:latest"),
        ("a/box:1", "docker.io/a/box:1", "a/box:1"),
        ("docker.io/box", "docker.io/library/box:latest", "box:latest"),
        ("index.docker.io/library/box:2", "docker.io/library/box:2", "box:2"),
        ("localhost/box", "localhost/box:latest", "localhost/box:latest"),
        ("reg:5000/box", "reg:5000/box:latest", "reg:5000/box:latest"),
        ("box@sha256:12", "docker.io/library/box@sha256:12", "box@sha256:12"),
        ("reg.io/a:1@sha256:12", "reg.io/a:1@sha256:12", "reg.io/a:1@sha256:12"),
    ],
)
def test_names(typed, full, familiar):
    name = image_names.read(typed).tagged()
    assert (name.full, name.familiar) == (full, familiar)


class Terminal:
    """What stands on a terminal that understands as much as is used."""

    def __init__(self):
        self.lines = [""]
        self.row = 0

    def write(self, text):
        while text:
            if text.startswith("\x1b["):
                end = next(at for at, letter in enumerate(text[2:], 2) if letter.isalpha())
                self._control(text[2:end], text[end])
                text = text[end + 1 :]
                continue
            letter, text = text[0], text[1:]
            if letter == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
                self.fresh = True
            elif letter == "\r":
                self.fresh = True
            else:
                self.lines[self.row] = ("" if self.fresh else self.lines[self.row]) + letter
                self.fresh = False

    fresh = True

    def _control(self, number, letter):
        if letter == "A":
            self.row -= int(number)
            assert self.row >= 0
        elif letter == "J":
            del self.lines[self.row + 1 :]
            self.lines[self.row] = ""
        else:
            assert letter == "K"

    def flush(self):
        pass

    def fileno(self):
        raise io.UnsupportedOperation


def layer(id, status, current=0, total=0):
    detail = {"current": current, "total": total} if current or total else {}
    return {"id": id, "status": status, "progressDetail": detail}


def test_on_a_terminal_layers_stay_where_they_are(monkeypatch):
    monkeypatch.setattr(transfer_lines, "_EVERY_S", 0)
    terminal = Terminal()
    shown = Layers(terminal)
    shown.take(LINES[0])
    for id in ("abc", "def"):
        shown.take(layer(id, "Pulling fs layer"))
    shown.take(layer("abc", "Downloading", 500_000, 1_000_000))
    assert terminal.lines == [
        "latest: Pulling from library/box",
        "abc: Downloading [" + "=" * 23 + ">" + " " * 23 + "]    500kB/1MB",
        "def: Pulling fs layer",
        "",
    ]
    shown.take(layer("abc", "Pull complete"))
    shown.take(layer("def", "Downloading", 5_000))
    assert terminal.lines[1:3] == ["abc: Pull complete", "def: Downloading 5kB"]
    shown.take({"status": "Digest: sha256:12"})
    shown.take(layer("abc", "Already exists"))
    shown.close()
    assert terminal.lines == [
        "latest: Pulling from library/box",
        "abc: Pull complete",
        "def: Downloading 5kB",
        "Digest: sha256:12",
        "abc: Already exists",
        "",
    ]
    assert all(len(line) < 80 for line in terminal.lines)


def test_more_layers_than_there_are_lines(monkeypatch):
    monkeypatch.setattr(transfer_lines, "_EVERY_S", 0)
    monkeypatch.setattr(transfer_lines, "_size", lambda out: (40, 6))
    terminal = Terminal()
    shown = Layers(terminal)
    for number in range(20):
        shown.take(layer(f"l{number:02}", "Pull complete" if number < 5 else "Waiting"))
    shown.take(layer("l19", "Downloading", 1_000_000, 2_000_000))
    assert terminal.lines == [
        "l05: Waiting",
        "l06: Waiting",
        "l07: Waiting",
        "l19: Downloading 1MB/2MB",
        "… and 16 more",
        "",
    ]
    shown.close()
    assert len(terminal.lines) == 21
    assert terminal.lines[0] == "l00: Pull complete"
