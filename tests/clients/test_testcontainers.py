"""testcontainers for Python, which test suites start their databases with."""

from __future__ import annotations

import re
import warnings

import pytest

pytest.importorskip("docker", reason="needs docker-py (pip install docker)")
pytest.importorskip("testcontainers", reason="needs testcontainers (pip install testcontainers)")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def containers(engine, monkeypatch):
    """The package, told where the engine is, and to do without its container of containers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from testcontainers.core import container, waiting_utils
        from testcontainers.core.config import testcontainers_config

    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    monkeypatch.setattr(testcontainers_config, "sleep_time", 0.02)
    container.wait_for_logs = waiting_utils.wait_for_logs
    return container


def test_it_is_there_within_the_block(containers, engine):
    with containers.DockerContainer("host").with_command("sleep 600").with_name("bird") as bird:
        shown = engine.inspect(bird.get_wrapped_container().id)
        assert (shown["Name"], shown["State"]["Running"]) == ("/bird", True)
        assert "org.testcontainers" in shown["Config"]["Labels"]
    assert engine.get("/containers/json?all=1").json == []


def test_it_is_waited_for_by_its_log(containers):
    command = ["sh", "-c", "echo starting; sleep 0.1; echo $GREETING; exec sleep 600"]
    made = containers.DockerContainer("box:1", command=command).with_env("GREETING", "ready now")
    with made as bird:
        containers.wait_for_logs(bird, "ready now", timeout=10, interval=0.02)
        out, err = bird.get_logs()
        assert (out.splitlines(), err) == ([b"starting", b"ready now"], b"")


def test_options_of_docker_py(containers, engine):
    made = containers.DockerContainer("host").with_command("sleep 600")
    with made.with_kwargs(mem_limit="64m", working_dir="/tmp", network_mode="none") as bird:
        shown = engine.inspect(bird.get_wrapped_container().id)
        assert shown["HostConfig"]["Memory"] == 64 * 1024**2
        assert shown["Config"]["WorkingDir"] == "/tmp"


def test_commands_files_and_volumes_in_it(containers, tmp_path):
    (tmp_path / "egg").write_text("egg")
    made = containers.DockerContainer("box:1").with_command("sleep 600")
    made.with_volume_mapping(str(tmp_path), "/nest", "ro").with_copy_into_container(
        b"tweet", "/tmp/song"
    )
    with made as bird:
        assert bird.exec("cat /nest/egg") == (0, b"egg")
        assert bird.exec(["cat", "/tmp/song"]).output == b"tweet"
        assert bird.exec("false").exit_code == 1


SERVER = ["sh", "-c", "echo one; echo one >&2; sleep 0.1; touch /tmp/ok; echo ready; sleep 600"]


def strategies():
    """What each waits for, and the log that must be there then."""
    wait = pytest.importorskip("testcontainers.core.wait_strategies")
    seen = wait.ExecWaitStrategy(["test", "-e", "/tmp/ok"])
    return {
        "log": wait.LogMessageWaitStrategy("ready"),
        "log, several times": wait.LogMessageWaitStrategy(re.compile("^one$", re.M), times=2),
        "command": seen,
        "health": wait.HealthcheckWaitStrategy(),
        "state": wait.ContainerStatusWaitStrategy(),
        "all of them": wait.CompositeWaitStrategy(
            wait.ContainerStatusWaitStrategy(), wait.LogMessageWaitStrategy("ready"), seen
        ),
    }


@pytest.mark.parametrize(
    "name", ["log", "log, several times", "command", "health", "state", "all of them"]
)
def test_it_is_waited_for(containers, name):
    check = {"test": ["CMD", "test", "-e", "/tmp/ok"], "interval": 20_000_000, "retries": 1000}
    strategy = strategies()[name].with_poll_interval(0.02).with_startup_timeout(20)
    made = containers.DockerContainer("box:1", command=SERVER, healthcheck=check)
    with made.waiting_for(strategy) as server:
        wrapped = server.get_wrapped_container()
        wrapped.reload()
        assert wrapped.status == "running"
        assert name != "health" or wrapped.health == "healthy"
        assert name not in ("log", "all of them") or b"ready" in server.get_logs()[0]


def test_what_ends_before_it_is_ready_is_not_waited_for(containers, engine):
    strategy = strategies()["log"].with_poll_interval(0.02).with_startup_timeout(20)
    made = containers.DockerContainer("box:1", command=["sh", "-c", "echo early; exit 3"])
    with pytest.raises(RuntimeError, match="exited, exit code: 3"):
        made.waiting_for(strategy).start()
    made.stop()
    assert engine.get("/containers/json?all=1").json == []


def test_what_is_wrapped(containers):
    made = containers.DockerContainer("box:1", command=["sleep", "600"])
    with made.with_tmpfs_mount("/scratch", "size=1m") as server:
        wrapped = server.get_wrapped_container()
        assert server.exec("df -k /scratch").output.splitlines()[1].split()[1] == b"1024"
        wrapped.pause()
        wrapped.reload()
        assert wrapped.status == "paused"
        wrapped.unpause()
        assert [row[-1] for row in wrapped.top()["Processes"]] == ["sleep 600"]
        assert {"Path": "/tmp/new", "Kind": 1} not in wrapped.diff()
        assert server.exec("touch /tmp/new").exit_code == 0
        assert {"Path": "/tmp/new", "Kind": 1} in wrapped.diff()
        wrapped.restart(timeout=0)
        assert server.get_container_info().State.Status == "running"


def test_what_is_not_done_is_refused_in_words(containers):
    import docker.errors

    with (
        pytest.raises(docker.errors.APIError, match=r"mdocker does not support .*Port"),
        containers.DockerContainer("box:1").with_exposed_ports(80),
    ):
        pass
    with (
        pytest.raises(docker.errors.APIError, match="connection refused"),
        containers.DockerContainer("127.0.0.1:1/redis:7"),
    ):
        pass


def test_its_container_of_containers_is_refused_in_words(containers, monkeypatch):
    """Without ryuk_disabled it wants an image that only a registry has."""
    import docker.errors
    from testcontainers.core.config import testcontainers_config

    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", False)
    monkeypatch.setattr(testcontainers_config, "ryuk_image", "127.0.0.1:1/ryuk:1")
    with (
        pytest.raises(docker.errors.APIError, match="connection refused"),
        containers.DockerContainer("box:1"),
    ):
        pass
