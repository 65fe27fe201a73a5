"""`cp`, `diff` and `export`, ours and docker's, between this machine and real containers."""

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile

import pytest

from tests.real import file_trees
from tests.real.archives import TAR, at, packed, put, started, stat_of
from tests.real.engine_process import CHECKOUT

DOCKER = shutil.which("docker")
OURS = (sys.executable, "-m", "mdocker")


class Client:
    """A command line against the engine; it says what docker says, after another first word."""

    def __init__(self, engine, words, prefix, config):
        self.words = words
        self.prefix = prefix
        self.environment = {**engine.environment, "DOCKER_CONFIG": str(config)}

    def __call__(self, *words, stdin=b"", cwd=CHECKOUT):
        done = subprocess.run(
            [*self.words, *words],
            env=self.environment,
            cwd=cwd,
            input=stdin,
            capture_output=True,
            timeout=40,
        )
        return done.returncode, done.stdout, done.stderr.decode()

    def ok(self, *words, stdin=b""):
        code, out, err = self(*words, stdin=stdin)
        assert (code, err) == (0, "")
        return out

    def refusal(self, *words, stdin=b""):
        """Its last line, without the client's own prefix."""
        code, out, err = self(*words, stdin=stdin)
        assert (code, out) == (1, b"")
        line = err.splitlines()[-1]
        return line.removeprefix("mdocker: ").removeprefix("Error response from daemon: ")


@pytest.fixture
def mdocker(engine, tmp_path):
    return Client(engine, OURS, "mdocker: ", tmp_path)


@pytest.fixture(params=["mdocker", "docker"])
def client(request, engine, tmp_path):
    if request.param == "mdocker":
        return Client(engine, OURS, "mdocker: ", tmp_path)
    if DOCKER is None:
        pytest.skip("needs the docker CLI (docker.io)")
    return Client(engine, (DOCKER,), "", tmp_path)


@pytest.fixture(scope="module")
def bird(engine, busybox):
    """Runs, with two files and a directory; never changed by a test."""
    script = "mkdir -p /nest/deep; echo egg >/nest/egg; ln -s egg /nest/soft; echo; exec sleep 999"
    with started(engine, "sh", "-c", script, image=busybox, name="bird"):
        yield "bird"


@pytest.fixture
def empty(engine, busybox):
    """Has never run."""
    container = engine.create("true", image=busybox, name="cage")
    yield "cage"
    engine.delete(f"/containers/{container}")


def test_a_tree_of_everything_comes_back_as_it_went(mdocker, empty, tmp_path):
    tree = file_trees.make(tmp_path / "tree")
    before = file_trees.snapshot(tree)
    mdocker.ok("cp", str(tree), "cage:/tmp")
    mdocker.ok("cp", "-a", "cage:/tmp/tree", str(tmp_path / "back"))
    assert file_trees.snapshot(tmp_path / "back") == before
    assert os.stat(tmp_path / "back/sparse").st_blocks < 1000  # its holes are holes
    mdocker.ok("cp", "cage:/tmp/tree/.", str(tmp_path / "own"))
    mine = file_trees.snapshot(tmp_path / "own", owners=False)
    theirs = file_trees.snapshot(tree, owners=False)
    del mine[b"."], theirs[b"."]
    assert mine == theirs
    assert os.stat(tmp_path / "own/plain").st_uid == os.getuid()
    tar = mdocker.ok("cp", "cage:/tmp/tree/directory", "-")
    mdocker.ok("cp", "-", "cage:/", stdin=tar)
    mdocker.ok("cp", "-a", "cage:/directory", str(tmp_path))
    assert file_trees.snapshot(tmp_path / "directory") == file_trees.snapshot(tree / "directory")


def test_a_socket_is_left_out_and_an_unreadable_file_told(mdocker, empty, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    file_trees.add_socket(tree)
    (tree / "file").write_text("x")
    code, _, err = mdocker("cp", str(tree), "cage:/tmp/")
    assert (code, err) == (0, f"WARNING: {tree}/socket is a socket: it is left out\n")
    assert mdocker.ok("diff", "cage") == b"C /tmp\nA /tmp/tree\nA /tmp/tree/file\n"


def read(path):
    return path.read_text()


def test_where_a_copy_from_a_container_goes(client, bird, tmp_path):
    """docker cp's table: the destination is there or not, is a file, a directory, a link."""
    client.ok("cp", "bird:/nest/egg", str(tmp_path))
    assert read(tmp_path / "egg") == "egg\n"
    client.ok("cp", "bird:/nest/egg", str(tmp_path / "new"))
    assert read(tmp_path / "new") == "egg\n"
    (tmp_path / "kept").write_text("old")
    (tmp_path / "link").symlink_to("kept")
    client.ok("cp", "bird:/nest/egg", str(tmp_path / "link"))
    assert (read(tmp_path / "kept"), os.readlink(tmp_path / "link")) == ("egg\n", "kept")
    (tmp_path / "to-nowhere").symlink_to("made")
    client.ok("cp", "bird:/nest/egg", str(tmp_path / "to-nowhere"))
    assert read(tmp_path / "made") == "egg\n"
    client.ok("cp", "bird:/nest", str(tmp_path / "copy"))
    assert read(tmp_path / "copy/egg") == "egg\n"
    client.ok("cp", "bird:/nest", str(tmp_path / "copy"))
    assert read(tmp_path / "copy/nest/egg") == "egg\n"
    client.ok("cp", "bird:/nest/.", str(tmp_path / "inner"))
    assert read(tmp_path / "inner/egg") == "egg\n"
    client.ok("cp", "bird:/nest/soft", str(tmp_path))
    assert os.readlink(tmp_path / "soft") == "egg"
    client.ok("cp", "-L", "bird:/nest/soft", str(tmp_path / "followed"))
    assert not (tmp_path / "followed").is_symlink()
    (tmp_path / "here").mkdir()
    client.ok("cp", "-L", "bird:/nest/soft", str(tmp_path / "here"))
    assert read(tmp_path / "here/soft") == "egg\n"
    with tarfile.open(fileobj=io.BytesIO(client.ok("cp", "bird:/nest/egg", "-"))) as archive:
        assert archive.getnames() == ["egg"]


def test_where_a_copy_into_a_container_goes(client, engine, empty, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "egg").write_text("egg\n")
    (source / "soft").symlink_to("egg")
    (tmp_path / "linked").symlink_to("source")
    client.ok("cp", str(source / "egg"), "cage:/tmp")
    client.ok("cp", str(source / "egg"), "cage:/tmp/new")
    client.ok("cp", str(source), "cage:/tmp/copy")
    client.ok("cp", str(source), "cage:/tmp/copy/")
    client.ok("cp", f"{source}/.", "cage:tmp/inner")
    client.ok("cp", str(source / "soft"), "cage:/tmp/link")
    client.ok("cp", "-L", str(source / "soft"), "cage:/tmp/followed")
    client.ok("cp", f"{tmp_path}/linked/", "cage:/tmp/")
    client.ok("cp", "-", "cage:/tmp", stdin=packed({"by/tar": b"x"}))
    put(engine, "cage", "/", packed({"door": "/tmp/room", "tmp/room": None}))
    client.ok("cp", str(source / "egg"), "cage:/door")
    out = client.ok("diff", "cage").decode().splitlines()
    assert out == [
        "A /door",
        "C /tmp",
        "A /tmp/by",
        "A /tmp/by/tar",
        "A /tmp/copy",
        "A /tmp/copy/egg",
        "A /tmp/copy/soft",
        "A /tmp/copy/source",
        "A /tmp/copy/source/egg",
        "A /tmp/copy/source/soft",
        "A /tmp/egg",
        "A /tmp/followed",
        "A /tmp/inner",
        "A /tmp/inner/egg",
        "A /tmp/inner/soft",
        "A /tmp/link",
        "A /tmp/linked",
        "A /tmp/linked/egg",
        "A /tmp/linked/soft",
        "A /tmp/new",
        "A /tmp/room",
        "A /tmp/room/egg",
    ]
    assert stat_of(engine, "cage", "/tmp/link")["linkTarget"] == "/tmp/egg"
    assert stat_of(engine, "cage", "/tmp/followed")["size"] == 4


def test_copies_that_are_refused(client, bird, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "directory").mkdir()
    here = str(tmp_path)
    for words, text in (
        (("bird:/nosuch", here), "Could not find the file /nosuch in container bird"),
        ((f"{here}/file", "nobody:/x"), "No such container: nobody"),
        (("bird:/nest", f"{here}/file"), "cannot copy directory"),
        ((f"{here}/file", "bird:/nest/new/"), "no such directory"),
        (
            (f"{here}/file", "bird:/dev/null"),
            'destination "bird:/dev/null" must be a directory or a regular file: got a device',
        ),
        (("-", "bird:/nest/egg"), 'destination "bird:/nest/egg" must be a directory'),
    ):
        # Ours goes on, and says which and what to do.
        assert client.refusal("cp", *words).startswith(text), words
    (tmp_path / "nest").write_text("a file")
    text = f'cannot overwrite non-directory "{here}/nest" with directory "{here}"'
    assert client.refusal("cp", "bird:/nest", here) == text


def test_the_summary_on_a_terminal(engine, mdocker, bird, tmp_path):
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [*OURS, "cp", "bird:/nest/egg", str(tmp_path)],
        cwd=CHECKOUT,
        env=mdocker.environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    _, err = process.communicate(timeout=30)
    os.close(theirs)
    os.close(ours)
    text = f"Successfully copied 4B (transferred 3.07kB) to {tmp_path}\n"
    assert err.decode() == text
    assert process.returncode == 0


def test_what_diff_tells(engine, client, busybox):
    """A, C and D as docker has them: renamed, replaced, emptied and made anew, other rights."""
    script = """
        echo x >>/etc/passwd; rm /etc/group; chmod 700 /tmp; mkdir -p /new/deep; echo y >/new/deep/y
        rm -rf /bin; mkdir /bin; /bin/true 2>/dev/null; >/bin/own
    """
    container = engine.run("/bin/busybox", "sh", "-c", script, image=busybox, name="changed")
    engine.wait(container)
    lines = client.ok("diff", "changed").decode().splitlines()
    assert [line for line in lines if not line.startswith("D /bin/")] == [
        "C /bin",
        "A /bin/own",
        "C /etc",
        "D /etc/group",
        "C /etc/passwd",
        "A /new",
        "A /new/deep",
        "A /new/deep/y",
        "C /tmp",
    ]
    assert {"D /bin/busybox", "D /bin/sh"} < set(lines)
    engine.delete(f"/containers/{container}")


def test_an_export_is_an_image(engine, client, busybox, tmp_path):
    config = {"Binds": [f"{tmp_path}:/mnt"]}
    (tmp_path / "secret").write_text("of a mount")
    script = "echo made >/made; echo; exec sleep 99"
    with started(engine, "sh", "-c", script, image=busybox, name="source", HostConfig=config):
        data = client.ok("export", "source")
        client.ok("export", "-o", str(tmp_path / "file.tar"), "source")
        assert (tmp_path / "file.tar").read_bytes() == data
        assert stat.S_IMODE(os.stat(tmp_path / "file.tar").st_mode) == 0o600
        assert sorted(os.listdir(tmp_path)) == ["file.tar", "secret"]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        names = set(archive.getnames())
    assert {"bin/busybox", "made", "mnt", "proc", "dev"} <= names
    assert not [name for name in names if name.startswith(("mnt/", "proc/", "sys/", "dev/"))]
    engine.request("POST", "/images/create?fromSrc=-&repo=exported", data, TAR)
    assert engine.result("cat", "/made", image="exported") == (0, "made\n", "")


def test_exports_that_are_refused(mdocker, client, bird, tmp_path):
    assert client.refusal("export", "nobody") == "No such container: nobody"
    assert "/no" in client.refusal("export", "-o", f"{tmp_path}/no/such", "bird")
    ours, theirs = os.openpty()
    process = subprocess.run(
        [*OURS, "export", "bird"],
        cwd=CHECKOUT,
        env=mdocker.environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    os.close(theirs)
    os.close(ours)
    assert process.stderr.decode() == (
        "mdocker: cowardly refusing to save to a terminal. Use the -o flag or redirect\n"
    )


def test_what_a_container_puts_into_its_archive_stays_where_it_was_asked_for(
    mdocker, engine, empty, tmp_path
):
    """The container names files and links as it likes; nothing is written through a link here."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "nest").mkdir()
    (tmp_path / "dst" / "nest" / "door").symlink_to(outside)
    put(engine, "cage", "/", packed({"nest": None, "nest/door": None, "nest/door/in": b"x"}))
    text = f'cannot overwrite non-directory "{tmp_path}/dst/nest/door" with directory'
    assert mdocker.refusal("cp", "cage:/nest", str(tmp_path / "dst")).startswith(text)
    assert os.listdir(outside) == []
    assert engine.get(at("cage", "/nest/door/in")).status == 200
