"""The real docker CLI as client: what people type, against real containers, on both backends."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.real.engine_process import EngineProcess

DOCKER = shutil.which("docker")
LOOPBACK_ONLY = (
    "WARNING: networks are not supported yet: this container has only a loopback interface "
    "(--network none)\n"
)

pytestmark = pytest.mark.skipif(DOCKER is None, reason="needs the docker CLI (docker.io)")


class Docker:
    """Runs `docker …` against one engine."""

    def __init__(self, engine, config):
        self.engine = engine
        self.environment = {**engine.environment, "DOCKER_CONFIG": str(config)}

    def __call__(self, *words, stdin=None):
        """Run to the end; returns (exit code, stdout, stderr)."""
        done = subprocess.run(
            [DOCKER, *words],
            env=self.environment,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            timeout=40,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def ok(self, *words, stdin=None):
        """Run to the end, which must be good; returns stdout without its last newline."""
        code, out, err = self(*words, stdin=stdin)
        assert code == 0, (words, code, out, err)
        return out.rstrip("\n")

    @contextlib.contextmanager
    def running(self, *words):
        """A command that goes on while the block runs."""
        process = subprocess.Popen(
            [DOCKER, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def engine(request, tmp_path_factory):
    process = EngineProcess(tmp_path_factory.mktemp("engine"), backend=request.param).start()
    yield process
    process.close()


@pytest.fixture
def docker(engine, tmp_path):
    docker = Docker(engine, tmp_path)
    yield docker
    left = docker.ok("ps", "-aq").split()
    if left:
        docker.ok("rm", "-f", *left)


@pytest.fixture
def bird(docker):
    """A container that prints and goes on, and what its id is."""
    container = docker.ok(
        "run", "-d", "--name", "bird", "host", "sh", "-c", "echo tweet; echo squawk >&2; sleep 999"
    )
    assert re.fullmatch("[0-9a-f]{64}", container)
    return container


def test_version_and_info(docker):
    version = json.loads(docker.ok("version", "--format", "json"))
    assert version["Server"]["ApiVersion"] == "1.50"
    info = json.loads(docker.ok("info", "--format", "json"))
    assert info["DockerRootDir"] == str(docker.engine.root)
    assert "ServerErrors" not in info
    assert "Server Version" in docker.ok("info")


def test_ps_shows_the_columns(docker, bird):
    head, line = docker.ok("ps").splitlines()
    assert head.split() == "CONTAINER ID IMAGE COMMAND CREATED STATUS PORTS NAMES".split()
    assert line.split()[:2] == [bird[:12], "host"]
    assert line.endswith("bird")
    assert " Up " in line
    assert docker.ok("ps", "-q", "--no-trunc", "--filter", "name=bird") == bird
    assert docker.ok("ps", "-q", "--filter", "name=cat") == ""
    assert docker.ok("ps", "-qn1") == bird[:12]
    assert "(virtual" in docker.ok("ps", "-s")
    code, _, err = docker("ps", "--filter", "nosuch=1")
    assert (code, err) == (1, "Error response from daemon: invalid filter 'nosuch'\n")


def test_logs(docker, bird):
    with docker.running("logs", "-f", "bird") as following:
        assert following.stdout.readline() == b"tweet\n"
        assert following.stderr.readline() == b"squawk\n"
        docker.ok("stop", "-t", "0", "bird")
        assert following.wait(10) == 0
    assert docker("logs", "bird") == (0, "tweet\n", "squawk\n")
    stamped = docker.ok("logs", "-t", "--tail", "2", "bird")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z tweet", stamped)
    assert docker.ok("logs", "--since", "1h", "bird") == "tweet"
    assert docker.ok("logs", "--until", "1h", "bird") == ""


def test_following_ends_with_ctrl_c_and_leaves_no_descriptor(docker, bird):
    before = docker.engine.descriptors()
    with docker.running("logs", "-f", "bird") as following:
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        following.wait(10)
    deadline = time.monotonic() + 5
    while docker.engine.descriptors() > before:
        assert time.monotonic() < deadline, "the follower's descriptors are still open"


def test_stop_with_a_timeout_kills_a_deaf_one(docker):
    docker.ok(
        *("run", "-d", "--name", "deaf", "host"),
        *("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"),
    )
    with docker.running("logs", "-f", "deaf") as following:
        following.stdout.readline()
    began = time.monotonic()
    assert docker.ok("stop", "-t", "1", "deaf") == "deaf"
    assert 1 <= time.monotonic() - began < 3
    assert docker.ok("inspect", "-f", "{{.State.ExitCode}}", "deaf") == "137"
    assert docker.ok("wait", "deaf") == "137"
    assert docker.ok("stop", "deaf") == "deaf"


def test_stop_with_a_signal_of_ones_own(docker):
    docker.ok(
        *("run", "-d", "--name", "polite", "--stop-signal", "INT", "host"),
        *("sh", "-c", "trap 'exit 4' INT; echo ready; while :; do sleep 0.05; done"),
    )
    with docker.running("logs", "-f", "polite") as following:
        following.stdout.readline()
    docker.ok("stop", "polite")
    assert docker.ok("wait", "polite") == "4"


def test_several_at_once(docker):
    names = [f"n{number}" for number in range(10)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: docker.ok("run", "-d", "--name", n, "host", "sleep", "99"), names))
    assert sorted(docker.ok("ps", "--format", "{{.Names}}").split()) == names
    assert docker.ok("stop", "-t", "0", *names).split() == names
    assert docker.ok("ps", "-q") == ""
    pruned = docker.ok("container", "prune", "-f")
    assert len(re.findall("[0-9a-f]{64}", pruned)) == 10
    assert docker.ok("ps", "-aq") == ""


def test_kill_and_wait(docker, bird):
    with docker.running("wait", "bird") as waiting:
        docker.ok("kill", "-s", "KILL", "bird")
        out, _ = waiting.communicate(timeout=10)
    assert out == b"137\n"
    code, _, err = docker("kill", "bird")
    assert code == 1
    assert f"cannot kill container: bird: container {bird} is not running" in err
    assert "Invalid signal: FOO" in docker("kill", "-s", "FOO", "bird")[2]


@pytest.fixture
def loop(docker):
    """A container that has failed and waits a minute for its next attempt."""
    crash = ("sh", "-c", "echo hi; exit 3")
    docker.ok("create", "--name", "loop", "--restart", "on-failure:5", "host", *crash)
    delays = {"RestartPolicy": {"DelayMs": 60_000, "MaxDelayMs": 60_000}}
    assert docker.engine.post("/containers/loop/update", delays).status == 200
    assert docker("start", "-a", "loop") == (3, "hi\n", "")


def test_a_container_that_waits_for_its_restart(docker, loop):
    policy = json.loads(docker.ok("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "loop"))
    assert (policy["Name"], policy["MaximumRetryCount"]) == ("on-failure", 5)
    shown = docker.ok("inspect", "-f", "{{.RestartCount}} {{.State.Restarting}}", "loop")
    assert shown == "1 true"
    assert re.search(r" Restarting \(3\) .* ago ", docker.ok("ps"))
    assert docker.ok("ps", "-q", "--filter", "status=restarting") != ""
    assert "container is restarting: stop the container" in docker("rm", "loop")[2]
    with docker.engine.stream("POST", "/containers/loop/wait?condition=next-exit") as ending:
        assert docker.ok("start", "loop") == "loop"
        assert json.loads(ending.read())["StatusCode"] == 3
    assert docker.ok("stop", "loop") == "loop"
    assert "Exited (3) " in docker.ok("ps", "-a")
    assert docker.ok("logs", "loop") == "hi\nhi"


def test_update_of_the_restart_policy(docker, loop):
    assert docker.ok("update", "--restart", "no", "loop") == "loop"
    assert "Exited (3) " in docker.ok("ps", "-a")
    assert docker.ok("update", "--restart", "on-failure:7", "loop") == "loop"
    template = "{{.HostConfig.RestartPolicy.MaximumRetryCount}}"
    assert docker.ok("inspect", "-f", template, "loop") == "7"
    code, _, err = docker("update", "--restart", "ever", "loop")
    assert (code, "unknown policy 'ever'" in err) == (1, True)
    assert docker.ok("update", "--memory", "64m", "loop") == "loop"
    assert docker.ok("inspect", "-f", "{{.HostConfig.Memory}}", "loop") == str(64 << 20)
    words = ("--memory-reservation", "32m", "--cpuset-cpus", "0", "--cpuset-mems", "0")
    assert docker.ok("update", *words, "--blkio-weight", "50", "loop") == "loop"
    template = "{{with .HostConfig}}{{.MemoryReservation}} {{.CpusetCpus}} {{.BlkioWeight}}{{end}}"
    assert docker.ok("inspect", "-f", template, "loop") == f"{32 << 20} 0 50"
    code, out, _ = docker("update", "--kernel-memory", "50m", "loop")
    assert (code, "kernel memory limit" in out) == (0, True), out


def test_restart_policies_that_can_not_be(docker):
    code, _, err = docker("run", "--restart", "always:3", "host", "true")
    assert code == 125
    assert "maximum retry count can only be used with 'on-failure'" in err
    body = {
        "Image": "host",
        "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
    }
    answer = docker.engine.post("/containers/create", body)
    assert answer.status == 400
    assert answer.message == "can't create 'AutoRemove' container with restart policy"


def test_start_restart_and_rename(docker, bird):
    docker.ok("rename", "bird", "raven")
    docker.ok("restart", "-t", "0", "raven")
    assert docker.ok("inspect", "-f", "{{.State.Running}}", "raven") == "true"
    docker.ok("stop", "-t", "0", "raven")
    assert docker.ok("start", "raven") == "raven"
    assert docker.ok("logs", "raven").count("tweet") >= 1
    assert "No such container: bird" in docker("start", "bird")[2]


def test_remove(docker, bird):
    code, _, err = docker("rm", "bird")
    assert code == 1
    assert (
        'cannot remove container "bird": container is running: '
        "stop the container before removing or force remove"
    ) in err
    assert docker.ok("rm", "-fv", "bird") == "bird"
    assert docker("rm", "bird")[0] == 1
    assert "No such container: bird" in docker("rm", "bird")[2]


def test_a_name_in_use(docker, bird):
    code, _, err = docker("run", "-d", "--name", "bird", "host", "true")
    assert code == 125
    assert f'The container name "/bird" is already in use by container "{bird}"' in err


def test_inspect(docker, bird):
    (shown,) = json.loads(docker.ok("inspect", "bird"))
    assert shown["Id"] == bird
    assert shown["State"]["Status"] == "running"
    assert os.path.exists(f"/proc/{shown['State']['Pid']}")
    assert shown["Path"] == "sh"
    assert shown["HostConfig"]["NetworkMode"] == "default"
    (sized,) = json.loads(docker.ok("inspect", "-s", "--type", "container", "bird"))
    assert sized["SizeRootFs"] > 0
    (image,) = json.loads(docker.ok("inspect", "host"))
    assert image["RepoTags"] == ["host:latest"]
    code, _, err = docker("inspect", "nosuch")
    assert (code, err.splitlines()[-1].lower()) == (1, "error: no such object: nosuch")


def test_run_in_the_foreground(docker):
    assert docker("run", "--rm", "host", "sh", "-c", "echo out; echo err >&2; exit 7") == (
        7,
        "out\n",
        LOOPBACK_ONLY + "err\n",
    )
    assert docker.ok("ps", "-aq") == ""
    assert docker("run", "--network", "none", "host", "echo", "hi") == (0, "hi\n", "")


def test_the_foreground_loses_no_byte(docker):
    script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done"
    out = docker.ok("run", "--rm", "host", "sh", "-c", script)
    assert out.split() == [str(number) for number in range(20000)]


def test_ctrl_c_reaches_a_foreground_container(docker):
    script = "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    with docker.running("run", "--rm", "--network", "none", "host", "sh", "-c", script) as run:
        assert run.stdout.readline() == b"ready\n"
        run.send_signal(signal.SIGINT)
        assert run.stdout.readline() == b"caught\n"
        assert run.wait(10) == 3


def test_attach_and_start_attached(docker):
    docker.ok(
        *("run", "-d", "--name", "clock", "host"),
        *("sh", "-c", "while echo tick; do sleep 0.05; done"),
    )
    with docker.running("attach", "--no-stdin", "clock") as attached:
        assert attached.stdout.readline() == b"tick\n"
        docker.ok("kill", "clock")
        assert attached.wait(10) == 137
    docker.ok("create", "--name", "once", "host", "sh", "-c", "echo again; exit 5")
    for _ in range(2):
        assert docker("start", "-a", "once") == (5, "again\n", "")


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["nosuch"], 127, 'exec: "nosuch": executable file not found in $PATH'),
        (["/etc"], 126, 'exec: "/etc": '),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied'),
        (["/nosuch/file"], 127, "no such file or directory"),
    ],
)
def test_what_can_not_be_run_has_dockers_exit_code(docker, command, code, text):
    found, _, err = docker("run", "--rm", "host", *command)
    assert (found, text in err) == (code, True), err
    assert docker.ok("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["-w", "tmp", "host", "ls"], 125, "it needs to be an absolute path"),
        (["-u", "nosuch", "host", "ls"], 125, "unable to find user nosuch"),
        (["-m", "1m", "host", "ls"], 125, "Minimum memory limit allowed is 6MB"),
        (["--cpus", "9999", "host", "ls"], 125, "range of CPUs is from 0.01 to "),
        (["--name", "a b", "host", "ls"], 125, "Invalid container name (a b)"),
        (["--cap-add", "fly", "host", "ls"], 125, 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        (["-v", "/tmp:/", "host", "ls"], 125, "invalid specification: destination can't be '/'"),
        (["--storage-opt", "size=1G", "host", "ls"], 125, "--storage-opt is supported only for"),
        (["--restart", "ever", "host", "ls"], 125, "unknown policy 'ever'; use one of 'no', 'alw"),
        (["--network", "bridge", "host", "ls"], 125, "HostConfig.NetworkMode bridge"),
        (["--network", "mine", "host", "ls"], 125, "network mine not found"),
        (["--log-driver", "syslog", "host", "ls"], 125, 'unknown log driver "syslog"'),
        (["--log-opt", "max-sise=1m", "host", "ls"], 125, "unknown log opt 'max-sise' for json"),
        (["--log-opt", "max-size=big", "host", "ls"], 125, "'big' is no size"),
        (["--log-opt", "max-file=0", "host", "ls"], 125, "max-file cannot be less than 1"),
        (["--log-opt", "compress=true", "--log-opt", "max-file=1", "host", "ls"], 125, "compress"),
        (["--log-opt", "max-buffer-size=1m", "host", "ls"], 125, "only supported with mode=non-"),
        (["--log-opt", "mode=fast", "host", "ls"], 125, "logging mode not supported: 'fast'"),
        (["--log-opt", "tag={{.Nome}}", "host", "ls"], 125, "no field {{.Nome}}"),
        (
            ["--log-driver", "k8s-file", "--log-opt", "tag=x", "host", "ls"],
            125,
            "no place for attr",
        ),
        (["-p", "80:80", "host", "ls"], 125, "mdocker does not support "),
        (["127.0.0.1:1/nosuch", "ls"], 125, "connection refused"),
    ],
)
def test_what_we_do_not_do_is_refused_in_words(docker, words, code, text):
    found, _, err = docker("run", *words)
    assert (found, text in err) == (code, True), err


def test_options_that_reach_the_container(docker):
    out = docker.ok(
        *("run", "--rm", "--network", "none", "--hostname", "nest", "-w", "/tmp", "-u", "1:2"),
        *("-e", "SONG=tweet", "-l", "k=v", "--entrypoint", "/bin/sh", "-m", "64m", "--cpus", "0.5"),
        *("--pids-limit", "50", "--security-opt", "no-new-privileges", "host"),
        *("-c", "echo $(hostname) $PWD $(id -u):$(id -g) $SONG; grep NoNewPrivs /proc/self/status"),
    )
    assert out.split() == ["nest", "/tmp", "1:2", "tweet", "NoNewPrivs:", "1"]


def test_events(docker):
    with docker.running("events", "--format", "{{.Action}} {{.Actor.Attributes.name}}") as events:
        # The stream is up once an event comes through; any will do.
        while True:
            docker.ok("run", "--rm", "--name", "probe", "host", "true")
            if events.stdout.readline():
                break
        docker.ok("run", "-d", "--name", "crow", "host", "true")
        docker.ok("wait", "crow")
        docker.ok("rm", "crow")
        seen = []
        while "destroy crow" not in seen:
            seen.append(events.stdout.readline().decode().strip())
    assert [line for line in seen if line.endswith("crow")] == [
        "create crow",
        "start crow",
        "die crow",
        "destroy crow",
    ]
    until = f"{time.time():.9f}"  # of "0s" the client makes the beginning of this second
    past = docker.ok("events", "--since", "1m", "--until", until, "--filter", "event=die")
    assert "exitCode=0" in past


def test_import_run_and_remove_an_image(docker, busybox_tar):
    image = docker.ok("import", "-c", "CMD echo from busybox", str(busybox_tar), "box:1")
    assert re.fullmatch("sha256:[0-9a-f]{64}", image)
    assert docker.ok("images", "-q", "--no-trunc", "box") == image
    assert docker.ok("run", "--rm", "box:1") == "from busybox"
    docker.ok("create", "--name", "user", "box:1")
    code, _, err = docker("rmi", "box:1")
    assert code == 1
    assert 'unable to remove repository reference "box:1" (must force) - container ' in err
    docker.ok("rm", "user")
    assert "Untagged: box:1" in docker.ok("rmi", "box:1")
    assert "No such image: box:1" in docker("rmi", "box:1")[2]
    assert docker("rmi", "host")[0] == 1


def test_import_from_a_pipe_and_of_rubbish(docker, busybox_tar):
    image = docker.ok("import", "-", "piped", stdin=busybox_tar.read_bytes())
    assert image.startswith("sha256:")
    docker.ok("rmi", "piped")
    code, _, err = docker("import", "-", "bad", stdin=busybox_tar.read_bytes()[:500_000])
    assert code == 1
    assert err
    assert docker.ok("images", "-q", "bad") == ""


def test_volumes_and_mounts(docker, tmp_path):
    """Everything that one types of them, in one life."""
    assert docker.ok("volume", "create", "--label", "a=b", "data") == "data"
    (tmp_path / "host").mkdir()
    (tmp_path / "host/file").write_text("of the host\n")
    mount = f"type=bind,src={tmp_path}/host,dst=/ro,readonly"
    script = "cat /ro/file > /data/file; touch /ro/x; touch /x; grep -c ' /t tmpfs' /proc/mounts"
    words = ("--read-only", "-v", "data:/data", "--mount", mount, "--tmpfs", "/t:size=1m")
    code, out, err = docker("run", "--rm", "--network", "none", *words, "host", "sh", "-c", script)
    assert (code, out, err.count("Read-only file system")) == (0, "1\n", 2)
    words = ("-v", "data:/d:ro", "-v", "/anonymous", "--network", "none", "host")
    docker.ok("create", "--name", "user", *words, "cat", "/d/file")
    assert docker.ok("start", "-a", "user") == "of the host"
    assert docker.ok("ps", "-a", "--filter", "volume=data", "--format", "{{.Names}}") == "user"
    shown = "{{range .Mounts}}{{.Type}} {{.Destination}} {{.RW}};{{end}}"
    assert docker.ok("inspect", "-f", shown, "user") == "volume /d false;volume /anonymous true;"
    words = ("--rm", "--volumes-from", "user", "--network", "none", "host", "cat", "/d/file")
    assert docker.ok("run", *words) == "of the host"
    assert len(docker.ok("volume", "ls", "-q").split()) == 2
    assert docker.ok("volume", "ls", "-q", "-f", "label=a=b") == "data"
    assert docker.ok("volume", "inspect", "-f", "{{.Labels.a}} {{.Driver}}", "data") == "b local"
    code, _, err = docker("volume", "rm", "data")
    full = docker.ok("inspect", "-f", "{{.Id}}", "user")
    assert (code, f"remove data: volume is in use - [{full}]" in err) == (1, True)
    assert "Local Volumes" in docker.ok("system", "df")
    docker.ok("rm", "-v", "user")
    assert docker.ok("volume", "ls", "-q") == "data"
    assert "Total reclaimed space: 0B" in docker.ok("volume", "prune", "-f")
    assert "data" in docker.ok("volume", "prune", "-af")
    assert docker("volume", "rm", "data")[2] == (
        "Error response from daemon: get data: no such volume\n"
    )
    for wrong, text in (
        (("-v", "/a:/x", "-v", "/b:/x"), "Duplicate mount point: /x"),
        (("--mount", "type=bind,src=/nosuch,dst=/x"), "bind source path does not exist: /nosuch"),
    ):
        code, _, err = docker("run", "--rm", *wrong, "host", "true")
        assert (code, text in err) == (125, True), err


def test_all_that_is_not_used_goes(docker):
    docker.ok("create", "--name", "kept", "--label", "keep", "--network", "none", "host", "true")
    docker.ok("create", "--name", "gone", "--network", "none", "-v", "/d", "host", "true")
    pruned = docker.ok("system", "prune", "-af", "--volumes", "--filter", "label!=keep")
    assert re.fullmatch(
        "Deleted Containers:\n[0-9a-f]{64}\n\nDeleted Volumes:\n[0-9a-f]{64}\n\n"
        "Total reclaimed space: [0-9.]+[kM]?B",
        pruned,
    )
    assert docker.ok("ps", "-a", "--format", "{{.Names}}") == "kept"
    assert "Total reclaimed space" in docker.ok("system", "prune", "-f", "--filter", "until=1h")
    code, _, err = docker("image", "prune", "-f", "--filter", "colour=red")
    assert (code, "invalid filter 'colour'" in err) == (1, True)
    assert docker.ok("image", "prune", "-f") == "Total reclaimed space: 0B"
    assert docker.ok("network", "prune", "-f") == ""
    docker.ok("rm", "kept")


def test_what_is_not_done_says_so(docker, bird):
    for words in (
        ["network", "create", "net"],
        ["network", "connect", "net", "bird"],
    ):
        code, _, err = docker(*words)
        assert code == 1, words
        assert "mdocker does not do " in err, (words, err)
    assert "This node is not a swarm manager" in docker("service", "ls")[2]
    assert docker.ok("plugin", "ls", "-q") == ""
