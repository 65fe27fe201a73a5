"""Log options as Docker's users type them: rotation, followers, attributes, sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.test_docker_cli import Docker


@pytest.fixture
def docker(engine, tmp_path):
    docker = Docker(engine, tmp_path)
    yield docker
    left = docker.ok("ps", "-aq").split()
    if left:
        docker.ok("rm", "-f", *left)


def options(**given):
    words = []
    for name, value in given.items():
        words += ["--log-opt", f"{name.replace('_', '-')}={value}"]
    return words


def log_files(docker, name):
    path = Path(docker.ok("inspect", "-f", "{{.LogPath}}", name))
    return path, sorted(path.parent.glob(f"{path.name}*"))


def numbers(first, last):
    return "".join(f"{number}\n" for number in range(first, last + 1))


def test_files_are_rotated_in_size_and_number(docker):
    given = options(max_size="10k", max_file="3")
    docker.ok("run", "--name", "bird", *given, "host", "seq", "10000")
    path, files = log_files(docker, "bird")
    assert [file.name for file in files] == [path.name, f"{path.name}.1", f"{path.name}.2"]
    assert all(10_000 <= file.stat().st_size < 10_200 for file in files[1:])
    shown = docker.ok("logs", "bird") + "\n"
    assert numbers(1, 10_000).endswith(shown) and len(shown) > 1000
    assert docker.ok("logs", "-n", "3", "bird") == "9998\n9999\n10000"
    assert docker.ok("logs", "-n", "200", "bird") + "\n" == numbers(9801, 10_000)
    assert json.loads(docker.ok("inspect", "-f", "{{json .HostConfig.LogConfig}}", "bird")) == {
        "Type": "json-file",
        "Config": {"max-size": "10k", "max-file": "3"},
    }


def test_by_default_a_log_is_bounded(docker):
    docker.ok("run", "--name", "bird", "host", "sh", "-c", "yes | head -c 6000000")
    _, files = log_files(docker, "bird")
    assert len(files) == 5
    assert sum(file.stat().st_size for file in files) < 5 * 20_000_100
    assert docker.ok("inspect", "-f", "{{.HostConfig.LogConfig.Config}}", "bird") == "map[]"


@pytest.mark.parametrize(
    "given",
    [
        options(max_size="20k"),
        options(max_size="20k", max_file="2", compress="true"),
        options(max_size="1m", mode="non-blocking", max_buffer_size="16m"),
    ],
    ids=["one file", "compressed", "non-blocking"],
)
@pytest.mark.parametrize("driver", ["json-file", "k8s-file"])
def test_a_follower_sees_each_line_once(docker, driver, given):
    """At full speed; with max-file=1 what it reads has long been deleted.

    170 rotations: each waits for the disk, and there are slow ones.
    """
    script = "echo ready; until [ -e /tmp/go ]; do sleep 0.02; done; exec seq 40000"
    words = ["--log-driver", driver, *given, "host", "sh", "-c", script]
    docker.ok("run", "-d", "--name", "bird", *words)
    pid = docker.ok("inspect", "-f", "{{.State.Pid}}", "bird")
    with docker.running("logs", "-f", "bird") as following:
        assert following.stdout.readline() == b"ready\n"
        Path(f"/proc/{pid}/root/tmp/go").touch()
        shown, _ = following.communicate(timeout=60)
    assert shown.decode() == numbers(1, 40_000)


def test_attributes_stand_in_the_records(docker):
    docker.ok(
        *("run", "--name", "bird", "--label", "team=a", "--label", "tier=b", "-e", "MODE=x"),
        *options(labels="team", env_regex="^MO", tag="{{.Name}}/{{.ImageName}}"),
        *("host", "echo", "hello"),
    )
    path, _ = log_files(docker, "bird")
    record = json.loads(path.read_text())
    assert record["attrs"] == {"MODE": "x", "tag": "bird/host", "team": "a"}
    assert docker.ok("logs", "bird") == "hello"
    details = "MODE=x,tag=bird%2Fhost,team=a"
    assert docker.ok("logs", "--details", "bird") == f"{details} hello"
    stamp, rest = docker.ok("logs", "-t", "--details", "bird").split(" ", 1)
    assert stamp.startswith("20") and rest == f"{details} hello"


def test_sizes_count_the_logs(docker):
    docker.ok("run", "--name", "bird", "host", "seq", "20000")
    path, _ = log_files(docker, "bird")
    size = path.stat().st_size
    shown = json.loads(docker.engine.get("/containers/json?all=1&size=1").body)[0]
    assert (shown["SizeLog"], shown["SizeRw"]) == (size, 0)
    inspected = docker.engine.get("/containers/bird/json?size=1").json
    assert inspected["SizeLog"] == size
    usage = docker.engine.get("/system/df?type=container").json
    assert usage["Containers"][0]["SizeRw"] == size
    assert usage["Images"] is None
    table = docker.ok("system", "df")
    line = next(line for line in table.splitlines() if line.startswith("Containers"))
    assert line.split()[1:3] == ["1", "0"] and line.split()[3].endswith("MB")
    assert "(100%)" in line
    assert docker.engine.get("/system/df?type=house").status == 400
    mdocker = subprocess.run(
        [sys.executable, "-m", "mdocker", "ps", "-as"],
        env=docker.engine.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "0B (log 1." in mdocker.stdout
