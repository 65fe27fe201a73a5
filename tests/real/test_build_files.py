"""What COPY and ADD put where, and that neither contexts nor images lead them astray."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import http.server
import io
import lzma
import os
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard

from tests.real.archives import packed
from tests.real.building import NOTHING, Built, asked, build, context, left, made, run

pytestmark = pytest.mark.usefixtures("busybox")

LISTED = "cd / && find {} | sort | while read -r one; do stat -c '%n %F %a %u:%g' \"$one\"; done"


def listed(engine, image, places):
    return run(engine, image, LISTED.format(places)).splitlines()


def entry(name, kind=tarfile.REGTYPE, data=b"", **more):
    found = tarfile.TarInfo(name)
    found.type, found.size = kind, len(data)
    for key, value in more.items():
        setattr(found, key, value)
    return found, data


def tar_of(*entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for found, data in entries:
            archive.addfile(found, io.BytesIO(data))
    return buffer.getvalue()


def test_where_things_go(engine):
    files = {"a": b"a", "b.txt": b"b", "c.txt": b"c", "d/": None, "d/e/": None, "d/e/f": b"f",
             "d/l": "e/f", "out": "d/e/f"}  # fmt: skip
    dockerfile = """FROM busybox
WORKDIR /w
COPY a one
COPY a sub/
COPY *.txt [a] many/
COPY d tree/deep
COPY d/e/../l linked
COPY out /etc
COPY ["d/e", "/dir"]
COPY d /dir/
COPY . /all
"""
    built = made(engine, dockerfile, files)
    assert listed(engine, built.id, "w dir") == [
        "dir directory 755 0:0",
        "dir/e directory 755 0:0",
        "dir/e/f regular file 644 0:0",
        "dir/f regular file 644 0:0",
        "dir/l symbolic link 777 0:0",
        "w directory 755 0:0",
        "w/linked regular file 644 0:0",
        "w/many directory 755 0:0",
        "w/many/a regular file 644 0:0",
        "w/many/b.txt regular file 644 0:0",
        "w/many/c.txt regular file 644 0:0",
        "w/one regular file 644 0:0",
        "w/sub directory 755 0:0",
        "w/sub/a regular file 644 0:0",
        "w/tree directory 755 0:0",
        "w/tree/deep directory 755 0:0",
        "w/tree/deep/e directory 755 0:0",
        "w/tree/deep/e/f regular file 644 0:0",
        "w/tree/deep/l symbolic link 777 0:0",
    ]
    out = run(engine, built.id, "cat /etc/out /w/linked; ls -A /all; readlink /w/tree/deep/l")
    assert out == "ffDockerfile\na\nb.txt\nc.txt\nd\nout\ne/f\n"


def test_owners_and_modes(engine):
    files = tar_of(
        entry("Dockerfile", data=b"""FROM busybox AS one
COPY x /plain
COPY --chown=bird x /named/x
COPY --chown=7:bird t /numbers
ARG WHO=9
COPY --chown=${WHO}:$WHO t /expanded/
RUN mkdir -m 1770 /kept && cp /plain /kept/in && chown -R 5:6 /kept
FROM busybox
COPY --from=one /kept /kept
COPY --from=one --chown=1:2 /kept /given
COPY --from=one /named/x /x
"""),
        entry("x", data=b"x", mode=0o4751, uid=77, gid=78),
        entry("t", tarfile.DIRTYPE, mode=0o700, uid=77, gid=78),
        entry("t/s", data=b"s", mode=0o600, uid=77, gid=78),
    )  # fmt: skip
    one = asked(engine, files, target="one", t="owned")
    assert one.status == 200 and b"errorDetail" not in one.body, one
    assert listed(engine, "owned", "plain named numbers expanded") == [
        "expanded directory 755 9:9",
        "expanded/s regular file 600 9:9",
        "named directory 755 1234:5678",
        "named/x regular file 4751 1234:5678",
        "numbers directory 755 7:5678",
        "numbers/s regular file 600 7:5678",
        "plain regular file 4751 0:0",
    ]
    two = asked(engine, files, t="owned")
    assert b"errorDetail" not in two.body, two
    assert listed(engine, "owned", "kept given x") == [
        "given directory 755 1:2",
        "given/in regular file 751 1:2",
        "kept directory 755 0:0",
        "kept/in regular file 751 5:6",
        "x regular file 4751 1234:5678",
    ]


def test_what_is_above_stays_as_it_is(engine):
    """A layer has the directories above what is copied: they keep what the image says of them."""
    dockerfile = """FROM busybox
RUN mkdir -p -m 1777 /deep/er && chown 3:4 /deep
COPY a /deep/er/a
WORKDIR /deep/er/still
WORKDIR /deep
"""
    built = made(engine, dockerfile, {"a": b"a"})
    assert listed(engine, built.id, "deep") == [
        "deep directory 755 3:4",
        "deep/er directory 1777 0:0",
        "deep/er/a regular file 644 0:0",
        "deep/er/still directory 755 0:0",
    ]
    layers = engine.get(f"/images/{built.id}/json").json["RootFS"]["Layers"]
    assert len(layers) == 4  # the last step has made nothing


def test_destinations_through_links(engine):
    dockerfile = """FROM busybox
RUN mkdir -p /real/in && ln -s /real /abs && ln -s ../../../real /etc/rel && ln -s in /real/on && \
 ln -s /real/new /file && ln -s loop /loop && ln -s /made/up /dangling
COPY a /abs/on/
COPY a /etc/rel/b
COPY a /file
COPY a /dangling/
COPY d /abs
WORKDIR /abs/w
RUN echo 1 > one
"""
    files = {"a": b"a", "d/": None, "d/on/": None, "d/on/x": b"x"}
    built = made(engine, dockerfile, files)
    assert listed(engine, built.id, "real made") == [
        "made directory 755 0:0",
        "made/up directory 755 0:0",
        "made/up/a regular file 644 0:0",
        "real directory 755 0:0",
        "real/b regular file 644 0:0",
        "real/in directory 755 0:0",
        "real/in/a regular file 644 0:0",
        "real/new regular file 644 0:0",
        # A directory takes the place of a link, as in Docker.
        "real/on directory 755 0:0",
        "real/on/x regular file 644 0:0",
        "real/w directory 755 0:0",
        "real/w/one regular file 644 0:0",
    ]
    assert (
        run(engine, built.id, "for l in abs file dangling; do readlink /$l; done")
        == "/real\n/real/new\n/made/up\n"
    )
    built = build(engine, dockerfile + "COPY a /loop/x\n", files)
    assert "too many levels of symbolic links" in built.error


def test_a_context_that_leads_out(engine, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    files = {"abs": str(secret), "rel": "../" * 20 + str(secret)[1:], "up": "..", "root": "/",
             "d/": None, "d/in": "../../../../here", "here": b"here"}  # fmt: skip
    for line in ("COPY abs /x", "COPY rel /x", f"COPY up{secret} /x", f"COPY root{secret} /x"):
        built = build(engine, f"FROM busybox\n{line}\n", files)
        assert "file does not exist" in built.error, line
    # Their root is the context, and a directory's links are copied as they are.
    dockerfile = "FROM busybox\nCOPY d/in /one\nCOPY up/up/root/here /two\nCOPY abs* d /three/\n"
    built = build(engine, dockerfile, files)
    assert "file does not exist" in built.error  # `abs*` is one that leads nowhere
    built = made(engine, dockerfile.replace("abs* ", ""), files)
    assert run(engine, built.id, "cat /one /two; readlink /three/in") == (
        "herehere../../../../here\n"
    )
    assert left(engine) == NOTHING


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("../out", data=b"x")], "outside"),
        ([entry("x/../../out", data=b"x")], "outside"),
        ([entry("h", tarfile.LNKTYPE, linkname="../../etc/passwd")], "outside"),
        ([entry("h", tarfile.LNKTYPE, linkname="nosuch")], "not there"),
        ([entry("n" * 256, data=b"x")], "name too long"),
    ],
)
def test_hostile_contexts(engine, entries, words):
    answer = asked(engine, tar_of(entry("Dockerfile", data=b"FROM busybox\n"), *entries))
    assert answer.status in (400, 500)
    assert words in answer.message.lower()
    assert left(engine) == NOTHING


def test_broken_contexts(engine):
    whole = context("FROM busybox\n", {"a": os.urandom(20_000)})
    for data, words in (
        (b"no archive at all" * 100, "not a tar archive"),
        (whole[:9000], "truncated"),
        (gzip.compress(whole)[:9000], "truncated"),
    ):
        answer = asked(engine, data)
        assert answer.status == 400 and words in answer.message, answer
    assert asked(engine, b"").message == "Cannot locate specified Dockerfile: Dockerfile"
    assert left(engine) == NOTHING


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compressed_contexts(engine, pack):
    answer = asked(engine, pack(context("FROM busybox\nCOPY a /\n", {"a": b"a"})))
    assert answer.status == 200 and b"Successfully built" in answer.body


def test_strange_files(engine):
    long = "n" * 255
    files = tar_of(
        entry("Dockerfile", data=b"FROM busybox\nCOPY . /all/\nCOPY dev /dev2\n"),
        entry(f"{long}/{long}", data=b"long"),
        entry("b\udcffad\n", data=b"bad"),
        entry("dev", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        entry("pipe", tarfile.FIFOTYPE),
        entry("one", data=b"1"),
        entry("two", tarfile.LNKTYPE, linkname="one"),
        entry("tagged", data=b"t", pax_headers={"SCHILY.xattr.user.mine": "yes"}),
    )
    answer = asked(engine, files, t="strange")
    assert answer.status == 200 and b"errorDetail" not in answer.body, answer
    script = f"cd /all; cat {long}/{long} b*ad*; stat -c '%F %t:%T' dev pipe /dev2; stat -c %h one"
    assert run(engine, "strange", script) == (
        "longbadcharacter special file 1:3\nfifo 0:0\ncharacter special file 1:3\n2\n"
    )
    shown = engine.get("/images/strange/json").json["GraphDriver"]["Data"]["LowerDir"]
    (tagged,) = (one for path in shown.split(":") if (one := Path(path, "all/tagged")).exists())
    assert os.getxattr(tagged, "user.mine") == b"yes"


@pytest.mark.parametrize("line", ["COPY . /", "COPY .wh.a /x/", "COPY a /x/.wh.b", "ADD t.tar /"])
def test_whiteouts_are_no_files(engine, line):
    files = {".wh.a": b"", "a": b"", "t.tar": tar_of(entry("etc/.wh.passwd"))}
    built = build(engine, f"FROM busybox\n{line}\n", files)
    assert "names that begin with .wh." in built.error
    assert left(engine) == NOTHING


def test_archives_are_unpacked(engine):
    inner = tar_of(
        entry("./", tarfile.DIRTYPE, mode=0o700),
        entry("lib/x", data=b"x", uid=8, gid=9, mode=0o640),
        entry("lib/y", tarfile.SYMTYPE, linkname="/etc/x"),
        entry("lib/z", tarfile.LNKTYPE, linkname="lib/x"),
        entry("etc", tarfile.DIRTYPE, mode=0o750),
        entry("etc/w", data=b"w"),
        entry("lib/y", data=b"file"),
    )
    files = {"a.tar": inner, "b": gzip.compress(inner), "c.txt": lzma.compress(inner),
             "d": bz2.compress(inner), "e.tar": b"no archive"}  # fmt: skip
    dockerfile = """FROM busybox
RUN mkdir /real && ln -s real /lib
ADD a.tar /
ADD b /b
ADD c.txt d e.tar /many/
ADD --chown=bird:9 b /owned
COPY b /plain
"""
    built = made(engine, dockerfile, files)
    assert listed(engine, built.id, "real etc/w b owned many/e.tar plain") == [
        "b directory 755 0:0",
        "b/etc directory 750 0:0",
        "b/etc/w regular file 644 0:0",
        "b/lib directory 755 0:0",
        "b/lib/x regular file 640 8:9",
        "b/lib/y regular file 644 0:0",
        "b/lib/z regular file 640 8:9",
        "etc/w regular file 644 0:0",
        "many/e.tar regular file 644 0:0",
        "owned directory 755 1234:9",
        "owned/etc directory 750 1234:9",
        "owned/etc/w regular file 644 1234:9",
        "owned/lib directory 755 1234:9",
        "owned/lib/x regular file 640 1234:9",
        "owned/lib/y regular file 644 1234:9",
        "owned/lib/z regular file 640 1234:9",
        "plain regular file 644 0:0",
        # Through the image's link, as the archive has no such directory of its own.
        "real directory 755 0:0",
        "real/x regular file 640 8:9",
        "real/y regular file 644 0:0",
        "real/z regular file 640 8:9",
    ]
    assert run(engine, built.id, "cat /lib/y /many/lib/x; cat /etc/passwd | head -c 4") == (
        "filexroot"
    )
    for hostile, words in (
        (tar_of(entry("../x", data=b"")), "leads out of the archive"),
        (inner[:2000], "truncated"),
        (tar_of(entry("h", tarfile.LNKTYPE, linkname="etc/passwd")), "not in the archive"),
    ):
        built = build(engine, "FROM busybox\nADD x /\n", {"x": hostile})
        assert words in built.error


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
def test_packed_contexts_and_archives(engine, pack):
    """Those who unpack them reach no library any more when they see how they are packed."""
    inner = tar_of(entry("in/x", data=b"x" * 100_000))
    data = context("FROM busybox\nADD inner /there/\n", {"inner": pack(inner)})
    built = Built(asked(engine, pack(data)))
    assert built.error == ""
    assert run(engine, built.id, "wc -c < /there/in/x") == "100000\n"


def test_dockerignore_of_a_client_that_has_applied_it(engine):
    """It leaves out itself and the Dockerfile at most: the client has left out all else."""
    files = {".dockerignore": b"Docker*\n.dockerignore\nkept\n", "kept": b"1", "sub/kept": b"2"}
    built = made(engine, "FROM busybox\nCOPY . /all\n", files)
    assert run(engine, built.id, "cd /all; find . | sort") == ".\n./kept\n./sub\n./sub/kept\n"


@contextlib.contextmanager
def server(files):
    """A web server on loopback; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/file.txt")
                self.end_headers()
                return
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.send_header("Last-Modified", "Sat, 01 Jan 2022 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_):
            pass

    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{serving.server_port}"
    finally:
        serving.shutdown()
        serving.server_close()
        thread.join()


def test_urls(engine):
    files = {"/file.txt": b"words", "/a.tar": packed({"x": b"x"})}
    with server(files) as web:
        dockerfile = f"FROM busybox\nADD {web}/file.txt {web}/a.tar a /d/\nADD {web}/moved /m\n"
        built = made(engine, dockerfile, {"a": b"a"})
        again = made(engine, dockerfile, {"a": b"a"})
        assert (again.id, again.cached) == (built.id, 2)
        files["/file.txt"] = b"others"
        assert made(engine, dockerfile, {"a": b"a"}).cached == 0
        assert listed(engine, built.id, "d m") == [
            "d directory 755 0:0",
            "d/a regular file 644 0:0",
            "d/a.tar regular file 600 0:0",
            "d/file.txt regular file 600 0:0",
            "m regular file 600 0:0",
        ]
        assert run(engine, built.id, "cat /m; stat -c %Y /d/file.txt") == "words1640995200\n"
        for line, words in (
            (f"ADD {web}/nosuch /", "with status 404 Not Found"),
            (f"ADD {web}/ /d/", "failed to GET"),
            ("ADD http://127.0.0.1:1/x /", 'ADD failed: Get "http://127.0.0.1:1/x"'),
        ):
            assert words in build(engine, f"FROM busybox\n{line}\n").error
    assert left(engine) == NOTHING


def test_contexts_from_elsewhere(engine):
    ignored = b"# words\n*\n!keep\n!Dockerfile\nkeep/**/*.o\n"
    files = {".dockerignore": ignored, "a": b"", "b/": None, "b/c": b"", "keep/d/e": b"",
             "keep/d/f.o": b"", "keep/g": b""}  # fmt: skip
    served = {
        "/Dockerfile": b"FROM busybox\nRUN echo alone >/alone\n",
        "/c.tar.gz": gzip.compress(context("FROM busybox\nCOPY . /all\n", files)),
        "/big": b"x" * (5 << 20),
    }
    with server(served) as web:
        built = made(engine, "", remote=f"{web}/Dockerfile")
        assert run(engine, built.id, "cat /alone") == "alone\n"
        built = made(engine, "", remote=f"{web}/c.tar.gz")
        assert run(engine, built.id, "cd /all; find . | sort").splitlines() == [
            ".",
            "./Dockerfile",
            "./keep",
            "./keep/d",
            "./keep/d/e",
            "./keep/g",
        ]
        for name, words in (("nosuch", "404"), ("big", "is no archive")):
            answer = asked(engine, b"", remote=f"{web}/{name}")
            assert answer.status == 400 and words in answer.message
    assert left(engine) == NOTHING
