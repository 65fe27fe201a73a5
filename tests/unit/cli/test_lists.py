"""`ps`, `images`, `inspect`, `import`, `rmi`, `version`, `info`; where it is there, the real
docker client is shown the same answers and must print the same.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ID = "0123456789ab" + "c" * 52
DOCKER = shutil.which("docker")


def container(**changes):
    return {
        "Id": ID,
        "Names": ["/bird"],
        "Image": "host",
        "ImageID": "sha256:" + "1" * 64,
        "Command": "sh -c 'while true; do echo a; done'",
        "Created": int(time.time()) - 300,
        "Ports": [],
        "Labels": {"b": "2", "a": "1"},
        "State": "running",
        "Status": "Up 5 minutes",
        "HostConfig": {"NetworkMode": "none"},
        "NetworkSettings": {"Networks": {"none": {}}},
        "Mounts": [],
        **changes,
    }


@pytest.fixture
def two(engine):
    engine.json(
        "GET",
        "/containers/json",
        [
            container(),
            container(
                Id="f" * 64,
                Names=["/a-container-with-a-rather-long-name"],
                Command="true",
                Status="Exited (0) 3 weeks ago",
                State="exited",
                Labels={},
                Created=int(time.time()) - 21 * 86400,
            ),
        ],
    )
    return engine


def test_ps(two, mdocker):
    assert mdocker("ps").out == (
        "CONTAINER ID   IMAGE     COMMAND                  CREATED         "
        "STATUS                   PORTS     NAMES\n"
        '0123456789ab   host      "sh -c \'while true; …"   5 minutes ago   '
        "Up 5 minutes                       bird\n"
        'ffffffffffff   host      "true"                   3 weeks ago     '
        "Exited (0) 3 weeks ago             a-container-with-a-rather-long-name\n"
    )


@pytest.mark.parametrize(
    ("words", "query"),
    [
        ([], {}),
        (["-a"], {"all": "1"}),
        (["-l"], {"limit": "1"}),
        (["-n", "3"], {"limit": "3"}),
        (["-n", "-1"], {}),
        (["-l", "-n", "2"], {"limit": "2"}),
        (["-f", "status=exited"], {"filters": '{"status":{"exited":true}}'}),
    ],
)
def test_what_ps_asks(two, mdocker, words, query):
    mdocker("ps", *words)
    assert two.requests[0][2] == query


def test_ps_forms(two, mdocker):
    assert mdocker("ps", "-q").out == "0123456789ab\nffffffffffff\n"
    assert mdocker("ps", "-q", "--no-trunc").out == f"{ID}\n{'f' * 64}\n"
    assert mdocker("ps", "--format", '{{.ID}} {{.Label "a"}}|{{.Labels}}').out == (
        "0123456789ab 1|a=1,b=2\nffffffffffff |\n"
    )
    assert mdocker(
        "ps", "--format", "table {{.ID}}\\t{{.State}}\\t{{.Names}}"
    ).out.splitlines() == [
        "CONTAINER ID   STATE     NAMES",
        "0123456789ab   running   bird",
        "ffffffffffff   exited    a-container-with-a-rather-long-name",
    ]
    assert mdocker("ps", "--format", 'table {{.Label "com.my-shop.what_for"}}').out.startswith(
        "what for\n"
    )
    first = json.loads(mdocker("ps", "--format", "json").out.splitlines()[0])
    assert first["Names"] == "bird" and first["State"] == "running" and "Label" not in first
    assert json.loads(mdocker("ps", "--format", "{{json .}}").out.splitlines()[0]) == first


def test_ps_with_sizes(engine, mdocker):
    sizes = {"SizeRw": 5, "SizeRootFs": 7_000_005, "SizeLog": 12_345}
    engine.json("GET", "/containers/json", [container(**sizes), container(SizeRw=0)])
    lines = mdocker("ps", "-s").out.splitlines()
    assert lines[0].endswith("NAMES     SIZE")
    assert lines[1].endswith("bird      5B (log 12.35kB, virtual 7MB)")
    assert lines[2].endswith("bird      0B")
    assert engine.requests[-1][2] == {"size": "1"}
    assert mdocker("ps", "--format", "{{.Size}}").out.splitlines()[1] == "0B"
    assert engine.requests[-1][2] == {"size": "1"}


def test_system_df(engine, mdocker):
    engine.json(
        "GET",
        "/system/df",
        {
            "LayersSize": 4000,
            "LayersReclaimable": 500,
            "Images": [
                {**IMAGES[0], "Size": 3000, "SharedSize": 1000, "Containers": 1},
                {**IMAGES[-1], "Size": 2000, "SharedSize": 1000, "Containers": 0},
            ],
            "Containers": [
                container(SizeRw=150, SizeLog=50),
                container(SizeRw=1000, SizeLog=600, State="exited", Status="Exited"),
            ],
            "Volumes": [
                {"Name": "data", "UsageData": {"RefCount": 2, "Size": 3000}},
                {"Name": "rest", "UsageData": {"RefCount": 0, "Size": 1000}},
            ],
        },
    )
    table = [line.split() for line in mdocker("system", "df").out.splitlines()]
    assert table == [
        ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"],
        ["Images", "2", "1", "4kB", "500B", "(12%)"],
        ["Containers", "2", "1", "500B", "400B", "(80%)"],
        ["Local", "Volumes", "2", "1", "4kB", "1kB", "(25%)"],
        ["Logs", "2", "1", "650B", "600B", "(92%)"],
    ]
    verbose = mdocker("system", "df", "-v").out.splitlines()
    assert verbose[6:10] == [
        "Images space usage:",
        "",
        "REPOSITORY         TAG       IMAGE ID       CREATED        SIZE      SHARED SIZE   "
        "UNIQUE SIZE   CONTAINERS",
        "busybox            latest    abababababab   2 hours ago    3kB       1kB           "
        "2kB           1",
    ]
    assert verbose[-7].split() == ["0123456789ab", "bird", "Exited", "400B", "600B"]
    assert verbose[-5:-3] == ["Local Volumes space usage:", ""]
    assert verbose[-1].split() == ["rest", "0", "1kB"]
    refused = mdocker("system", "what")
    assert refused.code == 1 and "there are df, check, prune" in refused.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--format", "{{.Nope}}"], 'no field "Nope"'),
        (["--format", "{{.ID"], "without its"),
        (["-f", "status"], "must be KEY=VALUE"),
    ],
)
def test_ps_refuses(two, mdocker, words, text):
    result = mdocker("ps", *words)
    assert result.code != 0
    assert text in result.err
    assert result.out == ""


IMAGES = [
    {
        "Id": "sha256:" + "ab" * 32,
        "RepoTags": ["busybox:latest", "localhost:5000/x:1"],
        "RepoDigests": [
            f"{name}@sha256:{letter * 64}" for name in ("busybox", "reg/x") for letter in "ab"
        ],
        "Created": int(time.time()) - 7200,
        "Size": 4_261_550,
        "SharedSize": -1,
        "Containers": -1,
        "Labels": None,
    },
    {
        "Id": "sha256:" + "cd" * 32,
        "RepoTags": [],
        "Created": int(time.time()) - 86400 * 100,
        "Size": 0,
        "SharedSize": -1,
        "Containers": -1,
    },
]


def test_images(engine, mdocker):
    engine.json("GET", "/images/json", IMAGES)
    assert mdocker("images").out.splitlines() == [
        "REPOSITORY         TAG       IMAGE ID       CREATED        SIZE",
        "busybox            latest    abababababab   2 hours ago    4.26MB",
        "localhost:5000/x   1         abababababab   2 hours ago    4.26MB",
        "reg/x              <none>    abababababab   2 hours ago    4.26MB",
        "<none>             <none>    cdcdcdcdcdcd   3 months ago   0B",
    ]
    assert mdocker("images", "-q").out == "abababababab\n" * 3 + "cdcdcdcdcdcd\n"
    assert mdocker("images", "--no-trunc", "-q").out.startswith("sha256:abab")
    assert mdocker("images", "--format", "{{.Repository}}:{{.Tag}}").out.splitlines()[0] == (
        "busybox:latest"
    )
    mdocker("images", "busybox")
    assert engine.requests[-1][2] == {"filters": '{"reference":{"busybox":true}}'}


DIGESTS = [f"sha256:{letter * 64}" for letter in "ab"]


def test_images_with_digests(engine, mdocker):
    image = {
        **IMAGES[0],
        "RepoTags": ["busybox:latest", "busybox:1", "mine:1"],
        "RepoDigests": [f"busybox@{DIGESTS[0]}", f"busybox@{DIGESTS[1]}", f"reg:5/x@{DIGESTS[0]}"],
    }
    engine.json("GET", "/images/json", [image, {**IMAGES[-1], "RepoTags": [], "RepoDigests": []}])
    form = "{{.Repository}} {{.Tag}}"
    assert mdocker("images", "--format", form).out.splitlines() == [
        "busybox latest", "busybox 1", "mine 1", "reg:5/x <none>", "<none> <none>",
    ]  # fmt: skip
    told = mdocker("images", "--format", form + " {{.Digest}}").out.splitlines()
    assert told == [
        f"busybox latest {DIGESTS[0]}", f"busybox latest {DIGESTS[1]}",
        f"busybox 1 {DIGESTS[0]}", f"busybox 1 {DIGESTS[1]}",
        "mine 1 <none>", f"reg:5/x <none> {DIGESTS[0]}", "<none> <none> <none>",
    ]  # fmt: skip
    table = mdocker("images", "--digests").out.splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert table[1].split()[:4] == ["busybox", "latest", DIGESTS[0], "abababababab"]


def test_images_as_a_tree(engine, mdocker):
    manifest = {
        "ID": DIGESTS[0], "Size": {"Content": 1_990_000, "Total": 3_970_000}, "Kind": "image",
        "ImageData": {"Platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
                      "Containers": ["c1"]},
    }  # fmt: skip
    used = {**IMAGES[0], "RepoTags": ["a:1", "longer:1"], "Containers": 1, "Manifests": [manifest]}
    unnamed = {**IMAGES[-1], "RepoTags": [], "Containers": 0, "Size": 888_000}
    engine.json("GET", "/images/json", [used, unnamed])
    assert mdocker("images", "--tree", "longer").out.splitlines() == [
        "IMAGE               ID             DISK USAGE   CONTENT SIZE   EXTRA",
        "a:1",
        "longer:1            abababababab       3.97MB         1.99MB   U",
        "└─ linux/arm64/v8   aaaaaaaaaaaa       3.97MB         1.99MB   U",
        "",
        "<untagged>          cdcdcdcdcdcd        888kB             0B",
    ]
    assert engine.requests[-1][2] == {
        "filters": '{"reference":{"longer":true}}', "manifests": "1",
    }  # fmt: skip
    refused = mdocker("images", "--tree", "--digests")
    assert (refused.code, "--digests does not go with --tree" in refused.err) == (1, True)


def test_images_of_a_name_that_is_a_command(engine, mdocker):
    engine.json("GET", "/images/json", [])
    result = mdocker("images", "ls")
    assert result.code == 0
    assert result.err == (
        'mdocker: No images found matching "ls": did you mean "mdocker image ls"?\n'
    )
    assert mdocker("images", "lss").err == ""


def test_inspect(engine, mdocker):
    engine.json("GET", "/containers/a/json", {"Id": "1", "State": {"Status": "running"}})
    engine.refuse("GET", "/containers/.*/json", 404, "No such container: x")
    engine.json("GET", "/containers/a/json", {"Id": "1", "State": {"Status": "running"}})
    engine.json("GET", "/images/lib/b:1/json", {"Id": "2", "State": {"Status": "é"}})
    result = mdocker("inspect", "a", "lib/b:1")
    assert result.code == 0
    assert json.loads(result.out) == [
        {"Id": "1", "State": {"Status": "running"}},
        {"Id": "2", "State": {"Status": "é"}},
    ]
    assert '        "Id": "1",\n' in result.out
    assert mdocker("inspect", "-f", "{{.State.Status}}", "a", "lib/b:1").out == "running\né\n"
    assert mdocker("inspect", "--format", "json", "a").out == (
        '{"Id":"1","State":{"Status":"running"}}\n'
    )
    missing = mdocker("inspect", "nope", "a")
    assert missing.code == 1
    assert missing.err == "mdocker: no container, image or volume is called nope\n"
    assert json.loads(missing.out)[0]["Id"] == "1"
    assert mdocker("inspect", "--type", "container", "x").err == "mdocker: No such container: x\n"
    assert mdocker("inspect", "--type", "network", "x").code == 1


def test_inspect_of_one_kind_alone(engine, mdocker):
    engine.json("GET", "/containers/a/json", {"Id": "1", "Name": "/a"})
    engine.json("GET", "/images/a/json", {"Id": "2", "RepoTags": ["a:latest"]})
    engine.refuse("GET", "/images/b/json", 404, "No such image: b:latest")
    engine.refuse("GET", "/containers/b/json", 404, "No such container: b")
    assert mdocker("image", "inspect", "-f", "{{.Id}}", "a", "b") == (
        1, "2\n", "mdocker: No such image: b:latest\n",
    )  # fmt: skip
    assert mdocker("container", "inspect", "-s", "-f", "{{.Id}}", "a", "b") == (
        1, "1\n", "mdocker: No such container: b\n",
    )  # fmt: skip
    assert engine.requests[-2][2] == {"size": "1"}
    mdocker("image", "inspect", "--platform", "linux/arm64", "a")
    assert engine.requests[-1][2] == {"platform": "linux/arm64"}


def test_platforms_of_images(engine, mdocker):
    engine.json("GET", "/images/a/history", [])
    engine.json("DELETE", "/images/a", [])
    assert mdocker("history", "--platform", "linux/arm64", "a").code == 0
    assert engine.requests[-1][2] == {"platform": "linux/arm64"}
    assert mdocker("image", "rm", "--platform", "linux/arm64", "a").code == 0
    assert engine.requests[-1][2] == {"platforms": "linux/arm64"}


def test_rmi(engine, mdocker):
    engine.json("DELETE", "/images/a:1", [{"Untagged": "a:1"}, {"Deleted": "sha256:1"}])
    engine.refuse("DELETE", "/images/b", 404, "No such image: b:latest")
    result = mdocker("rmi", "-f", "b", "a:1")
    assert result == (1, "Untagged: a:1\nDeleted: sha256:1\n", "mdocker: No such image: b:latest\n")


def test_tag(engine, mdocker):
    engine.on("POST", "/images/lib/b:1/tag", lambda call: call.answer(201))
    assert mdocker("tag", "lib/b:1", "here:5000/mine:2") == (0, "", "")
    assert engine.requests[-1][2] == {"repo": "here:5000/mine:2"}


def test_history(engine, mdocker):
    steps = [
        {
            "Id": "sha256:" + "ab" * 32, "Created": 1_704_164_645, "CreatedBy": "sh -c " + "x" * 60,
            "Tags": ["a:1"], "Size": 1_500_000, "Comment": "mine",
        },
        {
            "Id": "<missing>", "Created": 1_704_164_640, "CreatedBy": "ADD  /\n x", "Tags": None,
            "Size": 0, "Comment": "",
        },
    ]  # fmt: skip
    engine.json("GET", "/images/a:1/history", steps)
    head, first, second = mdocker("history", "a:1").out.splitlines()
    assert head.split() == ["IMAGE", "CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert first.startswith("abababababab   ")
    assert f"ago   sh -c {'x' * 38}…   1.5MB   mine" in first.replace("     ", "   ")
    assert second.startswith("<missing>      ") and " ADD / x " in second
    assert mdocker("history", "-q", "--no-trunc", "a:1").out == f"sha256:{'ab' * 32}\n<missing>\n"
    form = "{{.Size}} {{.CreatedSince}} {{.CreatedBy}}"
    told = mdocker("history", "--human=false", "--no-trunc", "--format", form, "a:1").out
    assert told.splitlines()[0].startswith("1500000 2024-01-0")
    assert told.splitlines()[0].endswith("x" * 60)


class TestImport:
    def test_a_file(self, engine, mdocker, tmp_path):
        data = os.urandom(3_000_000)
        (tmp_path / "x.tar").write_bytes(data)
        engine.json("POST", "/images/create", {"status": "sha256:1"})
        result = mdocker(
            *("import", "-m", "hello world", "-c", "CMD sh", "-c", "ENV A=B"),
            *(str(tmp_path / "x.tar"), "a:1"),
        )
        assert result == (0, "sha256:1\n", "")
        method, path, query, body = engine.requests[0]
        assert (method, path, body == data) == ("POST", "/images/create", True)
        assert query["fromSrc"] == "-"
        assert (query["repo"], query["message"]) == ("a:1", "hello world")

    def test_every_change_is_sent(self, engine, mdocker, tmp_path):
        (tmp_path / "x.tar").write_bytes(b"x")
        changes = []

        def create(call):
            changes.extend(value for key, value in call.queries if key == "changes")
            call.answer(200, {"status": "sha256:1"})

        engine.on("POST", "/images/create", create)
        mdocker("import", "-c", "CMD a&b", "--change", "ENV A=B", str(tmp_path / "x.tar"))
        assert changes == ["CMD a&b", "ENV A=B"]

    def test_from_standard_input(self, engine, spawn):
        engine.json("POST", "/images/create", {"status": "sha256:1"})
        process = spawn("import", "-", "a", stdin=subprocess.PIPE)
        out, _ = process.communicate(b"tar" * 1000)
        assert (process.returncode, out) == (0, b"sha256:1\n")
        assert engine.requests[0][3] == b"tar" * 1000

    def test_an_error_within_the_answer(self, engine, mdocker, tmp_path):
        (tmp_path / "x.tar").write_bytes(b"x")
        engine.json("POST", "/images/create", {"error": "truncated tar"})
        assert mdocker("import", str(tmp_path / "x.tar")) == (1, "", "mdocker: truncated tar\n")

    def test_an_early_refusal_stops_the_upload(self, engine, mdocker, tmp_path):
        """The engine answers after the first bytes and hangs up; its words are what is shown."""
        with (tmp_path / "x.tar").open("wb") as file:
            file.truncate(200_000_000)

        def create(call):
            call.rfile.read(10)
            call.refuse(400, "name is bad")
            call.close_connection = True

        engine.on("POST", "/images/create", create, eager=False)
        result = mdocker("import", str(tmp_path / "x.tar"), "a")
        assert result == (1, "", "mdocker: name is bad\n")

    def test_progress_while_the_body_still_comes(self, engine, mdocker, tmp_path):
        """The engine answers 200 with progress lines long before it has read everything."""
        data = os.urandom(1_000_000) * 40
        (tmp_path / "x.tar").write_bytes(data)
        received = []

        def create(call):
            call.begin("application/json")
            call.chunk(b'{"status":"Importing","progress":"0 MB"}\r\n')
            received.append(call.body())
            call.chunk(b'{"status":"warning: sparse file (2)"}\r\n{"status":"sha256:1"}\r\n')
            call.finish_chunks()

        engine.on("POST", "/images/create", create, eager=False)
        result = mdocker("import", str(tmp_path / "x.tar"), "a")
        assert result == (0, "sha256:1\n", "WARNING: sparse file (2)\n")
        assert received == [data]

    def test_an_error_in_the_middle_of_the_progress(self, engine, mdocker, tmp_path):
        with (tmp_path / "x.tar").open("wb") as file:
            file.truncate(200_000_000)

        def create(call):
            call.rfile.read(1000)
            call.begin("application/json")
            call.chunk(b'{"status":"Importing"}\r\n')
            call.chunk(b'{"errorDetail":{"message":"disk full"},"error":"disk full"}\r\n')
            call.finish_chunks()
            call.close_connection = True

        engine.on("POST", "/images/create", create, eager=False)
        assert mdocker("import", str(tmp_path / "x.tar")) == (1, "", "mdocker: disk full\n")

    def test_an_engine_that_dies_during_it(self, engine, mdocker, tmp_path):
        with (tmp_path / "x.tar").open("wb") as file:
            file.truncate(50_000_000)

        def create(call):
            call.rfile.read(1000)
            call.close_connection = True

        engine.on("POST", "/images/create", create, eager=False)
        result = mdocker("import", str(tmp_path / "x.tar"))
        assert result.code == 1
        assert "the engine closed the connection" in result.err
        assert result.err.count("\n") == 1

    def test_what_can_not_be_read(self, engine, mdocker, tmp_path):
        unread = mdocker("import", "/nope")
        assert (unread.code, "unable to read /nope" in unread.err) == (1, True)
        assert "Is a directory" in mdocker("import", str(tmp_path)).err
        assert not engine.seen("POST", "/images/create")


VERSION = {
    "Platform": {"Name": "mdocker"},
    "Version": "0.1.0",
    "ApiVersion": "1.50",
    "MinAPIVersion": "1.24",
    "Os": "linux",
    "Arch": "amd64",
    "KernelVersion": "6.18",
}


def test_version(engine, mdocker):
    engine.json("GET", "/version", VERSION)
    out = mdocker("version").out
    assert out.startswith("Client: mdocker\n Version:           0.1.0\n")
    assert "  API version:      1.50 (minimum version 1.24)\n" in out
    assert mdocker("version", "-f", "{{.Server.Version}}").out == "0.1.0\n"
    assert json.loads(mdocker("version", "--format", "json").out)["Server"] == VERSION


def test_version_without_an_engine(mdocker):
    result = mdocker("--host", "unix:///nope", "version")
    assert result.code == 1
    assert result.out.startswith("Client: mdocker\n")
    assert result.err.startswith("mdocker: no engine listens")


def test_info_tells_what_confines_containers(engine, mdocker):
    options = ["name=seccomp,profile=/etc/a=b.json", "name=cgroupns"]
    engine.json("GET", "/info", {"DefaultRuntime": "x", "SecurityOptions": options, "NCPU": 2})
    lines = mdocker("info").out.splitlines()
    at = lines.index(" Security Options:")
    assert lines[at - 1] == " Default Runtime: x"
    assert lines[at + 1 : at + 5] == [
        "  seccomp",
        "   Profile: /etc/a=b.json",
        "  cgroupns",
        " CPUs: 2",
    ]


def test_info(engine, mdocker):
    engine.json("GET", "/info", {"Containers": 3, "MemTotal": 25_236_000_000, "Warnings": ["w"]})
    result = mdocker("info")
    assert "Containers: 3\n" in result.out
    assert "Total Memory: 23.5GiB\n" in result.out
    assert result.err == "WARNING: w\n"
    assert mdocker("info", "--format", "{{.Containers}}").out == "3\n"


def test_info_shows_the_ways_to_registries(engine, mdocker):
    hub = {"Name": "docker.io", "Secure": True}
    registries = {
        "InsecureRegistryCIDRs": ["127.0.0.0/8"],
        "IndexConfigs": {"docker.io": hub, "nest:1": {"Name": "nest:1", "Secure": False}},
        "Mirrors": ["https://m/"],
    }
    engine.json("GET", "/info", {"HttpsProxy": "http://p:1", "RegistryConfig": registries})
    out = mdocker("info").out
    assert out.endswith(
        " HTTPS Proxy: http://p:1\n"
        " Insecure Registries:\n  nest:1\n  127.0.0.0/8\n"
        " Registry Mirrors:\n  https://m/\n"
    )


@pytest.mark.skipif(DOCKER is None, reason="needs the docker client")
@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ps", "--no-trunc"],
        ["ps", "-q"],
        ["ps", "--format", "table {{.Names}}\\t{{.Status}}\\t{{.RunningFor}}"],
        ["ps", "--format", "{{.Names}}: {{.Command}} {{.Networks}} {{.Labels}} {{.CreatedAt}}"],
        ["ps", "--format", "{{upper .Names}} {{json .Image}} {{len .ID}}"],
        ["images"],
        ["images", "--no-trunc"],
        ["images", "-q"],
        ["images", "--digests"],
        ["images", "--digests", "--no-trunc"],
        ["images", "--format", "{{.Tag}} {{.VirtualSize}} {{.UniqueSize}} {{.SharedSize}}"],
        ["images", "--format", "table {{.ID}}\\t{{.Repository}}\\t{{.Size}}"],
        ["inspect", "-f", "{{.State.Status}} {{.Config.Env}} {{json .Config.Labels}}", "a"],
        ["inspect", "-f", "{{range .Mounts}}{{.Source}},{{end}}{{len .Args}}", "a"],
        ["inspect", "-f", '{{index .Config.Labels "x"}} {{.Name}}', "a"],
    ],
    ids=" ".join,
)
def test_as_docker_prints_it(two, mdocker, words):
    two.json("GET", "/images/json", IMAGES)
    thing = {
        "Id": ID,
        "Name": "/a",
        "Args": ["b"],
        "State": {"Status": "running"},
        "Mounts": [{"Source": "/x"}, {"Source": "/y"}],
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"x": "y", "z": "<>"}},
    }
    two.json("GET", "/containers/a/json", thing)

    def ping(call):
        call.send_response_only(200)
        call.send_header("Api-Version", "1.50")
        call.send_header("Content-Length", "0")
        call.end_headers()

    two.on("HEAD", "/_ping", ping)
    for (method, pattern), handler, eager in list(two.routes):
        two.on(method, "/v1.50" + pattern, handler, eager=eager)
    theirs = subprocess.run(
        [DOCKER, "-H", two.host, *words], capture_output=True, text=True, check=True
    )
    ours = mdocker(*words)
    # Docker prints the names of one image in a random order (it ranges over a Go map).
    assert sorted(ours.out.splitlines()) == sorted(theirs.stdout.splitlines())
    if words[0] != "images":
        assert ours.out == theirs.stdout


def test_the_fake_reads_chunks():
    """The test's own server must not be what makes the upload tests pass."""
    from tests.unit.cli.fake_engine import Call

    call = Call.__new__(Call)
    call.headers = {"Transfer-Encoding": "chunked"}
    call.rfile = io.BytesIO(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert call.body() == b"abcde"


def test_what_comes_later_and_what_is_unknown(mdocker, engine):
    later = mdocker("search", "bird")
    assert later.code == 1
    assert later.err.startswith("mdocker: 'search' is not supported yet: ")
    assert mdocker("nope").err.startswith("mdocker: unknown command: nope\n")
    assert not engine.requests


def test_a_closed_reader(two, spawn):
    """`mdocker ps | head -0`: quiet, and not taken for success."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = spawn("ps", stdout=write_end)
    os.close(write_end)
    assert process.wait(10) == 141
    assert process.stderr.read() == b""


def test_a_full_disk(two, spawn):
    with open("/dev/full", "wb") as full:
        process = spawn("ps", stdout=full)
    assert process.wait(10) == 1
    assert process.stderr.read() == (
        b"mdocker: unable to write the output: No space left on device\n"
    )


def test_closed_standard_streams(two):
    """With stdout closed the engine's socket must not take its number and be printed to."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m mdocker --host {two.host} ps >&- <&-', sys.executable],
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(two.requests) == 1


def test_a_locale_that_can_not_spell(two, spawn):
    process = spawn("ps", env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, b"")
    assert b"sh -c 'while true; ?" in out


def test_an_image_without_a_name_is_shown_by_its_short_id():
    from mdocker.commands.look import _image

    whole = "sha256:e9d5a8e5c98c" + "0" * 52
    assert _image(whole, no_trunc=False) == "e9d5a8e5c98c"
    assert _image(whole, no_trunc=True) == whole
    assert _image("busybox:1", no_trunc=False) == "busybox:1"
