"""`save`, `load`, and `import` from a URL, against a scripted engine."""

import json
import os
import stat
import subprocess

import pytest

LOADED = {"stream": "Loaded image: busybox:latest\n"}


def lines(call, *news):
    """Answer with lines of JSON, each in a chunk of its own."""
    call.begin("application/json")
    for one in news:
        call.chunk(json.dumps(one).encode() + b"\r\n")
    call.finish_chunks()


class TestSave:
    @pytest.fixture
    def archive(self, engine):
        """What the engine sends, and the names that it was asked for."""
        data, asked = os.urandom(300_000), []

        def get(call):
            asked.extend(call.queries)
            call.begin("application/x-tar")
            call.chunk(data)
            call.finish_chunks()

        engine.on("GET", "/images/get", get)
        return data, asked

    def test_to_a_file(self, archive, mdocker, tmp_path):
        data, asked = archive
        file = tmp_path / "x.tar"
        assert mdocker("save", "-o", str(file), "a", "b:1") == (0, "", "")
        assert file.read_bytes() == data
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert asked == [("names", "a"), ("names", "b:1")]

    def test_to_a_pipe(self, archive, spawn):
        data, asked = archive
        process = spawn("save", "--platform", "linux/arm64", "a&b")
        out, err = process.communicate()
        assert (process.returncode, out == data, err) == (0, True, b"")
        assert asked == [("names", "a&b"), ("platform", "linux/arm64")]

    def test_not_to_a_terminal(self, archive, spawn):
        ours, theirs = os.openpty()
        process = spawn("save", "a", stdout=theirs, stderr=subprocess.STDOUT)
        assert process.wait() == 1
        text = b"cowardly refusing to save to a terminal. Use the -o flag or redirect"
        assert os.read(ours, 4096) == b"mdocker: %b\r\n" % text
        os.close(theirs)
        os.close(ours)
        assert archive[1] == []

    def test_a_file_that_can_not_be(self, archive, mdocker, tmp_path):
        result = mdocker("save", "-o", f"{tmp_path}/no/x.tar", "a")
        assert (result.code, "failed to save image: invalid output path" in result.err) == (1, True)
        assert "got a device" in mdocker("save", "-o", "/dev/null", "a").err
        assert archive[1] == []

    def test_an_engine_that_breaks_off_leaves_the_old_file(self, engine, mdocker, tmp_path):
        file = tmp_path / "x.tar"
        file.write_bytes(b"old")

        def get(call):
            call.begin("application/x-tar")
            call.chunk(b"half")
            call.close_connection = True

        engine.on("GET", "/images/get", get)
        result = mdocker("save", "-o", str(file), "a")
        assert (result.code, "closed the connection" in result.err) == (1, True)
        assert file.read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir() if "x.tar" in path.name] == ["x.tar"]

    def test_a_refusal(self, engine, mdocker, tmp_path):
        engine.json("GET", "/images/get", {"message": "No such image: a:latest"}, 404)
        result = mdocker("save", "-o", str(tmp_path / "x.tar"), "a")
        assert result == (1, "", "mdocker: No such image: a:latest\n")
        assert not (tmp_path / "x.tar").exists()


class TestLoad:
    def test_a_file(self, engine, mdocker, tmp_path):
        data = os.urandom(3_000_000)
        (tmp_path / "x.tar").write_bytes(data)
        progress = {"status": "Loading layer", "id": "abc", "progressDetail": {"current": 1}}
        warning = {"status": "warning: sockets are left out (2)"}
        engine.on("POST", "/images/load", lambda call: lines(call, progress, warning, LOADED))
        result = mdocker("load", "-i", str(tmp_path / "x.tar"))
        assert result == (
            *(0, "Loaded image: busybox:latest\n"),
            "WARNING: sockets are left out (2)\n",
        )
        _, _, query, body = engine.requests[0]
        assert body == data
        assert query == {"quiet": "1"}  # nobody looks

    def test_standard_input(self, engine, spawn):
        engine.on("POST", "/images/load", lambda call: lines(call, LOADED, LOADED))
        process = spawn("load", "--platform", "linux/s390x", "-q", stdin=subprocess.PIPE)
        out, _ = process.communicate(b"tar" * 1000)
        assert (process.returncode, out) == (0, b"Loaded image: busybox:latest\n" * 2)
        assert engine.requests[0][2:] == (
            {"quiet": "1", "platform": "linux/s390x"},
            b"tar" * 1000,
        )

    def test_no_terminal(self, engine, spawn):
        ours, theirs = os.openpty()
        process = spawn("load", stdin=theirs)
        _, err = process.communicate()
        os.close(theirs)
        os.close(ours)
        assert process.returncode == 1
        assert b"requested load from stdin, but stdin is empty" in err
        assert engine.requests == []

    def test_an_error_is_the_last_line(self, engine, mdocker, tmp_path):
        (tmp_path / "x.tar").write_bytes(b"x")
        text = "invalid archive: does not contain a manifest.json, nor an index.json"
        error = {"errorDetail": {"message": text}, "error": text}
        engine.on("POST", "/images/load", lambda call: lines(call, LOADED, error))
        result = mdocker("load", "-i", str(tmp_path / "x.tar"))
        assert result == (1, "Loaded image: busybox:latest\n", f"mdocker: {text}\n")

    def test_an_early_error_stops_the_upload(self, engine, mdocker, tmp_path):
        with (tmp_path / "x.tar").open("wb") as file:
            file.truncate(200_000_000)

        def load(call):
            call.rfile.read(1000)
            lines(call, {"error": "unexpected EOF"})
            call.close_connection = True

        engine.on("POST", "/images/load", load, eager=False)
        result = mdocker("load", "-i", str(tmp_path / "x.tar"))
        assert result == (1, "", "mdocker: unexpected EOF\n")

    def test_no_file(self, engine, mdocker, tmp_path):
        result = mdocker("load", "--input", str(tmp_path / "none"))
        assert result.code == 1
        assert f"unable to read {tmp_path}/none: No such file or directory" in result.err
        assert engine.requests == []

    def test_a_terminal_is_shown_its_layers(self, engine, spawn, tmp_path):
        (tmp_path / "x.tar").write_bytes(b"x" * 1000)
        detail = {"progressDetail": {"current": 500, "total": 1000}}
        news = {"status": "Loading layer", "id": "abcabcabcabc", **detail}
        engine.on("POST", "/images/load", lambda call: lines(call, news, LOADED))
        ours, theirs = os.openpty()
        process = spawn(
            "load", "-i", str(tmp_path / "x.tar"), stdout=theirs, stderr=subprocess.DEVNULL
        )
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:
            pass  # the other side is closed
        assert process.wait() == 0
        os.close(ours)
        assert b"abcabcabcabc: Loading layer" in shown
        assert shown.endswith(b"Loaded image: busybox:latest\r\n")
        assert engine.requests[0][2] == {"quiet": "0"}


class TestImportFromUrl:
    URL = "https://example.org/x.tar?a=b&c"

    def test_the_engine_fetches_it(self, engine, mdocker):
        def create(call):
            lines(
                call,
                {"status": "Downloading from https://example.org/x.tar"},
                {"status": "Importing", "progressDetail": {"current": 5, "total": 9}},
                {"status": "Importing", "progressDetail": {"current": 9, "total": 9}},
                {"status": "warning: sockets are left out (2)"},
                {"status": "sha256:1"},
            )

        engine.on("POST", "/images/create", create)
        result = mdocker("import", "-m", "hello", "-c", "CMD sh", self.URL, "a:1")
        assert result == (0, "sha256:1\n", "WARNING: sockets are left out (2)\n")
        _, _, query, body = engine.requests[0]
        assert (query["fromSrc"], query["repo"], query["message"]) == (self.URL, "a:1", "hello")
        assert (query["changes"], body) == ("CMD sh", b"")

    def test_errors(self, engine, mdocker):
        engine.json("POST", "/images/create", {"message": "failed to GET it"}, 404)
        assert mdocker("import", self.URL) == (1, "", "mdocker: failed to GET it\n")
        error = {"error": "unexpected EOF"}
        engine.on("POST", "/images/create", lambda call: lines(call, {"status": "x"}, error))
        assert mdocker("import", self.URL) == (1, "", "mdocker: unexpected EOF\n")
