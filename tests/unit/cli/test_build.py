"""`build`: its context, what is asked of the engine, and what is shown of the answer."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading

import pytest

from mdocker import build_context
from mdocker.build_context import is_archive
from mdocker.context_sending import ContextSending
from mdocker.dockerignore import Rules
from mdocker.errors import CliError
from mdocker.git_context import is_address


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A directory to build, with a function that makes files in it."""
    root = tmp_path / "tree"
    root.mkdir()
    monkeypatch.chdir(root)

    def make(**files):
        for name, content in files.items():
            write(root, name, content)
        return root

    make.root = root
    return make


def write(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {
            entry.name: (
                entry,
                archive.extractfile(entry).read() if entry.isreg() else entry.linkname,
            )
            for entry in archive
        }


def find_context(place, file):
    with contextlib.ExitStack() as stack:
        return build_context.find_context(place, file, stack)


def drained(context):
    return b"".join(iter(context.read, b""))


def names(place, file=""):
    return sorted(members(drained(find_context(str(place), file))))


class TestContext:
    def test_all_of_a_directory(self, tree):
        root = tree(Dockerfile="FROM scratch")
        write(root, "src/main.c", "int main;")
        (root / "empty").mkdir(mode=0o700)
        (root / "run.sh").write_text("#!/bin/sh")
        (root / "run.sh").chmod(0o4751)
        (root / "link").symlink_to("nowhere/at/all")
        os.link(root / "src/main.c", root / "zz")
        os.mkfifo(root / "pipe", 0o640)
        long = "n" * 120 + "/" + "m" * 120
        write(root, long, "far")
        with socket.socket(socket.AF_UNIX) as left_out:
            left_out.bind("sock")
            context = find_context(".", "")
            assert context.dockerfile == "Dockerfile"
            found = members(drained(context))
        assert list(found) == sorted(found)
        assert set(found) == {
            *("Dockerfile", "empty", "link", "n" * 120, long, "pipe", "run.sh", "src"),
            *("src/main.c", "zz"),
        }
        assert found["src/main.c"][1] == b"int main;"
        assert (found["zz"][0].islnk(), found["zz"][1]) == (True, "src/main.c")
        assert (found["link"][0].issym(), found["link"][1]) == (True, "nowhere/at/all")
        assert found["pipe"][0].isfifo()
        assert (found["empty"][0].isdir(), found["empty"][0].mode) == (True, 0o700)
        assert found["run.sh"][0].mode == 0o4751
        assert all((one.uid, one.gid, one.uname) == (0, 0, "") for one, _ in found.values())

    def test_it_is_the_same_each_time(self, tree):
        root = tree(Dockerfile="FROM scratch", b="b", a="a")
        first = drained(find_context(".", ""))
        os.rename(root / "a", root / "c")
        os.rename(root / "c", root / "a")
        assert drained(find_context(str(root), "")) == first

    def test_names_that_are_no_text(self, tree):
        root = tree(Dockerfile="FROM scratch")
        os.close(os.open(os.fsencode(root) + b"/caf\xe9\n", os.O_CREAT | os.O_WRONLY))
        assert "caf\udce9\n" in names(".")

    def test_a_directory_behind_a_link(self, tree, tmp_path):
        (tmp_path / "way").symlink_to(tree(Dockerfile="FROM scratch"))
        assert names(tmp_path / "way") == ["Dockerfile"]

    def test_attributes_of_this_file_system_are_left_behind(self, tree):
        root = tree(Dockerfile="FROM scratch")
        os.setxattr(root / "Dockerfile", "user.mine", b"1")
        entry, _ = members(drained(find_context(".", "")))["Dockerfile"]
        assert not any("xattr" in key for key in entry.pax_headers)

    @pytest.mark.parametrize("change", [-1_500_000, 1_500_000])
    def test_a_file_that_changes_its_size_meanwhile(self, tree, change):
        root = tree(Dockerfile="FROM scratch", z="last")
        big = root / "big"
        big.write_bytes(b"x" * 3_000_000)
        pieces = iter(find_context(".", "").read, b"")
        data = b""
        while b"big" not in data:
            data += next(pieces)
        os.truncate(big, 3_000_000 + change)
        found = members(data + b"".join(pieces))
        assert len(found["big"][1]) == 3_000_000
        assert found["z"][1] == b"last"

    def test_a_file_that_goes_meanwhile(self, tree):
        root = tree(Dockerfile="FROM scratch", a="a" * 100_000, b="b")
        pieces = iter(find_context(".", "").read, b"")
        data = next(pieces)
        os.unlink(root / "b")
        assert sorted(members(data + b"".join(pieces))) == ["Dockerfile", "a"]

    def test_holes_are_not_sent(self, tree):
        root = tree(Dockerfile="FROM scratch")
        with open(root / "disk", "wb") as file:
            file.truncate(10**9)
            file.seek(10**8)
            file.write(b"here")
        data = drained(find_context(".", ""))
        assert len(data) < 10**6
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert archive.getmember("disk").size == 10**9

    def test_what_cannot_be_read_is_no_context(self, tree, monkeypatch):
        tree(Dockerfile="FROM scratch", secret="x")
        real = os.open

        def refusing(path, *arguments, **options):
            if str(path).endswith("secret"):
                raise PermissionError(13, "Permission denied")
            return real(path, *arguments, **options)

        monkeypatch.setattr(os, "open", refusing)
        with pytest.raises(CliError, match=r"unable to read '.*/secret': permission denied"):
            names(".")


class TestWhatIsLeftOut:
    def sent(self, root, *lines, always=()):
        sending = ContextSending(str(root), Rules(lines), always)
        return sorted(members(b"".join(sending.context())))

    @pytest.fixture
    def files(self, tree):
        for name in ("a/b/c", "a/b/d", "a/e", "f"):
            write(tree.root, name, name)
        return tree.root

    def test_a_directory_with_all_that_is_in_it(self, files):
        assert self.sent(files, "a") == ["f"]

    def test_an_exception_below_brings_its_directories(self, files):
        (files / "a").chmod(0o750)
        assert self.sent(files, "*", "!a/b/c") == ["a", "a/b", "a/b/c"]
        assert self.sent(files, "**", "!**/c") == ["a", "a/b", "a/b/c"]
        sending = ContextSending(str(files), Rules(["*", "!a/b/c"]))
        assert members(b"".join(sending.context()))["a"][0].mode == 0o750

    def test_what_is_always_sent(self, files):
        assert self.sent(files, "**", always=("a/b/d",)) == ["a", "a/b", "a/b/d"]

    def test_dockerfile_and_dockerignore_are_sent_whatever_they_say(self, tree):
        tree(Dockerfile="FROM scratch", other="x", **{".dockerignore": "*\n# all of it\n"})
        assert names(".") == [".dockerignore", "Dockerfile"]

    def test_the_engine_is_not_asked_about_a_bad_line(self, tree, mdocker, engine):
        tree(Dockerfile="FROM scratch", **{".dockerignore": "fine\n[\n"})
        result = mdocker("build", ".")
        assert result.code == 1
        assert result.err == (
            "mdocker: .dockerignore, line 2: '[': syntax error in pattern: a [ is not closed\n"
        )
        assert not engine.requests


class TestDockerfile:
    def test_another_name(self, tree):
        write(tree(Dockerfile="no"), "ci/Build.file", "FROM scratch")
        context = find_context(".", "ci/Build.file")
        assert context.dockerfile == "ci/Build.file"

    def test_one_in_lower_case(self, tree):
        tree(dockerfile="FROM scratch")
        assert find_context(".", "").dockerfile == "dockerfile"

    def test_a_link_to_it(self, tree):
        root = tree(real="FROM scratch")
        (root / "Dockerfile").symlink_to("real")
        assert find_context(".", "").dockerfile == "real"

    def test_none(self, tree):
        with pytest.raises(
            CliError,
            match=r"unable to evaluate symlinks in Dockerfile path: lstat .*/tree/Dockerfile: "
            "no such file or directory",
        ):
            find_context(str(tree.root), "")

    def outside(self, context):
        found = members(drained(context))
        assert context.dockerfile.startswith(".dockerfile.")
        assert found[context.dockerfile][1] == b"FROM there"
        assert found[".dockerignore"][1].decode().splitlines()[-1] == context.dockerfile
        return found

    def test_one_outside_of_the_context(self, tree, tmp_path):
        write(tmp_path, "else/Dockerfile", "FROM there")
        write(tree.root, "Dockerfile", "FROM here")
        found = self.outside(find_context(".", "../else/Dockerfile"))
        assert found[".dockerignore"][1].startswith(b".dockerignore\n")
        assert found["Dockerfile"][1] == b"FROM here"

    def test_a_dockerignore_stays_what_it_is(self, tree, tmp_path):
        write(tmp_path, "else/Dockerfile", "FROM there")
        write(tree.root, ".dockerignore", "x\n!y")
        write(tree.root, "x", "left out")
        found = self.outside(find_context(".", "../else/Dockerfile"))
        assert found[".dockerignore"][1].startswith(b"x\n!y\n")
        assert "x" not in found

    def test_one_of_standard_input(self, tree, typed):
        typed(b"FROM there")
        tree(x="x")
        assert "x" in self.outside(find_context(".", "-"))

    def test_a_dockerignore_that_leads_out_is_not_sent(self, tree, tmp_path):
        """Found: a repository's link had any file of the user's sent, in reach of a COPY."""
        tree(Dockerfile="FROM scratch", **{"Dockerfile.dockerignore": "x"})
        write(tmp_path, "secret", "of mine")
        os.symlink(os.path.join(tmp_path, "secret"), os.path.join(tree.root, ".dockerignore"))
        found = members(drained(find_context(".", "")))
        assert b"of mine" not in found[".dockerignore"][1]
        os.unlink(os.path.join(tree.root, ".dockerignore"))
        write(tree.root, "rules", "y")
        os.symlink("rules", os.path.join(tree.root, ".dockerignore"))
        found = members(drained(find_context(".", "")))
        assert found[".dockerignore"][1].startswith(b"y\n")

    @pytest.mark.parametrize("place", [".", "../else"])
    def test_a_dockerignore_of_its_own(self, tree, tmp_path, place):
        base = (tree.root / place).resolve()
        write(base, "Special", "FROM there")
        write(base, "Special.dockerignore", "x\n.dockerignore")
        write(tree.root, ".dockerignore", "y")
        write(tree.root, "x", "left out")
        write(tree.root, "y", "kept")
        found = self.outside(find_context(".", f"{place}/Special"))
        assert "y" in found
        assert "x" not in found
        assert found[".dockerignore"][1].startswith(b".dockerignore\n")


@pytest.fixture
def typed(monkeypatch):
    """Have these bytes on standard input."""
    saved = os.dup(0)

    def give(data):
        reader, writer = os.pipe()
        os.dup2(reader, 0)
        os.close(reader)

        def feed():
            with open(writer, "wb") as pipe:
                pipe.write(data)

        threading.Thread(target=feed, daemon=True).start()

    yield give
    os.dup2(saved, 0)
    os.close(saved)


def packed(mode="w", **files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class TestStandardInput:
    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_an_archive_goes_as_it_is(self, typed, mode):
        data = packed(mode, Dockerfile=b"FROM scratch", more=os.urandom(100_000))
        typed(data)
        context = find_context("-", "")
        assert context.dockerfile == ""
        assert drained(context) == data

    def test_a_dockerfile_in_an_archive(self, typed):
        typed(packed(x=b"FROM scratch"))
        assert find_context("-", "x").dockerfile == "x"

    def test_a_dockerfile_alone(self, typed):
        text = b"FROM scratch\n" + b"# long\n" * 1000
        typed(text)
        found = members(drained(find_context("-", "")))
        assert {name: content for name, (_, content) in found.items()} == {"Dockerfile": text}

    def test_two_dockerfiles(self, typed):
        typed(b"FROM scratch")
        with pytest.raises(CliError, match="ambiguous Dockerfile source"):
            find_context("-", "x")

    def test_nothing(self, typed):
        typed(b"")
        assert list(members(drained(find_context("-", "")))) == ["Dockerfile"]

    def test_both_at_once(self):
        with pytest.raises(CliError, match="can't use stdin for both"):
            find_context("-", "-")

    def test_what_an_archive_is(self):
        assert is_archive(bytes(1024))
        assert is_archive(b"\x28\xb5\x2f\xfdrest")
        assert not is_archive(b"FROM scratch\n" * 100)
        assert not is_archive(bytes(511))


class TestAddresses:
    def test_the_engine_fetches_them(self, engine, mdocker):
        asked = answering(engine, {"stream": "done\n"})
        assert mdocker("build", "-f", "x/y", "http://example.org/a.tar").out == "done\n"
        assert asked[0] == {
            "remote": "http://example.org/a.tar",
            "dockerfile": "x/y",
            "rm": "1",
        }

    def test_nothing_of_that_name(self, tree, mdocker):
        tree(file="x")
        assert mdocker("build", "nowhere") == (
            1,
            "",
            'mdocker: unable to prepare context: path "nowhere" not found\n',
        )
        assert "context must be a directory: " in mdocker("build", "file").err


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
class TestRepositories:
    URL = "https://example.org/nest.git"

    @pytest.fixture
    def repository(self, tmp_path, monkeypatch):
        """One of two branches, which git finds behind `URL`."""
        root = tmp_path / "nest"
        write(root, "Dockerfile", "FROM scratch")
        write(root, "ci/Dockerfile", "FROM other")
        write(root, ".dockerignore", "left.out")
        write(root, "left.out", "x")
        settings = {
            f"url.{root}.insteadOf": self.URL,
            "user.name": "me",
            "user.email": "me@example.org",
            "init.defaultBranch": "main",
        }
        monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
        for number, (key, value) in enumerate(settings.items()):
            monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
            monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        self.git(root, "init", "--quiet")
        self.git(root, "add", ".")
        self.git(root, "commit", "--quiet", "-m", "first")
        self.git(root, "branch", "old")
        write(root, "more", "more")
        self.git(root, "add", ".")
        self.git(root, "commit", "--quiet", "-m", "second")
        return root

    def git(self, root, *words):
        subprocess.run(["git", *words], cwd=root, check=True)

    @pytest.mark.parametrize(
        ("fragment", "file", "found"),
        [
            ("", "", ".dockerignore Dockerfile ci ci/Dockerfile more"),
            ("#old", "", ".dockerignore Dockerfile ci ci/Dockerfile"),
            ("#old:ci", "", "Dockerfile"),
            ("#:ci", "", "Dockerfile"),
            ("", "ci/Dockerfile", ".dockerignore Dockerfile ci ci/Dockerfile more"),
        ],
    )
    def test_it_is_fetched(self, repository, engine, mdocker, tmp_path, fragment, file, found):
        bodies = []
        asked = answering(engine, bodies=bodies)
        words = ["-f", file] if file else []
        result = mdocker("build", *words, f"{self.URL}{fragment}")
        assert result == (0, "", "")
        assert sorted(members(bodies[0])) == found.split()
        assert asked[0]["dockerfile"] == (file or "Dockerfile")

    def test_in_a_hook_of_another_repository(
        self, repository, engine, mdocker, tmp_path, monkeypatch
    ):
        bodies = []
        answering(engine, bodies=bodies)
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
        monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
        assert mdocker("build", f"{self.URL}#:ci") == (0, "", "")
        assert sorted(members(bodies[0])) == ["Dockerfile"]
        assert not (tmp_path / "index").exists()

    def test_nothing_is_left_of_it(self, repository, engine, mdocker, tmp_path, monkeypatch):
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
        engine.refuse("POST", "/build", 400, "no")
        assert mdocker("build", self.URL).err == "mdocker: no\n"
        assert os.listdir(tmp_path / "scratch") == []

    @pytest.mark.parametrize(
        ("words", "error"),
        [
            ([f"{URL}#nosuch"], "'git fetch' failed: fatal: couldn't find remote ref nosuch"),
            ([f"{URL}#--upload-pack=x"], "invalid refspec: --upload-pack=x"),
            ([f"{URL}#:nosuch"], f"not a directory in {URL}: nosuch"),
            ([f"{URL}#:../.git"], f"not a directory in {URL}: ../.git"),
            (["-f", "/etc/passwd", URL], "must be within the build context"),
            (["-f", "ci/link", f"{URL}#links"], "must be within the build context"),
        ],
    )
    def test_what_is_refused(self, repository, engine, mdocker, words, error):
        self.git(repository, "checkout", "--quiet", "-b", "links")
        (repository / "ci/link").symlink_to("/etc/passwd")
        self.git(repository, "add", ".")
        self.git(repository, "commit", "--quiet", "-m", "third")
        result = mdocker("build", *words)
        assert (result.code, result.out) == (1, "")
        assert error in result.err
        assert not engine.requests

    @pytest.mark.parametrize(
        ("place", "there"),
        [
            ("git@example.org:a", True),
            ("github.com/a/b", True),
            ("git://a", True),
            ("http://example.org/a.git#v1:dir", True),
            ("http://example.org/a.git.tar", False),
            ("http://example.org/a#.git", False),
            ("directory.git", False),
        ],
    )
    def test_what_means_one(self, place, there):
        assert is_address(place) is there


def answering(engine, *news, bodies=None):
    """Have POST /build answer so; returns the queries that come."""
    asked = []

    def handler(call):
        asked.append(call.query)
        if bodies is not None:
            bodies.append(call.data)
        call.begin("application/json")
        for one in news:
            call.chunk(json.dumps(one).encode() + b"\r\n")
        call.finish_chunks()

    engine.on("POST", "/build", handler)
    return asked


@pytest.fixture
def context(tree):
    return tree(Dockerfile="FROM scratch")


class TestRequest:
    def test_a_plain_one(self, engine, mdocker, context):
        bodies = []
        asked = answering(engine, {"stream": "built\n"}, bodies=bodies)
        assert mdocker("build", ".") == (0, "built\n", "")
        assert asked == [{"dockerfile": "Dockerfile", "rm": "1"}]
        assert list(members(bodies[0])) == ["Dockerfile"]

    def test_all_options(self, engine, mdocker, context, monkeypatch):
        monkeypatch.setenv("FROM_HERE", "here")
        monkeypatch.delenv("NOWHERE", raising=False)
        queries = []

        def handler(call):
            queries.extend(call.queries)
            call.answer(200)

        engine.on("POST", "/build", handler)
        line = (
            "build -t a:1 --tag b --build-arg A=1 --build-arg FROM_HERE --build-arg NOWHERE "
            "--target up --label k=v=w --label bare --no-cache --cache-from x,y --cache-from z "
            "--pull --platform linux/amd64 --rm=false --force-rm --network host "
            "--add-host db:10.0.0.5 --add-host v6=[::1] -m 64m --memory-swap -1 -c 5 "
            "--cpu-period 7 --cpu-quota 8 --cpuset-cpus 0-1 --cpuset-mems 0 --shm-size 1m "
            "--ulimit nofile=5:9 --cgroup-parent /jobs ."
        )
        assert mdocker(*line.split()).code == 0
        loaded = {
            key: json.loads(value)
            for key, value in queries
            if key in ("buildargs", "labels", "cachefrom", "ulimits")
        }
        assert loaded == {
            "buildargs": {"A": "1", "FROM_HERE": "here", "NOWHERE": None},
            "labels": {"k": "v=w", "bare": ""},
            "cachefrom": ["x", "y", "z"],
            "ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 9}],
        }
        assert sorted(pair for pair in queries if pair[0] not in loaded) == sorted(
            [
                *[("t", "a:1"), ("t", "b"), ("extrahosts", "db:10.0.0.5")],
                *[("extrahosts", "v6:::1"), ("target", "up"), ("nocache", "1"), ("pull", "1")],
                *[("platform", "linux/amd64"), ("rm", "0"), ("forcerm", "1")],
                *[("networkmode", "host"), ("memory", str(64 * 1024**2)), ("memswap", "-1")],
                *[("cpushares", "5"), ("cpuperiod", "7"), ("cpuquota", "8")],
                *[("cpusetcpus", "0-1"), ("cpusetmems", "0"), ("shmsize", str(1024**2))],
                *[("cgroupparent", "/jobs"), ("dockerfile", "Dockerfile")],
            ]
        )

    def test_credentials_of_all_registries_go_along(
        self, engine, mdocker, context, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        login = base64.b64encode(b"me:secret").decode()
        config = {"auths": {"here:5000": {"auth": login}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        said = []

        def handler(call):
            said.append(json.loads(base64.urlsafe_b64decode(call.headers["X-Registry-Config"])))
            call.answer(200)

        engine.on("POST", "/build", handler)
        assert mdocker("build", ".").code == 0
        assert said[0]["here:5000"]["username"] == "me"
        assert said[0]["here:5000"]["password"] == "secret"

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            (["--secret", "id=x"], "--secret is not supported yet: that is BuildKit's"),
            (["-o", "out"], "-o is not supported yet: that is BuildKit's"),
            (["--squash"], "--squash is not supported yet"),
            (["--isolation", "x"], "--isolation is not supported yet"),
            (["--ulimit", "nofile"], "it is NAME=SOFT[:HARD]"),
            (["--memory", "much"], 'invalid argument "much" for "-m, --memory"'),
            (["--add-host", "x"], "--add-host: x: it is NAME:ADDRESS"),
        ],
    )
    def test_what_is_refused(self, engine, mdocker, context, words, text):
        result = mdocker("build", *words, ".")
        assert result.code != 0
        assert text in result.err
        assert not engine.requests

    def test_longer_names(self, engine, mdocker, context):
        asked = answering(engine)
        assert mdocker("image", "build", ".").code == 0
        assert mdocker("builder", "build", ".").code == 0
        assert len(asked) == 2
        result = mdocker("builder", "prune")
        assert result.code == 1
        assert "'mdocker image prune' clears it" in result.err


ID = "sha256:" + "1f" * 32


class TestAnswer:
    def test_steps_and_pulls(self, engine, mdocker, context, tmp_path):
        answering(
            engine,
            {"stream": "Step 1/2 : FROM x\n"},
            {"status": "Pulling from library/x", "id": "latest"},
            {"status": "Downloading", "id": "abc", "progressDetail": {"current": 1, "total": 2}},
            {"status": "Pull complete", "id": "abc", "progressDetail": {}},
            {"status": "warning: mind"},
            {"stream": " ---> 1f1f\n"},
            {"aux": {"ID": ID}},
            {"stream": "Successfully built 1f1f\n"},
        )
        result = mdocker("build", "--iidfile", str(tmp_path / "id"), ".")
        assert result == (
            0,
            "Step 1/2 : FROM x\nlatest: Pulling from library/x\nabc: Pull complete\n"
            " ---> 1f1f\nSuccessfully built 1f1f\n",
            "WARNING: mind\n",
        )
        assert (tmp_path / "id").read_text() == ID

    def test_what_commands_say_of_errors_is_red_for_people_alone(
        self, engine, mdocker, context, monkeypatch
    ):
        red, blue = "\x1b[91mwrong\n\x1b[0m", "\x1b[94mblue\x1b[0m\n"
        answering(engine, {"stream": red}, {"stream": blue})
        assert mdocker("build", ".").out == "wrong\n" + blue
        monkeypatch.setattr("mdocker.build_output.wants_colour", lambda descriptor: True)
        assert mdocker("build", ".").out == red + blue

    @pytest.mark.parametrize("code", [None, 1, 3])
    def test_a_step_that_fails(self, engine, mdocker, context, tmp_path, code):
        (tmp_path / "id").write_text("old")
        detail = {"message": "The command returned", **({"code": code} if code else {})}
        answering(
            engine,
            {"stream": "Step 1/1\n"},
            {"errorDetail": detail, "error": "The command returned"},
        )
        result = mdocker("build", "--iidfile", str(tmp_path / "id"), ".")
        assert result == (code or 1, "Step 1/1\n", "mdocker: The command returned\n")
        assert not (tmp_path / "id").exists()

    def test_a_refusal(self, engine, mdocker, context):
        engine.refuse("POST", "/build", 400, "dockerfile parse error")
        assert mdocker("build", ".") == (1, "", "mdocker: dockerfile parse error\n")

    def test_a_refusal_before_the_context_is_there(self, engine, mdocker, context):
        (context / "big").write_bytes(os.urandom(5_000_000))

        def refuse(call):
            call.refuse(400, "no such option")
            call.close_connection = True

        engine.on("POST", "/build", refuse, eager=False)
        assert mdocker("build", ".") == (1, "", "mdocker: no such option\n")

    def test_an_answer_that_begins_before_the_context_ends(self, engine, mdocker, context):
        (context / "big").write_bytes(b"x" * 5_000_000)
        got = []

        def talk(call):
            call.begin("application/json")
            call.chunk(b'{"stream": "first\\n"}\n')
            got.append(len(call.body()))
            call.chunk(b'{"stream": "last\\n"}')
            call.finish_chunks()

        engine.on("POST", "/build", talk, eager=False)
        assert mdocker("build", ".") == (0, "first\nlast\n", "")
        assert got[0] > 5_000_000

    def test_quiet(self, engine, mdocker, context, tmp_path):
        asked = answering(engine, {"stream": f"{ID}\n"})
        result = mdocker("build", "-q", "--iidfile", str(tmp_path / "id"), ".")
        assert result == (0, f"{ID}\n", "")
        assert asked[0]["q"] == "1"
        assert (tmp_path / "id").read_text() == ID

    def test_quiet_about_a_failure(self, engine, mdocker, context):
        answering(engine, {"stream": "what happened\n"}, {"errorDetail": {"message": "bad"}})
        assert mdocker("build", "-q", ".") == (1, "", "what happened\nmdocker: bad\n")

    @pytest.mark.parametrize("linked", [False, True])
    def test_an_id_into_what_is_no_file(self, engine, mdocker, context, tmp_path, linked):
        answering(engine, {"aux": {"ID": ID}})
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        named = tmp_path / "stdout" if linked else path
        if linked:
            named.symlink_to(path)
        try:
            assert mdocker("build", "--iidfile", str(named), ".").code == 0
            assert os.read(reader, 100).decode() == ID
        finally:
            os.close(reader)
        assert path.is_fifo() and named.is_symlink() == linked

    def test_a_link_to_an_older_id_stays_a_link(self, engine, mdocker, context, tmp_path):
        (tmp_path / "id").write_text("old")
        (tmp_path / "link").symlink_to("id")
        answering(engine, {"errorDetail": {"message": "bad"}})
        assert mdocker("build", "--iidfile", str(tmp_path / "link"), ".").code == 1
        assert (tmp_path / "link").is_symlink() and (tmp_path / "link").read_text() == ""

    def test_no_id(self, engine, mdocker, context, tmp_path):
        answering(engine, {"stream": "hm\n"})
        result = mdocker("build", "--iidfile", str(tmp_path / "id"), ".")
        assert result.code == 1
        assert "did not say which image it built" in result.err

    def test_the_engine_goes_away(self, engine, mdocker, context):
        def die(call):
            call.begin("application/json")
            call.chunk(b'{"stream": "Step 1\\n"}\n')
            call.close_connection = True

        engine.on("POST", "/build", die)
        result = mdocker("build", ".")
        assert (result.code, result.out) == (1, "Step 1\n")
        assert "the engine closed the connection" in result.err

    def test_no_json(self, engine, mdocker, context):
        def garble(call):
            call.begin("application/json")
            call.chunk(b"what?\n")
            call.finish_chunks()

        engine.on("POST", "/build", garble)
        assert "is no JSON: b'what?'" in mdocker("build", ".").err

    def test_ctrl_c_hangs_up(self, engine, spawn, context):
        running, gone = threading.Event(), threading.Event()

        def work(call):
            call.begin("application/json")
            call.chunk(b'{"stream": "Step 1\\n"}\n')
            running.set()
            assert call.rfile.read(1) == b""
            gone.set()

        engine.on("POST", "/build", work)
        process = spawn("build", str(context))
        assert process.stdout.readline() == b"Step 1\n"
        assert running.wait(20)
        process.send_signal(signal.SIGINT)
        assert gone.wait(20)
        assert process.wait(20) == 130
        assert process.stderr.read() == b""


def test_a_large_context_does_not_grow_us(tree):
    """Its pieces are read as they are asked for."""
    root = tree(Dockerfile="FROM scratch")
    (root / "big").write_bytes(b"x" * 9_000_000)
    context = find_context(".", "")
    sizes = [len(piece) for piece in iter(context.read, b"")]
    assert max(sizes) <= 1100 * 1024
    assert sum(sizes) > 9_000_000
