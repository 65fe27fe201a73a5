"""GET, HEAD and PUT /containers/{id}/archive against real containers."""

import json
import os
import sys
import tarfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.real.archives import at, content, members, packed, put, started, stat_of

NEST = """
    mkdir -p /nest/deep && echo egg >/nest/egg && ln /nest/egg /nest/hard && ln -s egg /nest/soft
    ln -s /nest /home && ln -s loop /loop && chmod 4711 /nest/egg && touch -d @1 /nest/deep
    echo in-memory >/dev/shm/mem; echo ready; exec sleep 999
"""


@pytest.fixture(scope="module")
def nest(engine, busybox):
    """Runs, with a few files of its own; only ever looked at."""
    with started(engine, "sh", "-c", NEST, image=busybox) as container:
        yield container


@pytest.fixture
def bird(engine, busybox):
    """Another of this kind, that can be changed."""
    with started(engine, "sh", "-c", NEST, image=busybox) as container:
        yield container


def test_stat_is_dockers(engine, nest):
    directory = stat_of(engine, nest, "/nest/deep")
    assert directory["name"] == "deep"
    assert directory["mode"] == (1 << 31) | 0o755
    assert directory["mtime"] == "1970-01-01T00:00:01Z"
    assert directory["linkTarget"] == ""
    egg = stat_of(engine, nest, "nest/../nest/./egg")
    assert (egg["name"], egg["size"], egg["mode"]) == ("egg", 4, (1 << 23) | 0o711)
    link = stat_of(engine, nest, "/nest/soft")
    assert (link["mode"], link["linkTarget"]) == ((1 << 27) | 0o777, "/nest/egg")
    assert stat_of(engine, nest, "/home/soft")["linkTarget"] == "/nest/egg"
    assert stat_of(engine, nest, "/home/")["mode"] == (1 << 31) | 0o755
    assert stat_of(engine, nest, "/dev/null")["mode"] == (1 << 26) | (1 << 21) | 0o666
    assert stat_of(engine, nest, "/tmp")["mode"] & 0o777 == 0o755
    assert stat_of(engine, nest, "/")["name"] == "/"


def test_names_in_an_archive_are_those_of_docker(engine, nest):
    assert set(members(engine.get(at(nest, "/nest")))) == {
        "nest",
        "nest/deep",
        "nest/egg",
        "nest/hard",
        "nest/soft",
    }
    assert set(members(engine.get(at(nest, "/nest/.")))) == {
        ".",
        "./deep",
        "./egg",
        "./hard",
        "./soft",
    }
    assert set(members(engine.get(at(nest, "/home/")))) >= {"home", "home/egg"}
    assert members(engine.get(at(nest, "/home")))["home"].linkname == "/nest"
    egg = members(engine.get(at(nest, "/nest")))["nest/hard"]
    assert (egg.type, egg.linkname) == (tarfile.LNKTYPE, "nest/egg")
    assert content(engine.get(at(nest, "/home/egg")), "egg") == b"egg\n"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nosuch", 404, "Could not find the file /nosuch in container {}"),
        ("/nosuch/deep", 404, "Could not find the file /nosuch/deep in container {}"),
        ("/nest/egg/", 400, "lstat /nest/egg/: not a directory"),
        ("/nest/egg/x", 400, "lstat /nest/egg: not a directory"),
        ("/loop/x", 400, "lstat /loop: too many levels of symbolic links"),
        ("/proc/cpuinfo", 400, "/proc/cpuinfo lies in a file system of the kernel's (proc)"),
        ("/proc/1/root/nest", 400, "lstat /proc/1/root: permission denied"),
        ("", 400, "bad parameter: path cannot be empty"),
        ("/a\0b", 400, "bad parameter: path cannot hold a NUL character"),
    ],
)
def test_paths_that_are_refused(engine, nest, path, status, text):
    answer = engine.get(at(nest, path))
    assert answer.status == status
    assert answer.message.startswith(text.format(nest))


def test_the_whole_root_of_one_that_runs_ends_at_the_kernels_files(engine, nest):
    found = members(engine.get(at(nest, "/")))
    assert {"/nest/egg", "/dev/shm/mem", "/proc", "/sys"} <= {name.rstrip("/") for name in found}
    assert not [name for name in found if name.startswith(("/proc/", "/sys/"))]


def test_what_runs_is_seen_with_its_mounts_and_what_has_ended_without(engine, bird):
    assert content(engine.get(at(bird, "/dev/shm/mem")), "mem") == b"in-memory\n"
    assert put(engine, bird, "/dev/shm", packed({"more": b"x"})).status == 200
    engine.post(f"/containers/{bird}/pause")
    assert content(engine.get(at(bird, "/dev/shm/more")), "more") == b"x"
    assert put(engine, bird, "/nest", packed({"frozen": b"x"})).status == 200
    engine.post(f"/containers/{bird}/unpause")
    engine.post(f"/containers/{bird}/kill")
    engine.wait(bird)
    assert engine.get(at(bird, "/dev/shm/mem")).status == 404
    assert content(engine.get(at(bird, "/nest/frozen")), "frozen") == b"x"
    assert put(engine, bird, "/nest", packed({"later": b"y"})).status == 200
    assert stat_of(engine, bird, "/nest/later")["size"] == 1


def test_one_that_has_never_run(engine):
    container = engine.create("sh", "-c", "cat /root/greeting")
    assert engine.get(f"/containers/{container}/changes").json == []
    assert stat_of(engine, container, "/usr/bin/env")["size"] > 0
    assert put(engine, container, "/root", packed({"greeting": b"hello"})).status == 200
    assert engine.get(f"/containers/{container}/changes").json == [
        {"Path": "/root", "Kind": 0},
        {"Path": "/root/greeting", "Kind": 1},
    ]
    engine.post(f"/containers/{container}/start")
    assert engine.wait(container) == 0
    assert engine.output(container)[0] == b"hello"
    engine.delete(f"/containers/{container}")


@pytest.mark.parametrize("options", [{}, {"LogConfig": {"Config": {"mode": "non-blocking"}}}])
def test_docker_s_own_files_of_one_that_was_never_started(engine, busybox, options):
    """They are there, if they are not made before its start, too: then they are empty."""
    for image in ("host", busybox):
        container = engine.create("true", image=image, Hostname="tower", HostConfig=options)
        for name, words in (
            ("hostname", b"tower\n"),
            ("hosts", b"127.0.0.1\tlocalhost\n"),
            ("resolv.conf", b""),
        ):
            answer = engine.get(at(container, f"/etc/{name}"))
            assert answer.status == 200, answer
            found = content(answer, name)
            assert found.startswith(words) or (options and not found)
        assert put(engine, container, "/etc", packed({"hosts": b"mine"})).status == 200
        assert engine.delete(f"/containers/{container}").status == 204


def test_uploads_that_are_refused(engine, bird):
    assert put(engine, bird, "/nosuch", packed({"a": b""})).message == (
        f"Could not find the file /nosuch in container {bird}"
    )
    assert put(engine, bird, "/nest/egg", packed({"a": b""})).message == (
        "extraction point is not a directory"
    )
    answer = put(engine, bird, "/nest", packed({"../a": b""}))
    assert (answer.status, answer.message) == (400, '"../a" is outside of "/nest"')
    answer = put(engine, bird, "/", packed({"nest": b""}), noOverwriteDirNonDir="true")
    assert answer.message == 'cannot overwrite directory "/nest" with non-directory "/"'
    answer = put(engine, bird, "/nest", packed({"egg": None}), noOverwriteDirNonDir="1")
    assert answer.message == 'cannot overwrite non-directory "/nest/egg" with directory "/nest"'
    answer = put(engine, bird, "/proc", packed({"a": b""}))
    assert (answer.status, "file system of the kernel's" in answer.message) == (400, True)
    answer = put(engine, bird, "/etc", packed({"hosts": b""}))
    assert (answer.status, "something is mounted there" in answer.message) == (400, True)
    answer = put(engine, bird, "/nest", b"garbage" * 1000)
    assert answer.message == "this is not a tar archive (plain, gzip, bzip2, xz or zstd)"
    answer = put(engine, bird, "/nest", packed({"cut": b"x" * 5000})[:2000])
    assert (answer.status, answer.message[:24]) == (400, "the archive is truncated")
    assert engine.get(at(bird, "/nest/cut")).status == 404  # no half file


def test_uploads_that_are_fine(engine, bird):
    assert put(engine, bird, "/nest", b"").status == 200
    assert (
        put(
            engine,
            bird,
            "/nest",
            packed({"whole": b"w"}).rstrip(b"\0")[:512] + b"w".ljust(512, b"\0"),
        ).status
        == 200
    )
    assert put(engine, bird, "/home/", packed({"by/a/link": b"x", "/absolute": b"y"})).status == 200
    assert stat_of(engine, bird, "/nest/by/a/link")["size"] == 1
    assert stat_of(engine, bird, "/nest/absolute")["size"] == 1
    # A directory gives way to a file, and a file to a directory, where nobody says no.
    assert (
        put(engine, bird, "/nest", packed({"by": b"file", "egg": None, "egg/in": b""})).status
        == 200
    )
    assert stat_of(engine, bird, "/nest/by")["size"] == 4
    assert stat_of(engine, bird, "/nest/egg/in")["size"] == 0
    # A link in the archive is followed inside the container, as everywhere.
    assert put(engine, bird, "/nest", packed({"out": "/tmp", "out/through": b"z"})).status == 200
    assert stat_of(engine, bird, "/tmp/through")["size"] == 1


def test_owners_are_the_archives_or_the_containers_user(engine, busybox):
    container = engine.create("true", image=busybox, User="bird")
    data = packed({"mine": b""}, uid=7, gid=8)
    assert put(engine, container, "/tmp", data).status == 200
    found = members(engine.get(at(container, "/tmp")))["tmp/mine"]
    assert (found.uid, found.gid) == (7, 8)
    assert put(engine, container, "/tmp", data, copyUIDGID="true").status == 200
    found = members(engine.get(at(container, "/tmp")))["tmp/mine"]
    assert (found.uid, found.gid) == (1234, 5678)
    engine.delete(f"/containers/{container}")


def test_odd_names_travel_as_bytes(engine, bird):
    name = b"\xff\xfe\n-".decode("utf-8", "surrogateescape")
    assert put(engine, bird, "/nest", packed({name: b"odd"})).status == 200
    path = quote(b"/nest/\xff\xfe\n-")
    answer = engine.get(f"/containers/{bird}/archive?path={path}")
    assert list(members(answer)) == [name]


def test_a_volume_is_seen_wherever_its_container_is_in_its_life(engine, busybox):
    mounts = {"Mounts": [{"Type": "volume", "Source": "shared", "Target": "/new/place"}]}
    one = engine.create("true", image=busybox, HostConfig=mounts)
    assert put(engine, one, "/new/place", packed({"kept": b"x"})).status == 200
    assert engine.get(f"/containers/{one}/changes").json == []
    with started(engine, "sh", "-c", "echo up; sleep 99", image=busybox, HostConfig=mounts) as two:
        assert content(engine.get(at(two, "/new/place/kept")), "kept") == b"x"
    engine.delete(f"/containers/{one}")
    engine.delete("/volumes/shared")


def test_read_only_roots_and_mounts_refuse(engine, busybox, tmp_path):
    config = {"ReadonlyRootfs": True, "Binds": [f"{tmp_path}:/mnt:ro"]}
    container = engine.create("sh", "-c", "echo up; sleep 99", image=busybox, HostConfig=config)
    for _ in ("never ran", "runs"):
        answer = put(engine, container, "/tmp", packed({"a": b""}))
        assert (answer.status, answer.message) == (403, "container rootfs is marked read-only")
        answer = put(engine, container, "/mnt", packed({"a": b""}))
        assert (answer.status, answer.message) == (403, "mounted volume is marked read-only")
        engine.post(f"/containers/{container}/start")
    engine.delete(f"/containers/{container}?force=1")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_told(engine, busybox):
    config = {"ShmSize": 1 << 20}
    with started(engine, "sh", "-c", "echo; sleep 99", image=busybox, HostConfig=config) as one:
        answer = put(engine, one, "/dev/shm", packed({"small": b"s", "big": bytes(2 << 20)}))
        assert answer.status == 500
        assert "no space left on device (at big)" in answer.message
        assert set(members(engine.get(at(one, "/dev/shm")))) == {"shm", "shm/small"}
        assert put(engine, one, "/dev/shm", packed({"other": b"fits"})).status == 200


def test_events_are_dockers(engine, busybox):
    container = engine.create("true", image=busybox, name="watched")
    stat_of(engine, container, "/")
    engine.get(at(container, "/etc"))
    put(engine, container, "/tmp", packed({"a": b""}))
    engine.get(f"/containers/{container}/export")
    engine.delete(f"/containers/{container}")
    chosen = quote(json.dumps({"container": [container]}))
    lines = engine.get(f"/events?since=1&until={time.time()}&filters={chosen}")
    seen = [json.loads(line) for line in lines.body.splitlines()]
    assert [event["Action"] for event in seen] == [
        "create",
        "archive-path",
        "extract-to-dir",
        "export",
        "destroy",
    ]
    assert seen[1]["Actor"]["Attributes"] == {"image": "busybox", "name": "watched"}


# -- those who want to get out


SWAPPER = """
    mkdir -p /nest/real && echo mine >/nest/real/marker && ln -s {host} /nest/link
    echo ready
    while :; do
        mv -T /nest/link /nest/x 2>/dev/null; mv -T /nest/x /nest/link 2>/dev/null
        mv -T /nest/real /nest/x 2>/dev/null; mv -T /nest/x /nest/real 2>/dev/null
    done
"""


def test_a_directory_that_becomes_a_link_leads_nobody_out(engine, busybox, tmp_path):
    """CVE-2018-15664: the path is checked, then exchanged, then used."""
    (tmp_path / "marker").write_text("the machine's")
    script = SWAPPER.format(host=tmp_path)
    with started(engine, "sh", "-c", script, image=busybox) as container:
        for _ in range(3):
            answer = engine.get(at(container, "/nest/x/marker"))
            if answer.status == 200:
                assert content(answer, "marker") == b"mine\n"
            answer = engine.get(at(container, "/nest"))
            assert b"the machine's" not in answer.body
            put(engine, container, "/nest/x", packed({"planted": b"", "deep/er": b""}))
            put(engine, container, "/nest", packed({"x/planted": b""}))
    assert sorted(os.listdir(tmp_path)) == ["marker"]


def test_nothing_of_the_container_is_executed(engine, busybox):
    """CVE-2019-14271: a library was loaded from inside."""
    evil = b"open('/evil-was-here', 'w').close()\n"
    library = os.path.dirname(os.__file__)
    names = [f"{library}/{name}.py" for name in ("tarfile", "json/__init__", "encodings/idna")]
    names += [f"{library}/encodings/utf_8.py", "/usr/lib/x86_64-linux-gnu/libnss_files.so.2"]
    names += [f"{Path(sys.executable).parent}/python3", "/etc/nsswitch.conf"]
    with started(engine, "sh", "-c", "echo; sleep 99", image=busybox) as container:
        for _ in ("runs", "has ended"):
            assert put(engine, container, "/", packed(dict.fromkeys(names, evil))).status == 200
            assert engine.get(at(container, "/etc")).status == 200
            assert (
                put(engine, container, "/", packed({"späße/\udcff": b""}, uname="ü")).status == 200
            )
            assert put(engine, container, "/nosuch", b"x").status == 404
            assert engine.get(at(container, "/evil-was-here")).status == 404
            engine.post(f"/containers/{container}/kill")
            engine.wait(container)
