"""Which map `--userns-remap` means, and what a user namespace forbids."""

from __future__ import annotations

import pwd

import msgspec
import pytest

from runtime.spec import Bind, Donor, Tmpfs
from supervisor import remapping
from supervisor.container import Container, ContainerConfig, Life, Namespaces, UserNamespace
from supervisor.errors import BadParameter, DonorNotShareable, StartFailed
from supervisor.mount_points import MountPoint, Mounts
from supervisor.privileges import Privileges
from supervisor.remapping import RefusedRemapping, Remapping, directories, read

MAP = ((0, 100_000, 65_536),)
OTHER = ((0, 200_000, 65_536),)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The two files, of which the tests write what they want."""
    subuid, subgid = tmp_path / "subuid", tmp_path / "subgid"
    for one in (subuid, subgid):
        one.write_text("# comment\n\ndockremap:100000:65536\nroot:200000:65536\n")
    monkeypatch.setattr(remapping, "SUBUID", subuid)
    monkeypatch.setattr(remapping, "SUBGID", subgid)
    return subuid, subgid


@pytest.fixture
def remapped(files, monkeypatch):
    monkeypatch.setattr(remapping, "read", lambda asked: read(asked, *files))
    return Remapping("default")


@pytest.mark.parametrize(
    ("asked", "uids", "gids"),
    [
        ("default", MAP, MAP),
        ("root", OTHER, OTHER),
        ("0", OTHER, OTHER),
        ("root:root", OTHER, OTHER),
        ("0:0", OTHER, OTHER),
    ],
)
def test_the_words_of_dockerd(files, asked, uids, gids):
    assert read(asked, *files) == (uids, gids)


def test_a_number_that_nobody_has(files):
    files[0].write_text("4294967294:5000:10\n4294967294:9000:5\n")
    files[1].write_text("4294967294:7000:10\n")
    uids = ((0, 5000, 10), (10, 9000, 5))  # lines of one user follow one another inside
    assert read("4294967294:4294967294", *files) == (uids, ((0, 7000, 10),))


def test_a_range_by_number_is_that_users_too(files):
    files[0].write_text("0:5000:10\n")
    assert read(pwd.getpwuid(0).pw_name, *files)[0] == ((0, 5000, 10),)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("", "invalid user namespace remapping"),
        ("root:", "invalid user namespace remapping"),
        (":root", "invalid user namespace remapping"),
        ("no-such-user", "there is no user no-such-user"),
        ("²", "there is no user ²"),
        ("root:no-such-group", "there is no group no-such-group"),
        ("4294967294", "add a line for it, such as 4294967294:265536:65536"),
    ],
)
def test_what_there_is_not(files, asked, words):
    with pytest.raises(RefusedRemapping, match=words):
        read(asked, *files)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dockremap:0:65536", "the machine's root"),
        ("dockremap:100000", "line 1: not NAME:FIRST:COUNT"),
        ("dockremap:a:b", "line 1: not NAME:FIRST:COUNT"),
        ("dockremap:²:5", "line 1: not NAME:FIRST:COUNT"),
        (f"dockremap:5:{'9' * 5000}", "line 1: not NAME:FIRST:COUNT"),
        ("dockremap:5:0", "line 1: there are no such ids"),
        ("dockremap:4294967290:6", "line 1: there are no such ids"),
        ("dockremap:5:1\n" * 341, "has 341 lines, and the kernel takes 340"),
        ("", "add a line for it, such as dockremap:100000:65536"),
    ],
)
def test_a_file_that_does_not_do(files, line, words):
    files[1].write_text(line)
    with pytest.raises(RefusedRemapping, match=words):
        read("default", *files)


def test_a_file_that_is_missing_has_no_lines(files):
    files[0].unlink()
    with pytest.raises(RefusedRemapping, match="has no uids for dockremap"):
        read("default", *files)


def test_the_kernels_limit(tmp_path):
    most = tmp_path / "most"
    assert remapping.lacking(most) == ""
    most.write_text("0\n")
    assert "switched off" in remapping.lacking(most)
    most.write_text("7\n")
    assert remapping.lacking(most) == ""


def config(**more):
    return ContainerConfig(image="host", image_id="sha256:0", cmd=("true",), **more)


@pytest.mark.parametrize(
    ("mode", "with_option", "without"),
    [("", True, False), ("host", False, False), ("private", True, True)],
)
def test_the_container_has_the_last_word(remapped, mode, with_option, without):
    assert remapped.applies(config(userns_mode=mode)) is with_option
    assert Remapping().applies(config(userns_mode=mode)) is without


SHARED_BIND = Mounts(
    points=(MountPoint(kind="bind", target="/t", source="/s", propagation="rshared"),)
)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"privileges": Privileges(privileged=True)}, "privileged mode is incompatible"),
        ({"network_mode": "host"}, "cannot share the host's network namespace"),
        ({"namespaces": Namespaces(pid="host")}, "cannot share the host PID namespace"),
        ({"mounts": SHARED_BIND}, "bind /s with rshared"),
    ],
)
def test_what_a_user_namespace_forbids(remapped, asked, words):
    with pytest.raises(BadParameter, match=words):
        remapped.check(config(**asked))
    remapped.check(config(userns_mode="host", **asked))
    Remapping().check(config(**asked))


def test_ids_are_missing_at_create(remapped, files):
    files[0].write_text("")
    with pytest.raises(BadParameter, match=r"--userns private: .* has no uids for dockremap"):
        Remapping().check(config(userns_mode="private"))


def test_an_engine_whose_ids_are_gone_starts_nobody_without(remapped, files):
    files[0].write_text("")
    with pytest.raises(StartFailed, match=r"--userns-remap: .* has no uids for dockremap"):
        remapped.resolve(one(), [])
    files[0].write_text("dockremap:100000:65536\n")
    assert remapped.resolve(one(), [])[0] == "private"
    files[0].write_text("")  # the map that it has found it keeps
    assert remapped.resolve(one(), [])[0] == "private"


class Running:
    """What of a run is looked at."""

    pid, start_ticks = 5, 6


def donor(name, space):
    life = Life(user_namespace=space)
    found = Container(name, name, config(), 0, life)
    found.run = Running()
    return found


def one(mode=""):
    return Container("c", "c", config(userns_mode=mode), 0)


def test_a_user_namespace_for_each_start(remapped):
    mode, first = remapped.resolve(one(), [])
    _, second = remapped.resolve(one(), [])
    assert (mode, first.uids, first.gids) == ("private", MAP, MAP)
    assert first.name != second.name
    assert remapped.resolve(one("host"), []) == ("host", None)


def test_it_was_created_under_another_engine(remapped, files):
    container = Container("c", "c", config(network_mode="host"), 0)
    assert Remapping().resolve(container, []) == ("host", None)
    with pytest.raises(StartFailed, match="cannot share the host's network"):
        remapped.resolve(container, [])
    files[0].write_text("")
    with pytest.raises(StartFailed, match="has no uids for dockremap"):
        Remapping().resolve(one("private"), [])


def test_who_shares_another_namespace_shares_that_one(remapped):
    theirs = UserNamespace("d", OTHER, OTHER)
    donors = [("network", donor("d", theirs)), ("IPC", donor("e", theirs))]
    assert remapped.resolve(one(), donors) == (Donor("d", 5, 6), theirs)
    assert remapped.resolve(one("host"), [("IPC", donor("d", None))]) == ("host", None)


@pytest.mark.parametrize(
    ("mode", "spaces"),
    [
        ("host", ["d"]),
        ("", [None]),
        ("", ["d", "e"]),
        ("", ["d", None]),
        ("host", [None, "d"]),
    ],
)
def test_two_user_namespaces_share_nothing(remapped, mode, spaces):
    donors = [
        ("network", donor(f"d{number}", name and UserNamespace(name, MAP, MAP)))
        for number, name in enumerate(spaces)
    ]
    with pytest.raises(DonorNotShareable, match="only containers of one user namespace"):
        remapped.resolve(one(mode), donors)


def test_what_is_ours_on_disk(tmp_path):
    binds = (
        Bind("/usr", "/usr", shifted=True),
        Bind("/host", "/h"),
        Bind("/v/one/_data", "/1", shifted=True),
        Bind("/v/two/_data", "/2", shifted=True, fill=True),
        Tmpfs("/t"),
    )
    own = tmp_path / "own"
    found = directories(("/l1", "/l2"), own, own, binds)
    assert found == ("/l1", "/l2", str(own), "/usr", "/v/one/_data", "/v/two")


def test_the_record_keeps_it():
    life = Life(user_namespace=UserNamespace("d", MAP, OTHER))
    assert msgspec.json.decode(msgspec.json.encode(life), type=Life) == life
    assert msgspec.json.decode(b"{}", type=Life).user_namespace is None
