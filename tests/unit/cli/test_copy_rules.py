"""The path rules of cp, and what a hostile archive may not do here."""

import io
import os
import tarfile

import pytest

from mdocker import copy_rules as rules
from mdocker.commands.copy import copy
from mdocker.copy_receiving import Receiving, TarInput
from mdocker.copy_sending import Sending
from mdocker.errors import EngineUnreachable


@pytest.mark.parametrize(
    ("argument", "container", "path"),
    [
        ("bird:/x", "bird", "/x"),
        ("bird:x:y", "bird", "x:y"),
        ("/a:b", "", "/a:b"),
        ("./a:b", "", "./a:b"),
        (".a:b", "", ".a:b"),
        ("plain", "", "plain"),
        ("-", "", "-"),
        (":x", "", "x"),
        ("bird:", "bird", ""),
    ],
)
def test_container_or_local(argument, container, path):
    assert rules.split_argument(argument) == (container, path)


@pytest.mark.parametrize(
    ("path", "directory", "entry"),
    [
        ("/a/b", "/a", "b"),
        ("/a/b/", "/a", "b"),
        ("/a/b/.", "/a/b", "."),
        ("/a", "/", "a"),
        ("/", "/", "/"),
        ("/.", "/", "."),
        ("a", "/", "a"),
    ],
)
def test_entries(path, directory, entry):
    assert rules.split_entry(path) == (directory, entry)


def test_marks_survive_cleaning():
    assert rules.marked(rules.clean("/a//b/."), "/a//b/.") == "/a/b/."
    assert rules.marked(rules.clean("/a/b/"), "/a/b/") == "/a/b/"
    assert rules.marked(rules.clean("/a/../b"), "/a/../b") == "/b"
    assert rules.marked("/", "/.") == "/."
    assert rules.followed("/x/link/", "/real") == ("/real/", "link")
    assert rules.followed("/x/same", "/y/same") == ("/y/same", "")
    assert [rules.top_name(path) for path in ("/", "a/b/", "/a/.", "..")] == ["", "b", ".", ""]


DIRECTORY = rules.Place("/src", True, True)
FILE = rules.Place("/src", True, False)


@pytest.mark.parametrize(
    ("source", "destination", "directory", "name"),
    [
        (FILE, rules.Place("/d", True, True), "/d", None),
        (DIRECTORY, rules.Place("/d", True, True), "/d", None),
        (FILE._replace(rename="link"), rules.Place("/d", True, True), "/d", "link"),
        (FILE, rules.Place("/d/f", True), "/d", "f"),
        (FILE, rules.Place("/d/new"), "/d", "new"),
        (DIRECTORY, rules.Place("/d/new/"), "/d", "new"),
        (DIRECTORY, rules.Place("/d"), "/", "d"),
    ],
)
def test_plans(source, destination, directory, name):
    assert rules.plan(source, destination) == rules.Plan(directory, name)


@pytest.mark.parametrize(
    ("source", "destination", "text"),
    [
        (
            DIRECTORY,
            rules.Place("/d/f", True),
            "cannot copy directory /src onto /d/f, which is no directory",
        ),
        (FILE, rules.Place("/d/new/"), "no such directory: /d/new/; make it first"),
        (FILE, rules.Place("/d/new/."), "no such directory: /d/new/.; make it first"),
    ],
)
def test_plans_that_can_not_be(source, destination, text):
    with pytest.raises(rules.Refused, match=f"^{text}$"):
        rules.plan(source, destination)


class Answer:
    """A stream of an answer's body."""

    def __init__(self, data, step=700):
        # As a read that meets nothing but framing gives them, some are empty.
        self._pieces = [data[at : at + step] for at in range(0, len(data), step)]
        self._pieces = [piece for one in self._pieces for piece in (b"", one)]

    @property
    def ended(self):
        return not self._pieces

    def read(self):
        return [memoryview(self._pieces.pop(0))]


def archive(*entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for name, kind, target in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            made.addfile(info)
    return buffer.getvalue()


def unpack(data, directory, top="top", name=None):
    receiving = Receiving(str(directory), owners=False)
    try:
        receiving.unpack(TarInput(Answer(data), lambda step: None), top, name)
    finally:
        receiving.close()


@pytest.mark.parametrize(
    "entries",
    [
        [("top/../../out", tarfile.REGTYPE, "")],
        [("/out", tarfile.REGTYPE, "")],
        [("other", tarfile.REGTYPE, "")],
        [("topper", tarfile.REGTYPE, "")],
        [("top", tarfile.DIRTYPE, ""), ("top/h", tarfile.LNKTYPE, "../out")],
        [("top", tarfile.DIRTYPE, ""), ("top/h", tarfile.LNKTYPE, "top/../../out")],
        [("top", tarfile.DIRTYPE, ""), ("top/x", b"?", "")],
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, entries):
    (tmp_path / "out").write_text("kept")
    (tmp_path / "in").mkdir()
    with pytest.raises((EngineUnreachable, rules.Refused)):
        unpack(archive(*entries), tmp_path / "in")
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]
    assert (tmp_path / "out").read_text() == "kept"


@pytest.mark.parametrize("target", ["../out", "/nonexistent/dir", "."])
def test_nothing_is_written_through_a_link(tmp_path, target):
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    entries = [
        ("top", tarfile.DIRTYPE, ""),
        ("top/link", tarfile.SYMTYPE, target),
        ("top/link/file", tarfile.REGTYPE, ""),
    ]
    with pytest.raises(rules.Refused):
        unpack(archive(*entries), tmp_path / "in")
    assert os.readlink(tmp_path / "in/top/link") == target  # made as it was, and not followed
    assert os.listdir(tmp_path / "out") == []


def test_cut_and_garbled_archives(tmp_path):
    whole = archive(("top", tarfile.REGTYPE, ""))
    more = archive(("top", tarfile.DIRTYPE, ""), ("top/f", tarfile.REGTYPE, ""))
    for data in (b"garbage" * 200, b"", whole[:100], more[:512], more[:512] + b"x" * 512):
        with pytest.raises(EngineUnreachable, match="garbled"):
            unpack(data, tmp_path)


def test_an_archive_under_another_name(tmp_path):
    entries = [("top", tarfile.DIRTYPE, ""), ("top/a", tarfile.REGTYPE, "")]
    entries.append(("top/b", tarfile.LNKTYPE, "top/a"))
    unpack(archive(*entries), tmp_path, name="new")
    assert sorted(os.listdir(tmp_path / "new")) == ["a", "b"]
    unpack(archive(("/etc", tarfile.DIRTYPE, "")), tmp_path, top="", name="root")
    assert os.listdir(tmp_path / "root") == ["etc"]


def test_what_is_sent_is_what_comes_back(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"x" * 5000)
    (source / "link").symlink_to("file")
    os.link(source / "file", source / "other")
    os.utime(source / "file", ns=(1, 123_456_789_012_345_678))
    sending = Sending(pytest.fail, pytest.fail)
    (source / "empty").touch()
    pieces = list(sending.pieces(str(source), "top"))
    assert all(pieces)  # an empty one would end the body
    data = b"".join(pieces)
    assert sending.content == 5000
    unpack(data, tmp_path)
    assert (tmp_path / "top/file").read_bytes() == b"x" * 5000
    assert os.stat(tmp_path / "top/file").st_mtime_ns == 123_456_789_012_345_678
    assert os.path.samefile(tmp_path / "top/file", tmp_path / "top/other")


def test_what_can_not_be_read_is_told_and_left_out(tmp_path):
    troubles = []
    sending = Sending(troubles.append, pytest.fail)
    data = b"".join(sending.pieces(str(tmp_path / "nosuch"), "x"))
    assert troubles == [f"{tmp_path}/nosuch: no such file or directory"]
    assert data == bytes(1024)


def test_a_local_path_that_is_not_there(tmp_path):
    with pytest.raises(rules.Refused, match=f"^lstat {tmp_path}/no: no such file or directory$"):
        rules.local_source(f"{tmp_path}/no", follow=False)
    (tmp_path / "file").touch()
    with pytest.raises(rules.Refused, match=f"^lstat {tmp_path}/file/: not a directory$"):
        rules.local_source(f"{tmp_path}/file/", follow=False)
    with pytest.raises(rules.Refused, match=f"^stat {tmp_path}/no: no such file or directory$"):
        rules.local_destination(f"{tmp_path}/no/such")
    text = f'^invalid output path: directory "{tmp_path}/no" does not exist$'
    with pytest.raises(rules.Refused, match=text):
        rules.check_output(f"{tmp_path}/no/such")
    with pytest.raises(rules.Refused, match="must be a directory or a regular file: got a device"):
        rules.check_output("/dev/null")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("bird:/x", "bird:/y"), "copying between containers is not supported"),
        (("/x", "/y"), "must specify at least one container source"),
        (("", "bird:/x"), "source can not be empty"),
        (("bird:/x", ""), "destination can not be empty"),
    ],
)
def test_lines_that_can_not_be(words, text):
    with pytest.raises(rules.Refused, match=f"^{text}$"):
        copy(*words, engine=None)
