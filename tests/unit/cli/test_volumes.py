"""`volume …`, and what `run` asks for with its mount options."""

import json

import pytest

from mdocker.container_options import ContainerOptions
from mdocker.errors import UsageError
from mdocker.mount_options import mount_request, parse_mount


def asked(**options):
    config, host = mount_request(ContainerOptions(**options))
    return {**config, **host}


def test_v_has_three_forms(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ("/a:/b:ro", "data:/c", "/anon", "./here:/d", "..:/e")
    body = asked(volume=words)
    assert body["Binds"] == [
        "/a:/b:ro",
        "data:/c",
        f"{tmp_path}/here:/d",
        f"{tmp_path.parent}:/e",
    ]
    assert body["Volumes"] == {"/anon": {}}
    with pytest.raises(UsageError, match="names nothing to mount"):
        asked(volume=("",))


def test_the_other_mount_options():
    body = asked(
        tmpfs=("/t", "/u:size=1m,exec"),
        volumes_from=("one", "two:ro"),
        volume_driver="local",
        read_only=True,
    )
    assert body["Tmpfs"] == {"/t": "", "/u": "size=1m,exec"}
    assert body["VolumesFrom"] == ["one", "two:ro"]
    assert (body["VolumeDriver"], body["ReadonlyRootfs"]) == ("local", True)
    assert asked() == {}


@pytest.mark.parametrize(
    ("word", "mount"),
    [
        ("dst=/x", {"Type": "volume", "Target": "/x"}),
        ("type=BIND,source=/a,target=/x,readonly,bind-propagation=rSlave",
         {"Type": "bind", "Source": "/a", "Target": "/x", "ReadOnly": True,
          "BindOptions": {"Propagation": "rslave"}}),
        ("type=bind,src=/a,destination=/x,ro=false,bind-recursive=disabled",
         {"Type": "bind", "Source": "/a", "Target": "/x", "ReadOnly": False,
          "BindOptions": {"NonRecursive": True}}),
        ('src=vol,dst=/x,volume-nocopy,volume-subpath=a/b,"volume-opt=o=bind,ro",'
         "volume-opt=type=none,volume-label=k=v,volume-driver=local",
         {"Type": "volume", "Source": "vol", "Target": "/x", "VolumeOptions": {
             "NoCopy": True, "Subpath": "a/b", "Labels": {"k": "v"},
             "DriverConfig": {"Name": "local", "Options": {"o": "bind,ro", "type": "none"}}}}),
        ("type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=1770",
         {"Type": "tmpfs", "Target": "/x",
          "TmpfsOptions": {"SizeBytes": 1048576, "Mode": 0o1770}}),
    ],
)  # fmt: skip
def test_mount(word, mount):
    assert parse_mount(word) == mount


def test_a_source_that_begins_with_a_dot_is_from_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert parse_mount("type=bind,src=./a,dst=/x")["Source"] == f"{tmp_path}/a"
    assert parse_mount("type=bind,src=.,dst=/x")["Source"] == str(tmp_path)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("", "it must be KEY=VALUE pairs with commas between them"),
        ("dst", "invalid field 'dst' must be a key=value pair"),
        ("dst=/x,colour=red", "unexpected key 'colour' in 'colour=red'"),
        ("type=,dst=/x", "type is required"),
        ("type=bind,src=/a", "target is required"),
        ("dst=/x,readonly=maybe", "invalid value for readonly: maybe"),
        ("dst=/x,tmpfs-size=much", "invalid value for tmpfs-size: much"),
        ("dst=/x,tmpfs-mode=rwx", "invalid value for tmpfs-mode: rwx"),
        ("type=bind,dst=/x,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("dst=/x,bind-propagation=shared", "cannot mix 'bind-*' options with mount type 'volume'"),
        ("type=bind,dst=/x,bind-recursive=yes", "invalid value for bind-recursive: yes: use"),
        ('dst=/x,"y', "unexpected end of data"),
    ],
)
def test_a_wrong_mount(word, text):
    with pytest.raises(UsageError) as refused:
        parse_mount(word)
    assert str(refused.value).startswith(f'invalid argument "{word}" for "--mount": {text}')


VOLUME = {
    "Name": "data",
    "Driver": "local",
    "Mountpoint": "/v/data/_data",
    "Labels": {"a": "b"},
    "Options": None,
    "Scope": "local",
    "CreatedAt": "2026-11-22T03:49:54Z",
}


def test_volume_create(engine, mdocker):
    engine.json("POST", "/volumes/create", VOLUME)
    words = ("--label", "a=b", "-o", "type=none", "--opt", "o=bind", "data")
    assert mdocker("volume", "create", *words) == (0, "data\n", "")
    assert json.loads(engine.requests[-1][3]) == {
        "Driver": "local",
        "Name": "data",
        "DriverOpts": {"type": "none", "o": "bind"},
        "Labels": {"a": "b"},
    }


def test_volume_ls(engine, mdocker):
    engine.json("GET", "/volumes", {"Volumes": [VOLUME, {**VOLUME, "Name": "other"}]})
    assert mdocker("volume", "ls").out.splitlines() == [
        "DRIVER    VOLUME NAME",
        "local     data",
        "local     other",
    ]
    assert mdocker("volume", "ls", "-q").out == "data\nother\n"
    words = ("--format", '{{.Name}} {{.Label "a"}}', "-f", "dangling=true")
    assert mdocker("volume", "ls", *words).out == "data b\nother b\n"
    engine.json("GET", "/volumes", {"Volumes": None})
    assert mdocker("volume", "ls").out == "DRIVER    VOLUME NAME\n"


def test_volume_inspect_and_inspect(engine, mdocker):
    engine.json("GET", "/volumes/data", VOLUME)
    for kind in ("containers", "images"):
        engine.refuse("GET", f"/{kind}/data/json", 404, "no")
    engine.refuse("GET", "/volumes/nosuch", 404, "get nosuch: no such volume")
    result = mdocker("volume", "inspect", "data", "nosuch")
    assert (result.code, result.err) == (1, "mdocker: get nosuch: no such volume\n")
    assert json.loads(result.out) == [VOLUME]
    assert mdocker("volume", "inspect", "-f", "{{.Mountpoint}}", "data").out == "/v/data/_data\n"
    assert json.loads(mdocker("inspect", "data").out) == [VOLUME]
    assert json.loads(mdocker("inspect", "--type", "volume", "data").out) == [VOLUME]


def test_volume_rm(engine, mdocker):
    engine.on("DELETE", "/volumes/data", lambda call: call.answer(204))
    engine.refuse("DELETE", "/volumes/used", 409, "remove used: volume is in use - [abc]")
    result = mdocker("volume", "rm", "used", "data")
    assert result == (1, "data\n", "mdocker: remove used: volume is in use - [abc]\n")


def test_volume_prune(engine, mdocker):
    engine.json(
        "POST", "/volumes/prune", {"VolumesDeleted": ["one", "two"], "SpaceReclaimed": 1500}
    )
    result = mdocker("volume", "prune", "--force")
    assert result.out == "Deleted Volumes:\none\ntwo\n\nTotal reclaimed space: 1.5kB\n"
    engine.json("POST", "/volumes/prune", {"VolumesDeleted": None, "SpaceReclaimed": 0})
    assert mdocker("volume", "prune", "-af").out == "Total reclaimed space: 0B\n"


def test_two_words_make_a_command(mdocker):
    assert mdocker("volume").out.startswith("Usage: mdocker volume COMMAND")
    assert mdocker("volume", "--help") == mdocker("help", "volume") == mdocker("volume")
    page = mdocker("volume", "rm", "--help").out
    assert page.startswith("Usage: mdocker volume rm [OPTIONS] VOLUME [VOLUME...]")
    assert mdocker("help", "volume", "rm").out == page
    unknown = mdocker("volume", "colour")
    assert unknown.code == 1
    assert "there are create, ls, inspect, rm, prune" in unknown.err
    assert "requires at least 1 argument" in mdocker("volume", "rm").err
